// The trace: usage and balance loss against their definitions, similarity against all pairs, what is not recorded.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

const std::vector<int32_t> prompt = {17, 250, 3, 99, 120, 7, 7, 301, 42, 5, 64, 11};

std::string shape(const char* name) { return golden::source_root() + "/tests/data/shapes/" + name; }

TraceHandle open_trace(finermoe_model* model, uint32_t what) {
  return make<TraceHandle>([&](auto** out, auto** e) { return finermoe_trace_create(model, what, out, e); });
}
finermoe_trace_info info_of(finermoe_trace* trace) {
  finermoe_trace_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_trace_get_info(trace, &info, e));
  return info;
}
#define READ(T, call_name, trace, layer)                                           \
  read_array<T>([&](T* out, size_t capacity, size_t* needed, finermoe_error** e) { \
    return call_name(trace.get(), layer, out, capacity, needed, e);                \
  })

TEST(Trace, UsageAndBalanceLossFollowEquation11) {
  for (const char* name : {"finermoe-32-1-2-2", "finermoe-ti2-ri2", "qwen2-moe", "finermoe-step2"}) {
    auto model = open_model(shape(name));
    auto trace = open_trace(model.get(), FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_LOGITS | FINERMOE_TRACE_USAGE);
    auto session = open_session(model.get(), 0, 5);
    EXPECT_DONE(finermoe_session_set_trace(session.get(), trace.get(), e));
    EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_NONE, nullptr, e));
    const auto info = info_of(trace.get());
    ASSERT_EQ(info.n_tokens, prompt.size());
    for (size_t layer = 0; layer < info.n_moe_layers; layer++) {
      const auto experts = READ(int32_t, finermoe_trace_experts, trace, layer);
      const auto logits = READ(float, finermoe_trace_logits, trace, layer);
      const auto groups = READ(int32_t, finermoe_trace_groups, trace, layer);
      const auto usage = READ(uint64_t, finermoe_trace_usage, trace, layer);
      ASSERT_EQ(logits.size(), prompt.size() * info.n_experts);
      ASSERT_EQ(groups.size(), prompt.size() * info.n_components);
      std::vector<double> p(info.n_experts), f(info.n_experts);
      for (size_t t = 0; t < prompt.size(); t++) {
        double sum = 0;
        for (size_t i = 0; i < info.n_experts; i++)
          sum += std::exp(static_cast<double>(logits[t * info.n_experts + i]));
        for (size_t i = 0; i < info.n_experts; i++) {
          p[i] +=
              std::exp(static_cast<double>(logits[t * info.n_experts + i])) / sum / static_cast<double>(prompt.size());
        }
      }
      for (int32_t expert : experts) f[static_cast<size_t>(expert)]++;
      double loss = 0;
      for (size_t i = 0; i < info.n_experts; i++) {
        EXPECT_EQ(static_cast<double>(usage[i]), f[i]);
        loss += static_cast<double>(info.n_experts) / static_cast<double>(info.n_experts_per_token * prompt.size()) *
                f[i] * p[i];
      }
      double reported = 0;
      EXPECT_DONE(finermoe_trace_balance_loss(trace.get(), layer, &reported, e));
      EXPECT_NEAR(reported, loss, 1e-9) << name << " layer " << layer;
    }
  }
}

TEST(Trace, LayersAreTheModelsOwn) {
  auto model = open_model(shape("finermoe-dense-first"));
  auto trace = open_trace(model.get(), FINERMOE_TRACE_ROUTES);
  const auto config = nlohmann::json::parse(golden::read_file(shape("finermoe-dense-first") + "/config.json"));
  std::vector<size_t> want;
  for (size_t layer = 0; layer < config["num_hidden_layers"].get<size_t>(); layer++) {
    const auto& dense = config["mlp_only_layers"];
    if (std::find(dense.begin(), dense.end(), layer) == dense.end()) want.push_back(layer);
  }
  EXPECT_EQ(read_array<size_t>([&](size_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
              return finermoe_trace_layers(trace.get(), out, capacity, needed, e);
            }),
            want);
}

