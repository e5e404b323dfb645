// What a host does with requests on their way: tokens of its own, an early end, saving and restoring; and batches that
// give their events one after the other.
#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <thread>

#include "../support/changed_model.h"
#include "bundled_model.h"

namespace {

using Ids = std::vector<int32_t>;

finermoe_generation_info info_of(finermoe_generation* generation) {
  finermoe_generation_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_generation_get_info(generation, &info, e));
  return info;
}

std::vector<char> saved(finermoe_generation* generation) {
  return read_array<char>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_generation_save_memory(generation, out, capacity, needed, e);
  });
}
GenerationHandle restored(finermoe_session* session, const std::vector<char>& data) {
  return make<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_restore_memory(session, data.data(), data.size(), out, e);
  });
}

Failure reason_of(finermoe_generation* generation) {
  return failure_of([&](finermoe_error** e) { return finermoe_generation_get_error(generation, e); });
}

class Requests : public OnTheBundledModel {
 protected:
  ChatHandle chat_of(std::initializer_list<std::pair<const char*, std::string>> messages) {
    auto chat = make<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
    for (const auto& message : messages) {
      EXPECT_DONE(finermoe_chat_add(chat.get(), message.first, message.second.data(), message.second.size(), e));
    }
    return chat;
  }
  GenerationHandle ask(finermoe_session* on, finermoe_chat* chat, uint32_t flags = 0) {
    return make<GenerationHandle>(
        [&](auto** out, auto** e) { return finermoe_generation_create_chat(on, options.get(), chat, flags, out, e); });
  }
  GenerationHandle ask(finermoe_session* on) {
    return ask(on, chat_of({{"user", "Define the noun \"lighthouse\"."}}).get());
  }
  Ids encode(const std::string& text) {
    return read_array<int32_t>([&](int32_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_tokenizer_encode(tokenizer.get(), text.data(), text.size(), 0, out, nullptr, capacity, needed, e);
    });
  }
};

TEST_F(Requests, AppendedTokensAreFollowed) {
  auto generation = ask(session.get());
  Generated answer;
  take(next_event(generation.get()), answer);
  const Ids forced = encode(" building with a");
  EXPECT_DONE(finermoe_generation_append(generation.get(), forced.data(), forced.size(), e));
  Ids all = session_tokens(session.get());
  EXPECT_TRUE(std::equal(forced.rbegin(), forced.rend(), all.rbegin()));
  const auto rest = run_out(generation.get());
  EXPECT_EQ(rest.text.find("building"), std::string::npos);  // what the host knows already is not told to it

  auto other = open_session(model.get(), 256);
  EXPECT_EQ(run_out(generate(other.get(), options.get(), all).get()).ids, rest.ids);
  EXPECT_EQ(info_of(generation.get()).n_generated, rest.ids.size() + 1);
}

TEST_F(Requests, AppendingAsksWhatAPromptIsAsked) {
  auto small = open_session(model.get(), 24);
  auto generation = ask(small.get());
  const Ids wrong = {5, 4096}, many(10, 5);
  EXPECT_EQ(finermoe_generation_append(generation.get(), wrong.data(), 2, nullptr), FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
  EXPECT_EQ(finermoe_generation_append(generation.get(), many.data(), 10, nullptr), FINERMOE_ERROR_CONTEXT_LENGTH);
  EXPECT_EQ(finermoe_generation_append(generation.get(), nullptr, 1, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_DONE(finermoe_generation_append(generation.get(), nullptr, 0, e));
  EXPECT_EQ(session_tokens(small.get()).size(), 18u);
  run_out(generation.get());
  EXPECT_EQ(finermoe_generation_append(generation.get(), many.data(), 1, nullptr), FINERMOE_ERROR_STATE);
}

// Held back for a stop string and for the rest of a character: both come out.
TEST_F(Requests, WhatWasHeldBackComesWithTheNextEventOrTheEnd) {
  EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), "tower with a bell", 17, e));
  for (const bool append : {true, false}) {
    EXPECT_DONE(finermoe_session_reset(session.get(), e));
    auto generation = ask(session.get());
    Generated answer;
    for (int i = 0; i < 3; i++) take(next_event(generation.get()), answer);
    EXPECT_EQ(answer.text, "A ");  // "tower" may yet become the stop string
    if (append) {
      const Ids forced = encode(" of stone.");
      EXPECT_DONE(finermoe_generation_append(generation.get(), forced.data(), forced.size(), e));
      take(next_event(generation.get()), answer);
      EXPECT_TRUE(answer.text.starts_with("A tower")) << answer.text;
      EXPECT_FALSE(answer.text.starts_with("A tower of stone")) << answer.text;
    } else {
      finermoe_event event{};
      event.struct_size = sizeof event;
      EXPECT_DONE(finermoe_generation_finish(generation.get(), &event, e));
      take(event, answer);
      EXPECT_EQ(answer.text, "A tower");
    }
  }
}

