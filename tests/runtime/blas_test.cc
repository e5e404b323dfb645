// A BLAS library that a runtime is asked to open, through finermoe.h.
#include <cstring>
#include <string>
#include <vector>

#include "../support/handles.h"

namespace {

std::string fake(const char* name) {
  const char* const path = std::getenv((std::string("FINERMOE_TEST_BLAS_") + name).c_str());
  EXPECT_NE(nullptr, path) << name;
  return path == nullptr ? "" : path;
}

RuntimeOptions options_with(const char* path, int32_t isa = FINERMOE_ISA_AUTO) {
  auto options = runtime_options();
  EXPECT_DONE(finermoe_runtime_options_set_threads(options.get(), 2, e));
  EXPECT_DONE(finermoe_runtime_options_set_isa(options.get(), isa, e));
  EXPECT_DONE(finermoe_runtime_options_set_blas(options.get(), path, e));
  return options;
}

finermoe_runtime_info info_of(const RuntimeHandle& runtime) {
  finermoe_runtime_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
  return info;
}

// Whether this processor has nothing better than what a BLAS is faster than.
bool is_portable() { return instruction_sets().back() == FINERMOE_ISA_PORTABLE; }

TEST(RuntimeBlas, IsOpenedAndUsedWhereTheProcessorChoseThePortableKernels) {
  EXPECT_STREQ("", info_of(create_runtime(runtime_options())).blas);
  const auto info = info_of(create_runtime(options_with(fake("GOOD").c_str())));
  EXPECT_STREQ("OpenBLAS 0.0 of the tests MAX_THREADS=4", info.blas);
  EXPECT_EQ(is_portable(), info.uses_blas);
}

TEST(RuntimeBlas, IsNotUsedWithAnInstructionSetThatWasSet) {
  const auto info = info_of(create_runtime(options_with(fake("GOOD").c_str(), FINERMOE_ISA_PORTABLE)));
  EXPECT_STREQ("OpenBLAS 0.0 of the tests MAX_THREADS=4", info.blas);
  EXPECT_EQ(FINERMOE_ISA_PORTABLE, info.isa);
  EXPECT_EQ(0, info.uses_blas);
}

TEST(RuntimeBlas, TheHostsLogSaysWhatBecameOfIt) {
  std::vector<std::string> messages;
  auto options = options_with(fake("GOOD").c_str());
  const auto sink = [](void* user, int32_t, const char* message) {
    static_cast<std::vector<std::string>*>(user)->push_back(message);
  };
  EXPECT_DONE(finermoe_runtime_options_set_log(options.get(), sink, &messages, e));
  create_runtime(options);
  ASSERT_EQ(1u, messages.size());
  EXPECT_EQ(is_portable() ? "OpenBLAS 0.0 of the tests MAX_THREADS=4 computes products"
                          : "OpenBLAS 0.0 of the tests MAX_THREADS=4 is not used",
            messages[0]);
}

TEST(RuntimeBlas, WhatCannotBeUsedIsAnErrorAfterWhichAllWorks) {
  const std::string missing = testing::TempDir() + "/is-not-there/libopenblas.so";
  for (const auto& [path, code] : {std::pair{missing, FINERMOE_ERROR_FILE_NOT_FOUND},
                                   {testing::TempDir(), FINERMOE_ERROR_FILE_UNREADABLE},
                                   {std::string(__FILE__), FINERMOE_ERROR_FILE_UNREADABLE},
                                   {fake("LACKS"), FINERMOE_ERROR_UNSUPPORTED},
                                   {fake("64_BIT"), FINERMOE_ERROR_UNSUPPORTED},
                                   {fake("SKIPS_LAST"), FINERMOE_ERROR_UNSUPPORTED}}) {
    const auto options = options_with(path.c_str());
    const Failure failure = failure_of([&](finermoe_error** e) {
      finermoe_runtime* runtime = nullptr;
      return finermoe_runtime_create(options.get(), &runtime, e);
    });
    EXPECT_EQ(code, failure.code) << path;
    EXPECT_NE(std::string::npos, failure.message.find(path)) << failure.message;
  }
  EXPECT_STREQ("OpenBLAS 0.0 of the tests MAX_THREADS=4",
               info_of(create_runtime(options_with(fake("GOOD").c_str()))).blas);
}

TEST(RuntimeBlas, NoPathMeansThatOfTheSystem) {
  finermoe_runtime* created = nullptr;
  const auto options = options_with(nullptr);
  const Failure failure =
      failure_of([&](finermoe_error** e) { return finermoe_runtime_create(options.get(), &created, e); });
  const RuntimeHandle runtime(created);
  if (failure.code == FINERMOE_ERROR_FILE_NOT_FOUND) GTEST_SKIP() << failure.message;
  ASSERT_EQ(FINERMOE_OK, failure.code) << failure.message;
  EXPECT_EQ(0, std::strncmp("OpenBLAS ", info_of(runtime).blas, 9)) << info_of(runtime).blas;
}

}  // namespace
