// Section 9 of finermoe.h: the options of a generation.
#include <algorithm>
#include <cmath>

#include "api/handles.h"
#include "runtime/step.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

// Sets one option to a value whose range was checked.
template <class Set>
int32_t set(finermoe_generation_options* options, finermoe_error** error, Status range, Set&& assign) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(std::move(range));
    assign(options->options);
    return {};
  });
}

// For options created without a model: their ids are checked against a vocabulary when they are used.
constexpr uint64_t any_vocabulary = uint64_t{1} << 31;

Status require_id(const finermoe_generation_options* options, int32_t id) {
  if (options == nullptr || (id >= 0 && static_cast<uint64_t>(id) < options->vocab_size)) return {};
  return Status(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
                format_text("token id ", id, " is not in the vocabulary of ", options->vocab_size),
                format_text("0 to ", options->vocab_size - 1), format_text(id));
}

int32_t set_number(finermoe_generation_options* options, finermoe_error** error, double SamplingOptions::*number,
                   double value) {
  const auto range = std::find_if(sampling_ranges.begin(), sampling_ranges.end(),
                                  [&](const SamplingRange& r) { return r.number == number; });
  return set(options, error, require_range(value, range->holds(value), range->name, range->range),
             [&](GenerationOptions& o) { o.sampling.*number = value; });
}

}  // namespace

int32_t finermoe_generation_options_create(const finermoe_model* model, finermoe_generation_options** options,
                                           finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    if (model == nullptr) return give(options, GenerationOptions::from_defaults({}, any_vocabulary), any_vocabulary);
    const auto loaded = model->model;
    FM_TRY(loaded->runtime()->check_process());
    const uint64_t vocab_size = loaded->config().vocab_size;
    FM_ASSIGN(const GenerationDefaults defaults, loaded->model().checkpoint->generation_defaults());
    return give(options, GenerationOptions::from_defaults(defaults, vocab_size), vocab_size);
  });
}

int32_t finermoe_generation_options_copy(const finermoe_generation_options* options, finermoe_generation_options** copy,
                                         finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    return give(copy, *options);
  });
}
void finermoe_generation_options_free(finermoe_generation_options* options) { delete options; }

int32_t finermoe_generation_options_set_max_tokens(finermoe_generation_options* options, size_t n,
                                                   finermoe_error** error) {
  return set(options, error, {}, [&](GenerationOptions& o) { o.max_tokens = n; });
}

int32_t finermoe_generation_options_set_min_tokens(finermoe_generation_options* options, size_t n,
                                                   finermoe_error** error) {
  return set(options, error, {}, [&](GenerationOptions& o) { o.min_tokens = n; });
}

int32_t finermoe_generation_options_set_temperature(finermoe_generation_options* options, double temperature,
                                                    finermoe_error** error) {
  return set_number(options, error, &SamplingOptions::temperature, temperature);
}

int32_t finermoe_generation_options_set_top_k(finermoe_generation_options* options, size_t k, finermoe_error** error) {
  return set(options, error, {}, [&](GenerationOptions& o) { o.sampling.top_k = k; });
}

int32_t finermoe_generation_options_set_top_p(finermoe_generation_options* options, double p, finermoe_error** error) {
  return set_number(options, error, &SamplingOptions::top_p, p);
}

int32_t finermoe_generation_options_set_min_p(finermoe_generation_options* options, double p, finermoe_error** error) {
  return set_number(options, error, &SamplingOptions::min_p, p);
}

int32_t finermoe_generation_options_set_typical_p(finermoe_generation_options* options, double p,
                                                  finermoe_error** error) {
  return set_number(options, error, &SamplingOptions::typical_p, p);
}

int32_t finermoe_generation_options_set_repetition_penalty(finermoe_generation_options* options, double penalty,
                                                           finermoe_error** error) {
  return set_number(options, error, &SamplingOptions::repetition_penalty, penalty);
}

int32_t finermoe_generation_options_set_frequency_penalty(finermoe_generation_options* options, double penalty,
                                                          finermoe_error** error) {
  return set_number(options, error, &SamplingOptions::frequency_penalty, penalty);
}

int32_t finermoe_generation_options_set_presence_penalty(finermoe_generation_options* options, double penalty,
                                                         finermoe_error** error) {
  return set_number(options, error, &SamplingOptions::presence_penalty, penalty);
}

