#include "base/allocation.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace finermoe {
namespace {

TEST(Allocation, CountsAndReleases) {
  auto account = std::make_shared<MemoryAccount>(1000);
  {
    auto a = Buffer::allocate(account, 600, "a");
    ASSERT_TRUE(a.ok());
    EXPECT_EQ(account->used(), 600u);
    Buffer moved = std::move(*a);
    EXPECT_EQ(moved.size(), 600u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(moved.data()) % 64, 0u);
    for (uint64_t i = 0; i < moved.size(); i++) ASSERT_EQ(moved.data<char>()[i], 0);
    auto refused = Buffer::allocate(account, 401, "the KV cache");
    EXPECT_EQ(refused.status().code(), FINERMOE_ERROR_MEMORY_LIMIT);
    for (const char* part : {"the KV cache", "401", "600", "1000"}) {
      EXPECT_NE(refused.status().message().find(part), std::string::npos) << refused.status().message();
    }
    EXPECT_TRUE(Buffer::allocate(account, 400, "b").ok());  // and gone again
    EXPECT_EQ(account->used(), 600u);
  }
  EXPECT_EQ(account->used(), 0u);
  EXPECT_EQ(account->peak(), 1000u);
}

TEST(Allocation, NothingOverflows) {
  auto limited = std::make_shared<MemoryAccount>(1000);
  ASSERT_TRUE(limited->reserve(10, "x").ok());
  EXPECT_EQ(limited->reserve(UINT64_MAX, "x").code(), FINERMOE_ERROR_MEMORY_LIMIT);
  EXPECT_EQ(limited->reserve(UINT64_MAX - 5, "x").code(), FINERMOE_ERROR_MEMORY_LIMIT);
  auto unlimited = std::make_shared<MemoryAccount>(0);
  EXPECT_EQ(Buffer::allocate(unlimited, uint64_t{1} << 60, "x").status().code(), FINERMOE_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(unlimited->used(), 0u);
  EXPECT_EQ(Buffer::allocate(unlimited, 0, "x")->data(), nullptr);
}

TEST(Allocation, BuffersOutliveTheirMaker) {
  Buffer buffer;
  {
    auto account = std::make_shared<MemoryAccount>(0);
    buffer = std::move(*Buffer::allocate(account, 100, "x"));
  }
  buffer.data<char>()[99] = 1;
}

TEST(Allocation, BuffersChangeTheirSize) {
  auto account = std::make_shared<MemoryAccount>(1 << 20);
  auto buffer = std::move(*Buffer::allocate(account, 5000, "test"));
  auto* bytes = buffer.data<unsigned char>();
  for (size_t i = 0; i < 5000; i++) bytes[i] = static_cast<unsigned char>(i);
  EXPECT_TRUE(buffer.resize(100'000, "test").ok());
  EXPECT_EQ(account->used(), 100'000u);
  bytes = buffer.data<unsigned char>();
  for (size_t i = 0; i < 100'000; i++) ASSERT_EQ(bytes[i], i < 5000 ? static_cast<unsigned char>(i) : 0) << i;
  EXPECT_EQ(buffer.resize(2 << 20, "test").code(), FINERMOE_ERROR_MEMORY_LIMIT);
  EXPECT_EQ(buffer.size(), 100'000u);
  EXPECT_EQ(account->used(), 100'000u);
  EXPECT_TRUE(buffer.resize(10, "test").ok());
  EXPECT_EQ(buffer.size(), 10u);
  EXPECT_EQ(account->used(), 10u);
  EXPECT_EQ(buffer.data<unsigned char>()[9], 9);
}

TEST(Allocation, ManyThreads) {
  auto account = std::make_shared<MemoryAccount>(64 * 100);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; i++) (void)Buffer::allocate(account, 64 * (i % 50 + 1), "x");
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(account->used(), 0u);
  EXPECT_LE(account->peak(), account->limit());
}

}  // namespace
}  // namespace finermoe
