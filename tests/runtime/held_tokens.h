// A session on the bundled chat model, and what tests ask of the tokens that it holds.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bundled_model.h"

using Ids = std::vector<int32_t>;

inline const std::string question = "Define the noun \"lighthouse\".";
constexpr size_t n_question = 18;  // tokens of it as a rendered chat

inline finermoe_session_info info_of(finermoe_session* session) {
  finermoe_session_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_session_get_info(session, &info, e));
  return info;
}

inline std::vector<char> saved(finermoe_session* session) {
  return read_array<char>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_session_save_memory(session, out, capacity, needed, e);
  });
}

inline void append(finermoe_session* session, const Ids& ids, int32_t logits = FINERMOE_LOGITS_NONE) {
  EXPECT_DONE(finermoe_session_append(session, ids.data(), ids.size(), logits, nullptr, e));
}

// Logits behind the last token, from a session that computed it all in one go.
inline std::vector<float> logits_behind(finermoe_model* model, const Ids& ids) {
  auto session = open_session(model, 256);
  append(session.get(), ids, FINERMOE_LOGITS_LAST);
  return session_logits(session.get(), 0);
}

inline std::vector<double> log_softmax(const std::vector<float>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - largest);
  std::vector<double> out;
  for (const float x : logits) out.push_back(x - largest - std::log(sum));
  return out;
}

class HeldTokens : public OnTheBundledModel {
 protected:
  ChatHandle chat = make<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });

  void SetUp() override { say("user", question); }
  void say(const char* role, const std::string& text) {
    EXPECT_DONE(finermoe_chat_add(chat.get(), role, text.data(), text.size(), e));
  }
  GenerationHandle ask(finermoe_session* on, uint32_t flags = 0) {
    return make<GenerationHandle>([&](auto** out, auto** e) {
      return finermoe_generation_create_chat(on, options.get(), chat.get(), flags, out, e);
    });
  }
  Ids prompt() {
    return read_array<int32_t>([&](int32_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_chat_encode(chat.get(), tokenizer.get(), 0, out, capacity, needed, e);
    });
  }
  // The prompt and the answer to it, stop token included.
  Ids whole_turn() {
    auto other = open_session(model.get(), 256);
    Ids ids = prompt();
    const Ids answer = run_out(ask(other.get()).get()).ids;
    ids.insert(ids.end(), answer.begin(), answer.end());
    return ids;
  }
};
