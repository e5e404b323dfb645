/* finermoe.h: the C API of libfinermoe, the runtime for FineRMoE language models.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * This header is the manual and the only contract. It compiles as C99 and as C++11.
 *
 * MAP
 *   1. Status and errors      codes, finermoe_error
 *   2. Cancel, callbacks      finermoe_cancel; progress, log and executor callbacks
 *   3. Runtime                threads, instruction set, memory limit          finermoe_runtime
 *   4. Configuration, plan    a model's shape and memory, without loading it  finermoe_config
 *   5. Model                  a mapped checkpoint                             finermoe_model
 *   6. Tokenizer and text     text <-> ids, chat, streaming text   finermoe_tokenizer, _chat, _decoder
 *   7. Session                a KV cache: append tokens, read logits          finermoe_session
 *   8. Trace                  what the router did                             finermoe_trace
 *   9. Generation, batch      one request; many at once      finermoe_generation, finermoe_batch
 *  10. Writers and checks     upcycle, quantize, synthesize, verify
 *
 * HOW A PROGRAM FLOWS
 *   finermoe_model_open -> finermoe_session_create -> finermoe_generation_create_text
 *   -> finermoe_generation_next until finish_reason is set -> free everything, in any order.
 *
 * RULES THAT HOLD EVERYWHERE (said once here, repeated below only where something differs)
 *   Errors       A function that can fail returns finermoe_status: FINERMOE_OK (0) or a negative code of section 1, and
 *                takes as its last parameter `finermoe_error **error`, which may be NULL. On failure *error is set to
 *                a new object that the caller frees; on success it is set to NULL. A failed call leaves its outputs
 *                (except *needed) untouched and every object usable. The library never prints, aborts, exits,
 *                throws or installs a signal handler.
 *   Ownership    An object returned by a `_create…`, `_open…`, `_run`, `_fork`, `_copy` or `_restore_memory` call
 *                belongs to the caller, who frees it once with its `_free`. The order does not matter: a session keeps
 *                its model alive, a model its runtime. `_free(NULL)` does nothing. Inputs are copied unless a function
 *                says otherwise.
 *   Threads      Runtime, configuration, model, tokenizer and cancel objects may be used by any number of threads at
 *                once. Session, generation, batch, trace, decoder, chat and option objects may be used by one thread
 *                at a time; a call on a session, generation or batch that another thread is using returns
 *                FINERMOE_ERROR_BUSY and does no harm. Any thread may call any `_close`, any number of times: it
 *                cancels what is running on the object and makes later calls return FINERMOE_ERROR_CLOSED. `_free`
 *                while another thread's call is running is safe; starting a call during or after `_free` is a bug.
 *   fork()       A child process may free the objects it inherited, at any time and in any order, and may use those
 *                that are plain data (configuration, tokenizer, decoder, chat, sampler, options, cancel, error). Any
 *                other call on an inherited runtime, model, session, generation, batch or trace returns
 *                FINERMOE_ERROR_STATE; objects that the child creates itself work normally.
 *   Callbacks    run only on the thread that made the API call, and only during that call.
 *   Strings      Text is UTF-8, given as pointer and length; paths are NUL-terminated. Strings and arrays are returned
 *                through (buffer, capacity, needed): *needed receives the full count, and if it exceeds
 *                `capacity` the call returns FINERMOE_ERROR_BUFFER_TOO_SMALL, writes nothing else and consumes
 *                nothing. `needed` may be NULL. A NULL buffer with capacity 0 queries the size. Text is written
 *                without a terminating NUL and counted in bytes.
 *   Structs      Output structs begin with `uint32_t struct_size`, which the caller sets to the sizeof the struct it
 *                was compiled with; the library writes no more than that. New fields are only ever appended.
 *   Values       Counts and indices, and sizes of memory that the caller passes, are size_t; all other byte counts,
 *                parameter counts and running totals (expert selections, calls, MACs) are uint64_t; token and expert
 *                ids are int32_t (valid ids are never negative; -1 means none).
 *   Stability    Symbols, values of constants and field offsets never change within one ABI version.
 */
#ifndef FINERMOE_H
#define FINERMOE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) && !defined(FINERMOE_API)
#define FINERMOE_API __attribute__((visibility("default")))
#elif !defined(FINERMOE_API)
#define FINERMOE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** @return the library's version, "MAJOR.MINOR.PATCH". Static. @since 0.1 */
FINERMOE_API const char* finermoe_version(void);

/** @return the ABI version, equal to the number in the shared library's soname. @since 0.1 */
FINERMOE_API uint32_t finermoe_abi_version(void);

/* ---------------------------------------------------------------------------------------------------------------
 * 1. Status and errors */

enum {
  FINERMOE_OK = 0,
  /* The call */
  FINERMOE_ERROR_INVALID_ARGUMENT = -1,   /**< a NULL, a value out of its range, a path with a NUL inside */
  FINERMOE_ERROR_BUFFER_TOO_SMALL = -2,   /**< *needed holds the required size; nothing was consumed */
  FINERMOE_ERROR_BUSY = -3,               /**< another thread is using this object */
  FINERMOE_ERROR_CLOSED = -4,             /**< the object was closed */
  FINERMOE_ERROR_CANCELLED = -5,          /**< a cancel object or progress callback asked for it */
  FINERMOE_ERROR_TOKEN_OUT_OF_RANGE = -6, /**< a token id outside [0, vocab_size) */
  FINERMOE_ERROR_CONTEXT_LENGTH = -7, /**< more tokens than the session, or more positions than the model, can hold */
  FINERMOE_ERROR_NO_TOKENIZER = -8,   /**< a text call on a model without tokenizer.json */
  FINERMOE_ERROR_STATE = -9,          /**< the object is in the wrong state for this call */
  FINERMOE_ERROR_UNSUPPORTED = -10,   /**< something this build or machine cannot do, named in the message */
  FINERMOE_ERROR_INTERNAL = -11,      /**< a bug in the library; please report it */
  FINERMOE_ERROR_NOT_FINITE = -12,    /**< a router logit (or a scanned weight) that is NaN or infinite */
  /* Resources */
  FINERMOE_ERROR_OUT_OF_MEMORY = -20, /**< the system refused memory, or a file descriptor */
  FINERMOE_ERROR_MEMORY_LIMIT = -21,  /**< the runtime's own limit would be exceeded; the message has the figures */
  FINERMOE_ERROR_DISK_FULL = -22,     /**< not enough disk space for the output; the message says how much it needs */
  FINERMOE_ERROR_THREAD = -23,        /**< a thread could not be started */
  /* Files */
  FINERMOE_ERROR_FILE_NOT_FOUND = -30,
  FINERMOE_ERROR_FILE_UNREADABLE = -31, /**< permission, a directory in place of a file, a read error */
  FINERMOE_ERROR_FILE_EXISTS = -32,     /**< the output already exists */
  FINERMOE_ERROR_FILE_WRITE = -33,      /**< a write, sync or rename failed */
  FINERMOE_ERROR_SHARD_NOT_FOUND = -34, /**< the index names a shard that does not exist */
  FINERMOE_ERROR_FILE_CHANGED = -35,    /**< a mapped file was truncated after it was opened */
  FINERMOE_ERROR_PATH = -36,            /**< an index entry with a NUL, a separator or ".." in its file name */
  /* safetensors */
  FINERMOE_ERROR_HEADER_TRUNCATED = -40, /**< the file ends inside the header's length or the header */
  FINERMOE_ERROR_HEADER_TOO_LARGE = -41, /**< the header's length is larger than the file or the cap */
  FINERMOE_ERROR_HEADER_MALFORMED = -42, /**< not the JSON that safetensors requires */
  FINERMOE_ERROR_DATA_TRUNCATED = -43,   /**< tensors extend past the end of the file */
  FINERMOE_ERROR_OFFSETS_OVERLAP = -44,
  FINERMOE_ERROR_OFFSETS_INVALID = -45, /**< negative, reversed, overflowing, or inconsistent with the shape */
  FINERMOE_ERROR_TENSOR_DUPLICATE = -46,
  FINERMOE_ERROR_TENSOR_DTYPE = -47,
  FINERMOE_ERROR_TENSOR_SHAPE = -48,    /**< the message names the tensor and the formula of its shape */
  FINERMOE_ERROR_TENSOR_MISSING = -49,  /**< the first three are named, and how many more */
  FINERMOE_ERROR_INDEX_MALFORMED = -50, /**< model.safetensors.index.json */
  /* config.json */
  FINERMOE_ERROR_CONFIG_MALFORMED = -60,    /**< not JSON, or not an object */
  FINERMOE_ERROR_CONFIG_MISSING = -61,      /**< a required value is missing */
  FINERMOE_ERROR_CONFIG_VALUE = -62,        /**< a value of the wrong type, negative, zero or huge */
  FINERMOE_ERROR_CONFIG_INCONSISTENT = -63, /**< values that contradict each other; the message has the numbers */
  FINERMOE_ERROR_MODEL_TYPE = -64,          /**< a model_type that is not finer_moe, qwen2 or qwen2_moe */
  FINERMOE_ERROR_SLIDING_WINDOW = -65,      /**< sliding-window layers without a valid window length */
  FINERMOE_ERROR_ROPE_SCALING = -66, /**< a RoPE scaling that is not supported, or yields non-finite frequencies */
  /* Text */
  FINERMOE_ERROR_TOKENIZER_MALFORMED = -70, /**< not JSON, ids out of range, duplicate tokens */
  FINERMOE_ERROR_TOKENIZER_MERGES = -71,    /**< merges missing, or naming tokens that the vocabulary lacks */
  FINERMOE_ERROR_TOKENIZER_CYCLIC = -72,    /**< a merge whose result is one of its own ancestors */
  FINERMOE_ERROR_TOKENIZER_COMPONENT = -73, /**< an unsupported component, named in the message */
  FINERMOE_ERROR_CHAT_TEMPLATE = -74, /**< no template, or one outside the supported family, named in the message */
  /* Saved sessions, checksums */
  FINERMOE_ERROR_SESSION_MALFORMED = -80, /**< not a session file, another version, truncated, wrong checksum */
  FINERMOE_ERROR_SESSION_MISMATCH = -81,  /**< saved from another model, or with another cache type */
  FINERMOE_ERROR_CHECKSUM = -82,          /**< a file's SHA-256 is not the one expected */
  /* Devices other than the CPU, which works as ever after each of these */
  FINERMOE_ERROR_NO_DRIVER = -90,      /**< the device's driver is not installed, or does not start */
  FINERMOE_ERROR_DRIVER_TOO_OLD = -91, /**< the message says which version it is, and which is needed */
  FINERMOE_ERROR_NO_DEVICE = -92,      /**< the driver finds no device, or not the one that was named */
  FINERMOE_ERROR_DEVICE_MEMORY = -93,  /**< the device has not enough free memory; the message says for what */
  FINERMOE_ERROR_DEVICE_LOST = -94     /**< the device failed while it was used: this process cannot use it again */
};

/** What a function that can fail returns: FINERMOE_OK or one of the codes above. */
typedef int32_t finermoe_status;

/** Describes a failure. Immutable; readable by any thread. */
typedef struct finermoe_error finermoe_error;

/** @return the constant's name, "FINERMOE_ERROR_BUSY"; "FINERMOE_ERROR_UNKNOWN" for other numbers. Static. @since 0.1
 */
FINERMOE_API const char* finermoe_status_name(int32_t status);
/** @return the code; FINERMOE_OK for NULL. @since 0.1 */
FINERMOE_API int32_t finermoe_error_code(const finermoe_error* error);
/** @return one human-readable line, with control characters escaped; "" for NULL. Valid as long as the error, as are
 * the next two. @since 0.1 */
FINERMOE_API const char* finermoe_error_message(const finermoe_error* error);
/** @return what the library expected, "" where that does not apply. @since 0.1 */
FINERMOE_API const char* finermoe_error_expected(const finermoe_error* error);
/** @return what it found instead, "" where that does not apply. @since 0.1 */
FINERMOE_API const char* finermoe_error_found(const finermoe_error* error);
FINERMOE_API void finermoe_error_free(finermoe_error* error);

/* ---------------------------------------------------------------------------------------------------------------
 * 2. Cancel and callbacks */

