/* Ctrl-C, and how every call is made. */
%{
/* While a call with a cancel object runs on the main thread, SIGINT raises that object before it reaches Python's own
 * handler, which only makes a note for the interpreter. */
typedef struct finermoe_interrupt {
  finermoe_cancel *cancel;
  int installed, was_requested;
  struct finermoe_interrupt *outer; /* of a call that is in one of its callbacks now */
} finermoe_interrupt;

static pthread_t finermoe_main_thread;
static struct sigaction finermoe_sigint_before; /* Python's own; SIG_DFL: not known yet */
static finermoe_interrupt *volatile finermoe_interrupted_call;
static volatile sig_atomic_t finermoe_interrupted;

static void finermoe_on_sigint(int signal_number) {
  finermoe_interrupt *call = finermoe_interrupted_call;
  finermoe_interrupted = 1;
  if (call != NULL) finermoe_cancel_request(call->cancel);
  finermoe_sigint_before.sa_handler(signal_number);
}

static int finermoe_can_follow(const struct sigaction *action) {
  return !(action->sa_flags & SA_SIGINFO) && action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

static void finermoe_interrupt_stop(finermoe_interrupt *call) {
  if (call->outer == NULL) sigaction(SIGINT, &finermoe_sigint_before, NULL);
  finermoe_interrupted_call = call->outer;
  call->installed = 0;
}

/* Returns 0 where the call shall not begin: a signal that had come already has raised an exception. */
static int finermoe_interrupt_begin(finermoe_interrupt *call) {
  if (call == NULL || call->cancel == NULL || !pthread_equal(pthread_self(), finermoe_main_thread)) return 1;
  if (finermoe_sigint_before.sa_handler == SIG_DFL) sigaction(SIGINT, NULL, &finermoe_sigint_before);
  if (!finermoe_can_follow(&finermoe_sigint_before)) {
    memset(&finermoe_sigint_before, 0, sizeof finermoe_sigint_before); /* the next call looks again */
    return 1;
  }
  call->installed = 1;
  call->was_requested = finermoe_cancel_requested(call->cancel);
  call->outer = finermoe_interrupted_call;
  finermoe_interrupted = 0;
  finermoe_interrupted_call = call;
  if (call->outer == NULL) {
    struct sigaction mine = finermoe_sigint_before, now;
    mine.sa_handler = finermoe_on_sigint;
    sigaction(SIGINT, &mine, &now);
    finermoe_sigint_before = now;
    if (!finermoe_can_follow(&now)) finermoe_interrupt_stop(call);
  }
  if (!call->installed || PyErr_CheckSignals() == 0) return 1;
  finermoe_interrupt_stop(call);
  if (finermoe_interrupted && !call->was_requested) finermoe_cancel_reset(call->cancel); /* this call's alone */
  return 0;
}

/* Returns whether the call was ended by a signal whose handler has returned as if nothing had happened: then it begins
 * again, as Python's own calls do (PEP 475). Not where the signal came during a callback, which has raised already. */
static int finermoe_interrupt_end(finermoe_interrupt *call, finermoe_error **error) {
  if (call == NULL || !call->installed) return 0;
  finermoe_interrupt_stop(call);
  if (!finermoe_interrupted || call->was_requested) return 0;
  finermoe_cancel_reset(call->cancel);
  if (finermoe_error_code(*error) != FINERMOE_ERROR_CANCELLED) return 0;
  if (PyErr_Occurred() || PyErr_CheckSignals() != 0) return 0;
  finermoe_error_free(*error);
  *error = NULL;
  return 1;
}
%}
%typemap(in) finermoe_cancel *cancel (finermoe_interrupt call = {0}) %{
  if (!SWIG_IsOK(SWIG_ConvertPtr($input, (void **)&$1, $1_descriptor, 0))) {
    SWIG_exception_fail(SWIG_TypeError, "expected a cancel object or None");
  }
  call.cancel = $1;
  finermoe_interrupt *const fm_interrupt = &call;
%}
%typemap(in) const finermoe_cancel *cancel %{
  if (!SWIG_IsOK(SWIG_ConvertPtr($input, (void **)&$1, $1_descriptor, 0))) {
    SWIG_exception_fail(SWIG_TypeError, "expected a cancel object");
  }
%}
/* Where an append is begun again, the session first forgets what the cancelled one left. */
%define %append(function)
%exception function {
  finermoe_session_info held = {sizeof held};
  const finermoe_status known = finermoe_session_get_info(arg1, &held, NULL);
  do {
    if (!finermoe_interrupt_begin(fm_interrupt)) SWIG_fail;
    $action
  } while (finermoe_interrupt_end(fm_interrupt, &fm_error) && known == FINERMOE_OK &&
           finermoe_session_truncate(arg1, held.length, NULL) == FINERMOE_OK);
  if (PyErr_Occurred()) SWIG_fail;
}
%enddef

/* Every call; what a callback raised comes out of the call that it was made from. */
%exception {
  do {
    if (!finermoe_interrupt_begin(fm_interrupt)) SWIG_fail;
    $action
  } while (finermoe_interrupt_end(fm_interrupt, &fm_error) || finermoe_make_space(fm_space, &fm_error));
  if (PyErr_Occurred()) SWIG_fail;
}
%append(finermoe_session_append)
%append(finermoe_session_append_rows)
