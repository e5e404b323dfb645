/* How finermoe.h's conventions look in Java's low layer: package finermoe, all functions static in the class Native.
 *
 * Users see nothing of it: its classes are package-private, and the public ones (src/main/java) are written by hand.
 *
 *   objects     the public classes, which are NativeObjects: a call enters and leaves each one that it gets, so that
 *               none is freed meanwhile
 *   errors      FinermoeException; an exception that a callback has thrown comes before it
 *   callbacks   numbers of a Callback, called through its static methods
 *   text        String in, as true UTF-8 (JNI's own form of UTF-8 is another); String[1] out
 *   arrays      in as they are; out through the one element of an array of arrays; rows of floats are written into an
 *               array or a direct buffer of the caller without another copy
 *   structs     classes NativeX with getters; an event's fields are written into a NativeEvent
 */

%javaconst(1);
%pragma(java) moduleclassmodifiers="final class"
%pragma(java) jniclassclassmodifiers="final class"
%typemap(javaclassmodifiers) SWIGTYPE "final class"
%pragma(java) jniclasscode=%{
  static {
    NativeLibrary.load();
  }
%}

%{
#include <limits.h>

/* A string or array that is coming out of a call: where the wrapper keeps the arguments (data, capacity, needed). */
typedef struct {
  void **data;
  size_t *capacity;
  size_t count; /* what `needed` points to */
  size_t item;  /* bytes of one element */
} finermoe_out;

/* What the typemaps below declare in a wrapper hides these two; a wrapper without such an argument sees NULL. */
static finermoe_error *fm_error;
static finermoe_out *const fm_out = NULL;

/* After a call that found too little room: makes the room. Returns whether to call again. */
static int finermoe_make_room(finermoe_out *out, finermoe_error **error) {
  if (out->count <= *out->capacity) return 0;
  if (finermoe_error_code(*error) != FINERMOE_ERROR_BUFFER_TOO_SMALL) return 0;
  void *larger = realloc(*out->data, out->count * out->item);
  if (larger == NULL) return 0;
  finermoe_error_free(*error);
  *error = NULL;
  *out->data = larger;
  *out->capacity = out->count;
  return 1;
}

/* What calls and callbacks look up once. */
static JavaVM *finermoe_vm;
static struct {
  jclass exception, callback, floats, bytes;
  jmethodID exception_of, progress, log, execute;
  jfieldID descriptor;
  jfieldID event_text, event_token, event_logprob, event_finish_reason, event_top_ids, event_top_logprobs;
} finermoe_java;

static jclass finermoe_class(JNIEnv *env, const char *name) {
  jclass found = (*env)->FindClass(env, name);
  jclass kept = found ? (*env)->NewGlobalRef(env, found) : NULL;
  if (found != NULL) (*env)->DeleteLocalRef(env, found);
  return kept;
}
static jmethodID finermoe_static_method(JNIEnv *env, jclass class, const char *name, const char *signature) {
  return class ? (*env)->GetStaticMethodID(env, class, name, signature) : NULL;
}

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *vm, void *reserved) {
  (void)reserved;
  JNIEnv *env = NULL;
  if ((*vm)->GetEnv(vm, (void **)&env, JNI_VERSION_1_8) != JNI_OK) return JNI_ERR;
  finermoe_vm = vm;
  finermoe_java.exception = finermoe_class(env, "finermoe/FinermoeException");
  finermoe_java.exception_of = finermoe_static_method(env, finermoe_java.exception, "of",
                                                      "(I[B[B[B)Lfinermoe/FinermoeException;");
  finermoe_java.callback = finermoe_class(env, "finermoe/Callback");
  finermoe_java.progress = finermoe_static_method(env, finermoe_java.callback, "progress", "(J[BJJ)Z");
  finermoe_java.log = finermoe_static_method(env, finermoe_java.callback, "log", "(JI[B)V");
  finermoe_java.execute = finermoe_static_method(env, finermoe_java.callback, "execute", "(JJJJ)V");
  finermoe_java.floats = finermoe_class(env, "[F");
  finermoe_java.bytes = finermoe_class(env, "[B");
  jclass descriptor = (*env)->FindClass(env, "java/io/FileDescriptor");
  if (descriptor != NULL) finermoe_java.descriptor = (*env)->GetFieldID(env, descriptor, "fd", "I");
  jclass event = (*env)->FindClass(env, "finermoe/NativeEvent");
  if (event != NULL) {
    finermoe_java.event_text = (*env)->GetFieldID(env, event, "text", "[B");
    finermoe_java.event_token = (*env)->GetFieldID(env, event, "token", "I");
    finermoe_java.event_logprob = (*env)->GetFieldID(env, event, "logprob", "F");
    finermoe_java.event_finish_reason = (*env)->GetFieldID(env, event, "finishReason", "I");
    finermoe_java.event_top_ids = (*env)->GetFieldID(env, event, "topIds", "[I");
    finermoe_java.event_top_logprobs = (*env)->GetFieldID(env, event, "topLogprobs", "[F");
  }
  return (*env)->ExceptionCheck(env) ? JNI_ERR : JNI_VERSION_1_8;
}

