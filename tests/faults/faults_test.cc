// What the library does when calls of the system fail: for the n-th allocation, mmap, open, read, write, fsync, rename,
// mkdir, flock, stat and thread start of whole programs, alone and with all that follow, each run ends with a status:
// it does not abort, hang, or keep memory, mappings, descriptors, threads or half-written files.
//
// Each run is a child process. Short sweeps are done in full, long ones at their beginning and then in strides, so that
// all takes a minute or two; FAULTS_ALL=1 does every n.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../support/golden.h"
#include "../support/handles.h"
#include "injection.h"

namespace {

namespace fs = std::filesystem;
using injection::Call;

using WriterOptions = std::unique_ptr<finermoe_writer_options, FreeWith<finermoe_writer_options_free>>;
using UpcycleOptions = std::unique_ptr<finermoe_upcycle_options, FreeWith<finermoe_upcycle_options_free>>;
using QuantizeOptions = std::unique_ptr<finermoe_quantize_options, FreeWith<finermoe_quantize_options_free>>;
using Verification = std::unique_ptr<finermoe_verification, FreeWith<finermoe_verification_free>>;

// The place for a new object in a call; a handle has it after the call.
template <class Handle>
struct Out {
  explicit Out(Handle& to) : handle(to) {}
  ~Out() { handle.reset(made); }
  operator typename Handle::pointer *() { return &made; }
  Handle& handle;
  typename Handle::pointer made = nullptr;
};

// The child cannot rely on memory either: it says what is wrong without.
[[noreturn]] void give_up(const char* what, const char* detail) {
  for (const char* text : {what, ": ", detail, "\n"}) {
    if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) break;
  }
  _exit(1);
}

// A call's status; its error object has to say the same.
template <class Function>
int32_t status_of(Function&& function) {
  finermoe_error* error = nullptr;
  const int32_t status = function(&error);
  if ((status != FINERMOE_OK) != (error != nullptr)) give_up("a status without an error object, or the reverse", "");
  if (finermoe_error_code(error) != status) give_up("another code in the error", finermoe_error_message(error));
  if (error != nullptr && finermoe_error_message(error)[0] == '\0') give_up("an error without a message", "");
  if (status == FINERMOE_ERROR_INTERNAL) give_up("an internal error", finermoe_error_message(error));
  finermoe_error_free(error);
  return status;
}
#define TRY(call) \
  if (const int32_t status = status_of([&](finermoe_error** error) { return call; }); status != 0) return status

// ---- What users do ----

struct Places {
  std::string model, dense, out, out_file, saved;
} places;

int32_t open_model(ModelHandle& model, const std::string& path = places.model) {
  RuntimeOptions options;
  RuntimeHandle runtime;
  ModelOptions model_options;
  TRY(finermoe_runtime_options_create(Out(options), error));
  TRY(finermoe_runtime_options_set_threads(options.get(), 3, error));
  TRY(finermoe_runtime_create(options.get(), Out(runtime), error));
  TRY(finermoe_model_options_create(Out(model_options), error));
  TRY(finermoe_model_options_set_runtime(model_options.get(), runtime.get(), error));
  TRY(finermoe_model_open(path.c_str(), model_options.get(), Out(model), error));
  return 0;
}

int32_t open_session(ModelHandle& model, SessionHandle& session) {
  SessionOptions options;
  if (!model)
    if (const int32_t status = open_model(model)) return status;
  TRY(finermoe_session_options_create(Out(options), error));
  TRY(finermoe_session_options_set_context_length(options.get(), 64, error));
  TRY(finermoe_session_options_set_chunk(options.get(), 4, error));
  TRY(finermoe_session_create(model.get(), options.get(), Out(session), error));
  return 0;
}

int32_t next_tokens(finermoe_generation* generation, int n) {
  for (int i = 0; i < n; i++) {
    finermoe_event event{};
    event.struct_size = sizeof event;
    TRY(finermoe_generation_next(generation, nullptr, &event, error));
  }
  return 0;
}

