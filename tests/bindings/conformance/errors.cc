// Kinds of rows: errors.
#include <fstream>

#include "runner.h"

namespace fs = std::filesystem;

namespace {

void write_file(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

ModelHandle open(const fs::path& path, finermoe_model_options* options = nullptr) {
  return create<ModelHandle>([&](auto** out, auto** e) { return finermoe_model_open(path.c_str(), options, out, e); });
}

// What is done with a file, a text or an option before there is a session.
bool do_before_a_session(const std::string& what, const Json& row) {
  if (what == "open") {
    open(temporary_folder() / row["path"].get<std::string>());
  } else if (what == "open_file") {
    const fs::path path = temporary_folder() / "m.safetensors";
    write_file(path, from_hexadecimal(row["bytes"]));
    open(path);
  } else if (what == "config") {
    const std::string json = row["json"];
    create<ConfigHandle>(
        [&](auto** out, auto** e) { return finermoe_config_open_memory(json.data(), json.size(), out, e); });
  } else if (what == "tokenizer") {
    const std::string json = row["json"];
    create<TokenizerHandle>([&](auto** out, auto** e) {
      return finermoe_tokenizer_open_memory(json.data(), json.size(), nullptr, 0, out, e);
    });
  } else if (what == "role") {
    chat_of({{{"role", row["role"]}, {"content", "text"}}});
  } else if (what == "quantize_existing") {
    const fs::path out = temporary_folder();
    write_file(out / "notes.txt", "mine");
    call([&](auto** e) { return finermoe_quantize_run(model_path(row).c_str(), out.c_str(), nullptr, nullptr, e); });
  } else if (what == "upcycle") {
    const auto options = create<std::unique_ptr<finermoe_upcycle_options, FreeWith<finermoe_upcycle_options_free>>>(
        [](auto** out, auto** e) { return finermoe_upcycle_options_create(nullptr, out, e); });
    call([&](auto** e) { return finermoe_upcycle_options_set_shape(options.get(), row["g_i"], 0, 0, 0, 0, e); });
    const fs::path out = temporary_folder() / "out";
    call([&](auto** e) {
      return finermoe_upcycle_run(model_path(row).c_str(), out.c_str(), options.get(), nullptr, e);
    });
  } else if (what == "plan_device") {
    const auto options = create<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
    const std::string device = row["device"];
    call([&](auto** e) {
      return finermoe_plan_options_set_device(options.get(), nullptr, device.c_str(), row["bytes"], e);
    });
  } else if (what == "plan_expert_cache") {
    const auto options = create<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
    call([&](auto** e) { return finermoe_plan_options_set_expert_cache(options.get(), row["bytes"], e); });
    const auto config = create<ConfigHandle>(
        [&](auto** out, auto** e) { return finermoe_config_open(model_path(row).c_str(), out, e); });
    get<finermoe_plan>([&](auto* out, auto** e) { return finermoe_plan_compute(config.get(), options.get(), out, e); });
  } else if (what == "device_weights") {
    const auto options =
        create<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
    call([&](auto** e) { return finermoe_model_options_set_device_weights(options.get(), row["bytes"], e); });
    open(model_path(row), options.get());
  } else if (what == "expert_cache") {
    const auto options =
        create<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
    call([&](auto** e) { return finermoe_model_options_set_expert_cache(options.get(), row["bytes"], e); });
    open(model_path(row), options.get());
  } else {
    return false;
  }
  return true;
}

bool do_with_a_runtime(const std::string& what, const Json& row) {
  const auto options =
      create<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  if (what == "device") {
    call([&](auto** e) {
      return finermoe_runtime_options_set_device(options.get(), row["device"].get<std::string>().c_str(), e);
    });
  } else if (what == "isa") {
    call([&](auto** e) { return finermoe_runtime_options_set_isa(options.get(), row["value"], e); });
  } else if (what == "blas") {
    const std::string path = temporary_folder() / row["path"].get<std::string>();
    call([&](auto** e) { return finermoe_runtime_options_set_blas(options.get(), path.c_str(), e); });
  } else if (what == "threads_of_executor") {
    const auto executor = [](void*, size_t n, finermoe_task_fn task, void* data) {
      for (size_t i = 0; i < n; i++) task(data, i);
    };
    call([&](auto** e) { return finermoe_runtime_options_set_executor(options.get(), executor, nullptr, 0, e); });
  } else if (what == "memory_limit") {
    call([&](auto** e) { return finermoe_runtime_options_set_memory_limit(options.get(), row["bytes"], e); });
  } else {
    return false;
  }
  const auto runtime =
      create<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_create(options.get(), out, e); });
  const auto model_options =
      create<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  call([&](auto** e) { return finermoe_model_options_set_runtime(model_options.get(), runtime.get(), e); });
  open_row_session(open(model_path(row), model_options.get()).get());
  return true;
}