JNIEXPORT void JNICALL JNI_OnUnload(JavaVM *vm, void *reserved) {
  (void)reserved;
  JNIEnv *env = NULL;
  if ((*vm)->GetEnv(vm, (void **)&env, JNI_VERSION_1_8) != JNI_OK) return;
  (*env)->DeleteGlobalRef(env, finermoe_java.exception);
  (*env)->DeleteGlobalRef(env, finermoe_java.callback);
  (*env)->DeleteGlobalRef(env, finermoe_java.floats);
  (*env)->DeleteGlobalRef(env, finermoe_java.bytes);
}

static jbyteArray finermoe_bytes(JNIEnv *env, const char *data, size_t n) {
  if (n > INT_MAX) {
    SWIG_JavaThrowException(env, SWIG_JavaOutOfMemoryError, "more bytes than a Java array can hold");
    return NULL;
  }
  jbyteArray bytes = (*env)->NewByteArray(env, (jsize)n);
  if (bytes != NULL) (*env)->SetByteArrayRegion(env, bytes, 0, (jsize)n, (const jbyte *)data);
  return bytes;
}

/* Whether a wrapper has to give up: what it needed is not there. */
static int finermoe_lacks(JNIEnv *env, const void *memory) {
  if (memory == NULL && !(*env)->ExceptionCheck(env)) SWIG_JavaThrowException(env, SWIG_JavaOutOfMemoryError, "memory");
  return memory == NULL;
}
static int finermoe_is_null(JNIEnv *env, const void *object, const char *what) {
  if (object == NULL) SWIG_JavaThrowException(env, SWIG_JavaNullPointerException, what);
  return object == NULL;
}
%}

/* --- Errors. Where a callback has thrown, its exception is pending, and the call counts as failed. --- */
%{
static int finermoe_succeeded(JNIEnv *env, finermoe_status status) {
  return status == FINERMOE_OK && !(*env)->ExceptionCheck(env);
}

static void finermoe_throw(JNIEnv *env, finermoe_status status, finermoe_error *error) {
  if (status != FINERMOE_OK && !(*env)->ExceptionCheck(env)) {
    const char *texts[3] = {finermoe_error_message(error), finermoe_error_expected(error), finermoe_error_found(error)};
    jbyteArray bytes[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 3 && !(*env)->ExceptionCheck(env); ++i) {
      bytes[i] = finermoe_bytes(env, texts[i], strlen(texts[i]));
    }
    jthrowable exception = NULL;
    if (!(*env)->ExceptionCheck(env)) {
      exception = (*env)->CallStaticObjectMethod(env, finermoe_java.exception, finermoe_java.exception_of, (jint)status,
                                                 bytes[0], bytes[1], bytes[2]);
    }
    if (exception != NULL && !(*env)->ExceptionCheck(env)) (*env)->Throw(env, exception);
  }
  finermoe_error_free(error);
}
%}
%typemap(in, numinputs=0) finermoe_error **error %{
  finermoe_error *fm_error = NULL;
  $1 = &fm_error;
%}
%typemap(jni) finermoe_status "void"
%typemap(jtype) finermoe_status "void"
%typemap(jstype) finermoe_status "void"
%typemap(javaout) finermoe_status {
    $jnicall;
  }
%typemap(out, null="") finermoe_status %{
  finermoe_throw(jenv, $1, fm_error);
%}

