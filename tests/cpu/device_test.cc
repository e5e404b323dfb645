// The CPU as a device: its instruction sets.
#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/cpu_kv_cache.h"
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

TEST(ResolveIsaTest, AutoIsTheBestSetAndWhatTheMachineLacksIsNamed) {
  const CpuFeatures none{}, avx2{.avx = true, .avx2 = true}, avx512{.avx = true, .avx2 = true, .avx512 = true},
      amx{.avx = true, .avx2 = true, .avx512 = true, .amx = true};
  constexpr std::array<const char*, 5> names = {"", "portable", "AVX2", "AVX-512", "AMX"};
  int32_t best = FINERMOE_ISA_PORTABLE;
  for (const CpuFeatures& features : {none, avx2, avx512, amx}) {
    const auto chosen = resolve_isa(FINERMOE_ISA_AUTO, features);
    ASSERT_TRUE(chosen.ok()) << chosen.status().message();
    EXPECT_EQ(best, *chosen);
    for (int32_t isa = FINERMOE_ISA_PORTABLE; isa <= FINERMOE_ISA_AMX; isa++) {
      const auto forced = resolve_isa(isa, features);
      if (isa <= best) {
        ASSERT_TRUE(forced.ok()) << forced.status().message();
        EXPECT_EQ(isa, *forced);
        continue;
      }
      EXPECT_EQ(FINERMOE_ERROR_UNSUPPORTED, forced.status().code());
      const std::string message = forced.status().message();
      const std::string expected = std::string("lacks the instruction set ") + names.at(isa) + ": ";
      EXPECT_NE(message.npos, message.find(expected)) << message;
      EXPECT_NE(message.npos, message.find(std::string("up to ") + names.at(best))) << message;
    }
    best++;
  }
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
// Of the first processor, as the system reports them.
std::map<std::string, std::string> cpuinfo_fields() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::map<std::string, std::string> fields;
  for (std::string line; std::getline(cpuinfo, line) && !line.empty();) {
    const size_t colon = line.find(": "), end = line.find_last_not_of(" \t", line.find(':') - 1);
    if (colon != line.npos) fields[line.substr(0, end + 1)] = line.substr(colon + 2);
  }
  return fields;
}

// The system lists the flags of tiles only where it can save them. It may still refuse this process, which is asked
// here in the library's place.
TEST(AcquireIsaTest, AutoTakesTheBestSetThatTheSystemReports) {
  std::istringstream flags(cpuinfo_fields()["flags"]);
  const std::set<std::string> has{std::istream_iterator<std::string>(flags), {}};
  if (has.empty()) GTEST_SKIP() << "no /proc/cpuinfo";
  const auto all_of = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(), [&](const char* name) { return has.count(name) != 0; });
  };
  constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  int32_t expected = FINERMOE_ISA_PORTABLE;
  if (all_of({"avx2", "fma", "f16c"})) {
    expected = FINERMOE_ISA_AVX2;
    if (all_of({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"})) {
      expected = FINERMOE_ISA_AVX512;
      if (all_of({"amx_tile", "amx_bf16"}) && syscall(SYS_arch_prctl, request_permission, tile_data) == 0) {
        expected = FINERMOE_ISA_AMX;
      }
    }
  }
  const auto chosen = acquire_isa(FINERMOE_ISA_AUTO);
  ASSERT_TRUE(chosen.ok()) << chosen.status().message();
  EXPECT_EQ(expected, *chosen);
  EXPECT_EQ(expected, *resolve_isa(FINERMOE_ISA_AUTO));
  EXPECT_EQ(kernels_name(expected), cpu_device()->info().version);
}

TEST(TuningTest, TheProcessorIsRecognized) {
  std::map<std::string, std::string> fields = cpuinfo_fields();
  if (fields.count("vendor_id") == 0) GTEST_SKIP() << "no /proc/cpuinfo";
  const ProcessorModel processor = processor_model();
  EXPECT_EQ(fields["vendor_id"], processor.vendor);
  EXPECT_EQ(fields["cpu family"], std::to_string(processor.family));
  EXPECT_EQ(fields["model"], std::to_string(processor.model));
}
#endif

// Whole panels of 16 positions; from 128 KiB a head on, blocks of 64 and more; never much more than the capacity.
TEST(CpuKvCacheSize, IsThatOfItsBlocks) {
  for (auto [capacity, stored] : {std::pair{1, 16},
                                  {50, 64},
                                  {65, 80},
                                  {256, 256},
                                  {257, 320},
                                  {1000, 1024},
                                  {1100, 1152},
                                  {4096, 4096},
                                  {4097, 4352},
                                  {32768, 32768}}) {
    const KvShape shape{3, 2, 128, uint64_t(capacity), DType::f32};
    EXPECT_EQ(CpuKvCache::bytes(shape), shape.n_heads() * uint64_t(stored) * 128 * sizeof(float)) << capacity;
  }
  EXPECT_EQ(CpuKvCache::bytes({3, 2, 128, 0, DType::f32}), 0u);
  EXPECT_EQ(CpuKvCache::bytes({uint64_t{1} << 32, uint64_t{1} << 30, 128, 1 << 20, DType::f32}), UINT64_MAX);
}

}  // namespace
}  // namespace finermoe
