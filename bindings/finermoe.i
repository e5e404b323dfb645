/* finermoe.i: one SWIG interface over finermoe.h, for Python, Java and Go.
 *
 * Nothing of the header is repeated here. Its conventions are regular, so typemaps are applied by pattern:
 *
 *   finermoe_status             FINERMOE_OK is nothing; an error is an exception (Python, Java) or an `error` (Go)
 *   finermoe_error **error      hidden: it becomes that exception
 *   finermoe_x **x              a new object: returned (Python), or put into a variable of the caller (Java, Go)
 *   (data, length)              a native string or array, in
 *   (data, capacity, needed)    a native string or array, out, whatever its size
 *   finermoe_x_info *info       a new object with fields to read (Python), or one that the caller made (Java, Go)
 *   finermoe_x_free             hidden where the garbage collector frees (Python)
 */
#ifdef SWIGJAVA
%module(jniclassname="NativeJNI") Native
#else
%module(threads="1") finermoe
#endif

%{
#include <stdlib.h>
#include <string.h>

#include "finermoe.h"
%}
%include <stdint.i>

#ifndef SWIGGO /* which reads what a struct points to before its owner changes */
%{
/* What a read-out struct points to lives only as long as its owner, a native object longer: it gets copies. */
static void *finermoe_copy(const void *data, size_t size) {
  char *copy = calloc(1, size + 1);
  if (copy != NULL && size > 0) memcpy(copy, data, size);
  return copy;
}
static void finermoe_chat_message_keep(finermoe_chat_message *message) {
  message->role = finermoe_copy(message->role, message->role ? strlen(message->role) : 0);
  message->text = finermoe_copy(message->text, message->text_length);
  if (message->text == NULL) message->text_length = 0;
}
static void finermoe_chat_message_drop(finermoe_chat_message *message) {
  free((void *)message->role);
  free((void *)message->text);
  *message = (finermoe_chat_message){.struct_size = sizeof *message};
}
static void finermoe_verification_file_keep(finermoe_verification_file *file) {
  file->name = finermoe_copy(file->name, file->name ? strlen(file->name) : 0);
  file->sha256 = finermoe_copy(file->sha256, file->sha256 ? strlen(file->sha256) : 0);
  file->first_bad = finermoe_copy(file->first_bad, file->first_bad ? strlen(file->first_bad) : 0);
}
static void finermoe_verification_file_drop(finermoe_verification_file *file) {
  free((void *)file->name);
  free((void *)file->sha256);
  free((void *)file->first_bad);
  *file = (finermoe_verification_file){.struct_size = sizeof *file};
}
%}
#endif

/* --- Names: without the prefix, in the language's own case. SWIG applies one rule to a name: five words are told apart
 * here, as many as the header uses. --- */
#ifdef SWIGPYTHON
%rename("%(strip:[finermoe_])s", %$isfunction) "";
#elif defined(SWIGJAVA)
%rename("%(regex:/^finermoe_([^_]+)_?([^_]*)_?([^_]*)_?([^_]*)_?(.*)$/\\1\\u\\2\\u\\3\\u\\4\\u\\5/)s", %$isfunction) "";
%rename("%(lowercamelcase)s", %$isvariable) "";
#elif defined(SWIGGO)
%rename("%(regex:/^finermoe_([^_]+)_?([^_]*)_?([^_]*)_?([^_]*)_?(.*)$/\\u\\1\\u\\2\\u\\3\\u\\4\\u\\5/)s", %$isfunction) "";
%rename("%(camelcase)s", %$isvariable) "";
#endif
%rename("%(strip:[FINERMOE_])s", %$isconstant) "";
%rename("%(strip:[FINERMOE_])s", %$isenumitem) "";
#ifdef SWIGJAVA
%rename("%(regex:/^finermoe_([^_]+)_?([^_]*)_?([^_]*)$/Native\\u\\1\\u\\2\\u\\3/)s", %$isclass) "";
#else
%rename("%(regex:/^finermoe_([^_]+)_?([^_]*)_?([^_]*)$/\\u\\1\\u\\2\\u\\3/)s", %$isclass) "";
#endif

/* --- What no user of the low layer needs --- */
#ifndef SWIGGO /* whose upper layer makes errors of failures */
%rename("$ignore", regextarget=1) "^finermoe_error";
#endif
#ifdef SWIGPYTHON /* whose objects free what they stand for */
%rename("$ignore", regextarget=1) "_free$";
#endif
%rename("$ignore", regextarget=1) "^(struct_size|reserved)$";
%immutable;

#ifdef SWIGPYTHON
%include "python/typemaps.i"
#elif defined(SWIGJAVA)
%include "java/typemaps.i"
#elif defined(SWIGGO)
%include "go/typemaps.i"
#endif

/* --- Objects: the %handle of each language makes types of them. Any order of freeing is allowed, so no object needs to
 * know of another. --- */
