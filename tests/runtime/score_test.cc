// What a pass gives of its tokens beside logits: scores, and hidden states.
#include <cstring>
#include <limits>
#include <numeric>

#include "../support/changed_model.h"
#include "held_tokens.h"

namespace {

using Score = HeldTokens;

struct Scores {
  std::vector<float> logprobs;
  Ids likeliest;
};
Scores score(finermoe_session* session, const Ids& ids, finermoe_cancel* cancel = nullptr) {
  Scores out{std::vector<float>(ids.size()), Ids(ids.size())};
  size_t needed = 0;
  EXPECT_DONE(finermoe_session_score(session, ids.data(), ids.size(), cancel, out.logprobs.data(), out.likeliest.data(),
                                     ids.size(), &needed, e));
  EXPECT_EQ(needed, ids.size());
  return out;
}

TEST_F(Score, ScoresAreTheLogProbabilitiesOfTheLogits) {
  const Ids ids = whole_turn();
  auto other = open_session(model.get(), 256);
  append(other.get(), ids, FINERMOE_LOGITS_ALL);
  const auto expect_scores = [&](const Scores& found, size_t begin) {
    for (size_t i = 0; i < found.logprobs.size(); i++) {
      if (begin + i == 0) {
        EXPECT_TRUE(std::isnan(found.logprobs[i]));
        EXPECT_EQ(found.likeliest[i], -1);
        continue;
      }
      const auto logits = session_logits(other.get(), begin + i - 1);
      const auto id = static_cast<size_t>(ids[begin + i]);
      EXPECT_NEAR(found.logprobs[i], log_softmax(logits)[id], 1e-3) << begin + i;
      EXPECT_EQ(found.likeliest[i], std::max_element(logits.begin(), logits.end()) - logits.begin()) << begin + i;
    }
  };
  for (const size_t chunk : {size_t{0}, size_t{7}}) {
    auto on = open_session(model.get(), 256, chunk);
    expect_scores(score(on.get(), ids), 0);
    EXPECT_EQ(session_tokens(on.get()), ids);
    EXPECT_EQ(info_of(on.get()).n_logits, 0u);
    // In pieces, each behind what the session holds, computed or not.
    EXPECT_DONE(finermoe_session_reset(on.get(), e));
    size_t at = 0;
    for (const size_t n : {1, 4, 1, 9}) {
      expect_scores(
          score(on.get(), {ids.begin() + static_cast<ptrdiff_t>(at), ids.begin() + static_cast<ptrdiff_t>(at + n)}),
          at);
      at += n;
    }
    EXPECT_DONE(finermoe_session_reset(on.get(), e));
    auto waiting = generate(on.get(), options.get(), {ids.begin(), ids.begin() + 3});
    expect_scores(score(on.get(), {ids.begin() + 3, ids.begin() + 10}), 3);
  }
}

// Memory does not grow with the number of tokens, and what an append has kept is not computed again.
TEST_F(Score, AScoreHoldsFewLogitsAtATime) {
  auto runtime = open_runtime(1);
  auto counted = open_model(golden::trained("tiny-wordnet-finermoe"), runtime.get());
  auto on = open_session(counted.get(), 256);
  const auto peak = [&] {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
    return info.memory_peak;
  };
  const uint64_t before = peak();
  score(on.get(), Ids(200, 17));
  EXPECT_LE(peak() - before, 64u * 4096u * sizeof(float));

  auto trace = make<TraceHandle>(
      [&](auto** out, auto** e) { return finermoe_trace_create(counted.get(), FINERMOE_TRACE_ROUTES, out, e); });
  const auto n_computed = [&](int32_t logits) {
    EXPECT_DONE(finermoe_session_reset(on.get(), e));
    EXPECT_DONE(finermoe_trace_clear(trace.get(), e));
    EXPECT_DONE(finermoe_session_set_trace(on.get(), trace.get(), e));
    append(on.get(), {1, 2, 3}, logits);
    const Scores found = score(on.get(), {4, 5});
    finermoe_trace_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_trace_get_info(trace.get(), &info, e));
    return std::make_pair(info.n_tokens, found.likeliest);
  };
  const auto kept = n_computed(FINERMOE_LOGITS_LAST), not_kept = n_computed(FINERMOE_LOGITS_NONE);
  EXPECT_EQ(kept.first, 5u);
  EXPECT_EQ(not_kept.first, 6u);
  EXPECT_EQ(kept.second, not_kept.second);