/* --- Rows of floats: C reads and writes Java's own memory, while a call runs that neither waits nor calls back --- */
%{
typedef struct {
  jarray array; /* NULL: a direct buffer */
  void *data;
  size_t count;
} finermoe_pin;
static finermoe_pin *const fm_pin = NULL;

static int finermoe_pin_floats(JNIEnv *env, finermoe_pin *pin, jobject floats) {
  if (finermoe_is_null(env, floats, "no array or buffer of floats")) return 0;
  if ((*env)->IsInstanceOf(env, floats, finermoe_java.floats)) {
    pin->array = floats;
    pin->count = (size_t)(*env)->GetArrayLength(env, floats);
    pin->data = (*env)->GetPrimitiveArrayCritical(env, floats, NULL);
    return !finermoe_lacks(env, pin->data);
  }
  pin->data = (*env)->GetDirectBufferAddress(env, floats);
  pin->count = (size_t)(*env)->GetDirectBufferCapacity(env, floats);
  return !finermoe_is_null(env, pin->data, "not a direct buffer");
}

static void finermoe_unpin(JNIEnv *env, finermoe_pin *pin) {
  if (pin == NULL || pin->array == NULL) return;
  (*env)->ReleasePrimitiveArrayCritical(env, pin->array, pin->data, 0);
  pin->array = NULL;
}

/* The second of two arrays that come out together grows with the first. */
typedef struct {
  void **data;
  size_t item;
} finermoe_second;
static finermoe_second *const fm_second = NULL;

static int finermoe_make_second_room(const finermoe_second *second, finermoe_out *out) {
  if (second == NULL) return 1;
  void *larger = realloc(*second->data, *out->capacity * second->item);
  if (larger == NULL) {
    *out->capacity = 0;
    return 0;
  }
  *second->data = larger;
  return 1;
}
%}
/* Every call: again, if what comes out needs more room than there was. */
%exception {
  $action
  while (fm_out != NULL && finermoe_make_room(fm_out, &fm_error) && finermoe_make_second_room(fm_second, fm_out)) {
    $action
  }
  finermoe_unpin(jenv, fm_pin);
}

/* --- Objects --- */
%typemap(javainterfaces) SWIGTYPE "AutoCloseable"
%typemap(javafinalize) SWIGTYPE ""
%typemap(javadestruct, methodname="close", methodmodifiers="public", parameters="") SWIGTYPE {
    if (swigCPtr != 0) $jnicall;
    swigCPtr = 0;
  }
%typemap(javabody) SWIGTYPE %{
  private long swigCPtr;

  $javaclassname(long pointer, boolean own) {
    swigCPtr = pointer;
  }

  static long getCPtr($javaclassname object) {
    return object == null ? 0 : object.swigCPtr;
  }
%}
%typemap(check) SWIGTYPE *self %{
  if (finermoe_is_null(jenv, $1, "the object is closed")) return $null;
%}

#define Runtime FinermoeRuntime /* java.lang has a class of that name already */
%define %handle_out(Type, Class)
%typemap(jni) Type *, const Type * "jlong"
%typemap(jtype) Type *, const Type * "long"
%typemap(jstype) Type *, const Type * "Class"
%typemap(in) Type *, const Type * "$1 = (Type *)(intptr_t)$input;"
%typemap(javain, pre="    long $javainput_at = 0;", post="      if ($javainput_at != 0) $javainput.exit();")
  Type *, const Type * "($javainput_at = NativeObject.enter($javainput))"

%typemap(jni) Type ** "jlongArray"
%typemap(jtype) Type ** "long[]"
%typemap(jstype) Type ** "Class"
%typemap(javain, pre="    long[] $javainput_made = {0};", post="      $javainput.take($javainput_made[0]);") Type **
  "$javainput_made"
%typemap(in) Type ** (Type *made = NULL) "$1 = &made;"
%typemap(argout) Type ** {
  const jlong pointer = (jlong)(intptr_t)*$1;
  if (finermoe_succeeded(jenv, result)) {
    (*jenv)->SetLongArrayRegion(jenv, $input, 0, 1, &pointer);
  } else {
    Type##_free(*$1);
  }
}
%enddef