TEST_F(Requests, AnEndByTheHostIsAFinish) {
  auto generation = ask(session.get());
  Generated answer;
  for (int i = 0; i < 3; i++) take(next_event(generation.get()), answer);
  finermoe_event event{};
  event.struct_size = sizeof event;
  EXPECT_DONE(finermoe_generation_finish(generation.get(), &event, e));
  EXPECT_EQ(event.finish_reason, FINERMOE_FINISH_HOST);
  EXPECT_EQ(event.token, -1);
  EXPECT_EQ(next_event(generation.get()).finish_reason, FINERMOE_FINISH_HOST);
  EXPECT_EQ(session_tokens(session.get()).size(), 18u + 3u);

  auto ended = ask(session.get());
  const auto finish = run_out(ended.get()).finish;
  EXPECT_DONE(finermoe_generation_finish(ended.get(), &event, e));  // the finish that had come before stays
  EXPECT_EQ(event.finish_reason, finish);
  EXPECT_EQ(event.text_length, 0u);
  event.struct_size = 0;
  EXPECT_EQ(finermoe_generation_finish(ended.get(), &event, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
}

// Interrupted behind every token, in the middle of characters and of what may become a stop string: another session of
// another copy of the model goes on to the same tokens and the same text.
TEST_F(Requests, ASavedRequestGoesOnToTheSameText) {
  auto elsewhere = open_model(golden::trained("tiny-wordnet-finermoe"));
  for (const bool sampled : {false, true}) {
    options = generation_options(model.get());
    EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), "gives warning to", 16, e));
    EXPECT_DONE(finermoe_generation_options_set_top_logprobs(options.get(), 2, e));
    EXPECT_DONE(finermoe_generation_options_add_banned_token(options.get(), 99, e));
    EXPECT_DONE(finermoe_generation_options_set_repetition_penalty(options.get(), 1.3, e));
    EXPECT_DONE(finermoe_generation_options_set_frequency_penalty(options.get(), 0.2, e));
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 24, e));
    if (sampled) {
      EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 1.7, e));
      EXPECT_DONE(finermoe_generation_options_set_top_p(options.get(), 0.97, e));
      EXPECT_DONE(finermoe_generation_options_set_seed(options.get(), 5, e));
    }
    const auto whole = run_out(ask(session.get()).get());
    EXPECT_DONE(finermoe_session_reset(session.get(), e));
    for (size_t at = 0; at <= whole.ids.size(); at += unless_emulated<size_t>(1, 5)) {
      auto generation = ask(session.get());
      Generated answer;
      for (size_t i = 0; i < at; i++) take(next_event(generation.get()), answer);
      if (at % 2 == 1 && at < whole.ids.size()) EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
      const std::vector<char> request = saved(generation.get());
      const std::vector<char> tokens = read_array<char>([&](char* out, size_t capacity, size_t* needed, auto** e) {
        return finermoe_session_save_memory(session.get(), out, capacity, needed, e);
      });
      generation.reset();
      EXPECT_DONE(finermoe_session_reset(session.get(), e));

      auto there = open_session(elsewhere.get(), 256);
      EXPECT_DONE(finermoe_session_restore_memory(there.get(), tokens.data(), tokens.size(), e));
      auto goes_on = restored(there.get(), request);
      EXPECT_EQ(info_of(goes_on.get()).n_generated, at);
      EXPECT_EQ(info_of(goes_on.get()).n_prompt, 18u);
      while (answer.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(goes_on.get()), answer);
      EXPECT_EQ(answer.ids, whole.ids) << "sampled " << sampled << ", interrupted behind " << at;
      EXPECT_EQ(answer.text, whole.text);
      EXPECT_EQ(answer.finish, whole.finish);
    }
  }
}