/** A flag that any thread may raise. Long calls check it between layers, chunks and files, and return
 * FINERMOE_ERROR_CANCELLED: a session never holds half-computed tokens, a writer leaves no file behind. A generation or
 * batch resumes when it is called again. */
typedef struct finermoe_cancel finermoe_cancel;

FINERMOE_API finermoe_status finermoe_cancel_create(finermoe_cancel** cancel, finermoe_error** error);
/** Raises the flag. Safe in a signal handler. */
FINERMOE_API void finermoe_cancel_request(finermoe_cancel* cancel);
/** Clears the flag. */
FINERMOE_API void finermoe_cancel_reset(finermoe_cancel* cancel);
/** @return 1 if raised, else 0 */
FINERMOE_API int32_t finermoe_cancel_requested(const finermoe_cancel* cancel);
FINERMOE_API void finermoe_cancel_free(finermoe_cancel* cancel);

/** Reports the progress of a long call.
 * @param phase  what is being done, one or two words in lower case; valid during the callback
 * @param done   units finished in this phase: bytes, or tokens during prefill
 * @param total  units in this phase altogether
 * @return 0 to go on, anything else to cancel; ignored once no work is left */
typedef int32_t (*finermoe_progress_fn)(void* user, const char* phase, uint64_t done, uint64_t total);

/** A message for the host's log. @param level 0 debug, 1 information, 2 warning */
typedef void (*finermoe_log_fn)(void* user, int32_t level, const char* message);

/** One piece of a parallel computation. */
typedef void (*finermoe_task_fn)(void* task_data, size_t index);

/** A host's own thread pool. Must call task(task_data, i) exactly once for each i in [0, n_tasks), on any threads, and
 * return when all have returned. Called on the thread that made the API call, never re-entered from a task. */
typedef void (*finermoe_executor_fn)(void* user, size_t n_tasks, finermoe_task_fn task, void* task_data);

/* ---------------------------------------------------------------------------------------------------------------
 * 3. Runtime: threads, processor, devices, memory */

/** Instruction sets that the CPU kernels are compiled for. AUTO picks the best one that the machine supports. */
enum {
  FINERMOE_ISA_AUTO = 0,
  FINERMOE_ISA_PORTABLE = 1,
  FINERMOE_ISA_AVX2 = 2,   /**< AVX2, FMA, F16C */
  FINERMOE_ISA_AVX512 = 3, /**< AVX-512 F, BW, VL, DQ, VNNI, BF16 */
  FINERMOE_ISA_AMX = 4     /**< the same, and AMX with BF16 (docs/amx.md) */
};

/** The machine as the library sees it, and how the library was built: what a bug report needs. */
typedef struct finermoe_system_info {
  uint32_t struct_size;
  int32_t isa; /**< the instruction set that FINERMOE_ISA_AUTO picks */
  const char*
      kernels; /**< its kernels: "portable", "avx2", "avx2-vnni", "avx512" or "amx"; static, like the next two */
  const char* compiler;      /**< "GCC 12.2.0", "Clang 14.0.6" */
  const char* build;         /**< the build type: "release", "debug", "release, address sanitizer" */
  uint32_t isas;             /**< instruction sets that the processor supports: bits 1 << FINERMOE_ISA_… */
  uint32_t n_threads;        /**< threads of a runtime by default */
  double processor_quota;    /**< processors that the cgroups of this process grant; 0: no limit */
  uint64_t memory_quota;     /**< bytes that they grant; 0: no limit */
  uint64_t memory_available; /**< bytes that this process could use right now, within that limit */
} finermoe_system_info;

FINERMOE_API finermoe_status finermoe_system_get_info(finermoe_system_info* info, finermoe_error** error);

enum { FINERMOE_DEVICE_CPU = 0, FINERMOE_DEVICE_GPU = 1, FINERMOE_DEVICE_OTHER = 2 };

/** A device that models can run on. Strings are NUL-terminated, and truncated if they do not fit. */
typedef struct finermoe_device_info {
  uint32_t struct_size;
  int32_t kind;              /**< FINERMOE_DEVICE_… */
  char name[32];             /**< the name it is selected by: "cpu", … */
  char description[128];     /**< of the hardware */
  char version[64];          /**< of its software: the CPU's kernels, a driver */
  uint64_t memory;           /**< bytes it has; for the CPU, what this process may use */
  uint64_t memory_available; /**< of these, free right now */
  uint32_t weight_dtypes;    /**< weight types it supports: bits 1 << FINERMOE_DTYPE_… */
  uint32_t kv_dtypes;        /**< KV cache types it supports, likewise */
  int32_t copies_weights;    /**< 1: copies weights to its own memory when a model is opened; 0: uses them in place */
  uint32_t reserved;
} finermoe_device_info;

/** The number of devices on this machine; the first is the CPU. Opens none of them.
 *  @param module  path of a device module (a shared library from the same build as this libfinermoe), whose devices
 *                 count too; it stays loaded. FINERMOE_ERROR_UNSUPPORTED for one from another build; a module without
 *                 a device says why, as by FINERMOE_ERROR_NO_DRIVER. NULL: libfinermoe_cuda.so, if it is in the
 *                 folder that libfinermoe was loaded from or in the one that it was built to be installed in; if it
 *                 is not there, or has no device, that is no error. */
FINERMOE_API finermoe_status finermoe_device_count(const char* module, size_t* count, finermoe_error** error);
/** @param module  as in finermoe_device_count
 *  @param index   below that count, else FINERMOE_ERROR_INVALID_ARGUMENT */
FINERMOE_API finermoe_status finermoe_device_get_info(const char* module, size_t index, finermoe_device_info* info,
                                                      finermoe_error** error);

typedef struct finermoe_model finermoe_model;
typedef struct finermoe_runtime_options finermoe_runtime_options;
/** Worker threads and memory accounting, shared by models opened with it. A model opened without one gets its own. */
typedef struct finermoe_runtime finermoe_runtime;

FINERMOE_API finermoe_status finermoe_runtime_options_create(finermoe_runtime_options** options,
                                                             finermoe_error** error);
FINERMOE_API void finermoe_runtime_options_free(finermoe_runtime_options* options);
/** @param n_threads  number of compute threads, including the calling one; 0 (default): one for each processor that
 *                    this process may use (affinity mask and cgroup quota). Threads start at the first computation
 *                    and sleep between calls. */
FINERMOE_API finermoe_status finermoe_runtime_options_set_threads(finermoe_runtime_options* options, uint32_t n_threads,
                                                                  finermoe_error** error);
/** @param isa  FINERMOE_ISA_…; FINERMOE_ERROR_UNSUPPORTED for one that the machine does not support. A runtime with AMX
 *              asks Linux for the use of tiles, for the whole process; AVX512 avoids that (docs/amx.md). */
FINERMOE_API finermoe_status finermoe_runtime_options_set_isa(finermoe_runtime_options* options, int32_t isa,
                                                              finermoe_error** error);
/** Opens OpenBLAS when the runtime is created, and lets it compute the products that it computes faster than the
 * kernels of this processor (docs/blas.md). It is a copy for this runtime alone, whatever else the process has loaded,
 * and computes on the threads of the runtime; its calls run one after the other if it has no locks, or if concurrent
 * ones prove wrong when it is opened. It is not used if an instruction set is set.
 * @param path  of the library; NULL: OpenBLAS as the system finds it. finermoe_runtime_create returns
 *              FINERMOE_ERROR_FILE_NOT_FOUND if there is none, FINERMOE_ERROR_FILE_UNREADABLE for a file that is no
 *              library, and FINERMOE_ERROR_UNSUPPORTED for one that is not OpenBLAS, computes wrong, has integers of 64
 *              bits or was built with OpenMP. */
FINERMOE_API finermoe_status finermoe_runtime_options_set_blas(finermoe_runtime_options* options, const char* path,
                                                               finermoe_error** error);
/** @param bytes  the most that models, sessions and their scratch may allocate together; 0 (default): no limit. Mapped
 *                file pages, which the system can evict, do not count. */
FINERMOE_API finermoe_status finermoe_runtime_options_set_memory_limit(finermoe_runtime_options* options,
                                                                       uint64_t bytes, finermoe_error** error);
FINERMOE_API finermoe_status finermoe_runtime_options_set_log(finermoe_runtime_options* options, finermoe_log_fn sink,
                                                              void* user, finermoe_error** error);
/** The host's own threads instead of the library's. @param n_threads  how many tasks it can run at once */
FINERMOE_API finermoe_status finermoe_runtime_options_set_executor(finermoe_runtime_options* options,
                                                                   finermoe_executor_fn executor, void* user,
                                                                   uint32_t n_threads, finermoe_error** error);

/** @param profile  1: measure each operation of the models' steps; 0 (default): do not */
FINERMOE_API finermoe_status finermoe_runtime_options_set_profile(finermoe_runtime_options* options, int32_t profile,
                                                                  finermoe_error** error);

/** @param name  of the device that models run on (finermoe_device_info); NULL (default): the CPU. An NVIDIA GPU is
 *               "cuda:0", or "cuda:GPU-" and so much of its UUID that no other GPU's begins like it.
 *               finermoe_runtime_create returns FINERMOE_ERROR_UNSUPPORTED for a name that is no device's here,
 *               FINERMOE_ERROR_NO_DEVICE for one more than there are, or what a device module says. */
FINERMOE_API finermoe_status finermoe_runtime_options_set_device(finermoe_runtime_options* options, const char* name,
                                                                 finermoe_error** error);
/** @param path  a device module, whose devices can then be selected too; NULL (default): libfinermoe_cuda.so, sought
 *               as by finermoe_device_count, and only when a device "cuda:…" is named */
FINERMOE_API finermoe_status finermoe_runtime_options_set_device_module(finermoe_runtime_options* options,
                                                                        const char* path, finermoe_error** error);

/** @param options  NULL for the defaults */
FINERMOE_API finermoe_status finermoe_runtime_create(const finermoe_runtime_options* options,
                                                     finermoe_runtime** runtime, finermoe_error** error);
/** The runtime that a model runs on. */
FINERMOE_API finermoe_status finermoe_runtime_open_model(const finermoe_model* model, finermoe_runtime** runtime,
                                                         finermoe_error** error);
FINERMOE_API void finermoe_runtime_free(finermoe_runtime* runtime);

typedef struct finermoe_runtime_info {
  uint32_t struct_size;
  uint32_t n_threads;
  int32_t isa; /**< the one in use, never AUTO */
  uint32_t reserved;
  uint64_t memory_limit; /**< bytes; 0: none */
  uint64_t memory_used;  /**< bytes currently counted against it */
  uint64_t memory_peak;  /**< the highest memory_used so far */
  char device[32];       /**< the device's name */
  int32_t uses_blas;     /**< 1: a BLAS library computes products here */
  char blas[124];        /**< what the library says of itself: "OpenBLAS 0.3.21 …"; empty if none was opened */
} finermoe_runtime_info;

FINERMOE_API finermoe_status finermoe_runtime_get_info(const finermoe_runtime* runtime, finermoe_runtime_info* info,
                                                       finermoe_error** error);

/** One operation's share of the steps computed since the runtime was created or the profile was reset. */
typedef struct finermoe_runtime_operation {
  uint32_t struct_size;
  uint32_t reserved;
  const char* name; /**< "qkv", "attention", "moe_ffn", …; static */
  uint64_t n_calls;
  double seconds;
  uint64_t bytes; /**< of weights or KV cache that the calls had to read, each counted once per call */
  uint64_t macs;  /**< multiply-accumulates of matrix products; 2 FLOPs each */
} finermoe_runtime_operation;

/** @return the number of operations that the profile distinguishes; 0 without a profile */
FINERMOE_API size_t finermoe_runtime_operation_count(const finermoe_runtime* runtime);
FINERMOE_API finermoe_status finermoe_runtime_get_operation(const finermoe_runtime* runtime, size_t index,
                                                            finermoe_runtime_operation* operation,
                                                            finermoe_error** error);
FINERMOE_API finermoe_status finermoe_runtime_reset_profile(finermoe_runtime* runtime, finermoe_error** error);

/* ---------------------------------------------------------------------------------------------------------------
 * 4. Configuration and plan: everything that can be known without weights */

/** Element types. Checkpoints and KV caches can be F32, F16 or BF16; Q8 and Q4 are the block formats of
 * finermoe_quantize_run, with 8.5 and 4.5 bits per weight. A KV cache can also be Q8. */
