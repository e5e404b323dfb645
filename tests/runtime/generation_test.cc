// Generation: stops, held-back text, log-probabilities, changed logits, finish reasons, cancel and close.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

#include "bundled_model.h"

namespace {

const std::string definition = "A tower with a light that gives warning of shoals to passing ships.";

class Generations : public OnTheBundledModel {
 protected:
  GenerationHandle ask(const std::string& question, finermoe_session* on = nullptr) {
    auto chat = make<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
    EXPECT_DONE(finermoe_chat_add(chat.get(), "user", question.data(), question.size(), e));
    return make<GenerationHandle>([&](auto** out, auto** e) {
      return finermoe_generation_create_chat(on ? on : session.get(), options.get(), chat.get(), 0, out, e);
    });
  }
  GenerationHandle ask_lighthouse() { return ask("Define the noun \"lighthouse\"."); }
};

TEST_F(Generations, ChatAnswersInWordsAndStops) {
  const auto answer = run_out(ask_lighthouse().get());
  EXPECT_EQ(answer.text, definition);
  EXPECT_EQ(answer.finish, FINERMOE_FINISH_STOP_TOKEN);
  EXPECT_EQ(answer.ids.back(), 4066);  // the stop id is among the ids, and not in the text
}

TEST_F(Generations, DefaultsComeFromTheModel) {
  finermoe_generation_options_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_generation_options_get_info(options.get(), &info, e));
  EXPECT_EQ(info.max_tokens, 128u);
  EXPECT_EQ(info.n_stop_tokens, 2u);
  EXPECT_EQ(info.temperature, 0);
}

TEST_F(Generations, StopStringsAreHeldBackAndCutOff) {
  for (const std::string& stop :
       {std::string("warning of"), std::string("light"), std::string("s"), std::string("A")}) {
    options = generation_options(model.get());
    EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), stop.data(), stop.size(), e));
    EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), "never there", 11, e));
    Generated answer;
    auto generation = ask_lighthouse();
    while (answer.finish == FINERMOE_FINISH_NONE) {
      take(next_event(generation.get()), answer);
      EXPECT_EQ(answer.text.find(stop), std::string::npos);
      EXPECT_TRUE(definition.starts_with(answer.text)) << answer.text;
    }
    EXPECT_EQ(answer.finish, FINERMOE_FINISH_STOP_STRING);
    EXPECT_EQ(answer.text, definition.substr(0, definition.find(stop)));
    EXPECT_DONE(finermoe_session_reset(session.get(), e));
  }
}

TEST_F(Generations, TextThatOnlyLookedLikeAStopComesOut) {
  const std::string stop = "ships.!";  // the text ends just before it would be complete
  EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), stop.data(), stop.size(), e));
  const auto answer = run_out(ask_lighthouse().get());
  EXPECT_EQ(answer.text, definition);
  EXPECT_EQ(answer.finish, FINERMOE_FINISH_STOP_TOKEN);
}

TEST_F(Generations, MinimumAndMaximum) {
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 5, e));
  auto generation = ask_lighthouse();
  auto five = run_out(generation.get());
  EXPECT_EQ(five.ids.size(), 5u);
  EXPECT_EQ(five.finish, FINERMOE_FINISH_MAX_TOKENS);
  const auto after = next_event(generation.get());  // the finish again, and nothing else
  EXPECT_EQ(after.token, -1);
  EXPECT_EQ(after.text_length, 0u);
  EXPECT_EQ(after.finish_reason, FINERMOE_FINISH_MAX_TOKENS);

  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 40, e));
  EXPECT_DONE(finermoe_generation_options_set_min_tokens(options.get(), 30, e));
  const auto thirty = run_out(ask_lighthouse().get());
  EXPECT_GE(thirty.ids.size(), 30u);
  for (size_t i = 0; i + 1 < thirty.ids.size(); i++) EXPECT_NE(thirty.ids[i], 4066);
}

TEST_F(Generations, FullContextIsAFinish) {
  auto small = open_session(model.get(), 24);
  const auto answer = run_out(ask("Define the noun \"lighthouse\".", small.get()).get());
  EXPECT_EQ(answer.finish, FINERMOE_FINISH_CONTEXT_FULL);
  EXPECT_EQ(answer.ids.size(), 24u - 18u);
  EXPECT_TRUE(definition.starts_with(answer.text));
  auto tiny = open_session(model.get(), 8);
  const std::string text = "a prompt of many words that cannot fit into eight tokens at all";
  finermoe_generation* none = nullptr;
  EXPECT_EQ(finermoe_generation_create_text(tiny.get(), nullptr, text.data(), text.size(), 0, &none, nullptr),
            FINERMOE_ERROR_CONTEXT_LENGTH);
}