int32_t plan() {
  ConfigHandle config;
  PlanOptions options;
  finermoe_config_info info{};
  info.struct_size = sizeof info;
  finermoe_plan plan{};
  plan.struct_size = sizeof plan;
  TRY(finermoe_config_open(places.model.c_str(), Out(config), error));
  TRY(finermoe_config_get_info(config.get(), &info, error));
  TRY(finermoe_plan_options_create(Out(options), error));
  TRY(finermoe_plan_options_set_sessions(options.get(), 2, error));
  TRY(finermoe_plan_compute(config.get(), options.get(), &plan, error));
  return 0;
}

int32_t open_a_copy() {
  ModelOptions options;
  ModelHandle model;
  TRY(finermoe_model_options_create(Out(options), error));
  TRY(finermoe_model_options_set_copy(options.get(), 1, error));
  TRY(finermoe_model_options_set_verify(options.get(), 1, error));
  TRY(finermoe_model_open(places.dense.c_str(), options.get(), Out(model), error));
  return 0;
}

int32_t tokenize() {
  static std::array<int32_t, 256> ids;
  static std::array<char, 1024> text;
  TokenizerHandle tokenizer;
  DecoderHandle decoder;
  size_t n = 0, n_bytes = 0;
  constexpr std::string_view sample = "abcd ab\xcc\x81 \xe2\x82\xac, cd! 12  \n<|im_end|> abcdabcdabcd abc";
  TRY(finermoe_tokenizer_open(places.model.c_str(), Out(tokenizer), error));
  TRY(finermoe_tokenizer_encode(tokenizer.get(), sample.data(), sample.size(), FINERMOE_TEXT_PARSE_SPECIAL, ids.data(),
                                nullptr, ids.size(), &n, error));
  TRY(finermoe_tokenizer_decode(tokenizer.get(), ids.data(), n, 0, text.data(), text.size(), &n_bytes, error));
  TRY(finermoe_decoder_create(tokenizer.get(), 0, Out(decoder), error));
  for (size_t i = 0; i < n; i++) {
    TRY(finermoe_decoder_push(decoder.get(), ids[i], text.data(), text.size(), &n_bytes, error));
  }
  return 0;
}

int32_t generate() {
  ModelHandle model;
  SessionHandle session;
  TraceHandle trace;
  GenerationOptions options;
  GenerationHandle generation;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_LOGITS | FINERMOE_TRACE_USAGE,
                            Out(trace), error));
  TRY(finermoe_session_set_trace(session.get(), trace.get(), error));
  TRY(finermoe_generation_options_create(model.get(), Out(options), error));
  TRY(finermoe_generation_options_set_temperature(options.get(), 1.5, error));
  TRY(finermoe_generation_options_set_top_p(options.get(), 0.9, error));
  TRY(finermoe_generation_options_set_repetition_penalty(options.get(), 1.1, error));
  TRY(finermoe_generation_options_add_logit_bias(options.get(), 7, -1, error));
  TRY(finermoe_generation_options_add_stop_string(options.get(), "never there", 11, error));
  TRY(finermoe_generation_options_set_top_logprobs(options.get(), 3, error));
  TRY(finermoe_generation_options_set_ignore_eos(options.get(), 1, error));
  TRY(finermoe_generation_create_text(session.get(), options.get(), "abcd ab cd", 10, 0, Out(generation), error));
  return next_tokens(generation.get(), 6);
}

int32_t chat() {
  ModelHandle model;
  SessionHandle session;
  ChatHandle conversation;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_chat_create(Out(conversation), error));
  for (const char* role : {"system", "user"}) {
    GenerationHandle generation;
    TRY(finermoe_chat_add(conversation.get(), role, "abcd", 4, error));
    TRY(finermoe_generation_create_chat(session.get(), nullptr, conversation.get(), 0, Out(generation), error));
    if (const int32_t status = next_tokens(generation.get(), 2)) return status;
  }
  return 0;
}