enum {
  FINERMOE_DTYPE_F32 = 0,
  FINERMOE_DTYPE_F16 = 1,
  FINERMOE_DTYPE_BF16 = 2,
  FINERMOE_DTYPE_Q8 = 3,
  FINERMOE_DTYPE_Q4 = 4
};

/** A validated configuration. Immutable. */
typedef struct finermoe_config finermoe_config;

/** @param path  a model directory, a config.json, or a single-file model */
FINERMOE_API finermoe_status finermoe_config_open(const char* path, finermoe_config** config, finermoe_error** error);
/** @param json  the text of a config.json */
FINERMOE_API finermoe_status finermoe_config_open_memory(const char* json, size_t json_length, finermoe_config** config,
                                                         finermoe_error** error);
/** The configuration of an open model. The caller frees it. Its tied_embeddings is what the weights really are: 0 even
 * where config.json ties the head, if the files hold a different lm_head.weight. The two tensors are compared at the
 * first call of this function or of one that computes logits. */
FINERMOE_API finermoe_status finermoe_config_open_model(const finermoe_model* model, finermoe_config** config,
                                                        finermoe_error** error);
FINERMOE_API void finermoe_config_free(finermoe_config* config);

/** The shape of a model, in the terms of the paper (arXiv 2603.13364) and of config.json. */
typedef struct finermoe_config_info {
  uint32_t struct_size;
  int32_t dtype;            /**< FINERMOE_DTYPE_… of most of the weights */
  const char* model_type;   /**< "finer_moe", "qwen2", "qwen2_moe"; static */
  size_t hidden_size;       /**< h */
  size_t intermediate_size; /**< H: width of a dense FFN */
  size_t n_layers;
  size_t n_moe_layers;
  size_t n_heads;
  size_t n_kv_heads;
  size_t head_size;           /**< hidden_size / n_heads, or head_dim of config.json */
  size_t vocab_size;          /**< rows of the embedding; may exceed the tokenizer's ids */
  size_t max_positions;       /**< max_position_embeddings, or more where a RoPE scaling extends it */
  size_t granularity_inter;   /**< G_I; 0 in a dense model, as are the next eight */
  size_t expansion_inter;     /**< R_I */
  size_t granularity_output;  /**< G_O */
  size_t expansion_output;    /**< R_O */
  size_t n_experts;           /**< N = G_O R_O G_I R_I (Eq. 5) */
  size_t n_experts_per_token; /**< G_O T_I */
  size_t expert_width;        /**< H_e */
  size_t expert_output_width; /**< h_e = h / G_O */
  size_t shared_expert_width; /**< 0: no shared expert */
  int32_t has_concat_proj;    /**< the flags are 0 or 1 */
  int32_t has_separate_router;
  int32_t norm_topk_prob;
  int32_t tied_embeddings;
  double rms_norm_eps;
  double rope_theta;
  uint64_t parameters_total;      /**< in the checkpoint: embeddings and head counted as stored */
  uint64_t parameters_active;     /**< of these, the ones that one token uses */
  const char* rope_scaling;       /**< of the rotary frequencies: "none", "linear", "yarn", "llama3"; static */
  double rope_factor;             /**< 1 without scaling, as is rope_attention_factor */
  size_t rope_original_positions; /**< positions the model was trained for ("yarn", "llama3"), else 0 */
  double rope_attention_factor;   /**< scales queries and keys ("yarn") */
  size_t sliding_window;          /**< positions that a token attends to in n_sliding_layers layers, itself
                                         included; 0: all layers attend to all */
  size_t n_sliding_layers;
} finermoe_config_info;

FINERMOE_API finermoe_status finermoe_config_get_info(const finermoe_config* config, finermoe_config_info* info,
                                                      finermoe_error** error);
/** The config.json it was read from, byte for byte, for fields that this library does not use. */
FINERMOE_API finermoe_status finermoe_config_get_json(const finermoe_config* config, char* json, size_t capacity,
                                                      size_t* needed, finermoe_error** error);

typedef struct finermoe_session_options finermoe_session_options;

/** The bytes that a model and its sessions will take, known before anything is loaded. Weights are mapped, not
 * allocated, except those that a device with memory of its own copies (device_…: all 0 for another device). */
typedef struct finermoe_plan {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t weights_embeddings; /**< embedding and, where it is not tied, head */
  uint64_t weights_attention;  /**< with biases, and all norms */
  uint64_t weights_dense;      /**< FFNs of dense layers */
  uint64_t weights_shared;     /**< shared experts, their gates, and concat projections */
  uint64_t weights_routed;     /**< routed experts */
  uint64_t weights_router;     /**< router matrices, concat gates included */
  uint64_t weights_total;
  uint64_t kv_cache;            /**< of all sessions */
  uint64_t scratch;             /**< activations of the largest step on all threads, each session's row of logits, and
                                     the pinned memory through which experts are copied to an expert cache */
  uint64_t allocated_total;     /**< kv_cache, scratch, device_weights, expert_cache: what counts against a limit */
  uint64_t bytes_per_token;     /**< weight bytes that decoding one token reads */
  uint64_t weights_every_token; /**< weights that every token reads and that should stay in memory; routed experts and
                                     an untied embedding can be paged in and out */
  uint64_t memory_available;    /**< what this process could use right now, within the limits of its cgroups */
  uint64_t device_memory;       /**< of the device that is planned for: what was given, or all it has */
  uint64_t device_weights;      /**< copies on the device, for finermoe_model_options_set_device_weights */
  uint64_t device_total;  /**< device_weights, expert_cache, and what the device has of kv_cache and scratch (with the
                               host's part of a step there); if it is more than device_memory, not even one layer fits */
  uint64_t device_layers; /**< layers on the device, from the last, with the head; the CPU computes the others */
  uint64_t device_moe_layers; /**< of these, MoE layers whose routed experts are there too, from the last: not 0 only
                                   if all layers are on the device */
  uint64_t device_routed;     /**< of weights_routed, the experts of these MoE layers */
  uint64_t device_bytes_per_token;  /**< of bytes_per_token, what the device reads, fetched or not */
  uint64_t host_weights;            /**< of weights_total, what is used or fetched where it is mapped; all of it without
                                      such a device. An embedding that is also the device's head is not counted again */
  uint64_t expert_cache;            /**< bytes of whole slots; 0: no expert is fetched, as where the device has all */
  uint64_t expert_cache_slots;      /**< experts that it holds */
  uint64_t fetched_bytes_per_token; /**< what decoding one token copies to the device, if experts are chosen evenly;
                                         without a cache the CPU would read what a plan without one says */
} finermoe_plan;

/** The workload to plan for. */
typedef struct finermoe_plan_options finermoe_plan_options;

FINERMOE_API finermoe_status finermoe_plan_options_create(finermoe_plan_options** options, finermoe_error** error);
FINERMOE_API void finermoe_plan_options_free(finermoe_plan_options* options);
/** @param session_options  context length, cache type and chunk of every session; copied; NULL for the defaults */
FINERMOE_API finermoe_status finermoe_plan_options_set_session(finermoe_plan_options* options,
                                                               const finermoe_session_options* session_options,
                                                               finermoe_error** error);
/** @param n_sessions  sessions that exist at the same time; 1 by default, at most 1,048,576 */
FINERMOE_API finermoe_status finermoe_plan_options_set_sessions(finermoe_plan_options* options, size_t n_sessions,
                                                                finermoe_error** error);
/** @param n_threads  compute threads, each with its own scratch; 0 (default): one for each processor that this process
 *                    may use, which is also the default of a runtime */
FINERMOE_API finermoe_status finermoe_plan_options_set_threads(finermoe_plan_options* options, uint32_t n_threads,
                                                               finermoe_error** error);
/** Plans for a device, which need not be here: its module is enough. Replaces that of set_runtime.
 * @param module  as in finermoe_device_count
 * @param name    as in finermoe_runtime_options_set_device; for a device that is not here as in "cuda:0"
 * @param memory  bytes of the device's own memory that the model and its sessions may take; 0: all it has
 * @return FINERMOE_ERROR_INVALID_ARGUMENT if memory is 0 and the device is not here, or if it is not 0 and the device
 *         uses the machine's memory */
FINERMOE_API finermoe_status finermoe_plan_options_set_device(finermoe_plan_options* options, const char* module,
                                                              const char* name, uint64_t memory,
                                                              finermoe_error** error);
/** Plans for experts that are fetched, as finermoe_model_options_set_expert_cache has it, within the device's memory.
 * @param bytes  0 (default): no expert is fetched. finermoe_plan_compute returns FINERMOE_ERROR_INVALID_ARGUMENT where
 *               opening a model would. */
FINERMOE_API finermoe_status finermoe_plan_options_set_expert_cache(finermoe_plan_options* options, uint64_t bytes,
                                                                    finermoe_error** error);
/** Plans for the threads and the device of an existing runtime. @param runtime  read, not kept */
FINERMOE_API finermoe_status finermoe_plan_options_set_runtime(finermoe_plan_options* options,
                                                               const finermoe_runtime* runtime, finermoe_error** error);

/** Starts no thread and opens no device. @param options  NULL: one session with the defaults */
FINERMOE_API finermoe_status finermoe_plan_compute(const finermoe_config* config, const finermoe_plan_options* options,
                                                   finermoe_plan* plan, finermoe_error** error);

/* ---------------------------------------------------------------------------------------------------------------
 * 5. Model */

typedef struct finermoe_model_options finermoe_model_options;

FINERMOE_API finermoe_status finermoe_model_options_create(finermoe_model_options** options, finermoe_error** error);
FINERMOE_API void finermoe_model_options_free(finermoe_model_options* options);
/** @param runtime  shared with the model, which keeps it alive; NULL (default): the model gets one of its own */
FINERMOE_API finermoe_status finermoe_model_options_set_runtime(finermoe_model_options* options,
                                                                finermoe_runtime* runtime, finermoe_error** error);
/** @param copy  1: read the weights into memory (counted against the limit), so that later changes to the files do no
 *               harm; 0 (default): use them in place from the mapping */
FINERMOE_API finermoe_status finermoe_model_options_set_copy(finermoe_model_options* options, int32_t copy,
                                                             finermoe_error** error);
/** @param verify  1: read every weight once and reject NaN and infinity; 0 (default): do not */
FINERMOE_API finermoe_status finermoe_model_options_set_verify(finermoe_model_options* options, int32_t verify,
                                                               finermoe_error** error);

/** Weights to keep in memory for the model's lifetime: read and locked when it is opened (progress phase "lock", in
 * bytes). */
enum {
  FINERMOE_LOCK_NONE = 0,
  FINERMOE_LOCK_EVERY_TOKEN = 1, /**< what every token reads: all but routed experts and an untied embedding */
  FINERMOE_LOCK_ALL = 2
};
/** @param lock  FINERMOE_LOCK_…; NONE by default. Opening returns FINERMOE_ERROR_OUT_OF_MEMORY if the system refuses
 *               (RLIMIT_MEMLOCK), FINERMOE_ERROR_INVALID_ARGUMENT for weights in the host's own memory. */
FINERMOE_API finermoe_status finermoe_model_options_set_lock(finermoe_model_options* options, int32_t lock,
                                                             finermoe_error** error);
/** @param bytes  the most that mapped routed experts may occupy in memory; the least recently used are evicted.
 *                0 (default): no limit but the system's. Must hold at least two experts, and all experts of one token
 *                in one layer: opening returns FINERMOE_ERROR_INVALID_ARGUMENT for less. */
FINERMOE_API finermoe_status finermoe_model_options_set_expert_budget(finermoe_model_options* options, uint64_t bytes,
                                                                      finermoe_error** error);

/** Whether the experts that the router chose are read from disk while the shared expert is computed. */
enum {
  FINERMOE_PREFETCH_AUTO = 0, /**< on with an expert budget, or if the mapped files exceed the memory available */
  FINERMOE_PREFETCH_OFF = 1,
  FINERMOE_PREFETCH_ON = 2
};
/** @param prefetch  FINERMOE_PREFETCH_…; does not change results */
FINERMOE_API finermoe_status finermoe_model_options_set_prefetch(finermoe_model_options* options, int32_t prefetch,
                                                                 finermoe_error** error);
