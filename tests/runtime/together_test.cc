// Sessions that are computed together, joining and leaving at any step, and each of them alone: in fast precision the
// same bits, as far as docs/threading.md promises.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

namespace fs = std::filesystem;

constexpr size_t n_members = 8, n_tokens = 10;

// The logits of every step of a generation.
using Steps = std::vector<std::vector<float>>;

std::vector<int32_t> prompt_of(size_t member) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < 3 + 2 * member; i++) ids.push_back(static_cast<int32_t>((member * 211 + i * 37) % 4000 + 40));
  return ids;
}

SessionHandle open_fast_session(finermoe_model* model, int32_t kv_dtype) {
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), 64, e));
  EXPECT_DONE(finermoe_session_options_set_kv_dtype(options.get(), kv_dtype, e));
  EXPECT_DONE(finermoe_session_options_set_precision(options.get(), FINERMOE_PRECISION_FAST, e));
  return make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
}

uint32_t quantized_dtypes_of(finermoe_session* session) {
  finermoe_session_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_session_get_info(session, &info, e));
  return info.quantized_dtypes;
}

struct Member {
  SessionHandle session;
  GenerationHandle generation;
  Steps steps;

  Member(finermoe_model* model, size_t index, int32_t kv_dtype) : session(open_fast_session(model, kv_dtype)) {
    auto options = generation_options(model);
    EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 0, e));
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), n_tokens, e));
    EXPECT_DONE(finermoe_generation_options_set_min_tokens(options.get(), n_tokens, e));
    generation = generate(session.get(), options.get(), prompt_of(index));
  }
  void advance() {
    steps.push_back(read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_get_logits(generation.get(), out, capacity, needed, e);
    }));
    next_event(generation.get());
  }
  bool finished() const { return steps.size() == n_tokens; }
};

Steps alone(finermoe_model* model, size_t index, int32_t kv_dtype) {
  Member member(model, index, kv_dtype);
  while (!member.finished()) {
    EXPECT_DONE(finermoe_generation_prepare(member.generation.get(), nullptr, e));
    member.advance();
  }
  return member.steps;
}

// Member i joins before step i; the second one leaves after a few steps and comes back later.
std::vector<Steps> together(finermoe_model* model, int32_t kv_dtype) {
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model, out, e); });
  std::vector<Member> members;
  for (size_t i = 0; i < n_members; i++) members.emplace_back(model, i, kv_dtype);
  for (size_t step = 0; step < 3 * n_tokens; step++) {
    if (step < n_members) EXPECT_DONE(finermoe_batch_add(batch.get(), members[step].generation.get(), e));
    if (step == 4) EXPECT_DONE(finermoe_batch_remove(batch.get(), members[1].generation.get(), e));
    if (step == 9) EXPECT_DONE(finermoe_batch_add(batch.get(), members[1].generation.get(), e));
    size_t n_active = 0;
    EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
    for (Member& member : members) {
      finermoe_generation_info info{};
      info.struct_size = sizeof info;
      EXPECT_DONE(finermoe_generation_get_info(member.generation.get(), &info, e));
      if (info.prepared != 0) member.advance();
    }
  }
  std::vector<Steps> all;
  for (Member& member : members) all.push_back(std::move(member.steps));
  return all;
}

// As the session alone computes them: the same bits, or, where tiles round activations and sum in another order, logits
// within 4 % of the largest, until that makes another token the likeliest.
void expect_as_alone(const Steps& found, const Steps& expected, bool has_equal_bits, const std::string& what) {
  const auto likeliest = [](const std::vector<float>& logits) {
    return std::max_element(logits.begin(), logits.end()) - logits.begin();
  };
  ASSERT_EQ(found.size(), expected.size());
  for (size_t step = 0; step < expected.size(); step++) {
    const std::vector<float>&a = found[step], &b = expected[step];
    if (has_equal_bits) {
      ASSERT_EQ(std::memcmp(a.data(), b.data(), b.size() * sizeof(float)), 0) << what << ", step " << step;
      continue;
    }
    float largest = 0;
    for (const float logit : b) largest = std::max(largest, std::abs(logit));
    for (size_t i = 0; i < b.size(); i++) ASSERT_NEAR(a[i], b[i], 0.04 * largest) << what << ", step " << step;
    if (likeliest(a) != likeliest(b)) return;
  }
}