int32_t batch() {
  constexpr int32_t prompt[] = {1, 2, 3, 4, 5, 6};
  ModelHandle model;
  std::array<SessionHandle, 3> sessions;
  std::array<GenerationHandle, 3> generations;
  BatchHandle together;
  for (size_t i = 0; i < sessions.size(); i++) {
    if (const int32_t status = open_session(model, sessions[i])) return status;
    TRY(finermoe_generation_create(sessions[i].get(), nullptr, prompt + i, 6 - i, Out(generations[i]), error));
  }
  TRY(finermoe_batch_create(model.get(), Out(together), error));
  for (const auto& one : generations) TRY(finermoe_batch_add(together.get(), one.get(), error));
  for (int step = 0; step < 4; step++) {
    size_t n_active = 0;
    TRY(finermoe_batch_step(together.get(), nullptr, &n_active, error));
    for (const auto& one : generations) {
      finermoe_generation_info info{};
      info.struct_size = sizeof info;
      TRY(finermoe_generation_get_info(one.get(), &info, error));
      if (info.prepared)
        if (const int32_t status = next_tokens(one.get(), 1)) return status;
    }
  }
  return 0;
}

int32_t save_and_restore() {
  constexpr int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  constexpr size_t rows[] = {2, 7, 8};
  ModelHandle model;
  SessionHandle session, other, fork;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_session_append_rows(session.get(), ids, 9, rows, 3, nullptr, error));
  TRY(finermoe_session_fork(session.get(), Out(fork), error));
  TRY(finermoe_session_save(session.get(), places.saved.c_str(), error));
  if (const int32_t status = open_session(model, other)) return status;
  TRY(finermoe_session_restore(other.get(), places.saved.c_str(), error));
  TRY(finermoe_session_append(other.get(), ids, 3, 1, nullptr, error));
  return 0;
}

int32_t rearrange() {
  constexpr int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  static std::array<float, 64> numbers;
  static std::array<int32_t, 9> likeliest;
  static std::vector<char> data(1 << 20);
  ModelHandle model;
  SessionOptions options;
  SessionHandle session, other;
  TraceHandle trace;
  size_t n = 0;
  if (const int32_t status = open_session(model, other)) return status;
  TRY(finermoe_session_options_create(Out(options), error));
  TRY(finermoe_session_options_set_context_length(options.get(), 40, error));
  TRY(finermoe_session_options_set_hidden(options.get(), FINERMOE_HIDDEN_KEEP, error));
  TRY(finermoe_session_create(model.get(), options.get(), Out(session), error));
  TRY(finermoe_session_append(session.get(), ids, 9, FINERMOE_LOGITS_LAST, nullptr, error));
  TRY(finermoe_session_hidden(session.get(), 0, numbers.data(), numbers.size(), &n, error));
  TRY(finermoe_session_score(session.get(), ids, 9, nullptr, numbers.data(), likeliest.data(), 9, &n, error));
  TRY(finermoe_session_remove(session.get(), 2, 7, error));
  TRY(finermoe_session_set_context_length(session.get(), 60, error));
  TRY(finermoe_session_keep_prefix(session.get(), ids, 2, &n, error));
  TRY(finermoe_session_save_memory(session.get(), data.data(), data.size(), &n, error));
  TRY(finermoe_session_restore_memory(other.get(), data.data(), n, error));
  TRY(finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES, Out(trace), error));
  TRY(finermoe_session_set_trace(other.get(), trace.get(), error));
  TRY(finermoe_session_append(other.get(), ids, 3, 0, nullptr, error));
  return 0;
}

int32_t steer() {
  constexpr int32_t ids[] = {1, 2, 3};
  static std::vector<char> data(1 << 16);
  ModelHandle model;
  SessionHandle session;
  GenerationOptions options, copy;
  GenerationHandle generation, again;
  BatchHandle together;
  size_t n = 0;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_generation_options_create(model.get(), Out(options), error));
  TRY(finermoe_generation_options_set_repetition_penalty(options.get(), 1.1, error));
  TRY(finermoe_generation_options_add_logit_bias(options.get(), 7, -1, error));
  TRY(finermoe_generation_options_add_stop_string(options.get(), "never there", 11, error));
  TRY(finermoe_generation_options_set_ignore_eos(options.get(), 1, error));
  TRY(finermoe_generation_options_copy(options.get(), Out(copy), error));
  TRY(finermoe_generation_create(session.get(), copy.get(), ids, 3, Out(generation), error));
  if (const int32_t status = next_tokens(generation.get(), 2)) return status;
  TRY(finermoe_generation_append(generation.get(), ids, 3, error));
  TRY(finermoe_generation_save_memory(generation.get(), data.data(), data.size(), &n, error));
  TRY(finermoe_generation_restore_memory(session.get(), data.data(), n, Out(again), error));
  TRY(finermoe_batch_create(model.get(), Out(together), error));
  TRY(finermoe_batch_add(together.get(), again.get(), error));
  for (int i = 0; i < 3; i++) {
    finermoe_event event{};
    event.struct_size = sizeof event;
    uint64_t tag = 0;
    TRY(finermoe_batch_next(together.get(), nullptr, &tag, &event, error));
  }
  finermoe_event event{};
  event.struct_size = sizeof event;
  TRY(finermoe_generation_finish(again.get(), &event, error));
  return 0;
}