TEST_F(Requests, ASavedRequestThatDoesNotFitIsRefused) {
  auto generation = ask(session.get());
  for (int i = 0; i < 3; i++) next_event(generation.get());
  std::vector<char> data = saved(generation.get());
  const auto code_of = [&](finermoe_session* on, const char* bytes, size_t size) {
    finermoe_generation* none = nullptr;
    const int32_t code = finermoe_generation_restore_memory(on, bytes, size, &none, nullptr);
    EXPECT_EQ(none, nullptr);
    return code;
  };
  for (size_t at = 0; at < data.size(); at++) {
    data[at] = static_cast<char>(data[at] ^ 4);
    EXPECT_EQ(code_of(session.get(), data.data(), data.size()), FINERMOE_ERROR_SESSION_MALFORMED) << at;
    data[at] = static_cast<char>(data[at] ^ 4);
    EXPECT_EQ(code_of(session.get(), data.data(), at), FINERMOE_ERROR_SESSION_MALFORMED) << at;
  }
  auto other = open_session(model.get(), 256);
  EXPECT_EQ(code_of(other.get(), data.data(), data.size()), FINERMOE_ERROR_SESSION_MISMATCH);  // other tokens
  auto dense = open_model(golden::trained("tiny-wordnet-dense"));
  auto on_dense = open_session(dense.get(), 256);
  const Ids held = session_tokens(session.get());
  EXPECT_DONE(finermoe_session_append(on_dense.get(), held.data(), held.size(), 0, nullptr, e));
  EXPECT_EQ(code_of(on_dense.get(), data.data(), data.size()), FINERMOE_ERROR_SESSION_MISMATCH);  // another model
  EXPECT_EQ(code_of(session.get(), nullptr, 9), FINERMOE_ERROR_INVALID_ARGUMENT);
  // The tokens alone are enough: the cache can be computed anew.
  EXPECT_DONE(finermoe_session_append(other.get(), held.data(), held.size(), 0, nullptr, e));
  EXPECT_EQ(run_out(restored(other.get(), data).get()).ids, run_out(generation.get()).ids);
}

TEST_F(Requests, InfoTellsWhatWasKeptAndTheTimes) {
  auto chat = chat_of({{"user", "Define the noun \"lighthouse\"."}});
  auto first = ask(session.get(), chat.get());
  EXPECT_EQ(info_of(first.get()).n_kept, 0u);
  const auto answer = run_out(first.get());
  const auto info = info_of(first.get());
  EXPECT_EQ(info.n_prompt, 18u);
  EXPECT_GT(info.prefill_seconds, 0);
  EXPECT_GT(info.decode_seconds, 0);
  EXPECT_EQ(info.tag, 0u);
  EXPECT_DONE(finermoe_generation_set_tag(first.get(), UINT64_MAX, e));
  EXPECT_EQ(info_of(first.get()).tag, UINT64_MAX);

  EXPECT_DONE(finermoe_chat_add(chat.get(), "assistant", answer.text.data(), answer.text.size(), e));
  EXPECT_DONE(finermoe_chat_add(chat.get(), "user", "And \"ship\"?", 11, e));
  auto second = ask(session.get(), chat.get());
  EXPECT_EQ(info_of(second.get()).n_kept, 18u + answer.ids.size());  // the end of the turn too
}

