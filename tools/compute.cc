#include "compute.h"

#include "flags.h"
#include "library.h"
#include "names.h"
#include "progress.h"

namespace tool {

void add_memory_limit(CLI::App& app, ComputeFlags& flags) {
  add_size(app, "--memory-limit", flags.memory_limit, "most that the library may allocate, such as 24GB")
      ->group("Computing");
}

namespace {
constexpr const char* kResidency = "Weights in memory";
}

void add_expert_budget(CLI::App& app, ComputeFlags& flags) {
  add_size(app, "--expert-budget", flags.expert_budget, "most bytes of routed experts, the least recently used dropped")
      ->group(kResidency);
}

void add_residency(CLI::App& app, ComputeFlags& flags) {
  app.add_flag("--copy", flags.copy, "read them into memory of their own, on large pages, instead of mapping the files")
      ->group(kResidency);
  add_choice(app, "--lock", flags.lock, {"none", "every-token", "all"},
             "weights to lock there: those that every token reads, or all (default none)")
      ->group(kResidency);
  add_expert_budget(app, flags);
  add_choice(app, "--prefetch", flags.prefetch, {"auto", "on", "off"},
             "read chosen experts ahead of their use (default auto: where the model may not fit)")
      ->group(kResidency);
}

void add_session(CLI::App& app, ComputeFlags& flags) {
  add_count(app, "--context", flags.context, kTokens, "tokens that a session can hold")->group("Computing");
  add_choice(app, "--kv-dtype", flags.kv_dtype, {"f32", "f16", "bf16", "q8"},
             "storage type of the KV cache (default f32)")
      ->group("Computing");
}

void add_threads(CLI::App& app, ComputeFlags& flags) {
  add_count(app, "--threads", flags.threads, {1, 4096}, "threads that compute (default: all this process may use)")
      ->group("Computing");
}

void add_device_module(CLI::App& app, ComputeFlags& flags) {
  app.add_option("--device-module", flags.device_module, "shared library with more devices")
      ->type_name("FILE")
      ->group("Computing");
}

void add_blas(CLI::App& app, ComputeFlags& flags) {
  app.add_option("--blas", flags.blas,
                 "OpenBLAS, for products that it computes faster: its path, or auto for that of the system")
      ->type_name("FILE")
      ->group("Computing");
}

void add_device(CLI::App& app, ComputeFlags& flags) {
  app.add_option("--device", flags.device, "device that computes: a name of `finermoe system` (default cpu)")
      ->type_name("NAME")
      ->group("Computing");
  add_size(
      app, "--device-memory", flags.device_memory,
      "most that the model and one session may take of it, such as 8GB: what has no room is computed by the CPU or "
      "the expert device (default: all weights are there)")
      ->group("Computing");
  add_device_module(app, flags);
}

void add_expert_cache(CLI::App& app, ComputeFlags& flags) {
  add_size(app, "--expert-cache", flags.expert_cache,
           "bytes of the device into which chosen experts without room there are fetched, within --device-memory "
           "(default: they are computed elsewhere)")
      ->group("Computing");
}

void add_compute(CLI::App& app, ComputeFlags& flags, ComputeParts parts) {
  add_threads(app, flags);
  add_choice(app, "--isa", flags.isa, {"auto", "portable", "avx2", "avx512", "amx"}, "instruction set (default auto)")
      ->group("Computing");
  add_blas(app, flags);
  add_device(app, flags);
  app.add_option("--expert-device", flags.expert_device,
                 "device that has the routed experts, or those without room (default: the same, or cpu)")
      ->type_name("NAME")
      ->group("Computing");
  add_expert_cache(app, flags);
  add_memory_limit(app, flags);
  if (parts == kThreadsOnly) return;
  add_session(app, flags);
  add_choice(
      app, "--precision", flags.precision, {"exact", "fast"},
      "activations in float32, or rounded to what the weights multiply fastest (default " + flags.precision + ")")
      ->group("Computing");
  add_residency(app, flags);
}

namespace {

const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

// The bytes of weights that leave room for a session and an expert cache within --device-memory; 0: no limit.
uint64_t device_weights(const std::string& path, const ComputeFlags& flags) {
  if (flags.device_memory == 0) return 0;
  Config config;
  call(finermoe_config_open, path.c_str(), config.out());
  const finermoe_plan plan = compute_plan(config, flags, 1);
  if (plan.device_total <= plan.device_memory) return plan.device_weights;
  // Too little for any share, which the library says of what is left for weights.
  const uint64_t besides_weights = plan.device_total - plan.device_weights;
  return plan.device_memory > besides_weights ? plan.device_memory - besides_weights : 1;
}

}  // namespace

void set_blas(const RuntimeOptions& options, const ComputeFlags& flags) {
  if (flags.blas.empty()) return;
  call(finermoe_runtime_options_set_blas, options.get(), flags.blas == "auto" ? nullptr : flags.blas.c_str());
}

finermoe_plan compute_plan(const Config& config, const ComputeFlags& flags, size_t n_sessions) {
  const SessionOptions session = session_options(flags, 0);
  PlanOptions options;
  call(finermoe_plan_options_create, options.out());
  call(finermoe_plan_options_set_session, options.get(), session.get());
  call(finermoe_plan_options_set_sessions, options.get(), n_sessions);
  call(finermoe_plan_options_set_threads, options.get(), flags.threads);
  call(finermoe_plan_options_set_device, options.get(), or_null(flags.device_module), or_null(flags.device),
       flags.device_memory);
  call(finermoe_plan_options_set_expert_cache, options.get(), flags.expert_cache);
  finermoe_plan plan{};
  plan.struct_size = sizeof plan;
  call(finermoe_plan_compute, config.get(), options.get(), &plan);
  return plan;
}

Model open_model(const std::string& path, const ComputeFlags& flags, finermoe_cancel* cancel) {
  RuntimeOptions runtime_options;
  call(finermoe_runtime_options_create, runtime_options.out());
  call(finermoe_runtime_options_set_threads, runtime_options.get(), flags.threads);
  const int32_t isa = flags.isa == "portable" ? FINERMOE_ISA_PORTABLE
                      : flags.isa == "avx2"   ? FINERMOE_ISA_AVX2
                      : flags.isa == "avx512" ? FINERMOE_ISA_AVX512
                      : flags.isa == "amx"    ? FINERMOE_ISA_AMX
                                              : FINERMOE_ISA_AUTO;
  call(finermoe_runtime_options_set_isa, runtime_options.get(), isa);
  set_blas(runtime_options, flags);
  call(finermoe_runtime_options_set_device, runtime_options.get(), or_null(flags.device));
  call(finermoe_runtime_options_set_device_module, runtime_options.get(), or_null(flags.device_module));
  call(finermoe_runtime_options_set_memory_limit, runtime_options.get(), flags.memory_limit);
  call(finermoe_runtime_options_set_profile, runtime_options.get(), flags.profile ? 1 : 0);
  Runtime runtime;
  call(finermoe_runtime_create, runtime_options.get(), runtime.out());
  ModelOptions options;
  call(finermoe_model_options_create, options.out());
  call(finermoe_model_options_set_runtime, options.get(), runtime.get());
  call(finermoe_model_options_set_expert_device, options.get(), or_null(flags.expert_device));
  call(finermoe_model_options_set_device_weights, options.get(), device_weights(path, flags));
  call(finermoe_model_options_set_expert_cache, options.get(), flags.expert_cache);
  call(finermoe_model_options_set_copy, options.get(), flags.copy ? 1 : 0);
  call(finermoe_model_options_set_lock, options.get(),
       flags.lock == "every-token" ? FINERMOE_LOCK_EVERY_TOKEN
       : flags.lock == "all"       ? FINERMOE_LOCK_ALL
                                   : FINERMOE_LOCK_NONE);
  call(finermoe_model_options_set_expert_budget, options.get(), flags.expert_budget);
  call(finermoe_model_options_set_prefetch, options.get(),
       flags.prefetch == "on"    ? FINERMOE_PREFETCH_ON
       : flags.prefetch == "off" ? FINERMOE_PREFETCH_OFF
                                 : FINERMOE_PREFETCH_AUTO);
  call(finermoe_model_options_set_cancel, options.get(), cancel);
  Model model;
  call(finermoe_model_open, path.c_str(), options.get(), model.out());
  return model;
}

Model open_beside(const Model& other, const std::string& path) {
  Runtime runtime;
  call(finermoe_runtime_open_model, other.get(), runtime.out());
  ModelOptions options;
  call(finermoe_model_options_create, options.out());
  call(finermoe_model_options_set_runtime, options.get(), runtime.get());
  Model model;
  call(finermoe_model_open, path.c_str(), options.get(), model.out());
  return model;
}

SessionOptions session_options(const ComputeFlags& flags, uint64_t context) {
  SessionOptions options;
  call(finermoe_session_options_create, options.out());
  call(finermoe_session_options_set_context_length, options.get(), flags.context != 0 ? flags.context : context);
  call(finermoe_session_options_set_kv_dtype, options.get(), dtype_code(flags.kv_dtype));
  call(finermoe_session_options_set_precision, options.get(),
       flags.precision == "fast" ? FINERMOE_PRECISION_FAST : FINERMOE_PRECISION_EXACT);
  return options;
}

Session open_session(const Model& model, const ComputeFlags& flags, uint64_t context, Progress* progress) {
  const SessionOptions options = session_options(flags, context);
  if (progress != nullptr) {
    call(finermoe_session_options_set_progress, options.get(), Progress::report, static_cast<void*>(progress));
  }
  Session session;
  call(finermoe_session_create, model.get(), options.get(), session.out());
  return session;
}

}  // namespace tool
