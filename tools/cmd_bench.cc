// finermoe bench: tokens per second, beside what the machine's memory allows.
#include <algorithm>

#include "bandwidth.h"
#include "flags.h"
#include "plan.h"
#include "progress.h"

namespace tool {

namespace {

constexpr uint64_t kSmallestBuffer = 256u << 20;  // beyond the caches of most machines
constexpr uint64_t kLargestBuffer = 1u << 30;

struct BenchFlags {
  std::string model;
  ComputeFlags compute;
  size_t n_prompt = 512, n_decode = 64, n_runs = 3;
  bool json = false;
};

void declare(CLI::App& app, BenchFlags& flags) {
  add_model(app, flags.model)->required();
  const auto count = [&](const char* name, size_t& value, const char* description) {
    app.add_option(name, value, description)->type_name("N")->check(CLI::PositiveNumber);
  };
  count("-p,--prompt-tokens", flags.n_prompt, "tokens of the prompt (default 512)");
  count("-n,--tokens", flags.n_decode, "tokens decoded one by one (default 64)");
  count("--runs", flags.n_runs, "runs that count, after one that does not (default 3)");
  app.add_flag("--json", flags.json, "a JSON object");
  add_compute(app, flags.compute);
}

// The same ids on every machine, spread over the vocabulary so that they reach many experts.
std::vector<int32_t> spread_ids(size_t n, uint64_t vocab_size) {
  std::vector<int32_t> ids;
  uint64_t state = 1;
  for (size_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<int32_t>((state >> 33) % vocab_size));
  }
  return ids;
}

struct Run {
  double prefill_seconds = 0, decode_seconds = 0;
};

Run measure(const Session& session, const std::vector<int32_t>& ids, size_t n_prompt, finermoe_cancel* cancel) {
  Run run;
  call(finermoe_session_reset, session.get());
  const double begin = seconds();
  call(finermoe_session_append, session.get(), ids.data(), n_prompt, FINERMOE_LOGITS_LAST, cancel);
  const double middle = seconds();
  for (size_t i = n_prompt; i < ids.size(); ++i) {
    call(finermoe_session_append, session.get(), ids.data() + i, size_t{1}, FINERMOE_LOGITS_LAST, cancel);
  }
  run.prefill_seconds = middle - begin;
  run.decode_seconds = seconds() - middle;
  return run;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::string for_a_person(const Json& json) {
  const auto row = [](const std::string& name, const std::string& text) {
    return name + std::string(20 - name.size(), ' ') + text + "\n";
  };
  const auto fixed = [](const Json& value, int decimals) { return format_fixed(value.get<double>(), decimals); };
  const Json &prefill = json["prefill"], &decode = json["decode"];
  const bool mapped = json.contains("mapping_gb_per_second");
  return row("threads", json["threads"].dump() + ", " + json["isa"].get<std::string>()) +
         row("open", fixed(json["open_seconds"], 3) + " s") +
         row("first token",
             fixed(json["first_token_seconds"], 3) + " s, cold, after " + prefill["tokens"].dump() + " tokens") +
         row("prefill", fixed(prefill["tokens_per_second"], 1) + " tokens/s") +
         row("decode", fixed(decode["tokens_per_second"], 1) + " tokens/s") +
         row("weights read", fixed(decode["gb_per_second"], 2) + " GB/s, " +
                                 format_bytes(decode["bytes_per_token"].get<uint64_t>()) + " a token") +
         row("memory reads", fixed(json["read_gb_per_second"], 2) + " GB/s, measured in this run") +
         row("share of that", fixed(Json(100 * decode["share_of_read"].get<double>()), 1) + " %") +
         (mapped ? row("mapping reads", fixed(json["mapping_gb_per_second"], 2) + " GB/s, of the model's file") +
                       row("share of that", fixed(Json(100 * decode["share_of_mapping"].get<double>()), 1) + " %")
                 : "");
}

const char* isa_name(int32_t isa) {
  return isa == FINERMOE_ISA_AVX512 ? "avx512" : isa == FINERMOE_ISA_AVX2 ? "avx2" : "portable";
}

int run_bench(const BenchFlags& flags) {
  Interrupt interrupt;
  const double open_begin = seconds();
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  const Session session = open_session(model, flags.compute, flags.n_prompt + flags.n_decode);
  const double open_seconds = seconds() - open_begin;
  Runtime runtime;
  call(finermoe_model_get_runtime, model.get(), runtime.out());
  const auto machine = read_info<finermoe_runtime_info>(finermoe_runtime_get_info, runtime.get());
  Config config;
  call(finermoe_config_open_model, model.get(), config.out());
  const finermoe_plan plan = compute_plan(config, flags.compute, 1);

  const std::vector<int32_t> ids = spread_ids(flags.n_prompt + flags.n_decode, model_info(model).vocab_size);
  const Run cold = measure(session, ids, flags.n_prompt, interrupt.cancel());
  const size_t read_bytes = std::clamp(plan.weights_total, kSmallestBuffer, kLargestBuffer);
  const ReadBandwidth memory(read_bytes, machine.n_threads);
  const std::optional<ReadBandwidth> mapping = ReadBandwidth::of_model(flags.model, read_bytes, machine.n_threads);
  Progress progress(Progress::kTokens);
  std::vector<double> prefill_seconds, decode_seconds, read_rates, mapping_rates;
  for (size_t i = 0; i < flags.n_runs; ++i) {
    // Beside every run, since a machine's speed changes with what else it does.
    read_rates.push_back(memory.measure());
    if (mapping) mapping_rates.push_back(mapping->measure());
    const Run run = measure(session, ids, flags.n_prompt, interrupt.cancel());
    prefill_seconds.push_back(run.prefill_seconds);
    decode_seconds.push_back(run.decode_seconds);
    progress.show("bench", (i + 1) * ids.size(), flags.n_runs * ids.size());
  }
  const double decode_rate = static_cast<double>(flags.n_decode) / median(decode_seconds);
  const double weight_rate = decode_rate * static_cast<double>(plan.bytes_per_token);
  const double read_rate = median(read_rates);
  Json json = {{"threads", machine.n_threads},
               {"isa", isa_name(machine.isa)},
               {"runs", flags.n_runs},
               {"open_seconds", open_seconds},
               {"first_token_seconds", cold.prefill_seconds},
               {"prefill",
                {{"tokens", flags.n_prompt},
                 {"tokens_per_second", static_cast<double>(flags.n_prompt) / median(prefill_seconds)},
                 {"seconds", prefill_seconds}}},
               {"decode",
                {{"tokens", flags.n_decode},
                 {"tokens_per_second", decode_rate},
                 {"seconds", decode_seconds},
                 {"bytes_per_token", plan.bytes_per_token},
                 {"gb_per_second", weight_rate / 1e9},
                 {"share_of_read", weight_rate / read_rate}}},
               {"read_gb_per_second", read_rate / 1e9},
               {"read_bytes", memory.bytes()}};
  if (mapping) {
    json["mapping_gb_per_second"] = median(mapping_rates) / 1e9;
    json["decode"]["share_of_mapping"] = weight_rate / median(mapping_rates);
  }
  print(flags.json ? dump(json, 2) : for_a_person(json));
  return kOk;
}

}  // namespace

void add_bench(CommandLine& line) {
  add_command<BenchFlags>(line, "bench", "prefill and decode speed, beside the machine's read bandwidth",
                          "  finermoe bench MODEL\n"
                          "  finermoe bench MODEL -p 2048 -n 128 --runs 5 --threads 8 --json\n",
                          declare, run_bench);
}

}  // namespace tool