  // What was kept is no longer that of the last token once others have followed.
  EXPECT_DONE(finermoe_session_reset(on.get(), e));
  append(on.get(), {1, 2, 3}, FINERMOE_LOGITS_LAST);
  auto generation = generate(on.get(), generation_options(counted.get()).get(), {4});
  EXPECT_DONE(finermoe_generation_prepare(generation.get(), nullptr, e));
  auto other = open_session(counted.get(), 64);
  append(other.get(), {1, 2, 3, 4});
  EXPECT_EQ(score(on.get(), {5}).likeliest, score(other.get(), {5}).likeliest);
}

TEST_F(Score, AScoreThatFailsLeavesTheSession) {
  append(session.get(), {1, 2, 3});
  const Ids ids = {4, 5, 6};
  float logprobs[3];
  size_t needed = 0;
  EXPECT_EQ(finermoe_session_score(session.get(), ids.data(), 3, nullptr, logprobs, nullptr, 2, &needed, nullptr),
            FINERMOE_ERROR_BUFFER_TOO_SMALL);
  EXPECT_EQ(needed, 3u);
  EXPECT_EQ(finermoe_session_score(session.get(), ids.data(), 3, nullptr, nullptr, nullptr, 3, &needed, nullptr),
            FINERMOE_ERROR_INVALID_ARGUMENT);
  const Ids wrong = {4, 5000, 6};
  EXPECT_EQ(finermoe_session_score(session.get(), wrong.data(), 3, nullptr, logprobs, nullptr, 3, &needed, nullptr),
            FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  finermoe_cancel_request(cancel.get());
  EXPECT_EQ(finermoe_session_score(session.get(), ids.data(), 3, cancel.get(), logprobs, nullptr, 3, &needed, nullptr),
            FINERMOE_ERROR_CANCELLED);
  EXPECT_EQ(session_tokens(session.get()), (Ids{1, 2, 3}));
  EXPECT_DONE(finermoe_session_score(session.get(), nullptr, 0, nullptr, nullptr, nullptr, 0, &needed, e));
  EXPECT_DONE(finermoe_session_score(session.get(), ids.data(), 3, nullptr, logprobs, nullptr, 3, &needed, e));
  EXPECT_EQ(session_tokens(session.get()), (Ids{1, 2, 3, 4, 5, 6}));
}

TEST_F(Score, AScoreWithoutFiniteLogitsIsAnError) {
  const ChangedModel changed(golden::source_root() + "/tests/data/shapes/dense-tied");
  changed.fill("model.embed_tokens.weight", size_t{7} * 64, 64, std::numeric_limits<float>::quiet_NaN());
  auto broken = open_model(changed.path());
  auto on = open_session(broken.get());
  append(on.get(), {1, 2});
  const Ids ids = {3, 4};
  float logprobs[2] = {5, 5};
  EXPECT_EQ(finermoe_session_score(on.get(), ids.data(), 2, nullptr, logprobs, nullptr, 2, nullptr, nullptr),
            FINERMOE_ERROR_NOT_FINITE);
  EXPECT_EQ(logprobs[0], 5);
  EXPECT_EQ(session_tokens(on.get()), (Ids{1, 2}));
}

SessionHandle with_hidden(finermoe_model* model, int32_t hidden, size_t chunk = 0) {
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_hidden(options.get(), hidden, e));
  EXPECT_DONE(finermoe_session_options_set_chunk(options.get(), chunk, e));
  return make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
}
std::vector<float> hidden_of(finermoe_session* session, size_t row) {
  return read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_session_hidden(session, row, out, capacity, needed, e);
  });
}

