/* Beginning and end of the module. */
%init %{
  pthread_atfork(NULL, NULL, finermoe_after_fork);
%}
%nothread set_error_factory;
%nothread require_main_interpreter;
%nothread set_main_thread;
%nothread stop_callbacks;
%inline %{
/* make(code, message, expected, found) gives the exception for an error. */
void set_error_factory(PyObject *make) {
  Py_INCREF(make);
  Py_XSETREF(finermoe_error_factory, make);
}

/* Exceptions and callbacks belong to one interpreter: an ImportError in any other. */
void require_main_interpreter(void) {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return;
  PyErr_SetString(PyExc_ImportError, "finermoe works in the main interpreter, not in a sub-interpreter");
}

/* Python's main thread, where Ctrl-C arrives. */
void set_main_thread(unsigned long identifier) { finermoe_main_thread = (pthread_t)identifier; }

/* From now on no callback enters Python; returns when those have left that are in it, at most a second later. */
void stop_callbacks(void) {
  atomic_store(&finermoe_ending, 1);
  Py_BEGIN_ALLOW_THREADS
  for (int i = 0; i < 1000 && atomic_load(&finermoe_inside) > 0; ++i) usleep(1000);
  Py_END_ALLOW_THREADS
}
%}