%define %handle(Name, Class)
%handle_out(finermoe_##Name, Class)
%enddef

%define %struct_out(Type, parameter, KEEP, DROP)
%typemap(check) Type *parameter "if ($1 != NULL) DROP($1);"
%typemap(argout) Type *parameter "if ($1 != NULL && finermoe_succeeded(jenv, result)) KEEP($1);"
%enddef

/* --- Callbacks --- */
%{
/* Callbacks come on the thread that made the call, which Java knows. Nothing is asked of a Java that has an exception
 * to throw already. */
static JNIEnv *finermoe_env(void) {
  JNIEnv *env = NULL;
  if ((*finermoe_vm)->GetEnv(finermoe_vm, (void **)&env, JNI_VERSION_1_8) != JNI_OK) return NULL;
  return (*env)->ExceptionCheck(env) ? NULL : env;
}

static int32_t finermoe_on_progress(void *user, const char *phase, uint64_t done, uint64_t total) {
  JNIEnv *env = finermoe_env();
  jbyteArray bytes = env ? finermoe_bytes(env, phase, strlen(phase)) : NULL;
  if (bytes == NULL) return 1;
  const jboolean go_on = (*env)->CallStaticBooleanMethod(env, finermoe_java.callback, finermoe_java.progress,
                                                         (jlong)(intptr_t)user, bytes, (jlong)done, (jlong)total);
  (*env)->DeleteLocalRef(env, bytes);
  return (*env)->ExceptionCheck(env) || !go_on;
}

static void finermoe_on_log(void *user, int32_t level, const char *message) {
  JNIEnv *env = finermoe_env();
  jbyteArray bytes = env ? finermoe_bytes(env, message, strlen(message)) : NULL;
  if (bytes == NULL) return;
  (*env)->CallStaticVoidMethod(env, finermoe_java.callback, finermoe_java.log, (jlong)(intptr_t)user, (jint)level,
                               bytes);
  (*env)->DeleteLocalRef(env, bytes);
}

/* Tasks that Java cannot be asked to run are run here: each has to be. */
static void finermoe_on_execute(void *user, size_t n_tasks, finermoe_task_fn task, void *task_data) {
  JNIEnv *env = finermoe_env();
  if (env == NULL) {
    for (size_t i = 0; i < n_tasks; ++i) task(task_data, i);
    return;
  }
  (*env)->CallStaticVoidMethod(env, finermoe_java.callback, finermoe_java.execute, (jlong)(intptr_t)user,
                               (jlong)n_tasks, (jlong)(intptr_t)task, (jlong)(intptr_t)task_data);
}
%}
%define %host_function(Function, parameter, on_call)
%typemap(jni) (Function parameter, void *user) "jlong"
%typemap(jtype) (Function parameter, void *user) "long"
%typemap(jstype) (Function parameter, void *user) "Callback"
%typemap(javain) (Function parameter, void *user) "Callback.number($javainput)"
%typemap(in) (Function parameter, void *user) %{
  $1 = $input ? on_call : NULL;
  $2 = (void *)(intptr_t)$input;
%}
%enddef
%host_function(finermoe_progress_fn, progress, finermoe_on_progress)
%host_function(finermoe_log_fn, sink, finermoe_on_log)
%host_function(finermoe_executor_fn, executor, finermoe_on_execute)

/* One task of those that Callback.execute has to run. */
%inline %{
static void finermoe_task_run(int64_t task, int64_t task_data, size_t index) {
  ((finermoe_task_fn)(intptr_t)task)((void *)(intptr_t)task_data, index);
}
%}

/* --- Strings --- */
%typemap(jni) (const char *TEXT, size_t LENGTH), const char * "jbyteArray"
%typemap(jtype) (const char *TEXT, size_t LENGTH), const char * "byte[]"
%typemap(jstype) (const char *TEXT, size_t LENGTH), const char * "String"
%typemap(javain) (const char *TEXT, size_t LENGTH) "Utf8.encode($javainput)"
%typemap(javain) const char * "Utf8.terminated($javainput)"
%typemap(in) (const char *TEXT, size_t LENGTH) %{
  $1 = NULL;
  $2 = 0;
  if ($input != NULL) {
    $1 = (char *)(*jenv)->GetByteArrayElements(jenv, $input, NULL);
    if (finermoe_lacks(jenv, $1)) return $null;
    $2 = (size_t)(*jenv)->GetArrayLength(jenv, $input);
  }
%}
%typemap(freearg) (const char *TEXT, size_t LENGTH) %{
  if ($input != NULL) (*jenv)->ReleaseByteArrayElements(jenv, $input, (jbyte *)$1, JNI_ABORT);
%}
%typemap(in) const char * %{
  $1 = NULL;
  if ($input != NULL) {
    $1 = (char *)(*jenv)->GetByteArrayElements(jenv, $input, NULL);
    if (finermoe_lacks(jenv, $1)) return $null;
  }
%}
%typemap(freearg) const char * %{
  if ($input != NULL) (*jenv)->ReleaseByteArrayElements(jenv, $input, (jbyte *)$1, JNI_ABORT);
%}
%typemap(out) const char *, char [ANY] "$result = $1 ? finermoe_bytes(jenv, $1, strlen($1)) : NULL;"
%typemap(out) const char *text "$result = $1 ? finermoe_bytes(jenv, $1, arg1->text_length) : NULL;"
%typemap(jni) char [ANY] "jbyteArray"
%typemap(jtype) char [ANY] "byte[]"
%typemap(jstype) char [ANY] "String"
%typemap(javaout) const char *, char [ANY] {
    return Utf8.decode($jnicall);
  }

/* A path is bytes that need not be text. */
%typemap(jstype) const char *path, const char *out_path, const char *dense_path, const char *config_path,
                 const char *module "java.nio.file.Path"
%typemap(javain) const char *path, const char *out_path, const char *dense_path, const char *config_path,
                 const char *module "Utf8.path($javainput)"

/* Bytes: an array, or a direct buffer, whose memory stays where it is. */
%typemap(jni) (const char *BYTES, size_t LENGTH) "jobject"
%typemap(jtype) (const char *BYTES, size_t LENGTH) "Object"
%typemap(jstype) (const char *BYTES, size_t LENGTH) "Object"
%typemap(javain) (const char *BYTES, size_t LENGTH) "$javainput"
%typemap(in) (const char *BYTES, size_t LENGTH) (jbyteArray from = NULL) %{
  $1 = NULL;
  $2 = 0;
  if ($input != NULL && (*jenv)->IsInstanceOf(jenv, $input, finermoe_java.bytes)) {
    from = (jbyteArray)$input;
    $1 = ($1_ltype)(*jenv)->GetByteArrayElements(jenv, from, NULL);
    if (finermoe_lacks(jenv, $1)) return $null;
    $2 = (size_t)(*jenv)->GetArrayLength(jenv, from);
  } else if ($input != NULL) {
    $1 = ($1_ltype)(*jenv)->GetDirectBufferAddress(jenv, $input);
    $2 = (size_t)(*jenv)->GetDirectBufferCapacity(jenv, $input);
    if (finermoe_is_null(jenv, $1, "not a direct buffer")) return $null;
  }
%}
%typemap(freearg) (const char *BYTES, size_t LENGTH) %{
  if (from$argnum != NULL) (*jenv)->ReleaseByteArrayElements(jenv, from$argnum, (jbyte *)$1, JNI_ABORT);
%}

/* A descriptor is Java's own object, whose number Java tells nobody but native code. */
%typemap(jni) int fd "jobject"
%typemap(jtype) int fd "java.io.FileDescriptor"
%typemap(jstype) int fd "java.io.FileDescriptor"
%typemap(javain) int fd "$javainput"
%typemap(in) int fd %{
  if (finermoe_is_null(jenv, $input, "no descriptor")) return $null;
  $1 = (int)(*jenv)->GetIntField(jenv, $input, finermoe_java.descriptor);
%}

%typemap(jni) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "jobjectArray"
%typemap(jtype) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "byte[][]"
%typemap(jstype) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "byte[][]"
%typemap(javain) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "$javainput"
%typemap(in) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED) %{
  if (finermoe_is_null(jenv, $input, "no array to put the result into")) return $null;
  $1 = NULL;
  $2 = 0;
  finermoe_out fm_room = {(void **)&$1, &$2, 0, 1}, *fm_out = &fm_room;
  $3 = &fm_out->count;
%}
%typemap(argout) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED) %{
  if (finermoe_succeeded(jenv, result)) {
    jbyteArray bytes = finermoe_bytes(jenv, (const char *)$1, *$3);
    if (bytes != NULL) (*jenv)->SetObjectArrayElement(jenv, $input, 0, bytes);
  }
%}
%typemap(freearg) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "free($1);"

