/* How finermoe.h's conventions look in Go: package finermoe; a call that can fail gives an error, and what comes out of
 * it goes into variables of the caller. */

%go_import("fmt")

/* --- Errors: *finermoe.Error with Code, Message, Expected and Found --- */
%{
/* The same as the struct in newError below. */
typedef struct {
  intgo code;
  _gostring_ message, expected, found;
} finermoe_go_error;

static _gostring_ finermoe_go_string(char **end, const char *text) {
  _gostring_ string = {*end, (intgo)strlen(text)};
  memcpy(string.p, text, (size_t)string.n);
  *end += string.n;
  return string;
}

/* One block that newError frees; NULL where there was no error. */
static char *finermoe_give_error(finermoe_status status, finermoe_error *error) {
  if (status == FINERMOE_OK) return NULL;
  const char *message = finermoe_error_message(error);
  const char *expected = finermoe_error_expected(error);
  const char *found = finermoe_error_found(error);
  finermoe_go_error *given = malloc(sizeof *given + strlen(message) + strlen(expected) + strlen(found));
  if (given == NULL) abort(); /* as Go itself does without memory */
  char *end = (char *)(given + 1);
  given->code = status;
  given->message = finermoe_go_string(&end, message);
  given->expected = finermoe_go_string(&end, expected);
  given->found = finermoe_go_string(&end, found);
  finermoe_error_free(error);
  return (char *)given;
}
%}
%insert(go_wrapper) %{
// Error is what a failed call of libfinermoe gives.
type Error struct {
	Code                     int // ERROR_…
	Message, Expected, Found string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.Message, StatusName(e.Code)) }

func newError(given *byte) error {
	if given == nil {
		return nil
	}
	defer Swig_free(uintptr(unsafe.Pointer(given)))
	e := (*struct {
		code                     int
		message, expected, found string
	})(unsafe.Pointer(given))
	copied := func(s string) string { return string([]byte(s)) }
	return &Error{e.code, copied(e.message), copied(e.expected), copied(e.found)}
}
%}
%typemap(in, numinputs=0) finermoe_error **error %{
  finermoe_error *fm_error = NULL;
  $1 = &fm_error;
%}
%typemap(gotype) finermoe_status "error"
%typemap(imtype) finermoe_status "*byte"
%typemap(out) finermoe_status "$result = finermoe_give_error($1, fm_error);"
%typemap(goout) finermoe_status "$result = newError($1)"

/* --- Objects: `var model finermoe.Model`, filled through &model, freed by DeleteModel --- */
%define %handle_out(Type, Class)
%typemap(gotype) Type ** "*Class"
%typemap(imtype) Type ** "*uintptr"
%typemap(goin) Type ** "$result = new(uintptr)"
%typemap(in) Type ** "$1 = ($1_ltype)$input;"
%typemap(goargout) Type ** %{
	if $result == nil {
		*$1 = Swigcptr##Class(*$input)
	}
%}
%enddef

%define %struct_out(Type, parameter, KEEP, DROP)
%typemap(check) Type *parameter "if ($1 != NULL) DROP($1);"
%typemap(argout) Type *parameter "if ($1 != NULL) KEEP($1);"
%enddef

/* --- Strings (of any bytes), and arrays as slices --- */
%typemap(gotype) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH) "string"
%typemap(in) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH) %{
  $1 = $input.p;
  $2 = (size_t)$input.n;
%}

/* What comes out is copied from C's memory (address, count) into Go's. */
%define %array_out(T, GoType, Element)
%typemap(gotype) (T, size_t CAPACITY, size_t *NEEDED) "*GoType"
%typemap(imtype) (T, size_t CAPACITY, size_t *NEEDED) "*[2]uintptr"
%typemap(goin) (T, size_t CAPACITY, size_t *NEEDED) "$result = new([2]uintptr)"
%typemap(in) (T, size_t CAPACITY, size_t *NEEDED) %{
  $1 = NULL;
  $2 = 0;
  finermoe_out fm_room = {(void **)&$1, &$2, 0, sizeof *$1}, *fm_out = &fm_room;
  $3 = &fm_out->count;
%}
%typemap(argout) (T, size_t CAPACITY, size_t *NEEDED) %{
  ((uintptr_t *)$input)[0] = (uintptr_t)$1;
  ((uintptr_t *)$input)[1] = *$3;
%}
%typemap(goargout) (T, size_t CAPACITY, size_t *NEEDED) %{
	if $result == nil {
		*$1 = GoType(append([]Element(nil), unsafe.Slice((*Element)(unsafe.Pointer($input[0])), $input[1])...))
	}
	Swig_free($input[0])
%}
%enddef
%array_out(char *TEXT, string, byte)
%array_out(char *BYTES, string, byte)

%define %array(T, Element)
%typemap(gotype) (const T *ARRAY, size_t LENGTH) "[]Element"
%typemap(in) (const T *ARRAY, size_t LENGTH) %{
  $1 = ($1_ltype)$input.array;
  $2 = (size_t)$input.len;
%}
%array_out(T *ARRAY, []Element, Element)

%typemap(gotype) const T *ARRAY "[]Element"
%typemap(goout) const T *ARRAY "$result = append([]Element(nil), ($1)...)"
%enddef
%array(int32_t, int32)
%array(size_t, uint)
%array(uint64_t, uint64)
%array(float, float32)

/* Of two arrays that come out together, the first. */
%define %first_array(T, Second, Element)
%typemap(gotype) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "*[]Element"
%typemap(imtype) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "*[2]uintptr"
%typemap(goin) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "$result = new([2]uintptr)"
%typemap(in) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) %{
  $1 = NULL;
  $2 = NULL;
  $3 = 0;
  finermoe_out fm_room = {(void **)&$1, &$3, 0, sizeof *$1}, *fm_out = &fm_room;
  $4 = &fm_out->count;
%}
%typemap(argout) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) %{
  ((uintptr_t *)$input)[0] = (uintptr_t)$1;
  ((uintptr_t *)$input)[1] = *$4;
%}
%typemap(goargout) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) %{
	if $result == nil {
		*$1 = append([]Element(nil), unsafe.Slice((*Element)(unsafe.Pointer($input[0])), $input[1])...)
	}
	Swig_free($input[0])
%}
%enddef
%first_array(int32_t, uint64_t, int32)
%first_array(float, int32_t, float32)

/* --- Numbers that come out --- */
%define %number(T, GoType)
%typemap(gotype) T *OUTPUT "*GoType"
%typemap(in) T *OUTPUT "$1 = ($1_ltype)$input;"
%typemap(argout) T *OUTPUT ""
%enddef
%number(int32_t, int32)
%number(size_t, uint)
%number(uint64_t, uint64)
%number(double, float64)

/* --- The fields of an event that come as pointer and length --- */
%typemap(out, fragment="AllocateString") const char *text %{
  $result = Swig_AllocateString($1, arg1->text_length);
%}
%apply const int32_t *ARRAY { const int32_t *top_ids };
%apply const float *ARRAY { const float *top_logprobs };
%typemap(out) const int32_t *top_ids, const float *top_logprobs %{
  $result.array = (void *)$1;
  $result.len = $result.cap = (intgo)arg1->n_top;
%}
