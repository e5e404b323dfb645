// Scaled rotary frequencies, layers with a sliding window, and config.json as other tools write it, over the weights of
// dense-tied: against logits that transformers 5.23 computed in float32 (tests/data/README.md says how).
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "../support/differences.h"
#include "../support/golden.h"
#include "../support/handles.h"
#include "../support/temporary_directory.h"

namespace {

namespace fs = std::filesystem;

constexpr size_t stride = 8;  // rows 0, 8, 16 … of the logits are known

// A folder with this config.json and the weights of dense-tied; gone with the object.
struct Variant : TemporaryDirectory {
  explicit Variant(const std::string& config_folder) {
    const std::string weights = golden::source_root() + "/tests/data/shapes/dense-tied";
    fs::copy_file(weights + "/model.safetensors", path + "/model.safetensors");
    fs::copy_file(config_folder + "/config.json", path + "/config.json");
  }
};

class RopeAndWindows : public testing::TestWithParam<const char*> {
 protected:
  const std::string folder = golden::source_root() + "/tests/data/rope-and-windows/";
  const Variant variant{folder + GetParam()};
  const std::vector<int32_t> ids = nlohmann::json::parse(golden::read_file(folder + "ids.json"));
  const std::vector<float> expected = golden::npz_array(folder + GetParam() + "/expected_logits.npz", "logits");
  const size_t vocab = 320;

  // The known rows of those of all ids.
  std::vector<float> known_rows(const std::vector<float>& all) const {
    std::vector<float> rows;
    for (size_t p = 0; p < ids.size(); p += stride) {
      rows.insert(rows.end(), all.begin() + long(p * vocab), all.begin() + long((p + 1) * vocab));
    }
    return rows;
  }
  std::vector<float> logits_of(finermoe_session* session) const {
    EXPECT_DONE(finermoe_session_append(session, ids.data(), ids.size(), FINERMOE_LOGITS_ALL, nullptr, e));
    return known_rows(all_logits(session));
  }
};

INSTANTIATE_TEST_SUITE_P(Cases, RopeAndWindows, testing::Values("linear", "llama3", "sliding-window", "yarn"),
                         [](const auto& one) {
                           std::string name = one.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(RopeAndWindows, LogitsOnEveryInstructionSet) {
  ASSERT_EQ(expected.size(), ids.size() / stride * vocab);
  for (const int32_t isa : instruction_sets()) {
    auto runtime = open_runtime(2, isa);
    auto model = open_model(variant.path, runtime.get());
    EXPECT_LE(worst_difference(logits_of(open_session(model.get()).get()), expected), logit_bound) << isa;
  }
}

TEST_P(RopeAndWindows, AnyChunkingAndTokenByTokenAgree) {
  auto model = open_model(variant.path);
  for (size_t chunk : {1, 7, 33, 100}) {
    auto session = open_session(model.get(), 0, chunk);
    EXPECT_LE(worst_difference(logits_of(session.get()), expected), logit_bound) << "chunk " << chunk;
  }
  auto session = open_session(model.get());
  std::vector<float> by_token;
  for (int32_t id : ids) {
    EXPECT_DONE(finermoe_session_append(session.get(), &id, 1, FINERMOE_LOGITS_LAST, nullptr, e));
    const auto row = session_logits(session.get(), 0);
    by_token.insert(by_token.end(), row.begin(), row.end());
  }
  EXPECT_LE(worst_difference(known_rows(by_token), expected), logit_bound) << "token by token";
}

TEST_P(RopeAndWindows, SmallerCachesStayClose) {
  auto model = open_model(variant.path);
  const std::pair<int32_t, float> bounds[] = {
      {FINERMOE_DTYPE_F16, 0.1f}, {FINERMOE_DTYPE_BF16, 0.8f}, {FINERMOE_DTYPE_Q8, 0.8f}};
  for (const auto& [kv, bound] : bounds) {
    for (size_t chunk : {1, 64}) {
      auto session = open_session(model.get(), 0, chunk, kv);
      EXPECT_LE(worst_difference(logits_of(session.get()), expected), bound) << "cache " << kv << ", chunk " << chunk;
    }
  }
}

TEST_P(RopeAndWindows, SessionsOfAnyLengthsInOneStep) {
  auto model = open_model(variant.path);
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  auto options = generation_options(model.get());
  EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 0, e));
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 1, e));
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> generations;
  for (size_t p = 0; p < ids.size(); p += stride) {
    sessions.push_back(open_session(model.get(), 0, 5 + p % 32));
    generations.push_back(generate(sessions.back().get(), options.get(), {ids.begin(), ids.begin() + long(p + 1)}));
    EXPECT_DONE(finermoe_batch_add(batch.get(), generations.back().get(), e));
  }
  std::vector<Generated> results(generations.size());
  for (size_t n_active = 1, steps = 0; n_active != 0 && steps < 1000; steps++) {
    EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
    for (size_t k = 0; k < generations.size(); k++) {
      finermoe_generation_info info{};
      info.struct_size = sizeof info;
      EXPECT_DONE(finermoe_generation_get_info(generations[k].get(), &info, e));
      if (info.prepared) take(next_event(generations[k].get()), results[k]);
    }
  }
  for (size_t k = 0; k < results.size(); k++) {
    const auto row = expected.begin() + long(k * vocab);
    const auto likeliest = int32_t(std::max_element(row, row + long(vocab)) - row);
    EXPECT_EQ(results[k].ids, std::vector<int32_t>{likeliest}) << "after " << k * stride + 1 << " tokens";
  }
}

