// Drafts by another model: the tokens are those of a request without, whatever becomes of that model.
#include <cmath>
#include <map>
#include <thread>

#include "../support/changed_model.h"
#include "drafts.h"
#include "whatever_it_costs.h"

namespace {

constexpr const char *dense = "tiny-wordnet-dense", *finermoe = "tiny-wordnet-finermoe";

void set_draft(finermoe_generation_options* options, finermoe_model* by, size_t n_draft) {
  EXPECT_DONE(finermoe_generation_options_set_draft(options, by, n_draft, e));
  draft_whatever_it_costs(options);
}

class ModelDraft : public Drafts {
 protected:
  void set_drafts(finermoe_generation_options* to, size_t n_draft) override {
    if (n_draft > 0) set_draft(to, draft_model.get(), n_draft);
  }
  Generated without(const Ids& prompt, const OptionSetter& setup = {}) {
    auto on = open_session(model.get(), 600);
    return run_out(generate(on.get(), options_with(model.get(), 0, setup).get(), prompt).get());
  }
  // What a request gives whose drafts a model makes, and how many of them.
  uint64_t expect_equal_with(finermoe_model* by, const std::string& what) {
    auto on = open_session(model.get(), 600);
    auto made = options_with(model.get(), 0);
    set_draft(made.get(), by, 8);
    auto generation = generate(on.get(), made.get(), repeating_);
    expect_equal(run_out(generation.get()), without(repeating_), what);
    return info_of(generation.get()).n_drafted;
  }

  ModelHandle draft_model = open_model(golden::trained(dense));
};

TEST_F(ModelDraft, GivesTheTokensOfEachFormatAndPrecision) {
  const std::string source = golden::trained(finermoe);
  for (const std::string& path : {source, quantized(source, FINERMOE_DTYPE_Q8), quantized(source, FINERMOE_DTYPE_Q4)}) {
    const ModelHandle of = open_model(path);
    uint64_t n_accepted = 0;
    for (const int32_t precision : {FINERMOE_PRECISION_EXACT, FINERMOE_PRECISION_FAST}) {
      for (const Ids& prompt : prompts()) {
        auto on = open_in(of.get(), precision, FINERMOE_DTYPE_F32);
        auto plain_on = open_in(of.get(), precision, FINERMOE_DTYPE_F32);
        auto with = generate(on.get(), options_with(of.get(), 8).get(), prompt);
        auto plain = generate(plain_on.get(), options_with(of.get(), 0).get(), prompt);
        expect_equal(run_out(with.get()), run_out(plain.get()), path + ", precision " + std::to_string(precision));
        EXPECT_EQ(saved(on.get()), saved(plain_on.get()));
        n_accepted += info_of(with.get()).n_accepted;
      }
    }
    EXPECT_GT(n_accepted, 100u) << path;
  }
}

TEST_F(ModelDraft, OfTheSameModelIsRight) {
  auto on = open_session(model.get(), 600);
  auto made = options_with(model.get(), 0);
  set_draft(made.get(), model.get(), 5);
  auto generation = generate(on.get(), made.get(), repeating_);
  expect_equal(run_out(generation.get()), without(repeating_), "drafts by the model itself");
  const auto info = info_of(generation.get());
  EXPECT_GT(info.n_drafted, 0u);
  EXPECT_EQ(info.n_accepted, info.n_drafted);
}

// The dense model is the one that the other came from, and both have learned the definitions.
TEST_F(ModelDraft, IsRightForMostTokensOfADefinition) {
  const auto words = nlohmann::json::parse(golden::read_file(golden::trained(finermoe) + "/words.json"));
  uint64_t n_drafted = 0, n_accepted = 0;
  for (size_t i = 0; i < 12; i++) {
    const std::string text =
        "Define the " + words[i * 200][1].get<std::string>() + " \"" + words[i * 200][0].get<std::string>() + "\".";
    const auto ask_for = [&](size_t n_draft, finermoe_session* on) {
      auto made = generation_options(model.get());
      set_draft(made.get(), draft_model.get(), n_draft);
      auto about = make<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
      EXPECT_DONE(finermoe_chat_add(about.get(), "user", text.data(), text.size(), e));
      return make<GenerationHandle>([&](auto** out, auto** e) {
        return finermoe_generation_create_chat(on, made.get(), about.get(), 0, out, e);
      });
    };
    auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
    auto with = ask_for(1, on.get()), plain = ask_for(0, plain_on.get());
    expect_equal(run_out(with.get()), run_out(plain.get()), text);
    n_drafted += info_of(with.get()).n_drafted;
    n_accepted += info_of(with.get()).n_accepted;
  }
  EXPECT_GT(n_drafted, 60u);
  EXPECT_GE(static_cast<double>(n_accepted), 0.9 * static_cast<double>(n_drafted)) << n_drafted;
}

// With the time of each pass as this machine has it: how many are drafted is the machine's business, but some are, so
// that their time is known.
TEST_F(ModelDraft, DraftsAsManyAsPay) {
  auto on = open_session(model.get(), 600);
  auto made = options_with(model.get(), 0);
  EXPECT_DONE(finermoe_generation_options_set_draft(made.get(), draft_model.get(), 8, e));
  auto generation = generate(on.get(), made.get(), repeating_);
  expect_equal(run_out(generation.get()), without(repeating_), "at the pace of this machine");
  EXPECT_GT(info_of(generation.get()).n_drafted, 0u);
}

TEST_F(ModelDraft, DoesNotReadALongPromptForAShortAnswer) {
  const RuntimeHandle apart = open_runtime(1);
  const ModelHandle by = open_model(golden::trained(dense), apart.get());
  const auto memory = [&] {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(apart.get(), &info, e));
    return info.memory_used;
  };
  const uint64_t before = memory();
  auto on = open_session(model.get(), 600);
  auto made = options_with(model.get(), 0);
  EXPECT_DONE(finermoe_generation_options_set_draft(made.get(), by.get(), 8, e));
  auto generation = generate(on.get(), made.get(), prompts()[3]);  // 290 tokens
  for (size_t i = 0; i < 18; i++) next_event(generation.get());
  EXPECT_EQ(memory(), before);
  run_out(generation.get());
  EXPECT_GT(memory(), before);
}

