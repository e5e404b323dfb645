// Compute threads. They start at the first use, sleep whenever no step is in progress, and never spin while idle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/function_ref.h"
#include "base/process_mark.h"
#include "finermoe.h"

namespace finermoe {

// Processors that this process may use: the affinity mask, capped by a cgroup CPU quota. At least 1.
uint32_t available_processors();

class ThreadPool {
 public:
  // A pool with its own threads; the caller of run() is one of the n_threads.
  explicit ThreadPool(uint32_t n_threads);
  // A pool that uses the host's executor.
  ThreadPool(finermoe_executor_fn executor, void* user, uint32_t n_threads);
  ~ThreadPool();

  uint32_t n_threads() const { return n_threads_; }
  // True in a child of fork(), which has none of the threads: run() does all tasks on the calling thread.
  bool is_inherited() const { return mark_.is_inherited(); }

  // Calls body(task, worker) for each task in [0, n_tasks) and returns when all are done. Tasks are claimed one by one
  // in ascending order; no two that run at the same time have the same worker in [0, n_threads). If the pool is in use
  // by another caller, or its threads cannot be started, the caller does all tasks itself as worker 0: results must not
  // depend on which worker does a task. If a body throws (which can only be std::bad_alloc), tasks not yet begun are
  // skipped, and run() throws std::bad_alloc when the others are done. Runs under the default floating-point
  // environment.
  void run(size_t n_tasks, FunctionRef<void(size_t task, size_t worker)> body);

  // While one of these exists, idle workers spin for a short while waiting for the next run() before they sleep: a
  // forward step is hundreds of runs, microseconds apart.
  class Step {
   public:
    explicit Step(ThreadPool& pool);
    ~Step();
    Step(const Step&) = delete;

   private:
    ThreadPool& pool_;
  };

 private:
  struct Workers;
  const uint32_t n_threads_;
  finermoe_executor_fn executor_ = nullptr;
  void* executor_user_ = nullptr;
  const ProcessMark mark_;
  std::unique_ptr<Workers> workers_;
};

// Sets the default floating-point environment (round to nearest, subnormals kept, no traps) and restores the caller's.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment();
  ~DefaultFloatEnvironment();
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;

 private:
  uint32_t saved_;
};

}  // namespace finermoe