TEST(Trace, WhatIsNotRecordedIsNotThere) {
  auto model = open_model(shape("finermoe-32-1-2-2"));
  auto trace = open_trace(model.get(), FINERMOE_TRACE_USAGE);
  double loss;
  EXPECT_EQ(finermoe_trace_experts(trace.get(), 0, nullptr, 0, nullptr, nullptr), FINERMOE_ERROR_STATE);
  EXPECT_EQ(finermoe_trace_balance_loss(trace.get(), 0, &loss, nullptr), FINERMOE_ERROR_STATE);
  EXPECT_EQ(finermoe_trace_usage(trace.get(), 2, nullptr, 0, nullptr, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST(Trace, ClearBeginsAnewAndAFailedAppendLeavesNothing) {
  auto model = open_model(shape("finermoe-32-1-2-2"));
  auto trace = open_trace(model.get(), FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_USAGE);
  auto session = open_session(model.get());
  EXPECT_DONE(finermoe_session_set_trace(session.get(), trace.get(), e));
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  finermoe_cancel_request(cancel.get());
  EXPECT_EQ(finermoe_session_append(session.get(), prompt.data(), prompt.size(), 0, cancel.get(), nullptr),
            FINERMOE_ERROR_CANCELLED);
  EXPECT_EQ(info_of(trace.get()).n_tokens, 0u);
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), 4, 0, nullptr, e));
  EXPECT_EQ(info_of(trace.get()).n_tokens, 4u);
  EXPECT_DONE(finermoe_trace_clear(trace.get(), e));
  EXPECT_EQ(info_of(trace.get()).n_tokens, 0u);
  EXPECT_EQ(READ(int32_t, finermoe_trace_experts, trace, 0).size(), 0u);
}

TEST(Trace, ARowHasItsPosition) {
  auto model = open_model(shape("finermoe-32-1-2-2"));
  auto session = open_session(model.get(), 64, 3);
  auto trace = make<TraceHandle>(
      [&](auto** out, auto** e) { return finermoe_trace_create(model.get(), FINERMOE_TRACE_LOGITS, out, e); });
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), 2, 0, nullptr, e));
  EXPECT_DONE(finermoe_session_set_trace(session.get(), trace.get(), e));
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), 4, 0, nullptr, e));
  EXPECT_DONE(finermoe_session_truncate(session.get(), 4, e));
  EXPECT_DONE(finermoe_session_append(session.get(), prompt.data(), 2, 0, nullptr, e));
  const auto positions = [](const TraceHandle& of) {
    return read_array<size_t>([&](size_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_trace_positions(of.get(), out, capacity, needed, e);
    });
  };
  EXPECT_EQ(positions(trace), (std::vector<size_t>{2, 3, 4, 5, 4, 5}));
  EXPECT_EQ(info_of(trace.get()).n_tokens, 6u);
  EXPECT_DONE(finermoe_trace_clear(trace.get(), e));
  EXPECT_TRUE(positions(trace).empty());
  auto usage = make<TraceHandle>(
      [&](auto** out, auto** e) { return finermoe_trace_create(model.get(), FINERMOE_TRACE_USAGE, out, e); });
  EXPECT_EQ(finermoe_trace_positions(usage.get(), nullptr, 0, nullptr, nullptr), FINERMOE_ERROR_STATE);
}

