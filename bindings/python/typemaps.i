/* How finermoe.h's conventions look in Python's low layer, finermoe._lowlevel:
 *
 *   errors                   exceptions that the upper layer makes (set_error_factory)
 *   (data, length)           str, bytes, any buffer of the right element, or a sequence of numbers
 *   (data, capacity, needed) text and bytes are returned. Arrays are filled in place: the caller gives a writable
 *                            buffer (numpy's, say), or None to ask for the size, and gets `needed`; too small is no
 *                            exception
 *   finermoe_event           a tuple (text, token, logprob, finish_reason, top)
 *   callbacks                callables, kept alive by the upper layer for as long as the object that may call them
 *
 * Every function of the header runs without the GIL. Ctrl-C raises the cancel object of the call that runs on the main
 * thread, at once.
 */
%{
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the typemaps below declare in a wrapper hides these; a wrapper without such an argument sees NULL. */
static finermoe_error *fm_error;
static struct finermoe_space *const fm_space = NULL;
static struct finermoe_interrupt *const fm_interrupt = NULL;
%}

/* --- Errors --- */
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

/* --- Ctrl-C --- */
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
  return 0;
}

/* Returns whether the call was ended by a signal whose handler has returned as if nothing had happened: then it begins
 * again, as Python's own calls do (PEP 475). */
