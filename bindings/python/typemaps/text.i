/* Text: str (as UTF-8) or bytes in, str out. Paths are what open() takes. */
%{
/* The bytes of a str or bytes-like object, which `keep` keeps alive; returns 0 where there is an exception. A lone
 * surrogate is U+FFFD, two that belong together are one character. */
static int finermoe_text_in(PyObject *input, const char **text, size_t *length, Py_buffer *keep) {
  PyObject *bytes = NULL;
  if (PyUnicode_Check(input)) {
    Py_ssize_t size = 0;
    const char *utf8 = PyUnicode_AsUTF8AndSize(input, &size); /* `input` keeps this */
    if (utf8 != NULL) {
      *text = utf8;
      *length = (size_t)size;
      return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return 0;
    PyErr_Clear();
    PyObject *units = PyUnicode_AsEncodedString(input, "utf-16", "surrogatepass");
    PyObject *repaired = units ? PyUnicode_FromEncodedObject(units, "utf-16", "replace") : NULL;
    bytes = repaired ? PyUnicode_AsUTF8String(repaired) : NULL;
    Py_XDECREF(units);
    Py_XDECREF(repaired);
  } else {
    Py_INCREF(input);
    bytes = input;
  }
  const int right = bytes != NULL && PyObject_GetBuffer(bytes, keep, PyBUF_SIMPLE) == 0;
  Py_XDECREF(bytes); /* the buffer keeps it */
  if (!right) return 0;
  *text = keep->buf != NULL ? keep->buf : "";
  *length = (size_t)keep->len;
  return 1;
}
%}
%typemap(in) (const char *TEXT, size_t LENGTH) (Py_buffer keep = {0}),
             (const char *BYTES, size_t LENGTH) (Py_buffer keep = {0}) %{
  $1 = NULL;
  $2 = 0;
  if ($input != Py_None) {
    const char *text = NULL;
    if (!finermoe_text_in($input, &text, &$2, &keep)) SWIG_fail;
    $1 = ($1_ltype)text;
  }
%}
%typemap(freearg) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH)
  "PyBuffer_Release(&keep$argnum);"

/* A name or a path, which end with a NUL; None is NULL. */
%typemap(in) const char * (Py_buffer keep = {0}) %{
  if ($input != Py_None) {
    const char *text = NULL;
    size_t length = 0;
    if (!finermoe_text_in($input, &text, &length, &keep)) SWIG_fail;
    if (strlen(text) != length) SWIG_exception_fail(SWIG_ValueError, "a NUL in a name");
    $1 = ($1_ltype)text;
  }
%}
%typemap(freearg) const char * "PyBuffer_Release(&keep$argnum);"
%typemap(in) const char *PATH (PyObject *encoded = NULL) %{
  if ($input != Py_None) {
    if (!PyUnicode_FSConverter($input, &encoded)) SWIG_fail;
    $1 = PyBytes_AS_STRING(encoded);
  }
%}
%typemap(freearg) const char *PATH "Py_XDECREF(encoded$argnum);"
%apply const char *PATH {
  const char *path, const char *out_path, const char *dense_path, const char *config_path, const char *module
};

/* --- A message's text, which comes as pointer and length --- */
%typemap(out) const char *text %{
  $result = PyUnicode_DecodeUTF8($1 ? $1 : "", (Py_ssize_t)arg1->text_length, "replace");
%}