/** @param name  of the device that holds and computes routed experts, one of those available to the runtime: all of
 *               them, or those that set_device_weights leaves no room for on the runtime's device. NULL (default): the
 *               runtime's device, or "cpu" for those without room. The sum over experts on another device is added
 *               last. */
FINERMOE_API finermoe_status finermoe_model_options_set_expert_device(finermoe_model_options* options, const char* name,
                                                                      finermoe_error** error);
/** @param bytes  the most that weights may take of the runtime's device, such as a plan's device_weights; 0 (default):
 *                no limit. The head goes there, then layers without their routed experts, from the last, and, if there
 *                is room for all of them, routed experts, layer by layer from the last. The rest goes to the expert
 *                device, with the KV caches of its layers. Opening returns FINERMOE_ERROR_DEVICE_MEMORY if there is no
 *                room for the head and a layer, FINERMOE_ERROR_INVALID_ARGUMENT if the device uses the machine's
 *                memory, or if the expert device is the same and not all fits. */
FINERMOE_API finermoe_status finermoe_model_options_set_device_weights(finermoe_model_options* options, uint64_t bytes,
                                                                       finermoe_error** error);
/** Has routed experts fetched into the runtime's device when they are chosen, in place of the least recently used: all
 * of them, or those of its layers that set_device_weights leaves no room for. They stay where they are in the host's
 * memory or on disk. Results have the bits that they have with all weights on the device.
 * @param bytes  that the cache may take of the device, beside other weights; 0 (default): no expert is fetched. Opening
 *               returns FINERMOE_ERROR_INVALID_ARGUMENT if they hold fewer experts than one token chooses in a layer,
 *               if the device uses the machine's memory, or together with an expert device. */
FINERMOE_API finermoe_status finermoe_model_options_set_expert_cache(finermoe_model_options* options, uint64_t bytes,
                                                                     finermoe_error** error);
FINERMOE_API finermoe_status finermoe_model_options_set_progress(finermoe_model_options* options,
                                                                 finermoe_progress_fn progress, void* user,
                                                                 finermoe_error** error);
/** @param cancel  kept alive by the options */
FINERMOE_API finermoe_status finermoe_model_options_set_cancel(finermoe_model_options* options, finermoe_cancel* cancel,
                                                               finermoe_error** error);

/** Opens a checkpoint. Reads headers only; weights are read when they are first used. A bad file that the model can do
 * without (tokenizer, chat template, generation_config.json) is reported only by the calls that need it.
 * @param path     a Hugging Face directory or a single .safetensors file (docs/format.md)
 * @param options  NULL for the defaults
 * @return any code of the sections Files, safetensors and config.json */
FINERMOE_API finermoe_status finermoe_model_open(const char* path, const finermoe_model_options* options,
                                                 finermoe_model** model, finermoe_error** error);
/** The same from a file descriptor of a directory or of a single-file model. The descriptor is duplicated; the caller
 * still has to close its own. */
FINERMOE_API finermoe_status finermoe_model_open_fd(int fd, const finermoe_model_options* options,
                                                    finermoe_model** model, finermoe_error** error);
/** The same from a single-file model in memory. Ownership: `data` stays the caller's, is not copied (unless asked for),
 * and must outlive the model and everything created from it. It needs no alignment. */
FINERMOE_API finermoe_status finermoe_model_open_memory(const void* data, size_t size,
                                                        const finermoe_model_options* options, finermoe_model** model,
                                                        finermoe_error** error);
/** Cancels what is running on the model's sessions; calls on them return FINERMOE_ERROR_CLOSED from then on. */
FINERMOE_API void finermoe_model_close(finermoe_model* model);
FINERMOE_API void finermoe_model_free(finermoe_model* model);

/** What became of the experts that a model fetches; all 0 if it fetches none. */
typedef struct finermoe_expert_cache_info {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t bytes;    /**< of the device */
  uint64_t n_slots;  /**< experts that it holds */
  uint64_t n_hits;   /**< since the model was opened, chosen experts that were there, each counted once per layer and
                          pass */
  uint64_t n_misses; /**< those that were copied */
} finermoe_expert_cache_info;

/** May be called while sessions compute. */
FINERMOE_API finermoe_status finermoe_model_get_expert_cache(const finermoe_model* model,
                                                             finermoe_expert_cache_info* info, finermoe_error** error);

/** Mean cosine similarity over all pairs of routed experts of one layer (Fig. 4), each expert taken as the vector of
 * its flattened matrices.
 * @param layer   the model's own layer index; a dense layer is FINERMOE_ERROR_INVALID_ARGUMENT
 * @param cancel  may be NULL */
FINERMOE_API finermoe_status finermoe_model_expert_similarity(const finermoe_model* model, size_t layer,
                                                              finermoe_cancel* cancel, double* similarity,
                                                              finermoe_error** error);

/* ---------------------------------------------------------------------------------------------------------------
 * 6. Tokenizer and text */

/** A byte-level BPE tokenizer. Usable without weights. Immutable. */
typedef struct finermoe_tokenizer finermoe_tokenizer;

/** If a file beside tokenizer.json is unusable, only the calls that need it fail: those with a chat, for a bad chat
 * template or a bad tokenizer_config.json.
 * @param path  a directory with tokenizer.json, or with vocab.json and merges.txt as older Qwen2 models have it (and
 *               tokenizer_config.json, chat_template.jinja), the tokenizer.json itself, or a single-file model */
FINERMOE_API finermoe_status finermoe_tokenizer_open(const char* path, finermoe_tokenizer** tokenizer,
                                                     finermoe_error** error);
/** @param json         the text of a tokenizer.json
 *  @param config_json  the text of a tokenizer_config.json, or NULL with length 0 */
FINERMOE_API finermoe_status finermoe_tokenizer_open_memory(const char* json, size_t json_length,
                                                            const char* config_json, size_t config_json_length,
                                                            finermoe_tokenizer** tokenizer, finermoe_error** error);
/** A model's own tokenizer, parsed at the first call. The caller frees it.
 * @return FINERMOE_ERROR_NO_TOKENIZER, or a code of the section Text */
FINERMOE_API finermoe_status finermoe_tokenizer_open_model(const finermoe_model* model, finermoe_tokenizer** tokenizer,
                                                           finermoe_error** error);
FINERMOE_API void finermoe_tokenizer_free(finermoe_tokenizer* tokenizer);

typedef struct finermoe_tokenizer_info {
  uint32_t struct_size;
  int32_t bos_id; /**< from tokenizer_config.json, or else from the config.json beside it; -1 if in neither */
  int32_t eos_id; /**< -1 if none is given, or tokenizer_config.json is unusable; likewise pad_id */
  int32_t pad_id;
  size_t vocab_size; /**< the largest id that has a token, plus one */
  size_t n_added;    /**< added tokens, special or not */
  int32_t has_chat;  /**< 1: finermoe_chat_encode works */
  /** The token that ends a message in the chat template, such as <|im_end|>; -1 if chat does not work. A generation
   * from ids of finermoe_chat_encode needs it as a stop token; finermoe_generation_create_chat adds it automatically.
   */
  int32_t end_of_turn_id;
} finermoe_tokenizer_info;

FINERMOE_API finermoe_status finermoe_tokenizer_get_info(const finermoe_tokenizer* tokenizer,
                                                         finermoe_tokenizer_info* info, finermoe_error** error);

/** Flags of the text functions. */
enum {
  FINERMOE_TEXT_DEFAULT = 0,
  FINERMOE_TEXT_PARSE_SPECIAL = 1,        /**< encode: special tokens in the text become their ids */
  FINERMOE_TEXT_SHOW_SPECIAL = 2,         /**< decode: special tokens are written out instead of omitted */
  FINERMOE_TEXT_NO_GENERATION_PROMPT = 4, /**< chat: do not open the assistant's turn at the end */
  /** encode: omit the special tokens that the tokenizer adds around a text (BOS, EOS), if it adds any. Without this
   * flag an empty text encodes to exactly these tokens. They are never part of a chat. */
  FINERMOE_TEXT_NO_SPECIAL_TOKENS = 8,
  /** chat: leave the last message open, so that it can be continued, and open no turn after it. */
  FINERMOE_TEXT_CONTINUE_LAST = 16
};

/** Text to ids, equal to Hugging Face's encode(). Invalid UTF-8 becomes U+FFFD, one per maximal subpart.
 * @param flags    FINERMOE_TEXT_PARSE_SPECIAL, FINERMOE_TEXT_NO_SPECIAL_TOKENS
 * @param ids      [capacity] out
 * @param offsets  [2 * capacity] out: begin and end byte of each token in `text`, 0 and 0 for one that the tokenizer
 *                 added around it; may be NULL */
FINERMOE_API finermoe_status finermoe_tokenizer_encode(const finermoe_tokenizer* tokenizer, const char* text,
                                                       size_t text_length, uint32_t flags, int32_t* ids,
                                                       uint64_t* offsets, size_t capacity, size_t* needed,
                                                       finermoe_error** error);
/** How many ids finermoe_tokenizer_encode would return. */
FINERMOE_API finermoe_status finermoe_tokenizer_count(const finermoe_tokenizer* tokenizer, const char* text,
                                                      size_t text_length, uint32_t flags, size_t* count,
                                                      finermoe_error** error);
/** Ids to text. Ids without a token yield nothing; bytes that are not UTF-8 yield U+FFFD. */
FINERMOE_API finermoe_status finermoe_tokenizer_decode(const finermoe_tokenizer* tokenizer, const int32_t* ids,
                                                       size_t n_ids, uint32_t flags, char* text, size_t capacity,
                                                       size_t* needed, finermoe_error** error);

enum {
  FINERMOE_TOKEN_NORMAL = 0,
  FINERMOE_TOKEN_ADDED = 1,   /**< added, matched in any text */
  FINERMOE_TOKEN_SPECIAL = 2, /**< added and special: matched only with FINERMOE_TEXT_PARSE_SPECIAL */
  FINERMOE_TOKEN_UNUSED = 3   /**< an id without a token */
};

/** The bytes of one token, which need not be whole UTF-8 characters. @param kind  FINERMOE_TOKEN_… out; may be NULL */
FINERMOE_API finermoe_status finermoe_tokenizer_token(const finermoe_tokenizer* tokenizer, int32_t id, char* bytes,
                                                      size_t capacity, size_t* needed, int32_t* kind,
                                                      finermoe_error** error);
/** The id of the token with exactly these bytes. @param id  out; -1 where there is none */
FINERMOE_API finermoe_status finermoe_tokenizer_find(const finermoe_tokenizer* tokenizer, const char* bytes,
                                                     size_t bytes_length, int32_t* id, finermoe_error** error);

/** Streaming decoder: turns ids into text one at a time and never returns part of a character. One thread at a time. */
typedef struct finermoe_decoder finermoe_decoder;
FINERMOE_API finermoe_status finermoe_decoder_create(const finermoe_tokenizer* tokenizer, uint32_t flags,
                                                     finermoe_decoder** decoder, finermoe_error** error);
FINERMOE_API void finermoe_decoder_free(finermoe_decoder* decoder);
/** Takes one id and returns the text that it completes, often none. */
FINERMOE_API finermoe_status finermoe_decoder_push(finermoe_decoder* decoder, int32_t id, char* text, size_t capacity,
                                                   size_t* needed, finermoe_error** error);
/** Ends the text: an incomplete character is returned as U+FFFD, and the decoder starts afresh. */
FINERMOE_API finermoe_status finermoe_decoder_flush(finermoe_decoder* decoder, char* text, size_t capacity,
                                                    size_t* needed, finermoe_error** error);

/** A conversation. One thread at a time. */
typedef struct finermoe_chat finermoe_chat;
FINERMOE_API finermoe_status finermoe_chat_create(finermoe_chat** chat, finermoe_error** error);
FINERMOE_API void finermoe_chat_free(finermoe_chat* chat);
/** @param role  "system", "user" or "assistant"  @param text  invalid UTF-8 becomes U+FFFD */
FINERMOE_API finermoe_status finermoe_chat_add(finermoe_chat* chat, const char* role, const char* text,
                                               size_t text_length, finermoe_error** error);
/** @return the number of messages; 0 for NULL */
FINERMOE_API size_t finermoe_chat_count(const finermoe_chat* chat);