int32_t similarity_of_experts() {
  static std::array<double, 64 * 64> values;
  ModelHandle model;
  if (const int32_t status = open_model(model)) return status;
  TRY(finermoe_model_expert_similarity(model.get(), 1, nullptr, values.data(), error));
  return 0;
}

int32_t writer_options(WriterOptions& options) {
  TRY(finermoe_writer_options_create(Out(options), error));
  TRY(finermoe_writer_options_set_shard_size(options.get(), 20000, error));
  TRY(finermoe_writer_options_set_overwrite(options.get(), 1, error));
  return 0;
}

int32_t upcycle() {
  UpcycleOptions options;
  WriterOptions writing;
  if (const int32_t status = writer_options(writing)) return status;
  TRY(finermoe_upcycle_options_create("finermoe", Out(options), error));
  TRY(finermoe_upcycle_options_set_shape(options.get(), 2, 1, 2, 1, 1, error));
  TRY(finermoe_upcycle_options_set_drop_ratio(options.get(), 0.5, error));
  TRY(finermoe_upcycle_run(places.dense.c_str(), places.out.c_str(), options.get(), writing.get(), error));
  return 0;
}

int32_t quantize() {
  QuantizeOptions options;
  WriterOptions writing;
  if (const int32_t status = writer_options(writing)) return status;
  TRY(finermoe_quantize_options_create(FINERMOE_DTYPE_Q4, Out(options), error));
  TRY(finermoe_quantize_options_add_override(options.get(), "*.q_proj.*", FINERMOE_DTYPE_Q8, error));
  TRY(finermoe_quantize_run(places.dense.c_str(), places.out.c_str(), options.get(), writing.get(), error));
  return 0;
}

int32_t synthesize_one_file() {
  WriterOptions writing;
  if (const int32_t status = writer_options(writing)) return status;
  TRY(finermoe_synthesize_run(places.model.c_str(), places.out_file.c_str(), FINERMOE_DTYPE_F16, writing.get(), error));
  return 0;
}

int32_t verify() {
  Verification found;
  TRY(finermoe_verification_run(places.dense.c_str(), nullptr, nullptr, nullptr, Out(found), error));
  return 0;
}

// ---- The files they do it with ----

void write_file(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

// The bundled tokenizer with 256 bytes, three merges, and the special tokens.
std::string small_tokenizer(const std::string& bundled) {
  nlohmann::json tokenizer = nlohmann::json::parse(golden::read_file(bundled + "/tokenizer.json"));
  nlohmann::json vocab = nlohmann::json::object();
  for (auto& [token, id] : tokenizer["model"]["vocab"].items()) {
    if (id < 256) vocab[token] = id;
  }
  vocab["ab"] = 256, vocab["cd"] = 257, vocab["abcd"] = 258;
  tokenizer["model"]["vocab"] = vocab;
  tokenizer["model"]["merges"] = {"a b", "c d", "ab cd"};
  for (int i = 0; i < 3; i++) tokenizer["added_tokens"][i]["id"] = 260 + i;
  return tokenizer.dump();
}

void make_model(const std::string& name, nlohmann::json changes, const std::string& place) {
  const std::string bundled = golden::source_root() + "/examples/models/" + name;
  fs::create_directory(place);
  nlohmann::json config = nlohmann::json::parse(golden::read_file(bundled + "/config.json"));
  config.update(changes);
  config.update({{"hidden_size", 32},
                 {"intermediate_size", 32},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"num_hidden_layers", 2},
                 {"vocab_size", 264},
                 {"max_position_embeddings", 128},
                 {"bos_token_id", 260},
                 {"eos_token_id", 262}});
  const std::string folder = place + "-config";
  fs::create_directory(folder);
  write_file(folder + "/config.json", config.dump());
  write_file(folder + "/tokenizer.json", small_tokenizer(bundled));
  fs::copy_file(bundled + "/tokenizer_config.json", folder + "/tokenizer_config.json");
  write_file(folder + "/generation_config.json", R"({"eos_token_id": [262, 260], "do_sample": true, "top_k": 20})");
  WriterOptions writing;
  ASSERT_EQ(writer_options(writing), 0);
  finermoe_error* error = nullptr;
  ASSERT_EQ(finermoe_synthesize_run(folder.c_str(), place.c_str(), -1, writing.get(), &error), 0)
      << finermoe_error_message(error);
}