TEST(Trace, BelongsToItsModel) {
  auto one = open_model(shape("finermoe-32-1-2-2"));
  auto other = open_model(shape("c32a2"));
  auto trace = make<TraceHandle>(
      [&](auto** out, auto** e) { return finermoe_trace_create(other.get(), FINERMOE_TRACE_ROUTES, out, e); });
  auto session = open_session(one.get());
  EXPECT_EQ(finermoe_session_set_trace(session.get(), trace.get(), nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(other.get(), out, e); });
  auto generation = generate(session.get(), nullptr, {1});
  EXPECT_EQ(finermoe_batch_add(batch.get(), generation.get(), nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST(Trace, OneRecordsOneSession) {
  auto model = open_model(shape("finermoe-32-1-2-2"));
  auto first = open_session(model.get()), second = open_session(model.get());
  auto trace = make<TraceHandle>(
      [&](auto** out, auto** e) { return finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES, out, e); });
  EXPECT_DONE(finermoe_session_set_trace(first.get(), trace.get(), e));
  EXPECT_DONE(finermoe_session_set_trace(first.get(), trace.get(), e));
  EXPECT_EQ(finermoe_session_set_trace(second.get(), trace.get(), nullptr), FINERMOE_ERROR_STATE);
  EXPECT_DONE(finermoe_session_set_trace(first.get(), nullptr, e));
  EXPECT_DONE(finermoe_session_set_trace(second.get(), trace.get(), e));
  second.reset();  // a session that ends gives it back
  EXPECT_DONE(finermoe_session_set_trace(first.get(), trace.get(), e));
  EXPECT_DONE(finermoe_session_append(first.get(), prompt.data(), 4, 0, nullptr, e));
  EXPECT_EQ(info_of(trace.get()).n_tokens, 4u);
}

// The routed experts' matrices straight from the file, widened here.
std::vector<std::vector<double>> experts_of(const std::string& model, size_t layer, size_t n_experts) {
  std::map<size_t, std::vector<double>> experts;
  const std::string file = golden::read_file(model + "/model.safetensors");
  uint64_t header_size;
  std::memcpy(&header_size, file.data(), 8);
  const auto header = nlohmann::json::parse(file.substr(8, header_size));
  for (size_t e = 0; e < n_experts; e++) {
    for (const char* matrix : {"gate_proj", "up_proj", "down_proj"}) {
      const auto& entry = header.at("model.layers." + std::to_string(layer) + ".mlp.experts." + std::to_string(e) +
                                    "." + matrix + ".weight");
      EXPECT_EQ(entry["dtype"], "BF16");
      const size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
      for (size_t at = begin; at < end; at += 2) {
        uint16_t bits;
        std::memcpy(&bits, file.data() + 8 + header_size + at, 2);
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float value;
        std::memcpy(&value, &wide, 4);
        experts[e].push_back(value);
      }
    }
  }
  std::vector<std::vector<double>> out;
  for (auto& [e, values] : experts) out.push_back(std::move(values));
  return out;
}

TEST(Similarity, IsTheMeanOverAllPairs) {
  for (auto [name, n] : std::map<std::string, size_t>{{"qwen2-moe", 12}, {"out-fg", 4}}) {
    auto model = open_model(shape(name.c_str()));
    const auto experts = experts_of(shape(name.c_str()), 0, n);
    double sum = 0, pairs = 0;
    auto dot = [](const auto& a, const auto& b) {
      double out = 0;
      for (size_t i = 0; i < a.size(); i++) out += a[i] * b[i];
      return out;
    };
    for (size_t a = 0; a < n; a++) {
      for (size_t b = a + 1; b < n; b++, pairs++) {
        sum += dot(experts[a], experts[b]) / std::sqrt(dot(experts[a], experts[a]) * dot(experts[b], experts[b]));
      }
    }
    double similarity = 0;
    EXPECT_DONE(finermoe_model_expert_similarity(model.get(), 0, nullptr, &similarity, e));
    EXPECT_NEAR(similarity, sum / pairs, 1e-9);
    EXPECT_EQ(finermoe_model_expert_similarity(model.get(), 99, nullptr, &similarity, nullptr),
              FINERMOE_ERROR_INVALID_ARGUMENT);
  }
}

}  // namespace