TEST_P(RopeAndWindows, SavedRestoredAndForkedSessionsGoOn) {
  auto model = open_model(variant.path);
  const size_t first = 120;  // a known row
  auto session = open_session(model.get());
  EXPECT_DONE(finermoe_session_append(session.get(), ids.data(), first, FINERMOE_LOGITS_NONE, nullptr, e));
  EXPECT_DONE(finermoe_session_save(session.get(), (variant.path + "/saved").c_str(), e));
  auto restored = open_session(model.get());
  EXPECT_DONE(finermoe_session_restore(restored.get(), (variant.path + "/saved").c_str(), e));
  auto forked = make<SessionHandle>([&](auto** out, auto** e) { return finermoe_session_fork(session.get(), out, e); });
  const std::vector<float> want(expected.begin() + long(first / stride * vocab), expected.end());
  for (finermoe_session* one : {session.get(), restored.get(), forked.get()}) {
    EXPECT_DONE(finermoe_session_append(one, ids.data() + first, ids.size() - first, FINERMOE_LOGITS_ALL, nullptr, e));
    std::vector<float> all(first * vocab);
    const auto logits = all_logits(one);
    all.insert(all.end(), logits.begin(), logits.end());
    const auto rows = known_rows(all);
    EXPECT_LE(worst_difference({rows.begin() + long(first / stride * vocab), rows.end()}, want), logit_bound);
  }
}

TEST_P(RopeAndWindows, ASessionOfAnotherConfigurationIsRefused) {
  auto model = open_model(variant.path);
  auto plain = open_model(golden::source_root() + "/tests/data/shapes/dense-tied");
  auto session = open_session(plain.get());
  EXPECT_DONE(finermoe_session_append(session.get(), ids.data(), 3, FINERMOE_LOGITS_NONE, nullptr, e));
  EXPECT_DONE(finermoe_session_save(session.get(), (variant.path + "/saved").c_str(), e));
  auto other = open_session(model.get());
  EXPECT_EQ(finermoe_session_restore(other.get(), (variant.path + "/saved").c_str(), nullptr),
            FINERMOE_ERROR_SESSION_MISMATCH);
}

TEST_P(RopeAndWindows, ThreadCountsAreBitEqual) {
  std::vector<float> first;
  for (const uint32_t n_threads : thread_counts()) {
    auto runtime = open_runtime(n_threads);
    auto model = open_model(variant.path, runtime.get());
    const auto logits = logits_of(open_session(model.get()).get());
    if (first.empty()) first = logits;
    EXPECT_EQ(logits, first) << n_threads << " threads";
  }
}

TEST(ConfigAsOthersWriteIt, IsTheSameModel) {
  const std::string plain = golden::source_root() + "/tests/data/shapes/dense-tied";
  const std::vector<int32_t> ids = golden::expected(plain)["prompts"][0]["ids"];
  const auto want = golden::npz_array(plain + "/expected_logits.npz", "logits_0");
  for (const char* name : {"act-swish", "eps-missing"}) {
    const Variant variant(golden::source_root() + "/tests/data/configs/" + name);
    auto model = open_model(variant.path);
    auto session = open_session(model.get());
    EXPECT_DONE(finermoe_session_append(session.get(), ids.data(), ids.size(), FINERMOE_LOGITS_ALL, nullptr, e));
    EXPECT_LE(worst_difference(all_logits(session.get()), want), logit_bound) << name;
  }
}

}  // namespace
