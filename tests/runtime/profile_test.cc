// The profile of a runtime: every operation of a pass is counted, with the work that follows from the model's shape.
#include <map>

#include "bundled_model.h"

namespace {

std::map<std::string, finermoe_runtime_operation> read_profile(const finermoe_runtime* runtime) {
  std::map<std::string, finermoe_runtime_operation> operations;
  for (size_t i = 0; i < finermoe_runtime_operation_count(runtime); i++) {
    finermoe_runtime_operation operation{};
    operation.struct_size = sizeof operation;
    EXPECT_DONE(finermoe_runtime_get_operation(runtime, i, &operation, e));
    operations[operation.name] = operation;
  }
  return operations;
}

RuntimeHandle profiling_runtime() {
  auto options = runtime_options();
  EXPECT_DONE(finermoe_runtime_options_set_profile(options.get(), 1, e));
  return create_runtime(options);
}

TEST(Profile, CountsTheOperationsOfAPass) {
  // tiny-wordnet-finermoe
  constexpr uint64_t layers = 4, hidden = 192, heads = 6, kv_heads = 2, head_size = 32, vocab = 4096;
  constexpr uint64_t experts = 32, chosen = 2, width = 72, shared_width = 576, component = hidden / 2;
  constexpr uint64_t n = 10, bf16 = 2;
  const RuntimeHandle runtime = profiling_runtime();
  const ModelHandle model = open_model(golden::trained("tiny-wordnet-finermoe"), runtime.get());
  const SessionHandle session = open_session(model.get(), 64, n);
  const std::vector<int32_t> ids(n, 17);
  EXPECT_DONE(finermoe_session_append(session.get(), ids.data(), n, FINERMOE_LOGITS_LAST, nullptr, e));

  auto profile = read_profile(runtime.get());
  EXPECT_EQ(profile["embed"].n_calls, 1u);
  EXPECT_EQ(profile["embed"].bytes, n * hidden * bf16);
  EXPECT_EQ(profile["rms_norm"].n_calls, 2 * layers + 1);
  EXPECT_EQ(profile["qkv"].n_calls, layers);
  EXPECT_EQ(profile["qkv"].bytes, layers * hidden * (heads + 2 * kv_heads) * head_size * bf16);
  EXPECT_EQ(profile["qkv"].macs, layers * n * hidden * (heads + 2 * kv_heads) * head_size);
  EXPECT_EQ(profile["attention"].n_calls, layers);
  EXPECT_EQ(profile["attention"].macs, layers * 2 * (n * (n + 1) / 2) * heads * head_size);
  EXPECT_EQ(profile["linear"].n_calls, layers + 1);  // o, and the head for one row
  EXPECT_EQ(profile["linear"].macs, layers * n * heads * head_size * hidden + vocab * hidden);
  EXPECT_EQ(profile["route"].macs, layers * n * experts * hidden);
  EXPECT_EQ(profile["moe_ffn"].macs, layers * n * chosen * width * (2 * hidden + component));
  EXPECT_EQ(profile["gated_ffn"].macs, layers * n * 3 * hidden * shared_width);
  for (const auto& [name, operation] : profile) EXPECT_GT(operation.seconds, 0) << name;

  EXPECT_DONE(finermoe_runtime_reset_profile(runtime.get(), e));
  for (const auto& [name, operation] : read_profile(runtime.get())) {
    EXPECT_EQ(operation.n_calls, 0u) << name;
    EXPECT_EQ(operation.seconds, 0) << name;
    EXPECT_EQ(operation.macs, 0u) << name;
  }
}

TEST(Profile, ChangesNoLogits) {
  const std::vector<int32_t> ids = {17, 250, 3, 99};
  std::vector<float> logits[2];
  for (const bool profiled : {false, true}) {
    const RuntimeHandle runtime = profiled ? profiling_runtime() : open_runtime(2);
    const ModelHandle model = open_model(golden::trained("tiny-wordnet-finermoe"), runtime.get());
    const SessionHandle session = open_session(model.get(), 64);
    EXPECT_DONE(finermoe_session_append(session.get(), ids.data(), ids.size(), FINERMOE_LOGITS_ALL, nullptr, e));
    logits[profiled] = all_logits(session.get());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

TEST(Profile, ARuntimeWithoutOneHasNoOperations) {
  const RuntimeHandle runtime = open_runtime(1);
  EXPECT_EQ(finermoe_runtime_operation_count(runtime.get()), 0u);
  EXPECT_EQ(finermoe_runtime_operation_count(nullptr), 0u);
  finermoe_runtime_operation operation{};
  operation.struct_size = sizeof operation;
  const Failure failure =
      failure_of([&](finermoe_error** e) { return finermoe_runtime_get_operation(runtime.get(), 0, &operation, e); });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_INVALID_ARGUMENT) << failure.message;
  EXPECT_DONE(finermoe_runtime_reset_profile(runtime.get(), e));
}

}  // namespace
