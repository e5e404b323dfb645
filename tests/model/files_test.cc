// Models in files as other tools write them, from the file to the logits.
#include <cmath>

#include "../support/golden.h"
#include "../support/handles.h"
#include "../support/safetensors.h"

namespace {

using files::Directory;
using files::Json;
using files::Safetensors;

constexpr const char* weights_name = "model.safetensors";

std::string shape(const char* name) { return golden::source_root() + "/tests/data/shapes/" + name; }

std::vector<int32_t> prompt_of(const std::string& model) { return golden::expected(model)["prompts"][0]["ids"]; }

std::vector<float> logits_of(finermoe_model* model, const std::vector<int32_t>& prompt,
                             int32_t precision = FINERMOE_PRECISION_EXACT) {
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_precision(options.get(), precision, e));
  auto session =
      make<SessionHandle>([&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_ALL, nullptr, e));
  return all_logits(session.get());
}

void expect_authors_logits(const std::vector<float>& logits, const std::string& model) {
  const auto expected = golden::npz_array(model + "/expected_logits.npz", "logits_0");
  ASSERT_EQ(logits.size(), expected.size());
  for (size_t i = 0; i < logits.size(); i++) ASSERT_LE(std::abs(logits[i] - expected[i]), 2e-4f) << i;
}

std::vector<RuntimeHandle> every_instruction_set() {
  std::vector<RuntimeHandle> runtimes;
  for (int32_t isa : {FINERMOE_ISA_PORTABLE, FINERMOE_ISA_AVX2, FINERMOE_ISA_AVX512}) {
    auto options = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
    if (finermoe_runtime_options_set_isa(options.get(), isa, nullptr) == FINERMOE_ERROR_UNSUPPORTED) continue;
    runtimes.push_back(open_runtime(2, isa));
  }
  return runtimes;
}

// Rewrites each weights file of a model directory so that its data begin at an odd byte.
void shift_weights(const Directory& model) {
  size_t past = 1;
  for (const auto& entry : files::fs::directory_iterator(model.path)) {
    if (entry.path().extension() != ".safetensors") continue;
    Safetensors::load(entry.path()).save(entry.path(), past);
    past += 2;
  }
}

// MLX pads no header: the data of most of its files begin at an odd byte.
TEST(ModelFiles, UnalignedWeightsGiveTheSameBits) {
  for (const char* name : {"dense-tied", "dense-untied-sharded", "finermoe-concat-proj", "finermoe-norm-topk-f16",
                           "finermoe-odd-width", "finermoe-separate-router", "qwen2-moe"}) {
    const std::string aligned = shape(name);
    const Directory unaligned(aligned);
    shift_weights(unaligned);
    const auto prompt = prompt_of(aligned);
    for (const auto& runtime : every_instruction_set()) {
      auto model = open_model(unaligned.path, runtime.get());
      expect_authors_logits(logits_of(model.get(), prompt), aligned);
      auto usual = open_model(aligned, runtime.get());
      for (int32_t precision : {FINERMOE_PRECISION_EXACT, FINERMOE_PRECISION_FAST}) {
        EXPECT_EQ(logits_of(model.get(), prompt, precision), logits_of(usual.get(), prompt, precision)) << name;
      }
    }
    auto copied = open_model(unaligned.path, nullptr, true);
    EXPECT_EQ(logits_of(copied.get(), prompt), logits_of(open_model(aligned).get(), prompt)) << name;
  }
}

TEST(ModelFiles, TensorsOfOddSizesInFront) {
  const std::string source = shape("dense-tied");
  for (const char* dtype : {"U8", "BOOL"}) {
    const Directory model(source);
    Safetensors weights = Safetensors::load(model / weights_name);
    weights.put_in_front(dtype, 7);
    weights.save(model / weights_name);
    expect_authors_logits(logits_of(open_model(model.path).get(), prompt_of(source)), source);
  }
}

