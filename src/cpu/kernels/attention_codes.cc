// Attention of one group of queries over a Q8 cache: codes are multiplied as they are read, in float32 or, where an
// instruction multiplies and adds four bytes, in integers.
#include "cpu/kernels/attention.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t line_bytes = 4 * kv_panel;                // of keys: 4 columns of a panel's positions
constexpr size_t value_line_bytes = 4 * block_columns;     // of values: 4 positions of a block's columns
constexpr size_t panels = attention_key_block / kv_panel;  // in a block of positions

// One block of columns of the values, for the positions from `begin` on.
struct ValueBlock {
  const unsigned char* first;
  size_t panel_bytes, next;
  ValueBlock(const AttentionTask& t, size_t begin, size_t block)
      : panel_bytes(t.panel_bytes), next(next_offset(t, begin)) {
    first = static_cast<const unsigned char*>(t.values) + panel_offset(t, begin) + block * q8_block_bytes;
  }
  const unsigned char* line(size_t i) const {  // the positions 4 i to 4 i + 3
    return first + i / 4 * panel_bytes + block_scale_bytes + i % 4 * value_line_bytes;
  }
  // The scales of `lanes` positions, zeros from `depth` on.
  Vec scales(size_t position, size_t depth) const {
    if (position >= depth) return zero();
    const unsigned char* place = first + position / kv_panel * panel_bytes + position % kv_panel * sizeof(uint16_t);
    return load_first_as<DType::f16>(place, smaller(lanes, depth - position));
  }
  // Prefetches the next block of positions.
  void prefetch_next() const {
    for (size_t i = 0; i < panels; i++) {
      const unsigned char* block = first + next + i * panel_bytes;
      for (size_t at = 0; at < q8_block_bytes; at += 64) _mm_prefetch(block + at, _MM_HINT_T1);
    }
  }
};

// With float32 queries and probabilities.
struct FloatCodes {
  struct Scratch {
    float* queries;        // [width][n], and what pack_rows() writes beyond it
    float* probabilities;  // [n][attention_key_block], times the scales of a block
    Scratch(Places& places, size_t n, size_t width) {
      places.put(queries, width * n + lanes);
      places.put(probabilities, n * attention_key_block);
    }
  };
  const AttentionTask& t;
  float *queries, *probabilities;

  FloatCodes(const AttentionTask& task, const Scratch& scratch)
      : t(task), queries(scratch.queries), probabilities(scratch.probabilities) {}

  void pack(const QueryGroup& group, float* rows) {
    const char* pointers[lanes] = {};
    for (size_t i = 0; i < group.n; i++) pointers[i] = reinterpret_cast<const char*>(rows + i * t.width);
    pack_rows<DType::f32>(pointers, 0, t.width, queries, group.n);
  }

  template <size_t T>
  struct Score {
    static void run(const FloatCodes& p, const unsigned char* panel, size_t position, size_t next, float* out) {
      const float* x = p.queries;
      Vec scores[T];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) scores[t] = zero();
      for (size_t c = 0; c < p.t.width; c += block_columns, panel += q8_block_bytes) {
        Vec sums[T];
#pragma GCC unroll 16
        for (size_t t = 0; t < T; t++) sums[t] = zero();
        for (size_t at = block_scale_bytes + position * 4; at < q8_block_bytes; at += line_bytes) {
          const Codes codes = load_codes(panel + at);
          _mm_prefetch(panel + next + at, _MM_HINT_T1);
#pragma GCC unroll 4
          for (int i = 0; i < 4; i++, x += T) {
            const Vec key = column_of(codes, i);
#pragma GCC unroll 16
            for (size_t t = 0; t < T; t++) sums[t] = fma(broadcast(x[t]), key, sums[t]);
          }
        }
        const Vec scale = load_as<DType::f16>(panel + position * sizeof(uint16_t));
#pragma GCC unroll 16
        for (size_t t = 0; t < T; t++) scores[t] = fma(sums[t], scale, scores[t]);
      }
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) store(out + t * attention_key_block, scores[t]);
    }
  };

  template <size_t T>
  struct Add {
    static void run(const FloatCodes& p, const ValueBlock& values, size_t depth, size_t column, float* out) {
      Vec sums[T][2];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) sums[t][0] = sums[t][1] = zero();
      for (size_t line = 0; line * 4 < depth; line++) {
        const unsigned char* place = values.line(line) + column * 4;
        const Codes first = flip_signs(load_codes(place)), second = flip_signs(load_codes(place + 4 * lanes));
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
          const Vec v0 = column_of(first, i), v1 = column_of(second, i);
          const float* x = p.probabilities + line * 4 + static_cast<size_t>(i);
#pragma GCC unroll 16
          for (size_t t = 0; t < T; t++) {
            sums[t][0] = fma(broadcast(x[t * attention_key_block]), v0, sums[t][0]);
            sums[t][1] = fma(broadcast(x[t * attention_key_block]), v1, sums[t][1]);
          }
        }
      }
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) {
        float* place = out + t * p.t.width + column;
        store(place, add(load(place), sums[t][0]));
        store(place + lanes, add(load(place + lanes), sums[t][1]));
      }
    }
  };

  void scores(const QueryGroup* group, size_t, size_t begin, float* scores) const {
    const auto score = kernel_of<Score>(t.n);
    const auto* panel = static_cast<const unsigned char*>(t.keys) + panel_offset(t, begin);
    const size_t next = next_offset(t, begin);
    for (size_t p = 0; p < group->depth(begin); p += lanes) {
      score(*this, panel + p / kv_panel * t.panel_bytes, p % kv_panel, next, scores + p);
    }
  }

  void add_values(const QueryGroup* group, size_t, size_t begin, const float* unscaled, float* out) {
    const auto add = kernel_of<Add>(t.n);
    const size_t depth = group->depth(begin);
    for (size_t block = 0; block < t.width / block_columns; block++) {
      const ValueBlock values(t, begin, block);
      values.prefetch_next();
      for (size_t p = 0; p < depth; p += lanes) {
        const Vec scales = values.scales(p, depth);
        for (size_t at = p; at < t.n * attention_key_block; at += attention_key_block) {
          store(probabilities + at, mul(load(unscaled + at), scales));
        }
      }
      for (size_t column = 0; column < block_columns; column += 2 * lanes) {
        add(*this, values, depth, column, out + block * block_columns);
      }
    }
  }
};

