// config.json, and the plan made of it. Input: three numbers for the plan, eight bytes each, then the text.
#include "mutate.h"
#include "support.h"

using namespace fuzz;

namespace {

void check(const finermoe_config_info& i) {
  HOLDS(i.hidden_size > 0 && i.n_layers > 0 && i.n_heads > 0 && i.vocab_size > 0 && i.max_positions > 0);
  HOLDS(i.n_kv_heads > 0 && i.n_heads % i.n_kv_heads == 0 && i.head_size > 0 && i.head_size % 2 == 0);
  HOLDS(i.n_moe_layers <= i.n_layers);
  HOLDS(i.n_experts == i.granularity_output * i.expansion_output * i.granularity_inter * i.expansion_inter);
  HOLDS(i.n_experts_per_token <= i.n_experts && (i.n_experts_per_token > 0) == (i.n_experts > 0));
  HOLDS(i.n_experts == 0 || i.expert_output_width * i.granularity_output == i.hidden_size);
  HOLDS(i.rms_norm_eps >= 0 && i.rms_norm_eps < 1e300 && i.rope_theta > 0 && i.rope_theta < 1e300);
  HOLDS(i.parameters_active > 0 && i.parameters_active <= i.parameters_total);
  HOLDS(i.parameters_total < uint64_t{1} << 52);
}

void check(const finermoe_plan& p) {
  HOLDS(p.weights_total == p.weights_embeddings + p.weights_attention + p.weights_dense + p.weights_shared +
                               p.weights_routed + p.weights_router);
  HOLDS(p.allocated_total == p.kv_cache + p.scratch);
  HOLDS(p.bytes_per_token > 0 && p.bytes_per_token <= p.weights_total);
  HOLDS(p.weights_every_token > 0 && p.weights_every_token <= p.weights_total);
}

bool compute(const finermoe_config* config, const finermoe_plan_options* options, finermoe_plan& plan) {
  plan = {};
  plan.struct_size = sizeof plan;
  if (!ok(run([&](auto** e) { return finermoe_plan_compute(config, options, &plan, e); }))) {
    HOLDS(plan.weights_total == 0 && plan.kv_cache == 0);
    return false;
  }
  check(plan);
  return true;
}

void plan(const finermoe_config* config, uint64_t context, uint64_t chunk, uint64_t sessions) {
  finermoe_plan plain, chosen, one;
  compute(config, nullptr, plain);
  const auto session =
      must<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  run([&](auto** e) { return finermoe_session_options_set_context_length(session.get(), context, e); });
  run([&](auto** e) { return finermoe_session_options_set_chunk(session.get(), chunk, e); });
  run([&](auto** e) { return finermoe_session_options_set_kv_dtype(session.get(), chunk % 5, e); });
  const auto options = must<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  run([&](auto** e) { return finermoe_plan_options_set_session(options.get(), session.get(), e); });
  run([&](auto** e) { return finermoe_plan_options_set_threads(options.get(), sessions % 300, e); });
  if (!compute(config, options.get(), one)) return;
  if (!ok(run([&](auto** e) { return finermoe_plan_options_set_sessions(options.get(), sessions, e); }))) return;
  if (compute(config, options.get(), chosen)) HOLDS(chosen.kv_cache / sessions == one.kv_cache);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  const uint64_t context = choices.number(), chunk = choices.number(), sessions = choices.number();
  const size_t begin = std::min<size_t>(size, 24);
  const char* text = reinterpret_cast<const char*>(data) + begin;
  const auto config =
      create<Config>([&](auto** out, auto** e) { return finermoe_config_open_memory(text, size - begin, out, e); });
  if (config == nullptr) return 0;
  check(config_info(config.get()));
  plan(config.get(), context, chunk, sessions);
  n_completed++;
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  if (size < 24) return LLVMFuzzerMutate(data, size, max_size);
  Mutator mutator(seed);
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  std::string numbers(input.substr(0, 24)), text(input.substr(24));
  if (mutator.below(4) == 0) {
    numbers[mutator.below(24)] = static_cast<char>(mutator.below(256));
  } else {
    text = mutator.json(text);
  }
  return give(numbers + text, data, max_size);
}