TEST(ModelFiles, MetadataNull) {
  const std::string source = shape("dense-tied");
  const Directory model(source);
  Safetensors weights = Safetensors::load(model / weights_name);
  weights.header["__metadata__"] = nullptr;
  weights.save(model / weights_name);
  expect_authors_logits(logits_of(open_model(model.path).get(), prompt_of(source)), source);
}

TEST(ModelFiles, MemoryAtAnyAddress) {
  const std::string source = shape("finermoe-odd-width");
  Safetensors weights = Safetensors::load(source + "/model.safetensors");
  weights.header["__metadata__"] = {{"finermoe.config.json", files::read(source + "/config.json")}};
  for (size_t past : {0, 1, 2, 3}) {
    const std::string bytes = std::string(past, ' ') + weights.bytes();
    auto model = make<ModelHandle>([&](auto** out, auto** e) {
      return finermoe_model_open_memory(bytes.data() + past, bytes.size() - past, nullptr, out, e);
    });
    expect_authors_logits(logits_of(model.get(), prompt_of(source)), source);
  }
}

// The writers read the same weights, and so write the same bytes.
TEST(ModelFiles, WritersTakeUnalignedWeights) {
  const std::string aligned = shape("dense-untied-sharded");
  const Directory unaligned(aligned), out;
  shift_weights(unaligned);
  for (const char* drop : {"upcycled", "dropped"}) {
    std::string written[2];
    for (int i = 0; i < 2; i++) {
      const std::string path = out / std::string(drop) + std::to_string(i) + ".safetensors";
      using UpcycleOptions = std::unique_ptr<finermoe_upcycle_options, FreeWith<finermoe_upcycle_options_free>>;
      auto options =
          make<UpcycleOptions>([](auto** made, auto** e) { return finermoe_upcycle_options_create(nullptr, made, e); });
      EXPECT_DONE(finermoe_upcycle_options_set_shape(options.get(), 4, 1, 2, 2, 1, e));
      EXPECT_DONE(finermoe_upcycle_options_set_drop_ratio(options.get(), drop[0] == 'd' ? 0.5 : 0, e));
      const std::string& source = i == 0 ? aligned : unaligned.path;
      EXPECT_DONE(finermoe_upcycle_run(source.c_str(), path.c_str(), options.get(), nullptr, e));
      written[i] = files::read(path);
    }
    EXPECT_FALSE(written[0].empty());
    EXPECT_EQ(written[0], written[1]) << drop;
  }
  EXPECT_DONE(finermoe_quantize_run(aligned.c_str(), (out / "q0.safetensors").c_str(), nullptr, nullptr, e));
  EXPECT_DONE(finermoe_quantize_run(unaligned.path.c_str(), (out / "q1.safetensors").c_str(), nullptr, nullptr, e));
  EXPECT_EQ(files::read(out / "q0.safetensors"), files::read(out / "q1.safetensors"));

  // Blocks, too, may begin at any byte.
  const auto prompt = prompt_of(aligned);
  Safetensors::load(out / "q0.safetensors").save(out / "shifted.safetensors", 5);
  for (const auto& runtime : every_instruction_set()) {
    for (int32_t precision : {FINERMOE_PRECISION_EXACT, FINERMOE_PRECISION_FAST}) {
      EXPECT_EQ(logits_of(open_model(out / "shifted.safetensors", runtime.get()).get(), prompt, precision),
                logits_of(open_model(out / "q0.safetensors", runtime.get()).get(), prompt, precision));
    }
  }
}

TEST(ModelFiles, ExpertsOfUnalignedWeightsAreCompared) {
  const std::string aligned = shape("finermoe-concat-proj");
  const Directory unaligned(aligned);
  shift_weights(unaligned);
  double similarity[2] = {};
  for (int i = 0; i < 2; i++) {
    auto model = open_model(i == 0 ? aligned : unaligned.path);
    EXPECT_DONE(finermoe_model_expert_similarity(model.get(), 0, nullptr, &similarity[i], e));
  }
  EXPECT_EQ(similarity[0], similarity[1]);
}

}  // namespace