/* --- Arrays --- */
%define %array(T, Jni, Java, Elements)
%{
_Static_assert(sizeof(T) == sizeof(Jni), "an array of " #T " is one of " #Java);
static inline Jni##Array finermoe_##T##_to(JNIEnv *env, const T *data, size_t n) {
  if (n > INT_MAX) {
    SWIG_JavaThrowException(env, SWIG_JavaOutOfMemoryError, "more elements than a Java array can hold");
    return NULL;
  }
  Jni##Array array = (*env)->New##Elements##Array(env, (jsize)n);
  if (array != NULL) (*env)->Set##Elements##ArrayRegion(env, array, 0, (jsize)n, (const Jni *)data);
  return array;
}
%}
%typemap(jni) (const T *ARRAY, size_t LENGTH), const T *ARRAY #Jni "Array"
%typemap(jtype) (const T *ARRAY, size_t LENGTH), const T *ARRAY #Java "[]"
%typemap(jstype) (const T *ARRAY, size_t LENGTH), const T *ARRAY #Java "[]"
%typemap(javain) (const T *ARRAY, size_t LENGTH) "$javainput"
%typemap(in) (const T *ARRAY, size_t LENGTH) {
  $1 = NULL;
  $2 = 0;
  if ($input != NULL) {
    $1 = (T *)(*jenv)->Get##Elements##ArrayElements(jenv, $input, NULL);
    if (finermoe_lacks(jenv, $1)) return $null;
    $2 = (size_t)(*jenv)->GetArrayLength(jenv, $input);
  }
}
%typemap(freearg) (const T *ARRAY, size_t LENGTH) %{
  if ($input != NULL) (*jenv)->Release##Elements##ArrayElements(jenv, $input, (Jni *)$1, JNI_ABORT);
%}

