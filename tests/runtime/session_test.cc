// Sessions: truncate, fork, save and restore, limits, use by two threads, close and cancel.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

namespace fs = std::filesystem;

const std::vector<int32_t> prompt = {17, 250, 3, 99, 120, 7, 7, 301, 42, 5, 64, 11};

std::string shape(const char* name) { return golden::source_root() + "/tests/data/shapes/" + name; }

void append(finermoe_session* session, const std::vector<int32_t>& ids, int32_t logits = FINERMOE_LOGITS_NONE) {
  EXPECT_DONE(finermoe_session_append(session, ids.data(), ids.size(), logits, nullptr, e));
}

finermoe_session_info info_of(finermoe_session* session) {
  finermoe_session_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_session_get_info(session, &info, e));
  return info;
}

class Sessions : public testing::Test {
 protected:
  ModelHandle model = open_model(shape("finermoe-32-1-2-2"));
};

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "finermoe-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  std::string operator/(const char* name) const { return (path_ / name).string(); }
  size_t n_entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

TEST_F(Sessions, KeptRowsAreThoseAskedFor) {
  auto session = open_session(model.get(), 0, 5);
  append(session.get(), prompt, FINERMOE_LOGITS_ALL);
  std::vector<std::vector<float>> all;
  for (size_t row = 0; row < prompt.size(); row++) all.push_back(session_logits(session.get(), row));

  auto again = open_session(model.get(), 0, 5);
  const std::vector<size_t> rows = {0, 4, 5, 11};
  EXPECT_DONE(
      finermoe_session_append_rows(again.get(), prompt.data(), prompt.size(), rows.data(), rows.size(), nullptr, e));
  EXPECT_EQ(info_of(again.get()).n_logits, rows.size());
  for (size_t i = 0; i < rows.size(); i++) {
    const auto row = session_logits(again.get(), i);
    for (size_t j = 0; j < row.size(); j++) ASSERT_NEAR(row[j], all[rows[i]][j], 2e-4f);
  }
  float value;
  EXPECT_EQ(finermoe_session_logits(again.get(), rows.size(), &value, 1, nullptr, nullptr), FINERMOE_ERROR_STATE);
  const size_t falling[] = {3, 3};
  EXPECT_EQ(finermoe_session_append_rows(again.get(), prompt.data(), 4, falling, 2, nullptr, nullptr),
            FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST_F(Sessions, TruncateAndAppendAgain) {
  auto session = open_session(model.get()), straight = open_session(model.get());
  append(session.get(), prompt);
  append(session.get(), {1, 2, 3});
  EXPECT_DONE(finermoe_session_truncate(session.get(), prompt.size(), e));
  EXPECT_EQ(session_tokens(session.get()), prompt);
  append(session.get(), {9}, FINERMOE_LOGITS_LAST);
  append(straight.get(), prompt);
  append(straight.get(), {9}, FINERMOE_LOGITS_LAST);
  EXPECT_EQ(session_logits(session.get(), 0), session_logits(straight.get(), 0));
  const Failure failure = failure_of([&](auto** e) { return finermoe_session_truncate(session.get(), 100, e); });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(failure.expected, "at most 13");
  EXPECT_DONE(finermoe_session_reset(session.get(), e));
  EXPECT_EQ(info_of(session.get()).length, 0u);
}

TEST_F(Sessions, ForksGoTheirOwnWays) {
  for (int32_t kv : {FINERMOE_DTYPE_F32, FINERMOE_DTYPE_F16, FINERMOE_DTYPE_BF16, FINERMOE_DTYPE_Q8}) {
    auto session = open_session(model.get(), 64, 0, kv);
    append(session.get(), prompt);
    auto fork = make<SessionHandle>([&](auto** out, auto** e) { return finermoe_session_fork(session.get(), out, e); });
    append(fork.get(), {200, 201});
    append(session.get(), {9}, FINERMOE_LOGITS_LAST);
    const auto of_session = session_logits(session.get(), 0);
    EXPECT_DONE(finermoe_session_truncate(fork.get(), prompt.size(), e));
    append(fork.get(), {9}, FINERMOE_LOGITS_LAST);
    EXPECT_EQ(session_logits(fork.get(), 0), of_session);
  }
}

TEST_F(Sessions, SaveAndRestore) {
  TemporaryFolder folder;
  for (int32_t kv : {FINERMOE_DTYPE_F32, FINERMOE_DTYPE_F16, FINERMOE_DTYPE_BF16, FINERMOE_DTYPE_Q8}) {
    auto session = open_session(model.get(), 64, 0, kv), other = open_session(model.get(), 40, 0, kv);
    append(session.get(), prompt);
    EXPECT_DONE(finermoe_session_save(session.get(), (folder / "saved").c_str(), e));
    append(other.get(), {5, 5, 5});
    EXPECT_DONE(finermoe_session_restore(other.get(), (folder / "saved").c_str(), e));
    EXPECT_EQ(session_tokens(other.get()), prompt);
    append(session.get(), {9}, FINERMOE_LOGITS_LAST);
    append(other.get(), {9}, FINERMOE_LOGITS_LAST);
    EXPECT_EQ(session_logits(other.get(), 0), session_logits(session.get(), 0));
  }
  EXPECT_EQ(folder.n_entries(), 1u);
}

TEST_F(Sessions, DamagedAndForeignFilesAreRefusedAndChangeNothing) {
  TemporaryFolder folder;
  const std::string path = folder / "saved";
  auto session = open_session(model.get(), 64), other = open_session(model.get(), 64);
  append(session.get(), prompt);
  EXPECT_DONE(finermoe_session_save(session.get(), path.c_str(), e));
  append(other.get(), {5, 6, 7});
  const std::string whole = golden::read_file(path);
  auto restoring = [&](const std::string& content, finermoe_session* into) {
    std::ofstream(path, std::ios::binary) << content;
    return finermoe_session_restore(into, path.c_str(), nullptr);
  };
  for (size_t at = 0; at < whole.size(); at += at < 200 ? 1 : 997) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
    EXPECT_EQ(restoring(damaged, other.get()), FINERMOE_ERROR_SESSION_MALFORMED) << "byte " << at;
    EXPECT_EQ(restoring(whole.substr(0, at), other.get()), FINERMOE_ERROR_SESSION_MALFORMED) << at << " bytes";
  }
  EXPECT_EQ(restoring(whole + "x", other.get()), FINERMOE_ERROR_SESSION_MALFORMED);
  EXPECT_EQ(session_tokens(other.get()), (std::vector<int32_t>{5, 6, 7}));
  auto untouched = open_session(model.get(), 64);
  append(untouched.get(), {5, 6, 7});
  append(untouched.get(), {9}, FINERMOE_LOGITS_LAST);
  append(other.get(), {9}, FINERMOE_LOGITS_LAST);
  EXPECT_EQ(session_logits(other.get(), 0), session_logits(untouched.get(), 0)) << "the cache is the old one too";

  auto half = open_session(model.get(), 64, 0, FINERMOE_DTYPE_F16), small = open_session(model.get(), 8);
  EXPECT_EQ(restoring(whole, half.get()), FINERMOE_ERROR_SESSION_MISMATCH);
  EXPECT_EQ(restoring(whole, small.get()), FINERMOE_ERROR_CONTEXT_LENGTH);
  auto other_model = open_model(shape("finermoe-separate-router"));
  auto foreign = open_session(other_model.get(), 64);
  EXPECT_EQ(restoring(whole, foreign.get()), FINERMOE_ERROR_SESSION_MISMATCH);
  EXPECT_EQ(finermoe_session_restore(other.get(), (folder / "none").c_str(), nullptr), FINERMOE_ERROR_FILE_NOT_FOUND);
  EXPECT_EQ(finermoe_session_save(session.get(), "/nowhere/at/all", nullptr), FINERMOE_ERROR_FILE_WRITE);
}

// Another process that cuts the file off and writes it again, over and over, while it is read.
TEST_F(Sessions, AFileThatShrinksWhileItIsReadIsAnError) {
  TemporaryFolder folder;
  const std::string path = folder / "saved";
  std::vector<int32_t> long_text(500);
  for (size_t i = 0; i < long_text.size(); i++) long_text[i] = static_cast<int32_t>(i * 7 % 300);
  auto session = open_session(model.get(), 512), other = open_session(model.get(), 512);
  append(session.get(), long_text);
  EXPECT_DONE(finermoe_session_save(session.get(), path.c_str(), e));
  const std::string whole = golden::read_file(path);
  std::atomic<bool> enough{false};
  std::thread writer([&] {
    std::FILE* file = std::fopen(path.c_str(), "r+b");
    while (!enough) {
      EXPECT_EQ(ftruncate(fileno(file), 4096), 0);
      std::rewind(file);
      EXPECT_EQ(std::fwrite(whole.data(), 1, whole.size(), file), whole.size());
      std::fflush(file);
    }
    std::fclose(file);
  });
  size_t n_refused = 0;
  for (int i = 0; i < 400; i++) {
    const std::vector<int32_t> before = session_tokens(other.get());
    const Failure failure =
        failure_of([&](finermoe_error** e) { return finermoe_session_restore(other.get(), path.c_str(), e); });
    if (failure.code == FINERMOE_OK) {
      EXPECT_EQ(session_tokens(other.get()), long_text);
      EXPECT_DONE(finermoe_session_reset(other.get(), e));
      append(other.get(), {1, 2, 3});
    } else {
      n_refused++;
      EXPECT_TRUE(failure.code == FINERMOE_ERROR_FILE_CHANGED || failure.code == FINERMOE_ERROR_SESSION_MALFORMED)
          << failure.message;
      EXPECT_EQ(session_tokens(other.get()), before);
    }
  }
  enough = true;
  writer.join();
  EXPECT_GT(n_refused, 0u);
}

TEST_F(Sessions, SavesFollowLinksAndRefuseDevices) {
  TemporaryFolder folder;
  auto session = open_session(model.get(), 64), other = open_session(model.get(), 64);
  append(session.get(), prompt);
  const std::string target = folder / "target", link = folder / "link";
  std::ofstream(target) << "old";
  std::filesystem::permissions(target, std::filesystem::perms{0640});
  std::filesystem::create_symlink("target", link);
  EXPECT_DONE(finermoe_session_save(session.get(), link.c_str(), e));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(std::filesystem::status(target).permissions(), std::filesystem::perms{0640});
  EXPECT_DONE(finermoe_session_restore(other.get(), link.c_str(), e));
  EXPECT_EQ(session_tokens(other.get()), prompt);

  std::filesystem::create_symlink("/dev/null", folder / "device");
  for (const std::string& path : {std::string("/dev/null"), folder / "device", folder / "."}) {
    const Failure failure =
        failure_of([&](finermoe_error** e) { return finermoe_session_save(session.get(), path.c_str(), e); });
    EXPECT_EQ(failure.code, FINERMOE_ERROR_FILE_WRITE) << path;
    EXPECT_NE(failure.message.find(path), std::string::npos) << failure.message;
  }
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_EQ(finermoe_session_restore(other.get(), (folder / ".").c_str(), nullptr), FINERMOE_ERROR_FILE_UNREADABLE);
  EXPECT_EQ(finermoe_session_restore(other.get(), "/dev/null", nullptr), FINERMOE_ERROR_FILE_UNREADABLE);
}

TEST_F(Sessions, BadIdsAndFullContexts) {
  auto session = open_session(model.get(), 14);
  for (int32_t id : {-1, 320, INT32_MAX, INT32_MIN}) {
    const Failure failure =
        failure_of([&](auto** e) { return finermoe_session_append(session.get(), &id, 1, 0, nullptr, e); });
    EXPECT_EQ(failure.code, FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
    EXPECT_EQ(failure.expected, "0 to 319");
    EXPECT_EQ(failure.found, std::to_string(id));
  }
  append(session.get(), prompt);
  append(session.get(), {1, 2});
  const Failure failure =
      failure_of([&](auto** e) { return finermoe_session_append(session.get(), prompt.data(), 1, 0, nullptr, e); });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_CONTEXT_LENGTH);
  EXPECT_EQ(info_of(session.get()).length, 14u);

  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), 513, e));
  finermoe_session* none = nullptr;
  EXPECT_EQ(finermoe_session_create(model.get(), options.get(), &none, nullptr), FINERMOE_ERROR_CONTEXT_LENGTH);
  EXPECT_EQ(none, nullptr);
}

