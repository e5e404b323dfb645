// The random numbers: golden values (the same on every machine), moments, tails, independence of blocks.
#include "convert/random.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numbers>
#include <vector>

#include "convert/fill.h"

namespace finermoe {
namespace {

uint64_t fnv(uint64_t hash, uint64_t bits) {
  for (int i = 0; i < 8; ++i) hash = (hash ^ (bits >> 8 * i & 0xff)) * 0x100000001b3u;
  return hash;
}

// Found by tests/convert/random_reference.py, which shares no code with the library.
TEST(Random, GoldenIntegers) {
  RandomStream random(stream_key(7, "model.layers.0.mlp.gate.weight"), 3);
  const uint64_t golden[] = {0xb2b452871d3f315du, 0x78f57ced058e22e7u, 0xee286c70c6c60102u, 0xb09dada1acd2329bu};
  for (uint64_t expected : golden) EXPECT_EQ(random.next(), expected);
}

TEST(Random, GoldenNormals) {
  RandomStream random(stream_key(7, "model.layers.0.mlp.gate.weight"), 0);
  uint64_t hash = 0xcbf29ce484222325u;
  for (int i = 0; i < 200000; ++i) hash = fnv(hash, std::bit_cast<uint64_t>(random.normal()));
  EXPECT_EQ(hash, 0xe52ea99de4c725f5u);
}

TEST(Random, TableAgreesWithLibm) {
  for (size_t i = 0; i <= 256; ++i) {
    double x = ziggurat::table.edge[i];
    EXPECT_NEAR(ziggurat::table.density[i] / std::exp(-0.5 * x * x), 1, 1e-14) << i;
  }
  // All layers have the same area.
  double area = ziggurat::table.edge[0] * ziggurat::table.density[1];
  for (size_t i = 1; i + 1 < 256; ++i) {
    double layer = ziggurat::table.edge[i] * (ziggurat::table.density[i + 1] - ziggurat::table.density[i]);
    EXPECT_NEAR(layer / area, 1, 1e-12) << i;
  }
}

TEST(Random, NormalMomentsAndTails) {
  constexpr int n = 8'000'000;
  double sums[5] = {};
  const double bounds[] = {0.1, 0.5, 1, 2, 3, 3.6541528853610088, 4.2};
  int beyond[std::size(bounds)] = {}, positive = 0;
  RandomStream random(stream_key(1, "moments"), 0);
  for (int i = 0; i < n; ++i) {
    double x = random.normal(), power = 1;
    for (double& sum : sums) sum += power, power *= x;
    for (size_t k = 0; k < std::size(bounds); ++k) beyond[k] += std::fabs(x) > bounds[k];
    positive += x > 0;
  }
  const double expected[] = {1, 0, 1, 0, 3}, variance[] = {0, 1, 2, 15, 96};
  for (int k = 1; k < 5; ++k) EXPECT_NEAR(sums[k] / n, expected[k], 5 * std::sqrt(variance[k] / n)) << k;
  EXPECT_NEAR(positive, n / 2, 5 * std::sqrt(n) / 2);
  for (size_t k = 0; k < std::size(bounds); ++k) {
    double p = std::erfc(bounds[k] / std::numbers::sqrt2);
    EXPECT_NEAR(beyond[k], n * p, 5 * std::sqrt(n * p * (1 - p))) << bounds[k];
  }
}

TEST(Random, BelowIsUniform) {
  RandomStream random(stream_key(1, "below"), 0);
  std::vector<int> counts(7);
  for (int i = 0; i < 700000; ++i) counts[random.below(7)]++;
  for (int count : counts) EXPECT_NEAR(count, 100000, 1500);
  EXPECT_EQ(random.below(1), 0u);
}

TEST(Random, StreamsDiffer) {
  EXPECT_NE(stream_key(0, "a"), stream_key(1, "a"));
  EXPECT_NE(stream_key(0, "a"), stream_key(0, "b"));
  uint64_t key = stream_key(0, "a");
  EXPECT_NE(RandomStream(key, 0).next(), RandomStream(key, 1).next());
  // Neighbouring blocks are not correlated.
  RandomStream one(key, 0), two(key, 65536);
  double product = 0;
  for (int i = 0; i < 1'000'000; ++i) product += one.normal() * two.normal();
  EXPECT_NEAR(product / 1e6, 0, 5e-3);
}

TEST(Fill, ABlockDoesNotDependOnTheOthers) {
  Fill fill = normal_fill(DType::f32, stream_key(0, "t"), 0.02);
  std::vector<std::byte> first(65536 * 4), again(65536 * 4);
  fill(65536, 2 * 65536, first.data());
  fill(0, 65536, again.data());
  EXPECT_NE(first, again);
  fill(65536, 2 * 65536, again.data());
  EXPECT_EQ(first, again);
}

TEST(Fill, SlicesOfAMatrix) {
  std::vector<float> values(6 * 10);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  Tensor tensor{"t", DType::f32, 6, 10, reinterpret_cast<const std::byte*>(values.data()), 0};
  Slice slice{&tensor, 2, 3, 4};  // rows 2…, columns 3 to 6
  for (uint64_t begin = 0; begin < 12; ++begin)
    for (uint64_t end = begin; end <= 12; ++end) {
      std::vector<float> out(end - begin + 1, -1);
      copy_fill(slice, 2)(begin, end, reinterpret_cast<std::byte*>(out.data()));
      for (uint64_t i = begin; i < end; ++i)
        EXPECT_EQ(out[i - begin], 2 * static_cast<float>((2 + i / 4) * 10 + 3 + i % 4));
      EXPECT_EQ(out.back(), -1) << "written beyond the end";
    }
}

}  // namespace
}  // namespace finermoe
