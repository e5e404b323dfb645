#include "runner.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace fs = std::filesystem;

// --- What a row says ---

namespace {
fs::path source() {
  const char* root = std::getenv("FINERMOE_SOURCE");
  return root != nullptr ? root : ".";
}
}  // namespace

fs::path example_model(const std::string& name) { return source() / "examples/models" / name; }
fs::path model_path(const Json& row) {
  if (row.contains("shape")) return source() / "tests/data/shapes" / row["shape"].get<std::string>();
  return example_model(row.value("model", "tiny-wordnet-finermoe"));
}

fs::path temporary_folder() {
  static const struct Folder {  // removed when the program ends
    fs::path path = fs::temp_directory_path() / ("finermoe-conformance-" + std::to_string(getpid()));
    ~Folder() { fs::remove_all(path); }
  } folder;
  static int next = 0;
  const fs::path path = folder.path / std::to_string(next++);
  fs::create_directories(path);
  return path;
}

namespace {
void append_utf8(std::string& out, uint32_t code) {
  const auto byte = [&out](uint32_t value) { out += static_cast<char>(value); };
  if (code < 0x80) return byte(code);
  if (code < 0x800) {
    byte(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      byte(0xE0 | code >> 12);
    } else {
      byte(0xF0 | code >> 18);
      byte(0x80 | (code >> 12 & 0x3F));
    }
    byte(0x80 | (code >> 6 & 0x3F));
  }
  byte(0x80 | (code & 0x3F));
}
bool is_high(uint32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low(uint32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }
}  // namespace

std::string text_of(const Json& row, const std::string& name) {
  if (!row.contains(name + "_utf16")) return row.at(name).get<std::string>();
  const auto units = row[name + "_utf16"].get<std::vector<uint32_t>>();
  std::string out;
  for (size_t i = 0; i < units.size(); i++) {
    if (is_high(units[i]) && i + 1 < units.size() && is_low(units[i + 1])) {
      append_utf8(out, 0x10000 + ((units[i] - 0xD800) << 10) + (units[i + 1] - 0xDC00));
      i++;
    } else {
      append_utf8(out, is_high(units[i]) || is_low(units[i]) ? 0xFFFD : units[i]);
    }
  }
  return out;
}

std::string from_hexadecimal(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}
std::string to_hexadecimal(const std::string& bytes) {
  std::string out;
  for (const unsigned char byte : bytes) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}
std::string file_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// --- Objects that a row asks for ---

ModelHandle open_with_threads(const fs::path& path, uint32_t n_threads) {
  const auto runtime_options =
      create<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  call([&](auto** e) { return finermoe_runtime_options_set_threads(runtime_options.get(), n_threads, e); });
  const auto runtime = create<RuntimeHandle>(
      [&](auto** out, auto** e) { return finermoe_runtime_create(runtime_options.get(), out, e); });
  const auto options = create<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  call([&](auto** e) { return finermoe_model_options_set_runtime(options.get(), runtime.get(), e); });
  return create<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(path.c_str(), options.get(), out, e); });
}
ModelHandle open_row_model(const Json& row) { return open_with_threads(model_path(row)); }

SessionOptions session_options(const Json& row) {
  auto options = create<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  const auto set = [&](const char* name, auto setter) {
    if (row.contains(name)) call([&](auto** e) { return setter(options.get(), row[name], e); });
  };
  set("context_length", finermoe_session_options_set_context_length);
  set("chunk", finermoe_session_options_set_chunk);
  set("kv_dtype", [](auto* to, const std::string& name, auto** e) {
    const std::vector<std::string> names{"f32", "f16", "bf16", "q8"};
    const auto found = std::find(names.begin(), names.end(), name) - names.begin();
    return finermoe_session_options_set_kv_dtype(to, static_cast<int32_t>(found), e);
  });
  set("precision", [](auto* to, const std::string& name, auto** e) {
    return finermoe_session_options_set_precision(
        to, name == "fast" ? FINERMOE_PRECISION_FAST : FINERMOE_PRECISION_EXACT, e);
  });
  return options;
}
SessionHandle open_row_session(finermoe_model* model, const Json& row) {
  const auto options = session_options(row);
  return create<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
}

TokenizerHandle tokenizer_of(finermoe_model* model) {
  return create<TokenizerHandle>([&](auto** out, auto** e) { return finermoe_tokenizer_open_model(model, out, e); });
}
ChatHandle chat_of(const Json& messages) {
  auto chat = create<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  for (const Json& message : messages) {
    const std::string role = message.at("role"), text = text_of(message, "content");
    call([&](auto** e) { return finermoe_chat_add(chat.get(), role.c_str(), text.data(), text.size(), e); });
  }
  return chat;
}

