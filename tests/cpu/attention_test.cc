// The kernels of attention against plain arithmetic and the portable kernel, for every type of cache.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include "cpu/kv_layout.h"
#include "support.h"

namespace finermoe {
namespace {

constexpr std::array cache_dtypes = {DType::f32, DType::f16, DType::bf16, DType::q8};

// One head's keys and values in a cache, and what they stand for.
struct RandomHead {
  DType dtype;
  size_t d, n_positions;
  KvLayout layout;
  std::vector<std::byte> keys, values;
  size_t block_shift = 63, block_stride = 0;

  RandomHead(DType type, size_t head_size, size_t n, uint32_t seed)
      : dtype(type), d(head_size), n_positions(n), layout(type, head_size) {
    keys.resize(layout.head_bytes(n)), values.resize(layout.head_bytes(n));
    const std::vector<float> k = random_floats(n * d, seed, 0.8f), v = random_floats(n * d, seed + 1);
    for (size_t p = 0; p < n; p++) put(KvKind::key, &k[p * d], p), put(KvKind::value, &v[p * d], p);
  }
  void put(KvKind kind, const float* vector, size_t position) {
    std::vector<std::byte> stored(layout.vector_bytes());
    if (dtype == DType::q8) {
      layout.quantize(vector, stored.data());
    } else {
      portable::kernels.round_to(vector, dtype, d, stored.data());
    }
    layout.put(kind, stored.data(), position, kind == KvKind::key ? keys.data() : values.data());
  }
  // The same in blocks of `n` positions, with NaNs between them.
  RandomHead in_blocks(size_t n) const {
    RandomHead head = *this;
    const size_t bytes = layout.head_bytes(n), n_blocks = (n_positions + n - 1) / n;
    head.block_shift = size_t(std::countr_zero(n)), head.block_stride = bytes + 1344;
    for (std::vector<std::byte>* all : {&head.keys, &head.values}) {
      const std::vector<std::byte> together = std::exchange(*all, {});
      all->assign(n_blocks * head.block_stride, std::byte{0xff});
      for (size_t b = 0; b < n_blocks; b++) {
        std::memcpy(all->data() + b * head.block_stride, together.data() + b * bytes,
                    std::min(bytes, together.size() - b * bytes));
      }
    }
    return head;
  }
  std::vector<float> decoded(KvKind kind, size_t position) const {
    std::vector<float> out(d);
    layout.decode(kind, kind == KvKind::key ? keys.data() : values.data(), position, out.data());
    return out;
  }
};

// Queries, how far each sees, and one call of a kernel.
struct Queries {
  size_t n, d;
  std::vector<float> values;
  std::vector<size_t> visible;
  size_t window = SIZE_MAX;

