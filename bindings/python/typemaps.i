/* How finermoe.h's conventions look in Python. */

/* --- Errors: finermoe.Error with code, message, expected and found --- */
%{
static PyObject *finermoe_error_class;

static void finermoe_raise(finermoe_status status, finermoe_error *error) {
  PyObject *exception = PyObject_CallFunction(finermoe_error_class, "s", finermoe_error_message(error));
  if (exception != NULL) {
    PyObject *code = PyLong_FromLong(status);
    PyObject *expected = PyUnicode_FromString(finermoe_error_expected(error));
    PyObject *found = PyUnicode_FromString(finermoe_error_found(error));
    if (code && expected && found && PyObject_SetAttrString(exception, "code", code) == 0 &&
        PyObject_SetAttrString(exception, "expected", expected) == 0 &&
        PyObject_SetAttrString(exception, "found", found) == 0) {
      PyErr_SetObject(finermoe_error_class, exception);
    }
    Py_XDECREF(code);
    Py_XDECREF(expected);
    Py_XDECREF(found);
    Py_DECREF(exception);
  }
  finermoe_error_free(error);
}
%}
%init %{
  finermoe_error_class = PyErr_NewExceptionWithDoc("finermoe.Error", "A call of libfinermoe failed.", NULL, NULL);
  Py_XINCREF(finermoe_error_class);
  PyModule_AddObject(m, "Error", finermoe_error_class);
%}
%pythoncode %{
Error = _finermoe.Error
%}
%typemap(in, numinputs=0) finermoe_error **error %{
  finermoe_error *fm_error = NULL;
  $1 = &fm_error;
%}
/* What comes out of a call: nothing, one thing, or a list of two. */
%{
static PyObject *finermoe_add(PyObject *result, PyObject *output) {
  if (result == Py_None || output == NULL) {
    Py_DECREF(result);
    return output;
  }
  return Py_BuildValue("[NN]", result, output);
}
%}
%typemap(out) finermoe_status %{
  if ($1 != FINERMOE_OK) {
    finermoe_raise($1, fm_error);
    SWIG_fail;
  }
  $result = SWIG_Py_Void();
%}

/* --- New objects and structs are returned --- */
%define %handle_out(Type, Class)
%typemap(in, numinputs=0) Type ** (Type *made = NULL) "$1 = &made;"
%typemap(argout) Type ** {
  $result = finermoe_add($result, SWIG_NewPointerObj(made$argnum, $*1_descriptor, SWIG_POINTER_OWN));
}
%enddef

%define %struct_out(Type, parameter, KEEP, DROP)
%typemap(in, numinputs=0) Type *parameter %{
  $1 = calloc(1, sizeof *$1);
  if ($1 == NULL) {
    PyErr_NoMemory();
    SWIG_fail;
  }
  $1->struct_size = sizeof *$1;
%}
%typemap(argout) Type *parameter {
  KEEP($1);
  $result = finermoe_add($result, SWIG_NewPointerObj($1, $1_descriptor, SWIG_POINTER_OWN));
  $1 = NULL;
}
%typemap(freearg) Type *parameter "free($1);"
%enddef

/* --- Strings: str (as UTF-8) or bytes in; str out, bytes where they need not be whole characters --- */
%typemap(in) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH) %{
  if ($input == Py_None) {
    $1 = NULL;
    $2 = 0;
  } else {
    Py_ssize_t length = 0;
    char *bytes = NULL;
    if (PyUnicode_Check($input)) {
      bytes = (char *)PyUnicode_AsUTF8AndSize($input, &length);
    } else {
      PyBytes_AsStringAndSize($input, &bytes, &length);
    }
    if (bytes == NULL) SWIG_fail;
    $1 = bytes;
    $2 = (size_t)length;
  }
%}
%typemap(in, numinputs=0) (char *TEXT, size_t CAPACITY, size_t *NEEDED),
                          (char *BYTES, size_t CAPACITY, size_t *NEEDED) %{
  $1 = NULL;
  $2 = 0;
  finermoe_out fm_room = {(void **)&$1, &$2, 0, 1}, *fm_out = &fm_room;
  $3 = &fm_out->count;
%}
%typemap(argout) (char *TEXT, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, PyUnicode_DecodeUTF8($1 ? $1 : "", (Py_ssize_t)*$3, "replace"));
}
%typemap(argout) (char *BYTES, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, PyBytes_FromStringAndSize($1 ? $1 : "", (Py_ssize_t)*$3));
}
%typemap(freearg) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "free($1);"