TEST_F(Sessions, MemoryLimitIsKept) {
  auto measure = open_runtime(2);
  uint64_t whole;
  {
    auto measured = open_model(shape("finermoe-32-1-2-2"), measure.get());
    auto session = open_session(measured.get(), 256);
    append(session.get(), prompt, FINERMOE_LOGITS_ALL);
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(measure.get(), &info, e));
    whole = info.memory_peak;
    EXPECT_EQ(info.memory_limit, 0u);
  }
  auto enough = open_runtime(2, FINERMOE_ISA_AUTO, whole);
  {
    auto fits = open_model(shape("finermoe-32-1-2-2"), enough.get());
    auto session = open_session(fits.get(), 256);
    append(session.get(), prompt, FINERMOE_LOGITS_ALL);
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(enough.get(), &info, e));
    EXPECT_LE(info.memory_peak, whole);
  }
  finermoe_runtime_info after{};
  after.struct_size = sizeof after;
  EXPECT_DONE(finermoe_runtime_get_info(enough.get(), &after, e));
  EXPECT_EQ(after.memory_used, 0u);

  auto tight = open_runtime(2, FINERMOE_ISA_AUTO, whole / 2);
  auto refused = open_model(shape("finermoe-32-1-2-2"), tight.get());
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), 256, e));
  finermoe_session* none = nullptr;
  const Failure failure =
      failure_of([&](auto** e) { return finermoe_session_create(refused.get(), options.get(), &none, e); });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_MEMORY_LIMIT);
  EXPECT_EQ(failure.expected, "at most " + std::to_string(whole / 2) + " bytes");
}

