/* New objects and structs are returned. */
%{
/* What comes out of a call: nothing, one thing, or a tuple of two. */
static PyObject *finermoe_add(PyObject *result, PyObject *output) {
  if (result == Py_None || output == NULL) {
    Py_DECREF(result);
    return output;
  }
  return Py_BuildValue("(NN)", result, output);
}
%}
%define %handle_out(Type, Class)
%typemap(in, numinputs=0) Type ** (Type *made = NULL) "$1 = &made;"
%typemap(argout) Type ** {
  $result = finermoe_add($result, SWIG_NewPointerObj(made$argnum, $*1_descriptor, SWIG_POINTER_OWN));
  if ($result != NULL) made$argnum = NULL;
}
%typemap(freearg) Type ** {
  Type##_free(made$argnum);
}
%enddef

%define %handle(Name, Class)
%handle_out(finermoe_##Name, Class)
%nodefaultctor finermoe_##Name;
struct finermoe_##Name {};
%extend finermoe_##Name {
  ~finermoe_##Name() { finermoe_##Name##_free($self); }
}
%enddef

%define %struct_out(Type, parameter, KEEP, DROP)
%typemap(in, numinputs=0) Type *parameter (Type info = {0}) %{
  info.struct_size = sizeof info;
  $1 = &info;
%}
%typemap(argout) Type *parameter {
  Type *copy = malloc(sizeof *copy);
  if (copy == NULL) {
    PyErr_NoMemory();
    SWIG_fail;
  }
  *copy = info$argnum;
  KEEP(copy);
  $result = finermoe_add($result, SWIG_NewPointerObj(copy, $1_descriptor, SWIG_POINTER_OWN));
}
%enddef

/* An event, of which there is one for each token, is no object of its own: with its error, so that this comes before
 * what is said about structs above. */
%{
static PyObject *finermoe_event_tuple(const finermoe_event *event) {
  PyObject *top = PyTuple_New((Py_ssize_t)event->n_top);
  for (size_t i = 0; top != NULL && i < event->n_top; ++i) {
    PyObject *pair = Py_BuildValue("(if)", (int)event->top_ids[i], event->top_logprobs[i]);
    if (pair == NULL) Py_CLEAR(top);
    if (pair != NULL) PyTuple_SET_ITEM(top, (Py_ssize_t)i, pair);
  }
  PyObject *text = PyUnicode_DecodeUTF8(event->text, (Py_ssize_t)event->text_length, "replace");
  return Py_BuildValue("(NifiN)", text, (int)event->token, event->logprob, (int)event->finish_reason, top);
}
%}
%typemap(in, numinputs=0) (finermoe_event *event, finermoe_error **error) (finermoe_event event = {0}) %{
  event.struct_size = sizeof event;
  finermoe_error *fm_error = NULL;
  $1 = &event;
  $2 = &fm_error;
%}
%typemap(argout) (finermoe_event *event, finermoe_error **error) {
  $result = finermoe_add($result, finermoe_event_tuple($1));
}
%typemap(freearg) (finermoe_event *event, finermoe_error **error) "finermoe_error_free(fm_error);"

/* --- Numbers that come out --- */
%define %number(T, make)
%typemap(in, numinputs=0) T *OUTPUT (T number = 0) "$1 = &number;"
%typemap(argout) T *OUTPUT {
  $result = finermoe_add($result, make(*$1));
}
%enddef
%number(int32_t, PyLong_FromLong)
%number(size_t, PyLong_FromSize_t)
%number(uint64_t, PyLong_FromUnsignedLongLong)
%number(double, PyFloat_FromDouble)