/** One message. Ownership: the pointers belong to the chat and are valid until it is changed. */
typedef struct finermoe_chat_message {
  uint32_t struct_size;
  uint32_t reserved;
  const char* role;
  const char* text;   /**< a NUL follows the text_length bytes */
  size_t text_length; /**< bytes */
} finermoe_chat_message;

FINERMOE_API finermoe_status finermoe_chat_get(const finermoe_chat* chat, size_t index, finermoe_chat_message* message,
                                               finermoe_error** error);
/** Replaces a message's text; the role stays. @param text  must not point into the chat itself */
FINERMOE_API finermoe_status finermoe_chat_set(finermoe_chat* chat, size_t index, const char* text, size_t text_length,
                                               finermoe_error** error);
/** Removes all messages from index `n` on. @param n  at most the current number */
FINERMOE_API finermoe_status finermoe_chat_truncate(finermoe_chat* chat, size_t n, finermoe_error** error);
/** Removes the messages [begin, end). @param begin  at most `end`  @param end  at most the current number */
FINERMOE_API finermoe_status finermoe_chat_remove(finermoe_chat* chat, size_t begin, size_t end,
                                                  finermoe_error** error);
/** The ids of the prompt that the tokenizer's own chat template renders from the messages. Special tokens typed into a
 * message stay plain text.
 * @param chat   with at least one message
 * @param flags  FINERMOE_TEXT_NO_GENERATION_PROMPT, FINERMOE_TEXT_CONTINUE_LAST
 * @return FINERMOE_ERROR_CHAT_TEMPLATE if the template is not supported; plain prompts still work */
FINERMOE_API finermoe_status finermoe_chat_encode(const finermoe_chat* chat, const finermoe_tokenizer* tokenizer,
                                                  uint32_t flags, int32_t* ids, size_t capacity, size_t* needed,
                                                  finermoe_error** error);
/** The same prompt as text, for people to read. */
FINERMOE_API finermoe_status finermoe_chat_render(const finermoe_chat* chat, const finermoe_tokenizer* tokenizer,
                                                  uint32_t flags, char* text, size_t capacity, size_t* needed,
                                                  finermoe_error** error);

/* ---------------------------------------------------------------------------------------------------------------
 * 7. Session: a sequence of tokens and its KV cache
 *
 * A session holds every token that was appended to it, given to it as a prompt, or generated on it. This includes the
 * last token generated, stop tokens, and tokens whose text a stop string hides. Tokens at its end may not have been
 * computed yet: the next call that computes anything computes them first.
 * Calls on different sessions of a model draw on shared scratch memory; if the memory limit allows no more of it, a
 * call waits until another call releases its scratch (cancel and close end the wait). */

typedef struct finermoe_session finermoe_session;
typedef struct finermoe_trace finermoe_trace;

FINERMOE_API finermoe_status finermoe_session_options_create(finermoe_session_options** options,
                                                             finermoe_error** error);
FINERMOE_API void finermoe_session_options_free(finermoe_session_options* options);
/** @param n_tokens  the most tokens that the session can hold; 0 (default): the smaller of the model's max_positions
 *                   and 4096 */
FINERMOE_API finermoe_status finermoe_session_options_set_context_length(finermoe_session_options* options,
                                                                         size_t n_tokens, finermoe_error** error);
/** @param dtype  FINERMOE_DTYPE_F32 (default), _F16, _BF16 or _Q8: how the KV cache stores keys and values */
FINERMOE_API finermoe_status finermoe_session_options_set_kv_dtype(finermoe_session_options* options, int32_t dtype,
                                                                   finermoe_error** error);
/** How matrix products with weights are computed. */
enum {
  FINERMOE_PRECISION_EXACT = 0, /**< float32 activations */
  FINERMOE_PRECISION_FAST = 1   /**< activations quantized to suit the weights: to BF16, or to 8-bit blocks (for Q8
                                     and Q4), where that is faster on this processor; the router stays float32.
                                     docs/performance.md has the effect */
};
/** @param precision  FINERMOE_PRECISION_…; EXACT is the default */
FINERMOE_API finermoe_status finermoe_session_options_set_precision(finermoe_session_options* options,
                                                                    int32_t precision, finermoe_error** error);
/** @param n_tokens  the most tokens computed in one pass when a long prompt is appended; 0 (default): 512 */
FINERMOE_API finermoe_status finermoe_session_options_set_chunk(finermoe_session_options* options, size_t n_tokens,
                                                                finermoe_error** error);
/** Progress of long prompts (phase "prefill", in tokens), those in finermoe_batch_step too, which the callback of any
 * member's session can cancel. */
FINERMOE_API finermoe_status finermoe_session_options_set_progress(finermoe_session_options* options,
                                                                   finermoe_progress_fn progress, void* user,
                                                                   finermoe_error** error);

/** What an append keeps for the rows that were asked for. */
enum {
  FINERMOE_HIDDEN_NONE = 0, /**< their logits */
  FINERMOE_HIDDEN_KEEP = 1, /**< their logits and hidden states */
  FINERMOE_HIDDEN_ONLY = 2  /**< their hidden states; no logits are computed */
};
/** @param hidden  FINERMOE_HIDDEN_…; NONE is the default */
FINERMOE_API finermoe_status finermoe_session_options_set_hidden(finermoe_session_options* options, int32_t hidden,
                                                                 finermoe_error** error);

/** @param options  NULL for the defaults */
FINERMOE_API finermoe_status finermoe_session_create(finermoe_model* model, const finermoe_session_options* options,
                                                     finermoe_session** session, finermoe_error** error);
FINERMOE_API void finermoe_session_close(finermoe_session* session);
FINERMOE_API void finermoe_session_free(finermoe_session* session);

/** Which rows of logits an append keeps. */
enum { FINERMOE_LOGITS_NONE = 0, FINERMOE_LOGITS_LAST = 1, FINERMOE_LOGITS_ALL = 2 };

/** Appends tokens and computes them. After a cancel the session holds the tokens of the finished chunks (to resume,
 * append the rest of `ids`); after any other error it holds the tokens that it held before.
 * @param ids     [n_ids]
 * @param logits  FINERMOE_LOGITS_…: rows kept for finermoe_session_logits until a later call appends, removes or
 *                replaces tokens, or tries to; memory for one row stays allocated
 * @param cancel  may be NULL */
FINERMOE_API finermoe_status finermoe_session_append(finermoe_session* session, const int32_t* ids, size_t n_ids,
                                                     int32_t logits, finermoe_cancel* cancel, finermoe_error** error);
/** The same, keeping the logits of selected rows. @param rows  [n_rows] strictly ascending indices into ids */
FINERMOE_API finermoe_status finermoe_session_append_rows(finermoe_session* session, const int32_t* ids, size_t n_ids,
                                                          const size_t* rows, size_t n_rows, finermoe_cancel* cancel,
                                                          finermoe_error** error);
/** Logits kept by the last append. @param row  0 … kept rows - 1  @param logits  [vocab_size] out */
FINERMOE_API finermoe_status finermoe_session_logits(const finermoe_session* session, size_t row, float* logits,
                                                     size_t capacity, size_t* needed, finermoe_error** error);
/** The hidden state after the final norm, of a row kept by the last append; needs FINERMOE_HIDDEN_KEEP or _ONLY.
 * @param row  0 … kept rows - 1  @param hidden  [hidden_size] out */
FINERMOE_API finermoe_status finermoe_session_hidden(const finermoe_session* session, size_t row, float* hidden,
                                                     size_t capacity, size_t* needed, finermoe_error** error);
/** Appends tokens and returns the log-probability of each, without keeping logits. The first one is scored as the
 * continuation of what the session holds, whose last token is recomputed if necessary.
 * @param logprobs  [capacity] out: natural logarithm of the probability of ids[i] given all tokens before it; NaN for
 *                  the first token of a session. NULL with capacity 0 queries the size and appends nothing
 * @param likeliest  [capacity] out: the most likely token at each position, the lowest id in a tie; -1 for the first
 * token of a session; may be NULL
 * @param needed    n_ids; if capacity is less, nothing is appended
 * @param cancel    may be NULL; after a cancel, as after any error, the session holds what it held before
 * @return FINERMOE_ERROR_NOT_FINITE if the logits do not form a distribution */
FINERMOE_API finermoe_status finermoe_session_score(finermoe_session* session, const int32_t* ids, size_t n_ids,
                                                    finermoe_cancel* cancel, float* logprobs, int32_t* likeliest,
                                                    size_t capacity, size_t* needed, finermoe_error** error);

typedef struct finermoe_session_info {
  uint32_t struct_size;
  int32_t kv_dtype;
  size_t length;         /**< tokens held */
  size_t context_length; /**< the most it can hold */
  size_t n_logits;       /**< rows of logits kept by the last append */
  uint64_t kv_bytes;
  int32_t precision;         /**< FINERMOE_PRECISION_… */
  uint32_t quantized_dtypes; /**< weights whose products use quantized activations, where a pass has rows enough: bits
                                  1 << FINERMOE_DTYPE_…. The others are multiplied as with EXACT, because that is as
                                  fast here */
  size_t n_computed;         /**< of `length`; the rest are computed by the next call that computes anything */
  size_t n_hidden;           /**< rows of hidden states kept by the last append */
} finermoe_session_info;

FINERMOE_API finermoe_status finermoe_session_get_info(const finermoe_session* session, finermoe_session_info* info,
                                                       finermoe_error** error);
/** The tokens held. @param ids  [capacity] out */
FINERMOE_API finermoe_status finermoe_session_tokens(const finermoe_session* session, int32_t* ids, size_t capacity,
                                                     size_t* needed, finermoe_error** error);
/** Removes all tokens from position `length` on, and frees the memory of kept logits. @param length  at most the
 * current length */
FINERMOE_API finermoe_status finermoe_session_truncate(finermoe_session* session, size_t length,
                                                       finermoe_error** error);
/** Removes all tokens, and frees the memory of kept logits. */
FINERMOE_API finermoe_status finermoe_session_reset(finermoe_session* session, finermoe_error** error);
/** Keeps the longest common prefix of the session and `ids`, and removes all other tokens: what
 * finermoe_generation_create_chat does for a chat, for prompts that the host builds itself. Then append ids from n_kept
 * on.
 * @param ids  [n_ids]  @param n_kept  out: tokens that the session still holds */
FINERMOE_API finermoe_status finermoe_session_keep_prefix(finermoe_session* session, const int32_t* ids, size_t n_ids,
                                                          size_t* n_kept, finermoe_error** error);
/** Removes the tokens [begin, end) and shifts later tokens down, rotating their keys to the new positions. Those tokens
 * were computed while the removed ones were visible, so this only approximates recomputing them (docs/embedding.md says
 * how well). In F16, BF16 and Q8 caches every call rounds the keys again: remove a good part of the context at a time,
 * not token by token. A generation on the session is not told: what it knows of the removed tokens (penalties, counts,
 * held-back text) stays. Discards kept rows.
 * @param begin  at most `end`  @param end  at most the current length */
FINERMOE_API finermoe_status finermoe_session_remove(finermoe_session* session, size_t begin, size_t end,
                                                     finermoe_error** error);
/** Changes the context length and keeps the tokens. Needs memory for a second cache during the call; an error changes
 * nothing. @param n_tokens  at least the current length; 0: as in finermoe_session_options_set_context_length */
FINERMOE_API finermoe_status finermoe_session_set_context_length(finermoe_session* session, size_t n_tokens,
                                                                 finermoe_error** error);
/** Replaces the progress callback. @param progress  NULL: none */
FINERMOE_API finermoe_status finermoe_session_set_progress(finermoe_session* session, finermoe_progress_fn progress,
                                                           void* user, finermoe_error** error);
/** Creates a session that starts as a copy of this one (tokens, cache and options; not the kept rows). Tokens that are
 * not computed yet are computed first, for both. */
FINERMOE_API finermoe_status finermoe_session_fork(finermoe_session* session, finermoe_session** fork,
                                                   finermoe_error** error);
/** Writes tokens and cache to a file, which appears only once it is complete. Tokens that are not computed yet are
 * computed first. An existing file is replaced and its mode kept; a symbolic link is followed, not replaced.
 * @return FINERMOE_ERROR_FILE_WRITE if the path leads to something that is not a regular file, such as a device */
