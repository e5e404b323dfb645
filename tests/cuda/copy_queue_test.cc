// Copies by way of pinned memory: when the host waits, whose memory it is, and what is said when something is wanting.
#include "cuda/copy_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "../backend/support.h"
#include "emulated_driver.h"

namespace finermoe::cuda {
namespace {

constexpr uint64_t piece = CudaCopyQueue::piece_bytes, n_pieces = CudaCopyQueue::n_pieces;

class CudaCopies : public testing::Test {
 protected:
  CudaCopies() {
    auto opened = Context::open(emulated::driver(), 0);
    EXPECT_TRUE(opened.ok());
    context_ = *opened;
  }
  void TearDown() override {
    context_.reset();
    emulated::settings() = {};
    emulated::forget_faults();
    EXPECT_EQ(emulated::n_contexts(), 0);
    EXPECT_EQ(emulated::allocated(), 0u);
  }
  std::unique_ptr<CudaCopyQueue> make_queue() const {
    auto made = CudaCopyQueue::make(context_, no_limit());
    EXPECT_TRUE(made.ok()) << made.status().message();
    return std::move(*made);
  }
  Memory allocate(Memory::Where where, uint64_t bytes) const {
    auto made = Memory::allocate(context_, where, bytes, no_limit(), "a test");
    EXPECT_TRUE(made.ok());
    return std::move(*made);
  }
  std::shared_ptr<const Context> context_;
};

// The device reads pinned memory when it comes to the copy, which is later.
TEST_F(CudaCopies, PinnedMemoryMayChangeAtOnce) {
  const size_t n = 3 * piece / 2;
  const Memory source = allocate(Memory::Where::host, n), target = allocate(Memory::Where::device, n);
  const std::span<std::byte> from(reinterpret_cast<std::byte*>(source.address()), n);
  std::fill(from.begin(), from.end(), std::byte{1});
  {
    const auto queue = make_queue();
    ASSERT_TRUE(queue->copy(from, DevicePtr<std::byte>::at(target.address())).ok());
    std::fill(from.begin(), from.end(), std::byte{2});
  }
  std::vector<std::byte> found(n);
  ASSERT_TRUE(context_->download(found.data(), target.address(), n).ok());
  EXPECT_EQ(found, std::vector<std::byte>(n, std::byte{1}));
}

// Nothing waits for the emulated device but the queue itself, so that what has arrived shows how far it has waited.
TEST_F(CudaCopies, TheHostWaitsOnlyWhileAllPiecesAreInUse) {
  const Memory target = allocate(Memory::Where::device, (n_pieces + 2) * piece);
  const auto* const device = reinterpret_cast<const std::byte*>(target.address());
  const auto n_arrived = [&] {
    uint64_t n = 0;
    while (device[n * piece] != std::byte{0} && device[(n + 1) * piece - 1] != std::byte{0}) n++;
    return n;
  };
  const std::vector<std::byte> source(piece, std::byte{7});
  const auto queue = make_queue();
  for (uint64_t i = 0; i < n_pieces + 2; i++) {
    EXPECT_EQ(n_arrived(), i < n_pieces ? 0 : i - n_pieces);
    ASSERT_TRUE(queue->copy(source, DevicePtr<std::byte>::at(target.address() + i * piece)).ok());
  }
  EXPECT_EQ(n_arrived(), 2u);
}

// More threads than pieces, each with copies that go through all of them.
TEST_F(CudaCopies, FromSeveralThreads) {
  constexpr size_t n_threads = n_pieces + 2, n_copies = 12;
  const Memory target = allocate(Memory::Where::device, n_threads * n_copies * piece);
  {
    const auto queue = make_queue();
    std::vector<std::thread> threads;
    for (size_t thread = 0; thread < n_threads; thread++) {
      threads.emplace_back([&, thread] {
        std::vector<std::byte> source(piece);
        for (size_t i = thread * n_copies; i < (thread + 1) * n_copies; i++) {
          std::fill(source.begin(), source.end(), std::byte(i + 1));
          EXPECT_TRUE(queue->copy(source, DevicePtr<std::byte>::at(target.address() + i * piece)).ok());
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<std::byte> found(piece);
  for (size_t i = 0; i < n_threads * n_copies; i++) {
    ASSERT_TRUE(context_->download(found.data(), target.address() + i * piece, piece).ok());
    ASSERT_EQ(found, std::vector<std::byte>(piece, std::byte(i + 1))) << i;
  }
}

TEST_F(CudaCopies, ThePinnedMemoryIsOnTheAccount) {
  const auto account = std::make_shared<MemoryAccount>(n_pieces * piece);
  {
    auto queue = CudaCopyQueue::make(context_, account);
    ASSERT_TRUE(queue.ok());
    EXPECT_EQ(account->used(), n_pieces * piece);
    EXPECT_EQ(CudaCopyQueue::make(context_, account).status().code(), FINERMOE_ERROR_MEMORY_LIMIT);
  }
  EXPECT_EQ(account->used(), 0u);
  emulated::settings().pinned_answers = error_out_of_memory;
  const Status refused = CudaCopyQueue::make(context_, account).status();
  EXPECT_EQ(refused.code(), FINERMOE_ERROR_OUT_OF_MEMORY);
  EXPECT_NE(refused.message().find("4194304 bytes for copies to the device"), std::string::npos) << refused.message();
  EXPECT_EQ(account->used(), 0u);
}

TEST_F(CudaCopies, ALostDeviceIsSaid) {
  const Memory target = allocate(Memory::Where::device, piece);
  const auto queue = make_queue();
  const std::vector<std::byte> source(piece);
  const DevicePtr<std::byte> to = DevicePtr<std::byte>::at(target.address());
  ASSERT_TRUE(queue->copy(source, to).ok());
  emulated::lose_device();
  EXPECT_EQ(queue->copy(source, to).code(), FINERMOE_ERROR_DEVICE_LOST);
  emulated::forget_faults();
  EXPECT_TRUE(queue->copy(source, to).ok());
}

}  // namespace
}  // namespace finermoe::cuda