#if defined(__AVX512BW__)

// With queries in blocks of 8 bits, quantized as for Q8 weights, and probabilities in 16 bits, split into two bytes.
struct IntCodes {
  struct Scratch {
    int* queries;                                           // [width / 4][n]: 4 columns of each query
    int* offsets;                                           // [blocks][n]: correct for key codes that are 128 too large
    float* query_scales;                                    // [blocks][n]
    unsigned char *high_probabilities, *low_probabilities;  // [n][attention_key_block]
    char* quantized;                                        // a query: codes [width], scales [blocks], offsets [blocks]
    Scratch(Places& places, size_t n, size_t width) {
      const size_t blocks = width / block_columns;
      places.put(queries, width / 4 * n);
      places.put(offsets, blocks * n);
      places.put(query_scales, blocks * n);
      places.put(high_probabilities, n * attention_key_block);
      places.put(low_probabilities, n * attention_key_block);
      places.put(quantized, width + blocks * (sizeof(float) + sizeof(int)));
    }
  };
  const AttentionTask& t;
  const Scratch s;
  float probability_scales[query_group];

  IntCodes(const AttentionTask& task, const Scratch& scratch) : t(task), s(scratch) {}

  void pack(const QueryGroup& group, float* rows) {
    const size_t blocks = t.width / block_columns;
    for (size_t i = 0; i < group.n; i++) {
      quantize_activations(rows + i * t.width, Form::blocks, t.width, 0, t.width, s.quantized);
      const char* scales = s.quantized + t.width;
      for (size_t c = 0; c < t.width / 4; c++) __builtin_memcpy(s.queries + c * t.n + i, s.quantized + c * 4, 4);
      for (size_t b = 0; b < blocks; b++) {
        __builtin_memcpy(s.query_scales + b * t.n + i, scales + b * 4, 4);
        __builtin_memcpy(s.offsets + b * t.n + i, scales + (blocks + b) * 4, 4);
      }
    }
  }

