// Linux saves the tiles of AMX only for a process that has asked for it, and refuses while a signal stack is too small.
// In a program of its own: once given, the permission stays.
#include <csignal>
#include <cstring>
#include <future>
#include <thread>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

constexpr size_t too_small = 8192;  // enough for AVX-512; with tiles a signal's frame takes some 11 KiB

int set_signal_stack(int flags) {
  static char memory[too_small];
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = sizeof memory;
  stack.ss_flags = flags;
  return sigaltstack(&stack, nullptr);
}

int32_t isa_of(finermoe_runtime* runtime) {
  finermoe_runtime_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_runtime_get_info(runtime, &info, e));
  return info.isa;
}

finermoe_system_info system_info() {
  finermoe_system_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_system_get_info(&info, e));
  return info;
}
std::string version_of_the_cpu() {
  finermoe_device_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_device_get_info(nullptr, 0, &info, e));
  return info.version;
}

// For a session of a runtime; null: of one that is yet to be created.
finermoe_plan plan_for(finermoe_runtime* runtime) {
  const auto config = make<ConfigHandle>([](auto** out, auto** e) {
    return finermoe_config_open(golden::trained("tiny-wordnet-finermoe").c_str(), out, e);
  });
  const auto options = make<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  if (runtime != nullptr) EXPECT_DONE(finermoe_plan_options_set_runtime(options.get(), runtime, e));
  finermoe_plan plan{};
  plan.struct_size = sizeof plan;
  EXPECT_DONE(finermoe_plan_compute(config.get(), options.get(), &plan, e));
  return plan;
}
// Bytes that a session adds to a runtime's memory.
uint64_t bytes_of_session(finermoe_runtime* runtime) {
  const auto used = [&] {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime, &info, e));
    return info.memory_used;
  };
  const auto model = open_model(golden::trained("tiny-wordnet-finermoe"), runtime);
  const uint64_t before = used();
  const auto session = open_session(model.get());
  return used() - before;
}

// Must come before the test that is given the permission.
TEST(AmxPermission, AfterARefusalNothingSpeaksOfTiles) {
  if (!has_tiles()) GTEST_SKIP() << "this machine lacks AMX";
  EXPECT_EQ(FINERMOE_ISA_AMX, system_info().isa);
  EXPECT_EQ("amx", version_of_the_cpu());
  const uint64_t with_tiles = plan_for(nullptr).scratch;

  ASSERT_EQ(0, set_signal_stack(0));
  const auto refused = open_runtime(0);
  EXPECT_EQ(FINERMOE_ISA_AVX512, isa_of(refused.get()));
  EXPECT_EQ(FINERMOE_ISA_AVX512, system_info().isa);
  EXPECT_STREQ("avx512", system_info().kernels);
  EXPECT_NE(0u, system_info().isas >> FINERMOE_ISA_AMX & 1) << "the processor still has it";
  EXPECT_EQ("avx512", version_of_the_cpu());
  const uint64_t without = plan_for(nullptr).scratch;
  EXPECT_LT(without, with_tiles);
  EXPECT_EQ(without, plan_for(refused.get()).scratch);
  EXPECT_EQ(plan_for(refused.get()).allocated_total, bytes_of_session(refused.get()));
  ASSERT_EQ(0, set_signal_stack(SS_DISABLE));
  EXPECT_EQ(without, plan_for(refused.get()).scratch) << "that runtime stays as it is";
  EXPECT_EQ(with_tiles, plan_for(nullptr).scratch);

  // What stacks other threads have, only asking tells.
  std::promise<void> is_small, is_enough;
  std::thread other([&] {
    EXPECT_EQ(0, set_signal_stack(0));
    is_small.set_value();
    is_enough.get_future().wait();
    EXPECT_EQ(0, set_signal_stack(SS_DISABLE));
  });
  is_small.get_future().wait();
  const auto refused_too = open_runtime(0);
  EXPECT_EQ(FINERMOE_ISA_AVX512, isa_of(refused_too.get()));
  EXPECT_EQ(without, plan_for(refused_too.get()).scratch);
  EXPECT_EQ(plan_for(refused_too.get()).allocated_total, bytes_of_session(refused_too.get()));
  is_enough.set_value();
  other.join();
}

TEST(AmxPermission, ARuntimeTakesAvx512WhereTheSystemRefuses) {
  if (!has_tiles()) GTEST_SKIP() << "this machine lacks AMX";
  ASSERT_EQ(0, set_signal_stack(0));
  EXPECT_EQ(FINERMOE_ISA_AVX512, isa_of(open_runtime(0, FINERMOE_ISA_AUTO).get()));

  finermoe_runtime_options* options = nullptr;
  finermoe_runtime* runtime = nullptr;
  finermoe_error* error = nullptr;
  EXPECT_DONE(finermoe_runtime_options_create(&options, e));
  EXPECT_DONE(finermoe_runtime_options_set_isa(options, FINERMOE_ISA_AMX, e));  // the processor has it
  EXPECT_EQ(FINERMOE_ERROR_UNSUPPORTED, finermoe_runtime_create(options, &runtime, &error));
  EXPECT_EQ(nullptr, runtime);
  ASSERT_NE(nullptr, error);
  EXPECT_NE(nullptr, std::strstr(finermoe_error_message(error), "sigaltstack"));
  finermoe_error_free(error);

  ASSERT_EQ(0, set_signal_stack(SS_DISABLE));
  EXPECT_DONE(finermoe_runtime_create(options, &runtime, e));
  EXPECT_EQ(FINERMOE_ISA_AMX, isa_of(runtime));
  EXPECT_EQ(-1, set_signal_stack(0)) << "docs/amx.md says that such stacks are refused from now on";
  finermoe_runtime_free(runtime);
  finermoe_runtime_options_free(options);

  const auto chosen = open_runtime(0, FINERMOE_ISA_AUTO);
  EXPECT_EQ(FINERMOE_ISA_AMX, isa_of(chosen.get()));
  EXPECT_EQ(plan_for(nullptr).scratch, plan_for(chosen.get()).scratch);
  EXPECT_EQ(plan_for(chosen.get()).allocated_total, bytes_of_session(chosen.get()));
}

}  // namespace