TEST_F(ModelDraft, ReadsALongPromptAChunkAtATime) {
  auto on = open_session(model.get(), 600, 64), plain_on = open_session(model.get(), 600, 64);
  auto with = generate(on.get(), options_with(model.get(), 8).get(), prompts()[3]);
  auto plain = generate(plain_on.get(), options_with(model.get(), 0).get(), prompts()[3]);
  Generated found, expected = run_out(plain.get());
  for (size_t i = 0; i < 4; i++) take(next_event(with.get()), found);  // 290 tokens are 5 chunks
  EXPECT_EQ(info_of(with.get()).n_drafted, 0u);
  while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(with.get()), found);
  expect_equal(found, expected, "behind a long prompt");
  EXPECT_GT(info_of(with.get()).n_drafted, 0u);
}

TEST_F(ModelDraft, GoesOnWithAnotherContext) {
  auto on = open_session(model.get(), 40), plain_on = open_session(model.get(), 40);
  auto with = generate(on.get(), options_with(model.get(), 8).get(), repeating_);
  auto plain = generate(plain_on.get(), options_with(model.get(), 0).get(), repeating_);
  Generated found, expected;
  for (size_t i = 0; i < 20; i++) take(next_event(with.get()), found), take(next_event(plain.get()), expected);
  EXPECT_DONE(finermoe_session_set_context_length(on.get(), 200, e));
  EXPECT_DONE(finermoe_session_set_context_length(plain_on.get(), 200, e));
  const uint64_t n_before = info_of(with.get()).n_drafted;
  expect_equal(run_out(with.get()), run_out(plain.get()), "in a longer context");
  EXPECT_GT(info_of(with.get()).n_drafted, n_before);
}

// --- What becomes of the draft model ---

TEST_F(ModelDraft, IsKeptOpenByTheOptionsAndTheRequest) {
  auto on = open_session(model.get(), 600);
  auto made = options_with(model.get(), 8);
  draft_model.reset();
  auto generation = generate(on.get(), made.get(), repeating_);
  made.reset();
  expect_equal(run_out(generation.get()), without(repeating_), "after the handle of the draft model was freed");
  EXPECT_GT(info_of(generation.get()).n_drafted, 0u);
}