FINERMOE_API finermoe_status finermoe_session_save(finermoe_session* session, const char* path, finermoe_error** error);
/** Replaces the session's content with one saved from the same model and cache type. A rejected file changes nothing;
 * for that, a session that holds tokens needs memory for a second cache during the call, which an empty one
 * (finermoe_session_reset) does not. */
FINERMOE_API finermoe_status finermoe_session_restore(finermoe_session* session, const char* path,
                                                      finermoe_error** error);
/** The same bytes as finermoe_session_save writes, in memory. @param data  [capacity] out; querying the size computes
 * nothing */
FINERMOE_API finermoe_status finermoe_session_save_memory(finermoe_session* session, void* data, size_t capacity,
                                                          size_t* needed, finermoe_error** error);
/** The same as finermoe_session_restore, from memory. @param data  [size], of any alignment */
FINERMOE_API finermoe_status finermoe_session_restore_memory(finermoe_session* session, const void* data, size_t size,
                                                             finermoe_error** error);
/** Records what the router does with the tokens computed from now on. Ownership: the session keeps the trace alive.
 * @param trace  NULL: stop recording
 * @return FINERMOE_ERROR_STATE for a trace that already records another session */
FINERMOE_API finermoe_status finermoe_session_set_trace(finermoe_session* session, finermoe_trace* trace,
                                                        finermoe_error** error);

/* ---------------------------------------------------------------------------------------------------------------
 * 8. Trace: what the router did */

/** What a trace records. ROUTES and LOGITS grow with every token; USAGE does not. */
enum { FINERMOE_TRACE_ROUTES = 1, FINERMOE_TRACE_LOGITS = 2, FINERMOE_TRACE_USAGE = 4 };

/** @param what  any of FINERMOE_TRACE_… or'ed; a dense model is FINERMOE_ERROR_UNSUPPORTED */
FINERMOE_API finermoe_status finermoe_trace_create(const finermoe_model* model, uint32_t what, finermoe_trace** trace,
                                                   finermoe_error** error);
FINERMOE_API void finermoe_trace_free(finermoe_trace* trace);
/** Discards what was recorded. */
FINERMOE_API finermoe_status finermoe_trace_clear(finermoe_trace* trace, finermoe_error** error);

typedef struct finermoe_trace_info {
  uint32_t struct_size;
  uint32_t what;
  size_t n_moe_layers;
  size_t n_tokens;            /**< recorded so far */
  size_t n_experts;           /**< N */
  size_t n_experts_per_token; /**< G_O T_I */
  size_t n_components;        /**< G_O */
} finermoe_trace_info;

FINERMOE_API finermoe_status finermoe_trace_get_info(const finermoe_trace* trace, finermoe_trace_info* info,
                                                     finermoe_error** error);
/** The model's own layer indices of its MoE layers. @param layers  [n_moe_layers] out. `moe_layer` below is an index
 * into this array. */
FINERMOE_API finermoe_status finermoe_trace_layers(const finermoe_trace* trace, size_t* layers, size_t capacity,
                                                   size_t* needed, finermoe_error** error);
/** The position in its session of each recorded token; a token that was computed twice is listed twice. Needs ROUTES or
 * LOGITS. @param positions  [n_tokens] out */
FINERMOE_API finermoe_status finermoe_trace_positions(const finermoe_trace* trace, size_t* positions, size_t capacity,
                                                      size_t* needed, finermoe_error** error);
/** @param experts  [n_tokens, n_experts_per_token] out, ascending in each row */
FINERMOE_API finermoe_status finermoe_trace_experts(const finermoe_trace* trace, size_t moe_layer, int32_t* experts,
                                                    size_t capacity, size_t* needed, finermoe_error** error);
/** @param weights  [n_tokens, n_experts_per_token] out, in the order of the experts */
FINERMOE_API finermoe_status finermoe_trace_weights(const finermoe_trace* trace, size_t moe_layer, float* weights,
                                                    size_t capacity, size_t* needed, finermoe_error** error);
/** @param groups  [n_tokens, n_components] out: the winning group of each output component, as an index into all
 *                 G_O R_O groups */
FINERMOE_API finermoe_status finermoe_trace_groups(const finermoe_trace* trace, size_t moe_layer, int32_t* groups,
                                                   size_t capacity, size_t* needed, finermoe_error** error);
/** @param logits  [n_tokens, n_experts] out */
FINERMOE_API finermoe_status finermoe_trace_logits(const finermoe_trace* trace, size_t moe_layer, float* logits,
                                                   size_t capacity, size_t* needed, finermoe_error** error);
/** How often each expert was chosen. Needs USAGE. @param counts  [n_experts] out */
FINERMOE_API finermoe_status finermoe_trace_usage(const finermoe_trace* trace, size_t moe_layer, uint64_t* counts,
                                                  size_t capacity, size_t* needed, finermoe_error** error);
/** Load-balancing loss of Eq. 11 without its factor alpha, with all recorded tokens taken as one sequence: 1 when
 * perfectly balanced. Needs USAGE and at least one token. */
FINERMOE_API finermoe_status finermoe_trace_balance_loss(const finermoe_trace* trace, size_t moe_layer, double* loss,
                                                         finermoe_error** error);

/* ---------------------------------------------------------------------------------------------------------------
 * 9. Generation and batch */

typedef struct finermoe_generation_options finermoe_generation_options;
typedef struct finermoe_generation finermoe_generation;

/** Options that start from the defaults of the model's generation_config.json, including its stop ids (those outside
 * its vocabulary are ignored, since they cannot be chosen). They can be used with other models: if they name a banned,
 * biased or stop token that a session's model does not have, the finermoe_generation_create… call fails.
 * @param model  NULL for neutral options: greedy, no penalties, no stop tokens, no limit
 * @return FINERMOE_ERROR_CONFIG_VALUE for an invalid default, named in the message; FINERMOE_ERROR_CONFIG_MALFORMED, or
 *         the error that kept the file from being read */
FINERMOE_API finermoe_status finermoe_generation_options_create(const finermoe_model* model,
                                                                finermoe_generation_options** options,
                                                                finermoe_error** error);
/** Creates another object with the same options. */
FINERMOE_API finermoe_status finermoe_generation_options_copy(const finermoe_generation_options* options,
                                                              finermoe_generation_options** copy,
                                                              finermoe_error** error);
FINERMOE_API void finermoe_generation_options_free(finermoe_generation_options* options);
/** @param n  the most tokens to generate; 0: until a stop or the end of the context */
FINERMOE_API finermoe_status finermoe_generation_options_set_max_tokens(finermoe_generation_options* options, size_t n,
                                                                        finermoe_error** error);
/** @param n  before this many tokens, stop tokens are never chosen (unless ignore_eos is set) and stop strings are
 * ignored */
FINERMOE_API finermoe_status finermoe_generation_options_set_min_tokens(finermoe_generation_options* options, size_t n,
                                                                        finermoe_error** error);
/** @param temperature  0: greedy; else divides the logits */
FINERMOE_API finermoe_status finermoe_generation_options_set_temperature(finermoe_generation_options* options,
                                                                         double temperature, finermoe_error** error);
/** @param k  keep the k largest logits; 0: all */
FINERMOE_API finermoe_status finermoe_generation_options_set_top_k(finermoe_generation_options* options, size_t k,
                                                                   finermoe_error** error);
/** @param p  in (0, 1]: keep the smallest set whose probability reaches p; 1: all */
FINERMOE_API finermoe_status finermoe_generation_options_set_top_p(finermoe_generation_options* options, double p,
                                                                   finermoe_error** error);
/** @param p  in [0, 1): drop tokens less likely than p times the most likely one; 0: off */
FINERMOE_API finermoe_status finermoe_generation_options_set_min_p(finermoe_generation_options* options, double p,
                                                                   finermoe_error** error);
/** @param p  in (0, 1]: locally typical sampling (arXiv 2202.00666); 1: off */
FINERMOE_API finermoe_status finermoe_generation_options_set_typical_p(finermoe_generation_options* options, double p,
                                                                       finermoe_error** error);
/** @param penalty  1e-6 to 1e6: logits of tokens that occur in the prompt or output are divided by it (multiplied if
 *                  negative); 1: off */
FINERMOE_API finermoe_status finermoe_generation_options_set_repetition_penalty(finermoe_generation_options* options,
                                                                                double penalty, finermoe_error** error);
/** @param penalty  subtracted from a token's logit for each time it was generated; 0: off */
FINERMOE_API finermoe_status finermoe_generation_options_set_frequency_penalty(finermoe_generation_options* options,
                                                                               double penalty, finermoe_error** error);
/** @param penalty  subtracted once from the logits of tokens that were generated; 0: off */
FINERMOE_API finermoe_status finermoe_generation_options_set_presence_penalty(finermoe_generation_options* options,
                                                                              double penalty, finermoe_error** error);
/** @param seed  of the random stream: PCG-XSH-RR 64/32 (docs/sampling.md), the same on every platform; 0 by default */
FINERMOE_API finermoe_status finermoe_generation_options_set_seed(finermoe_generation_options* options, uint64_t seed,
                                                                  finermoe_error** error);
/** @param bias  added to the token's logit; a second bias for an id replaces the first; -INFINITY bans the token */
FINERMOE_API finermoe_status finermoe_generation_options_add_logit_bias(finermoe_generation_options* options,
                                                                        int32_t id, float bias, finermoe_error** error);
/** Never sample this token. */
FINERMOE_API finermoe_status finermoe_generation_options_add_banned_token(finermoe_generation_options* options,
                                                                          int32_t id, finermoe_error** error);
/** Ends the generation when this token is chosen. */
FINERMOE_API finermoe_status finermoe_generation_options_add_stop_token(finermoe_generation_options* options,
                                                                        int32_t id, finermoe_error** error);
/** Removes all stop tokens, even those of generation_config.json. A chat still ends at its template's end of turn. */
FINERMOE_API finermoe_status finermoe_generation_options_clear_stop_tokens(finermoe_generation_options* options,
                                                                           finermoe_error** error);
/** Ends the text before the first occurrence of this string. Needs a tokenizer. @param text_length  at least 1 */
FINERMOE_API finermoe_status finermoe_generation_options_add_stop_string(finermoe_generation_options* options,
                                                                         const char* text, size_t text_length,
                                                                         finermoe_error** error);
/** @param ignore_eos  1: stop tokens do not end the generation, nor does a chat's end of turn */
FINERMOE_API finermoe_status finermoe_generation_options_set_ignore_eos(finermoe_generation_options* options,
                                                                        int32_t ignore_eos, finermoe_error** error);
/** @param n  how many of the likeliest tokens to report with each token; the chosen token's own log-probability is
 *            always reported */
FINERMOE_API finermoe_status finermoe_generation_options_set_top_logprobs(finermoe_generation_options* options,
                                                                          size_t n, finermoe_error** error);
/** @param show  1: special tokens appear in the text; 0 (default): they do not */
FINERMOE_API finermoe_status finermoe_generation_options_set_show_special(finermoe_generation_options* options,
                                                                          int32_t show, finermoe_error** error);

/** Drafts tokens while the request decodes: what followed the text's last 2 to 8 tokens where they stood before in the
 * session, prompt included. One pass over the weights computes them with the token before them, and as many are used as
 * are chosen: text that repeats itself needs fewer passes. The tokens are those that the request has without (greedy
 * and for the same seed), with the same log-probabilities; how many are drafted follows from how many were right
 * lately, down to none. docs/speculative.md says what it costs, and what limits it: a trace, and GPUs.
 * @param n_draft  for one pass at most, 0 (default, none) to 64; the request keeps as many more rows of vocab_size
 *                 logits, and an index of 8 to 12 bytes for each token of the session's context */
FINERMOE_API finermoe_status finermoe_generation_options_set_lookup(finermoe_generation_options* options,
                                                                    size_t n_draft, finermoe_error** error);
/** Drafts tokens with another model of the same vocabulary, as finermoe_generation_options_set_lookup does with the
 * text; for an upcycled model, the dense one that it came from. The tokens are again those that the request has
 * without, and as many are drafted as pay, down to none. With both, each pass takes the drafts that promise more.
 * @param model    on any runtime; the options, their requests, and the session until its next request without it, keep
 *                 it open; NULL (default): none.
 *                 finermoe_generation_create returns FINERMOE_ERROR_INVALID_ARGUMENT if its vocabulary is not that of
 *                 the session's model. What fails in it later never fails a request, which goes on without drafts.
 * @param n_draft  for one pass at most, 0 (none) to 64; the request keeps as many more rows of logits, and its session
 *                 another one on `model`, of as long a context */