// The last message goes on: with its own words the answer is the same as the one that was cut off there.
TEST_F(Requests, TheLastMessageCanBeContinued) {
  const auto whole = run_out(ask(session.get()).get());
  auto chat = chat_of({{"user", "Define the noun \"lighthouse\"."}, {"assistant", "A tower with a"}});
  auto generation = ask(session.get(), chat.get(), FINERMOE_TEXT_CONTINUE_LAST);
  EXPECT_EQ("A tower with a" + run_out(generation.get()).text, whole.text);
  const auto rendered = [&](finermoe_chat* of, uint32_t flags) {
    const auto text = read_array<char>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_chat_render(of, tokenizer.get(), flags, out, capacity, needed, e);
    });
    return std::string(text.begin(), text.end());
  };
  EXPECT_TRUE(rendered(chat.get(), FINERMOE_TEXT_CONTINUE_LAST).ends_with("<|im_start|>assistant\nA tower with a"));
  EXPECT_TRUE(rendered(chat.get(), FINERMOE_TEXT_NO_GENERATION_PROMPT).ends_with("A tower with a<|im_end|>\n"));
  finermoe_generation* none = nullptr;
  EXPECT_EQ(finermoe_generation_create_chat(session.get(), nullptr, chat.get(), 1, &none, nullptr),
            FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST_F(Requests, AChatCanBeReadAndEdited) {
  auto chat = chat_of({{"system", "Be brief."}, {"user", "One"}, {"assistant", "Two"}});
  EXPECT_EQ(finermoe_chat_count(chat.get()), 3u);
  EXPECT_EQ(finermoe_chat_count(nullptr), 0u);
  const auto message = [&](size_t index) {
    finermoe_chat_message out{};
    out.struct_size = sizeof out;
    EXPECT_DONE(finermoe_chat_get(chat.get(), index, &out, e));
    EXPECT_EQ(out.text[out.text_length], '\0');
    return std::string(out.role) + ": " + out.text;
  };
  EXPECT_EQ(message(1), "user: One");
  EXPECT_DONE(finermoe_chat_set(chat.get(), 1, "Th\xffree", 6, e));
  EXPECT_EQ(message(1), "user: Th\xef\xbf\xbdree");
  EXPECT_DONE(finermoe_chat_set(chat.get(), 2, nullptr, 0, e));
  EXPECT_EQ(message(2), "assistant: ");
  finermoe_chat_message out{};
  out.struct_size = sizeof out;
  EXPECT_EQ(finermoe_chat_get(chat.get(), 3, &out, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(finermoe_chat_set(chat.get(), 3, "", 0, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(finermoe_chat_truncate(chat.get(), 4, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(finermoe_chat_remove(chat.get(), 2, 1, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(finermoe_chat_remove(chat.get(), 1, 4, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_DONE(finermoe_chat_remove(chat.get(), 1, 2, e));
  EXPECT_EQ(finermoe_chat_count(chat.get()), 2u);
  EXPECT_EQ(message(1), "assistant: ");
  EXPECT_DONE(finermoe_chat_truncate(chat.get(), 1, e));
  EXPECT_EQ(finermoe_chat_count(chat.get()), 1u);
  EXPECT_EQ(message(0), "system: Be brief.");
}

TEST_F(Requests, OptionsCanBeCopied) {
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 4, e));
  auto copy = make<GenerationOptions>(
      [&](auto** out, auto** e) { return finermoe_generation_options_copy(options.get(), out, e); });
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 9, e));
  finermoe_generation_options_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_generation_options_get_info(copy.get(), &info, e));
  EXPECT_EQ(info.max_tokens, 4u);
  EXPECT_EQ(info.n_stop_tokens, 2u);
  EXPECT_EQ(finermoe_generation_options_add_stop_token(copy.get(), 4096, nullptr), FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
}

TEST_F(Requests, NothingIsPreparedAfterTheFinish) {
  auto generation = ask(session.get());
  EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
  finermoe_event event{};
  event.struct_size = sizeof event;
  EXPECT_DONE(finermoe_generation_finish(generation.get(), &event, e));
  EXPECT_EQ(info_of(generation.get()).prepared, 0);
  EXPECT_EQ(finermoe_generation_prepare(generation.get(), nullptr, nullptr), FINERMOE_ERROR_STATE);
  EXPECT_EQ(finermoe_generation_get_logits(generation.get(), nullptr, 0, nullptr, nullptr), FINERMOE_ERROR_STATE);
}

TEST_F(Requests, AStopStringIsComparedAsTheTextThatComes) {
  EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), "tow\xff", 4, e));
  EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), "light", 5, e));
  EXPECT_EQ(run_out(ask(session.get()).get()).text, "A tower with a ");
}

// What the session holds is what the next token follows, whoever changed it.
TEST_F(Requests, ASessionThatWasChangedIsComputedAgain) {
  auto generation = ask(session.get());
  EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
  EXPECT_EQ(info_of(generation.get()).prepared, 1);
  const Ids more = encode("A small");
  EXPECT_DONE(finermoe_session_append(session.get(), more.data(), more.size(), 0, nullptr, e));
  EXPECT_EQ(info_of(generation.get()).prepared, 0);
  const Ids held = session_tokens(session.get());
  auto other = open_session(model.get(), 256);
  EXPECT_EQ(next_event(generation.get()).token, next_event(generate(other.get(), options.get(), held).get()).token);
  EXPECT_DONE(finermoe_session_reset(session.get(), e));
  finermoe_event event{};
  event.struct_size = sizeof event;
  EXPECT_EQ(finermoe_generation_next(generation.get(), nullptr, &event, nullptr), FINERMOE_ERROR_STATE);
  EXPECT_EQ(reason_of(generation.get()).code, FINERMOE_ERROR_STATE);
  EXPECT_DONE(finermoe_session_append(session.get(), held.data(), held.size(), 0, nullptr, e));
  next_event(generation.get());
  EXPECT_EQ(reason_of(generation.get()).code, FINERMOE_OK);
}

TEST_F(Requests, TwoOnOneSessionTakeTurns) {
  auto a = generate(session.get(), options.get(), {1, 2, 3}), b = generate(session.get(), options.get(), {4, 5});
  for (int i = 0; i < 4; i++) {
    const Ids held = session_tokens(session.get());
    auto other = open_session(model.get(), 256);
    const int32_t token = next_event(i % 2 == 0 ? a.get() : b.get()).token;
    EXPECT_EQ(token, next_event(generate(other.get(), options.get(), held).get()).token);
  }
}

struct Joint {
  std::map<uint64_t, Generated> of;
  std::vector<uint64_t> order;
};
finermoe_event batch_event(finermoe_batch* batch, uint64_t* tag) {
  finermoe_event event{};
  event.struct_size = sizeof event;
  EXPECT_DONE(finermoe_batch_next(batch, nullptr, tag, &event, e));
  return event;
}

TEST_F(Requests, ABatchGivesItsEventsOneAfterTheOther) {
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 12, e));
  const std::vector<Ids> prompts = {{1, 2, 3}, {40, 41, 42, 43}, {100}, {649, 2329, 270}};
  std::vector<Generated> alone;
  for (const Ids& prompt : prompts) {
    auto on = open_session(model.get(), 64);
    alone.push_back(run_out(generate(on.get(), options.get(), prompt).get()));
  }
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  const auto join = [&](size_t i) {
    auto on = open_session(model.get(), 64);
    auto generation = generate(on.get(), options.get(), prompts[i]);
    EXPECT_DONE(finermoe_generation_set_tag(generation.get(), 10 + i, e));
    EXPECT_DONE(finermoe_batch_add(batch.get(), generation.get(), e));
  };  // the batch alone keeps them alive
  Joint joint;
  for (size_t i = 0; i < 3; i++) join(i);
  for (bool has_joined = false;;) {
    uint64_t tag = 99;
    const auto event = batch_event(batch.get(), &tag);
    if (HasFailure()) return;
    if (event.token < 0 && event.finish_reason == FINERMOE_FINISH_NONE) {
      EXPECT_EQ(tag, 0u);
      break;
    }
    take(event, joint.of[tag]);
    joint.order.push_back(tag);
    if (!has_joined && event.finish_reason != FINERMOE_FINISH_NONE) join(3);  // on the place of the first who left
    has_joined = has_joined || event.finish_reason != FINERMOE_FINISH_NONE;
  }
  for (size_t i = 0; i < prompts.size(); i++) {
    EXPECT_EQ(joint.of[10 + i].ids, alone[i].ids) << i;
    EXPECT_EQ(joint.of[10 + i].text, alone[i].text) << i;
    EXPECT_EQ(joint.of[10 + i].finish, alone[i].finish) << i;
  }
  EXPECT_EQ((std::vector<uint64_t>(joint.order.begin(), joint.order.begin() + 6)),
            (std::vector<uint64_t>{10, 11, 12, 10, 11, 12}));
  size_t n_active = 99;
  EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
  EXPECT_EQ(n_active, 0u);
}

