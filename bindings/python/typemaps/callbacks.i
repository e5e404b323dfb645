/* Callbacks: progress, log and the executor of the host. */
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