%typemap(jni) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) "jobjectArray"
%typemap(jtype) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) #Java "[][]"
%typemap(jstype) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) #Java "[][]"
%typemap(javain) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) "$javainput"
%typemap(in) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) %{
  if (finermoe_is_null(jenv, $input, "no array to put the result into")) return $null;
  $1 = NULL;
  $2 = 0;
  finermoe_out fm_room = {(void **)&$1, &$2, 0, sizeof *$1}, *fm_out = &fm_room;
  $3 = &fm_out->count;
%}
%typemap(argout) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) {
  if (finermoe_succeeded(jenv, result)) {
    Jni##Array array = finermoe_##T##_to(jenv, $1, *$3);
    if (array != NULL) (*jenv)->SetObjectArrayElement(jenv, $input, 0, array);
  }
}
%typemap(freearg) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) "free($1);"
%enddef
%array(int32_t, jint, int, Int)
%array(size_t, jlong, long, Long)
%array(uint64_t, jlong, long, Long)
%array(float, jfloat, float, Float)

/* Of floats, rows as they are pinned above. */
%typemap(jni) (float *ARRAY, size_t CAPACITY, size_t *NEEDED), (const float *ARRAY, size_t LENGTH) "jobject"
%typemap(jtype) (float *ARRAY, size_t CAPACITY, size_t *NEEDED), (const float *ARRAY, size_t LENGTH) "Object"
%typemap(jstype) (float *ARRAY, size_t CAPACITY, size_t *NEEDED), (const float *ARRAY, size_t LENGTH) "Object"
%typemap(javain) (float *ARRAY, size_t CAPACITY, size_t *NEEDED), (const float *ARRAY, size_t LENGTH) "$javainput"
%typemap(in) (float *ARRAY, size_t CAPACITY, size_t *NEEDED) %{
  finermoe_pin fm_pinned = {NULL, NULL, 0}, *fm_pin = &fm_pinned;
  if (!finermoe_pin_floats(jenv, fm_pin, $input)) return $null;
  $1 = fm_pin->data;
  $2 = fm_pin->count;
  $3 = NULL;
%}
%typemap(in) (const float *ARRAY, size_t LENGTH) %{
  finermoe_pin fm_pinned = {NULL, NULL, 0}, *fm_pin = &fm_pinned;
  if (!finermoe_pin_floats(jenv, fm_pin, $input)) return $null;
  $1 = fm_pin->data;
  $2 = fm_pin->count;
%}
%typemap(argout) (float *ARRAY, size_t CAPACITY, size_t *NEEDED) ""
%typemap(freearg) (float *ARRAY, size_t CAPACITY, size_t *NEEDED), (const float *ARRAY, size_t LENGTH) ""

