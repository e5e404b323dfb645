// Kinds of rows: models, runtimes, plans.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <thread>

#include "runner.h"

namespace fs = std::filesystem;

namespace {

ConfigHandle config_of(const Json& row) {
  return create<ConfigHandle>(
      [&](auto** out, auto** e) { return finermoe_config_open(model_path(row).c_str(), out, e); });
}

Json config(const Json& row) {
  const auto config = config_of(row);
  const auto i =
      get<finermoe_config_info>([&](auto* out, auto** e) { return finermoe_config_get_info(config.get(), out, e); });
  return {{"dtype", i.dtype},
          {"model_type", i.model_type},
          {"hidden_size", i.hidden_size},
          {"intermediate_size", i.intermediate_size},
          {"n_layers", i.n_layers},
          {"n_moe_layers", i.n_moe_layers},
          {"n_heads", i.n_heads},
          {"n_kv_heads", i.n_kv_heads},
          {"head_size", i.head_size},
          {"vocab_size", i.vocab_size},
          {"max_positions", i.max_positions},
          {"granularity_inter", i.granularity_inter},
          {"expansion_inter", i.expansion_inter},
          {"granularity_output", i.granularity_output},
          {"expansion_output", i.expansion_output},
          {"n_experts", i.n_experts},
          {"n_experts_per_token", i.n_experts_per_token},
          {"expert_width", i.expert_width},
          {"expert_output_width", i.expert_output_width},
          {"shared_expert_width", i.shared_expert_width},
          {"has_concat_proj", i.has_concat_proj != 0},
          {"has_separate_router", i.has_separate_router != 0},
          {"norm_topk_prob", i.norm_topk_prob != 0},
          {"tied_embeddings", i.tied_embeddings != 0},
          {"rms_norm_eps", i.rms_norm_eps},
          {"rope_theta", i.rope_theta},
          {"parameters_total", i.parameters_total},
          {"parameters_active", i.parameters_active},
          {"rope_scaling", i.rope_scaling},
          {"rope_factor", i.rope_factor},
          {"rope_original_positions", i.rope_original_positions},
          {"rope_attention_factor", i.rope_attention_factor},
          {"sliding_window", i.sliding_window},
          {"n_sliding_layers", i.n_sliding_layers}};
}

Json config_json(const Json& row) {
  const auto config = config_of(row);
  const auto json = read<std::string>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_config_get_json(config.get(), out, capacity, needed, e);
  });
  if (json != file_bytes(model_path(row) / "config.json")) throw Failed{0, "not the bytes of config.json", "", ""};
  return {{"bytes", json.size()}};
}

Json plan(const Json& row) {
  const auto config = config_of(row);
  const auto options = create<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  const auto session = session_options(row);
  call([&](auto** e) { return finermoe_plan_options_set_session(options.get(), session.get(), e); });
  call([&](auto** e) { return finermoe_plan_options_set_sessions(options.get(), row["sessions"], e); });
  call([&](auto** e) { return finermoe_plan_options_set_threads(options.get(), row["threads"], e); });
  const auto p = get<finermoe_plan>(
      [&](auto* out, auto** e) { return finermoe_plan_compute(config.get(), options.get(), out, e); });
  return {{"weights_embeddings", p.weights_embeddings},
          {"weights_attention", p.weights_attention},
          {"weights_dense", p.weights_dense},
          {"weights_shared", p.weights_shared},
          {"weights_routed", p.weights_routed},
          {"weights_router", p.weights_router},
          {"weights_total", p.weights_total},
          {"kv_cache", p.kv_cache},
          {"bytes_per_token", p.bytes_per_token},
          {"weights_every_token", p.weights_every_token},
          {"device_memory", p.device_memory},
          {"device_weights", p.device_weights},
          {"device_total", p.device_total},
          {"device_layers", p.device_layers},
          {"device_moe_layers", p.device_moe_layers},
          {"device_routed", p.device_routed},
          {"host_weights", p.host_weights},
          {"device_bytes_per_token", p.device_bytes_per_token},
          {"expert_cache", p.expert_cache},
          {"expert_cache_slots", p.expert_cache_slots},
          {"fetched_bytes_per_token", p.fetched_bytes_per_token}};
}

Json system(const Json&) {
  const auto info = get<finermoe_system_info>([](auto* out, auto** e) { return finermoe_system_get_info(out, e); });
  static const std::set<std::string> kernels{"portable", "avx2", "avx2-vnni", "avx512", "amx"};
  const auto device =
      get<finermoe_device_info>([](auto* out, auto** e) { return finermoe_device_get_info(nullptr, 0, out, e); });
  return {{"devices", device.name}, {"kernels_known", kernels.contains(info.kernels)}};
}

RuntimeOptions new_runtime_options() {
  return create<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
}
RuntimeHandle new_runtime(const RuntimeOptions& options) {
  return create<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_create(options.get(), out, e); });
}
ModelOptions new_model_options() {
  return create<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
}
ModelHandle open_on(const Json& row, const RuntimeHandle& runtime) {
  const auto options = new_model_options();
  call([&](auto** e) { return finermoe_model_options_set_runtime(options.get(), runtime.get(), e); });
  return create<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(model_path(row).c_str(), options.get(), out, e); });
}

std::set<std::string> operations_with_calls(const finermoe_runtime* runtime) {
  std::set<std::string> names;
  for (size_t i = 0; i < finermoe_runtime_operation_count(runtime); i++) {
    const auto operation = get<finermoe_runtime_operation>(
        [&](auto* out, auto** e) { return finermoe_runtime_get_operation(runtime, i, out, e); });
    if (operation.n_calls > 0) names.insert(operation.name);
  }
  return names;
}

