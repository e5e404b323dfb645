// What the type of the KV cache costs: perplexity on held-out text of the bundled models, beside a cache in float32.
#include <cmath>
#include <cstring>
#include <span>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

// Tokens that are scored together. On an emulated GPU one window of few tokens, for which less is averaged.
const size_t window = unless_emulated<size_t>(256, 32);
const double bound = unless_emulated(2e-3, 1e-2);

std::vector<int32_t> held_out(const std::string& model) {
  const std::string file = golden::read_file(model + "/heldout-ids.npy");
  uint16_t header_length;
  std::memcpy(&header_length, file.data() + 8, 2);
  std::vector<int32_t> ids((file.size() - 10 - header_length) / sizeof(int32_t));
  std::memcpy(ids.data(), file.data() + 10 + header_length, ids.size() * sizeof(int32_t));
  return ids;
}

struct Way {
  int32_t kv_dtype, precision;
  size_t at_once;  // tokens of one append
};

double perplexity(finermoe_model* model, std::span<const int32_t> ids, const Way& way) {
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), window, e));
  EXPECT_DONE(finermoe_session_options_set_kv_dtype(options.get(), way.kv_dtype, e));
  EXPECT_DONE(finermoe_session_options_set_precision(options.get(), way.precision, e));
  auto session =
      make<SessionHandle>([&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
  double nll = 0;
  size_t n_scored = 0;
  for (size_t at = 0; at < ids.size(); at += way.at_once) {
    if (at % window == 0) EXPECT_DONE(finermoe_session_reset(session.get(), e));
    EXPECT_DONE(finermoe_session_append(session.get(), &ids[at], way.at_once, FINERMOE_LOGITS_ALL, nullptr, e));
    for (size_t i = at; i < at + way.at_once; i++) {
      if ((i + 1) % window == 0) continue;
      const std::vector<float> logits = session_logits(session.get(), i - at);
      double total = 0;
      for (float logit : logits) total += std::exp(double(logit));
      nll += std::log(total) - double(logits[size_t(ids[i + 1])]);
      n_scored++;
    }
  }
  return std::exp(nll / double(n_scored));
}

class KvCache : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, KvCache, testing::Values("tiny-wordnet-dense", "tiny-wordnet-finermoe"));

TEST_P(KvCache, PerplexityIsThatOfFloat32) {
  const std::string path = golden::trained(GetParam());
  auto model = open_model(path);
  const std::vector<int32_t> ids = held_out(path);
  const size_t n_all = unless_emulated(ids.size(), window), n_decoded = unless_emulated(8 * window, window);
  ASSERT_EQ(n_all % window, 0u);
  for (auto [at_once, n] : {std::pair{window, n_all}, {size_t{1}, n_decoded}}) {  // prefill, and decoding
    const std::span<const int32_t> text(ids.data(), n);
    for (int32_t precision : {FINERMOE_PRECISION_EXACT, FINERMOE_PRECISION_FAST}) {
      const double whole = perplexity(model.get(), text, {FINERMOE_DTYPE_F32, precision, at_once});
      if (n == ids.size() && precision == FINERMOE_PRECISION_EXACT) {
        EXPECT_NEAR(std::log(whole), golden::expected(path)["perplexity"]["nll_per_token_float32"].get<double>(), 1e-4);
      }
      for (int32_t dtype : {FINERMOE_DTYPE_F16, FINERMOE_DTYPE_BF16, FINERMOE_DTYPE_Q8}) {
        const double found = perplexity(model.get(), text, {dtype, precision, at_once});
        RecordProperty("type " + std::to_string(dtype) + " precision " + std::to_string(precision) + " at once " +
                           std::to_string(at_once),
                       std::to_string(found / whole - 1));
        EXPECT_NEAR(found / whole, 1, bound) << "type " << dtype << ", precision " << precision << ", " << at_once;
      }
    }
  }
}

}  // namespace
