#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <thread>
#include <vector>

namespace finermoe {
namespace {

// Runs `n` tasks and checks that each ran once and that no worker ran two at a time.
void run_and_check(ThreadPool& pool, size_t n) {
  std::vector<std::atomic<int>> ran(n), busy(pool.n_threads());
  std::atomic<bool> good{true};
  pool.run(n, [&](size_t task, size_t worker) {
    if (worker >= busy.size() || busy[worker].fetch_add(1) != 0) good = false;
    ran[task]++;
    busy[worker]--;
  });
  EXPECT_TRUE(good);
  for (size_t i = 0; i < n; i++) ASSERT_EQ(ran[i], 1) << i;
}

// Each worker takes a task and waits for the others: true once all have met, false if one never came.
bool all_workers_meet(ThreadPool& pool) {
  std::atomic<uint32_t> here{0};
  std::atomic<bool> met{true};
  pool.run(pool.n_threads(), [&](size_t, size_t) {
    here++;
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (here != pool.n_threads() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    if (here != pool.n_threads()) met = false;
  });
  return met;
}

TEST(ThreadPool, EveryThreadWorks) {
  for (uint32_t n_threads : {2u, 3u, 8u}) {
    ThreadPool pool(n_threads);
    for (int round = 0; round < 20; round++) EXPECT_TRUE(all_workers_meet(pool));
    ThreadPool::Step step(pool);
    for (int round = 0; round < 20; round++) EXPECT_TRUE(all_workers_meet(pool));
  }
}

TEST(ThreadPool, EachTaskOnce) {
  for (uint32_t n_threads : {1u, 2u, 3u, 7u}) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (size_t n : {size_t{0}, size_t{1}, size_t{2}, size_t{5}, size_t{1000}}) run_and_check(pool, n);
  }
}

TEST(ThreadPool, ManyShortRuns) {
  ThreadPool pool(3);
  ASSERT_TRUE(all_workers_meet(pool));
  std::atomic<uint64_t> sum{0};
  for (int round = 0; round < 20000; round++) {
    pool.run(4, [&](size_t task, size_t) { sum.fetch_add(task + 1, std::memory_order_relaxed); });
  }
  EXPECT_EQ(sum, 20000u * 10);
  ThreadPool::Step step(pool);
  for (int round = 0; round < 20000; round++) {
    pool.run(4, [&](size_t task, size_t) { sum.fetch_add(task + 1, std::memory_order_relaxed); });
  }
  EXPECT_EQ(sum, 40000u * 10);
}

TEST(ThreadPool, WhatARunWroteIsSeenAfterIt) {
  ThreadPool pool(4);
  ASSERT_TRUE(all_workers_meet(pool));
  std::vector<uint64_t> values(997);
  for (uint64_t round = 1; round < 3000; round++) {
    pool.run(values.size(), [&](size_t task, size_t) { values[task] = values[task] + round * task; });
  }
  for (size_t i = 0; i < values.size(); i++) ASSERT_EQ(values[i], i * (2999u * 3000 / 2));
}

TEST(ThreadPool, WantOfMemoryInATaskReachesTheCaller) {
  const auto executor = [](void*, size_t n, finermoe_task_fn task, void* data) {
    std::vector<std::thread> threads;
    for (size_t worker = 0; worker < n; worker++) threads.emplace_back(task, data, worker);
    for (std::thread& thread : threads) thread.join();
  };
  ThreadPool own(3), of_the_host(executor, nullptr, 3), single(1);
  for (ThreadPool* pool : {&own, &of_the_host, &single}) {
    for (size_t bad : {0, 1, 50, 99}) {
      std::atomic<size_t> n_begun{0};
      const auto body = [&](size_t task, size_t) {
        n_begun++;
        if (task == bad) throw std::bad_alloc();
      };
      EXPECT_THROW(pool->run(100, body), std::bad_alloc);
      EXPECT_GT(n_begun, bad);
      run_and_check(*pool, 100);
    }
  }
}

TEST(ThreadPool, ManyCallers) {
  ThreadPool pool(2);
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; t++) {
    callers.emplace_back([&] {
      for (int i = 0; i < 500; i++) pool.run(10, [&](size_t task, size_t) { sum += task; });
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum, 4u * 500 * 45);
}

TEST(ThreadPool, ARunInsideARun) {
  ThreadPool pool(2);
  std::atomic<int> inner{0};
  pool.run(4, [&](size_t, size_t) { pool.run(3, [&](size_t, size_t) { inner++; }); });
  EXPECT_EQ(inner, 12);
}

TEST(ThreadPool, HostExecutor) {
  struct Calls {
    int n = 0;
    size_t most = 0;
  } calls;
  auto executor = [](void* user, size_t n, void (*task)(void*, size_t), void* data) {
    auto* seen = static_cast<Calls*>(user);
    seen->n++;
    seen->most = std::max(seen->most, n);
    std::vector<std::thread> threads;
    for (size_t i = 1; i < n; i++) threads.emplace_back(task, data, i);
    task(data, 0);
    for (auto& thread : threads) thread.join();
  };
  ThreadPool pool(executor, &calls, 3);
  for (size_t n : {size_t{2}, size_t{3}, size_t{100}}) run_and_check(pool, n);
  EXPECT_EQ(calls.n, 3);
  EXPECT_EQ(calls.most, 3u);
}

TEST(ThreadPool, AnExecutorThatRunsThemOneByOne) {
  auto executor = [](void*, size_t n, void (*task)(void*, size_t), void* data) {
    for (size_t i = n; i-- > 0;) task(data, i);
  };
  ThreadPool pool(executor, nullptr, 4);
  run_and_check(pool, 50);
}

double processor_seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

TEST(ThreadPool, IdleThreadsUseNoProcessor) {
  ThreadPool pool(8);
  auto sleep_and_measure = [] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time to fall asleep
    double before = processor_seconds();
    std::this_thread::sleep_for(std::chrono::seconds(1));
    return processor_seconds() - before;
  };
  ASSERT_TRUE(all_workers_meet(pool));
  EXPECT_LT(sleep_and_measure(), 0.02);
  {
    ThreadPool::Step step(pool);
    run_and_check(pool, 1000);
    EXPECT_LT(sleep_and_measure(), 0.02);  // not even within a step that hangs
  }
  run_and_check(pool, 1000);
  EXPECT_LT(sleep_and_measure(), 0.02);
}

TEST(ThreadPool, TheCallersFloatEnvironmentStays) {
  ThreadPool pool(2);
  std::fesetround(FE_UPWARD);
  volatile float one = 1, tiny = 1e-9f;
  std::atomic<int> rounded_up{0};
  pool.run(100, [&](size_t, size_t) { rounded_up += one + tiny != 1; });
  EXPECT_EQ(rounded_up, 0);
  EXPECT_NE(one + tiny, 1);
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
}

TEST(ThreadPool, AvailableProcessors) {
  EXPECT_GE(available_processors(), 1u);
  EXPECT_LE(available_processors(), std::max(std::thread::hardware_concurrency(), 1u));
}

}  // namespace
}  // namespace finermoe
