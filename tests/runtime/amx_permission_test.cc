// Linux saves the tiles of AMX only for a process that has asked for it, and refuses while a signal stack is too small.
// In a program of its own: once given, the permission stays.
#include <csignal>
#include <cstring>

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
}

}  // namespace
