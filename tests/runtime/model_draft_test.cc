// Drafts by another model: the tokens are those of a request without, whatever becomes of that model.
#include <cmath>
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
    set_draft(made.get(), by, n_ahead);
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
      if (unless_emulated(false, (path == source) != (precision == FINERMOE_PRECISION_EXACT))) continue;
      for (const Ids& prompt : prompts()) {
        if (unless_emulated(false, prompt != repeating_)) continue;
        auto on = open_in(of.get(), precision, FINERMOE_DTYPE_F32);
        auto plain_on = open_in(of.get(), precision, FINERMOE_DTYPE_F32);
        auto with = generate(on.get(), options_with(of.get(), 8).get(), prompt);
        auto plain = generate(plain_on.get(), options_with(of.get(), 0).get(), prompt);
        expect_equal(run_out(with.get()), run_out(plain.get()), path + ", precision " + std::to_string(precision));
        EXPECT_EQ(saved(on.get()), saved(plain_on.get()));
        n_accepted += info_of(with.get()).n_accepted;
      }
    }
    EXPECT_GT(n_accepted, unless_emulated(100u, 5u)) << path;
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
  const size_t n_words = unless_emulated<size_t>(12, 2);
  for (size_t i = 0; i < n_words; i++) {
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
  EXPECT_GT(n_drafted, 5 * n_words);
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
  const uint64_t before = memory_of(apart.get());
  auto on = open_session(model.get(), 600);
  auto made = options_with(model.get(), 0);
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(made.get(), unless_emulated<size_t>(60, 28), e));
  EXPECT_DONE(finermoe_generation_options_set_draft(made.get(), by.get(), 8, e));
  auto generation = generate(on.get(), made.get(), prompts()[3]);  // 290 tokens
  for (size_t i = 0; i < 18; i++) next_event(generation.get());
  EXPECT_EQ(memory_of(apart.get()), before);
  run_out(generation.get());
  EXPECT_GT(memory_of(apart.get()), before);
}

TEST_F(ModelDraft, ReadsALongPromptAChunkAtATime) {
  auto on = open_session(model.get(), 600, 64), plain_on = open_session(model.get(), 600, 64);
  Ids prompt = prompts()[3];
  prompt.resize(unless_emulated<size_t>(290, 140));
  auto with = generate(on.get(), options_with(model.get(), n_ahead).get(), prompt);
  auto plain = generate(plain_on.get(), options_with(model.get(), 0).get(), prompt);
  Generated found, expected = run_out(plain.get());
  for (size_t i = 0; i < prompt.size() / 64; i++) take(next_event(with.get()), found);  // 290 tokens are 5 chunks
  EXPECT_EQ(info_of(with.get()).n_drafted, 0u);
  while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(with.get()), found);
  expect_equal(found, expected, "behind a long prompt");
  EXPECT_GT(info_of(with.get()).n_drafted, 0u);
}

TEST_F(ModelDraft, GoesOnWithAnotherContext) {
  const size_t context = unless_emulated<size_t>(40, 20), n_before_it = n_tokens / 3;
  auto on = open_session(model.get(), context), plain_on = open_session(model.get(), context);
  auto with = generate(on.get(), options_with(model.get(), n_ahead).get(), repeating_);
  auto plain = generate(plain_on.get(), options_with(model.get(), 0).get(), repeating_);
  Generated found, expected;
  for (size_t i = 0; i < n_before_it; i++) take(next_event(with.get()), found), take(next_event(plain.get()), expected);
  EXPECT_DONE(finermoe_session_set_context_length(on.get(), 200, e));
  EXPECT_DONE(finermoe_session_set_context_length(plain_on.get(), 200, e));
  const uint64_t n_before = info_of(with.get()).n_drafted;
  expect_equal(run_out(with.get()), run_out(plain.get()), "in a longer context");
  EXPECT_GT(info_of(with.get()).n_drafted, n_before);
}

// --- What becomes of the draft model ---

TEST_F(ModelDraft, IsKeptOpenByTheOptionsAndTheRequest) {
  auto on = open_session(model.get(), 600);
  auto made = options_with(model.get(), n_ahead);
  draft_model.reset();
  auto generation = generate(on.get(), made.get(), repeating_);
  made.reset();
  expect_equal(run_out(generation.get()), without(repeating_), "after the handle of the draft model was freed");
  EXPECT_GT(info_of(generation.get()).n_drafted, 0u);
}

