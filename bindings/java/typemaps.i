/* How finermoe.h's conventions look in Java: package finermoe, all functions static in the class Finermoe. */

%javaconst(1);
%pragma(java) jniclasscode=%{
  static {
    System.loadLibrary("finermoe_java");
  }
%}

/* --- Errors: FinermoeException with code, expected and found --- */
%{
static jstring finermoe_to_java(JNIEnv *env, const char *text) {
  const jsize length = (jsize)strlen(text);
  jbyteArray bytes = (*env)->NewByteArray(env, length);
  jclass string = (*env)->FindClass(env, "java/lang/String");
  jstring utf8 = (*env)->NewStringUTF(env, "UTF-8");
  if (bytes == NULL || string == NULL || utf8 == NULL) return NULL;
  jmethodID create = (*env)->GetMethodID(env, string, "<init>", "([BLjava/lang/String;)V");
  if (create == NULL) return NULL;
  (*env)->SetByteArrayRegion(env, bytes, 0, length, (const jbyte *)text);
  return (jstring)(*env)->NewObject(env, string, create, bytes, utf8);
}

static void finermoe_throw(JNIEnv *env, finermoe_status status, finermoe_error *error) {
  jclass class = (*env)->FindClass(env, "finermoe/FinermoeException");
  jmethodID create =
      class ? (*env)->GetMethodID(env, class, "<init>", "(ILjava/lang/String;Ljava/lang/String;Ljava/lang/String;)V")
            : NULL;
  if (create != NULL) {
    jobject exception = (*env)->NewObject(env, class, create, (jint)status,
                                          finermoe_to_java(env, finermoe_error_message(error)),
                                          finermoe_to_java(env, finermoe_error_expected(error)),
                                          finermoe_to_java(env, finermoe_error_found(error)));
    if (exception != NULL) (*env)->Throw(env, (jthrowable)exception);
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
  if ($1 != FINERMOE_OK) finermoe_throw(jenv, $1, fm_error);
%}

/* --- What must be there --- */
%{
static int finermoe_is_null(JNIEnv *env, const void *object, const char *what) {
  if (object == NULL) SWIG_JavaThrowException(env, SWIG_JavaNullPointerException, what);
  return object == NULL;
}
%}

/* --- Objects: made empty, filled by a call, closed by try-with-resources or close() --- */
%typemap(javainterfaces) SWIGTYPE "AutoCloseable"
%typemap(javafinalize) SWIGTYPE ""
%typemap(javadestruct, methodname="close", methodmodifiers="public synchronized", parameters="") SWIGTYPE {
    if (swigCPtr != 0 && swigCMemOwn) $jnicall;
    swigCPtr = 0;
  }

%typemap(javabody) SWIGTYPE %{
  private long swigCPtr;
  private boolean swigCMemOwn;

  $javaclassname(long pointer, boolean own) {
    swigCPtr = pointer;
    swigCMemOwn = own;
  }

  static long getCPtr($javaclassname object) {
    return object == null ? 0 : object.swigCPtr;
  }

  synchronized void take(long pointer) {
    if (pointer == 0) return;
    close();
    swigCPtr = pointer;
    swigCMemOwn = true;
  }
%}

%define %handle_out(Type, Class)
%typemap(javacode) struct Type %{
  public Class() {
    this(0, false);
  }
%}
%typemap(jni) Type ** "jlongArray"
%typemap(jtype) Type ** "long[]"
%typemap(jstype) Type ** "Class"
%typemap(javain, pre="    long[] taken$javainput = {0};", post="      $javainput.take(taken$javainput[0]);") Type **
  "taken$javainput"
%typemap(in) Type ** (Type *made = NULL) "$1 = &made;"
%typemap(argout) Type ** {
  const jlong taken = (jlong)(intptr_t)*$1;
  if (result == FINERMOE_OK) (*jenv)->SetLongArrayRegion(jenv, $input, 0, 1, &taken);
}
%enddef

%define %struct_out(Type, parameter, KEEP, DROP)
%typemap(check) Type *parameter "if ($1 != NULL) DROP($1);"
%typemap(argout) Type *parameter "if ($1 != NULL) KEEP($1);"
%enddef

/* --- Strings: String in and out, as true UTF-8 (JNI's own form of UTF-8 is another) --- */
%typemap(jni) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH), const char * "jbyteArray"
%typemap(jtype) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH), const char * "byte[]"
%typemap(jstype) (const char *TEXT, size_t LENGTH), const char * "String"
%typemap(jstype) (const char *BYTES, size_t LENGTH) "byte[]"
%typemap(javain) (const char *TEXT, size_t LENGTH), const char *
  "($javainput == null ? null : $javainput.getBytes(java.nio.charset.StandardCharsets.UTF_8))"
