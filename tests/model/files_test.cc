// Models in files as other tools write them, from the file to the logits.
#include <algorithm>
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
  for (const int32_t isa : instruction_sets()) runtimes.push_back(open_runtime(2, isa));
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

TEST(ModelFiles, ACopyOfMemoryOutlivesIt) {
  const std::string source = shape("finermoe-odd-width");
  Safetensors weights = Safetensors::load(source + "/model.safetensors");
  weights.header["__metadata__"] = {{"finermoe.config.json", files::read(source + "/config.json")}};
  std::string bytes = weights.bytes();
  auto options = make<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  EXPECT_DONE(finermoe_model_options_set_copy(options.get(), 1, e));
  auto model = make<ModelHandle>([&](auto** out, auto** e) {
    return finermoe_model_open_memory(bytes.data(), bytes.size(), options.get(), out, e);
  });
  std::fill(bytes.begin(), bytes.end(), '\xff');
  expect_authors_logits(logits_of(model.get(), prompt_of(source)), source);
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

// A tied model whose index names a head that no file holds.
TEST(ModelFiles, IndexThatNamesATiedHead) {
  const std::string source = shape("dense-tied");
  const Directory model(source);
  files::fs::rename(model / weights_name, model / "model-00001-of-00001.safetensors");
  const Safetensors weights = Safetensors::load(model / "model-00001-of-00001.safetensors");
  Json map;
  for (const auto& [name, tensor] : weights.header.items()) {
    if (name != "__metadata__") map[name] = "model-00001-of-00001.safetensors";
  }
  map["lm_head.weight"] = "model-00001-of-00001.safetensors";
  files::write(model / "model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  expect_authors_logits(logits_of(open_model(model.path).get(), prompt_of(source)), source);
}

// A tied model, and what its file holds as a head.
class TiedHead : public testing::Test {
 protected:
  const std::string source = shape("dense-tied");
  const std::vector<int32_t> prompt = prompt_of(source);
  Directory model{source};
  Safetensors weights = Safetensors::load(source + "/model.safetensors");
  const std::string embeddings = weights.bytes_of("model.embed_tokens.weight");
  // Not those of the embeddings.
  const std::string stray = Safetensors::load(golden::source_root() + "/tests/data/stray-head/lm_head.safetensors")
                                .bytes_of("lm_head.weight");

  void store_head(const char* dtype, const std::string& bytes) {
    weights.add("lm_head.weight", dtype, {320, 64}, bytes);
    weights.save(model / weights_name);
  }

  // The authors' model with the same two matrices, not tied.
  std::vector<float> untied_logits(const std::string& path) {
    const Directory untied(path);
    Json config = Json::parse(files::read(untied / "config.json"));
    config["tie_word_embeddings"] = false;
    files::write(untied / "config.json", config.dump());
    return logits_of(open_model(untied.path).get(), prompt);
  }

  static bool is_tied(finermoe_model* opened) {
    auto config = make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open_model(opened, out, e); });
    finermoe_config_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_config_get_info(config.get(), &info, e));
    return info.tied_embeddings != 0;
  }

  // The messages that the log hears while `use` has the model.
  template <class Use>
  static std::vector<std::string> log_of(const std::string& path, Use&& use) {
    std::vector<std::string> messages;
    auto options = runtime_options();
    EXPECT_DONE(finermoe_runtime_options_set_log(
        options.get(),
        [](void* user, int32_t level, const char* message) {
          if (level == 1 && std::string(message).find("lm_head") != std::string::npos) {
            static_cast<std::vector<std::string>*>(user)->push_back(message);
          }
        },
        &messages, e));
    auto runtime =
        make<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_create(options.get(), out, e); });
    auto opened = open_model(path, runtime.get());
    EXPECT_TRUE(messages.empty()) << "opening reads no weights";
    use(opened.get());
    return messages;
  }

  // What quantisation and upcycling make of the model, with their logits.
  void expect_writers_untie(bool untied) {
    const Directory out;
    const std::string quantized = out / "q8", upcycled = out / "moe";
    using QuantizeOptions = std::unique_ptr<finermoe_quantize_options, FreeWith<finermoe_quantize_options_free>>;
    auto types = make<QuantizeOptions>(
        [](auto** made, auto** e) { return finermoe_quantize_options_create(FINERMOE_DTYPE_Q8, made, e); });
    EXPECT_DONE(finermoe_quantize_options_add_override(types.get(), "*", -1, e));  // all as in the source
    EXPECT_DONE(finermoe_quantize_run(model.path.c_str(), quantized.c_str(), types.get(), nullptr, e));
    EXPECT_EQ(logits_of(open_model(quantized).get(), prompt), logits_of(open_model(model.path).get(), prompt));
    const Json config = Json::parse(files::read(quantized + "/config.json"));
    EXPECT_EQ(config["tie_word_embeddings"], !untied);
    const Safetensors written = Safetensors::load(quantized + "/model.safetensors");
    EXPECT_EQ(written.header.contains("lm_head.weight"), untied);

    using UpcycleOptions = std::unique_ptr<finermoe_upcycle_options, FreeWith<finermoe_upcycle_options_free>>;
    auto options =
        make<UpcycleOptions>([](auto** made, auto** e) { return finermoe_upcycle_options_create(nullptr, made, e); });
    EXPECT_DONE(finermoe_upcycle_options_set_shape(options.get(), 4, 1, 2, 2, 1, e));
    EXPECT_DONE(finermoe_upcycle_run(model.path.c_str(), upcycled.c_str(), options.get(), nullptr, e));
    const Safetensors moe = Safetensors::load(upcycled + "/model.safetensors");
    EXPECT_EQ(moe.bytes_of("lm_head.weight"), untied ? stray : embeddings);
    EXPECT_EQ(moe.bytes_of("model.embed_tokens.weight"), embeddings);
  }
};

