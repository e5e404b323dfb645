// The CPU as a device: its instruction sets.
#include <fstream>
#include <map>

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
  EXPECT_EQ(&amx::kernels, &kernels_of(FINERMOE_ISA_AMX));
}
#endif

TEST(TuningTest, FollowsFromVendorAndFamily) {
  EXPECT_TRUE(tuning_of({"AuthenticAMD", 25, 17}, {}).bf16_dots);
  EXPECT_EQ(0u, tuning_of({"AuthenticAMD", 25, 17}, {}).prefetch);
  EXPECT_FALSE(tuning_of({"GenuineIntel", 6, 207}, {}).bf16_dots);
  EXPECT_LT(0u, tuning_of({"GenuineIntel", 6, 207}, {}).prefetch);
  EXPECT_FALSE(tuning_of({"GenuineIntel", 6, 207}, {}).rows_side_by_side);
  EXPECT_TRUE(tuning_of({"GenuineIntel", 6, 207}, {.amx = true}).rows_side_by_side);
  EXPECT_EQ(0u, tuning_of({}, {}).prefetch);  // what was never measured is left to the hardware
}

#if defined(__x86_64__)
// As the system reports it.
TEST(TuningTest, TheProcessorIsRecognized) {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::map<std::string, std::string> fields;  // of the first processor
  for (std::string line; std::getline(cpuinfo, line) && !line.empty();) {
    const size_t colon = line.find(": "), end = line.find_last_not_of(" \t", line.find(':') - 1);
    if (colon != line.npos) fields[line.substr(0, end + 1)] = line.substr(colon + 2);
  }
  if (fields.count("vendor_id") == 0) GTEST_SKIP() << "no /proc/cpuinfo";
  const ProcessorModel processor = processor_model();
  EXPECT_EQ(fields["vendor_id"], processor.vendor);
  EXPECT_EQ(fields["cpu family"], std::to_string(processor.family));
  EXPECT_EQ(fields["model"], std::to_string(processor.model));
}
#endif

}  // namespace
}  // namespace finermoe