%typemap(javain) (const char *BYTES, size_t LENGTH) "$javainput"
%typemap(in) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH) %{
  $1 = NULL;
  $2 = 0;
  if ($input != NULL) {
    $1 = (char *)(*jenv)->GetByteArrayElements(jenv, $input, NULL);
    $2 = (size_t)(*jenv)->GetArrayLength(jenv, $input);
    if ($1 == NULL) return $null;
  }
%}
%typemap(freearg) (const char *TEXT, size_t LENGTH), (const char *BYTES, size_t LENGTH) %{
  if ($input != NULL) (*jenv)->ReleaseByteArrayElements(jenv, $input, (jbyte *)$1, JNI_ABORT);
%}
%typemap(in) const char * %{
  $1 = NULL;
  if ($input != NULL) {
    const jsize length = (*jenv)->GetArrayLength(jenv, $input);
    $1 = calloc((size_t)length + 1, 1);
    if ($1 == NULL) return $null;
    (*jenv)->GetByteArrayRegion(jenv, $input, 0, length, (jbyte *)$1);
  }
%}
%typemap(freearg) const char * "free($1);"
%{
static jbyteArray finermoe_bytes(JNIEnv *env, const char *data, size_t n) {
  jbyteArray bytes = (*env)->NewByteArray(env, (jsize)n);
  if (bytes != NULL) (*env)->SetByteArrayRegion(env, bytes, 0, (jsize)n, (const jbyte *)data);
  return bytes;
}
%}
%typemap(out) const char * "$result = $1 ? finermoe_bytes(jenv, $1, strlen($1)) : NULL;"
%typemap(javaout) const char * {
    byte[] bytes = $jnicall;
    return bytes == null ? null : new String(bytes, java.nio.charset.StandardCharsets.UTF_8);
  }

%typemap(jni) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "jobjectArray"
%typemap(jtype) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "byte[][]"
%typemap(jstype) (char *TEXT, size_t CAPACITY, size_t *NEEDED) "String[]"
%typemap(jstype) (char *BYTES, size_t CAPACITY, size_t *NEEDED) "byte[][]"
%typemap(javain, pre="    byte[][] bytes$javainput = {{}};",
         post="      $javainput[0] = new String(bytes$javainput[0], java.nio.charset.StandardCharsets.UTF_8);")
  (char *TEXT, size_t CAPACITY, size_t *NEEDED) "bytes$javainput"
%typemap(javain) (char *BYTES, size_t CAPACITY, size_t *NEEDED) "$javainput"
%typemap(in) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED) %{
  if (finermoe_is_null(jenv, $input, "no array to put the result into")) return $null;
  $1 = NULL;
  $2 = 0;
  finermoe_out fm_room = {(void **)&$1, &$2, 0, 1}, *fm_out = &fm_room;
  $3 = &fm_out->count;
%}
%typemap(argout) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED) %{
  if (result == FINERMOE_OK) (*jenv)->SetObjectArrayElement(jenv, $input, 0, finermoe_bytes(jenv, $1, *$3));
%}
%typemap(freearg) (char *TEXT, size_t CAPACITY, size_t *NEEDED), (char *BYTES, size_t CAPACITY, size_t *NEEDED)
  "free($1);"