TEST(BatchEvents, AMemberThatFailsLeavesWithAnEventOfItsOwn) {
  const ChangedModel changed(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  changed.fill("model.embed_tokens.weight", size_t{7} * 64, 64, std::numeric_limits<float>::quiet_NaN());
  auto model = open_model(changed.path());
  auto options = generation_options(model.get());
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 5, e));
  EXPECT_DONE(finermoe_generation_options_set_ignore_eos(options.get(), 1, e));
  const std::vector<Ids> prompts = {{1, 2}, {3, 7, 4}, {5, 6, 8}, {9}};
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> members;
  for (size_t i = 0; i < prompts.size(); i++) {
    sessions.push_back(open_session(model.get(), 32));
    members.push_back(generate(sessions.back().get(), options.get(), prompts[i]));
    EXPECT_DONE(finermoe_generation_set_tag(members.back().get(), i, e));
    EXPECT_DONE(finermoe_batch_add(batch.get(), members.back().get(), e));
  }
  finermoe_session_close(sessions[3].get());
  std::map<uint64_t, Generated> of;
  for (uint64_t tag = 0;;) {
    const auto event = batch_event(batch.get(), &tag);
    if (testing::Test::HasFailure() || (event.token < 0 && event.finish_reason == FINERMOE_FINISH_NONE)) break;
    EXPECT_EQ(of[tag].finish, FINERMOE_FINISH_NONE) << "an event behind the last one";
    take(event, of[tag]);
  }
  for (const size_t good : {0, 2}) {
    EXPECT_EQ(of[good].ids.size(), 5u);
    EXPECT_EQ(of[good].finish, FINERMOE_FINISH_MAX_TOKENS);
    EXPECT_EQ(reason_of(members[good].get()).code, FINERMOE_OK);
    auto alone = open_session(model.get(), 32);
    EXPECT_EQ(of[good].ids, run_out(generate(alone.get(), options.get(), prompts[good]).get()).ids);
  }
  EXPECT_EQ(of[1].finish, FINERMOE_FINISH_ERROR);
  EXPECT_EQ(reason_of(members[1].get()).code, FINERMOE_ERROR_NOT_FINITE);
  EXPECT_NE(reason_of(members[1].get()).message.find("router"), std::string::npos);
  EXPECT_EQ(of[3].finish, FINERMOE_FINISH_ERROR);
  EXPECT_EQ(reason_of(members[3].get()).code, FINERMOE_ERROR_CLOSED);
  // It fails again, and is computed once what was wrong is gone.
  EXPECT_DONE(finermoe_batch_add(batch.get(), members[1].get(), e));
  uint64_t tag = 0;
  EXPECT_EQ(batch_event(batch.get(), &tag).finish_reason, FINERMOE_FINISH_ERROR);
  EXPECT_DONE(finermoe_session_truncate(sessions[1].get(), 1, e));
  EXPECT_DONE(finermoe_batch_add(batch.get(), members[1].get(), e));
  EXPECT_GE(batch_event(batch.get(), &tag).token, 0);
  EXPECT_EQ(tag, 1u);
  EXPECT_EQ(reason_of(members[1].get()).code, FINERMOE_OK);
}

