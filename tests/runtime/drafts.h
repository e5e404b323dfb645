// What the tests of drafts have in common: requests with drafts and without, on the bundled models.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "../support/temporary_directory.h"
#include "held_tokens.h"

inline finermoe_generation_info info_of(finermoe_generation* generation) {
  finermoe_generation_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_generation_get_info(generation, &info, e));
  return info;
}

inline uint64_t memory_of(finermoe_runtime* runtime) {
  finermoe_runtime_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_runtime_get_info(runtime, &info, e));
  return info.memory_used;
}

using OptionSetter = std::function<void(finermoe_generation_options*)>;

inline SessionHandle open_in(finermoe_model* model, int32_t precision, int32_t kv_dtype, size_t context = 600) {
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), context, e));
  EXPECT_DONE(finermoe_session_options_set_kv_dtype(options.get(), kv_dtype, e));
  EXPECT_DONE(finermoe_session_options_set_precision(options.get(), precision, e));
  return make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
}

// Texts that a small model goes on with in circles, and a long one, so that attention is divided into parts. On an
// emulated GPU requests are too short to come to the first one's circle: it begins there.
inline std::vector<Ids> prompts() {
  const Ids first = {732, 260, 2814, 492}, circle_of_first = {11, 293, 260, 842, 11, 293, 260, 842, 11, 293, 260, 842};
  Ids circle, longer;
  for (size_t i = 0; i < 30; i++) circle.push_back(static_cast<int32_t>(300 + i % 5));
  for (size_t i = 0; i < 250; i++) longer.push_back(static_cast<int32_t>(270 + i * 37 % 800));
  longer.insert(longer.end(), longer.begin(), longer.begin() + 40);
  return {unless_emulated(first, circle_of_first), {1739, 400, 654, 311, 750, 11, 541}, circle, longer};
}

inline void expect_equal(const Generated& found, const Generated& expected, const std::string& what) {
  EXPECT_EQ(found.ids, expected.ids) << what;
  EXPECT_EQ(found.text, expected.text) << what;
  EXPECT_EQ(found.finish, expected.finish) << what;
  ASSERT_EQ(found.logprobs.size(), expected.logprobs.size()) << what;
  EXPECT_EQ(std::memcmp(found.logprobs.data(), expected.logprobs.data(), found.logprobs.size() * sizeof(float)), 0)
      << what;
}

class Drafts : public HeldTokens {
 protected:
  static inline const size_t n_tokens = unless_emulated<size_t>(60, 12);  // of a request
  static inline const size_t n_ahead = unless_emulated<size_t>(8, 4);     // most tokens that are drafted for a pass
  // What drafts, up to n tokens a pass; 0: nothing.
  virtual void set_drafts(finermoe_generation_options* options, size_t n_draft) = 0;

  static std::string quantized(const std::string& source, int32_t dtype) {
    static const TemporaryDirectory folder;
    const std::string out =
        folder.path + "/" + std::filesystem::path(source).filename().string() + std::to_string(dtype);
    if (std::filesystem::exists(out)) return out;
    finermoe_quantize_options* options = nullptr;
    EXPECT_DONE(finermoe_quantize_options_create(dtype, &options, e));
    EXPECT_DONE(finermoe_quantize_run(source.c_str(), out.c_str(), options, nullptr, e));
    finermoe_quantize_options_free(options);
    return out;
  }

  GenerationOptions options_with(finermoe_model* of, size_t n_draft, const OptionSetter& setup = {}) {
    auto made = generation_options(of);
    EXPECT_DONE(finermoe_generation_options_set_temperature(made.get(), 0, e));
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(made.get(), n_tokens, e));
    EXPECT_DONE(finermoe_generation_options_set_ignore_eos(made.get(), 1, e));
    if (setup) setup(made.get());
    set_drafts(made.get(), n_draft);
    return made;
  }

  const Ids repeating_ = prompts()[0];
  GenerationHandle begin(finermoe_session* on, size_t n_draft, const OptionSetter& setup = {}) {
    return generate(on, options_with(model.get(), n_draft, setup).get(), repeating_);
  }
  // Advances until tokens that are computed ahead are left.
  void advance_to_drafts(finermoe_generation* generation, Generated& out) {
    for (size_t i = 0; i < n_tokens; i++) {
      const uint64_t before = info_of(generation).n_drafted;
      take(next_event(generation), out);
      if (info_of(generation).n_drafted >= before + 3) return;
    }
    ADD_FAILURE() << "no pass had three drafts";
  }
  // A request and its session, restored from what was saved of them.
  struct Restored {
    SessionHandle session;
    GenerationHandle generation;
  };
  Restored restored(finermoe_session* on, finermoe_generation* generation) {
    const auto request = read_array<char>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_save_memory(generation, out, capacity, needed, e);
    });
    const auto held = saved(on);
    Restored copy;
    copy.session = open_session(model.get(), 256);
    EXPECT_DONE(finermoe_session_restore_memory(copy.session.get(), held.data(), held.size(), e));
    copy.generation = make<GenerationHandle>([&](auto** out, auto** e) {
      return finermoe_generation_restore_memory(copy.session.get(), request.data(), request.size(), out, e);
    });
    return copy;
  }
  // What the members of a batch generate, by their tags, behind what they have already. `after_each` sees what there is
  // after each event.
  using ByTag = std::map<uint64_t, Generated>;
  ByTag run_out_batch(finermoe_batch* batch, ByTag found, const std::function<void(const ByTag&)>& after_each = {}) {
    while (!HasFailure()) {
      uint64_t tag = 0;
      finermoe_event event{};
      event.struct_size = sizeof event;
      EXPECT_DONE(finermoe_batch_next(batch, nullptr, &tag, &event, e));
      if (event.token < 0) break;
      take(event, found[tag]);
      if (after_each) after_each(found);
    }
    return found;
  }
  // What follows when the host does something after a few drafted tokens, with drafts and without.
  void expect_the_same_after(const std::function<void(finermoe_session*, finermoe_generation*)>& act) {
    auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
    auto with = begin(on.get(), n_ahead), without = begin(plain_on.get(), 0);
    Generated found, expected;
    advance_to_drafts(with.get(), found);
    while (expected.ids.size() < found.ids.size()) take(next_event(without.get()), expected);
    EXPECT_EQ(session_tokens(on.get()), session_tokens(plain_on.get()));
    act(on.get(), with.get());
    act(plain_on.get(), without.get());
    EXPECT_EQ(session_tokens(on.get()), session_tokens(plain_on.get()));
    const Generated rest = run_out(with.get()), plain_rest = run_out(without.get());
    expect_equal(rest, plain_rest, "after the host's act");
    EXPECT_EQ(saved(on.get()), saved(plain_on.get()));  // tokens and every bit of the cache
  }
};