/* --- Arrays: in as they are, out through the one element of an array of arrays --- */
%define %array(T, Jni, Java, Elements)
%{
static inline T *finermoe_##T##_from(JNIEnv *env, Jni##Array array, size_t *n) {
  *n = (size_t)(*env)->GetArrayLength(env, array);
  T *data = calloc(*n + 1, sizeof *data);
  Jni *elements = (*env)->Get##Elements##ArrayElements(env, array, NULL);
  for (size_t i = 0; data != NULL && elements != NULL && i < *n; ++i) data[i] = (T)elements[i];
  if (elements != NULL) (*env)->Release##Elements##ArrayElements(env, array, elements, JNI_ABORT);
  return data;
}
static inline Jni##Array finermoe_##T##_to(JNIEnv *env, const T *data, size_t n) {
  Jni##Array array = (*env)->New##Elements##Array(env, (jsize)n);
  Jni *elements = array ? (*env)->Get##Elements##ArrayElements(env, array, NULL) : NULL;
  for (size_t i = 0; elements != NULL && i < n; ++i) elements[i] = (Jni)data[i];
  if (elements != NULL) (*env)->Release##Elements##ArrayElements(env, array, elements, 0);
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
  if ($input != NULL && ($1 = finermoe_##T##_from(jenv, $input, &$2)) == NULL) return $null;
}
%typemap(freearg) (const T *ARRAY, size_t LENGTH) "free($1);"

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
  if (result == FINERMOE_OK) (*jenv)->SetObjectArrayElement(jenv, $input, 0, finermoe_##T##_to(jenv, $1, *$3));
}
%typemap(freearg) (T *ARRAY, size_t CAPACITY, size_t *NEEDED) "free($1);"

%typemap(javaout) const T *ARRAY {
    return $jnicall;
  }
%enddef
%array(int32_t, jint, int, Int)
%array(size_t, jlong, long, Long)
%array(uint64_t, jlong, long, Long)
%array(float, jfloat, float, Float)

/* Of two arrays that come out together, the first. */
%define %first_array(T, Second, Java)
%typemap(jni) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "jobjectArray"
%typemap(jtype) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) #Java "[][]"
%typemap(jstype) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) #Java "[][]"
%typemap(javain) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "$javainput"
%typemap(freearg) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) "free($1);"
%typemap(in) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) %{
  if (finermoe_is_null(jenv, $input, "no array to put the result into")) return $null;
  $1 = NULL;
  $2 = NULL;
  $3 = 0;
  finermoe_out fm_room = {(void **)&$1, &$3, 0, sizeof *$1}, *fm_out = &fm_room;
  $4 = &fm_out->count;
%}
%typemap(argout) (T *FIRST, Second *SECOND, size_t CAPACITY, size_t *NEEDED) {
  if (result == FINERMOE_OK) (*jenv)->SetObjectArrayElement(jenv, $input, 0, finermoe_##T##_to(jenv, $1, *$4));
}
%enddef
%first_array(int32_t, uint64_t, int)
%first_array(float, int32_t, float)

/* --- Numbers: 64 bits are a long, and numbers come out through an array of one --- */
%apply int64_t { uint64_t };
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
  if (result == FINERMOE_OK) (*jenv)->Set##Elements##ArrayRegion(jenv, $input, 0, 1, &out);
}
%enddef
%number(int32_t, jint, int, Int)
%number(size_t, jlong, long, Long)
%number(uint64_t, jlong, long, Long)
%number(double, jdouble, double, Double)

/* --- The fields of an event that come as pointer and length --- */
%typemap(out) const char *text "$result = finermoe_bytes(jenv, $1, arg1->text_length);"
%apply const int32_t *ARRAY { const int32_t *top_ids };
%apply const float *ARRAY { const float *top_logprobs };
%typemap(out) const int32_t *top_ids "$result = finermoe_int32_t_to(jenv, $1, arg1->n_top);"
%typemap(out) const float *top_logprobs "$result = finermoe_float_to(jenv, $1, arg1->n_top);"
%typemap(check) SWIGTYPE *self %{
  if (finermoe_is_null(jenv, $1, "the object is closed")) return $null;
%}