Json runtime(const Json& row) {
  const auto options = new_runtime_options();
  call([&](auto** e) { return finermoe_runtime_options_set_threads(options.get(), row["threads"], e); });
  call([&](auto** e) { return finermoe_runtime_options_set_memory_limit(options.get(), row["memory_limit"], e); });
  call([&](auto** e) { return finermoe_runtime_options_set_profile(options.get(), row["profile"].get<bool>(), e); });
  const auto runtime = new_runtime(options);
  const auto model = open_on(row, runtime);
  append(open_row_session(model.get()).get(), row["ids"]);
  const auto info =
      get<finermoe_runtime_info>([&](auto* out, auto** e) { return finermoe_runtime_get_info(runtime.get(), out, e); });
  Json out{{"n_threads", info.n_threads}, {"memory_limit", info.memory_limit},
           {"device", info.device},       {"uses_blas", info.uses_blas != 0},
           {"blas", info.blas},           {"operations", operations_with_calls(runtime.get())}};
  call([&](auto** e) { return finermoe_runtime_reset_profile(runtime.get(), e); });
  out["calls_after_reset"] = operations_with_calls(runtime.get()).size();
  return out;
}

// The row's model as a single file in Q8.
fs::path single_file(const Json& row) {
  const fs::path path = temporary_folder() / "q8.safetensors";
  call([&](auto** e) { return finermoe_quantize_run(model_path(row).c_str(), path.c_str(), nullptr, nullptr, e); });
  return path;
}
Json text_of_request(finermoe_model* model, const Json& row) {
  const auto session = open_row_session(model, row);
  return {{"text", text_to_the_end(start(model, session.get(), row).get())}};
}
Json open_memory(const Json& row) {
  const std::string bytes = file_bytes(single_file(row));
  const auto model = create<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open_memory(bytes.data(), bytes.size(), nullptr, out, e); });
  return text_of_request(model.get(), row);
}
Json open_fd(const Json& row) {
  const int fd = ::open(single_file(row).c_str(), O_RDONLY | O_CLOEXEC);
  const auto model =
      create<ModelHandle>([&](auto** out, auto** e) { return finermoe_model_open_fd(fd, nullptr, out, e); });
  ::close(fd);
  return text_of_request(model.get(), row);
}

Json expert_cache(const Json& row) {
  const auto model = open_row_model(row);
  const auto info = get<finermoe_expert_cache_info>(
      [&](auto* out, auto** e) { return finermoe_model_get_expert_cache(model.get(), out, e); });
  return {{"bytes", info.bytes}, {"n_slots", info.n_slots}, {"n_hits", info.n_hits}, {"n_misses", info.n_misses}};
}

Json expert_similarity(const Json& row) {
  const auto model = open_row_model(row);
  double similarity = 0;
  call([&](auto** e) { return finermoe_model_expert_similarity(model.get(), row["layer"], nullptr, &similarity, e); });
  return {{"similarity", similarity}};
}

Json executor(const Json& row) {
  size_t tasks = 0;
  const auto in_two_threads = [](void* user, size_t n_tasks, finermoe_task_fn task, void* data) {
    *static_cast<size_t*>(user) += n_tasks;
    std::thread other([&] {
      for (size_t i = 1; i < n_tasks; i += 2) task(data, i);
    });
    for (size_t i = 0; i < n_tasks; i += 2) task(data, i);
    other.join();
  };
  const auto options = new_runtime_options();
  call([&](auto** e) { return finermoe_runtime_options_set_executor(options.get(), in_two_threads, &tasks, 2, e); });
  const auto model = open_on(row, new_runtime(options));
  const auto session = open_row_session(model.get());
  append(session.get(), row["ids"], FINERMOE_LOGITS_LAST);
  return {{"argmax", argmax(logits_row(session.get(), 0))}, {"tasks_ran", tasks > 0}};
}

Json log(const Json& row) {
  const fs::path folder = temporary_folder() / "model";
  fs::copy(model_path(row), folder);
  fs::remove(folder / "tokenizer.json");
  std::ofstream(folder / "tokenizer.json") << "{";

  std::set<int32_t> levels;
  const auto options = new_runtime_options();
  const auto take = [](void* user, int32_t level, const char*) {
    static_cast<std::set<int32_t>*>(user)->insert(level);
  };
  call([&](auto** e) { return finermoe_runtime_options_set_log(options.get(), take, &levels, e); });
  const auto runtime = new_runtime(options);
  const auto model_options = new_model_options();
  call([&](auto** e) { return finermoe_model_options_set_runtime(model_options.get(), runtime.get(), e); });
  const auto model = create<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(folder.c_str(), model_options.get(), out, e); });
  const auto session = open_row_session(model.get());
  next(start(model.get(), session.get(), row).get());
  return {{"levels", levels}};
}

Json load_progress(const Json& row) {
  Progress progress;
  const auto options = new_model_options();
  call([&](auto** e) { return finermoe_model_options_set_verify(options.get(), 1, e); });
  call([&](auto** e) { return finermoe_model_options_set_progress(options.get(), Progress::see, &progress, e); });
  create<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(model_path(row).c_str(), options.get(), out, e); });
  return progress.result();
}

}  // namespace

void add_models(Behaviours& behaviours) {
  behaviours.insert({{"config", config},
                     {"config_json", config_json},
                     {"plan", plan},
                     {"system", system},
                     {"runtime", runtime},
                     {"open_memory", open_memory},
                     {"open_fd", open_fd},
                     {"expert_cache", expert_cache},
                     {"expert_similarity", expert_similarity},
                     {"executor", executor},
                     {"log", log},
                     {"load_progress", load_progress}});
}
