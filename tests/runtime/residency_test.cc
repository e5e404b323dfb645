// Weights that come, stay and go: results are the same bits, the budget is kept, nothing that was promised costs a
// thread, and what cannot be promised is refused. And sessions that take memory for what they hold.
#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "../support/golden.h"
#include "../support/handles.h"
#include "../support/sanitizers.h"

namespace {

namespace fs = std::filesystem;

// The sanitizers' mlock does nothing and says that it succeeded.
constexpr bool locks_are_ignored = finermoe::address_sanitizer || finermoe::thread_sanitizer;

struct How {
  int32_t lock = FINERMOE_LOCK_NONE, prefetch = FINERMOE_PREFETCH_AUTO;
  uint64_t budget = 0;
  bool copy = false;
  bool is_fetched = true;  // the experts, where all other weights are copied to a device
};

// Whether the CPU computes all; whether it computes experts or none, all other weights being copied to a device; and
// whether the device computes all, so that experts are fetched.
bool all_is_mapped() { return test_device() == nullptr; }
bool only_experts_are_mapped() { return !all_is_mapped() && !test_divides_layers(); }
bool all_is_copied() { return only_experts_are_mapped() && test_expert_device() == nullptr; }
bool is_deferred() { return test_device() != nullptr && std::string_view(test_device()) == "deferred"; }

ModelOptions model_options(const std::string& path, const How& how, finermoe_runtime* runtime = nullptr) {
  auto options = model_options(path, runtime);
  EXPECT_DONE(finermoe_model_options_set_copy(options.get(), how.copy, e));
  EXPECT_DONE(finermoe_model_options_set_lock(options.get(), how.lock, e));
  EXPECT_DONE(finermoe_model_options_set_prefetch(options.get(), how.prefetch, e));
  EXPECT_DONE(finermoe_model_options_set_expert_budget(options.get(), how.budget, e));
  if (how.is_fetched && all_is_copied()) {
    EXPECT_DONE(finermoe_model_options_set_expert_cache(options.get(), 4 << 20, e));
  }
  return options;
}
ModelHandle open_with(const std::string& path, const How& how, finermoe_runtime* runtime = nullptr) {
  const auto options = model_options(path, how, runtime);
  return make<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(path.c_str(), options.get(), out, e); });
}
Failure refusal(const std::string& path, const How& how) {
  const auto options = model_options(path, how);
  finermoe_model* model = nullptr;
  const Failure failure =
      failure_of([&](finermoe_error** e) { return finermoe_model_open(path.c_str(), options.get(), &model, e); });
  finermoe_model_free(model);  // where it was not refused
  return failure;
}

// Logits of a prompt and of tokens decoded one by one.
std::vector<float> logits_of(finermoe_model* model) {
  auto session = open_session(model);
  std::vector<int32_t> ids(unless_emulated<size_t>(40, 20));
  for (size_t i = 0; i < ids.size(); i++) ids[i] = static_cast<int32_t>(i * 7 % 64);
  EXPECT_DONE(finermoe_session_append(session.get(), ids.data(), ids.size(), FINERMOE_LOGITS_ALL, nullptr, e));
  std::vector<float> all = all_logits(session.get());
  for (int32_t id = 0; id < unless_emulated(12, 2); id++) {
    EXPECT_DONE(finermoe_session_append(session.get(), &id, 1, FINERMOE_LOGITS_LAST, nullptr, e));
    const auto last = all_logits(session.get());
    all.insert(all.end(), last.begin(), last.end());
  }
  return all;
}

// A random model whose experts are many pages each: 32 of 640 kB, and less beside them.
constexpr const char* config_json = R"({"model_type": "finer_moe", "G_I": 4, "R_I": 1, "G_O": 2, "R_O": 2,
  "hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 256, "shared_expert_intermediate_size": 512,
  "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 16, "num_experts_per_tok": 2,
  "num_hidden_layers": 2, "decoder_sparse_step": 1, "mlp_only_layers": [], "moe_concat_proj": false,
  "norm_topk_prob": false, "vocab_size": 64, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
  "tie_word_embeddings": false, "torch_dtype": "float32", "hidden_act": "silu", "use_sliding_window": false,
  "initializer_range": 0.3})";