FINERMOE_API finermoe_status finermoe_generation_options_set_draft(finermoe_generation_options* options,
                                                                   finermoe_model* model, size_t n_draft,
                                                                   finermoe_error** error);

typedef struct finermoe_generation_options_info {
  uint32_t struct_size;
  int32_t ignore_eos;
  size_t max_tokens;
  size_t min_tokens;
  double temperature;
  size_t top_k;
  double top_p;
  double min_p;
  double typical_p;
  double repetition_penalty;
  double frequency_penalty;
  double presence_penalty;
  uint64_t seed;
  size_t n_stop_tokens;
} finermoe_generation_options_info;

FINERMOE_API finermoe_status finermoe_generation_options_get_info(const finermoe_generation_options* options,
                                                                  finermoe_generation_options_info* info,
                                                                  finermoe_error** error);

/** Creates a request on a session; its prompt is appended to what the session holds. Nothing is computed yet. All ids,
 * including those of the options, are checked against the vocabulary of the session's model here; an error leaves the
 * session as it was.
 * The session is "in use" only during calls and may be used for other things between them: the next token follows
 * whatever it holds then. The request is not told of such changes: tokens removed in the meantime still count toward
 * penalties, max_tokens and min_tokens, their held-back text is still returned, and tokens added by
 * finermoe_session_append count toward no penalty. To rewind a request, save it first (finermoe_generation_save_memory)
 * or create another one. Events carry no text if the model has no usable tokenizer.
 * @param options  NULL for the model's defaults, with the errors of finermoe_generation_options_create; copied
 * @param ids      [n_ids]; at least one, unless the session holds a token to continue from
 * @return FINERMOE_ERROR_TOKEN_OUT_OF_RANGE for an id of the prompt or the options that the model does not have,
 *         FINERMOE_ERROR_CONTEXT_LENGTH if the prompt does not fit */
FINERMOE_API finermoe_status finermoe_generation_create(finermoe_session* session,
                                                        const finermoe_generation_options* options, const int32_t* ids,
                                                        size_t n_ids, finermoe_generation** generation,
                                                        finermoe_error** error);
/** The same with a text, encoded as by finermoe_tokenizer_encode. For a text that continues what the session holds,
 * FINERMOE_TEXT_NO_SPECIAL_TOKENS avoids a BOS token in the middle.
 * @param flags  FINERMOE_TEXT_PARSE_SPECIAL, FINERMOE_TEXT_NO_SPECIAL_TOKENS */
FINERMOE_API finermoe_status finermoe_generation_create_text(finermoe_session* session,
                                                             const finermoe_generation_options* options,
                                                             const char* text, size_t text_length, uint32_t flags,
                                                             finermoe_generation** generation, finermoe_error** error);
/** The same with a chat, rendered with the assistant's turn opened. The prefix of the rendered prompt that the session
 * already holds is kept and not recomputed; whatever the session holds beyond it is removed.
 * The template's end-of-turn token (`end_of_turn_id` of finermoe_tokenizer_info) is a stop token here in addition to
 * those of the options, even if these were cleared or the model's configuration names only a different one. Like them,
 * it is disabled by `ignore_eos` and cannot be chosen before `min_tokens`.
 * @param flags  FINERMOE_TEXT_CONTINUE_LAST to continue the last message, FINERMOE_TEXT_NO_GENERATION_PROMPT */
FINERMOE_API finermoe_status finermoe_generation_create_chat(finermoe_session* session,
                                                             const finermoe_generation_options* options,
                                                             const finermoe_chat* chat, uint32_t flags,
                                                             finermoe_generation** generation, finermoe_error** error);
FINERMOE_API void finermoe_generation_close(finermoe_generation* generation);
FINERMOE_API void finermoe_generation_free(finermoe_generation* generation);

enum {
  FINERMOE_FINISH_NONE = 0,       /**< not finished */
  FINERMOE_FINISH_STOP_TOKEN = 1, /**< the id is in the event, its text is not */
  FINERMOE_FINISH_STOP_STRING = 2,
  FINERMOE_FINISH_MAX_TOKENS = 3,
  /** The session is full: this token took its last position, or, with token -1, the prompt or appended tokens already
   * had. This finish is final; to avoid it, make room (finermoe_session_remove, _set_context_length) before the last
   * position is used. */
  FINERMOE_FINISH_CONTEXT_FULL = 4,
  FINERMOE_FINISH_HOST = 5, /**< ended by finermoe_generation_finish */
  FINERMOE_FINISH_ERROR = 6 /**< only from finermoe_batch_next: finermoe_generation_get_error says why */
};

/** The result of one step. Ownership: the pointers belong to the generation and are valid until its next
 * finermoe_generation_next or _finish, or a finermoe_batch_next that returns its event. */
typedef struct finermoe_event {
  uint32_t struct_size;
  int32_t finish_reason; /**< FINERMOE_FINISH_… */
  int32_t token;         /**< the token chosen, or -1: nothing was chosen (the generation had ended before) */
  float logprob;         /**< of that token, in the model's own distribution before any processing */
  const char* text;   /**< complete characters, safe to show: text that might become part of a stop string is held back.
                           Never NULL; a NUL follows the text_length bytes */
  size_t text_length; /**< bytes; 0 is common */
  const int32_t* top_ids;    /**< [n_top] the likeliest tokens of the same distribution, likeliest first */
  const float* top_logprobs; /**< [n_top] */
  size_t n_top;
} finermoe_event;

/** Computes what is missing, chooses a token, appends it to the session, and reports it. After the finish, further
 * calls report the same finish with token -1 and no text. @param cancel  may be NULL; after FINERMOE_ERROR_CANCELLED
 * call again to resume */
FINERMOE_API finermoe_status finermoe_generation_next(finermoe_generation* generation, finermoe_cancel* cancel,
                                                      finermoe_event* event, finermoe_error** error);
/** Appends tokens that the host chose: a tool's result, a forced beginning, constrained text. They follow the tokens
 * generated so far, appear in no event's text, and the request continues after them; held-back text comes with the next
 * event. The repetition penalty counts them like prompt tokens; max_tokens and min_tokens do not.
 * @param ids  [n_ids]
 * @return FINERMOE_ERROR_CONTEXT_LENGTH if they do not fit, FINERMOE_ERROR_STATE after the finish */
FINERMOE_API finermoe_status finermoe_generation_append(finermoe_generation* generation, const int32_t* ids,
                                                        size_t n_ids, finermoe_error** error);
/** Ends the request now and returns held-back text. @param event  with FINERMOE_FINISH_HOST, or the earlier finish if
 * there was one; its token is -1 */
FINERMOE_API finermoe_status finermoe_generation_finish(finermoe_generation* generation, finermoe_event* event,
                                                        finermoe_error** error);
/** Computes the logits of the next token without choosing it, so that they can be read and changed.
 * @return FINERMOE_ERROR_STATE after the finish */
FINERMOE_API finermoe_status finermoe_generation_prepare(finermoe_generation* generation, finermoe_cancel* cancel,
                                                         finermoe_error** error);
/** The logits that the next token will be chosen from, before any processing; FINERMOE_ERROR_STATE unless prepared.
 * Where a device has chosen the token in a batch's step, the last token is computed once more, with the errors of
 * finermoe_generation_prepare; likewise in the next function.
 * @param logits  [vocab_size] out */
FINERMOE_API finermoe_status finermoe_generation_get_logits(const finermoe_generation* generation, float* logits,
                                                            size_t capacity, size_t* needed, finermoe_error** error);
/** Replaces them for this step (-INFINITY forbids a token). Log-probabilities stay those of the model.
 * @param logits  [n_logits] with n_logits = vocab_size */
FINERMOE_API finermoe_status finermoe_generation_set_logits(finermoe_generation* generation, const float* logits,
                                                            size_t n_logits, finermoe_error** error);

/** The state of a request without its session: options, random stream, counts, and held-back text. It does not include
 * logits set by the host for the next token, the tag or the times. Together with finermoe_session_save, a request can
 * be resumed in another process and produces the same text. @param data  [capacity] out */
FINERMOE_API finermoe_status finermoe_generation_save_memory(const finermoe_generation* generation, void* data,
                                                             size_t capacity, size_t* needed, finermoe_error** error);
/** Resumes a saved request on a session that holds the same tokens as the original session did when it was saved.
 * @param data  [size], of any alignment
 * @return FINERMOE_ERROR_SESSION_MALFORMED for damaged data, FINERMOE_ERROR_SESSION_MISMATCH for another model or other
 *         tokens */
FINERMOE_API finermoe_status finermoe_generation_restore_memory(finermoe_session* session, const void* data,
                                                                size_t size, finermoe_generation** generation,
                                                                finermoe_error** error);

/** Sampling alone, for logits that come from elsewhere: the bias, penalties, bans, temperature and filters of a set of
 * options, and a random stream (docs/sampling.md). One thread at a time. */
typedef struct finermoe_sampler finermoe_sampler;

/** @param options  copied; NULL: greedy. Options that only end or report a generation have no effect here. The host
 *                  itself must forbid vocabulary rows that have no token, by setting their logits to -INFINITY. */
FINERMOE_API finermoe_status finermoe_sampler_create(const finermoe_generation_options* options,
                                                     finermoe_sampler** sampler, finermoe_error** error);
FINERMOE_API void finermoe_sampler_free(finermoe_sampler* sampler);
/** Records prompt tokens: the repetition penalty counts them, frequency and presence penalties do not.
 * @param ids  [n_ids] */
FINERMOE_API finermoe_status finermoe_sampler_accept_prompt(finermoe_sampler* sampler, const int32_t* ids, size_t n_ids,
                                                            finermoe_error** error);
/** Records a generated token, chosen here or elsewhere. All penalties count it, and so does min_tokens, before which
 * stop tokens cannot be chosen. */
FINERMOE_API finermoe_status finermoe_sampler_accept(finermoe_sampler* sampler, int32_t id, finermoe_error** error);
/** Chooses a token, consuming as much of the random stream as a generation would; does not accept it.
 * @param logits  [n_logits], one for each id of the vocabulary
 * @return FINERMOE_ERROR_TOKEN_OUT_OF_RANGE if options or accepted tokens name an id that is not below n_logits,
 *         FINERMOE_ERROR_NOT_FINITE for a NaN, FINERMOE_ERROR_STATE if every token is forbidden */
FINERMOE_API finermoe_status finermoe_sampler_choose(finermoe_sampler* sampler, const float* logits, size_t n_logits,
                                                     int32_t* id, finermoe_error** error);

typedef struct finermoe_generation_info {
  uint32_t struct_size;
  int32_t finish_reason;
  int32_t prepared; /**< 1: the next token's logits are computed; `next` only has to choose */
  int32_t status;   /**< FINERMOE_OK, or, if it cannot go on, the code `next` would return, as far as that is known */
  size_t n_prompt;  /**< tokens of the prompt, including the part that the session already held */
  size_t n_generated;
  size_t n_kept; /**< of n_prompt, those that the session already held */
  uint64_t tag;
  double prefill_seconds; /**< time of passes over the prompt and appended tokens; passes shared in a batch count in
                               full */
  double decode_seconds;  /**< the same for passes over generated tokens, plus the time of sampling */
  uint64_t n_drafted;     /**< tokens computed ahead (finermoe_generation_options_set_lookup, …_set_draft) */
  uint64_t n_accepted;    /**< those of them that were then chosen */
} finermoe_generation_info;

FINERMOE_API finermoe_status finermoe_generation_get_info(const finermoe_generation* generation,
                                                          finermoe_generation_info* info, finermoe_error** error);

/** Changes the model that drafts, between any two tokens: for a restored request, which has none, or where another one
 * pays more. All else is as finermoe_generation_options_set_draft says.
 * @param model  NULL: none from now on
 * @return FINERMOE_ERROR_INVALID_ARGUMENT for another vocabulary than the session's model has, FINERMOE_ERROR_STATE if
 *         the generation has finished, FINERMOE_ERROR_MEMORY_LIMIT if its rows of logits have no room; after an error
 *         drafts go on as before */
FINERMOE_API finermoe_status finermoe_generation_set_draft(finermoe_generation* generation, finermoe_model* model,
                                                           size_t n_draft, finermoe_error** error);