class PlannedThreads : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Plan, PlannedThreads, testing::Values(0, 1, 7));

TEST_P(PlannedThreads, PlanIsWhatSessionsAllocate) {
  if (test_expert_device() != nullptr || test_divides_layers()) GTEST_SKIP() << "a plan of all on one device";
  auto runtime = open_runtime(GetParam());
  auto planned = open_model(shape("finermoe-32-1-2-2"), runtime.get());
  auto config =
      make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open_model(planned.get(), out, e); });
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), 128, e));
  EXPECT_DONE(finermoe_session_options_set_kv_dtype(options.get(), FINERMOE_DTYPE_BF16, e));
  auto intended = make<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  EXPECT_DONE(finermoe_plan_options_set_session(intended.get(), options.get(), e));
  EXPECT_DONE(finermoe_plan_options_set_sessions(intended.get(), 3, e));
  EXPECT_DONE(finermoe_plan_options_set_threads(intended.get(), GetParam(), e));
  finermoe_plan plan{}, plan_of_runtime{};
  plan.struct_size = plan_of_runtime.struct_size = sizeof plan;
  EXPECT_DONE(finermoe_plan_compute(config.get(), intended.get(), &plan, e));
  EXPECT_DONE(finermoe_plan_options_set_runtime(intended.get(), runtime.get(), e));
  EXPECT_DONE(finermoe_plan_compute(config.get(), intended.get(), &plan_of_runtime, e));
  // Without a runtime a plan is that of the CPU, whose figures those of its disguise are. A BLAS needs more scratch
  // than the kernels, but for those of matrix tiles.
  const std::string_view device = test_device() == nullptr ? "" : test_device();
  const bool counts_as_cpu = device.empty() || device == "deferred" || (device == "blas" && has_tiles());
  EXPECT_EQ(plan.scratch == plan_of_runtime.scratch, counts_as_cpu);
  EXPECT_EQ(plan.kv_cache, 3u * 2 * 2 * 2 * 16 * 128 * 2);  // sessions, K and V, layers, heads, width, positions, bytes
  EXPECT_EQ(plan.weights_total, plan.weights_embeddings + plan.weights_attention + plan.weights_dense +
                                    plan.weights_shared + plan.weights_routed + plan.weights_router);
  auto used = [&] {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
    return info.memory_used;
  };
  const uint64_t by_the_model = used();  // headers, small files that are read whole, copies of weights
  std::vector<SessionHandle> sessions;
  for (int i = 0; i < 3; i++) {
    sessions.push_back(make<SessionHandle>(
        [&](auto** out, auto** e) { return finermoe_session_create(planned.get(), options.get(), out, e); }));
  }
  EXPECT_EQ(used() - by_the_model, plan_of_runtime.allocated_total - plan_of_runtime.device_weights);
}

