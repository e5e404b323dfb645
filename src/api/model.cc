// Section 5 of finermoe.h: model.
#include "analysis/expert_similarity.h"
#include "api/handles.h"
#include "convert/finite.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

using Opened = Result<std::shared_ptr<const Checkpoint>>;

// What the three ways to open have in common; `open` is Checkpoint::open… with its source.
template <class Open>
Status open_model(const finermoe_model_options* options, finermoe_model** model, Open&& open) {
  FM_TRY(require(model, "model"));
  const finermoe_model_options settings = options ? *options : finermoe_model_options{};
  std::shared_ptr<Runtime> runtime = settings.runtime;
  if (!runtime) {
    FM_ASSIGN(runtime, make_runtime({}));
  }
  FM_TRY(runtime->check_process());
  FM_ASSIGN(auto checkpoint, open(Checkpoint::Options{settings.copy, runtime->account(), settings.progress}));
  if (settings.verify) FM_TRY(refuse_not_finite(*checkpoint, settings.progress));
  const Config& c = checkpoint->config();
  runtime->log(1, format_text("opened a ", c.model_type_name(), " model: ", checkpoint->tensors().size(),
                              " tensors in ", checkpoint->files().size(), " files"));
  FM_ASSIGN(auto loaded,
            LoadedModel::load(std::move(checkpoint), std::move(runtime), settings.load, settings.progress));
  return give(model, std::move(loaded));
}

}  // namespace

int32_t finermoe_model_options_create(finermoe_model_options** options, finermoe_error** error) {
  return guarded(error, [&] { return give(options); });
}
void finermoe_model_options_free(finermoe_model_options* options) { delete options; }

int32_t finermoe_model_options_set_runtime(finermoe_model_options* options, finermoe_runtime* runtime,
                                           finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    if (runtime != nullptr) FM_TRY(runtime->runtime->check_process());
    options->runtime = runtime ? runtime->runtime : nullptr;
    return {};
  });
}

int32_t finermoe_model_options_set_copy(finermoe_model_options* options, int32_t copy, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_flag(copy, "copy"));
    options->copy = copy;
    return {};
  });
}

int32_t finermoe_model_options_set_verify(finermoe_model_options* options, int32_t verify, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_flag(verify, "verify"));
    options->verify = verify;
    return {};
  });
}

int32_t finermoe_model_options_set_lock(finermoe_model_options* options, int32_t lock, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(lock, lock >= FINERMOE_LOCK_NONE && lock <= FINERMOE_LOCK_ALL, "lock",
                         "one of FINERMOE_LOCK_NONE, _EVERY_TOKEN and _ALL"));
    options->load.residency.lock = static_cast<Lock>(lock);
    return {};
  });
}

int32_t finermoe_model_options_set_expert_budget(finermoe_model_options* options, uint64_t bytes,
                                                 finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->load.residency.expert_budget = bytes;
    return {};
  });
}

int32_t finermoe_model_options_set_prefetch(finermoe_model_options* options, int32_t prefetch, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(prefetch, prefetch >= FINERMOE_PREFETCH_AUTO && prefetch <= FINERMOE_PREFETCH_ON, "prefetch",
                         "one of FINERMOE_PREFETCH_AUTO, _OFF and _ON"));
    options->load.residency.prefetch = static_cast<Prefetch>(prefetch);
    return {};
  });
}

int32_t finermoe_model_options_set_expert_device(finermoe_model_options* options, const char* name,
                                                 finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->load.expert_device = name ? name : "";
    return {};
  });
}

int32_t finermoe_model_options_set_device_weights(finermoe_model_options* options, uint64_t bytes,
                                                  finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->load.device_weights = bytes;
    return {};
  });
}

int32_t finermoe_model_options_set_expert_cache(finermoe_model_options* options, uint64_t bytes,
                                                finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->load.expert_cache = bytes;
    return {};
  });
}

int32_t finermoe_model_options_set_progress(finermoe_model_options* options, finermoe_progress_fn progress, void* user,
                                            finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->progress.callback = progress;
    options->progress.user = user;
    return {};
  });
}

int32_t finermoe_model_options_set_cancel(finermoe_model_options* options, finermoe_cancel* cancel,
                                          finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->progress.cancel = flag_of(cancel);
    return {};
  });
}

int32_t finermoe_model_open(const char* path, const finermoe_model_options* options, finermoe_model** model,
                            finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(path, "path"));
    return open_model(options, model,
                      [&](const Checkpoint::Options& how) -> Opened { return Checkpoint::open(path, how); });
  });
}

int32_t finermoe_model_open_fd(int fd, const finermoe_model_options* options, finermoe_model** model,
                               finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    return open_model(options, model,
                      [&](const Checkpoint::Options& how) -> Opened { return Checkpoint::open_fd(fd, how); });
  });
}

int32_t finermoe_model_open_memory(const void* data, size_t size, const finermoe_model_options* options,
                                   finermoe_model** model, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(data, "data"));
    return open_model(options, model, [&](const Checkpoint::Options& how) -> Opened {
      return Checkpoint::open_memory(data, size, how);
    });
  });
}

void finermoe_model_close(finermoe_model* model) {
  if (model) model->model->closed.store(true, std::memory_order_relaxed);
}
void finermoe_model_free(finermoe_model* model) { delete model; }

int32_t finermoe_model_get_expert_cache(const finermoe_model* model, finermoe_expert_cache_info* info,
                                        finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(model->model->runtime()->check_process());
    finermoe_expert_cache_info out{};
    if (const ExpertCache* cache = model->model->model().expert_cache.get()) {
      const ExpertCache::Counts counts = cache->counts();
      out.bytes = cache->bytes();
      out.n_slots = cache->n_slots();
      out.n_hits = counts.hits;
      out.n_misses = counts.misses;
    }
    return put_struct(out, info);
  });
}

int32_t finermoe_model_expert_similarity(const finermoe_model* model, size_t layer, finermoe_cancel* cancel,
                                         double* similarity, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(require(similarity, "similarity"));
    const auto loaded = model->model;
    FM_TRY(loaded->runtime()->check_process());
    const auto flag = flag_of(cancel);
    StopSignals stop(flag.get());
    stop.watch(loaded->closed, "model");
    FM_ASSIGN(*similarity, expert_similarity(*loaded->model().checkpoint, layer, *loaded->runtime()->pool(),
                                             [&] { return stop.check(); }));
    return {};
  });
}