TEST_F(ModelDraft, IsLeftOutOnceItIsClosed) {
  auto on = open_session(model.get(), 600);
  auto with = generate(on.get(), options_with(model.get(), 8).get(), repeating_);
  Generated found;
  advance_to_drafts(with.get(), found);
  finermoe_model_close(draft_model.get());
  const uint64_t n_before = info_of(with.get()).n_drafted;
  while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(with.get()), found);
  expect_equal(found, without(repeating_), "after the draft model was closed");
  EXPECT_EQ(info_of(with.get()).n_drafted, n_before);
}

TEST_F(ModelDraft, IsLeftOutWhereItHasNoMemory) {
  const RuntimeHandle small = open_runtime(1, FINERMOE_ISA_AUTO, 200000);
  EXPECT_EQ(expect_equal_with(open_model(golden::trained(dense), small.get()).get(), "without memory"), 0u);
}

TEST_F(ModelDraft, IsLeftOutWhereItIsNotFinite) {
  const ChangedModel changed(golden::trained(dense));
  changed.fill("model.norm.weight", 0, 1, NAN);
  EXPECT_EQ(expect_equal_with(open_model(changed.path()).get(), "without finite logits"), 0u);
}

// Random weights: drafts that are wrong.
TEST_F(ModelDraft, MayHaveMoreRowsWithoutATokenOrFewer) {
  const auto config = nlohmann::json::parse(golden::read_file(golden::trained(dense) + "/config.json"));
  const TemporaryDirectory folder;
  for (const auto& [name, n_rows] : {std::pair{"fewer", 4080}, std::pair{"more", 4200}}) {
    const ChangedModel described(golden::trained(dense));
    auto changed = config;
    changed["vocab_size"] = n_rows;
    described.write("config.json", changed.dump());
    const std::string path = folder.path + "/" + name;
    EXPECT_DONE(finermoe_synthesize_run(described.path().c_str(), path.c_str(), -1, nullptr, e));
    EXPECT_GT(expect_equal_with(open_model(path).get(), name), 0u);
  }
}