TEST_F(Sessions, CancelLeavesWholeChunks) {
  struct Watcher {
    finermoe_cancel* cancel;
    uint64_t stop_at, total;
  };
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  Watcher watcher{cancel.get(), 6, prompt.size()};
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_chunk(options.get(), 3, e));
  auto progress = [](void* user, const char* phase, uint64_t done, uint64_t total) -> int32_t {
    auto& w = *static_cast<Watcher*>(user);
    EXPECT_STREQ(phase, "prefill");
    EXPECT_EQ(total, w.total);
    if (done == w.stop_at) finermoe_cancel_request(w.cancel);
    return 0;
  };
  EXPECT_DONE(finermoe_session_options_set_progress(options.get(), progress, &watcher, e));
  auto session = make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model.get(), options.get(), out, e); });
  EXPECT_EQ(finermoe_session_append(session.get(), prompt.data(), prompt.size(), 0, cancel.get(), nullptr),
            FINERMOE_ERROR_CANCELLED);
  EXPECT_EQ(info_of(session.get()).length, 6u);
  finermoe_cancel_reset(cancel.get());
  watcher = {cancel.get(), 0, 6};
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data() + 6, prompt.size() - 6, FINERMOE_LOGITS_LAST,
                                      cancel.get(), e));
  auto straight = open_session(model.get(), 0, 3);
  append(straight.get(), prompt, FINERMOE_LOGITS_LAST);
  EXPECT_EQ(session_logits(session.get(), 0), session_logits(straight.get(), 0));
}