int32_t finermoe_generation_options_set_seed(finermoe_generation_options* options, uint64_t seed,
                                             finermoe_error** error) {
  return set(options, error, {}, [&](GenerationOptions& o) { o.sampling.seed = seed; });
}

int32_t finermoe_generation_options_add_logit_bias(finermoe_generation_options* options, int32_t id, float bias,
                                                   finermoe_error** error) {
  Status range = require_id(options, id);
  if (range.ok()) range = require_range(bias, is_bias(bias), "bias", bias_range);
  return set(options, error, std::move(range), [&](GenerationOptions& o) { o.sampling.logit_bias[id] = bias; });
}

int32_t finermoe_generation_options_add_banned_token(finermoe_generation_options* options, int32_t id,
                                                     finermoe_error** error) {
  return set(options, error, require_id(options, id),
             [&](GenerationOptions& o) { o.sampling.logit_bias[id] = -INFINITY; });
}

int32_t finermoe_generation_options_add_stop_token(finermoe_generation_options* options, int32_t id,
                                                   finermoe_error** error) {
  return set(options, error, require_id(options, id), [&](GenerationOptions& o) { o.stop_tokens.push_back(id); });
}

int32_t finermoe_generation_options_clear_stop_tokens(finermoe_generation_options* options, finermoe_error** error) {
  return set(options, error, {}, [&](GenerationOptions& o) { o.stop_tokens.clear(); });
}

int32_t finermoe_generation_options_add_stop_string(finermoe_generation_options* options, const char* text,
                                                    size_t length, finermoe_error** error) {
  Status range = require_range(static_cast<double>(length), length >= 1, "length", "at least 1");
  if (range.ok()) range = require(text, "text");
  return set(options, error, std::move(range), [&](GenerationOptions& o) {
    o.stop_strings.push_back(whole_utf8({text, length}));
  });
}

int32_t finermoe_generation_options_set_ignore_eos(finermoe_generation_options* options, int32_t ignore_eos,
                                                   finermoe_error** error) {
  return set(options, error, require_flag(ignore_eos, "ignore_eos"),
             [&](GenerationOptions& o) { o.ignore_eos = ignore_eos; });
}

int32_t finermoe_generation_options_set_top_logprobs(finermoe_generation_options* options, size_t n,
                                                     finermoe_error** error) {
  return set(options, error, {}, [&](GenerationOptions& o) { o.top_logprobs = n; });
}

int32_t finermoe_generation_options_set_show_special(finermoe_generation_options* options, int32_t show,
                                                     finermoe_error** error) {
  return set(options, error, require_flag(show, "show"), [&](GenerationOptions& o) { o.show_special = show; });
}

int32_t finermoe_generation_options_set_lookup(finermoe_generation_options* options, size_t n_draft,
                                               finermoe_error** error) {
  Status range = require_range(static_cast<double>(n_draft), n_draft <= most_drafts, "n_draft", "0 to 64");
  return set(options, error, std::move(range), [&](GenerationOptions& o) { o.drafts.n_lookup = n_draft; });
}

int32_t finermoe_generation_options_set_draft(finermoe_generation_options* options, finermoe_model* model,
                                              size_t n_draft, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(static_cast<double>(n_draft), n_draft <= most_drafts, "n_draft", "0 to 64"));
    options->options.drafts.set_model(model != nullptr ? model->model : nullptr, n_draft);
    return {};
  });
}

int32_t finermoe_generation_options_get_info(const finermoe_generation_options* options,
                                             finermoe_generation_options_info* info, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    const GenerationOptions& o = options->options;
    finermoe_generation_options_info out{};
    out.ignore_eos = o.ignore_eos;
    out.max_tokens = o.max_tokens;
    out.min_tokens = o.min_tokens;
    out.temperature = o.sampling.temperature;
    out.top_k = o.sampling.top_k;
    out.top_p = o.sampling.top_p;
    out.min_p = o.sampling.min_p;
    out.typical_p = o.sampling.typical_p;
    out.repetition_penalty = o.sampling.repetition_penalty;
    out.frequency_penalty = o.sampling.frequency_penalty;
    out.presence_penalty = o.sampling.presence_penalty;
    out.seed = o.sampling.seed;
    out.n_stop_tokens = o.stop_tokens.size();
    return put_struct(out, info);
  });
}