/* Two arrays that come out together, the second with PER elements for one of the first: the elements 0 and 1 of an
 * array of objects. There is room for the result of a short text from the start. */
%define %two_arrays(T, Second, PER)
%typemap(jni) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "jobjectArray"
%typemap(jtype) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "Object[]"
%typemap(jstype) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "Object[]"
%typemap(javain) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "$javainput"
%typemap(in) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) %{
  if (finermoe_is_null(jenv, $input, "no array to put the result into")) return $null;
  $3 = 256;
  $1 = malloc($3 * sizeof *$1);
  $2 = malloc($3 * PER * sizeof *$2);
  if ($1 == NULL || $2 == NULL) $3 = 0;
  finermoe_out fm_room = {(void **)&$1, &$3, 0, sizeof *$1}, *fm_out = &fm_room;
  finermoe_second fm_seconds = {(void **)&$2, PER * sizeof *$2}, *fm_second = &fm_seconds;
  $4 = &fm_out->count;
%}
%typemap(argout) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) {
  if (finermoe_succeeded(jenv, result)) {
    jobject first = finermoe_##T##_to(jenv, $1, *$4);
    jobject second = first ? finermoe_##Second##_to(jenv, $2, PER * *$4) : NULL;
    if (second != NULL) {
      (*jenv)->SetObjectArrayElement(jenv, $input, 0, first);
      (*jenv)->SetObjectArrayElement(jenv, $input, 1, second);
    }
  }
}
%typemap(freearg) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "free($1); free($2);"
%enddef
%two_arrays(int32_t, uint64_t, 2)
%two_arrays(float, int32_t, 1)

/* --- Numbers: 64 bits are a long, and numbers come out through an array of one --- */
%apply int64_t { uint64_t };
%apply int { uint32_t };
%define %number(T, Jni, Java, Elements)
%typemap(jni) T *OUTPUT #Jni "Array"
%typemap(jtype) T *OUTPUT #Java "[]"
%typemap(jstype) T *OUTPUT #Java "[]"
%typemap(javain) T *OUTPUT "$javainput"
%typemap(in) T *OUTPUT (T number = 0) %{
  if (finermoe_is_null(jenv, $input, "no array to put the result into")) return $null;
  $1 = &number;
%}
%typemap(argout) T *OUTPUT {
  const Jni out = (Jni)*$1;
  if (finermoe_succeeded(jenv, result)) (*jenv)->Set##Elements##ArrayRegion(jenv, $input, 0, 1, &out);
}
%enddef
%number(int32_t, jint, int, Int)
%number(size_t, jlong, long, Long)
%number(uint64_t, jlong, long, Long)
%number(double, jdouble, double, Double)

/* --- Events: fields are written into a NativeEvent; what is empty stays null --- */
%ignore finermoe_event;
%{
static void finermoe_give_event(JNIEnv *env, jobject to, const finermoe_event *event) {
  jbyteArray text = event->text_length ? finermoe_bytes(env, event->text, event->text_length) : NULL;
  jintArray ids = event->n_top ? finermoe_int32_t_to(env, event->top_ids, event->n_top) : NULL;
  jfloatArray logprobs = ids ? finermoe_float_to(env, event->top_logprobs, event->n_top) : NULL;
  if ((*env)->ExceptionCheck(env)) return;
  (*env)->SetIntField(env, to, finermoe_java.event_token, event->token);
  (*env)->SetFloatField(env, to, finermoe_java.event_logprob, event->logprob);
  (*env)->SetIntField(env, to, finermoe_java.event_finish_reason, event->finish_reason);
  (*env)->SetObjectField(env, to, finermoe_java.event_text, text);
  (*env)->SetObjectField(env, to, finermoe_java.event_top_ids, ids);
  (*env)->SetObjectField(env, to, finermoe_java.event_top_logprobs, logprobs);
}
%}
%typemap(jni) finermoe_event *event "jobject"
%typemap(jtype) finermoe_event *event "NativeEvent"
%typemap(jstype) finermoe_event *event "NativeEvent"
%typemap(javain) finermoe_event *event "$javainput"
%typemap(in) finermoe_event *event (finermoe_event given = {.struct_size = sizeof(finermoe_event)}) "$1 = &given;"
%typemap(check) finermoe_event *event ""
%typemap(argout) finermoe_event *event "if (finermoe_succeeded(jenv, result)) finermoe_give_event(jenv, $input, $1);"