TEST_F(Sessions, BusyWhileInUseAndClosedFromAnotherThread) {
  struct Gate {
    std::atomic<bool> inside{false}, leave{false};
  } gate;
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_chunk(options.get(), 4, e));
  auto progress = [](void* user, const char*, uint64_t, uint64_t) -> int32_t {
    auto& g = *static_cast<Gate*>(user);
    g.inside = true;
    while (!g.leave) std::this_thread::yield();
    return 0;
  };
  EXPECT_DONE(finermoe_session_options_set_progress(options.get(), progress, &gate, e));
  auto session = make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model.get(), options.get(), out, e); });
  std::atomic<int32_t> result{FINERMOE_OK};
  std::thread other(
      [&] { result = finermoe_session_append(session.get(), prompt.data(), prompt.size(), 0, nullptr, nullptr); });
  while (!gate.inside && result == FINERMOE_OK) std::this_thread::yield();
  EXPECT_EQ(finermoe_session_append(session.get(), prompt.data(), 1, 0, nullptr, nullptr), FINERMOE_ERROR_BUSY);
  EXPECT_EQ(finermoe_session_truncate(session.get(), 0, nullptr), FINERMOE_ERROR_BUSY);
  finermoe_generation* none = nullptr;
  EXPECT_EQ(finermoe_generation_create(session.get(), nullptr, prompt.data(), 1, &none, nullptr), FINERMOE_ERROR_BUSY);
  finermoe_session_close(session.get());
  finermoe_session_close(session.get());
  gate.leave = true;
  other.join();
  EXPECT_EQ(result, FINERMOE_ERROR_CLOSED);
  EXPECT_EQ(finermoe_session_append(session.get(), prompt.data(), 1, 0, nullptr, nullptr), FINERMOE_ERROR_CLOSED);
}