/* --- Arrays: any sequence of numbers in, a list out --- */
%{
#define finermoe_int32_t_from(x) PyLong_FromLong(x)
#define finermoe_size_t_from(x) PyLong_FromSize_t(x)
#define finermoe_uint64_t_from(x) PyLong_FromUnsignedLongLong(x)
#define finermoe_float_from(x) PyFloat_FromDouble(x)
#define finermoe_double_from(x) PyFloat_FromDouble(x)

static int finermoe_int32_t_to(PyObject *number, int32_t *x) {
  const long value = PyLong_AsLong(number);
  *x = (int32_t)value;
  if (*x != value && !PyErr_Occurred()) PyErr_SetString(PyExc_OverflowError, "not a 32-bit integer");
  return !PyErr_Occurred();
}
static int finermoe_size_t_to(PyObject *number, size_t *x) {
  *x = PyLong_AsSize_t(number);
  return !PyErr_Occurred();
}
static int finermoe_float_to(PyObject *number, float *x) {
  *x = (float)PyFloat_AsDouble(number);
  return !PyErr_Occurred();
}
%}
%define %array(T)
%{
static PyObject *finermoe_##T##_list(const T *data, size_t n) {
  PyObject *list = PyList_New((Py_ssize_t)n);
  for (size_t i = 0; list != NULL && i < n; ++i) PyList_SET_ITEM(list, (Py_ssize_t)i, finermoe_##T##_from(data[i]));
  return list;
}
%}
%typemap(in) (const T *ARRAY, size_t LENGTH) (T *array = NULL) {
  PyObject *sequence = PySequence_Fast($input, "expected a sequence of numbers");
  if (sequence == NULL) SWIG_fail;
  $2 = (size_t)PySequence_Fast_GET_SIZE(sequence);
  $1 = array = calloc($2 + 1, sizeof *array);
  for (size_t i = 0; $1 != NULL && !PyErr_Occurred() && i < $2; ++i) {
    finermoe_##T##_to(PySequence_Fast_GET_ITEM(sequence, (Py_ssize_t)i), &array[i]);
  }
  Py_DECREF(sequence);
  if ($1 == NULL) PyErr_NoMemory();
  if (PyErr_Occurred()) SWIG_fail;
}
%typemap(freearg) (const T *ARRAY, size_t LENGTH) "free(array$argnum);"

%typemap(in, numinputs=0) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) %{
  $1 = NULL;
  $2 = 0;
  finermoe_out fm_room = {(void **)&$1, &$2, 0, sizeof *$1}, *fm_out = &fm_room;
  $3 = &fm_out->count;
%}
%typemap(argout) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, finermoe_##T##_list($1, *$3));
}
%typemap(freearg) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) "free($1);"
%enddef
%array(int32_t)
%array(size_t)
%array(uint64_t)
%array(float)

/* Of two arrays that come out together, the first. */
%define %first_array(T, Second)
%typemap(in, numinputs=0) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) %{
  $1 = NULL;
  $2 = NULL;
  $3 = 0;
  finermoe_out fm_room = {(void **)&$1, &$3, 0, sizeof *$1}, *fm_out = &fm_room;
  $4 = &fm_out->count;
%}
%typemap(argout) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, finermoe_##T##_list($1, *$4));
}
%typemap(freearg) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "free($1);"
%enddef
%first_array(int32_t, uint64_t)
%first_array(float, int32_t)

/* --- Numbers that come out --- */
%define %number(T)
%typemap(in, numinputs=0) T *OUTPUT (T number = 0) "$1 = &number;"
%typemap(argout) T *OUTPUT {
  $result = finermoe_add($result, finermoe_##T##_from(*$1));
}
%enddef
%number(int32_t)
%number(size_t)
%number(uint64_t)
%number(double)

/* --- The fields of an event that come as pointer and length --- */
%typemap(out) const char *text %{
  $result = PyUnicode_DecodeUTF8($1 ? $1 : "", (Py_ssize_t)arg1->text_length, "replace");
%}
%typemap(out) const int32_t *top_ids "$result = finermoe_int32_t_list($1, arg1->n_top);"
%typemap(out) const float *top_logprobs "$result = finermoe_float_list($1, arg1->n_top);"
