// The emulation itself: a kernel that is right gives the same in any order, and each fault that it is for is caught.
#include <gtest/gtest.h>

#include <vector>

#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/numbers.cuh"
#include "cuda/kernels/shared_array.cuh"
#include "cuda/kernels/tensor_tile.cuh"
#include "emulated_driver.h"

namespace finermoe::cuda {
namespace {

constexpr unsigned n = 128;

// What is planted in reverse().
enum class Fault { none, no_barrier, no_second_barrier, beyond_the_end, not_written, some_threads_leave };

// Each block reverses its part, twice, through shared memory.
__global__ void reverse(const float* x, Fault fault, float* out) {
  __shared__ SharedArray<float, n> values;
  const unsigned thread = threadIdx.x, first = blockIdx.x * n;
  if (fault != Fault::not_written || thread != 5) values[thread] = __ldg(x + first + thread);
  if (fault != Fault::no_barrier) __syncthreads();
  const float once = values[fault == Fault::beyond_the_end ? n - thread : n - 1 - thread];
  if (fault == Fault::some_threads_leave && thread >= n / 2) return;
  if (fault != Fault::no_second_barrier) __syncthreads();
  values[thread] = once + 1;
  __syncthreads();
  out[first + thread] = values[n - 1 - thread];
}

// A sum over a warp by way of shared memory: lanes wait for each other by shuffles alone.
__global__ void rotate_lanes(bool waits, float* out) {
  __shared__ SharedArray<float, warp_size> values;
  const unsigned lane = threadIdx.x;
  values[lane] = static_cast<float>(lane);
  if (waits) __shfl_sync(all_lanes, 0, 0);
  out[lane] = values[(lane + 1) % warp_size];
}

// What combine_lanes() does, shuffle by shuffle as on a GPU, beside its own: 0 where they are equal.
template <unsigned... distances>
__device__ float difference_of(float x) {
  const auto combine = [](float a, float b) { return a + 2 * b; };
  float value = x;
  for (const unsigned distance : {distances...}) value = combine(value, __shfl_xor_sync(all_lanes, value, distance));
  return value - combine_lanes<distances...>(x, combine);
}
__global__ void combine_in_both_ways(const float* from, float* out) {
  const float x = 1 / (1 + from[threadIdx.x]);
  out[threadIdx.x] = fabsf(difference_of<16, 8, 4, 2, 1>(x)) + fabsf(difference_of<4, 8, 16>(x));
  out[n + threadIdx.x] = warp_max(from[threadIdx.x]);
}

__global__ void count_minimum(float* out) {
  __shared__ SharedArray<unsigned, 1> least;
  if (threadIdx.x == 0) least[0] = 1000;
  __syncthreads();
  atomicMin(&least[0], 1 + threadIdx.x % 7);
  __syncthreads();
  out[threadIdx.x] = static_cast<float>(static_cast<unsigned>(least[0]));
}

__global__ void load(const std::byte* from, float* out) { out[threadIdx.x] = static_cast<float>(load_128(from).x); }

// What is planted in rotate_copies().
enum class CopyFault { none, no_wait, too_few_waited_for, no_barrier, not_committed };

// Each thread copies two places, a group each, and reads another thread's first.
__global__ void rotate_copies(const float* from, CopyFault fault, float* out) {
  __shared__ SharedArray<uint4, 2 * n> places;
  const unsigned thread = threadIdx.x;
  copy_async(places, thread, from + 4 * thread, 8);
  if (fault != CopyFault::not_committed) commit_copies();
  copy_async(places, n + thread, from + 4 * thread, 0);
  commit_copies();
  if (fault == CopyFault::too_few_waited_for) {
    wait_for_copies<2>();
  } else if (fault != CopyFault::no_wait) {
    wait_for_copies<1>();
  }
  if (fault != CopyFault::no_barrier) __syncthreads();
  const uint4 found = places[(thread + 1) % n];
  out[thread] = __uint_as_float(found.y) + static_cast<float>(found.z);
}

// One product of a warp of 16 × 16 numbers, where a[i][k] = i + k, and 8 × 16, where b[j][k] = j - k, by way of shared
// memory.
template <bool is_transposed>
__global__ void multiply_small(float* out) {
  __shared__ SharedArray<uint4, 32> a, b;
  const unsigned lane = threadIdx.x;
  const auto eight = [](float first, float by) {
    uint32_t pairs[4];
    for (unsigned i = 0; i < 4; i++) {
      const float at = static_cast<float>(2 * i);
      pairs[i] = pack_pair<DType::bf16>(first + by * at, first + by * (at + 1));
    }
    return uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
  };
  a[lane] = eight(static_cast<float>(lane % 16 + lane / 16 * 8), 1);
  // Row j of b, from column 0 or 8 on; or column k of b.
  const float j = static_cast<float>(lane % 8), k = static_cast<float>(lane / 8 % 2 * 8);
  b[lane] = is_transposed ? eight(-static_cast<float>(lane % 16), 1) : eight(j - k, -1);
  __syncthreads();
  uint32_t of_a[4], of_b[4];
  load_matrices(a, lane, of_a);
  if (is_transposed) {
    load_transposed(b, lane, of_b);
  } else {
    load_matrices(b, lane, of_b);
  }
  float sums[4] = {1, 1, 1, 1};
  multiply_add<DType::bf16>(sums, of_a, of_b[0], of_b[1]);
  for (unsigned i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

class Emulation : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(success, driver_->retain_context(&context_, 0));
    driver_->push_context(context_);
    ASSERT_EQ(success, driver_->create_stream(&stream_, stream_non_blocking));
    x_ = allocate(4 * n), out_ = allocate(4 * n);
    std::vector<float> numbers(4 * n);
    for (size_t i = 0; i < numbers.size(); i++) numbers[i] = static_cast<float>(i);
    driver_->copy_to_device(address_of(x_), numbers.data(), numbers.size() * sizeof(float), stream_);
  }
  void TearDown() override {
    emulated::forget_faults();
    emulated::settings().order.reset();
    driver_->free(address_of(x_));
    driver_->free(address_of(out_));
    driver_->destroy_stream(stream_);
    driver_->pop_context(&context_);
    driver_->release_context(0);
  }
  // The fault of a launch, or nothing.
  template <class... Parameters, class... Arguments>
  std::string fault_of(unsigned n_blocks, unsigned n_threads, void (*kernel)(Parameters...),
                       const Arguments&... arguments) {
    EXPECT_EQ(0, launch(stream_, n_blocks, n_threads, kernel, arguments...));
    const Code code = driver_->wait_for_stream(stream_);
    if (code == success) return "";
    EXPECT_EQ(code, driver_->wait_for_stream(stream_));  // it stays
    emulated::forget_faults();
    return emulated::last_fault();
  }
  std::vector<float> out() {
    std::vector<float> numbers(4 * n);
    EXPECT_EQ(success,
              driver_->copy_to_host(numbers.data(), address_of(out_), numbers.size() * sizeof(float), stream_));
    return numbers;
  }
  static Address address_of(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }
  float *x_ = nullptr, *out_ = nullptr;
  StreamHandle stream_ = nullptr;
  const std::shared_ptr<const Driver> driver_ = emulated::driver();

 private:
  float* allocate(size_t count) {
    Address address = 0;
    EXPECT_EQ(success, driver_->allocate(&address, count * sizeof(float)));
    return reinterpret_cast<float*>(static_cast<uintptr_t>(address));
  }
  ContextHandle context_ = nullptr;
};

void expect_part(const std::string& part, const std::string& found) {
  EXPECT_NE(std::string::npos, found.find(part)) << "expected: " << part << "\nfound: " << found;
}

TEST_F(Emulation, ARightKernelIsRightInAnyOrder) {
  for (const emulated::Order order :
       {emulated::Order::forwards, emulated::Order::backwards, emulated::Order::interleaved}) {
    emulated::settings().order = order;
    EXPECT_EQ("", fault_of(4, n, reverse, x_, Fault::none, out_));
    const std::vector<float> found = out();
    for (size_t i = 0; i < found.size(); i++) ASSERT_EQ(static_cast<float>(i) + 1, found[i]);
    EXPECT_EQ("", fault_of(1, 32, rotate_lanes, true, out_));
    EXPECT_EQ("", fault_of(1, n, count_minimum, out_));
    EXPECT_EQ(1, out()[77]);
  }
}

TEST_F(Emulation, LanesAreCombinedAsByShuffles) {
  for (const emulated::Order order :
       {emulated::Order::forwards, emulated::Order::backwards, emulated::Order::interleaved}) {
    emulated::settings().order = order;
    EXPECT_EQ("", fault_of(1, n, combine_in_both_ways, x_, out_));
    const std::vector<float> found = out();
    for (size_t i = 0; i < n; i++) {
      ASSERT_EQ(0, found[i]) << i;
      ASSERT_EQ(static_cast<float>(i / 32 * 32 + 31), found[n + i]) << i;
    }
  }
}

TEST_F(Emulation, FaultsAreCaughtInAnyOrder) {
  for (const emulated::Order order :
       {emulated::Order::forwards, emulated::Order::backwards, emulated::Order::interleaved}) {
    emulated::settings().order = order;
    const auto fault_with = [&](Fault fault) { return fault_of(4, n, reverse, x_, fault, out_); };
    EXPECT_NE("", fault_with(Fault::no_barrier));
    expect_part("no barrier is behind", fault_with(Fault::no_second_barrier));
    expect_part("beyond the end", fault_with(Fault::beyond_the_end));
    expect_part("before it is written", fault_with(Fault::not_written));
    expect_part("that not all threads reach", fault_with(Fault::some_threads_leave));
    EXPECT_NE("", fault_of(1, 32, rotate_lanes, false, out_));
  }
}

TEST_F(Emulation, LoadsAreAlignedAndInsideOfAnAllocation) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(x_);
  EXPECT_EQ("", fault_of(1, 32, load, bytes + 16, out_));
  expect_part("not aligned", fault_of(1, 32, load, bytes + 8, out_));
  expect_part("outside of every allocation", fault_of(1, 32, load, bytes + 4 * n * sizeof(float), out_));
  expect_part("outside of every allocation", fault_of(1, 32, load, bytes - 16, out_));
}

TEST_F(Emulation, CopiesAreWaitedFor) {
  for (const emulated::Order order :
       {emulated::Order::forwards, emulated::Order::backwards, emulated::Order::interleaved}) {
    emulated::settings().order = order;
    const auto fault_with = [&](CopyFault fault) { return fault_of(1, n, rotate_copies, x_, fault, out_); };
    EXPECT_EQ("", fault_with(CopyFault::none));
    const std::vector<float> found = out();
    for (size_t i = 0; i < n; i++) ASSERT_EQ(static_cast<float>((i + 1) % n * 4 + 1), found[i]);
    expect_part("nobody has waited", fault_with(CopyFault::no_wait));
    expect_part("nobody has waited", fault_with(CopyFault::too_few_waited_for));
    expect_part("nobody has waited", fault_with(CopyFault::not_committed));
    EXPECT_NE("", fault_with(CopyFault::no_barrier));
  }
  expect_part("not aligned", fault_of(1, n, rotate_copies, x_ + 1, CopyFault::none, out_));
  expect_part("outside of every allocation", fault_of(1, n, rotate_copies, x_ + 4, CopyFault::none, out_));
}

TEST_F(Emulation, AProductIsThatOfTheMatrices) {
  for (const auto kernel : {multiply_small<false>, multiply_small<true>}) {
    EXPECT_EQ("", fault_of(1, 32, kernel, out_));
    const std::vector<float> found = out();
    for (int i = 0; i < 16; i++) {
      for (int j = 0; j < 8; j++) {
        int sum = 1;
        for (int k = 0; k < 16; k++) sum += (i + k) * (j - k);
        ASSERT_EQ(static_cast<float>(sum), found[static_cast<size_t>(i * 8 + j)]) << i << ", " << j;
      }
    }
  }
}

TEST_F(Emulation, AStoreBeyondAnAllocationFaults) {
  EXPECT_DEATH(
      {
        EXPECT_EQ(0, launch(nullptr, 1, 32, count_minimum, out_));  // no stream: refused
        fault_of(1, n, count_minimum, out_ + 4 * n);
      },
      "");
}

TEST_F(Emulation, LaunchesThatCudaRefuses) {
  EXPECT_NE("", fault_of(1, 48, count_minimum, out_));
  EXPECT_NE("", fault_of(1, 2048, count_minimum, out_));
  EXPECT_NE("", fault_of(0, n, count_minimum, out_));
}

// A graph has the arguments of its capture, and reads memory when it is launched; nothing is done before.
TEST_F(Emulation, AGraphRepeatsWhatWasCaptured) {
  void* pinned = nullptr;
  ASSERT_EQ(success, driver_->allocate_host(&pinned, n * sizeof(float), 0));
  auto* const numbers = static_cast<float*>(pinned);
  ASSERT_EQ(success, driver_->begin_capture(stream_, capture_this_thread));
  EXPECT_EQ(success, driver_->copy_to_device(address_of(x_), numbers, n * sizeof(float), stream_));
  EXPECT_EQ(0, launch(stream_, 1, n, reverse, x_, Fault::none, out_));
  GraphTemplateHandle captured = nullptr;
  ASSERT_EQ(success, driver_->end_capture(stream_, &captured));
  GraphHandle graph = nullptr;
  ASSERT_EQ(success, driver_->instantiate_graph(&graph, captured, 0));
  EXPECT_EQ(success, driver_->destroy_graph_template(captured));
  for (const float first : {5.0f, 50.0f}) {
    for (unsigned i = 0; i < n; i++) numbers[i] = first + static_cast<float>(i);
    EXPECT_EQ(success, driver_->launch_graph(graph, stream_));
    EXPECT_EQ(first + 78, out()[77]);
  }
  EXPECT_EQ(success, driver_->destroy_graph(graph));
  EXPECT_NE(success, driver_->launch_graph(graph, stream_));
  EXPECT_EQ(success, driver_->free_host(pinned));
}

TEST_F(Emulation, WhatACaptureRefuses) {
  GraphTemplateHandle captured = nullptr;
  EXPECT_NE(success, driver_->end_capture(stream_, &captured));
  const auto refused = [&](const auto& call) {
    EXPECT_EQ(success, driver_->begin_capture(stream_, capture_this_thread));
    EXPECT_NE(success, call());
    EXPECT_NE(success, driver_->end_capture(stream_, &captured));
    EXPECT_EQ(nullptr, captured);
  };
  float number = 0;
  Address address = 0;
  refused([&] { return driver_->wait_for_stream(stream_); });
  refused([&] { return driver_->copy_to_device(address_of(x_), &number, sizeof number, stream_); });
  refused([&] { return driver_->copy_to_host(&number, address_of(x_), sizeof number, stream_); });
  refused([&] { return driver_->allocate(&address, 64); });
  refused([&] { return driver_->begin_capture(stream_, capture_this_thread); });
  EXPECT_EQ("", fault_of(1, n, reverse, x_, Fault::none, out_));
}

// What a quarter of a warp reads or writes at once, 16 bytes each, is in different banks: eight rows at one place of a
// step, and the four places of two rows.
TEST(TensorTile, ChunksLieInDifferentBanks) {
  for (unsigned first = 0; first < 128; first += 8) {
    for (unsigned chunk = 0; chunk < chunks_of_step; chunk++) {
      unsigned banks = 0;
      for (unsigned row = first; row < first + 8; row++) banks |= 1u << chunk_at(row, chunk) % 8;
      EXPECT_EQ(0xffu, banks) << first << " " << chunk;
    }
  }
  for (unsigned row = 0; row < 128; row += 2) {
    unsigned banks = 0;
    for (unsigned i = 0; i < 8; i++) banks |= 1u << chunk_at(row + i / 4, i % 4) % 8;
    EXPECT_EQ(0xffu, banks) << row;
  }
}

// Numbers are read as base/ writes them.
__global__ void read_numbers(unsigned* wrong) {
  for (uint32_t bits = threadIdx.x; bits < 65536; bits += n) {
    const auto half = static_cast<uint16_t>(bits);
    if (__float_as_uint(from_bf16(half)) != __float_as_uint(bf16_to_float(half))) wrong[threadIdx.x]++;
    if (to_bf16(from_f16(half)) != float_to_bf16(f16_to_float(half))) wrong[threadIdx.x]++;
  }
  float values[4];
  for (uint32_t code = 0; code < 16; code++) {
    q4_values_of(code | (15 - code) << 8 | code << 16 | 0xf0f0f0f0u, values);
    if (values[0] != static_cast<float>(q4_values[code]) || values[2] != values[0]) wrong[threadIdx.x]++;
    if (values[1] != static_cast<float>(q4_values[15 - code])) wrong[threadIdx.x]++;
  }
}
TEST_F(Emulation, NumbersAreThoseOfTheFormats) {
  auto* const wrong = reinterpret_cast<unsigned*>(out_);
  EXPECT_EQ("", fault_of(
                    1, n, +[](unsigned* all) { all[threadIdx.x] = 0; }, wrong));
  EXPECT_EQ("", fault_of(1, n, read_numbers, wrong));
  for (size_t i = 0; i < n; i++) EXPECT_EQ(0, out()[i]) << i;
}

}  // namespace
}  // namespace finermoe::cuda
