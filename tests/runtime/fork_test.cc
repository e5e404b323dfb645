// A child of fork(): it frees what it inherited at once, is told so when it uses that otherwise, and works with what it
// opens itself.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "../support/golden.h"
#include "../support/handles.h"
#include "../support/sanitizers.h"

namespace {

using finermoe::address_sanitizer;
using finermoe::thread_sanitizer;

const std::vector<int32_t> prompt = {17, 250, 3, 99, 120, 7, 7, 301, 42, 5, 64, 11};

// A starting thread holds locks of AddressSanitizer's own, for which a child of fork() would wait for ever. The library
// holds none then, so only that sanitizer needs this.
void wait_until_other_threads_sleep() {
  namespace fs = std::filesystem;
  const std::string self = std::to_string(gettid());
  for (bool all_sleep = false; !all_sleep;) {
    all_sleep = true;
    for (const auto& task : fs::directory_iterator("/proc/self/task")) {
      std::ifstream file(task.path() / "stat");
      const std::string stat{std::istreambuf_iterator<char>(file), {}};
      const size_t name_end = stat.rfind(") ");
      const bool sleeps = name_end == std::string::npos || stat[name_end + 2] == 'S';  // or has ended meanwhile
      if (task.path().filename() != self && !sleeps) all_sleep = false;
    }
    if (!all_sleep) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// Runs a child, which says with 0 that all was well and otherwise in which line it was not. One that hangs is ended.
#define CHECK(condition) \
  if (!(condition)) return __LINE__
int in_child(const std::function<int()>& body) {
  if (address_sanitizer) wait_until_other_threads_sleep();
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    const int line = body();
    if (line != 0) dprintf(STDERR_FILENO, "line %d of the child\n", line);
    _exit(line != 0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_FALSE(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) << "the child hung";
  return status;
}

// Plain C calls: what works in a child is no matter of the test's own helpers.
struct Objects {
  finermoe_runtime* runtime = nullptr;
  finermoe_model* model = nullptr;
  finermoe_session* session = nullptr;
  finermoe_generation* generation = nullptr;
  finermoe_batch* batch = nullptr;
  finermoe_trace* trace = nullptr;
  std::vector<float> logits;

  int32_t open() {
    const std::string path = golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2";
    finermoe_runtime_options* options = nullptr;
    finermoe_model_options* model_options = nullptr;
    finermoe_session* other = nullptr;
    logits.resize(320);
    int32_t code = finermoe_runtime_options_create(&options, nullptr);
    if (code == 0) code = finermoe_runtime_options_set_threads(options, 4, nullptr);
    if (code == 0) code = finermoe_runtime_options_set_profile(options, 1, nullptr);
    if (code == 0) code = finermoe_runtime_create(options, &runtime, nullptr);
    if (code == 0) code = finermoe_model_options_create(&model_options, nullptr);
    if (code == 0) code = finermoe_model_options_set_runtime(model_options, runtime, nullptr);
    if (code == 0) code = finermoe_model_open(path.c_str(), model_options, &model, nullptr);
    if (code == 0) code = finermoe_session_create(model, nullptr, &session, nullptr);
    if (code == 0) code = finermoe_trace_create(model, FINERMOE_TRACE_USAGE, &trace, nullptr);
    if (code == 0) code = finermoe_session_set_trace(session, trace, nullptr);
    if (code == 0) {
      code = finermoe_session_append(session, prompt.data(), prompt.size(), FINERMOE_LOGITS_LAST, nullptr, nullptr);
    }
    if (code == 0) code = finermoe_session_logits(session, 0, logits.data(), logits.size(), nullptr, nullptr);
    if (code == 0) code = finermoe_session_fork(session, &other, nullptr);
    if (code == 0) code = finermoe_generation_create(other, nullptr, prompt.data(), 2, &generation, nullptr);
    if (code == 0) code = finermoe_batch_create(model, &batch, nullptr);
    if (code == 0) code = finermoe_batch_add(batch, generation, nullptr);
    size_t n_active = 0;
    if (code == 0) code = finermoe_batch_step(batch, nullptr, &n_active, nullptr);
    finermoe_session_free(other);
    finermoe_runtime_options_free(options);
    finermoe_model_options_free(model_options);
    return code;
  }
  // In the order in which they were made, or the other way round.
  void free_all(bool forward) {
    const std::function<void()> frees[] = {
        [&] { finermoe_runtime_free(runtime); }, [&] { finermoe_model_free(model); },
        [&] { finermoe_session_free(session); }, [&] { finermoe_generation_free(generation); },
        [&] { finermoe_batch_free(batch); },     [&] { finermoe_trace_free(trace); }};
    for (size_t i = 0; i < std::size(frees); i++) frees[forward ? i : std::size(frees) - 1 - i]();
  }
};

int opens_objects_of_its_own(const std::vector<float>& expected_logits) {
  Objects own;
  CHECK(own.open() == FINERMOE_OK);
  CHECK(own.logits == expected_logits);
  finermoe_event event{};
  event.struct_size = sizeof event;
  CHECK(finermoe_generation_next(own.generation, nullptr, &event, nullptr) == FINERMOE_OK);
  own.free_all(true);
  return 0;
}

class Fork : public testing::Test {
 protected:
  void SetUp() override {
    if (thread_sanitizer) GTEST_SKIP() << "ThreadSanitizer does not support threads in a child of fork()";
    ASSERT_EQ(objects.open(), FINERMOE_OK);
  }
  void TearDown() override { objects.free_all(true); }
  Objects objects;
};

TEST_F(Fork, AChildFreesWhatItInheritedInAnyOrder) {
  for (bool forward : {true, false}) {
    EXPECT_EQ(in_child([&] {
                objects.free_all(forward);
                return opens_objects_of_its_own(objects.logits);
              }),
              0);
  }
  EXPECT_EQ(opens_objects_of_its_own(objects.logits), 0);  // the parent goes on
  size_t n_active = 0;
  EXPECT_EQ(finermoe_batch_step(objects.batch, nullptr, &n_active, nullptr), FINERMOE_OK);
}

TEST_F(Fork, AChildOfAChildDoesSoToo) {
  EXPECT_EQ(in_child([&] {
              Objects own;
              CHECK(own.open() == FINERMOE_OK);
              return in_child([&] {
                CHECK(finermoe_session_reset(own.session, nullptr) == FINERMOE_ERROR_STATE);
                CHECK(finermoe_session_reset(objects.session, nullptr) == FINERMOE_ERROR_STATE);
                own.free_all(false);
                objects.free_all(true);
                return opens_objects_of_its_own(own.logits);
              });
            }),
            0);
}

// Every function that takes one of the objects and can fail.
struct Use {
  const char* name;
  std::function<int32_t(const Objects& o, finermoe_error** e)> call;
};
template <class T>
T** out() {  // a place that a failed call leaves alone
  static T* made = nullptr;
  return &made;
}
std::vector<Use> uses() {
  static float floats[320];
  static double number;
  static uint64_t counts[128];
  static int32_t ids[16] = {1};
  static size_t sizes[16] = {0};
#define USE(function, ...)                                                                    \
  {                                                                                           \
#function, [=](const Objects& o, finermoe_error** e) { return function(__VA_ARGS__, e); } \
  }
  return {
      USE(finermoe_config_open_model, o.model, out<finermoe_config>()),
      USE(finermoe_runtime_open_model, o.model, out<finermoe_runtime>()),
      USE(finermoe_model_expert_similarity, o.model, 0, nullptr, &number),
      USE(finermoe_model_get_expert_cache, o.model, nullptr),
      USE(finermoe_tokenizer_open_model, o.model, out<finermoe_tokenizer>()),
      USE(finermoe_session_create, o.model, nullptr, out<finermoe_session>()),
      USE(finermoe_trace_create, o.model, FINERMOE_TRACE_USAGE, out<finermoe_trace>()),
      USE(finermoe_generation_options_create, o.model, out<finermoe_generation_options>()),
      USE(finermoe_batch_create, o.model, out<finermoe_batch>()),
      USE(finermoe_runtime_get_info, o.runtime, nullptr),
      USE(finermoe_runtime_get_operation, o.runtime, 0, nullptr),
      USE(finermoe_runtime_reset_profile, o.runtime),
      USE(finermoe_session_append, o.session, ids, 1, FINERMOE_LOGITS_NONE, nullptr),
      USE(finermoe_session_append_rows, o.session, ids, 1, sizes, 1, nullptr),
      USE(finermoe_session_logits, o.session, 0, floats, 320, nullptr),
      USE(finermoe_session_get_info, o.session, nullptr),
      USE(finermoe_session_tokens, o.session, ids, 16, nullptr),
      USE(finermoe_session_truncate, o.session, 0),
      USE(finermoe_session_reset, o.session),
      USE(finermoe_session_fork, o.session, out<finermoe_session>()),
      USE(finermoe_session_save, o.session, "/dev/null"),
      USE(finermoe_session_restore, o.session, "/dev/null"),
      USE(finermoe_session_set_trace, o.session, nullptr),
      USE(finermoe_trace_clear, o.trace),
      USE(finermoe_trace_get_info, o.trace, nullptr),
      USE(finermoe_trace_usage, o.trace, 0, counts, 128, nullptr),
      USE(finermoe_generation_create, o.session, nullptr, ids, 1, out<finermoe_generation>()),
      USE(finermoe_generation_next, o.generation, nullptr, nullptr),
      USE(finermoe_generation_prepare, o.generation, nullptr),
      USE(finermoe_generation_get_logits, o.generation, floats, 320, nullptr),
      USE(finermoe_generation_set_logits, o.generation, floats, 320),
      USE(finermoe_generation_get_info, o.generation, nullptr),
      USE(finermoe_batch_add, o.batch, o.generation),
      USE(finermoe_batch_remove, o.batch, o.generation),
      USE(finermoe_batch_step, o.batch, nullptr, sizes),
  };
#undef USE
}

TEST_F(Fork, AnyOtherUseOfWhatWasInheritedIsAnErrorThatSaysWhy) {
  EXPECT_EQ(in_child([&] {
              for (const Use& use : uses()) {
                finermoe_error* error = nullptr;
                const int32_t code = use.call(objects, &error);
                const bool is_right = code == FINERMOE_ERROR_STATE &&
                                      std::strstr(finermoe_error_message(error), "inherited by fork()") != nullptr;
                if (!is_right) dprintf(STDERR_FILENO, "%s: %s\n", use.name, finermoe_error_message(error));
                CHECK(is_right);
                finermoe_error_free(error);
              }
              finermoe_session_close(objects.session);
              finermoe_generation_close(objects.generation);
              finermoe_batch_close(objects.batch);
              finermoe_model_close(objects.model);
              objects.free_all(true);
              return 0;
            }),
            0);
}

TEST_F(Fork, PlainDataIsUsableInAChild) {
  auto trained = open_model(golden::trained("tiny-wordnet-dense"));
  auto tokenizer =
      make<TokenizerHandle>([&](auto** out, auto** e) { return finermoe_tokenizer_open_model(trained.get(), out, e); });
  auto config =
      make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open_model(trained.get(), out, e); });
  auto options = generation_options(trained.get());
  auto chat = make<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  EXPECT_EQ(in_child([&] {
              size_t n = 0;
              CHECK(finermoe_tokenizer_count(tokenizer.get(), "Hello", 5, 0, &n, nullptr) == FINERMOE_OK && n > 0);
              CHECK(finermoe_chat_add(chat.get(), "user", "Hello", 5, nullptr) == FINERMOE_OK);
              CHECK(finermoe_generation_options_set_top_k(options.get(), 3, nullptr) == FINERMOE_OK);
              finermoe_config_info info{};
              info.struct_size = sizeof info;
              CHECK(finermoe_config_get_info(config.get(), &info, nullptr) == FINERMOE_OK);
              trained.reset();
              return 0;
            }),
            0);
}

// Other threads compute, take and give memory, and hold whatever they hold when the child is made.
TEST_F(Fork, WhileOtherThreadsCompute) {
  if (address_sanitizer) GTEST_SKIP() << "AddressSanitizer's own locks may be held in a child of fork()";
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++) {
    threads.emplace_back([&] {
      while (!stop) {
        finermoe_session* session = nullptr;
        EXPECT_EQ(finermoe_session_create(objects.model, nullptr, &session, nullptr), FINERMOE_OK);
        finermoe_session_append(session, prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, nullptr);
        finermoe_session_reset(session, nullptr);
        finermoe_session_free(session);
      }
    });
  }
  for (int round = 0; round < 40 && !HasFailure(); round++) {
    EXPECT_EQ(in_child([&] {
                CHECK(finermoe_session_reset(objects.session, nullptr) == FINERMOE_ERROR_STATE);
                objects.free_all(round % 2 == 0);
                return round % 8 == 0 ? opens_objects_of_its_own(objects.logits) : 0;
              }),
              0);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

// A callback is inside a call: what that call computes in the child, it computes alone.
TEST_F(Fork, InsideACallback) {
  static pid_t child;
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_chunk(options.get(), 5, e));
  auto fork_once = [](void*, const char*, uint64_t done, uint64_t) -> int32_t {
    if (done == 5) {
      child = fork();
      if (child == 0) alarm(30);
    }
    return 0;
  };
  EXPECT_DONE(finermoe_session_options_set_progress(options.get(), fork_once, nullptr, e));
  auto session = make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(objects.model, options.get(), out, e); });
  const int32_t code = finermoe_session_append(session.get(), prompt.data(), prompt.size(), 0, nullptr, nullptr);
  if (child == 0) _exit(code != FINERMOE_OK);
  EXPECT_EQ(code, FINERMOE_OK);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
