// Every model against the outputs of the authors' own code: logits, experts, weights, greedy continuations; alone, in
// chunks, token by token, interleaved, on every instruction set, and on any number of threads.
#include <algorithm>
#include <cmath>

#include "../support/differences.h"
#include "../support/golden.h"
#include "../support/handles.h"

namespace {

constexpr double weight_bound = 1e-5;

std::vector<float> golden_logits(const std::string& model, size_t prompt) {
  auto logits = golden::npz_array(model + "/expected_logits.npz", "logits_" + std::to_string(prompt));
  EXPECT_FALSE(logits.empty());
  return logits;
}

class Parity : public testing::TestWithParam<std::string> {
 protected:
  const std::string path = GetParam();
  const nlohmann::json expected = golden::expected(path);
  const bool is_trained = path.find("examples/models") != std::string::npos;

  std::vector<int32_t> ids(size_t prompt) const { return expected["prompts"][prompt]["ids"]; }
  size_t n_prompts() const { return expected["prompts"].size(); }
};

std::vector<std::string> all_models() {
  auto models = golden::shape_models();
  models.push_back(golden::trained("tiny-wordnet-dense"));
  models.push_back(golden::trained("tiny-wordnet-finermoe"));
  return models;
}
std::string name_of(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param.substr(info.param.rfind('/') + 1);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, Parity, testing::ValuesIn(all_models()), name_of);

TEST_P(Parity, LogitsOnEveryInstructionSet) {
  for (const int32_t isa : instruction_sets()) {
    auto runtime = open_runtime(2, isa);
    auto model = open_model(path, runtime.get());
    for (size_t k = 0; k < n_prompts(); k++) {
      auto session = open_session(model.get());
      const auto prompt = ids(k);
      EXPECT_DONE(
          finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, e));
      EXPECT_LE(worst_difference(all_logits(session.get()), golden_logits(path, k)), logit_bound)
          << "prompt " << k << ", instruction set " << isa;
    }
  }
}

TEST_P(Parity, RoutesAreTheAuthors) {
  auto model = open_model(path);
  for (size_t k = 0; k < n_prompts(); k++) {
    const auto& layers = expected["prompts"][k].value("layers", nlohmann::json::array());
    if (layers.empty()) continue;
    auto trace = make<TraceHandle>(
        [&](auto** out, auto** e) { return finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES, out, e); });
    auto session = open_session(model.get());
    EXPECT_DONE(finermoe_session_set_trace(session.get(), trace.get(), e));
    const auto prompt = ids(k);
    EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_NONE, nullptr, e));
    for (size_t l = 0; l < layers.size(); l++) {
      const auto experts = read_array<int32_t>([&](int32_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
        return finermoe_trace_experts(trace.get(), l, out, capacity, needed, e);
      });
      const auto weights = read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
        return finermoe_trace_weights(trace.get(), l, out, capacity, needed, e);
      });
      size_t i = 0;
      for (size_t t = 0; t < prompt.size(); t++) {
        const std::vector<int32_t> want = layers[l]["experts"][t];
        const std::vector<double> want_weights = layers[l]["weights"][t];
        for (size_t slot = 0; slot < want.size(); slot++, i++) {
          ASSERT_LT(i, experts.size());
          EXPECT_EQ(experts[i], want[slot]) << "prompt " << k << ", layer " << l << ", token " << t;
          EXPECT_NEAR(weights[i], want_weights[slot], weight_bound)
              << "prompt " << k << ", layer " << l << ", token " << t;
        }
      }
      EXPECT_EQ(i, experts.size());
    }
  }
}

TEST_P(Parity, GreedyContinuations) {
  auto model = open_model(path);
  for (size_t k = 0; k < n_prompts(); k++) {
    auto session = open_session(model.get());
    auto options = generation_options(model.get());
    const std::vector<int32_t> want = expected["prompts"][k]["greedy"];
    EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 0, e));
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), want.size(), e));
    EXPECT_DONE(finermoe_generation_options_set_ignore_eos(options.get(), !is_trained, e));
    const auto generated = run_out(generate(session.get(), options.get(), ids(k)).get());
    EXPECT_EQ(generated.ids, want) << "prompt " << k;
    const bool stops = is_trained && want.back() == 4066;  // one of the trained prompts is cut off by its length
    EXPECT_EQ(generated.finish, stops ? FINERMOE_FINISH_STOP_TOKEN : FINERMOE_FINISH_MAX_TOKENS);
    EXPECT_EQ(generated.text, expected["prompts"][k].value("greedy_text", ""));
  }
}

