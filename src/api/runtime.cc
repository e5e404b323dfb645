// Section 3 of finermoe.h: runtime.
#include "api/handles.h"
#include "cpu/cpu_device.h"

using namespace finermoe;
using namespace finermoe::api;

Result<std::shared_ptr<Runtime>> finermoe::api::make_runtime(RuntimeOptions options) {
  const bool is_free_to_choose = options.isa == FINERMOE_ISA_AUTO;
  FM_ASSIGN(options.isa, acquire_isa(options.isa));
  // Where the system refused tiles, nothing of this runtime has room for them.
  const int32_t best_isa = is_free_to_choose ? options.isa : *resolve_isa(FINERMOE_ISA_AUTO);
  if (!options.blas_library) return Runtime::create(options, {cpu_device(nullptr, {}, best_isa)});

  FM_ASSIGN(std::shared_ptr<const Blas> blas, Blas::open(*options.blas_library));
  options.blas = blas->description();
  const uint32_t n_threads = options.n_threads != 0 ? options.n_threads : available_processors();
  options.uses_blas = is_free_to_choose && is_faster(*blas, options.isa, n_threads);
  const auto device = cpu_device(options.uses_blas ? blas : nullptr, {}, best_isa);
  FM_ASSIGN(auto runtime, Runtime::create(options, {device}));
  runtime->log(1, format_text(options.blas, options.uses_blas ? " computes products" : " is not used"));
  return runtime;
}

int32_t finermoe_runtime_options_create(finermoe_runtime_options** options, finermoe_error** error) {
  return guarded(error, [&] { return give(options); });
}
void finermoe_runtime_options_free(finermoe_runtime_options* options) { delete options; }

int32_t finermoe_runtime_options_set_threads(finermoe_runtime_options* options, uint32_t n_threads,
                                             finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(n_threads, n_threads <= 4096, "n_threads", "at most 4096"));
    options->options.n_threads = n_threads;
    return {};
  });
}

int32_t finermoe_runtime_options_set_isa(finermoe_runtime_options* options, int32_t isa, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(resolve_isa(isa).status());
    options->options.isa = isa;
    return {};
  });
}

int32_t finermoe_runtime_options_set_blas(finermoe_runtime_options* options, const char* path, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->options.blas_library = path ? path : "";
    return {};
  });
}

int32_t finermoe_runtime_options_set_memory_limit(finermoe_runtime_options* options, uint64_t bytes,
                                                  finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->options.memory_limit = bytes;
    return {};
  });
}

int32_t finermoe_runtime_options_set_log(finermoe_runtime_options* options, finermoe_log_fn sink, void* user,
                                         finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->options.log = sink;
    options->options.log_user = user;
    return {};
  });
}

int32_t finermoe_runtime_options_set_executor(finermoe_runtime_options* options, finermoe_executor_fn executor,
                                              void* user, uint32_t n_threads, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require(reinterpret_cast<const void*>(executor), "executor"));
    FM_TRY(require_range(n_threads, n_threads >= 1 && n_threads <= 4096, "n_threads", "1 to 4096"));
    options->options.executor = executor;
    options->options.executor_user = user;
    options->options.n_threads = n_threads;
    return {};
  });
}

int32_t finermoe_runtime_options_set_profile(finermoe_runtime_options* options, int32_t profile,
                                             finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_flag(profile, "profile"));
    options->options.profile = profile != 0;
    return {};
  });
}

int32_t finermoe_runtime_options_set_device(finermoe_runtime_options* options, const char* name,
                                            finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->options.device = name ? name : "";
    return {};
  });
}

int32_t finermoe_runtime_options_set_device_module(finermoe_runtime_options* options, const char* path,
                                                   finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->options.device_module = path ? path : "";
    return {};
  });
}

int32_t finermoe_runtime_create(const finermoe_runtime_options* options, finermoe_runtime** runtime,
                                finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(runtime, "runtime"));
    FM_ASSIGN(auto created, make_runtime(options ? options->options : RuntimeOptions{}));
    return give(runtime, std::move(created));
  });
}
int32_t finermoe_runtime_open_model(const finermoe_model* model, finermoe_runtime** runtime, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(model->model->runtime()->check_process());
    return give(runtime, model->model->runtime());
  });
}
void finermoe_runtime_free(finermoe_runtime* runtime) { delete runtime; }

int32_t finermoe_runtime_get_info(const finermoe_runtime* runtime, finermoe_runtime_info* info,
                                  finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(runtime, "runtime"));
    FM_TRY(runtime->runtime->check_process());
    const Runtime& r = *runtime->runtime;
    finermoe_runtime_info out{};
    out.n_threads = r.pool()->n_threads();
    out.isa = r.isa();
    out.memory_limit = r.account()->limit();
    out.memory_used = r.account()->used();
    out.memory_peak = r.account()->peak();
    put_chars(r.device().device->name(), out.device);
    out.uses_blas = r.uses_blas();
    put_chars(r.blas(), out.blas);
    return put_struct(out, info);
  });
}

size_t finermoe_runtime_operation_count(const finermoe_runtime* runtime) {
  return runtime != nullptr && runtime->runtime->profile() ? Profile::n_operations : 0;
}

int32_t finermoe_runtime_get_operation(const finermoe_runtime* runtime, size_t index,
                                       finermoe_runtime_operation* operation, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(runtime, "runtime"));
    FM_TRY(runtime->runtime->check_process());
    FM_TRY(require_index(index, finermoe_runtime_operation_count(runtime), "operation"));
    const OperationProfile found = runtime->runtime->profile()->read()[index];
    finermoe_runtime_operation out{};
    out.name = found.name;
    out.n_calls = found.n_calls;
    out.seconds = found.seconds;
    out.bytes = found.bytes;
    out.macs = found.macs;
    return put_struct(out, operation);
  });
}

int32_t finermoe_runtime_reset_profile(finermoe_runtime* runtime, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(runtime, "runtime"));
    FM_TRY(runtime->runtime->check_process());
    if (runtime->runtime->profile()) runtime->runtime->profile()->reset();
    return {};
  });
}