namespace {
using Options = finermoe_generation_options;
using Setter = void (*)(Options* to, const Json& value, finermoe_error** e, int32_t& status);

template <auto Set>
void set_value(Options* to, const Json& value, finermoe_error** e, int32_t& status) {
  status = Set(to, value, e);
}
template <auto Add>
void add_ids(Options* to, const Json& value, finermoe_error** e, int32_t& status) {
  for (size_t i = 0; i < value.size() && status == FINERMOE_OK; i++) status = Add(to, value[i].get<int32_t>(), e);
}
void add_bias(Options* to, const Json& value, finermoe_error** e, int32_t& status) {
  for (size_t i = 0; i < value.size() && status == FINERMOE_OK; i++) {
    status = finermoe_generation_options_add_logit_bias(to, value[i][0], value[i][1], e);
  }
}
void add_stop(Options* to, const Json& value, finermoe_error** e, int32_t& status) {
  for (size_t i = 0; i < value.size() && status == FINERMOE_OK; i++) {
    const std::string text = value[i];
    status = finermoe_generation_options_add_stop_string(to, text.data(), text.size(), e);
  }
}
void set_draft(Options* to, const Json& value, finermoe_error** e, int32_t& status) {
  const ModelHandle model = open_with_threads(example_model(value[0]));  // the options keep it open
  status = finermoe_generation_options_set_draft(to, model.get(), value[1], e);
}
void clear_stop_tokens(Options* to, const Json&, finermoe_error** e, int32_t& status) {
  status = finermoe_generation_options_clear_stop_tokens(to, e);
}

const std::map<std::string, Setter> setters{
    {"max_tokens", set_value<finermoe_generation_options_set_max_tokens>},
    {"min_tokens", set_value<finermoe_generation_options_set_min_tokens>},
    {"temperature", set_value<finermoe_generation_options_set_temperature>},
    {"top_k", set_value<finermoe_generation_options_set_top_k>},
    {"top_p", set_value<finermoe_generation_options_set_top_p>},
    {"min_p", set_value<finermoe_generation_options_set_min_p>},
    {"typical_p", set_value<finermoe_generation_options_set_typical_p>},
    {"repetition_penalty", set_value<finermoe_generation_options_set_repetition_penalty>},
    {"frequency_penalty", set_value<finermoe_generation_options_set_frequency_penalty>},
    {"presence_penalty", set_value<finermoe_generation_options_set_presence_penalty>},
    {"seed", set_value<finermoe_generation_options_set_seed>},
    {"ignore_eos", set_value<finermoe_generation_options_set_ignore_eos>},
    {"top_logprobs", set_value<finermoe_generation_options_set_top_logprobs>},
    {"show_special", set_value<finermoe_generation_options_set_show_special>},
    {"lookup", set_value<finermoe_generation_options_set_lookup>},
    {"draft", set_draft},
    {"logit_bias", add_bias},
    {"banned_tokens", add_ids<finermoe_generation_options_add_banned_token>},
    {"stop_tokens", add_ids<finermoe_generation_options_add_stop_token>},
    {"stop", add_stop},
    {"clear_stop_tokens", clear_stop_tokens},
};
}  // namespace

void set_option(Options* to, const std::string& name, const Json& value) {
  call([&](auto** e) {
    int32_t status = FINERMOE_OK;
    setters.at(name)(to, value, e, status);
    return status;
  });
}
GenerationOptions generation_options(finermoe_model* model, const Json& options) {
  auto out =
      create<GenerationOptions>([&](auto** to, auto** e) { return finermoe_generation_options_create(model, to, e); });
  if (options.contains("clear_stop_tokens")) set_option(out.get(), "clear_stop_tokens", true);
  for (const auto& [name, value] : options.items()) {
    if (name != "clear_stop_tokens") set_option(out.get(), name, value);
  }
  return out;
}

GenerationHandle start(finermoe_model* model, finermoe_session* session, const Json& request) {
  const auto options = generation_options(model, request.value("options", Json::object()));
  uint32_t flags = FINERMOE_TEXT_DEFAULT;
  if (request.value("parse_special", false)) flags |= FINERMOE_TEXT_PARSE_SPECIAL;
  if (request.value("no_special_tokens", false)) flags |= FINERMOE_TEXT_NO_SPECIAL_TOKENS;
  if (request.value("continue_last", false)) flags |= FINERMOE_TEXT_CONTINUE_LAST;
  return create<GenerationHandle>([&](auto** out, auto** e) {
    if (request.contains("messages")) {
      const auto chat = chat_of(request["messages"]);
      return finermoe_generation_create_chat(session, options.get(), chat.get(), flags, out, e);
    }
    if (request.contains("ids")) {
      const Ids ids = request["ids"];
      return finermoe_generation_create(session, options.get(), ids.data(), ids.size(), out, e);
    }
    const std::string prompt = text_of(request, "prompt");
    return finermoe_generation_create_text(session, options.get(), prompt.data(), prompt.size(), flags, out, e);
  });
}

// --- Results ---

finermoe_event next(finermoe_generation* generation, finermoe_cancel* cancel) {
  return get<finermoe_event>(
      [&](auto* event, auto** e) { return finermoe_generation_next(generation, cancel, event, e); });
}
std::string text_to_the_end(finermoe_generation* generation, finermoe_cancel* cancel) {
  std::string text;
  for (;;) {
    const finermoe_event event = next(generation, cancel);
    text.append(event.text, event.text_length);
    if (event.finish_reason != FINERMOE_FINISH_NONE) return text;
  }
}
void append(finermoe_session* session, const Ids& ids, int32_t logits) {
  call([&](auto** e) { return finermoe_session_append(session, ids.data(), ids.size(), logits, nullptr, e); });
}
std::vector<float> logits_row(finermoe_session* session, size_t row) {
  return read<std::vector<float>>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_session_logits(session, row, out, capacity, needed, e);
  });
}
size_t argmax(const std::vector<float>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}
Json columns_of(const std::vector<float>& values, const Json& columns) {
  Json out = Json::array();
  for (const size_t column : columns) out.push_back(std::round(values.at(column) * 1e6) / 1e6);
  return out;
}
const char* finish_name(int32_t finish_reason) {
  static const char* const names[] = {"none",         "stop_token", "stop_string", "max_tokens",
                                      "context_full", "host",       "error"};
  return names[finish_reason];
}

int32_t Progress::see(void* user, const char* phase, uint64_t done, uint64_t total) {
  auto& progress = *static_cast<Progress*>(user);
  if (progress.phases.empty() || progress.phases.back() != phase) progress.phases.emplace_back(phase);
  progress.done = done;
  progress.total = total;
  return 0;
}
Json Progress::result() const { return {{"phases", phases}, {"complete", done == total}}; }
