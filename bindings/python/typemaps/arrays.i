/* Arrays: in, and out into buffers of the caller, one or two together. */
%{
static int finermoe_int32_t_to(PyObject *number, int32_t *x) {
  PyObject *index = PyNumber_Index(number); /* no floats */
  const long value = index ? PyLong_AsLong(index) : -1;
  Py_XDECREF(index);
  *x = (int32_t)value;
  if (*x != value && !PyErr_Occurred()) PyErr_SetString(PyExc_OverflowError, "not a number of 32 bits");
  return !PyErr_Occurred();
}
static int finermoe_size_t_to(PyObject *number, size_t *x) {
  PyObject *index = PyNumber_Index(number);
  *x = index ? PyLong_AsSize_t(index) : 0;
  Py_XDECREF(index);
  return !PyErr_Occurred();
}
static int finermoe_float_to(PyObject *number, float *x) {
  *x = (float)PyFloat_AsDouble(number);
  return !PyErr_Occurred();
}

/* Whether a buffer has elements of this kind in the machine's own order, one behind the other. */
static int finermoe_is_array_of(PyObject *input, char kind, Py_buffer *view) {
  if (!PyObject_CheckBuffer(input)) return 0;
  if (PyObject_GetBuffer(input, view, PyBUF_ND | PyBUF_FORMAT) != 0) {
    PyErr_Clear(); /* with gaps: taken as a sequence */
    return 0;
  }
  const char *format = view->format != NULL && view->format[0] == '@' ? view->format + 1 : view->format;
  if (view->ndim == 1 && view->itemsize == 4 && format != NULL && format[0] == kind && format[1] == '\0') return 1;
  PyBuffer_Release(view);
  return 0;
}
%}
%define %array(T, kind)
%typemap(in) (const T *ARRAY, size_t LENGTH) (T *array = NULL, Py_buffer view = {0}) {
  if (finermoe_is_array_of($input, kind, &view)) {
    $1 = view.buf;
    $2 = (size_t)view.len / sizeof *$1;
  } else {
    PyObject *sequence = PySequence_Fast($input, "expected a sequence of numbers");
    if (sequence == NULL) SWIG_fail;
    $2 = (size_t)PySequence_Fast_GET_SIZE(sequence);
    $1 = array = calloc($2 + 1, sizeof *array);
    if (array == NULL) PyErr_NoMemory();
    for (size_t i = 0; !PyErr_Occurred() && i < $2; ++i) {
      finermoe_##T##_to(PySequence_Fast_GET_ITEM(sequence, (Py_ssize_t)i), &array[i]);
    }
    Py_DECREF(sequence);
    if (PyErr_Occurred()) SWIG_fail;
  }
}
%typemap(freearg) (const T *ARRAY, size_t LENGTH) %{
  free(array$argnum);
  PyBuffer_Release(&view$argnum);
%}
%enddef
%array(int32_t, 'i')
%array(size_t, 'N')
%array(float, 'f')

%define %array_out(T)
%typemap(in) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) (finermoe_space space = {0}) %{
  $3 = &space.needed;
  if (!finermoe_fill($input, sizeof *$1, &space.first, (void **)&$1, &$2)) SWIG_fail;
  finermoe_space *const fm_space = &space;
%}
%typemap(argout) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, PyLong_FromSize_t(*$3));
}
%typemap(freearg) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) "finermoe_drop_space(&space$argnum);"
%enddef
%array_out(int32_t)
%array_out(size_t)
%array_out(uint64_t)
%array_out(float)

/* Two arrays that come out together: a pair of buffers, the second may be None. */
%define %arrays_out(T, Second)
%typemap(in) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) (finermoe_space space = {0}) %{
  PyObject *first_input, *second_input;
  size_t second_count;
  $4 = &space.needed;
  if (!PyArg_ParseTuple($input, "OO", &first_input, &second_input) ||
      !finermoe_fill(first_input, sizeof *$1, &space.first, (void **)&$1, &$3) ||
      !finermoe_fill(second_input, sizeof *$2, &space.second, (void **)&$2, &second_count)) {
    SWIG_fail;
  }
  if ($2 != NULL && second_count < $3) $3 = second_count;
  finermoe_space *const fm_space = &space;
%}
%typemap(argout) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, PyLong_FromSize_t(*$4));
}
%typemap(freearg) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "finermoe_drop_space(&space$argnum);"
%enddef
%arrays_out(int32_t, uint64_t)
%arrays_out(float, int32_t)