  template <size_t T>
  struct Score {
    static void run(const IntCodes& p, const unsigned char* panel, size_t next, float* out) {
      const int *x = p.s.queries, *offset = p.s.offsets;
      const float* query_scale = p.s.query_scales;
      Vec scores[T];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) scores[t] = zero();
      for (size_t c = 0; c < p.t.width; c += block_columns, panel += q8_block_bytes) {
        Sums sums[T];
#pragma GCC unroll 16
        for (size_t t = 0; t < T; t++) sums[t] = _mm512_set1_epi32(offset[t]);
        for (size_t at = block_scale_bytes; at < q8_block_bytes; at += line_bytes, x += T) {
          const Codes codes = load_codes(panel + at);
          _mm_prefetch(panel + next + at, _MM_HINT_T1);
#pragma GCC unroll 16
          for (size_t t = 0; t < T; t++) sums[t] = _mm512_dpbusd_epi32(sums[t], codes, _mm512_set1_epi32(x[t]));
        }
        const Vec scale = load_as<DType::f16>(panel);
#pragma GCC unroll 16
        for (size_t t = 0; t < T; t++) {
          scores[t] = fma(to_float(sums[t]), mul(scale, broadcast(query_scale[t])), scores[t]);
        }
        offset += T, query_scale += T;
      }
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) store(out + t * attention_key_block, scores[t]);
    }
  };

  template <size_t T>
  struct Add {
    static void run(const IntCodes& p, const ValueBlock& values, size_t depth, float* out) {
      Sums sums[T][2];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) sums[t][0] = sums[t][1] = _mm512_setzero_si512();
      auto add = [&](const unsigned char* probabilities) {
        for (size_t line = 0; line * 4 < depth; line++) {
          const Codes lower = load_codes(values.line(line)), upper = load_codes(values.line(line) + 64);
#pragma GCC unroll 16
          for (size_t q = 0; q < T; q++) {
            int four;
            __builtin_memcpy(&four, probabilities + q * attention_key_block + line * 4, sizeof four);
            sums[q][0] = _mm512_dpbusd_epi32(sums[q][0], _mm512_set1_epi32(four), lower);
            sums[q][1] = _mm512_dpbusd_epi32(sums[q][1], _mm512_set1_epi32(four), upper);
          }
        }
      };
      add(p.s.high_probabilities);
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) {
        for (Sums& sum : sums[t]) sum = _mm512_slli_epi32(sum, 8);
      }
      add(p.s.low_probabilities);
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) {
        const Vec scale = broadcast(p.probability_scales[t]);
        for (size_t i = 0; i < 2; i++) {
          float* place = out + t * p.t.width + i * lanes;
          store(place, fma(to_float(sums[t][i]), scale, load(place)));
        }
      }
    }
  };

  void scores(const QueryGroup* group, size_t, size_t begin, float* scores) const {
    const auto score = kernel_of<Score>(t.n);
    const auto* panel = static_cast<const unsigned char*>(t.keys) + panel_offset(t, begin);
    const size_t next = next_offset(t, begin);
    for (size_t p = 0; p < group->depth(begin); p += kv_panel, panel += t.panel_bytes) {
      score(*this, panel, next, scores + p);
    }
  }

  // Quantizes probabilities, divided by their max, times the scales of a block's values, to integers up to 65535.
  void quantize_probabilities(const ValueBlock& values, size_t depth, const float* probabilities,
                              const float* max_probabilities) {
    alignas(64) static constexpr uint16_t even[32] = {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                                      32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62};
    const __m512i low_words = _mm512_load_si512(even);
    Vec scales[panels], lane_max = zero(), not_finite = zero();  // zeros, or NaN from NaN and infinity
    for (size_t i = 0; i < panels; i++) {
      scales[i] = values.scales(i * kv_panel, depth);
      lane_max = max(lane_max, scales[i]);
      not_finite = fma(scales[i], zero(), not_finite);
    }
    const float max_scale = max_of(lane_max), bad = sum(not_finite);
    const Vec inverse = broadcast(max_scale > 0 ? 65535 / max_scale : 0);
    for (Vec& scale : scales) scale = mul(scale, inverse);
    for (size_t q = 0; q < t.n; q++, probabilities += attention_key_block) {
      probability_scales[q] = max_probabilities[q] * max_scale / 65535 + bad;
      for (size_t i = 0; i * kv_panel < depth; i += 2) {
        auto to_int = [&](size_t panel) {
          return _mm512_cvtps_epi32(mul(load(probabilities + panel * kv_panel), scales[panel]));
        };
        const __m512i words = _mm512_permutex2var_epi16(to_int(i), low_words, to_int(i + 1));
        const size_t place = q * attention_key_block + i * kv_panel;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(s.high_probabilities + place),
                            _mm512_cvtepi16_epi8(_mm512_srli_epi16(words, 8)));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(s.low_probabilities + place), _mm512_cvtepi16_epi8(words));
      }
    }
  }

  void add_values(const QueryGroup* group, size_t, size_t begin, float* probabilities, float* out) {
    const auto add = kernel_of<Add>(t.n);
    const size_t depth = group->depth(begin);
    float max_probabilities[query_group];
    for (size_t q = 0; q < t.n; q++) {
      float* row = probabilities + q * attention_key_block;
      Vec lane_max = zero();
      for (size_t p = 0; p < depth; p += lanes) lane_max = max(lane_max, load(row + p));
      max_probabilities[q] = max_of(lane_max);
      const Vec inverse = broadcast(max_probabilities[q] > 0 ? 1 / max_probabilities[q] : 0);
      for (size_t p = 0; p < depth; p += lanes) store(row + p, mul(load(row + p), inverse));
    }
    for (size_t block = 0; block < t.width / block_columns; block++) {
      const ValueBlock values(t, begin, block);
      values.prefetch_next();
      quantize_probabilities(values, depth, probabilities, max_probabilities);
      add(*this, values, depth, out + block * block_columns);
    }
  }
};

#endif

}  // namespace

void attention_codes(const AttentionTask& t) {
#if defined(__AVX512BW__)
  if (t.quantized) return attend<IntCodes>(t);
#endif
  attend<FloatCodes>(t);
}

size_t attention_codes_scratch(size_t head_size) {
  size_t bytes = attend_scratch<FloatCodes>(query_group, head_size);
#if defined(__AVX512BW__)
  bytes = larger(bytes, attend_scratch<IntCodes>(query_group, head_size));
#endif
  return bytes;
}

}  // namespace finermoe::FINERMOE_KERNELS
