/* What comes out through (data, capacity, needed). */
%{
typedef struct finermoe_space {
  void **data;
  size_t *capacity;
  size_t needed;
  int grows;       /* or is the caller's */
  PyObject *bytes; /* what it grows in */
  Py_buffer first, second;
} finermoe_space;

/* After a call that found too little room, makes the room. Returns whether to call again. */
static int finermoe_make_space(finermoe_space *space, finermoe_error **error) {
  if (space == NULL || !space->grows || finermoe_error_code(*error) != FINERMOE_ERROR_BUFFER_TOO_SMALL) return 0;
  finermoe_error_free(*error);
  *error = NULL;
  Py_CLEAR(space->bytes);
  space->bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)space->needed);
  if (space->bytes == NULL) return 0;
  *space->data = PyBytes_AS_STRING(space->bytes);
  *space->capacity = space->needed;
  return 1;
}

static PyObject *finermoe_take_bytes(finermoe_space *space) {
  PyObject *bytes = space->bytes;
  space->bytes = NULL;
  if (bytes == NULL) return PyBytes_FromStringAndSize("", 0);
  if ((size_t)PyBytes_GET_SIZE(bytes) != space->needed) _PyBytes_Resize(&bytes, (Py_ssize_t)space->needed);
  return bytes;
}

static void finermoe_drop_space(finermoe_space *space) {
  if (space == NULL) return;
  Py_CLEAR(space->bytes);
  PyBuffer_Release(&space->first);
  PyBuffer_Release(&space->second);
}

/* The caller's buffer for `count` elements of `item` bytes; None has room for none. */
static int finermoe_fill(PyObject *input, size_t item, Py_buffer *view, void **data, size_t *count) {
  *data = NULL;
  *count = 0;
  if (input == Py_None) return 1;
  if (PyObject_GetBuffer(input, view, PyBUF_WRITABLE | PyBUF_ND) != 0) return 0;
  if ((size_t)view->itemsize != item) {
    PyErr_Format(PyExc_TypeError, "expected a buffer with elements of %zu bytes, found %zd", item, view->itemsize);
    return 0;
  }
  *data = view->buf;
  *count = (size_t)view->len / item;
  return 1;
}
%}
%typemap(in, numinputs=0) (char *TEXT, size_t CAPACITY, size_t *NEEDED) (finermoe_space space = {0}),
                          (char *BYTES, size_t CAPACITY, size_t *NEEDED) (finermoe_space space = {0}) %{
  $1 = NULL;
  $2 = 0;
  $3 = &space.needed;
  space.data = (void **)&$1;
  space.capacity = &$2;
  space.grows = 1;
  finermoe_space *const fm_space = &space;
%}
%typemap(argout) (char *TEXT, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, PyUnicode_DecodeUTF8($1 ? (const char *)$1 : "", (Py_ssize_t)*$3, "replace"));
}
%typemap(argout) (char *BYTES, size_t CAPACITY, size_t *NEEDED) {
  $result = finermoe_add($result, finermoe_take_bytes(&space$argnum));
}
%typemap(freearg) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "finermoe_drop_space(&space$argnum);"