  // Neighbouring rows of `group` heads, the last of which sees all positions.
  Queries(size_t count, size_t group, const RandomHead& head, uint32_t seed)
      : n(count), d(head.d), values(random_floats(count * head.d, seed, 2)) {
    for (size_t i = 0; i < n; i++) {
      const size_t hidden = (n - 1) / group - i / group;
      visible.push_back(head.n_positions > hidden ? head.n_positions - hidden : 1);
    }
  }
  struct Split {
    std::vector<float> out, max, sum;
  };
  Split run(const Kernels& kernels, const RandomHead& head, bool quantized, size_t begin, size_t end,
            bool whole) const {
    Split split{std::vector<float>(n * d, NAN), std::vector<float>(n), std::vector<float>(n)};
    std::vector<std::byte> scratch(kernels.attention_scratch(d));
    std::vector<const float*> q;
    std::vector<float*> out;
    for (size_t i = 0; i < n; i++) q.push_back(&values[i * d]), out.push_back(&split.out[i * d]);
    kernels.attention({.q = q.data(),
                       .out = out.data(),
                       .visible = visible.data(),
                       .window = window,
                       .n = n,
                       .head_size = d,
                       .width = head.layout.width(),
                       .panel_bytes = head.layout.panel_bytes(),
                       .keys = head.keys.data(),
                       .values = head.values.data(),
                       .block_shift = head.block_shift,
                       .block_stride = head.block_stride,
                       .dtype = head.dtype,
                       .begin = begin,
                       .end = end,
                       .scale = float(1 / std::sqrt(double(d))),
                       .quantized = quantized,
                       .bf16_dots = true,
                       .max = whole ? nullptr : split.max.data(),
                       .sum = whole ? nullptr : split.sum.data(),
                       .scratch = scratch.data()});
    return split;
  }
  std::vector<float> run(const Kernels& kernels, const RandomHead& head, bool quantized = false) const {
    return run(kernels, head, quantized, 0, head.n_positions, true).out;
  }
  std::vector<double> expected(const RandomHead& head) const {
    std::vector<double> out(n * d);
    for (size_t i = 0; i < n; i++) {
      double sum = 0;
      for (size_t p = visible[i] > window ? visible[i] - window : 0; p < visible[i]; p++) {
        const std::vector<float> key = head.decoded(KvKind::key, p), value = head.decoded(KvKind::value, p);
        const double score = std::inner_product(key.begin(), key.end(), &values[i * d], 0.0);
        const double probability = std::exp(score / std::sqrt(double(d)) - 20);
        sum += probability;
        for (size_t c = 0; c < d; c++) out[i * d + c] += probability * double(value[c]);
      }
      for (size_t c = 0; c < d; c++) out[i * d + c] /= sum;
    }
    return out;
  }
};

// Quantized queries may have 8 bits.
double tolerance_of(bool quantized) { return quantized ? 2e-2 : 5e-6; }

class AttentionTest : public EveryIsa {};
FINERMOE_FOR_EVERY_ISA(AttentionTest);

TEST_P(AttentionTest, IsPlainAttention) {
  for (DType dtype : cache_dtypes) {
    for (auto [n, group, d, positions] : {std::tuple{1, 1, 2, 1}, {1, 1, 128, 300}, {5, 1, 36, 65}, {48, 6, 64, 148}}) {
      SCOPED_TRACE(format_text(name_of(dtype), " ", n, " queries of ", d, " over ", positions));
      const RandomHead head(dtype, size_t(d), size_t(positions), 12);
      const Queries queries(size_t(n), size_t(group), head, 14);
      for (bool quantized : {false, true}) {
        expect_close(queries.run(kernels(), head, quantized).data(), queries.expected(head), tolerance_of(quantized));
      }
    }
  }
}

TEST_P(AttentionTest, EqualsThePortableKernelForEveryTypeAndOddSize) {
  for (DType dtype : cache_dtypes) {
    for (size_t d : {4, 12, 64, 80, 128}) {
      for (size_t positions : {1, 15, 31, 33, 64, 130, 701}) {
        const RandomHead head(dtype, d, positions, 20);
        for (size_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 31, 54, 70, 96}) {
          SCOPED_TRACE(format_text(name_of(dtype), " ", n, " queries of ", d, " over ", positions));
          const Queries queries(n, n < 10 ? n : 3, head, 21);
          const std::vector<float> expected = queries.run(portable::kernels, head);
          for (bool quantized : {false, true}) {
            expect_close(queries.run(kernels(), head, quantized).data(), expected, tolerance_of(quantized));
          }
        }
      }
    }
  }
}

TEST_P(AttentionTest, AWindowHidesWhatLiesBeforeIt) {
  for (DType dtype : cache_dtypes) {
    for (size_t d : {4, 36, 64}) {
      for (size_t positions : {1, 33, 130, 300}) {
        const RandomHead head(dtype, d, positions, 80);
        for (size_t n : {1, 5, 13, 96}) {
          for (size_t window : {1, 2, 16, 31, 64, 65, 100, 1000}) {
            SCOPED_TRACE(format_text(name_of(dtype), " ", n, " queries of ", d, " over ", window, " of ", positions));
            Queries queries(n, n < 10 ? 1 : 3, head, 81);
            queries.window = window;
            const std::vector<double> expected = queries.expected(head);
            for (bool quantized : {false, true}) {
              expect_close(queries.run(kernels(), head, quantized).data(), expected, tolerance_of(quantized));
            }
          }
        }
      }
    }
  }
}

TEST_P(AttentionTest, KeysBeforeAWindowDoNotMatter) {
  const std::vector<float> bad(32, NAN);
  for (DType dtype : cache_dtypes) {
    for (size_t n : {3, 40}) {
      for (bool quantized : {false, true}) {
        RandomHead head(dtype, 32, 200, 82);
        Queries queries(n, n, head, 83);
        queries.window = 90;
        const std::vector<float> expected = queries.run(kernels(), head, quantized);
        for (size_t p = 0; p < 110; p++) head.put(KvKind::key, bad.data(), p);
        for (size_t p = 0; p < 64; p++) head.put(KvKind::value, bad.data(), p);  // a block that no query sees
        EXPECT_EQ(expected, queries.run(kernels(), head, quantized)) << name_of(dtype) << ", " << n;
        head.put(KvKind::key, bad.data(), 110);
        for (float value : queries.run(kernels(), head, quantized)) ASSERT_TRUE(std::isnan(value)) << name_of(dtype);
      }
    }
  }
}

TEST_P(AttentionTest, KvSplitsMergeToTheWhole) {
  for (auto [dtype, window] : {std::pair{DType::f32, SIZE_MAX},
                               {DType::f16, SIZE_MAX},
                               {DType::bf16, SIZE_MAX},
                               {DType::q8, SIZE_MAX},
                               {DType::f32, size_t{100}},
                               {DType::q8, size_t{30}}}) {
    const RandomHead head(dtype, 20, 300, 30);
    Queries queries(7, 1, head, 31);
    queries.window = window;
    for (bool quantized : {false, true}) {
      const std::vector<float> whole = queries.run(kernels(), head, quantized);
      std::vector<double> merged(whole.size()), sums(queries.n);
      for (auto [begin, end] : {std::pair{0, 64}, {64, 256}, {256, 300}, {320, 300}}) {  // the last one is empty
        const Queries::Split split = queries.run(kernels(), head, quantized, size_t(begin), size_t(end), false);
        for (size_t i = 0; i < queries.n; i++) {
          if (split.sum[i] == 0) continue;
          sums[i] += std::exp(double(split.max[i])) * double(split.sum[i]);
          for (size_t c = i * head.d; c < (i + 1) * head.d; c++) {
            merged[c] += std::exp(double(split.max[i])) * double(split.out[c]);
          }
        }
      }
      for (size_t i = 0; i < merged.size(); i++) merged[i] /= sums[i / head.d];
      expect_close(whole.data(), merged, tolerance_of(quantized));
    }
  }
}

TEST_P(AttentionTest, PositionsMayLieInBlocks) {
  for (DType dtype : cache_dtypes) {
    const RandomHead head(dtype, 80, 701, 42);
    for (size_t n : {1, 6, 90}) {
      const Queries queries(n, n == 90 ? 6 : n, head, 43);
      for (size_t block : {64, 128, 512}) {
        SCOPED_TRACE(format_text(name_of(dtype), ", ", n, " queries, blocks of ", block, " positions"));
        const RandomHead divided = head.in_blocks(block);
        for (bool quantized : {false, true}) {
          EXPECT_EQ(queries.run(kernels(), divided, quantized), queries.run(kernels(), head, quantized));
          // A split that begins within one block and ends in another.
          const auto split = queries.run(kernels(), divided, quantized, 128, 690, false);
          EXPECT_EQ(split.out, queries.run(kernels(), head, quantized, 128, 690, false).out);
        }
      }
    }
  }
}

// A row of a step does not depend on the others.
TEST_P(AttentionTest, AQueryHasTheSameBitsWhateverOthersThereAre) {
  for (DType dtype : cache_dtypes) {
    const RandomHead head(dtype, 64, 150, 40);
    const Queries all(96, 4, head, 41);
    const std::vector<float> expected = all.run(kernels(), head);
    for (size_t first : {0, 1, 47, 80, 95}) {
      Queries some = all;
      some.n = 96 - first;
      some.values.erase(some.values.begin(), some.values.begin() + long(first * head.d));
      some.visible.erase(some.visible.begin(), some.visible.begin() + long(first));
      const std::vector<float> out = some.run(kernels(), head);
      if (dtype == DType::q8 && some.n <= 12) {  // the scales are multiplied with sums
        expect_close(out.data(), std::vector<float>(expected.begin() + long(first * head.d), expected.end()), 5e-6);
      } else {
        EXPECT_EQ(0, std::memcmp(out.data(), &expected[first * head.d], out.size() * sizeof(float))) << first;
      }
    }
  }
}

TEST_P(AttentionTest, WhatIsNotVisibleDoesNotMatterAndNotANumberShows) {
  const std::vector<float> bad(32, NAN);
  for (DType dtype : cache_dtypes) {
    for (size_t n : {3, 40}) {
      for (bool quantized : {false, true}) {
        RandomHead head(dtype, 32, 80, 50);
        Queries queries(n, n, head, 51);
        std::fill(queries.visible.begin(), queries.visible.end(), 69);
        const std::vector<float> expected = queries.run(kernels(), head, quantized);
        for (size_t p = 69; p < 80; p++) head.put(KvKind::key, bad.data(), p), head.put(KvKind::value, bad.data(), p);
        EXPECT_EQ(expected, queries.run(kernels(), head, quantized)) << name_of(dtype) << ", " << n;
        head.put(n == 3 ? KvKind::key : KvKind::value, bad.data(), 68);
        for (float value : queries.run(kernels(), head, quantized)) ASSERT_TRUE(std::isnan(value)) << name_of(dtype);
      }
    }
  }
}

TEST(KvLayout, AVectorComesBackAsItWasPut) {
  for (DType dtype : cache_dtypes) {
    for (size_t d : {2, 12, 36, 128}) {
      RandomHead head(dtype, d, 37, 60);
      std::vector<std::byte> vector(head.layout.vector_bytes()), again(vector.size());
      for (size_t i = 0; i < vector.size(); i++) vector[i] = std::byte(i * 37 + 5);
      for (KvKind kind : {KvKind::key, KvKind::value}) {
        std::vector<std::byte>& storage = kind == KvKind::key ? head.keys : head.values;
        const std::vector<float> before = head.decoded(kind, 17), after = head.decoded(kind, 19);
        head.layout.put(kind, vector.data(), 18, storage.data());
        head.layout.get(kind, storage.data(), 18, again.data());
        EXPECT_EQ(vector, again) << name_of(dtype) << " " << d;
        EXPECT_EQ(before, head.decoded(kind, 17));
        EXPECT_EQ(after, head.decoded(kind, 19));
      }
    }
  }
}

TEST(KvLayout, QuantizesToHalfAStepOfABlocksMaximum) {
  const size_t d = 80;
  std::vector<float> x = random_floats(d, 61, 3);
  std::fill_n(x.begin() + 32, 32, 0.0f);
  RandomHead head(DType::q8, d, 1, 62);
  head.put(KvKind::key, x.data(), 0);
  const std::vector<float> found = head.decoded(KvKind::key, 0);
  for (size_t c = 0; c < d; c++) {
    float max_abs = 0;
    for (size_t i = c / 32 * 32; i < std::min(d, c / 32 * 32 + 32); i++) max_abs = std::max(max_abs, std::abs(x[i]));
    ASSERT_LE(std::abs(found[c] - x[c]), max_abs / 127 * 0.502f) << c;  // the scale itself has 11 bits
  }
}

}  // namespace
}  // namespace finermoe