TEST_F(ModelDraft, RefusesAnotherVocabulary) {
  const auto refused = [&](finermoe_model* of, finermoe_model* by) {
    auto on = open_session(of, 64);
    auto made = generation_options(of);
    set_draft(made.get(), by, 8);
    const int32_t id = 1;
    finermoe_generation* none = nullptr;
    return failure_of([&](auto** e) { return finermoe_generation_create(on.get(), made.get(), &id, 1, &none, e); });
  };
  const ModelHandle small = open_model(golden::source_root() + "/tests/data/shapes/c32a2");
  const Failure by_size = refused(small.get(), draft_model.get());
  EXPECT_EQ(by_size.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(by_size.found, "4096 tokens");

  const ChangedModel changed(golden::trained(dense));
  std::string other = golden::read_file(golden::trained(dense) + "/tokenizer.json");
  for (size_t at; (at = other.find("<|im_start|>")) != std::string::npos;) other.replace(at, 12, "<|im_begin|>");
  changed.write("tokenizer.json", other);
  const Failure by_token = refused(model.get(), open_model(changed.path()).get());
  EXPECT_EQ(by_token.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(by_token.expected, "<|im_start|>");
  EXPECT_EQ(by_token.found, "<|im_begin|>");

  const Failure too_many = failure_of(
      [&](auto** e) { return finermoe_generation_options_set_draft(options.get(), draft_model.get(), 65, e); });
  EXPECT_EQ(too_many.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(too_many.expected, "0 to 64");
}

TEST_F(ModelDraft, OnADeviceDraftsForAModelOnTheCpu) {
  if (test_device() == nullptr) GTEST_SKIP() << "the tests run on the CPU alone";
  auto on_cpu = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_DONE(finermoe_runtime_options_set_device(on_cpu.get(), "cpu", e));
  const RuntimeHandle runtime = create_runtime(on_cpu);
  auto of_cpu = make<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  EXPECT_DONE(finermoe_model_options_set_runtime(of_cpu.get(), runtime.get(), e));
  model = make<ModelHandle>([&](auto** out, auto** e) {
    return finermoe_model_open(golden::trained(finermoe).c_str(), of_cpu.get(), out, e);
  });
  EXPECT_GT(expect_equal_with(draft_model.get(), "drafts by a device"), 0u);
}

// --- Several requests ---

TEST_F(ModelDraft, ServesRequestsOnSeveralThreads) {
  const Generated expected = without(repeating_);
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> generations;
  for (size_t i = 0; i < 3; i++) {
    sessions.push_back(open_session(model.get(), 600));
    generations.push_back(generate(sessions[i].get(), options_with(model.get(), 8).get(), repeating_));
  }
  std::vector<Generated> found(generations.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < generations.size(); i++) {
    threads.emplace_back([&, i] { found[i] = run_out(generations[i].get()); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Generated& one : found) expect_equal(one, expected, "beside others");
}

// Those of one model share its passes; another model drafts for some, and nothing for others.
TEST_F(ModelDraft, MembersOfABatchMayHaveDifferentOnes) {
  if (is_all_on_a_gpu()) GTEST_SKIP() << "a member of a batch has the bits that it has alone on the CPU";
  const ModelHandle of = open_model(quantized(golden::trained(finermoe), FINERMOE_DTYPE_Q8));
  const ModelHandle other = open_model(quantized(golden::trained(dense), FINERMOE_DTYPE_Q8));
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(of.get(), out, e); });
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> members;
  const auto prompt_of = [](size_t i) { return prompts()[i / 3]; };
  for (size_t i = 0; i < 9; i++) {
    sessions.push_back(open_in(of.get(), FINERMOE_PRECISION_FAST, FINERMOE_DTYPE_F32));
    auto made = options_with(of.get(), 0);
    if (i % 3 != 2) set_draft(made.get(), i % 3 == 0 ? draft_model.get() : other.get(), 3 + i);
    members.push_back(generate(sessions[i].get(), made.get(), prompt_of(i)));
    EXPECT_DONE(finermoe_generation_set_tag(members[i].get(), i, e));
    EXPECT_DONE(finermoe_batch_add(batch.get(), members[i].get(), e));
  }
  ByTag found = run_out_batch(batch.get(), [&](const ByTag& so_far) {
    if (so_far.size() == 9 && so_far.at(0).ids.size() == 20) finermoe_model_close(other.get());
  });
  for (size_t i = 0; i < members.size(); i++) {
    auto alone_on = open_in(of.get(), FINERMOE_PRECISION_FAST, FINERMOE_DTYPE_F32);
    auto alone = generate(alone_on.get(), options_with(of.get(), 0).get(), prompt_of(i));
    expect_equal(found[i], run_out(alone.get()), "member " + std::to_string(i));
    EXPECT_EQ(info_of(members[i].get()).n_drafted > 0, i % 3 != 2);
  }
}

// A saved request names no model.
TEST_F(ModelDraft, ASavedRequestGoesOnWithout) {
  auto on = open_session(model.get(), 256);
  auto with = begin(on.get(), 8);
  Generated found;
  advance_to_drafts(with.get(), found);
  const auto [other, resumed] = restored(on.get(), with.get());
  EXPECT_EQ(info_of(resumed.get()).n_drafted, info_of(with.get()).n_drafted);
  const Generated rest = run_out(resumed.get());
  found.ids.insert(found.ids.end(), rest.ids.begin(), rest.ids.end());
  EXPECT_EQ(found.ids, without(repeating_).ids);
  EXPECT_EQ(info_of(resumed.get()).n_drafted, info_of(with.get()).n_drafted);
}

// --- The distribution of what is sampled ---

constexpr size_t n_likeliest = 4, n_in_a_row = 3;
using Tokens = std::array<int32_t, n_in_a_row>;

// The probability of each sequence of tokens behind the prompt, from the logits of a session that computed each on its
// own: a softmax over the likeliest.
std::map<Tokens, double> probabilities(finermoe_model* of, const Ids& prompt, double temperature) {
  std::map<Tokens, double> out;
  const std::function<void(const Ids&, double)> add = [&](const Ids& ids, double reached) {
    if (ids.size() == prompt.size() + n_in_a_row) {
      Tokens tokens{};
      std::copy(ids.end() - n_in_a_row, ids.end(), tokens.begin());
      out[tokens] = reached;
      return;
    }
    const std::vector<float> logits = logits_behind(of, ids);
    std::vector<std::pair<double, int32_t>> likeliest;
    for (size_t id = 0; id < logits.size(); id++) likeliest.emplace_back(logits[id], static_cast<int32_t>(id));
    std::sort(likeliest.rbegin(), likeliest.rend());
    double sum = 0;
    for (size_t i = 0; i < n_likeliest; i++) sum += std::exp((likeliest[i].first - likeliest[0].first) / temperature);
    for (size_t i = 0; i < n_likeliest; i++) {
      Ids longer = ids;
      longer.push_back(likeliest[i].second);
      add(longer, reached * std::exp((likeliest[i].first - likeliest[0].first) / temperature) / sum);
    }
  };
  add(prompt, 1);
  return out;
}

// Pearson's statistic, and what it exceeds by chance once in a million times (Wilson and Hilferty).
struct ChiSquare {
  double found = 0, limit = 0;
  ChiSquare(const std::map<Tokens, double>& expected, const std::map<Tokens, size_t>& counts, size_t n) {
    double rare = 0, n_rare = static_cast<double>(n), freedom = -1;
    const auto add = [&](double of_expected, double count) {
      found += (count - of_expected) * (count - of_expected) / of_expected;
      freedom++;
    };
    for (const auto& [tokens, probability] : expected) {
      const double of_expected = probability * static_cast<double>(n);
      const auto count = counts.find(tokens);
      const double n_found = count == counts.end() ? 0 : static_cast<double>(count->second);
      if (of_expected < 10) {
        rare += of_expected;
        continue;
      }
      add(of_expected, n_found);
      n_rare -= n_found;
    }
    if (rare > 0) add(rare, n_rare);  // with whatever cannot come at all
    const double spread = 2 / (9 * freedom);
    limit = freedom * std::pow(1 - spread + 4.7534 * std::sqrt(spread), 3);
  }
};

uint64_t mixed(uint64_t x) {  // SplitMix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

TEST(DraftedTokens, HaveTheDistributionOfTheModelItself) {
  constexpr size_t n_requests = 33334;  // 100,000 tokens
  constexpr double temperature = 0.7;
  const RuntimeHandle runtime = open_runtime(1);
  const std::string shape = golden::source_root() + "/tests/data/shapes/c32a2";
  const ChangedModel similar(shape);
  similar.fill("model.norm.weight", 0, 4, 0);  // of 64
  const ModelHandle of = open_model(shape, runtime.get()), by = open_model(similar.path(), runtime.get());
  const Ids prompt = {5, 9, 200, 31, 77};
  auto on = open_session(of.get(), 64);
  append(on.get(), prompt);
  auto made = generation_options(of.get());
  EXPECT_DONE(finermoe_generation_options_set_temperature(made.get(), temperature, e));
  EXPECT_DONE(finermoe_generation_options_set_top_k(made.get(), n_likeliest, e));
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(made.get(), n_in_a_row, e));
  EXPECT_DONE(finermoe_generation_options_clear_stop_tokens(made.get(), e));
  set_draft(made.get(), by.get(), n_in_a_row);
  std::map<Tokens, size_t> counts, biased;
  uint64_t n_drafted = 0, n_accepted = 0;
  const auto expected = probabilities(of.get(), prompt, temperature);
  for (size_t i = 0; i < n_requests && !testing::Test::HasFailure(); i++) {
    EXPECT_DONE(finermoe_session_truncate(on.get(), prompt.size(), e));
    EXPECT_DONE(finermoe_generation_options_set_seed(made.get(), mixed(i), e));
    auto generation = generate(on.get(), made.get(), {});
    const Generated out = run_out(generation.get());
    Tokens tokens{};
    std::copy(out.ids.begin(), out.ids.end(), tokens.begin());
    counts[tokens]++;
    biased[i % 50 == 0 ? expected.begin()->first : tokens]++;  // as if a wrong draft were kept now and then
    n_drafted += info_of(generation.get()).n_drafted;
    n_accepted += info_of(generation.get()).n_accepted;
  }
  EXPECT_GT(n_accepted, n_drafted / 10);
  EXPECT_LT(n_accepted, n_drafted * 9 / 10);
  const ChiSquare own(expected, counts, n_requests), planted(expected, biased, n_requests);
  EXPECT_LT(own.found, own.limit);
  EXPECT_GT(planted.found, planted.limit);
}

}  // namespace
