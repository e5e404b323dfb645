#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "base/control_group.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace finermoe {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// The tasks of one run, claimed one by one. An exception (std::bad_alloc) does not leave a participating thread: it
// stops the claiming, and is rethrown in the caller of run().
struct Tasks {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};

  void claim(size_t count, FunctionRef<void(size_t, size_t)> body, size_t worker) noexcept {
    try {
      for (size_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(task, worker);
    } catch (...) {
      failed.store(true, std::memory_order_relaxed);
      next.store(count, std::memory_order_relaxed);
    }
  }
};

}  // namespace

uint32_t available_processors() {
  uint32_t count = 1;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    count = static_cast<uint32_t>(CPU_COUNT(&set));
  } else if (long online = sysconf(_SC_NPROCESSORS_ONLN); online > 0) {  // more processors than a cpu_set_t holds
    count = static_cast<uint32_t>(online);
  }
  const double quota = processor_quota();
  if (quota < count) count = static_cast<uint32_t>(quota);
  return std::max(count, 1u);
}

DefaultFloatEnvironment::DefaultFloatEnvironment() {
#if defined(__x86_64__)
  saved_ = _mm_getcsr();
  _mm_setcsr(0x1f80);  // all exceptions masked, round to nearest, subnormals kept
#else
  saved_ = 0;
#endif
}

DefaultFloatEnvironment::~DefaultFloatEnvironment() {
#if defined(__x86_64__)
  _mm_setcsr(saved_);
#endif
}

// One job at a time. A job is published by raising `generation`; workers claim tasks from `next` until none is left.
// The caller works too, then waits for the workers that entered the job to leave it.
struct ThreadPool::Workers {
  using Body = FunctionRef<void(size_t, size_t)>;

  std::mutex in_use;  // held by the caller whose job runs

  std::mutex mutex;
  std::condition_variable wake;  // sleeping workers
  bool stopping = false;
  std::vector<pthread_t> threads;
  uint32_t sleeping = 0;  // under mutex

  std::atomic<uint64_t> generation{0};  // odd: a job can be entered
  std::atomic<uint32_t> steps{0};       // live Step objects
  std::atomic<uint32_t> inside{0};      // workers that may still touch the job
  Tasks tasks;
  size_t n_tasks = 0;
  const Body* body = nullptr;

  struct Start {
    Workers* workers;
    size_t worker;
  };
  std::vector<Start> starts;

  // Everything needed to start them is allocated before the first thread runs.
  explicit Workers(uint32_t n_workers) {
    starts.reserve(n_workers);
    threads.reserve(n_workers);
  }

  // A worker's loop: wait for a job, enter it, leave it.
  void serve(size_t worker) {
    DefaultFloatEnvironment environment;
    uint64_t seen = 0;
    for (;;) {
      uint64_t now = wait_for_job(seen);
      if (now == 0) return;
      seen = now;
      inside.fetch_add(1, std::memory_order_seq_cst);
      if (generation.load(std::memory_order_seq_cst) == now) tasks.claim(n_tasks, *body, worker);
      inside.fetch_sub(1, std::memory_order_release);
    }
  }

  // The generation of a job later than `seen`, or 0 when the pool ends.
  uint64_t wait_for_job(uint64_t seen) {
    using clock = std::chrono::steady_clock;
    constexpr auto patience = std::chrono::microseconds(60);
    auto is_new = [&](uint64_t g) { return (g & 1) != 0 && g != seen; };
    for (;;) {
      if (steps.load(std::memory_order_relaxed) != 0) {
        for (auto until = clock::now() + patience; clock::now() < until;) {
          for (int i = 0; i < 64; i++) {
            uint64_t g = generation.load(std::memory_order_acquire);
            if (is_new(g)) return g;
            pause_briefly();
          }
        }
      }
      std::unique_lock lock(mutex);
      if (stopping) return 0;
      uint64_t g = generation.load(std::memory_order_acquire);
      if (is_new(g)) return g;
      sleeping++;
      wake.wait(lock);
      sleeping--;
    }
  }

  void run(size_t count, const Body& job) {
    body = &job;
    n_tasks = count;
    tasks.next.store(0, std::memory_order_relaxed);
    tasks.failed.store(false, std::memory_order_relaxed);
    generation.fetch_add(1, std::memory_order_seq_cst);  // odd: open
    {
      std::lock_guard lock(mutex);
      if (sleeping != 0) wake.notify_all();
    }
    tasks.claim(count, job, 0);
    generation.fetch_add(1, std::memory_order_seq_cst);  // even: closed to those who have not entered
    for (uint32_t waited = 0; inside.load(std::memory_order_seq_cst) != 0;) {
      if (++waited % 4096 == 0) sched_yield();  // more threads than processors: let the others finish
      pause_briefly();
    }
    if (tasks.failed.load(std::memory_order_relaxed)) throw std::bad_alloc();
  }

  // Starts threads with every signal blocked: signals are the host's business. Getting fewer threads than requested is
  // not an error.
  void start(uint32_t n_workers) noexcept {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (uint32_t i = 0; i < n_workers; i++) {
      starts.push_back({this, i + 1});
      pthread_t thread;
      auto body_of_thread = [](void* argument) -> void* {
        auto* start = static_cast<Start*>(argument);
        start->workers->serve(start->worker);
        return nullptr;
      };
      if (pthread_create(&thread, nullptr, body_of_thread, &starts.back()) != 0) break;
      threads.push_back(thread);
    }
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }

  ~Workers() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
  }
};

ThreadPool::ThreadPool(uint32_t n_threads)
    : n_threads_(std::max(n_threads, 1u)), workers_(std::make_unique<Workers>(n_threads_ - 1)) {}

ThreadPool::ThreadPool(finermoe_executor_fn executor, void* user, uint32_t n_threads)
    : n_threads_(std::max(n_threads, 1u)),
      executor_(executor),
      executor_user_(user),
      workers_(std::make_unique<Workers>(0)) {}

// In a child of fork() the workers do not exist, and joining them, or even destroying what they wait on, would block
// forever: that little memory is leaked until the child exits.
ThreadPool::~ThreadPool() {
  if (is_inherited()) static_cast<void>(workers_.release());
}

void ThreadPool::run(size_t n_tasks, FunctionRef<void(size_t, size_t)> body) {
  if (n_tasks == 0) return;
  DefaultFloatEnvironment environment;
  std::unique_lock in_use(workers_->in_use, std::defer_lock);
  if (n_tasks == 1 || n_threads_ == 1 || is_inherited() || !in_use.try_lock()) {
    for (size_t task = 0; task < n_tasks; task++) body(task, 0);
    return;
  }
  if (executor_ == nullptr) {
    if (workers_->starts.empty()) workers_->start(n_threads_ - 1);
    workers_->run(n_tasks, body);
    return;
  }
  struct Job {
    Tasks tasks;
    size_t n_tasks;
    const FunctionRef<void(size_t, size_t)>& body;
  } job{{}, n_tasks, body};
  auto participant = [](void* data, size_t worker) {
    DefaultFloatEnvironment task_environment;
    Job& shared = *static_cast<Job*>(data);
    shared.tasks.claim(shared.n_tasks, shared.body, worker);
  };
  executor_(executor_user_, std::min<size_t>(n_threads_, n_tasks), participant, &job);
  if (job.tasks.failed.load(std::memory_order_relaxed)) throw std::bad_alloc();
}

ThreadPool::Step::Step(ThreadPool& pool) : pool_(pool) {
  pool_.workers_->steps.fetch_add(1, std::memory_order_relaxed);
}
ThreadPool::Step::~Step() { pool_.workers_->steps.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace finermoe