TEST_F(Generations, BannedAndBiasedTokens) {
  EXPECT_DONE(finermoe_generation_options_add_banned_token(options.get(), 32, e));  // "A", the first of the answer
  EXPECT_NE(next_event(ask_lighthouse().get()).token, 32);
  EXPECT_DONE(finermoe_session_reset(session.get(), e));
  EXPECT_DONE(finermoe_generation_options_add_logit_bias(options.get(), 1000, 1000, e));
  EXPECT_EQ(next_event(ask_lighthouse().get()).token, 1000);
  EXPECT_EQ(finermoe_generation_options_add_logit_bias(options.get(), 4096, 1, nullptr),
            FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
}

TEST_F(Generations, LogProbabilitiesAreTheModelsOwn) {
  EXPECT_DONE(finermoe_generation_options_set_top_logprobs(options.get(), 4, e));
  EXPECT_DONE(finermoe_generation_options_add_logit_bias(options.get(), 1000, 1000, e));
  auto generation = ask_lighthouse();
  EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
  const auto logits = read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_generation_get_logits(generation.get(), out, capacity, needed, e);
  });
  double sum = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l));
  const auto event = next_event(generation.get());
  EXPECT_EQ(event.token, 1000);
  EXPECT_NEAR(event.logprob, logits[1000] - std::log(sum), 1e-4);
  ASSERT_EQ(event.n_top, 4u);
  EXPECT_EQ(event.top_ids[0], 32);
  for (size_t i = 0; i < 4; i++) {
    EXPECT_NEAR(event.top_logprobs[i], logits[static_cast<size_t>(event.top_ids[i])] - std::log(sum), 1e-4);
    EXPECT_TRUE(i == 0 || event.top_logprobs[i] <= event.top_logprobs[i - 1]);
  }
}

TEST_F(Generations, LogitsCanBeChangedBetweenSteps) {
  auto generation = ask_lighthouse();
  std::vector<float> logits(4096);
  EXPECT_EQ(finermoe_generation_get_logits(generation.get(), logits.data(), logits.size(), nullptr, nullptr),
            FINERMOE_ERROR_STATE);
  EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
  EXPECT_DONE(finermoe_generation_get_logits(generation.get(), logits.data(), logits.size(), nullptr, e));
  logits[777] = 1e4f;
  EXPECT_DONE(finermoe_generation_set_logits(generation.get(), logits.data(), logits.size(), e));
  EXPECT_EQ(next_event(generation.get()).token, 777);
  EXPECT_NE(next_event(generation.get()).token, 777);  // one step only
  EXPECT_EQ(finermoe_generation_set_logits(generation.get(), logits.data(), 10, nullptr), FINERMOE_ERROR_STATE);
}

TEST_F(Generations, PaddingIdsAreNeverSampled) {
  finermoe_tokenizer_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_tokenizer_get_info(tokenizer.get(), &info, e));
  ASSERT_EQ(info.vocab_size, 4067u);  // of 4096 rows
  auto generation = ask_lighthouse();
  EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
  std::vector<float> logits(4096, -1e4f);
  for (size_t id = 4067; id < 4096; id++) logits[id] = 1e4f;
  EXPECT_DONE(finermoe_generation_set_logits(generation.get(), logits.data(), logits.size(), e));
  EXPECT_LT(next_event(generation.get()).token, 4067);
}

TEST_F(Generations, TheSameSeedGivesTheSameText) {
  auto sample = [&](uint64_t seed) {
    options = generation_options(model.get());
    EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 1.5, e));
    EXPECT_DONE(finermoe_generation_options_set_top_p(options.get(), 0.95, e));
    EXPECT_DONE(finermoe_generation_options_set_seed(options.get(), seed, e));
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 30, e));
    EXPECT_DONE(finermoe_session_reset(session.get(), e));
    return run_out(ask_lighthouse().get()).ids;
  };
  EXPECT_EQ(sample(1), sample(1));
  EXPECT_NE(sample(1), sample(2));
}

TEST_F(Generations, TheNextTurnKeepsWhatItCan) {
  const auto first = run_out(ask_lighthouse().get());
  auto chat = make<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  const std::string question = "Define the noun \"lighthouse\".", second = "Define the noun \"ship\".";
  EXPECT_DONE(finermoe_chat_add(chat.get(), "user", question.data(), question.size(), e));
  EXPECT_DONE(finermoe_chat_add(chat.get(), "assistant", first.text.data(), first.text.size(), e));
  EXPECT_DONE(finermoe_chat_add(chat.get(), "user", second.data(), second.size(), e));
  auto generation = make<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_create_chat(session.get(), options.get(), chat.get(), 0, out, e);
  });
  EXPECT_GE(session_tokens(session.get()).size(), 18u + first.ids.size() - 1);  // nothing was forgotten
  const auto kept = run_out(generation.get());
  auto fresh_session = open_session(model.get(), 256);
  auto fresh = make<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_create_chat(fresh_session.get(), options.get(), chat.get(), 0, out, e);
  });
  EXPECT_EQ(run_out(fresh.get()).ids, kept.ids);
}

