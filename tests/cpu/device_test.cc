// The CPU as a device: its instruction sets.
#include "support.h"

namespace finermoe {
namespace {

TEST(ResolveIsaTest, RefusesWhatIsNotThere) {
  EXPECT_TRUE(resolve_isa(FINERMOE_ISA_AUTO).ok());
  EXPECT_NE(FINERMOE_ISA_AUTO, *resolve_isa(FINERMOE_ISA_AUTO));
  EXPECT_EQ(FINERMOE_ISA_PORTABLE, *resolve_isa(FINERMOE_ISA_PORTABLE));
  EXPECT_EQ(FINERMOE_ERROR_INVALID_ARGUMENT, resolve_isa(-1).status().code());
  EXPECT_EQ(FINERMOE_ERROR_INVALID_ARGUMENT, cpu_device()->open({9, std::make_shared<ThreadPool>(1)}).status().code());
}

TEST(IsFasterTest, OnlyThanThePortableKernelsAndIfNoThreadWaits) {
  const char* const path = std::getenv("FINERMOE_TEST_BLAS_GOOD");
  ASSERT_NE(nullptr, path);
  const auto blas = Blas::open(path);  // of four threads
  ASSERT_TRUE(blas.ok()) << blas.status().message();
  EXPECT_TRUE(is_faster(**blas, FINERMOE_ISA_PORTABLE, 1));
  EXPECT_TRUE(is_faster(**blas, FINERMOE_ISA_PORTABLE, 4));
  EXPECT_FALSE(is_faster(**blas, FINERMOE_ISA_PORTABLE, 5));
  EXPECT_FALSE(is_faster(**blas, FINERMOE_ISA_AVX2, 1));
  EXPECT_FALSE(is_faster(**blas, FINERMOE_ISA_AVX512, 1));
}

#if defined(__x86_64__)
TEST(KernelsOfTest, TheProcessorChoosesAmongTheTablesOfAnInstructionSet) {
  EXPECT_EQ(&portable::kernels, &kernels_of(FINERMOE_ISA_PORTABLE));
  const Kernels& expected = detect_cpu_features().avx_vnni ? avx2_vnni::kernels : avx2::kernels;
  EXPECT_EQ(&expected, &kernels_of(FINERMOE_ISA_AVX2));
  EXPECT_EQ(&avx512::kernels, &kernels_of(FINERMOE_ISA_AVX512));
}
#endif

}  // namespace
}  // namespace finermoe