class Together : public testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    std::string name = (fs::temp_directory_path() / "finermoe-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  static std::string quantized(const std::string& model, int32_t dtype) {
    finermoe_quantize_options* options = nullptr;
    EXPECT_DONE(finermoe_quantize_options_create(dtype, &options, e));
    const std::string out = folder_ + "/" + fs::path(model).filename().string() + std::to_string(dtype);
    EXPECT_DONE(finermoe_quantize_run(model.c_str(), out.c_str(), options, nullptr, e));
    finermoe_quantize_options_free(options);
    return out;
  }
  inline static std::string folder_;
};
INSTANTIATE_TEST_SUITE_P(Models, Together, testing::Values("tiny-wordnet-dense", "tiny-wordnet-finermoe"));

TEST_P(Together, HasTheBitsOfEachAlone) {
  if (is_all_on_a_gpu()) GTEST_SKIP() << "what docs/threading.md promises of fast precision is the CPU's";
  const std::string source = golden::trained(GetParam());
  const std::map<int32_t, std::string> paths = {{FINERMOE_DTYPE_BF16, source},
                                                {FINERMOE_DTYPE_Q8, quantized(source, FINERMOE_DTYPE_Q8)},
                                                {FINERMOE_DTYPE_Q4, quantized(source, FINERMOE_DTYPE_Q4)}};
  for (const int32_t isa : instruction_sets()) {
    const RuntimeHandle runtime = open_runtime(0, isa);
    for (const auto& [dtype, path] : paths) {
      const ModelHandle model = open_model(path, runtime.get());
      // The sums of float32 activations follow from the number of rows.
      const uint32_t quantized_dtypes = quantized_dtypes_of(open_fast_session(model.get(), FINERMOE_DTYPE_F32).get());
      if (dtype != FINERMOE_DTYPE_BF16) {
        EXPECT_NE(0u, quantized_dtypes >> dtype & 1) << isa << " " << dtype;
      }
      if ((quantized_dtypes >> dtype & 1) == 0) continue;
      const bool has_equal_bits = isa != FINERMOE_ISA_AMX || dtype != FINERMOE_DTYPE_BF16;
      for (int32_t kv_dtype : {FINERMOE_DTYPE_F32, FINERMOE_DTYPE_BF16, FINERMOE_DTYPE_Q8}) {
        const std::vector<Steps> found = together(model.get(), kv_dtype);
        for (size_t i = 0; i < n_members; i++) {
          const std::string what = "set " + std::to_string(isa) + ", weights " + std::to_string(dtype) + ", cache " +
                                   std::to_string(kv_dtype) + ", member " + std::to_string(i);
          expect_as_alone(found[i], alone(model.get(), i, kv_dtype), has_equal_bits, what);
        }
      }
    }
  }
}

TEST(Together, ExactQuantizesNoActivations) {
  auto model = open_model(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  EXPECT_EQ(0u, quantized_dtypes_of(open_session(model.get()).get()));
}

TEST(Together, TheHostsFloatingPointEnvironmentIsItsOwn) {
  auto model = open_model(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  const std::vector<int32_t> prompt = {1, 2, 3, 4, 5};
  auto compute = [&] {
    auto session = open_session(model.get());
    EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, e));
    return all_logits(session.get());
  };
  const auto usual = compute();
  std::fesetround(FE_UPWARD);
  const auto strange = compute();
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(strange, usual);
}

}  // namespace
