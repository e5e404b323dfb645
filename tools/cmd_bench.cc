// finermoe bench: tokens per second, compared with what the machine's memory bandwidth allows.
#include <algorithm>
#include <cstdio>

#include "bandwidth.h"
#include "base/stopwatch.h"
#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "generation_stats.h"
#include "handles.h"
#include "interrupt.h"
#include "library.h"
#include "model_facts.h"
#include "names.h"
#include "printing.h"
#include "progress.h"
#include "units.h"

namespace tool {

using finermoe::Stopwatch;

namespace {

constexpr uint64_t kSmallestBuffer = 256u << 20;  // larger than the caches of most machines
constexpr uint64_t kLargestBuffer = 1u << 30;

struct BenchFlags {
  std::string model;
  ComputeFlags compute;
  size_t n_prompt = 512, n_decode = 64, n_runs = 3, n_sessions = 1, n_lookup = 0;
  DraftFlags draft;
  bool generate = false, json = false;
};

void declare(CLI::App& app, BenchFlags& flags) {
  add_model(app, flags.model)->required();
  add_count(app, "-p,--prompt-tokens", flags.n_prompt, kTokens, "tokens of the prompt (default 512)");
  add_count(app, "-n,--tokens", flags.n_decode, kTokens, "tokens decoded one by one (default 64)");
  add_count(app, "--runs", flags.n_runs, {1, 1000000}, "runs that count, after one that does not (default 3)");
  add_count(app, "--sessions", flags.n_sessions, {1, 65536},
            "sessions that decode together, besides the one alone (default 1: none)");
  app.add_flag("--generate", flags.generate, "also greedy text after the prompt, whose tokens a GPU chooses");
  add_count(app, "--lookup", flags.n_lookup, kDrafts,
            "greedy text with up to N drafts a pass and without, in turns (default 0: none)");
  add_draft(app, flags.draft, app.option_defaults()->get_group(), "the same with drafts by this model");
  app.add_flag("--profile", flags.compute.profile, "where the time goes: each operation's share and rates");
  app.add_flag("--json", flags.json, "a JSON object");
  flags.compute.precision = "fast";
  add_compute(app, flags.compute);
}

// The same ids on every machine, spread over the vocabulary so that they use many experts.
std::vector<int32_t> spread_ids(size_t n, uint64_t vocab_size) {
  std::vector<int32_t> ids;
  uint64_t state = 1;
  for (size_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<int32_t>((state >> 33) % vocab_size));
  }
  return ids;
}

// The time of each operation, in the order of the pass; empty without a profile.
Json read_profile(const Runtime& runtime) {
  Json operations = Json::array();
  double total = 0;
  const size_t count = finermoe_runtime_operation_count(runtime.get());
  std::vector<finermoe_runtime_operation> found(count);
  for (size_t i = 0; i < count; ++i) {
    found[i].struct_size = sizeof found[i];
    call(finermoe_runtime_get_operation, runtime.get(), i, &found[i]);
    total += found[i].seconds;
  }
  for (const finermoe_runtime_operation& operation : found) {
    if (operation.n_calls == 0) continue;
    const double seconds = std::max(operation.seconds, 1e-9);
    operations.push_back({{"name", operation.name},
                          {"calls", operation.n_calls},
                          {"seconds", operation.seconds},
                          {"share", operation.seconds / std::max(total, 1e-9)},
                          {"gb_per_second", static_cast<double>(operation.bytes) / seconds / 1e9},
                          {"gop_per_second", 2 * static_cast<double>(operation.macs) / seconds / 1e9}});
  }
  return operations;
}

struct Run {
  double prefill_seconds = 0, decode_seconds = 0;
  Json prefill_profile, decode_profile;
  Json expert_cache;  // with the hits and misses of decoding; null without one
};

Run measure(const Model& model, const Session& session, const Runtime& runtime, const std::vector<int32_t>& ids,
            size_t n_prompt, finermoe_cancel* cancel) {
  Run run;
  call(finermoe_session_reset, session.get());
  call(finermoe_runtime_reset_profile, runtime.get());
  const Stopwatch prefill;
  call(finermoe_session_append, session.get(), ids.data(), n_prompt, FINERMOE_LOGITS_LAST, cancel);
  run.prefill_seconds = prefill.seconds();
  run.prefill_profile = read_profile(runtime);
  call(finermoe_runtime_reset_profile, runtime.get());
  const Json cache_before = describe_expert_cache(model);
  const Stopwatch decode;
  for (size_t i = n_prompt; i < ids.size(); ++i) {
    call(finermoe_session_append, session.get(), ids.data() + i, size_t{1}, FINERMOE_LOGITS_LAST, cancel);
  }
  run.decode_seconds = decode.seconds();
  run.decode_profile = read_profile(runtime);
  run.expert_cache = describe_expert_cache(model);
  if (!run.expert_cache.is_null()) {
    for (const char* count : {"hits", "misses"}) {
      run.expert_cache[count] = run.expert_cache[count].get<uint64_t>() - cache_before[count].get<uint64_t>();
    }
  }
  return run;
}

// What only one run tells.
void describe_run(const Run& run, bool profile, Json& json) {
  if (!run.expert_cache.is_null()) json["expert_cache"] = run.expert_cache;
  if (!profile) return;
  json["prefill"]["profile"] = run.prefill_profile;
  json["decode"]["profile"] = run.decode_profile;
}

// Seconds that sessions, each starting with a different token, take to decode `n_tokens` each, all in one batch.
double measure_together(const Model& model, const BenchFlags& flags, const std::vector<int32_t>& first_ids,
                        finermoe_cancel* cancel) {
  GenerationOptions options;
  call(finermoe_generation_options_create, static_cast<const finermoe_model*>(nullptr), options.out());
  call(finermoe_generation_options_set_max_tokens, options.get(), flags.n_decode + 1);
  call(finermoe_generation_options_set_min_tokens, options.get(), flags.n_decode + 1);
  call(finermoe_generation_options_set_temperature, options.get(), 0.0);
  Batch batch;
  call(finermoe_batch_create, model.get(), batch.out());
  std::vector<Session> sessions;
  std::vector<Generation> generations(first_ids.size());
  for (size_t i = 0; i < first_ids.size(); ++i) {
    sessions.push_back(open_session(model, flags.compute, flags.n_decode + 2));
    call(finermoe_generation_create, sessions[i].get(), options.get(), &first_ids[i], size_t{1}, generations[i].out());
    call(finermoe_batch_add, batch.get(), generations[i].get());
  }
  Stopwatch watch;
  for (size_t step = 0; step <= flags.n_decode; ++step) {
    if (step == 1) watch = {};  // the first step computes the first tokens and allocates the scratch
    size_t n_active = 0;
    call(finermoe_batch_step, batch.get(), cancel, &n_active);
    finermoe_event event{};
    event.struct_size = sizeof event;
    for (const Generation& generation : generations) call(finermoe_generation_next, generation.get(), cancel, &event);
  }
  return watch.seconds();
}

// Greedy text behind the prompt, and what it took after its first token.
struct GreedyRun {
  double seconds = 0;
  uint64_t n_drafted = 0, n_accepted = 0;
};

// What drafts for it: the text, a model, or neither.
struct DraftSource {
  size_t n_lookup = 0, n_draft = 0;
  finermoe_model* model = nullptr;
};

GreedyRun measure_greedy(const Session& session, const std::vector<int32_t>& ids, const BenchFlags& flags,
                         const DraftSource& source, finermoe_cancel* cancel) {
  GenerationOptions options;
  call(finermoe_generation_options_create, static_cast<const finermoe_model*>(nullptr), options.out());
  call(finermoe_generation_options_set_max_tokens, options.get(), flags.n_decode + 1);
  call(finermoe_generation_options_set_lookup, options.get(), source.n_lookup);
  call(finermoe_generation_options_set_draft, options.get(), source.model, source.n_draft);
  call(finermoe_session_reset, session.get());
  Generation generation;
  call(finermoe_generation_create, session.get(), options.get(), ids.data(), flags.n_prompt, generation.out());
  finermoe_event event{};
  event.struct_size = sizeof event;
  call(finermoe_generation_next, generation.get(), cancel, &event);
  const Stopwatch watch;
  while (event.finish_reason == FINERMOE_FINISH_NONE) {
    call(finermoe_generation_next, generation.get(), cancel, &event);
  }
  const double seconds = watch.seconds();
  const auto info = read_info<finermoe_generation_info>(finermoe_generation_get_info, generation.get());
  return {seconds, info.n_drafted, info.n_accepted};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Greedy text with drafts and without, in turns.
struct DraftRuns {
  Session session;
  DraftSource source;
  std::vector<double> seconds = {}, seconds_without = {};
  GreedyRun last = {};

  void measure(const std::vector<int32_t>& ids, const BenchFlags& flags, finermoe_cancel* cancel) {
    last = measure_greedy(session, ids, flags, source, cancel);
    seconds.push_back(last.seconds);
    seconds_without.push_back(measure_greedy(session, ids, flags, {}, cancel).seconds);
  }
  Json json(const BenchFlags& flags) const {
    return {{"drafts", std::max(source.n_lookup, source.n_draft)},
            {"tokens_per_second", static_cast<double>(flags.n_decode) / median(seconds)},
            {"times_without", median(seconds_without) / median(seconds)},
            {"drafted", last.n_drafted},
            {"accepted", last.n_accepted},
            {"seconds", seconds},
            {"seconds_without", seconds_without}};
  }
};

std::string profile_for_a_person(const std::string& title, const Json& operations) {
  char line[160];
  std::snprintf(line, sizeof line, "\n%-12s%10s%12s%10s%10s\n", title.c_str(), "share", "seconds", "GB/s", "Gop/s");
  std::string text = line;
  for (const Json& operation : operations) {
    std::snprintf(line, sizeof line, "  %-10s%8.1f %%%12.4f%10.1f%10.1f\n",
                  operation["name"].get_ref<const std::string&>().c_str(), 100 * operation["share"].get<double>(),
                  operation["seconds"].get<double>(), operation["gb_per_second"].get<double>(),
                  operation["gop_per_second"].get<double>());
    text += line;
  }
  return text;
}

std::string for_a_person(const Json& json) {
  const auto row = [](const std::string& name, const std::string& text) {
    return name + std::string(20 - name.size(), ' ') + text + "\n";
  };
  const auto fixed = [](const Json& value, int decimals) { return format_fixed(value.get<double>(), decimals); };
  const Json &prefill = json["prefill"], &decode = json["decode"];
  const auto limit = [&](const std::string& name, const std::string& what) {
    if (!json.contains(name + "_gb_per_second")) return std::string();
    const Json& way = json[name + "_way"];
    return row(name == "read" ? "memory reads" : "mapping reads",
               fixed(json[name + "_gb_per_second"], 2) + " GB/s, " + what + ", fastest by " + way["streams"].dump() +
                   " streams a thread, " + way["bytes_ahead"].dump() + " bytes ahead") +
           row("share of that", fixed(Json(100 * decode["share_of_" + name].get<double>()), 1) + " %");
  };
  const auto drafts = [&](const std::string& by) {
    if (!json.contains(by)) return std::string();
    const Json& runs = json[by];
    return row(by, fixed(runs["tokens_per_second"], 1) + " tokens/s, " + fixed(runs["times_without"], 2) +
                       " times without; chosen " + runs["accepted"].dump() + " of " + runs["drafted"].dump() +
                       " drafted");
  };
  std::string quantized;
  for (const Json& dtype : json["quantized_dtypes"]) quantized += " " + dtype.get<std::string>();
  return row("threads", json["threads"].dump() + ", " + json["isa"].get<std::string>() + ", " +
                            json["precision"].get<std::string>()) +
         (quantized.empty() ? "" : row("quantized inputs", "of weights in" + quantized)) +
         row("open", fixed(json["open_seconds"], 3) + " s") +
         row("first token",
             fixed(json["first_token_seconds"], 3) + " s, cold, after " + prefill["tokens"].dump() + " tokens") +
         row("prefill", fixed(prefill["tokens_per_second"], 1) + " tokens/s") +
         row("decode", fixed(decode["tokens_per_second"], 1) + " tokens/s") +
         (json.contains("generate")
              ? row("generate", fixed(json["generate"]["tokens_per_second"], 1) + " tokens/s, greedy, after the first")
              : "") +
         row("weights read", fixed(decode["gb_per_second"], 2) + " GB/s, " +
                                 format_bytes(decode["bytes_per_token"].get<uint64_t>()) + " a token") +
         limit("read", "measured in this run") + limit("mapping", "of the model's file") + drafts("lookup") +
         drafts("draft") +
         (json.contains("expert_cache") ? row("expert cache", expert_cache_words(json["expert_cache"])) : "") +
         (prefill.contains("profile")
              ? profile_for_a_person("prefill", prefill["profile"]) + profile_for_a_person("decode", decode["profile"])
              : "");
}

// How fast the machine reads memory, and the model's file, in the same minutes. Of no interest where a device has all
// weights.
class Limits {
 public:
  Limits(const std::string& model, const finermoe_plan& plan, uint32_t n_threads) {
    if (plan.host_weights == 0) return;
    const size_t bytes = std::clamp(plan.weights_total, kSmallestBuffer, kLargestBuffer);
    memory_.emplace(bytes, n_threads);
    mapping_ = ReadBandwidth::of_model(model, bytes, n_threads);
  }
  void measure() {
    if (memory_) memory_rates_.push_back(memory_->measure());
    if (mapping_) mapping_rates_.push_back(mapping_->measure());
  }
  // Each run read `bytes` in its `seconds`, and the limits were measured after it.
  void describe(double bytes, const std::vector<double>& seconds, Json& json) const {
    const auto add = [&](const std::string& name, const ReadBandwidth& bandwidth, const std::vector<double>& rates) {
      std::vector<double> shares;
      for (size_t i = 0; i < rates.size(); ++i) shares.push_back(bytes / seconds[i] / rates[i]);
      json[name + "_gb_per_second"] = median(rates) / 1e9;
      json[name + "_way"] = {{"streams", bandwidth.way().n_streams}, {"bytes_ahead", bandwidth.way().bytes_ahead}};
      json["decode"]["share_of_" + name] = median(shares);
    };
    if (memory_) {
      add("read", *memory_, memory_rates_);
      json["read_bytes"] = memory_->bytes();
    }
    if (mapping_) add("mapping", *mapping_, mapping_rates_);
  }

 private:
  std::optional<ReadBandwidth> memory_, mapping_;
  std::vector<double> memory_rates_, mapping_rates_;
};

std::vector<std::string> quantized_dtypes_of(const Session& session) {
  return dtype_names(read_info<finermoe_session_info>(finermoe_session_get_info, session.get()).quantized_dtypes);
}

// Seconds of each run.
struct Seconds {
  std::vector<double> prefill, decode, generate, together;

  // Rates of the median runs.
  void describe(const BenchFlags& flags, uint64_t bytes_per_token, Json& json) const {
    const double n_decode = static_cast<double>(flags.n_decode), rate = n_decode / median(decode);
    json["prefill"] = {{"tokens", flags.n_prompt},
                       {"tokens_per_second", static_cast<double>(flags.n_prompt) / median(prefill)},
                       {"seconds", prefill}};
    json["decode"] = {{"tokens", flags.n_decode},
                      {"tokens_per_second", rate},
                      {"seconds", decode},
                      {"bytes_per_token", bytes_per_token},
                      {"gb_per_second", rate * static_cast<double>(bytes_per_token) / 1e9}};
    if (!generate.empty()) {
      json["generate"] = {{"tokens_per_second", n_decode / median(generate)}, {"seconds", generate}};
    }
    if (!together.empty()) {
      const double of_all = static_cast<double>(flags.n_sessions) * n_decode / median(together);
      json["together"] = {{"sessions", flags.n_sessions},
                          {"tokens_per_second", of_all},
                          {"times_one", of_all / rate},
                          {"seconds", together}};
    }
  }
};

int run_bench(const BenchFlags& flags) {
  Interrupt interrupt;
  const Stopwatch opening;
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  const Session session = open_session(model, flags.compute, flags.n_prompt + flags.n_decode);
  const double open_seconds = opening.seconds();
  Runtime runtime;
  call(finermoe_runtime_open_model, model.get(), runtime.out());
  const auto machine = read_info<finermoe_runtime_info>(finermoe_runtime_get_info, runtime.get());
  Config config;
  call(finermoe_config_open_model, model.get(), config.out());
  const finermoe_plan plan = compute_plan(config, flags.compute, 1);

  const uint64_t vocab_size = model_info(model).vocab_size;
  const std::vector<int32_t> ids = spread_ids(flags.n_prompt + flags.n_decode, vocab_size);
  const Run cold = measure(model, session, runtime, ids, flags.n_prompt, interrupt.cancel());
  Limits limits(flags.model, plan, machine.n_threads);
  Progress progress(Progress::kInTokens);
  Run last;
  Seconds seconds;
  const auto greedy_session = [&] { return open_session(model, flags.compute, flags.n_prompt + flags.n_decode + 2); };
  Session generating;
  if (flags.generate) generating = greedy_session();
  std::optional<DraftRuns> lookup, draft;
  if (flags.n_lookup > 0) lookup = DraftRuns{greedy_session(), {.n_lookup = flags.n_lookup}};
  Model draft_model;
  if (!flags.draft.model.empty()) {
    draft_model = open_beside(model, flags.draft.model);
    draft = DraftRuns{greedy_session(), {.n_draft = flags.draft.n, .model = draft_model.get()}};
  }
  for (size_t i = 0; i < flags.n_runs; ++i) {
    Run run = measure(model, session, runtime, ids, flags.n_prompt, interrupt.cancel());
    // At once after decoding: a machine's bandwidth varies within seconds.
    limits.measure();
    seconds.prefill.push_back(run.prefill_seconds);
    seconds.decode.push_back(run.decode_seconds);
    if (flags.generate) {
      seconds.generate.push_back(measure_greedy(generating, ids, flags, {}, interrupt.cancel()).seconds);
    }
    if (flags.n_sessions > 1) {
      seconds.together.push_back(
          measure_together(model, flags, spread_ids(flags.n_sessions, vocab_size), interrupt.cancel()));
    }
    if (lookup) lookup->measure(ids, flags, interrupt.cancel());
    if (draft) draft->measure(ids, flags, interrupt.cancel());
    last = std::move(run);
    progress.show("bench", (i + 1) * ids.size(), flags.n_runs * ids.size());
  }
  Json json = {{"threads", machine.n_threads},
               {"isa", isa_name(machine.isa)},
               {"blas", machine.uses_blas != 0 ? Json(machine.blas) : Json(nullptr)},
               {"precision", flags.compute.precision},
               {"quantized_dtypes", quantized_dtypes_of(session)},
               {"runs", flags.n_runs},
               {"open_seconds", open_seconds},
               {"first_token_seconds", cold.prefill_seconds}};
  seconds.describe(flags, plan.bytes_per_token, json);
  limits.describe(static_cast<double>(flags.n_decode * plan.bytes_per_token), seconds.decode, json);
  if (lookup) json["lookup"] = lookup->json(flags);
  if (draft) json["draft"] = draft->json(flags);
  describe_run(last, flags.compute.profile, json);
  print(flags.json ? dump(json, 2) : for_a_person(json));
  return kOk;
}

}  // namespace

void add_bench(CommandLine& line) {
  add_command<BenchFlags>(line, "bench", "prefill and decode speed, beside the machine's read bandwidth",
                          "  finermoe bench MODEL\n"
                          "  finermoe bench MODEL --profile\n"
                          "  finermoe bench MODEL -p 2048 -n 128 --runs 5 --threads 8 --json\n",
                          declare, run_bench);
}

}  // namespace tool
