// Drafts looked up in the text: the tokens are those of a request without, whatever the model and its format, and the
// passes are fewer.
#include <openssl/sha.h>

#include "../support/changed_model.h"
#include "drafts.h"

namespace {

class Lookup : public Drafts {
 protected:
  void set_drafts(finermoe_generation_options* to, size_t n_draft) override {
    EXPECT_DONE(finermoe_generation_options_set_lookup(to, n_draft, e));
  }
};

// All of them with the fastest instruction set; with the others, and on an emulated GPU, which are slow, what their
// kernels differ in.
TEST_F(Lookup, GivesTheTokensOfEachFormatPrecisionAndCache) {
  for (const char* name : {"tiny-wordnet-dense", "tiny-wordnet-finermoe"}) {
    const std::string source = golden::trained(name);
    const std::string paths[] = {source, quantized(source, FINERMOE_DTYPE_Q8), quantized(source, FINERMOE_DTYPE_Q4)};
    for (const int32_t isa : instruction_sets()) {
      const bool takes_all = isa == instruction_sets().back() && unless_emulated(true, false);
      if (!takes_all && std::string_view(name) == "tiny-wordnet-dense") continue;
      const RuntimeHandle runtime = open_runtime(2, isa);
      for (const std::string& path : paths) {
        const ModelHandle of = open_model(path, runtime.get());
        uint64_t n_accepted = 0;
        for (const int32_t precision : {FINERMOE_PRECISION_EXACT, FINERMOE_PRECISION_FAST}) {
          for (const int32_t kv_dtype : {FINERMOE_DTYPE_F32, FINERMOE_DTYPE_Q8}) {
            for (const Ids& prompt : prompts()) {
              const bool is_short = prompt.size() <= 10, is_circle = prompt == repeating_;
              const bool is_taken = kv_dtype == FINERMOE_DTYPE_F32 && unless_emulated(is_short, is_circle);
              if (!takes_all && !is_taken) continue;
              auto on = open_in(of.get(), precision, kv_dtype), plain_on = open_in(of.get(), precision, kv_dtype);
              auto with = generate(on.get(), options_with(of.get(), 8).get(), prompt);
              auto without = generate(plain_on.get(), options_with(of.get(), 0).get(), prompt);
              expect_equal(run_out(with.get()), run_out(without.get()),
                           path + ", set " + std::to_string(isa) + ", precision " + std::to_string(precision));
              EXPECT_EQ(saved(on.get()), saved(plain_on.get()));
              n_accepted += info_of(with.get()).n_accepted;
              EXPECT_EQ(info_of(without.get()).n_drafted, 0u);
            }
          }
        }
        EXPECT_GT(n_accepted, takes_all ? 40u : 10u) << path;
      }
    }
  }
}

TEST_F(Lookup, SavesPassesWhereTheTextRepeatsItself) {
  auto generation = begin(session.get(), 8);
  const Generated out = run_out(generation.get());
  const auto info = info_of(generation.get());
  EXPECT_GT(info.n_accepted, out.ids.size() / 3);
  EXPECT_LE(info.n_accepted, info.n_drafted);
}

TEST_F(Lookup, GoesOnAfterSavingInTheMiddle) {
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  const auto for_drafts_afterwards = [](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(o, unless_emulated<size_t>(60, 20), e));
  };
  auto with = begin(on.get(), 8, for_drafts_afterwards), without = begin(plain_on.get(), 0, for_drafts_afterwards);
  Generated found, expected;
  advance_to_drafts(with.get(), found);
  const auto [other, resumed] = restored(on.get(), with.get());
  const uint64_t n_before = info_of(resumed.get()).n_drafted;
  EXPECT_EQ(n_before, info_of(with.get()).n_drafted);
  const Generated rest = run_out(resumed.get());
  found.ids.insert(found.ids.end(), rest.ids.begin(), rest.ids.end());
  EXPECT_EQ(found.ids, run_out(without.get()).ids);
  EXPECT_GT(info_of(resumed.get()).n_drafted, n_before);  // the option was saved too
}

