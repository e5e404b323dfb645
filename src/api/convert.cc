// Section 10 of finermoe.h: writers and checks.
#include "api/handles.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

template <class Options, class Assign>
int32_t set(Options* options, finermoe_error** error, Status range, Assign&& assign) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(std::move(range));
    assign(options->options);
    return {};
  });
}

WriterOptions writer_of(const finermoe_writer_options* options) { return options ? options->options : WriterOptions{}; }

Result<DType> require_block_format(int32_t dtype) {
  const bool known = dtype == FINERMOE_DTYPE_Q8 || dtype == FINERMOE_DTYPE_Q4;
  FM_TRY(require_range(dtype, known, "dtype", "FINERMOE_DTYPE_Q8 or FINERMOE_DTYPE_Q4"));
  return static_cast<DType>(dtype);
}

}  // namespace

int32_t finermoe_writer_options_create(finermoe_writer_options** options, finermoe_error** error) {
  return guarded(error, [&] { return give(options); });
}
void finermoe_writer_options_free(finermoe_writer_options* options) { delete options; }

int32_t finermoe_writer_options_set_seed(finermoe_writer_options* options, uint64_t seed, finermoe_error** error) {
  return set(options, error, {}, [&](WriterOptions& o) { o.seed = seed; });
}

int32_t finermoe_writer_options_set_shard_size(finermoe_writer_options* options, uint64_t bytes,
                                               finermoe_error** error) {
  return set(options, error, require_range(static_cast<double>(bytes), bytes != 0, "bytes", "at least 1"),
             [&](WriterOptions& o) { o.shard_size = bytes; });
}

int32_t finermoe_writer_options_set_overwrite(finermoe_writer_options* options, int32_t overwrite,
                                              finermoe_error** error) {
  return set(options, error, require_flag(overwrite, "overwrite"), [&](WriterOptions& o) { o.overwrite = overwrite; });
}

int32_t finermoe_writer_options_set_progress(finermoe_writer_options* options, finermoe_progress_fn progress,
                                             void* user, finermoe_error** error) {
  return set(options, error, {}, [&](WriterOptions& o) {
    o.progress.callback = progress;
    o.progress.user = user;
  });
}

int32_t finermoe_writer_options_set_cancel(finermoe_writer_options* options, finermoe_cancel* cancel,
                                           finermoe_error** error) {
  return set(options, error, {}, [&](WriterOptions& o) { o.progress.cancel = flag_of(cancel); });
}

int32_t finermoe_upcycle_options_create(const char* preset, finermoe_upcycle_options** options,
                                        finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_ASSIGN(auto chosen, UpcycleOptions::preset(preset ? preset : "finermoe"));
    return give(options, chosen);
  });
}
void finermoe_upcycle_options_free(finermoe_upcycle_options* options) { delete options; }

int32_t finermoe_upcycle_options_set_shape(finermoe_upcycle_options* options, uint64_t granularity_inter,
                                           uint64_t expansion_inter, uint64_t granularity_output,
                                           uint64_t expansion_output, uint64_t top_inter, finermoe_error** error) {
  return set(options, error, {}, [&](UpcycleOptions& o) {
    if (granularity_inter != 0) o.granularity_inter = granularity_inter;
    if (expansion_inter != 0) o.expansion_inter = expansion_inter;
    if (granularity_output != 0) o.granularity_output = granularity_output;
    if (expansion_output != 0) o.expansion_output = expansion_output;
    if (top_inter != 0) o.top_inter = top_inter;
  });
}

int32_t finermoe_upcycle_options_set_shared_expert(finermoe_upcycle_options* options, int32_t shared,
                                                   finermoe_error** error) {
  return set(options, error, require_flag(shared, "shared"), [&](UpcycleOptions& o) { o.shared_expert = shared; });
}

int32_t finermoe_upcycle_options_set_concat_proj(finermoe_upcycle_options* options, int32_t concat_proj,
                                                 finermoe_error** error) {
  const bool known = concat_proj >= FINERMOE_CONCAT_PROJ_NONE && concat_proj <= FINERMOE_CONCAT_PROJ_ZERO;
  return set(options, error, require_range(concat_proj, known, "concat_proj", "one of FINERMOE_CONCAT_PROJ_…"),
             [&](UpcycleOptions& o) { o.concat_proj = static_cast<ConcatProj>(concat_proj); });
}

int32_t finermoe_upcycle_options_set_separate_router(finermoe_upcycle_options* options, int32_t separate,
                                                     finermoe_error** error) {
  return set(options, error, require_flag(separate, "separate"),
             [&](UpcycleOptions& o) { o.separate_router = separate; });
}

