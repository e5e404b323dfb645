// What the conformance suite's C runner shares: calls that throw what failed, rows as JSON, requests.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../../support/handles.h"
#include "finermoe.h"

using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;

// A call that failed.
struct Failed {
  int32_t code = FINERMOE_OK;
  std::string message, expected, found;
};

// call([&](finermoe_error** e) { return finermoe_…(…, e); })
template <class Call>
void call(Call&& what) {
  finermoe_error* raw = nullptr;
  const int32_t code = what(&raw);
  const ErrorHandle error(raw);
  if (code != FINERMOE_OK) {
    throw Failed{code, finermoe_error_message(raw), finermoe_error_expected(raw), finermoe_error_found(raw)};
  }
}
// create<ModelHandle>([&](auto** out, auto** e) { return finermoe_model_open(…, out, e); })
template <class Handle, class Create>
Handle create(Create&& what) {
  typename Handle::pointer out = nullptr;
  call([&](finermoe_error** e) { return what(&out, e); });
  return Handle(out);
}
// get<finermoe_model_info>([&](auto* info, auto** e) { return finermoe_…_get_info(…, info, e); })
template <class Info, class Get>
Info get(Get&& what) {
  Info info{};
  info.struct_size = sizeof info;
  call([&](finermoe_error** e) { return what(&info, e); });
  return info;
}
// An array or a text by the (buffer, capacity, needed) convention.
template <class Out, class Read>
Out read(Read&& what) {
  Out out;
  size_t needed = 0;
  finermoe_error* error = nullptr;
  const int32_t code = what(static_cast<typename Out::value_type*>(nullptr), size_t{0}, &needed, &error);
  finermoe_error_free(error);
  if (code != FINERMOE_OK && code != FINERMOE_ERROR_BUFFER_TOO_SMALL) {
    call([&](finermoe_error** e) { return what(out.data(), size_t{0}, &needed, e); });
  }
  out.resize(needed);
  if (needed > 0) call([&](finermoe_error** e) { return what(out.data(), out.size(), &needed, e); });
  return out;
}

// One behaviour: the inputs of a row in, the results by name out. It may throw Failed.
using Behaviours = std::map<std::string, Json (*)(const Json& row)>;
void add_text(Behaviours& behaviours);
void add_models(Behaviours& behaviours);
void add_sessions(Behaviours& behaviours);
void add_generation(Behaviours& behaviours);
void add_batches(Behaviours& behaviours);
void add_threads(Behaviours& behaviours);
void add_errors(Behaviours& behaviours);
void add_writers(Behaviours& behaviours);

// --- What a row says ---

// The folder of the row's model, or of the one named.
std::filesystem::path model_path(const Json& row);
std::filesystem::path example_model(const std::string& name);
// A folder of this run alone, made anew for each caller.
std::filesystem::path temporary_folder();
// `name` as UTF-8, from `name` or `name`_utf16; a lone surrogate becomes U+FFFD.
std::string text_of(const Json& row, const std::string& name);
std::string from_hexadecimal(const std::string& digits);
std::string to_hexadecimal(const std::string& bytes);
std::string file_bytes(const std::filesystem::path& path);

// --- Objects that a row asks for ---

ModelHandle open_row_model(const Json& row);
ModelHandle open_with_threads(const std::filesystem::path& path, uint32_t n_threads = 2);
// With context_length, kv_dtype, precision and chunk, where the row has them.
SessionOptions session_options(const Json& row);
SessionHandle open_row_session(finermoe_model* model, const Json& row = Json::object());
TokenizerHandle tokenizer_of(finermoe_model* model);
ChatHandle chat_of(const Json& messages);
// The model's defaults (neutral ones for null) with `options` set.
GenerationOptions generation_options(finermoe_model* model, const Json& options);
void set_option(finermoe_generation_options* to, const std::string& name, const Json& value);
// A generation from prompt, ids or messages with options.
GenerationHandle start(finermoe_model* model, finermoe_session* session, const Json& request);

// --- Results ---

finermoe_event next(finermoe_generation* generation, finermoe_cancel* cancel = nullptr);
std::string text_to_the_end(finermoe_generation* generation, finermoe_cancel* cancel = nullptr);
void append(finermoe_session* session, const Ids& ids, int32_t logits = FINERMOE_LOGITS_NONE);
std::vector<float> logits_row(finermoe_session* session, size_t row);
size_t argmax(const std::vector<float>& values);
Json columns_of(const std::vector<float>& values, const Json& columns);
const char* finish_name(int32_t finish_reason);
// What a progress callback was told.
struct Progress {
  std::vector<std::string> phases;
  uint64_t done = 0, total = 0;

  static int32_t see(void* user, const char* phase, uint64_t done, uint64_t total);  // goes on
  Json result() const;
};
// The code of a call that must fail.
template <class Call>
std::string code_of(Call&& what) {
  try {
    what();
  } catch (const Failed& failed) {
    return finermoe_status_name(failed.code);
  }
  return "FINERMOE_OK";
}
