#include "runtime/runtime.h"

namespace finermoe {

Result<std::shared_ptr<Runtime>> Runtime::create(const RuntimeOptions& options) {
  std::shared_ptr<Runtime> runtime(new Runtime);
  runtime->options_ = options;
  FM_ASSIGN(runtime->isa_, resolve_isa(options.isa));
  const uint32_t n_threads = options.n_threads != 0 ? options.n_threads : available_processors();
  runtime->pool_ = options.executor != nullptr
                       ? std::make_shared<ThreadPool>(options.executor, options.executor_user, n_threads)
                       : std::make_shared<ThreadPool>(n_threads);
  FM_ASSIGN(runtime->backend_, open_backend({runtime->isa_, runtime->pool_}));
  if (options.profile) {
    runtime->profile_ = std::make_shared<Profile>();
    runtime->backend_ = profiled(runtime->backend_, runtime->profile_);
  }
  runtime->account_ = std::make_shared<MemoryAccount>(options.memory_limit);
  return runtime;
}

Status Runtime::check_process() const {
  if (!pool_->is_inherited()) return {};
  return Status(FINERMOE_ERROR_STATE,
                "the object was inherited by fork(): this process can only free it, and opens models of its own",
                "the process that made the object", "a child of it");
}

}  // namespace finermoe