// A request of version 1 ends where the fields of version 2 are left out.
TEST_F(Lookup, RequestsThatWereSavedBeforeThereWereDraftsAreRead) {
  const auto endless = [](auto* o) { EXPECT_DONE(finermoe_generation_options_clear_stop_tokens(o, e)); };
  auto generation = begin(session.get(), 8, endless);
  Generated first;
  for (size_t i = 0; i < 10; i++) take(next_event(generation.get()), first);
  const auto data = read_array<char>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_generation_save_memory(generation.get(), out, capacity, needed, e);
  });
  std::string old(data.begin(), data.end() - 64);
  constexpr size_t strings = 2 * (8 + 64), numbers = 7 * 8 + 2 * 8, no_biases = 2 * 8, counts = 2 * 8, no_stops = 2 * 8;
  constexpr size_t added_at = 12 + strings + numbers + no_biases + counts + no_stops + 2 + 8;
  ASSERT_EQ(old[added_at], 8);  // the most drafts
  old.erase(added_at, 3 * 8);
  old[8] = 1;
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(old.data()), old.size(), digest);
  for (const unsigned char byte : digest) {
    old += "0123456789abcdef"[byte >> 4];
    old += "0123456789abcdef"[byte & 15];
  }
  auto other = open_session(model.get(), 256);
  append(other.get(), session_tokens(session.get()));
  auto resumed = make<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_restore_memory(other.get(), old.data(), old.size(), out, e);
  });
  EXPECT_EQ(run_out(resumed.get()).ids, run_out(generation.get()).ids);
  EXPECT_EQ(info_of(resumed.get()).n_drafted, 0u);
}

// The members' drafts have no room in memory: they go on without.
TEST_F(Lookup, NeedsNoMoreMemoryThanWithout) {
  const std::string path = golden::trained("tiny-wordnet-finermoe");
  constexpr size_t n_members = 4;
  struct Members {
    std::vector<SessionHandle> sessions;
    std::vector<GenerationHandle> generations;
  };
  const auto open_members = [&](finermoe_model* of) {
    Members members;
    for (size_t i = 0; i < n_members; i++) {
      members.sessions.push_back(open_session(of, 256));
      members.generations.push_back(generate(members.sessions[i].get(), options_with(of, 8).get(), repeating_));
    }
    return members;
  };
  uint64_t limit = 0;
  {
    const RuntimeHandle runtime = open_runtime(2);
    const ModelHandle of = open_model(path, runtime.get());
    const Members members = open_members(of.get());
    limit = memory_of(runtime.get()) + n_members * 4096 * sizeof(float) + 4096;
  }
  const RuntimeHandle runtime = open_runtime(2, FINERMOE_ISA_AUTO, limit);
  const ModelHandle of = open_model(path, runtime.get());
  const Members members = open_members(of.get());
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(of.get(), out, e); });
  for (const auto& member : members.generations) EXPECT_DONE(finermoe_batch_add(batch.get(), member.get(), e));
  for (size_t step = 0; step < n_tokens; step++) {
    size_t n_active = 0;
    EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
    EXPECT_EQ(n_active, n_members);
    for (const auto& member : members.generations) next_event(member.get());
  }
  for (const auto& member : members.generations) EXPECT_EQ(info_of(member.get()).n_generated, n_tokens);
}

// A session restored into a model whose embedding of one token is not finite: the token was computed before, and only a
// draft would compute it again.
TEST_F(Lookup, ADraftThatCannotBeComputedIsLeftOut) {
  const Ids text = {300, 301, 777, 302, 303, 300, 301};
  const auto banned = [](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_add_banned_token(o, 777, e));
  };
  append(session.get(), text);
  const auto held = saved(session.get());
  const ChangedModel changed(golden::trained("tiny-wordnet-finermoe"));
  changed.fill("model.embed_tokens.weight", 777 * 192, 192, INFINITY);
  const ModelHandle of = open_model(changed.path());
  const auto rest = [&](size_t n_draft) {
    auto on = open_session(of.get(), 256);
    EXPECT_DONE(finermoe_session_restore_memory(on.get(), held.data(), held.size(), e));
    return run_out(generate(on.get(), options_with(of.get(), n_draft, banned).get(), {}).get());
  };
  expect_equal(rest(8), rest(0), "without the draft");
}

TEST_F(Lookup, CountsItsRowsOnTheAccount) {
  RuntimeHandle runtime =
      make<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_open_model(model.get(), out, e); });
  const uint64_t before = memory_of(runtime.get());
  const auto plain = begin(session.get(), 0);
  const uint64_t row = memory_of(runtime.get()) - before;
  const auto with = begin(session.get(), 8);
  EXPECT_GE(memory_of(runtime.get()) - before, row + 9 * row);
}

TEST_F(Lookup, RefusesMoreDraftsThanAPassHas) {
  auto more = generation_options(model.get());
  const Failure failure =
      failure_of([&](auto** e) { return finermoe_generation_options_set_lookup(more.get(), 65, e); });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(failure.expected, "0 to 64");
}

}  // namespace