int32_t finermoe_upcycle_options_set_down_scale(finermoe_upcycle_options* options, double scale,
                                                finermoe_error** error) {
  return set(options, error, require_range(scale, scale >= 0 && scale <= 1e6, "scale", "0 to 1e6"),
             [&](UpcycleOptions& o) { o.down_scale = scale; });
}

int32_t finermoe_upcycle_options_set_drop_ratio(finermoe_upcycle_options* options, double ratio,
                                                finermoe_error** error) {
  return set(options, error, require_range(ratio, ratio >= 0 && ratio <= 1, "ratio", "0 to 1"),
             [&](UpcycleOptions& o) { o.drop_ratio = ratio; });
}

int32_t finermoe_upcycle_options_set_router_init(finermoe_upcycle_options* options, int32_t router_init,
                                                 finermoe_error** error) {
  const bool known = router_init == FINERMOE_ROUTER_INIT_NORMAL || router_init == FINERMOE_ROUTER_INIT_VIRTUAL_GROUP;
  return set(options, error, require_range(router_init, known, "router_init", "one of FINERMOE_ROUTER_INIT_…"),
             [&](UpcycleOptions& o) { o.router_init = static_cast<RouterInit>(router_init); });
}

int32_t finermoe_upcycle_run(const char* dense_path, const char* out_path, const finermoe_upcycle_options* options,
                             const finermoe_writer_options* writer_options, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(dense_path, "dense_path"));
    FM_TRY(require(out_path, "out_path"));
    return upcycle(dense_path, out_path, options ? options->options : UpcycleOptions{}, writer_of(writer_options));
  });
}

int32_t finermoe_synthesize_run(const char* config_path, const char* out_path, int32_t dtype,
                                const finermoe_writer_options* writer_options, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(config_path, "config_path"));
    FM_TRY(require(out_path, "out_path"));
    std::optional<DType> chosen;
    if (dtype != -1) {
      FM_TRY(require_range(dtype, dtype >= FINERMOE_DTYPE_F32 && dtype <= FINERMOE_DTYPE_Q4, "dtype",
                           "one of FINERMOE_DTYPE_…, or -1"));
      chosen = static_cast<DType>(dtype);
    }
    return synthesize(config_path, out_path, chosen, writer_of(writer_options));
  });
}

int32_t finermoe_quantize_options_create(int32_t dtype, finermoe_quantize_options** options, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_ASSIGN(const DType weights, require_block_format(dtype));
    return give(options, Quantization{weights, DType::q8, {}});
  });
}
void finermoe_quantize_options_free(finermoe_quantize_options* options) { delete options; }

int32_t finermoe_quantize_options_add_override(finermoe_quantize_options* options, const char* pattern, int32_t dtype,
                                               finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require(pattern, "pattern"));
    std::optional<DType> chosen;
    if (dtype != -1) {
      FM_ASSIGN(chosen, require_block_format(dtype));
    }
    options->types.overrides.push_back({pattern, chosen});
    return {};
  });
}

int32_t finermoe_quantize_run(const char* path, const char* out_path, const finermoe_quantize_options* options,
                              const finermoe_writer_options* writer_options, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(path, "path"));
    FM_TRY(require(out_path, "out_path"));
    return quantize(path, out_path, options ? options->types : Quantization{DType::q8, DType::q8, {}},
                    writer_of(writer_options));
  });
}

int32_t finermoe_verification_run(const char* path, finermoe_progress_fn progress, void* user, finermoe_cancel* cancel,
                                  finermoe_verification** verification, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(path, "path"));
    FM_TRY(require(verification, "verification"));
    FM_ASSIGN(auto files, verify(path, Progress{progress, user, flag_of(cancel)}));
    return give(verification, std::move(files));
  });
}

size_t finermoe_verification_count(const finermoe_verification* verification) {
  return verification ? verification->files.size() : 0;
}

int32_t finermoe_verification_get_file(const finermoe_verification* verification, size_t index,
                                       finermoe_verification_file* file, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(verification, "verification"));
    FM_TRY(require_index(index, verification->files.size(), "file"));
    const VerifiedFile& found = verification->files[index];
    finermoe_verification_file out{};
    out.name = found.name.c_str();
    out.sha256 = found.sha256.c_str();
    out.first_bad = found.first_bad.c_str();
    out.size = found.size;
    out.n_tensors = found.n_tensors;
    out.n_nan = found.n_nan;
    out.n_infinite = found.n_infinite;
    return put_struct(out, file);
  });
}
void finermoe_verification_free(finermoe_verification* verification) { delete verification; }
