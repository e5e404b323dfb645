// finermoe_sampler: the choice that a generation makes, for logits that the host has.
#include <cmath>
#include <limits>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

SamplerHandle make_sampler(const finermoe_generation_options* options) {
  return make<SamplerHandle>([&](auto** out, auto** e) { return finermoe_sampler_create(options, out, e); });
}

class SamplerApi : public testing::Test {
 protected:
  ModelHandle model = open_model(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  GenerationOptions options = generation_options(model.get());
};

TEST_F(SamplerApi, ChoosesWhatAGenerationChooses) {
  const std::vector<int32_t> prompt = {5, 6, 7, 5};
  finermoe_generation_options* o = options.get();
  EXPECT_DONE(finermoe_generation_options_set_temperature(o, 1.5, e));
  EXPECT_DONE(finermoe_generation_options_set_top_k(o, 40, e));
  EXPECT_DONE(finermoe_generation_options_set_top_p(o, 0.9, e));
  EXPECT_DONE(finermoe_generation_options_set_repetition_penalty(o, 1.3, e));
  EXPECT_DONE(finermoe_generation_options_set_frequency_penalty(o, 0.4, e));
  EXPECT_DONE(finermoe_generation_options_set_presence_penalty(o, 0.2, e));
  EXPECT_DONE(finermoe_generation_options_set_seed(o, 11, e));
  EXPECT_DONE(finermoe_generation_options_set_min_tokens(o, 20, e));
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(o, 60, e));
  EXPECT_DONE(finermoe_generation_options_add_banned_token(o, 9, e));
  for (int32_t id = 100; id < 200; id++) EXPECT_DONE(finermoe_generation_options_add_stop_token(o, id, e));

  auto session = open_session(model.get());
  auto generation = generate(session.get(), o, prompt);
  auto sampler = make_sampler(o);
  EXPECT_DONE(finermoe_sampler_accept_prompt(sampler.get(), prompt.data(), prompt.size(), e));
  for (finermoe_event event{}; event.finish_reason == FINERMOE_FINISH_NONE;) {
    EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
    const auto logits = read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_get_logits(generation.get(), out, capacity, needed, e);
    });
    int32_t id = -1;
    EXPECT_DONE(finermoe_sampler_choose(sampler.get(), logits.data(), logits.size(), &id, e));
    event = next_event(generation.get());
    ASSERT_EQ(id, event.token);
    EXPECT_DONE(finermoe_sampler_accept(sampler.get(), id, e));
  }
}

TEST_F(SamplerApi, WithoutOptionsItIsGreedy) {
  auto sampler = make_sampler(nullptr);
  const std::vector<float> logits = {1, 3, 3, 2};
  int32_t id = -1;
  EXPECT_DONE(finermoe_sampler_choose(sampler.get(), logits.data(), logits.size(), &id, e));
  EXPECT_EQ(id, 1);
}

TEST_F(SamplerApi, EveryIdIsComparedWithTheLogits) {
  const std::vector<float> logits(10);
  int32_t id = -1;
  auto choose = [&](finermoe_sampler* sampler) {
    return failure_of([&](auto** e) { return finermoe_sampler_choose(sampler, logits.data(), logits.size(), &id, e); });
  };
  EXPECT_DONE(finermoe_generation_options_add_logit_bias(options.get(), 10, 1, e));
  EXPECT_EQ(choose(make_sampler(options.get()).get()).code, FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);

  auto penalised = generation_options(model.get());
  EXPECT_DONE(finermoe_generation_options_clear_stop_tokens(penalised.get(), e));
  EXPECT_DONE(finermoe_generation_options_set_repetition_penalty(penalised.get(), 2, e));
  auto sampler = make_sampler(penalised.get());
  EXPECT_DONE(finermoe_sampler_accept(sampler.get(), 9, e));
  EXPECT_EQ(choose(sampler.get()).code, FINERMOE_OK);
  const int32_t far = std::numeric_limits<int32_t>::max();
  EXPECT_DONE(finermoe_sampler_accept_prompt(sampler.get(), &far, 1, e));
  const Failure failure = choose(sampler.get());
  EXPECT_EQ(failure.code, FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
  EXPECT_EQ(failure.found, "10");
  EXPECT_EQ(finermoe_sampler_accept(sampler.get(), -1, nullptr), FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
}

TEST_F(SamplerApi, LogitsThatGiveNoTokenAreErrorsThatChangeNothing) {
  auto sampler = make_sampler(nullptr);
  int32_t id = 77;
  const std::vector<float> nan = {1, NAN}, none = {-INFINITY, -INFINITY}, good = {0, 1};
  EXPECT_EQ(finermoe_sampler_choose(sampler.get(), nan.data(), nan.size(), &id, nullptr), FINERMOE_ERROR_NOT_FINITE);
  EXPECT_EQ(finermoe_sampler_choose(sampler.get(), none.data(), none.size(), &id, nullptr), FINERMOE_ERROR_STATE);
  EXPECT_EQ(finermoe_sampler_choose(sampler.get(), good.data(), 0, &id, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(id, 77);
  EXPECT_DONE(finermoe_sampler_choose(sampler.get(), good.data(), good.size(), &id, e));
  EXPECT_EQ(id, 1);
}

}  // namespace