constexpr uint64_t expert_bytes = 655360;
constexpr uint64_t least_budget = 2 * (expert_bytes + (128 << 10));  // whole units of 64 kB at both ends

class Residency : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = (fs::temp_directory_path() / "finermoe-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    std::ofstream(name + "/config.json") << config_json;
    EXPECT_DONE(finermoe_synthesize_run((name + "/config.json").c_str(), model_path().c_str(), -1, nullptr, e));
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }
  static std::string model_path() { return folder_ + "/model.safetensors"; }

  // Calls visit(line) for the lines of /proc/self/smaps about the mappings of a file.
  template <class Visit>
  static void visit_mappings(const std::string& path, Visit visit) {
    std::ifstream maps("/proc/self/smaps");
    bool is_ours = false;
    for (std::string line; std::getline(maps, line);) {
      if (std::isxdigit(line[0]) && line.find('-') < line.find(' ')) is_ours = line.ends_with(path);
      if (is_ours) visit(line);
    }
  }
  // A column ("Rss:", "Locked:") over the mappings of the model's file, in bytes.
  static uint64_t of_mapping(const std::string& column, const std::string& path = model_path()) {
    uint64_t kib = 0;
    visit_mappings(path, [&](const std::string& line) {
      if (line.starts_with(column)) kib += std::stoull(line.substr(column.size()));
    });
    return kib << 10;
  }
  // The bytes of these mappings for which huge pages were asked for.
  static uint64_t in_huge_pages(const std::string& path) {
    uint64_t kib = 0, size = 0;
    visit_mappings(path, [&](const std::string& line) {
      if (line.starts_with("Size:")) size = std::stoull(line.substr(5));
      if (line.starts_with("VmFlags:") && (line + " ").find(" hg ") != std::string::npos) kib += size;
    });
    return kib << 10;
  }
  static size_t n_threads() {
    return static_cast<size_t>(std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator()));
  }
  static finermoe_plan plan(const std::string& path = model_path()) {
    auto config = make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open(path.c_str(), out, e); });
    finermoe_plan plan{};
    plan.struct_size = sizeof plan;
    EXPECT_DONE(finermoe_plan_compute(config.get(), nullptr, &plan, e));
    return plan;
  }
  inline static std::string folder_;
};

// Of every way to keep weights, and of keeping them all.
void expect_same_bits(const std::string& path) {
  const std::vector<float> expected = logits_of(open_with(path, {.is_fetched = false}).get());
  ASSERT_FALSE(expected.empty());
  for (uint32_t n_threads : {1u, 3u}) {
    const auto runtime = open_runtime(n_threads);
    for (const How& how : {How{0, FINERMOE_PREFETCH_ON, 0}, How{0, FINERMOE_PREFETCH_AUTO, least_budget},
                           How{0, FINERMOE_PREFETCH_OFF, least_budget}, How{0, FINERMOE_PREFETCH_ON, 8 << 20}}) {
      const auto logits = logits_of(open_with(path, how, runtime.get()).get());
      ASSERT_EQ(logits.size(), expected.size());
      EXPECT_EQ(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)), 0)
          << path << ", " << n_threads << " threads, prefetch " << how.prefetch << ", budget " << how.budget;
    }
  }
}

TEST_F(Residency, ResultsAreTheSameBits) {
  std::vector<std::string> paths = {model_path(), golden::trained("tiny-wordnet-finermoe")};
  for (const char* shape : {"finermoe-concat-proj", "finermoe-no-shared", "finermoe-dense-first", "finermoe-ti2-ri2"}) {
    paths.push_back(golden::source_root() + "/tests/data/shapes/" + shape);
  }
  for (const std::string& path : paths) expect_same_bits(path);
}