TEST_F(Sessions, ManyThreadsManySessionsOneModel) {
  const auto want = [&] {
    auto session = open_session(model.get());
    append(session.get(), prompt, FINERMOE_LOGITS_LAST);
    return session_logits(session.get(), 0);
  }();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (int round = 0; round < 10; round++) {
        finermoe_session* session = nullptr;
        std::vector<float> logits(want.size());
        wrong += finermoe_session_create(model.get(), nullptr, &session, nullptr) != FINERMOE_OK;
        wrong += finermoe_session_append(session, prompt.data(), prompt.size(), FINERMOE_LOGITS_LAST, nullptr,
                                         nullptr) != FINERMOE_OK;
        wrong += finermoe_session_logits(session, 0, logits.data(), logits.size(), nullptr, nullptr) != FINERMOE_OK;
        wrong += logits != want;
        finermoe_session_free(session);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(Sessions, ObjectsCanBeFreedInAnyOrder) {
  auto session = open_session(model.get());
  auto fork = make<SessionHandle>([&](auto** out, auto** e) { return finermoe_session_fork(session.get(), out, e); });
  auto generation = generate(session.get(), nullptr, prompt);
  model.reset();
  session.reset();
  EXPECT_GE(next_event(generation.get()).token, 0);
  generation.reset();
  append(fork.get(), prompt);
}

TEST_F(Sessions, KeptLogitsAreGivenBack) {
  auto runtime =
      make<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_open_model(model.get(), out, e); });
  auto used = [&] {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
    return info.memory_used;
  };
  auto session = open_session(model.get(), 64);
  append(session.get(), prompt, FINERMOE_LOGITS_LAST);
  const uint64_t row = 320 * sizeof(float), least = used();  // room for one row stays
  auto keep_all = [&] {
    append(session.get(), prompt, FINERMOE_LOGITS_ALL);
    EXPECT_EQ(used(), least + (prompt.size() - 1) * row);
  };
  keep_all();
  EXPECT_DONE(finermoe_session_reset(session.get(), e));
  EXPECT_EQ(used(), least);
  EXPECT_EQ(info_of(session.get()).n_logits, 0u);
  keep_all();
  EXPECT_DONE(finermoe_session_truncate(session.get(), 3, e));
  EXPECT_EQ(used(), least);
  keep_all();
  const std::vector<size_t> rows = {0, 4, 11};
  EXPECT_DONE(finermoe_session_append_rows(session.get(), prompt.data(), prompt.size(), rows.data(), 3, nullptr, e));
  EXPECT_EQ(used(), least + 2 * row);
  append(session.get(), {1}, FINERMOE_LOGITS_NONE);
  EXPECT_EQ(used(), least);
  keep_all();
  // A call that is refused takes nothing away.
  const int32_t no_token = 320;
  EXPECT_EQ(finermoe_session_append(session.get(), &no_token, 1, FINERMOE_LOGITS_NONE, nullptr, nullptr),
            FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
  EXPECT_EQ(info_of(session.get()).n_logits, prompt.size());
  EXPECT_EQ(used(), least + (prompt.size() - 1) * row);
}

TEST_F(Sessions, ClosingTheModelStopsItsSessions) {
  auto session = open_session(model.get());
  finermoe_model_close(model.get());
  EXPECT_EQ(finermoe_session_append(session.get(), prompt.data(), 1, 0, nullptr, nullptr), FINERMOE_ERROR_CLOSED);
  finermoe_session* none = nullptr;
  EXPECT_EQ(finermoe_session_create(model.get(), nullptr, &none, nullptr), FINERMOE_ERROR_CLOSED);
}

}  // namespace