class Faults : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string pattern = (fs::temp_directory_path() / "finermoe-faults-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory = pattern;
    places = {directory + "/moe", directory + "/dense", directory + "/written/out",
              directory + "/written/out.safetensors", directory + "/written/session"};
    make_model("tiny-wordnet-finermoe",
               {{"G_I", 2}, {"num_experts", 8}, {"moe_intermediate_size", 16}, {"shared_expert_intermediate_size", 32}},
               places.model);
    make_model("tiny-wordnet-dense", nlohmann::json::object(), places.dense);
    fs::create_directory(directory + "/written");
  }
  static void TearDownTestSuite() { fs::remove_all(directory); }
  static inline std::string directory;
};

// ---- The sweep ----

using Scenario = int32_t();

struct Ending {
  int signal = 0, status = 0;
};

// Runs the scenario with a plan in a child process that judges itself.
Ending run(Scenario* scenario, const injection::Plan& plan) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);  // a run takes milliseconds
    sigset_t blocked, blocked_after;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    const injection::Held before = injection::held();
    injection::begin(plan);
    scenario();
    injection::end();
    const injection::Held after = injection::held();
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked_after);
    for (int signal = 1; signal < 32; signal++) {
      if (sigismember(&blocked, signal) != sigismember(&blocked_after, signal)) give_up("signals", "another mask");
    }
    if (!(before == after)) {
      char text[200];
      std::snprintf(text, sizeof text, "allocations %+ld, mappings %+ld, descriptors %+ld, threads %+ld",
                    after.allocations - before.allocations, after.mappings - before.mappings,
                    after.descriptors - before.descriptors, after.threads - before.threads);
      give_up("left behind", text);
    }
    _exit(0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return {WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : 0};
}

// Names in the folder that is written to, sorted.
std::vector<std::string> written() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fs::path(places.out).parent_path())) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// What a run may leave there: nothing, or results that are whole. Where a new model is in place already, what it has
// replaced may be left over for want of a descriptor to look into it: the next run removes it.
void check_written(Scenario* scenario, const std::string& where) {
  std::vector<std::string> names = written();
  const auto is_partial = [](const std::string& name) { return name.find(".partial-") != std::string::npos; };
  const auto first_partial = std::stable_partition(names.begin(), names.end(), std::not_fn(is_partial));
  const auto n_partial = names.end() - first_partial;
  EXPECT_LE(n_partial, first_partial == names.begin() ? 0 : 1) << where << " left " << names.back();
  names.erase(first_partial, names.end());
  for (const std::string& name : names) {
    const std::string path = fs::path(places.out).parent_path() / name;
    if (name == "session") continue;
    finermoe_model* model = nullptr;
    finermoe_error* error = nullptr;
    EXPECT_EQ(finermoe_model_open(path.c_str(), nullptr, &model, &error), 0)
        << where << ": " << finermoe_error_message(error);
    finermoe_error_free(error);
    finermoe_model_free(model);
  }
  if (n_partial == 0) return;
  EXPECT_EQ(scenario(), 0) << where;
  for (const std::string& name : written()) EXPECT_FALSE(is_partial(name)) << where;
}

void empty_written() {
  for (const std::string& name : written()) fs::remove_all(fs::path(places.out).parent_path() / name);
}

