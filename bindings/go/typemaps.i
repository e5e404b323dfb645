/* How finermoe.h's conventions look in Go's low layer, package low. It adds nothing to C: package finermoe, which is
 * the only one to use it, owns the objects, makes the room for what comes out, and turns failures into errors.
 *
 *   finermoe_status         Error, a number that stands for the finermoe_error: 0 for FINERMOE_OK, else for ErrorFree
 *   finermoe_x *            X, a number that stands for the object: 0 for NULL, else for XFree
 *   finermoe_x_info *info   an object with fields to read: NewXInfo, DeleteXInfo
 *   (data, length)          a string or slice, in
 *   (data, capacity)        a slice that the call fills; `needed` stays a variable of its own
 *   a callback and its user two numbers: the address of a C function, and what it is to be given
 */

/* Constants are package finermoe's, which has them from the header itself. */
%rename("$ignore", %$isenumitem) "";

%insert(cgo_comment_typedefs) %{
#cgo pkg-config: finermoe
%}

/* --- Failures --- */
%typemap(in, numinputs=0) finermoe_error **error %{
  finermoe_error *fm_error = NULL;
  $1 = &fm_error;
%}
%typemap(gotype) finermoe_status "Error"
%typemap(imtype) finermoe_status "*byte"
%typemap(out) finermoe_status "$result = $1 == FINERMOE_OK ? NULL : (char *)fm_error;"
%typemap(goout) finermoe_status "$result = Error(uintptr(unsafe.Pointer($1)))"

/* --- Objects --- */
%define %handle(Name, Class)
%insert(go_wrapper) %{
type Class uintptr
%}
%typemap(gotype) finermoe_##Name *, const finermoe_##Name * "Class"
%typemap(imtype) finermoe_##Name *, const finermoe_##Name * "uintptr"
%typemap(goin) finermoe_##Name *, const finermoe_##Name * "$result = uintptr($input)"
%typemap(in) finermoe_##Name *, const finermoe_##Name * "$1 = ($1_ltype)$input;"
%typemap(gotype) finermoe_##Name ** "*Class"
%typemap(imtype) finermoe_##Name ** "*uintptr"
%typemap(goin) finermoe_##Name ** "$result = (*uintptr)($input)"
%typemap(in) finermoe_##Name ** "$1 = ($1_ltype)$input;"
%enddef

/* --- Structs to read, whose pointers Go follows before their owner changes --- */
%define %readout(Name, parameter, Class, KEEP, DROP)
%extend finermoe_##Name {
  finermoe_##Name() {
    finermoe_##Name *info = calloc(1, sizeof *info);
    if (info != NULL) info->struct_size = sizeof *info;
    return info;
  }
  ~finermoe_##Name() { free($self); }
}
%enddef

/* --- Strings (of any bytes) and slices that go in --- */
%typemap(gotype) (const char *TEXT, size_t LENGTH) "string"
%typemap(in) (const char *TEXT, size_t LENGTH) %{
  $1 = $input.p;
  $2 = (size_t)$input.n;
%}
/* A string that ends with its NUL, or NULL where it is empty. */
%typemap(in) const char *name, const char *module, const char *preset %{
  $1 = NULL;
  if ($input.n > 0) {
    $1 = ($1_ltype)malloc((size_t)$input.n + 1);
    memcpy((char *)$1, $input.p, (size_t)$input.n);
    ((char *)$1)[$input.n] = 0;
  }
%}
%typemap(freearg) const char *name, const char *module, const char *preset "free((void *)$1);"

/* --- Slices: one for (pointer, length) that goes in; one for each pointer that a call fills, whose capacity is an
 * argument of its own --- */
%define %slice(T, NAME, Element)
%typemap(gotype) (const T *NAME, size_t LENGTH) "[]Element"
%typemap(in) (const T *NAME, size_t LENGTH) %{
  $1 = ($1_ltype)$input.array;
  $2 = (size_t)$input.len;
%}
%typemap(gotype) T *NAME "[]Element"
%typemap(in) T *NAME "$1 = ($1_ltype)$input.array;"
%typemap(freearg) T *NAME ""
%enddef
%slice(char, BYTES, byte)
%slice(void, BYTES, byte)
%slice(int32_t, ARRAY, int32)
%slice(size_t, ARRAY, int)
%slice(uint64_t, ARRAY, uint64)
%slice(float, ARRAY, float32)
%apply char *BYTES { char *text, char *json, char *bytes };
%apply void *BYTES { void *data };
%apply int32_t *ARRAY { int32_t *ids, int32_t *experts, int32_t *groups, int32_t *likeliest };
%apply size_t *ARRAY { size_t *layers, size_t *positions };
%apply uint64_t *ARRAY { uint64_t *offsets, uint64_t *counts };
%apply float *ARRAY { float *logits, float *weights, float *hidden, float *logprobs };

/* --- Numbers. Counts are int, as everywhere in Go: a negative one is larger than any that the library takes. --- */
%typemap(gotype) int32_t "int32"
%typemap(gotype) uint32_t "uint32"
%typemap(gotype) size_t "int"
%define %number(T, GoType)
%typemap(gotype) T *OUTPUT "*GoType"
%typemap(in) T *OUTPUT "$1 = ($1_ltype)$input;"
%enddef
%number(int32_t, int32)
%number(size_t, int)
%number(uint64_t, uint64)
%number(double, float64)
%apply size_t *OUTPUT { size_t *needed };

/* --- Callbacks: the C functions that call Go are package finermoe's --- */
%typemap(gotype) finermoe_progress_fn, finermoe_log_fn, finermoe_executor_fn, void *user "uintptr"
%typemap(in) finermoe_progress_fn, finermoe_log_fn, finermoe_executor_fn, void *user "$1 = ($1_ltype)$input;"

/* --- The fields of a struct that come as pointer and length --- */
%typemap(gotype) const char *text "string"
%typemap(out, fragment="AllocateString") const char *text %{
  $result = Swig_AllocateString($1, arg1->text_length);
%}
%typemap(gotype) const int32_t *top_ids "[]int32"
%typemap(gotype) const float *top_logprobs "[]float32"
%typemap(goout) const int32_t *top_ids "$result = append([]int32(nil), ($1)...)"
%typemap(goout) const float *top_logprobs "$result = append([]float32(nil), ($1)...)"
%typemap(out) const int32_t *top_ids, const float *top_logprobs %{
  $result.array = (void *)$1;
  $result.len = $result.cap = (intgo)arg1->n_top;
%}

%handle(error, Error)