// The head of this model is its embedding: hidden states times embedding are the authors' logits.
TEST(Hidden, TimesTheEmbeddingItGivesTheLogits) {
  const std::string path = golden::source_root() + "/tests/data/shapes/dense-tied";
  auto model = open_model(path);
  constexpr size_t h = 64, vocab = 320;
  std::vector<float> embedding;
  {
    const std::string file = golden::read_file(path + "/model.safetensors");
    uint64_t header_length;
    std::memcpy(&header_length, file.data(), 8);
    const auto tensor = nlohmann::json::parse(file.substr(8, header_length))["model.embed_tokens.weight"];
    const char* data = file.data() + 8 + header_length + tensor["data_offsets"][0].get<size_t>();
    embedding.resize(vocab * h);
    if (tensor["dtype"] == "F32") {
      std::memcpy(embedding.data(), data, embedding.size() * sizeof(float));
    } else {
      ASSERT_EQ(tensor["dtype"], "BF16");
      for (size_t i = 0; i < embedding.size(); i++) {
        uint16_t half;
        std::memcpy(&half, data + 2 * i, 2);
        const uint32_t bits = uint32_t{half} << 16;
        std::memcpy(&embedding[i], &bits, 4);
      }
    }
  }
  const Ids ids = {17, 250, 3, 99, 120, 7, 7, 301};
  for (const int32_t hidden : {FINERMOE_HIDDEN_KEEP, FINERMOE_HIDDEN_ONLY}) {
    for (const size_t chunk : {size_t{0}, size_t{3}}) {
      auto session = with_hidden(model.get(), hidden, chunk);
      append(session.get(), ids, FINERMOE_LOGITS_ALL);
      const auto info = info_of(session.get());
      EXPECT_EQ(info.n_hidden, ids.size());
      EXPECT_EQ(info.n_logits, hidden == FINERMOE_HIDDEN_KEEP ? ids.size() : 0);
      // In passes of the same rows, whose number decides the order of sums where BF16 has no instruction of its own.
      auto plain = open_session(model.get(), 0, chunk);
      append(plain.get(), ids, FINERMOE_LOGITS_ALL);
      for (size_t row = 0; row < ids.size(); row++) {
        const auto state = hidden_of(session.get(), row), logits = session_logits(plain.get(), row);
        ASSERT_EQ(state.size(), h);
        for (size_t id = 0; id < vocab; id++) {
          EXPECT_NEAR(std::inner_product(state.begin(), state.end(), &embedding[id * h], 0.0), logits[id], 2e-4);
        }
        if (hidden == FINERMOE_HIDDEN_KEEP) {
          EXPECT_EQ(session_logits(session.get(), row), logits);
        }
      }
    }
  }
}

TEST(Hidden, IsKeptForTheRowsThatAreNamedAndThenForgotten) {
  auto model = open_model(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  auto session = with_hidden(model.get(), FINERMOE_HIDDEN_ONLY), all = with_hidden(model.get(), FINERMOE_HIDDEN_KEEP);
  const Ids ids = {1, 2, 3, 4};
  const std::vector<size_t> rows = {1, 3};
  EXPECT_DONE(finermoe_session_append_rows(session.get(), ids.data(), 4, rows.data(), 2, nullptr, e));
  append(all.get(), ids, FINERMOE_LOGITS_ALL);
  EXPECT_EQ(hidden_of(session.get(), 0), hidden_of(all.get(), 1));
  EXPECT_EQ(hidden_of(session.get(), 1), hidden_of(all.get(), 3));
  EXPECT_EQ(finermoe_session_hidden(session.get(), 2, nullptr, 0, nullptr, nullptr), FINERMOE_ERROR_STATE);
  EXPECT_EQ(finermoe_session_logits(session.get(), 0, nullptr, 0, nullptr, nullptr), FINERMOE_ERROR_STATE);
  append(session.get(), {5}, FINERMOE_LOGITS_NONE);
  EXPECT_EQ(finermoe_session_hidden(session.get(), 0, nullptr, 0, nullptr, nullptr), FINERMOE_ERROR_STATE);
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_EQ(finermoe_session_options_set_hidden(options.get(), 3, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(finermoe_session_options_set_hidden(options.get(), -1, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
}

}  // namespace