TEST_F(Generations, AnEmptyPromptContinuesTheSession) {
  const std::vector<int32_t> ids = {649, 2329, 270};
  EXPECT_DONE(finermoe_session_append(session.get(), ids.data(), ids.size(), FINERMOE_LOGITS_NONE, nullptr, e));
  auto other = open_session(model.get(), 256);
  EXPECT_EQ(run_out(generate(session.get(), options.get(), {}).get()).ids,
            run_out(generate(other.get(), options.get(), ids).get()).ids);
  auto empty = open_session(model.get());
  finermoe_generation* none = nullptr;
  EXPECT_EQ(finermoe_generation_create(empty.get(), nullptr, nullptr, 0, &none, nullptr),
            FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST_F(Generations, CancelAndGoOn) {
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  auto generation = ask_lighthouse();
  Generated answer;
  for (int i = 0; i < 3; i++) take(next_event(generation.get(), cancel.get()), answer);
  finermoe_cancel_request(cancel.get());
  finermoe_event event{};
  event.struct_size = sizeof event;
  EXPECT_EQ(finermoe_generation_next(generation.get(), cancel.get(), &event, nullptr), FINERMOE_ERROR_CANCELLED);
  finermoe_cancel_reset(cancel.get());
  while (answer.finish == FINERMOE_FINISH_NONE) take(next_event(generation.get(), cancel.get()), answer);
  EXPECT_EQ(answer.text, definition);
}

TEST_F(Generations, CloseFromAnotherThreadIsSafe) {
  for (int round = 0; round < 20; round++) {
    EXPECT_DONE(finermoe_session_reset(session.get(), e));
    EXPECT_DONE(finermoe_generation_options_set_ignore_eos(options.get(), 1, e));
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 0, e));
    auto generation = ask_lighthouse();
    std::atomic<int> steps{0};
    std::thread closer([&] {
      while (steps < round) std::this_thread::yield();
      finermoe_generation_close(generation.get());
    });
    finermoe_event event{};
    event.struct_size = sizeof event;
    int32_t status = FINERMOE_OK;
    while (status == FINERMOE_OK) {
      status = finermoe_generation_next(generation.get(), nullptr, &event, nullptr);
      steps++;
      if (event.finish_reason != FINERMOE_FINISH_NONE) break;
    }
    closer.join();
    EXPECT_TRUE(status == FINERMOE_ERROR_CLOSED || event.finish_reason == FINERMOE_FINISH_CONTEXT_FULL) << status;
  }
}

TEST_F(Generations, WithoutATokenizerIdsWorkAndTextDoesNot) {
  auto plain = open_model(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  auto on = open_session(plain.get());
  auto plain_options = generation_options(plain.get());
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(plain_options.get(), 3, e));
  const auto ids = run_out(generate(on.get(), plain_options.get(), {1, 2, 3}).get());
  EXPECT_TRUE(ids.text.empty());
  finermoe_generation* none = nullptr;
  EXPECT_EQ(finermoe_generation_create_text(on.get(), nullptr, "hello", 5, 0, &none, nullptr),
            FINERMOE_ERROR_NO_TOKENIZER);
}

TEST_F(Generations, ABatchRefusesWhatCannotStandInIt) {
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  auto one = ask_lighthouse(), two = generate(session.get(), options.get(), {1});
  EXPECT_DONE(finermoe_batch_add(batch.get(), one.get(), e));
  EXPECT_EQ(finermoe_batch_add(batch.get(), one.get(), nullptr), FINERMOE_ERROR_STATE);
  EXPECT_EQ(finermoe_batch_add(batch.get(), two.get(), nullptr), FINERMOE_ERROR_STATE);
  EXPECT_DONE(finermoe_batch_remove(batch.get(), one.get(), e));
  EXPECT_EQ(finermoe_batch_remove(batch.get(), one.get(), nullptr), FINERMOE_ERROR_STATE);
  size_t n_active = 99;
  EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
  EXPECT_EQ(n_active, 0u);
  finermoe_batch_close(batch.get());
  EXPECT_EQ(finermoe_batch_step(batch.get(), nullptr, &n_active, nullptr), FINERMOE_ERROR_CLOSED);
}

}  // namespace
