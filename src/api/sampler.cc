// Section 9 of finermoe.h: the sampler alone.
#include "api/handles.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

Status require_id(int32_t id) {
  if (id >= 0) return {};
  return Status(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE, format_text("token id ", id, " is negative"), "at least 0",
                format_text(id));
}

}  // namespace

int32_t finermoe_sampler_create(const finermoe_generation_options* options, finermoe_sampler** sampler,
                                finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(sampler, "sampler"));
    GenerationOptions copy = options ? options->options : GenerationOptions{};
    Sampler made(copy.sampling, {});
    return give(sampler, std::move(copy), std::move(made));
  });
}
void finermoe_sampler_free(finermoe_sampler* sampler) { delete sampler; }

int32_t finermoe_sampler_accept_prompt(finermoe_sampler* sampler, const int32_t* ids, size_t n_ids,
                                       finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(sampler, "sampler"));
    FM_TRY(require_array(ids, n_ids, "ids"));
    for (size_t i = 0; i < n_ids; i++) FM_TRY(require_id(ids[i]));
    sampler->sampler.saw_prompt({ids, n_ids});
    return {};
  });
}

int32_t finermoe_sampler_accept(finermoe_sampler* sampler, int32_t id, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(sampler, "sampler"));
    FM_TRY(require_id(id));
    sampler->sampler.saw_generated(id);
    sampler->n_generated++;
    return {};
  });
}

int32_t finermoe_sampler_choose(finermoe_sampler* sampler, const float* logits, size_t n_logits, int32_t* id,
                                finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(sampler, "sampler"));
    FM_TRY(require(logits, "logits"));
    FM_TRY(require(id, "id"));
    FM_TRY(require_range(static_cast<double>(n_logits), n_logits > 0, "n_logits", "at least 1"));
    FM_TRY(sampler->options.check_ids(n_logits));
    if (const int32_t seen = sampler->sampler.largest_seen(); seen >= 0 && static_cast<size_t>(seen) >= n_logits) {
      return Status(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
                    format_text("token id ", seen, " was accepted, and there are ", n_logits, " logits"),
                    format_text("more than ", seen, " logits"), format_text(n_logits));
    }
    FM_ASSIGN(*id, sampler->sampler.choose({logits, n_logits}, sampler->options.forbidden(sampler->n_generated)));
    return {};
  });
}
