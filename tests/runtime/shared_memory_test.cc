// Sessions of a model under a memory limit: a call that is refused for its size leaves the others as they were, and
// calls that wait for each other's scratch all come to their end.
#include <atomic>
#include <thread>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

const std::string model_path = golden::source_root() + "/tests/data/shapes/dense-tied";

std::vector<int32_t> some_ids(size_t n) {
  std::vector<int32_t> ids(n);
  for (size_t i = 0; i < n; i++) ids[i] = static_cast<int32_t>(1 + i % 300);
  return ids;
}

uint64_t used_by(finermoe_runtime* runtime) {
  finermoe_runtime_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_runtime_get_info(runtime, &info, e));
  return info.memory_used;
}

int32_t append(finermoe_session* session, size_t n, finermoe_cancel* cancel = nullptr) {
  const auto ids = some_ids(n);
  return finermoe_session_append(session, ids.data(), ids.size(), FINERMOE_LOGITS_LAST, cancel, nullptr);
}

// What a runtime has allocated for a model with n sessions of this shape.
uint64_t bytes_with(size_t n_sessions, size_t context, size_t chunk, uint32_t n_threads = 1) {
  auto runtime = open_runtime(n_threads);
  auto model = open_model(model_path, runtime.get());
  std::vector<SessionHandle> sessions;
  for (size_t i = 0; i < n_sessions; i++) sessions.push_back(open_session(model.get(), context, chunk));
  return used_by(runtime.get());
}

TEST(SharedMemory, ARefusedSessionLeavesTheOthers) {
  auto runtime = open_runtime(1, FINERMOE_ISA_AUTO, bytes_with(1, 128, 16) + 50000);
  auto model = open_model(model_path, runtime.get());
  auto session = open_session(model.get(), 128, 16);
  EXPECT_EQ(append(session.get(), 40), FINERMOE_OK);
  const uint64_t used = used_by(runtime.get());
  auto large = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(large.get(), 128, e));
  EXPECT_DONE(finermoe_session_options_set_chunk(large.get(), 128, e));
  finermoe_session* none = nullptr;
  EXPECT_EQ(finermoe_session_create(model.get(), large.get(), &none, nullptr), FINERMOE_ERROR_MEMORY_LIMIT);
  EXPECT_EQ(finermoe_session_set_context_length(session.get(), 512, nullptr), FINERMOE_ERROR_MEMORY_LIMIT);
  EXPECT_EQ(used_by(runtime.get()), used);
  EXPECT_EQ(append(session.get(), 40), FINERMOE_OK);
}

TEST(SharedMemory, WhoWaitsForScratchComesToAnEnd) {
  constexpr size_t n = 4;
  auto runtime = open_runtime(1, FINERMOE_ISA_AUTO, bytes_with(n, 128, 16) + 50000);  // scratch for one or two steps
  auto model = open_model(model_path, runtime.get());
  std::vector<SessionHandle> sessions;
  for (size_t i = 0; i < n; i++) sessions.push_back(open_session(model.get(), 128, 16));
  std::atomic<bool> stop{false};
  std::atomic<int> n_failed{0};
  std::vector<std::thread> threads;
  for (const auto& session : sessions) {
    threads.emplace_back([&] {
      while (!stop) {
        finermoe_session_reset(session.get(), nullptr);
        n_failed += append(session.get(), 100) != FINERMOE_OK;
      }
    });
  }
  auto large = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(large.get(), 128, e));
  EXPECT_DONE(finermoe_session_options_set_chunk(large.get(), 128, e));
  for (int i = 0; i < 20; i++) {
    finermoe_session* none = nullptr;
    EXPECT_EQ(finermoe_session_create(model.get(), large.get(), &none, nullptr), FINERMOE_ERROR_MEMORY_LIMIT);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(n_failed, 0);
}

// Each session has room for its own passes; all at once they have not, and take turns.
TEST(SharedMemory, ABatchThatIsTooLargeTakesTurns) {
  constexpr size_t n = 6;
  std::vector<Generated> alone, together(n);
  for (const bool is_limited : {false, true}) {
    // Beside the sessions: logits of each generation, and few of the batch's own.
    const uint64_t limit = is_limited ? bytes_with(n, 64, 16) + (n + 2) * 320 * sizeof(float) + 4096 : 0;
    auto runtime = open_runtime(1, FINERMOE_ISA_AUTO, limit);
    auto model = open_model(model_path, runtime.get());
    auto options = generation_options(nullptr);
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 8, e));
    auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
    std::vector<SessionHandle> sessions;
    for (size_t i = 0; i < n; i++) sessions.push_back(open_session(model.get(), 64, 16));
    for (size_t i = 0; i < n; i++) {
      auto generation = generate(sessions[i].get(), options.get(), some_ids(20 + i));
      if (!is_limited) {
        alone.push_back(run_out(generation.get()));
        continue;
      }
      EXPECT_DONE(finermoe_generation_set_tag(generation.get(), i, e));
      EXPECT_DONE(finermoe_batch_add(batch.get(), generation.get(), e));
    }
    for (finermoe_event event{}; is_limited && !HasFailure();) {
      event.struct_size = sizeof event;
      uint64_t tag = 0;
      EXPECT_DONE(finermoe_batch_next(batch.get(), nullptr, &tag, &event, e));
      if (event.token < 0 && event.finish_reason == FINERMOE_FINISH_NONE) break;
      take(event, together[tag]);
    }
  }
  for (size_t i = 0; i < n; i++) EXPECT_EQ(together[i].ids, alone[i].ids) << i;
}

// A step that runs holds the only scratch; another call waits for it and hears a cancel.
TEST(SharedMemory, WaitingHearsACancel) {
  if (is_all_on_a_gpu()) GTEST_SKIP() << "the executor, out of which the other call is made, is for the CPU's tasks";
  struct Held {
    finermoe_session* waiting;
    finermoe_cancel* cancel;
    int32_t code = FINERMOE_OK;
  };
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  // The executor runs inside the step: while it does, the other session is asked for, and cancelled.
  auto options = runtime_options();
  static Held held;
  held = {nullptr, cancel.get()};
  const auto inside = [](void*, size_t n_tasks, finermoe_task_fn task, void* data) {
    if (held.waiting != nullptr) {
      finermoe_session* const waiting = held.waiting;
      held.waiting = nullptr;
      std::thread other([&] { held.code = append(waiting, 8, held.cancel); });
      finermoe_cancel_request(held.cancel);
      other.join();
    }
    for (size_t i = 0; i < n_tasks; i++) task(data, i);
  };
  EXPECT_DONE(finermoe_runtime_options_set_executor(options.get(), inside, nullptr, 2, e));
  EXPECT_DONE(finermoe_runtime_options_set_memory_limit(options.get(), bytes_with(2, 128, 16, 2) + 60000, e));
  auto hosted =
      make<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_create(options.get(), out, e); });
  auto on_host = open_model(model_path, hosted.get());
  auto a = open_session(on_host.get(), 128, 16), b = open_session(on_host.get(), 128, 16);
  held.waiting = b.get();
  EXPECT_EQ(append(a.get(), 8), FINERMOE_OK);
  EXPECT_EQ(held.code, FINERMOE_ERROR_CANCELLED);
  EXPECT_EQ(append(b.get(), 8), FINERMOE_OK);
}

}  // namespace
