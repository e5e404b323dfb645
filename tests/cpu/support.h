// What the tests of the CPU's kernels share.
#pragma once

#include "../backend/support.h"
#include "cpu/cpu_step.h"

namespace finermoe {

// A test with the kernels of one instruction set as its parameter; skipped where the machine lacks it.
class EveryIsa : public testing::TestWithParam<KernelSet> {
 protected:
  void SetUp() override {
    if (!GetParam().exists) GTEST_SKIP() << "this machine lacks " << GetParam().name;
  }
  const Kernels& kernels() const { return GetParam().kernels; }
};
#define FINERMOE_FOR_EVERY_ISA(suite)                                    \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::ValuesIn(kernel_sets()), \
                           [](const testing::TestParamInfo<KernelSet>& set) { return set.param.name; })

}  // namespace finermoe