TEST_F(Residency, ResultsOfADenseModelAreTheSameBits) {
  if (only_experts_are_mapped()) GTEST_SKIP() << "a budget is for mapped experts, of which a dense model has none";
  expect_same_bits(golden::trained("tiny-wordnet-dense"));
}

TEST_F(Residency, TheBudgetIsKept) {
  const finermoe_plan bytes = plan();
  const uint64_t others = bytes.weights_total - bytes.weights_routed + (1 << 20);  // and the header, ends of pages
  for (int32_t prefetch : {FINERMOE_PREFETCH_ON, FINERMOE_PREFETCH_OFF}) {
    for (uint64_t budget : {least_budget, uint64_t{5 << 20}}) {
      const auto model = open_with(model_path(), {FINERMOE_LOCK_NONE, prefetch, budget});
      for (int i = 0; i < 3; i++) logits_of(model.get());
      EXPECT_LE(of_mapping("Rss:"), others + budget) << budget << ", prefetch " << prefetch;
    }
  }
  const auto model = open_with(model_path(), {});
  logits_of(model.get());
  EXPECT_GT(of_mapping("Rss:"), others + (5 << 20)) << "without a budget all experts should have been in memory";
}

// Experts that are fetched are read by one session at a time, whatever the others do.
TEST_F(Residency, TheBudgetIsKeptForSeveralSessions) {
  if (!all_is_copied()) GTEST_SKIP() << "sessions that compute experts in the mapping at once may exceed a budget";
  const finermoe_plan bytes = plan();
  const uint64_t others = bytes.weights_total - bytes.weights_routed + (1 << 20);  // and the header, ends of pages
  const auto model = open_with(model_path(), {FINERMOE_LOCK_NONE, FINERMOE_PREFETCH_OFF, least_budget});
  const std::vector<float> expected = logits_of(model.get());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (int k = 0; k < unless_emulated(4, 1); k++) EXPECT_EQ(logits_of(model.get()), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(of_mapping("Rss:"), others + least_budget);
}

TEST_F(Residency, NoThreadIsStarted) {
  if (is_deferred()) GTEST_SKIP() << "the deferred device has a thread for each step and its copies";
  const auto runtime = open_runtime(2);
  logits_of(open_with(model_path(), {FINERMOE_LOCK_NONE, FINERMOE_PREFETCH_OFF}, runtime.get()).get());
  const size_t before = n_threads();
  const auto model = open_with(model_path(), {FINERMOE_LOCK_NONE, FINERMOE_PREFETCH_ON, least_budget}, runtime.get());
  logits_of(model.get());
  EXPECT_EQ(n_threads(), before);
}

// A head of 8 MiB, which every token reads, and less beside it but experts.
TEST_F(Residency, HugePagesAreAskedForWhatHasRoom) {
  if (!fs::exists("/sys/kernel/mm/transparent_hugepage")) GTEST_SKIP() << "this kernel has no huge pages for files";
  const std::string path = folder_ + "/large-head.safetensors", config = folder_ + "/large-head.json";
  std::string json = config_json;
  json.replace(json.find("\"vocab_size\": 64"), 16, "\"vocab_size\": 8192");
  std::ofstream(config) << json;
  EXPECT_DONE(finermoe_synthesize_run(config.c_str(), path.c_str(), -1, nullptr, e));
  const finermoe_plan bytes = plan(path);
  constexpr uint64_t head = 8192 * 256 * 4, page = 4096;
  {
    const auto model = open_with(path, {});
    const uint64_t mapped = all_is_mapped() ? bytes.weights_total : all_is_copied() ? 0 : bytes.weights_routed;
    EXPECT_GE(in_huge_pages(path) + bytes.weights_total / 50, mapped);  // ends of ranges
    EXPECT_LE(in_huge_pages(path), only_experts_are_mapped() ? bytes.weights_routed : bytes.weights_total);
  }
  {  // Experts that are managed are not among them.
    const auto model = open_with(path, {FINERMOE_LOCK_NONE, FINERMOE_PREFETCH_ON, least_budget});
    EXPECT_GE(in_huge_pages(path), all_is_mapped() ? head - 2 * page : 0);
    EXPECT_LE(in_huge_pages(path), only_experts_are_mapped() ? 0 : bytes.weights_every_token);
  }
  const auto copied = open_with(path, {.copy = true});
  EXPECT_EQ(in_huge_pages(path), 0u);
}

TEST_F(Residency, LockedWeightsAreThoseThatWereAskedFor) {
  if (locks_are_ignored) GTEST_SKIP() << "a sanitizer's mlock does nothing";
  const finermoe_plan bytes = plan();
  const uint64_t embedding = 64 * 256 * 4;
  EXPECT_EQ(bytes.weights_every_token, bytes.weights_total - bytes.weights_routed - embedding);
  EXPECT_GT(bytes.memory_available, 0u);
  const Failure refused = refusal(model_path(), {FINERMOE_LOCK_ALL});
  if (refused.code == FINERMOE_ERROR_OUT_OF_MEMORY) GTEST_SKIP() << refused.message;
  ASSERT_EQ(refused.code, FINERMOE_OK) << refused.message;
  EXPECT_EQ(of_mapping("Locked:"), 0u);  // that model is gone, and its locks with it
  const auto expect_locked = [&](uint64_t least, uint64_t most) {
    const uint64_t ends = bytes.weights_total / 50;  // pages that a tensor shares with others
    EXPECT_GE(of_mapping("Locked:") + ends, least);
    EXPECT_LE(of_mapping("Locked:"), most + ends);
  };
  // What is copied to a device is not locked: all but the experts, or that of half the layers.
  {
    const auto model = open_with(model_path(), {FINERMOE_LOCK_ALL});
    expect_locked(all_is_mapped() ? bytes.weights_total : bytes.weights_routed,
                  only_experts_are_mapped() ? bytes.weights_routed : bytes.weights_total);
  }
  const auto model = open_with(model_path(), {FINERMOE_LOCK_EVERY_TOKEN, FINERMOE_PREFETCH_ON, least_budget});
  expect_locked(all_is_mapped() ? bytes.weights_every_token : 0,
                only_experts_are_mapped() ? 0 : bytes.weights_every_token);
  EXPECT_EQ(logits_of(model.get()), logits_of(open_with(model_path(), {}).get()));
}

TEST_F(Residency, WhatCannotBeKeptIsRefused) {
  auto options = make<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  for (int32_t bad : {-1, 3}) {
    EXPECT_EQ(finermoe_model_options_set_lock(options.get(), bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(finermoe_model_options_set_prefetch(options.get(), bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  }
  const Failure small = refusal(model_path(), {FINERMOE_LOCK_NONE, FINERMOE_PREFETCH_AUTO, expert_bytes});
  EXPECT_EQ(small.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(small.message.find("655360"), std::string::npos) << small.message;
  EXPECT_EQ(refusal(model_path(), {0, 0, 8 << 20, true}).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(refusal(model_path(), {FINERMOE_LOCK_ALL, 0, 8 << 20}).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  const std::string file = golden::read_file(model_path());
  for (const How& how : {How{FINERMOE_LOCK_ALL}, How{0, 0, 8 << 20}}) {
    const auto asked = model_options(model_path(), how);
    finermoe_model* model = nullptr;
    EXPECT_EQ(finermoe_model_open_memory(file.data(), file.size(), asked.get(), &model, nullptr),
              FINERMOE_ERROR_INVALID_ARGUMENT);
  }
}

// In a child, that may not lock as much; it answers with the code of the error and whether the message says why.
TEST_F(Residency, ARefusedLockNamesTheLimit) {
  if (locks_are_ignored) GTEST_SKIP() << "a sanitizer's mlock does nothing";
  if (is_all_on_a_gpu()) GTEST_SKIP() << "a child of fork() cannot use a GPU";
  fs::permissions(folder_, fs::perms::others_exec, fs::perm_options::add);
  fs::permissions(model_path(), fs::perms::others_read, fs::perm_options::add);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit limit = {64 << 10, 64 << 10};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) _exit(77);
    const uid_t nobody = 65534;  // the superuser may lock what it likes
    if (getuid() == 0 && (setgroups(0, nullptr) != 0 || setgid(nobody) != 0 || setuid(nobody) != 0)) _exit(77);
    const Failure refused = refusal(model_path(), {all_is_mapped() ? FINERMOE_LOCK_EVERY_TOKEN : FINERMOE_LOCK_ALL});
    std::fprintf(stderr, "%d: %s\n", refused.code, refused.message.c_str());  // the child's only way to show it
    const bool says_why = refused.message.find("RLIMIT_MEMLOCK: 65536") != std::string::npos;
    _exit(refused.code == FINERMOE_ERROR_OUT_OF_MEMORY && says_why ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "the limit of locked memory cannot be lowered here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

uint64_t resident_bytes() {
  uint64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

// 32,768 positions of 24 layers with two heads, in huge pages where the system has them: a page for each layer's keys
// and values of a head would be 192 MiB.
TEST_F(Residency, AShortSessionTakesLittleOfALongContext) {
  if (is_all_on_a_gpu()) GTEST_SKIP() << "the cache is in the memory of a GPU";
  std::string huge_pages;
  std::getline(std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled"), huge_pages);
  if (huge_pages.empty() || huge_pages.find("[never]") != std::string::npos) GTEST_SKIP() << "no huge pages here";
  const std::string path = folder_ + "/long-context.safetensors", config = folder_ + "/long-context.json";
  std::ofstream(config) << R"({"model_type": "qwen2", "hidden_size": 256, "intermediate_size": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 24, "vocab_size": 64,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true,
    "torch_dtype": "float32", "hidden_act": "silu", "use_sliding_window": false, "initializer_range": 0.3})";
  EXPECT_DONE(finermoe_synthesize_run(config.c_str(), path.c_str(), -1, nullptr, e));
  const auto model = open_model(path);
  const std::vector<int32_t> ids(12, 7);
  const auto append = [&](finermoe_session* session) {
    EXPECT_DONE(finermoe_session_append(session, ids.data(), ids.size(), FINERMOE_LOGITS_LAST, nullptr, e));
  };
  const auto first = open_session(model.get());
  append(first.get());  // the model's weights, and threads
  const uint64_t before = resident_bytes();
  const auto second = open_session(model.get());
  append(second.get());
  const uint64_t taken = resident_bytes() - before;
  EXPECT_LE(taken, 32u << 20) << taken;
}

TEST_F(Residency, AFileThatBecomesShorterIsNoticed) {
  const std::string path = folder_ + "/shorter.safetensors";
  fs::copy_file(model_path(), path);
  const auto model = open_with(path, {FINERMOE_LOCK_NONE, FINERMOE_PREFETCH_ON, least_budget});
  logits_of(model.get());
  auto session = open_session(model.get());
  fs::resize_file(path, 4096);
  const int32_t id = 1;
  const Failure changed = failure_of([&](finermoe_error** e) {
    return finermoe_session_append(session.get(), &id, 1, FINERMOE_LOGITS_LAST, nullptr, e);
  });
  EXPECT_EQ(changed.code, FINERMOE_ERROR_FILE_CHANGED) << changed.message;
  double similarity = 0;
  const Failure compared = failure_of(
      [&](finermoe_error** e) { return finermoe_model_expert_similarity(model.get(), 0, nullptr, &similarity, e); });
  EXPECT_EQ(compared.code, FINERMOE_ERROR_FILE_CHANGED) << compared.message;
}

}  // namespace
