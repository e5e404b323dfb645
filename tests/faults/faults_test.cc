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

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../support/golden.h"
#include "injection.h"
#include "scenarios.h"

namespace {

namespace fs = std::filesystem;
using injection::Call;

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
    injection::Held after = injection::held();
    // The kernel counts a thread that was joined until it is done with it.
    for (int i = 0; i < 1000 && after.threads > before.threads; i++) {
      usleep(1000);
      after = injection::held();
    }
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
TEST_F(Faults, Draft) { sweep(draft, calls_of_readers); }
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