// The limit of weights on a device counts the head that is used, and no other is copied there.
TEST_F(TiedHead, IsCopiedOnceWhereLayersAreDivided) {
  if (!test_divides_layers()) GTEST_SKIP() << "all layers are on one device";
  store_head("BF16", stray);
  auto runtime = create_runtime(runtime_options());
  const auto opened = open_model(model.path, runtime.get());
  const auto used = [&] {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
    return info.memory_used;
  };
  const auto session = open_session(opened.get());
  const uint64_t before = used();
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_LAST, nullptr, e));
  EXPECT_EQ(used(), before);
}

TEST_F(TiedHead, OneThatDiffersIsUsed) {
  store_head("BF16", stray);
  auto opened = open_model(model.path);
  // What transformers 5.23 finds likeliest behind each of these tokens.
  const auto logits = logits_of(opened.get(), {5, 6, 7});
  std::vector<int32_t> likeliest;
  for (size_t row = 0; row < 3; row++) {
    const auto first = logits.begin() + static_cast<ptrdiff_t>(row * 320);
    likeliest.push_back(static_cast<int32_t>(std::max_element(first, first + 320) - first));
  }
  EXPECT_EQ(likeliest, std::vector<int32_t>({314, 125, 125}));
  EXPECT_FALSE(is_tied(opened.get()));
  EXPECT_EQ(logits_of(opened.get(), prompt), untied_logits(model.path));
  expect_writers_untie(true);
  const auto log = log_of(model.path, [&](finermoe_model* m) {
    for (int i = 0; i < 2; i++) logits_of(m, prompt);
  });
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("differs"), std::string::npos) << log[0];
}

TEST_F(TiedHead, OneThatDiffersInItsLastElementIsUsed) {
  std::string almost = embeddings;
  almost.back() = static_cast<char>(almost.back() ^ 1);
  store_head("BF16", almost);
  EXPECT_FALSE(is_tied(open_model(model.path).get()));
  EXPECT_EQ(logits_of(open_model(model.path).get(), prompt), untied_logits(model.path));
}

TEST_F(TiedHead, OneThatIsEqualIsTied) {
  store_head("BF16", embeddings);
  EXPECT_TRUE(is_tied(open_model(model.path).get()));
  expect_authors_logits(logits_of(open_model(model.path).get(), prompt), source);
  expect_writers_untie(false);
  const auto log = log_of(model.path, [&](finermoe_model* m) { logits_of(m, prompt); });
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("equals"), std::string::npos) << log[0];
}

TEST_F(TiedHead, OneOfAnotherTypeIsComparedByItsValues) {
  std::string wide;  // BF16 as float32: two bytes of zeros below
  for (size_t i = 0; i < embeddings.size(); i += 2) wide += std::string(2, '\0') + embeddings.substr(i, 2);
  store_head("F32", wide);
  EXPECT_TRUE(is_tied(open_model(model.path).get()));
  wide[0] = 1;
  Safetensors changed = Safetensors::load(source + "/model.safetensors");
  changed.add("lm_head.weight", "F32", {320, 64}, wide);
  changed.save(model / weights_name);
  EXPECT_FALSE(is_tied(open_model(model.path).get()));
}

TEST_F(TiedHead, OneOfAnotherShapeIsAnError) {
  weights.add("lm_head.weight", "BF16", {319, 64}, stray.substr(0, 319 * 128));
  weights.save(model / weights_name);
  const Failure failure = failure_of([&](finermoe_error** e) {
    finermoe_model* out = nullptr;
    return finermoe_model_open(model.path.c_str(), nullptr, &out, e);
  });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_TENSOR_SHAPE);
  EXPECT_NE(failure.message.find("lm_head.weight"), std::string::npos) << failure.message;
}

// Some savers keep the head and drop the embeddings.
TEST_F(TiedHead, AloneItIsTheEmbeddings) {
  weights.rename("model.embed_tokens.weight", "lm_head.weight");
  weights.save(model / weights_name);
  auto opened = open_model(model.path);
  EXPECT_TRUE(is_tied(opened.get()));
  expect_authors_logits(logits_of(opened.get(), prompt), source);
  expect_writers_untie(false);
  EXPECT_TRUE(log_of(model.path, [&](finermoe_model* m) { logits_of(m, prompt); }).empty());
}

TEST_F(TiedHead, SavedSessionsKnowTheHeadThatIsUsed) {
  store_head("BF16", stray);
  const Directory out;
  const std::string saved = out / "session";
  auto opened = open_model(model.path);
  auto session = open_session(opened.get());
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_NONE, nullptr, e));
  EXPECT_DONE(finermoe_session_save(session.get(), saved.c_str(), e));
  const auto restore = [&](const std::string& path) {
    auto other = open_model(path);
    auto fresh = open_session(other.get());
    return failure_of([&](finermoe_error** e) { return finermoe_session_restore(fresh.get(), saved.c_str(), e); }).code;
  };
  EXPECT_EQ(restore(model.path), FINERMOE_OK);
  EXPECT_EQ(restore(source), FINERMOE_ERROR_SESSION_MISMATCH);
}

}  // namespace