// The n to try of `total`.
std::vector<uint64_t> sample(uint64_t total) {
  const bool all = std::getenv("FAULTS_ALL") != nullptr;
  constexpr uint64_t at_first = 150, later = 50;
  std::vector<uint64_t> chosen;
  for (uint64_t n = 1; n <= total;) {
    chosen.push_back(n);
    n += all || n < at_first || total <= at_first + later ? 1 : std::max<uint64_t>(1, (total - at_first) / later);
  }
  return chosen;
}

void sweep(Scenario* scenario, std::vector<Call> calls) {
  empty_written();
  // Twice without a failure, here: what is made once and kept is there then, and thread stacks are.
  for (int i = 0; i < 2; i++) {
    injection::begin({});
    ASSERT_EQ(scenario(), 0);
    injection::end();
  }
  size_t n_runs = 0, n_all = 0;
  std::vector<uint64_t> totals;
  for (int i = 0; i < injection::n_calls; i++) totals.push_back(injection::count(static_cast<Call>(i)));
  for (Call call : calls) {
    const uint64_t total = totals[static_cast<size_t>(call)];
    n_all += 2 * total;
    for (uint64_t n : sample(total)) {
      for (bool all_later : {false, true}) {
        if (n % 2 == 0) empty_written();  // or over what is there
        const std::string where = std::string(injection::name_of(call)) + " " + std::to_string(n) + " of " +
                                  std::to_string(total) + (all_later ? " and all later" : "");
        const Ending ending = run(scenario, {.call = call, .n = n, .all_later = all_later});
        EXPECT_EQ(ending.signal, 0) << where;
        EXPECT_EQ(ending.status, 0) << where;
        if (!written().empty()) check_written(scenario, where);
        n_runs++;
        if (testing::Test::HasFailure() && std::getenv("FAULTS_ALL") == nullptr) return;
      }
    }
  }
  std::printf("%zu runs of %zu\n", n_runs, n_all);
}

const std::vector<Call> calls_of_readers = {Call::allocate, Call::map,  Call::open,
                                            Call::read,     Call::stat, Call::start_thread};
const std::vector<Call> calls_of_writers = {Call::allocate, Call::map,  Call::open,        Call::read,
                                            Call::write,    Call::sync, Call::rename,      Call::make,
                                            Call::lock,     Call::stat, Call::start_thread};

TEST_F(Faults, Plan) { sweep(plan, calls_of_readers); }
TEST_F(Faults, OpenACopy) { sweep(open_a_copy, calls_of_readers); }
TEST_F(Faults, Tokenize) { sweep(tokenize, calls_of_readers); }
TEST_F(Faults, Generate) { sweep(generate, calls_of_readers); }
TEST_F(Faults, Chat) { sweep(chat, calls_of_readers); }
TEST_F(Faults, Batch) { sweep(batch, calls_of_readers); }
TEST_F(Faults, SaveAndRestore) { sweep(save_and_restore, calls_of_writers); }
TEST_F(Faults, Rearrange) { sweep(rearrange, calls_of_readers); }
TEST_F(Faults, Steer) { sweep(steer, calls_of_readers); }
TEST_F(Faults, Similarity) { sweep(similarity_of_experts, calls_of_readers); }
TEST_F(Faults, Upcycle) { sweep(upcycle, calls_of_writers); }
TEST_F(Faults, Quantize) { sweep(quantize, calls_of_writers); }
TEST_F(Faults, SynthesizeOneFile) { sweep(synthesize_one_file, calls_of_writers); }
TEST_F(Faults, Verify) { sweep(verify, calls_of_readers); }

// ---- Writers ----

// What a call said, in this process.
struct Answer {
  int32_t status = 0;
  std::string message;
};

Answer quantize_in_place(bool overwrite, const injection::Plan& plan = {}) {
  WriterOptions writing;
  finermoe_error* error = nullptr;
  EXPECT_EQ(writer_options(writing), 0);
  EXPECT_EQ(finermoe_writer_options_set_overwrite(writing.get(), overwrite ? 1 : 0, nullptr), 0);
  injection::begin(plan);
  Answer answer;
  answer.status = finermoe_quantize_run(places.dense.c_str(), places.out.c_str(), nullptr, writing.get(), &error);
  injection::end();
  answer.message = finermoe_error_message(error);
  finermoe_error_free(error);
  return answer;
}