TEST_F(Requests, ABatchWhoseMembersOthersUseIsBusyAndDoesNotSpin) {
  struct Blocked {
    finermoe_batch* batch;
    int32_t code = FINERMOE_OK;
  };
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  auto generation = generate(session.get(), options.get(), {1, 2, 3, 4});
  EXPECT_DONE(finermoe_batch_add(batch.get(), generation.get(), e));
  Blocked blocked{batch.get()};
  const auto inside = [](void* user, const char*, uint64_t, uint64_t) -> int32_t {
    auto* state = static_cast<Blocked*>(user);
    finermoe_event event{};
    event.struct_size = sizeof event;
    uint64_t tag = 0;
    state->code = finermoe_batch_next(state->batch, nullptr, &tag, &event, nullptr);
    return 0;
  };
  EXPECT_DONE(finermoe_session_set_progress(session.get(), inside, &blocked, e));
  EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));  // uses it while the batch is asked
  EXPECT_EQ(blocked.code, FINERMOE_ERROR_BUSY);
  EXPECT_DONE(finermoe_session_set_progress(session.get(), nullptr, nullptr, e));
  uint64_t tag = 0;
  EXPECT_GE(batch_event(batch.get(), &tag).token, 0);
}

TEST_F(Requests, ACancelledOrClosedBatchGivesNoEvent) {
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  auto generation = generate(session.get(), options.get(), {1, 2, 3, 4});
  EXPECT_DONE(finermoe_batch_add(batch.get(), generation.get(), e));
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  finermoe_cancel_request(cancel.get());
  finermoe_event event{};
  event.struct_size = sizeof event;
  uint64_t tag = 99;
  EXPECT_EQ(finermoe_batch_next(batch.get(), cancel.get(), &tag, &event, nullptr), FINERMOE_ERROR_CANCELLED);
  EXPECT_EQ(tag, 99u);
  event.struct_size = 0;
  EXPECT_EQ(finermoe_batch_next(batch.get(), nullptr, &tag, &event, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_GE(batch_event(batch.get(), &tag).token, 0);
  finermoe_batch_close(batch.get());
  event.struct_size = sizeof event;
  EXPECT_EQ(finermoe_batch_next(batch.get(), nullptr, &tag, &event, nullptr), FINERMOE_ERROR_CLOSED);
}

}  // namespace