%handle(cancel, Cancel)
%handle(runtime_options, RuntimeOptions)
%handle(runtime, Runtime)
%handle(config, Config)
%handle(plan_options, PlanOptions)
%handle(model_options, ModelOptions)
%handle(model, Model)
%handle(tokenizer, Tokenizer)
%handle(decoder, Decoder)
%handle(chat, Chat)
%handle(session_options, SessionOptions)
%handle(session, Session)
%handle(trace, Trace)
%handle(generation_options, GenerationOptions)
%handle(generation, Generation)
%handle(batch, Batch)
%handle(sampler, Sampler)
%handle(writer_options, WriterOptions)
%handle(upcycle_options, UpcycleOptions)
%handle(quantize_options, QuantizeOptions)
%handle(verification, Verification)

/* --- Structs to read: KEEP and DROP say how their pointers are copied and freed. --- */
#ifndef SWIGGO
%define %readout(Name, parameter, Class, KEEP, DROP)
%struct_out(finermoe_##Name, parameter, KEEP, DROP)
%extend finermoe_##Name {
  finermoe_##Name() {
    finermoe_##Name *info = calloc(1, sizeof *info);
    if (info != NULL) info->struct_size = sizeof *info;
    return info;
  }
  ~finermoe_##Name() {
    DROP($self);
    free($self);
  }
}
%enddef
#endif

%readout(system_info, info, SystemInfo, (void), (void))
%readout(device_info, info, DeviceInfo, (void), (void))
%readout(runtime_info, info, RuntimeInfo, (void), (void))
%readout(runtime_operation, operation, RuntimeOperation, (void), (void))
%readout(config_info, info, ConfigInfo, (void), (void))
%readout(plan, plan, Plan, (void), (void))
%readout(expert_cache_info, info, ExpertCacheInfo, (void), (void))
%readout(tokenizer_info, info, TokenizerInfo, (void), (void))
%readout(chat_message, message, ChatMessage, finermoe_chat_message_keep, finermoe_chat_message_drop)
%readout(session_info, info, SessionInfo, (void), (void))
%readout(trace_info, info, TraceInfo, (void), (void))
%readout(generation_options_info, info, GenerationOptionsInfo, (void), (void))
#ifdef SWIGGO /* Python and Java have typemaps of their own for it */
%readout(event, event, Event, (void), (void))
#endif
%readout(generation_info, info, GenerationInfo, (void), (void))
%readout(verification_file, file, VerificationFile, finermoe_verification_file_keep, finermoe_verification_file_drop)

/* --- Strings, arrays and numbers --- */
%apply (const char *TEXT, size_t LENGTH) {
  (const char *text, size_t text_length), (const char *json, size_t json_length),
  (const char *config_json, size_t config_json_length)
};
%apply (const char *BYTES, size_t LENGTH) {
  (const char *bytes, size_t bytes_length), (const void *data, size_t size)
};
%apply (const int32_t *ARRAY, size_t LENGTH) { (const int32_t *ids, size_t n_ids) };
%apply (const size_t *ARRAY, size_t LENGTH) { (const size_t *rows, size_t n_rows) };
%apply (const float *ARRAY, size_t LENGTH) { (const float *logits, size_t n_logits) };

#ifndef SWIGGO /* where each pointer that a call fills is an argument of its own */
%apply (char *TEXT, size_t CAPACITY, size_t *NEEDED) {
  (char *text, size_t capacity, size_t *needed), (char *json, size_t capacity, size_t *needed)
};
%apply (char *BYTES, size_t CAPACITY, size_t *NEEDED) {
  (char *bytes, size_t capacity, size_t *needed), (void *data, size_t capacity, size_t *needed)
};
%apply (int32_t *ARRAY, size_t CAPACITY, size_t *NEEDED) {
  (int32_t *ids, size_t capacity, size_t *needed), (int32_t *experts, size_t capacity, size_t *needed),
  (int32_t *groups, size_t capacity, size_t *needed)
};
%apply (float *ARRAY, size_t CAPACITY, size_t *NEEDED) {
  (float *logits, size_t capacity, size_t *needed), (float *weights, size_t capacity, size_t *needed),
  (float *hidden, size_t capacity, size_t *needed)
};
%apply (size_t *ARRAY, size_t CAPACITY, size_t *NEEDED) {
  (size_t *layers, size_t capacity, size_t *needed), (size_t *positions, size_t capacity, size_t *needed)
};
%apply (uint64_t *ARRAY, size_t CAPACITY, size_t *NEEDED) { (uint64_t *counts, size_t capacity, size_t *needed) };

%apply (int32_t *FIRST, uint64_t *SECOND, size_t CAPACITY, size_t *NEEDED) {
  (int32_t *ids, uint64_t *offsets, size_t capacity, size_t *needed)
};
%apply (float *FIRST, int32_t *SECOND, size_t CAPACITY, size_t *NEEDED) {
  (float *logprobs, int32_t *likeliest, size_t capacity, size_t *needed)
};
#endif

%apply size_t *OUTPUT { size_t *count, size_t *n_active, size_t *n_kept };
%apply uint64_t *OUTPUT { uint64_t *tag };
%apply int32_t *OUTPUT { int32_t *id, int32_t *kind };
%apply double *OUTPUT { double *similarity, double *loss };

%include "finermoe.h"