static int finermoe_interrupt_end(finermoe_interrupt *call, finermoe_error **error) {
  if (call == NULL || !call->installed) return 0;
  finermoe_interrupt_stop(call);
  if (!finermoe_interrupted || call->was_requested) return 0;
  finermoe_cancel_reset(call->cancel);
  if (finermoe_error_code(*error) != FINERMOE_ERROR_CANCELLED || PyErr_CheckSignals() != 0) return 0;
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

/* --- New objects and structs are returned --- */
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

/* --- Text: str (as UTF-8) or bytes in, str out. Paths are what open() takes. --- */
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

/* --- What comes out through (data, capacity, needed) --- */
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

/* --- Arrays --- */
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

/* --- A message's text, which comes as pointer and length --- */
%typemap(out) const char *text %{
  $result = PyUnicode_DecodeUTF8($1 ? $1 : "", (Py_ssize_t)arg1->text_length, "replace");
%}

/* --- Callbacks --- */
%{
/* A callback enters Python, unless the interpreter is about to end: then nothing enters it any more. */
static atomic_int finermoe_inside, finermoe_ending;

static int finermoe_enter(PyGILState_STATE *state) {
  atomic_fetch_add(&finermoe_inside, 1);
  if (atomic_load(&finermoe_ending)) {
    atomic_fetch_sub(&finermoe_inside, 1);
    return 0;
  }
  *state = PyGILState_Ensure();
  return 1;
}
static void finermoe_leave(PyGILState_STATE state) {
  PyGILState_Release(state);
  atomic_fetch_sub(&finermoe_inside, 1);
}
static void finermoe_after_fork(void) {
  atomic_store(&finermoe_inside, 0);
  finermoe_main_thread = pthread_self();
}

/* An exception stays set in the thread's state: it comes out of the call (%exception), and no callback runs before. */
static int32_t finermoe_call_progress(void *user, const char *phase, uint64_t done, uint64_t total) {
  PyGILState_STATE state;
  if (!finermoe_enter(&state)) return 1;
  if (!PyErr_Occurred() && PyErr_CheckSignals() == 0) {
    PyObject *answer = PyObject_CallFunction(user, "sKK", phase, (unsigned long long)done, (unsigned long long)total);
    Py_XDECREF(answer);
  }
  const int failed = PyErr_Occurred() != NULL;
  finermoe_leave(state);
  return failed;
}

static void finermoe_call_log(void *user, int32_t level, const char *message) {
  PyGILState_STATE state;
  if (!finermoe_enter(&state)) return;
  if (!PyErr_Occurred()) {
    PyObject *answer = PyObject_CallFunction(user, "iN", (int)level, finermoe_decoded(message));
    Py_XDECREF(answer);
  }
  finermoe_leave(state);
}

/* The tasks of one call of an executor. Python may run one twice, none, or one after the end: each is run once. */
typedef struct {
  atomic_int references, n_running, ended;
  size_t n_tasks;
  finermoe_task_fn task;
  void *task_data;
  atomic_char claimed[];
} finermoe_tasks;

static int finermoe_run_task(finermoe_tasks *tasks, size_t index) {
  if (atomic_exchange(&tasks->claimed[index], 1)) return 0;
  tasks->task(tasks->task_data, index);
  return 1;
}

static void finermoe_release_tasks(finermoe_tasks *tasks) {
  if (atomic_fetch_sub(&tasks->references, 1) == 1) free(tasks);
}
static void finermoe_capsule_end(PyObject *capsule) {
  finermoe_release_tasks(PyCapsule_GetPointer(capsule, "finermoe.tasks"));
}

static PyObject *finermoe_task_call(PyObject *capsule, PyObject *number) {
  finermoe_tasks *tasks = PyCapsule_GetPointer(capsule, "finermoe.tasks");
  size_t index = 0;
  int ran = 0;
  if (tasks == NULL || !finermoe_size_t_to(number, &index)) return NULL;
  if (index >= tasks->n_tasks) return PyErr_Format(PyExc_IndexError, "there are %zu tasks", tasks->n_tasks);
  Py_BEGIN_ALLOW_THREADS
  atomic_fetch_add(&tasks->n_running, 1);
  if (!atomic_load(&tasks->ended)) ran = finermoe_run_task(tasks, index);
  atomic_fetch_sub(&tasks->n_running, 1);
  Py_END_ALLOW_THREADS
  if (!ran) return PyErr_Format(PyExc_RuntimeError, "task %zu has run already, or its executor has returned", index);
  Py_RETURN_NONE;
}
static PyMethodDef finermoe_task_method = {"task", finermoe_task_call, METH_O, "Runs one piece of a computation."};

static void finermoe_call_executor(void *user, size_t n_tasks, finermoe_task_fn task, void *task_data) {
  PyGILState_STATE state;
  finermoe_tasks *tasks = calloc(1, sizeof *tasks + n_tasks);
  if (tasks == NULL || !finermoe_enter(&state)) {
    free(tasks);
    for (size_t i = 0; i < n_tasks; ++i) task(task_data, i);
    return;
  }
  tasks->references = 1;
  tasks->n_tasks = n_tasks;
  tasks->task = task;
  tasks->task_data = task_data;
  if (!PyErr_Occurred()) {
    PyObject *capsule = PyCapsule_New(tasks, "finermoe.tasks", finermoe_capsule_end);
    if (capsule != NULL) atomic_fetch_add(&tasks->references, 1);
    PyObject *call = capsule ? PyCFunction_New(&finermoe_task_method, capsule) : NULL;
    PyObject *answer = call ? PyObject_CallFunction(user, "nO", (Py_ssize_t)n_tasks, call) : NULL;
    Py_XDECREF(answer);
    Py_XDECREF(call);
    Py_XDECREF(capsule);
  }
  finermoe_leave(state);
  /* What the executor left, and then what its threads are still at. */
  for (size_t i = 0; i < n_tasks; ++i) finermoe_run_task(tasks, i);
  atomic_store(&tasks->ended, 1);
  while (atomic_load(&tasks->n_running) > 0) sched_yield();
  finermoe_release_tasks(tasks);
}
%}
%define %callable(Type, parameter, call)
%typemap(in) (Type parameter, void *user) %{
  $1 = NULL;
  $2 = NULL;
  if ($input != Py_None) {
    if (!PyCallable_Check($input)) SWIG_exception_fail(SWIG_TypeError, "expected a callable or None");
    $1 = call;
    $2 = $input;
  }
%}
%enddef
%callable(finermoe_progress_fn, progress, finermoe_call_progress)
%callable(finermoe_log_fn, sink, finermoe_call_log)
%callable(finermoe_executor_fn, executor, finermoe_call_executor)

/* --- Beginning and end of the module --- */
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