TEST_P(Parity, AnyChunkingAndTokenByTokenAgree) {
  auto model = open_model(path);
  for (size_t k = 0; k < n_prompts(); k++) {
    const auto prompt = ids(k);
    const auto want = golden_logits(path, k);
    for (size_t chunk : {1, 2, 5, 16}) {
      auto session = open_session(model.get(), 0, chunk);
      EXPECT_DONE(
          finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, e));
      EXPECT_LE(worst_difference(all_logits(session.get()), want), logit_bound)
          << "prompt " << k << ", chunk " << chunk;
    }
    auto session = open_session(model.get());
    std::vector<float> by_token;
    for (int32_t id : prompt) {
      EXPECT_DONE(finermoe_session_append(session.get(), &id, 1, FINERMOE_LOGITS_LAST, nullptr, e));
      const auto row = session_logits(session.get(), 0);
      by_token.insert(by_token.end(), row.begin(), row.end());
    }
    EXPECT_LE(worst_difference(by_token, want), logit_bound) << "prompt " << k << ", token by token";
  }
}

TEST_P(Parity, ReducedPrecisionCachesStayClose) {
  auto model = open_model(path);
  for (int32_t kv : {FINERMOE_DTYPE_F16, FINERMOE_DTYPE_BF16}) {
    auto session = open_session(model.get(), 0, 0, kv);
    const auto prompt = ids(0);
    EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, e));
    EXPECT_LE(worst_difference(all_logits(session.get()), golden_logits(path, 0)),
              kv == FINERMOE_DTYPE_F16 ? 0.1f : 0.8f);
  }
}

TEST_P(Parity, SeveralSessionsInOneStepContinueAsAlone) {
  auto model = open_model(path);
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> generations;
  std::vector<Generated> results(n_prompts());
  auto options = generation_options(model.get());
  EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 0, e));
  EXPECT_DONE(finermoe_generation_options_set_ignore_eos(options.get(), !is_trained, e));
  for (size_t k = 0; k < n_prompts(); k++) {
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), expected["prompts"][k]["greedy"].size(), e));
    sessions.push_back(open_session(model.get(), 0, 3 + k));  // prompts arrive in chunks of different lengths
    generations.push_back(generate(sessions.back().get(), options.get(), ids(k)));
  }
  EXPECT_DONE(finermoe_batch_add(batch.get(), generations[0].get(), e));
  size_t n_active = 1, joined = 1, steps = 0;
  for (; (n_active != 0 || joined < n_prompts()) && steps < 2000; steps++) {
    EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
    for (size_t k = 0; k < joined; k++) {
      finermoe_generation_info info{};
      info.struct_size = sizeof info;
      EXPECT_DONE(finermoe_generation_get_info(generations[k].get(), &info, e));
      if (info.prepared) take(next_event(generations[k].get()), results[k]);
    }
    if (steps % 3 == 2 && joined < n_prompts()) {  // somebody joins now and then
      EXPECT_DONE(finermoe_batch_add(batch.get(), generations[joined++].get(), e));
    }
  }
  for (size_t k = 0; k < n_prompts(); k++) {
    EXPECT_EQ(results[k].ids, expected["prompts"][k]["greedy"].get<std::vector<int32_t>>()) << "prompt " << k;
  }
}

TEST_P(Parity, ThreadCountsAndCopiesAreBitEqual) {
  std::vector<float> first;
  const auto prompt = ids(n_prompts() - 1);
  for (const uint32_t n_threads : thread_counts()) {
    auto runtime = open_runtime(n_threads);
    auto model = open_model(path, runtime.get(), n_threads == 3);
    auto session = open_session(model.get());
    EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, e));
    const auto logits = all_logits(session.get());
    if (first.empty()) first = logits;
    EXPECT_EQ(logits, first) << n_threads << " threads";
  }
}

}  // namespace