void do_with_a_model(const std::string& what, const Json& row) {
  const auto model = open_row_model(row);
  if (what == "session") {
    open_row_session(model.get(), row);
  } else if (what == "option") {
    generation_options(model.get(), {{row["option"].get<std::string>(), row["value"]}});
  } else if (what == "stop") {
    generation_options(model.get(), {{"stop", {row["text"]}}});
  } else if (what == "encode_without_tokenizer") {
    tokenizer_of(model.get());
  } else if (what == "chat_without_template") {
    const auto session = open_row_session(model.get());
    start(model.get(), session.get(), {{"messages", {{{"role", "user"}, {"content", "text"}}}}});
  } else if (what == "similarity") {
    double similarity = 0;
    call(
        [&](auto** e) { return finermoe_model_expert_similarity(model.get(), row["layer"], nullptr, &similarity, e); });
  } else if (what == "trace") {
    create<std::unique_ptr<finermoe_trace, FreeWith<finermoe_trace_free>>>(
        [&](auto** out, auto** e) { return finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES, out, e); });
  } else {
    throw Failed{0, "no such action: " + what, "", ""};
  }
}

bool do_with_a_session(const std::string& what, const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  if (what == "append") {
    append(session.get(), row["ids"]);
  } else if (what == "truncate") {
    call([&](auto** e) { return finermoe_session_truncate(session.get(), row["length"], e); });
  } else if (what == "remove") {
    call([&](auto** e) { return finermoe_session_remove(session.get(), row["begin"], row["end"], e); });
  } else if (what == "logits") {
    logits_row(session.get(), row["row"]);
  } else if (what == "generate") {
    start(model.get(), session.get(), row["request"]);
  } else if (what == "restore") {
    const std::string bytes = from_hexadecimal(row["bytes"]);
    call([&](auto** e) { return finermoe_session_restore_memory(session.get(), bytes.data(), bytes.size(), e); });
  } else if (what == "batch_twice") {
    const auto batch =
        create<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
    const auto first = start(model.get(), session.get(), {{"prompt", "A ship"}});
    const auto second = start(model.get(), session.get(), {{"prompt", "A ship"}});
    call([&](auto** e) { return finermoe_batch_add(batch.get(), first.get(), e); });
    call([&](auto** e) { return finermoe_batch_add(batch.get(), second.get(), e); });
  } else {
    return false;
  }
  return true;
}

Json error(const Json& row) {
  const std::string what = row["do"];
  try {
    if (!do_before_a_session(what, row) && !do_with_a_runtime(what, row) &&
        (what == "session" || !do_with_a_session(what, row))) {
      do_with_a_model(what, row);
    }
  } catch (const Failed& failed) {
    return {{"code", finermoe_status_name(failed.code)}, {"expected", failed.expected}, {"found", failed.found}};
  }
  return {{"code", "FINERMOE_OK"}};
}

}  // namespace

void add_errors(Behaviours& behaviours) { behaviours.insert({{"error", error}}); }