/** @param tag  any number the host likes, which finermoe_batch_next returns with the events; 0 by default */
FINERMOE_API finermoe_status finermoe_generation_set_tag(finermoe_generation* generation, uint64_t tag,
                                                         finermoe_error** error);
/** @return the error of this request's last `next`, `prepare` or batch pass, with its message; FINERMOE_OK if that
 *         succeeded */
FINERMOE_API finermoe_status finermoe_generation_get_error(const finermoe_generation* generation,
                                                           finermoe_error** error);

/** Generations of one model that advance together, one pass over the weights for all. One thread at a time. */
typedef struct finermoe_batch finermoe_batch;

FINERMOE_API finermoe_status finermoe_batch_create(finermoe_model* model, finermoe_batch** batch,
                                                   finermoe_error** error);
FINERMOE_API void finermoe_batch_close(finermoe_batch* batch);
FINERMOE_API void finermoe_batch_free(finermoe_batch* batch);
/** Members may join and leave between any two steps. The batch keeps them alive. It refuses a second generation on the
 * same session, and a session of different precision. A generation should be in one batch only. */
FINERMOE_API finermoe_status finermoe_batch_add(finermoe_batch* batch, finermoe_generation* generation,
                                                finermoe_error** error);
FINERMOE_API finermoe_status finermoe_batch_remove(finermoe_batch* batch, finermoe_generation* generation,
                                                   finermoe_error** error);
/** One pass over the weights for every member that is not prepared: one token for those that decode, a chunk of the
 * prompt for those that prefill. Then call finermoe_generation_next on the prepared ones (it only has to choose;
 * finermoe_generation_get_info tells which they are).
 * A member that cannot go on (closed, its session closed or empty, a router logit or one of its own logits not finite,
 * no memory for its trace) fails alone: the others advance as if it were not there, get_info reports its `status` (or
 * fails, if the member is closed), and its own finermoe_generation_next returns the reason on every call. If computing
 * it failed, later steps skip it until its `next` or `prepare` succeeds or its session holds other tokens. A member
 * whose generation, session or trace is in use by another thread skips this step.
 * @param n_active  out: members that have not finished and can go on; 0: nothing is left to do
 * @return an error that affects all members: cancelled, closed, no memory. What was computed before it is kept. */
FINERMOE_API finermoe_status finermoe_batch_step(finermoe_batch* batch, finermoe_cancel* cancel, size_t* n_active,
                                                 finermoe_error** error);
/** The next token of any member. If none is ready, passes are computed until one is. Members take turns. A member
 * leaves the batch with its last event, be it its finish or FINERMOE_FINISH_ERROR; neither affects the others.
 * @param tag    out: of the generation that the event belongs to
 * @param event  out: its pointers are valid until the next finermoe_batch_next, or a finermoe_generation_next or
 *               _finish on that generation. When no member is left: token -1, FINERMOE_FINISH_NONE and tag 0
 * @return errors of finermoe_batch_step; FINERMOE_ERROR_BUSY if other threads are using all members that are left */
FINERMOE_API finermoe_status finermoe_batch_next(finermoe_batch* batch, finermoe_cancel* cancel, uint64_t* tag,
                                                 finermoe_event* event, finermoe_error** error);

/* ---------------------------------------------------------------------------------------------------------------
 * 10. Writers and checks
 *
 * A writer first checks that there is enough disk space, writes to a temporary place beside its destination, then syncs
 * and renames. OUT is a directory, or a single file if it ends in ".safetensors". The same inputs and seed give the
 * same bytes. */

typedef struct finermoe_writer_options finermoe_writer_options;

FINERMOE_API finermoe_status finermoe_writer_options_create(finermoe_writer_options** options, finermoe_error** error);
FINERMOE_API void finermoe_writer_options_free(finermoe_writer_options* options);
/** @param seed  of every random draw; 0 by default */
FINERMOE_API finermoe_status finermoe_writer_options_set_seed(finermoe_writer_options* options, uint64_t seed,
                                                              finermoe_error** error);
/** @param bytes  the most that a shard may hold; 5,000,000,000 by default */
FINERMOE_API finermoe_status finermoe_writer_options_set_shard_size(finermoe_writer_options* options, uint64_t bytes,
                                                                    finermoe_error** error);
/** @param overwrite  1: replace an existing OUT once the new one is complete, provided it is a model as the writers
 * make it, an empty directory or, for a single file, a file; anything else is FINERMOE_ERROR_FILE_EXISTS, whose message
 * names the first thing that would be lost. 0 (default): any existing OUT is FINERMOE_ERROR_FILE_EXISTS */
FINERMOE_API finermoe_status finermoe_writer_options_set_overwrite(finermoe_writer_options* options, int32_t overwrite,
                                                                   finermoe_error** error);
FINERMOE_API finermoe_status finermoe_writer_options_set_progress(finermoe_writer_options* options,
                                                                  finermoe_progress_fn progress, void* user,
                                                                  finermoe_error** error);
/** @param cancel  kept alive by the options */
FINERMOE_API finermoe_status finermoe_writer_options_set_cancel(finermoe_writer_options* options,
                                                                finermoe_cancel* cancel, finermoe_error** error);

/** How upcycling turns a dense FFN into experts. */
typedef struct finermoe_upcycle_options finermoe_upcycle_options;

enum { FINERMOE_CONCAT_PROJ_NONE = 0, FINERMOE_CONCAT_PROJ_NORMAL = 1, FINERMOE_CONCAT_PROJ_ZERO = 2 };
enum { FINERMOE_ROUTER_INIT_NORMAL = 0, FINERMOE_ROUTER_INIT_VIRTUAL_GROUP = 1 };

/** @param preset  "finermoe", "c32a2", "s16a4", "drop-upcycling", "nvshard", "no-fg", "inter-fg" or "out-fg"; NULL:
 *                 "finermoe" */
FINERMOE_API finermoe_status finermoe_upcycle_options_create(const char* preset, finermoe_upcycle_options** options,
                                                             finermoe_error** error);
FINERMOE_API void finermoe_upcycle_options_free(finermoe_upcycle_options* options);
/** Each at least 1: G_I, R_I, G_O, R_O and T_I. A 0 leaves the preset's value. */
FINERMOE_API finermoe_status finermoe_upcycle_options_set_shape(finermoe_upcycle_options* options,
                                                                size_t granularity_inter, size_t expansion_inter,
                                                                size_t granularity_output, size_t expansion_output,
                                                                size_t top_inter, finermoe_error** error);
/** @param shared  1: the dense FFN becomes the shared expert; 0: none */
FINERMOE_API finermoe_status finermoe_upcycle_options_set_shared_expert(finermoe_upcycle_options* options,
                                                                        int32_t shared, finermoe_error** error);
/** @param concat_proj  FINERMOE_CONCAT_PROJ_… */
FINERMOE_API finermoe_status finermoe_upcycle_options_set_concat_proj(finermoe_upcycle_options* options,
                                                                      int32_t concat_proj, finermoe_error** error);
/** @param separate  1: a second router for the output components (Table 3) */
FINERMOE_API finermoe_status finermoe_upcycle_options_set_separate_router(finermoe_upcycle_options* options,
                                                                          int32_t separate, finermoe_error** error);
/** @param scale  multiplies the experts' down projections; 0 (default): G_I without a shared expert, else 1 */
FINERMOE_API finermoe_status finermoe_upcycle_options_set_down_scale(finermoe_upcycle_options* options, double scale,
                                                                     finermoe_error** error);
/** @param ratio  in [0, 1]: fraction of each expert's intermediate indices that is reinitialized at random
 *                (Drop-Upcycling, arXiv 2502.19261) */
FINERMOE_API finermoe_status finermoe_upcycle_options_set_drop_ratio(finermoe_upcycle_options* options, double ratio,
                                                                     finermoe_error** error);
/** @param router_init  FINERMOE_ROUTER_INIT_… */
FINERMOE_API finermoe_status finermoe_upcycle_options_set_router_init(finermoe_upcycle_options* options,
                                                                      int32_t router_init, finermoe_error** error);

/** Makes a Mixture-of-Experts checkpoint from a dense one (Eq. 9 and 10). Streams the weights, so needs little memory.
 * @param options         NULL: the preset "finermoe"
 * @param writer_options  NULL for the defaults
 * @return FINERMOE_ERROR_CONFIG_INCONSISTENT if a size is not divisible, FINERMOE_ERROR_FILE_EXISTS,
 *         FINERMOE_ERROR_DISK_FULL, … */
FINERMOE_API finermoe_status finermoe_upcycle_run(const char* dense_path, const char* out_path,
                                                  const finermoe_upcycle_options* options,
                                                  const finermoe_writer_options* writer_options,
                                                  finermoe_error** error);

/** Writes a random checkpoint of any shape, for tests and benchmarks at full size: matrices are normal with the
 * configuration's initializer_range, norms one, biases normal.
 * @param config_path  a config.json or a directory that holds one; tokenizer files beside it are copied
 * @param dtype        FINERMOE_DTYPE_…; for a block format, each tensor has the type that finermoe_quantize_run would
 *                     give it; -1: the configuration's own */
FINERMOE_API finermoe_status finermoe_synthesize_run(const char* config_path, const char* out_path, int32_t dtype,
                                                     const finermoe_writer_options* writer_options,
                                                     finermoe_error** error);

/** The type to quantize each matrix to. Routers, gates, norms and biases always keep theirs. */
typedef struct finermoe_quantize_options finermoe_quantize_options;

/** @param dtype  FINERMOE_DTYPE_Q8 or FINERMOE_DTYPE_Q4, for all matrices but embeddings and head, which become Q8 */
FINERMOE_API finermoe_status finermoe_quantize_options_create(int32_t dtype, finermoe_quantize_options** options,
                                                              finermoe_error** error);
FINERMOE_API void finermoe_quantize_options_free(finermoe_quantize_options* options);
/** Sets another type for the matrices whose names match; the last matching pattern wins.
 * @param pattern  of tensor names, with * and ?: "lm_head.weight", "*.self_attn.*"
 * @param dtype    FINERMOE_DTYPE_Q8, FINERMOE_DTYPE_Q4, or -1: as in the source */
FINERMOE_API finermoe_status finermoe_quantize_options_add_override(finermoe_quantize_options* options,
                                                                    const char* pattern, int32_t dtype,
                                                                    finermoe_error** error);
/** Writes a quantized copy of a model. Streams the weights, so needs little memory.
 * @param options         NULL: Q8
 * @param writer_options  NULL for the defaults
 * @return FINERMOE_ERROR_NOT_FINITE for a weight that no scale can represent, FINERMOE_ERROR_FILE_EXISTS, … */
FINERMOE_API finermoe_status finermoe_quantize_run(const char* path, const char* out_path,
                                                   const finermoe_quantize_options* options,
                                                   const finermoe_writer_options* writer_options,
                                                   finermoe_error** error);

/** The findings of a verification, file by file. Immutable. */
typedef struct finermoe_verification finermoe_verification;

typedef struct finermoe_verification_file {
  uint32_t struct_size;
  uint32_t reserved;
  const char* name;      /**< valid as long as the verification, like the next two */
  const char* sha256;    /**< 64 hexadecimal digits */
  const char* first_bad; /**< the first tensor that holds a NaN or infinity, or "" */
  uint64_t size;         /**< bytes */
  size_t n_tensors;      /**< 0 for files without tensors */
  uint64_t n_nan;        /**< parameters, like the next */
  uint64_t n_infinite;
} finermoe_verification_file;

/** Reads every file of a model once: structure, SHA-256, NaN and infinity. Bad values are a finding, not an error.
 * @param progress  may be NULL  @param cancel  may be NULL */
FINERMOE_API finermoe_status finermoe_verification_run(const char* path, finermoe_progress_fn progress, void* user,
                                                       finermoe_cancel* cancel, finermoe_verification** verification,
                                                       finermoe_error** error);
FINERMOE_API size_t finermoe_verification_count(const finermoe_verification* verification);
FINERMOE_API finermoe_status finermoe_verification_get_file(const finermoe_verification* verification, size_t index,
                                                            finermoe_verification_file* file, finermoe_error** error);
FINERMOE_API void finermoe_verification_free(finermoe_verification* verification);

#ifdef __cplusplus
}
#endif
#endif /* FINERMOE_H */