TEST_F(ModelDraft, IsLeftOutOnceItIsClosed) {
  auto on = open_session(model.get(), 600);
  auto with = generate(on.get(), options_with(model.get(), n_ahead).get(), repeating_);
  Generated found;
  advance_to_drafts(with.get(), found);
  finermoe_model_close(draft_model.get());
  const uint64_t n_before = info_of(with.get()).n_drafted;
  while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(with.get()), found);
  expect_equal(found, without(repeating_), "after the draft model was closed");
  EXPECT_EQ(info_of(with.get()).n_drafted, n_before);
}

TEST_F(ModelDraft, IsLeftOutWhereItHasNoMemory) {
  const RuntimeHandle large = open_runtime(1, FINERMOE_ISA_AUTO);
  const ModelHandle there = open_model(golden::trained(dense), large.get());
  const RuntimeHandle small = open_runtime(1, FINERMOE_ISA_AUTO, memory_of(large.get()) + 200000);  // and no session
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
    generations.push_back(generate(sessions[i].get(), options_with(model.get(), n_ahead).get(), repeating_));
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
  const size_t n_members = is_all_on_a_gpu() ? unless_emulated<size_t>(8, 6) : 9;  // a GPU drafts for no more
  const ModelHandle of = open_model(quantized(golden::trained(finermoe), FINERMOE_DTYPE_Q8));
  const ModelHandle other = open_model(quantized(golden::trained(dense), FINERMOE_DTYPE_Q8));
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(of.get(), out, e); });
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> members;
  const auto prompt_of = [](size_t i) { return prompts()[i / 3]; };
  ByTag begun;
  for (size_t i = 0; i < n_members; i++) {
    sessions.push_back(open_in(of.get(), FINERMOE_PRECISION_FAST, FINERMOE_DTYPE_F32));
    auto made = options_with(of.get(), 0);
    if (i % 3 != 2) set_draft(made.get(), i % 3 == 0 ? draft_model.get() : other.get(), 3 + i);
    members.push_back(generate(sessions[i].get(), made.get(), prompt_of(i)));
    EXPECT_DONE(finermoe_generation_set_tag(members[i].get(), i, e));
    // A GPU sums more than 16 rows, as of all prompts together, in another order than fewer; so do matrix tiles.
    if (is_all_on_a_gpu() || has_tiles()) take(next_event(members[i].get()), begun[i]);
    EXPECT_DONE(finermoe_batch_add(batch.get(), members[i].get(), e));
  }
  ByTag found = run_out_batch(batch.get(), begun, [&](const ByTag& so_far) {
    if (so_far.size() == n_members && so_far.at(0).ids.size() == n_tokens / 3) finermoe_model_close(other.get());
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
  auto with = begin(on.get(), n_ahead);
  Generated found;
  advance_to_drafts(with.get(), found);
  const auto [other, resumed] = restored(on.get(), with.get());
  EXPECT_EQ(info_of(resumed.get()).n_drafted, info_of(with.get()).n_drafted);
  const Generated rest = run_out(resumed.get());
  found.ids.insert(found.ids.end(), rest.ids.begin(), rest.ids.end());
  EXPECT_EQ(found.ids, without(repeating_).ids);
  EXPECT_EQ(info_of(resumed.get()).n_drafted, info_of(with.get()).n_drafted);
}

// --- Another model between two tokens ---

TEST_F(ModelDraft, ARestoredRequestGetsItsModelBack) {
  auto on = open_session(model.get(), 256);
  auto with = begin(on.get(), n_ahead);
  Generated found;
  advance_to_drafts(with.get(), found);
  const Restored again = restored(on.get(), with.get());
  finermoe_generation* const resumed = again.generation.get();
  EXPECT_DONE(finermoe_generation_set_draft(resumed, draft_model.get(), 8, e));
  const uint64_t n_before = info_of(resumed).n_drafted;
  while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(resumed), found);
  expect_equal(found, without(repeating_), "saved, restored, and drafted for again");
  EXPECT_GT(info_of(resumed).n_drafted, n_before);
}

