/* A status that is an error becomes an exception. */
%{
static PyObject *finermoe_error_factory; /* (code, message, expected, found) -> exception */

static PyObject *finermoe_decoded(const char *text) {
  return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static void finermoe_raise(finermoe_status status, const finermoe_error *error) {
  PyObject *message = finermoe_decoded(finermoe_error_message(error));
  PyObject *expected = finermoe_decoded(finermoe_error_expected(error));
  PyObject *found = finermoe_decoded(finermoe_error_found(error));
  PyObject *exception =
      PyObject_CallFunction(finermoe_error_factory, "iNNN", (int)status, message, expected, found);
  if (exception == NULL) return;
  PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
  Py_DECREF(exception);
}
%}
%typemap(in, numinputs=0) finermoe_error **error %{
  finermoe_error *fm_error = NULL;
  $1 = &fm_error;
%}
%typemap(freearg) finermoe_error **error "finermoe_error_free(fm_error);"
%typemap(out) finermoe_status %{
  if ($1 != FINERMOE_OK && !($1 == FINERMOE_ERROR_BUFFER_TOO_SMALL && fm_space != NULL)) {
    finermoe_raise($1, fm_error);
    SWIG_fail;
  }
  $result = SWIG_Py_Void();
%}