// All bytes of OUT.
std::string bytes_of_out() {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(places.out)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string bytes;
  for (const std::string& file : files) bytes += file + golden::read_file(file);
  return bytes;
}

// At each rename of a writer on a file system that cannot exchange two directories: a process that dies there leaves
// the older model in its place, or the next writer finds it.
TEST_F(Faults, AnOlderModelOutlivesAKilledWriter) {
  int n_killed = 0;
  bool was_gone = false;
  for (uint64_t n = 1;; n++, n_killed++) {
    empty_written();
    ASSERT_EQ(upcycle(), 0);
    const std::string older = bytes_of_out();
    const Ending ending = run(quantize, {.call = Call::rename, .n = n, .kills = true, .has_exchange = false});
    if (ending.signal == 0) break;
    ASSERT_EQ(ending.signal, SIGKILL);
    was_gone = was_gone || !fs::exists(places.out);
    EXPECT_EQ(quantize_in_place(false).status, FINERMOE_ERROR_FILE_EXISTS) << n;
    EXPECT_EQ(bytes_of_out(), older) << n;
    EXPECT_EQ(quantize_in_place(true, {.has_exchange = false}).status, 0) << n;
    EXPECT_NE(bytes_of_out(), older) << n;
    EXPECT_EQ(written(), std::vector<std::string>{"out"}) << n;
  }
  EXPECT_EQ(n_killed, 3) << "the last file, the older model aside, the new one in";
  EXPECT_TRUE(was_gone);
}

TEST_F(Faults, AnOlderModelThatNothingReplacedStays) {
  empty_written();
  ASSERT_EQ(upcycle(), 0);
  const std::string older = bytes_of_out();
  ASSERT_EQ(run(quantize, {.call = Call::rename, .n = 3, .kills = true, .has_exchange = false}).signal, SIGKILL);
  ASSERT_FALSE(fs::exists(places.out));
  fs::create_directory(places.out);  // somebody takes the place
  ASSERT_EQ(quantize_in_place(true).status, 0);
  std::string kept;
  for (const std::string& name : written()) {
    if (name != "out") kept = fs::path(places.out).parent_path() / name / "old";
  }
  ASSERT_TRUE(fs::exists(kept));
  fs::remove_all(places.out);
  fs::rename(kept, places.out);
  EXPECT_EQ(bytes_of_out(), older);
}

TEST_F(Faults, WritersWithoutLocks) {
  for (bool overwrite : {false, true}) {
    if (!overwrite) empty_written();
    EXPECT_EQ(quantize_in_place(overwrite, {.has_locks = false}).message, "");
    EXPECT_EQ(written(), std::vector<std::string>{"out"});
  }
}

TEST_F(Faults, AFailureAfterTheSwapSaysThatTheModelIsThere) {
  empty_written();
  ASSERT_EQ(quantize_in_place(false).status, 0);
  const uint64_t n_syncs = injection::count(Call::sync);
  for (uint64_t n = n_syncs - 1; n <= n_syncs; n++) {  // of OUT, and of the directory that it is in
    empty_written();
    ASSERT_EQ(upcycle(), 0);
    const std::string older = bytes_of_out();
    const Answer answer = quantize_in_place(true, {.call = Call::sync, .n = n});
    EXPECT_EQ(answer.status, FINERMOE_ERROR_FILE_WRITE);
    EXPECT_NE(answer.message.find(places.out + " is the new model"), std::string::npos) << answer.message;
    EXPECT_NE(bytes_of_out(), older);
  }
}

TEST_F(Faults, AnOutputThatCannotBeLookedAt) {
  empty_written();
  const Answer answer = quantize_in_place(true, {.call = Call::stat, .n = 1});
  EXPECT_EQ(answer.status, FINERMOE_ERROR_FILE_UNREADABLE);
  EXPECT_NE(answer.message.find("cannot look at the output " + places.out), std::string::npos) << answer.message;
  EXPECT_TRUE(written().empty());
}

}  // namespace