TEST_F(ModelDraft, MayChangeAtAnyToken) {
  const auto sampled = [](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_set_temperature(o, 0.3, e));
    EXPECT_DONE(finermoe_generation_options_set_seed(o, 5, e));
  };
  const auto with_lookup = [&](finermoe_generation_options* o) {
    sampled(o);
    EXPECT_DONE(finermoe_generation_options_set_lookup(o, 4, e));
  };
  const std::pair<finermoe_model*, size_t> turns[] = {
      {draft_model.get(), 2}, {model.get(), 5}, {nullptr, 0}, {draft_model.get(), 40}, {draft_model.get(), 0}};
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), n_ahead, with_lookup), plain = begin(plain_on.get(), 0, sampled);
  const auto logits_of = [](finermoe_generation* g) {
    return read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_get_logits(g, out, capacity, needed, e);
    });
  };
  Generated found, expected = run_out(plain.get());
  const size_t n_per_turn = unless_emulated<size_t>(4, 2);
  for (size_t i = 0; found.finish == FINERMOE_FINISH_NONE && !HasFailure(); i++) {
    const auto& turn = turns[i / n_per_turn % std::size(turns)];
    const bool is_prepared = i % 7 == 3;
    std::vector<float> before;
    if (is_prepared) {
      EXPECT_DONE(finermoe_generation_prepare(with.get(), nullptr, e));
      before = logits_of(with.get());
    }
    EXPECT_DONE(finermoe_generation_set_draft(with.get(), turn.first, turn.second, e));
    if (is_prepared) {
      EXPECT_EQ(logits_of(with.get()), before);
    }
    take(next_event(with.get()), found);
  }
  expect_equal(found, expected, "with changing drafts");
  EXPECT_GT(info_of(with.get()).n_drafted, 0u);
}

TEST_F(ModelDraft, IsGivenBackWithItsSession) {
  const RuntimeHandle apart = open_runtime(1);
  const ModelHandle by = open_model(golden::trained(dense), apart.get());
  auto on = open_session(model.get(), 256);
  auto made = options_with(model.get(), 0);
  set_draft(made.get(), by.get(), 8);
  auto with = generate(on.get(), made.get(), repeating_);
  Generated found;
  advance_to_drafts(with.get(), found);
  const uint64_t of_cache = info_of(open_session(by.get(), 256).get()).kv_bytes, before = memory_of(apart.get());
  EXPECT_DONE(finermoe_generation_set_draft(with.get(), nullptr, 0, e));
  EXPECT_GE(before - memory_of(apart.get()), of_cache);
  const uint64_t n_before = info_of(with.get()).n_drafted;
  while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(with.get()), found);
  expect_equal(found, without(repeating_), "after the draft model was taken away");
  EXPECT_EQ(info_of(with.get()).n_drafted, n_before);
}

TEST_F(ModelDraft, ThatCannotBeSetLeavesTheOneBefore) {
  auto on = open_session(model.get(), 256);
  auto with = begin(on.get(), n_ahead);
  const auto refused = [&](finermoe_model* by, size_t n_draft) {
    return failure_of([&](auto** e) { return finermoe_generation_set_draft(with.get(), by, n_draft, e); });
  };
  const ModelHandle small = open_model(golden::source_root() + "/tests/data/shapes/c32a2");
  EXPECT_EQ(refused(small.get(), 8).code, FINERMOE_ERROR_INVALID_ARGUMENT);
  const Failure too_many = refused(draft_model.get(), 65);
  EXPECT_EQ(too_many.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(too_many.expected, "0 to 64");
  expect_equal(run_out(with.get()), without(repeating_), "after refused ones");
  EXPECT_GT(info_of(with.get()).n_drafted, 0u);
  EXPECT_EQ(refused(draft_model.get(), 8).code, FINERMOE_ERROR_STATE);
}

TEST_F(ModelDraft, ThatHasNoRoomForItsLogitsIsRefused) {
  uint64_t limit = 0;
  const auto check = [&](bool is_limited) {
    const RuntimeHandle runtime = open_runtime(2, FINERMOE_ISA_AUTO, limit);
    const ModelHandle of = open_model(golden::trained(finermoe), runtime.get());
    auto on = open_session(of.get(), 256);
    auto with = generate(on.get(), options_with(of.get(), 0).get(), repeating_);
    Generated found;
    take(next_event(with.get()), found);
    limit = memory_of(runtime.get()) + 4096;
    const Failure failure =
        failure_of([&](auto** e) { return finermoe_generation_set_draft(with.get(), draft_model.get(), 8, e); });
    EXPECT_EQ(failure.code, is_limited ? FINERMOE_ERROR_MEMORY_LIMIT : FINERMOE_OK) << failure.message;
    while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) take(next_event(with.get()), found);
    expect_equal(found, without(repeating_), "whether there is room or not");
    EXPECT_EQ(info_of(with.get()).n_drafted > 0, !is_limited);
  };
  check(false);
  check(true);
}

}  // namespace
