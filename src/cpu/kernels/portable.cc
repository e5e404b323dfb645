// The portable kernels, against which all others are tested: plain loops, and register tiles for many vectors.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/places.h"
#include "cpu/kernels.h"
#include "cpu/kv_layout.h"

namespace finermoe::portable {
namespace {

float element(const void* data, DType dtype, size_t i) {
  return load_element(dtype, static_cast<const std::byte*>(data), i);
}

// Sixteen partial sums, so that a compiler can vectorize for any processor without changing the order.
float dot(const float* x, const void* w, DType dtype, size_t offset, size_t n) {
  constexpr size_t lanes = 16;
  float sums[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (size_t lane = 0; lane < lanes; lane++) sums[lane] += x[i + lane] * element(w, dtype, offset + i + lane);
  }
  for (size_t lane = 0; i < n; i++, lane++) sums[lane] += x[i] * element(w, dtype, offset + i);
  for (size_t width = lanes / 2; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

void widen(const void* in, DType dtype, size_t n, float* out) {
  for (size_t i = 0; i < n; i++) out[i] = element(in, dtype, i);
}

void round_to(const float* in, DType dtype, size_t n, void* out) {
  if (dtype == DType::f32) {
    std::memcpy(out, in, n * sizeof(float));
    return;
  }
  auto* halves = static_cast<uint16_t*>(out);
  for (size_t i = 0; i < n; i++) halves[i] = dtype == DType::bf16 ? float_to_bf16(in[i]) : float_to_f16(in[i]);
}

void rms_norm(const float* x, const void* weight, DType dtype, float eps, size_t n, float* out) {
  const float mean = dot(x, x, DType::f32, 0, n) / static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(mean + eps);
  for (size_t i = 0; i < n; i++) out[i] = x[i] * scale * element(weight, dtype, i);
}

void silu_multiply(float* gate, const float* up, float scale, size_t n) {
  for (size_t i = 0; i < n; i++) gate[i] = scale * (gate[i] / (1.0f + std::exp(-gate[i]))) * up[i];
}

void rotate(float* x, const float* cos, const float* sin, size_t half) {
  for (size_t i = 0; i < half; i++) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = b * cos[i] + a * sin[i];
  }
}

// One block: codes x / scale, with that of four scales (max |x| at 127, 126, 125 and 124) that has the least error.
void quantize_block(const float* x, size_t n, int8_t* codes, float* scale, int32_t* offset) {
  float max_abs = 0, not_finite = 0;  // zeros, or NaN from NaN and infinity
  for (size_t i = 0; i < n; i++) {
    max_abs = std::fmax(max_abs, std::fabs(x[i]));
    not_finite += x[i] * 0;
  }
  const bool has_codes = not_finite == 0 && max_abs > 1e-30f;  // tiny values become zeros
  float best = 127, least = INFINITY;
  for (float step = 127; has_codes && step > 123; step--) {
    float error = 0;
    for (size_t i = 0; i < n; i++) {
      const float scaled = x[i] * (step / max_abs), rest = (scaled - std::nearbyint(scaled)) * (1 / step);
      error += rest * rest;
    }
    if (error < least) {
      least = error;
      best = step;
    }
  }
  int sum = 0;
  for (size_t i = 0; i < block_columns; i++) {
    codes[i] = has_codes && i < n ? static_cast<int8_t>(std::nearbyint(x[i] * (best / max_abs))) : int8_t{0};
    sum += codes[i];
  }
  *scale = max_abs / best + not_finite;
  *offset = -128 * sum;
}

void quantize_activations(const float* x, Form, size_t columns, size_t begin, size_t end, void* out) {
  const size_t blocks = blocks_of(columns);
  auto* codes = static_cast<int8_t*>(out);
  auto* scales = reinterpret_cast<float*>(codes + blocks * block_columns);
  auto* offsets = reinterpret_cast<int32_t*>(scales + blocks);
  for (size_t c = begin; c < end; c += block_columns) {
    const size_t block = c / block_columns, n = end - c < block_columns ? end - c : block_columns;
    quantize_block(x + (c - begin), n, codes + c, scales + block, offsets + block);
  }
}

Form fast_form(DType weights, size_t, bool) { return is_blocked(weights) ? Form::blocks : Form::floats; }

// One row of one block: its values to `values`; returns its scale.
float unpack_block(const Matmul& m, size_t row, size_t index, int8_t* values) {
  const size_t r = row % panel_rows;
  const auto* block =
      static_cast<const uint8_t*>(m.weight) + (row / panel_rows * blocks_of(m.columns) + index) * block_bytes(m.dtype);
  const uint8_t* codes = block + block_scale_bytes + r * 4;
  for (size_t c = 0; c < block_columns; c++) {
    const uint8_t code = codes[(m.dtype == DType::q8 ? c / 4 : c % 16 / 4) * 64 + c % 4];
    const int value = m.dtype == DType::q8 ? code - 128 : q4_values[code >> (c < 16 ? 0 : 4) & 15];
    values[c] = static_cast<int8_t>(value);
  }
  uint16_t bits;
  std::memcpy(&bits, block + r * sizeof bits, sizeof bits);
  return f16_to_float(bits);
}

// An unpacked row of a block format, in the scratch.
struct BlockedRow {
  float* scales;   // [blocks]
  int8_t* values;  // [blocks * 32]
  BlockedRow(Places& places, size_t columns) {
    places.put(scales, blocks_of(columns));
    places.put(values, blocks_of(columns) * block_columns);
  }
};

void unpack_row(const Matmul& m, size_t row, const BlockedRow& out) {
  for (size_t i = 0; i < blocks_of(m.columns); i++) {
    out.scales[i] = unpack_block(m, row, i, out.values + i * block_columns);
  }
}

float dot_quantized(const BlockedRow& w, const void* vector, size_t columns) {
  const size_t blocks = blocks_of(columns);
  const auto* codes = static_cast<const int8_t*>(vector);
  const auto* scales = reinterpret_cast<const float*>(codes + blocks * block_columns);
  float total = 0;
  for (size_t block = 0; block < blocks; block++) {
    int32_t product = 0;
    for (size_t c = block * block_columns; c < (block + 1) * block_columns; c++) product += codes[c] * w.values[c];
    total += static_cast<float>(product) * (w.scales[block] * scales[block]);
  }
  return total;
}

float dot_blocked(const BlockedRow& w, const float* x, size_t columns) {
  float total = 0;
  for (size_t c = 0; c < columns; c++) total += x[c] * (w.scales[c / block_columns] * static_cast<float>(w.values[c]));
  return total;
}

// Many float vectors: each weight is widened once for all of them, and the sums of a tile of a few vectors and rows
// stay in registers. Every sum runs in the order of the columns.
using Vec [[gnu::vector_size(16)]] = float;        // nearly every processor has these
constexpr size_t tile_vectors = 4, tile_rows = 8;  // sums in 8 of 16 registers, beside weights and factors

// Columns [begin, begin + depth) of tile_rows rows as [depth, tile_rows], with zeros for missing rows. `begin` is a
// multiple of block_columns.
void pack_tile(const Matmul& m, size_t first_row, size_t begin, size_t depth, float* tile) {
  for (size_t r = 0; r < tile_rows; r++) {
    const size_t row = first_row + r;
    float* out = tile + r;
    if (row >= m.rows) {
      for (size_t k = 0; k < depth; k++) out[k * tile_rows] = 0;
    } else if (!is_blocked(m.dtype)) {
      const size_t offset = row * m.columns + begin;
      for (size_t k = 0; k < depth; k++) out[k * tile_rows] = element(m.weight, m.dtype, offset + k);
    } else {
      for (size_t c = 0; c < depth; c += block_columns) {
        int8_t values[block_columns];
        const float scale = unpack_block(m, row, (begin + c) / block_columns, values);
        const size_t n = std::min<size_t>(block_columns, depth - c);
        for (size_t k = 0; k < n; k++) out[(c + k) * tile_rows] = scale * static_cast<float>(values[k]);
      }
    }
  }
}

// The same columns of the vectors, as blocks of [depth, tile_vectors].
void pack_vectors(const Matmul& m, size_t begin, size_t depth, float* out) {
  for (size_t first = 0; first < m.n; first += tile_vectors, out += depth * tile_vectors) {
    for (size_t t = 0; t < tile_vectors; t++) {
      const float* x = first + t < m.n ? static_cast<const float*>(m.x[first + t]) + begin : nullptr;
      for (size_t k = 0; k < depth; k++) out[k * tile_vectors + t] = x == nullptr ? 0 : x[k];
    }
  }
}

// sums [tile_vectors, tile_rows] = packed vectors times a packed tile
void tile_product(const float* x, const float* tile, size_t depth, float* sums) {
  Vec s[tile_vectors][2] = {};
  for (size_t k = 0; k < depth; k++, x += tile_vectors, tile += tile_rows) {
    Vec w[2];
    std::memcpy(w, tile, sizeof w);
#pragma GCC unroll 4
    for (size_t t = 0; t < tile_vectors; t++) {
      s[t][0] += x[t] * w[0];
      s[t][1] += x[t] * w[1];
    }
  }
  std::memcpy(sums, s, sizeof s);
}

struct TileScratch {
  float *tile, *vectors;
  TileScratch(Places& places, size_t n) {
    places.put(tile, matmul_depth_block * tile_rows);
    places.put(vectors, (n + tile_vectors - 1) / tile_vectors * tile_vectors * matmul_depth_block);
  }
};

void multiply_many(const Matmul& m) {
  Places places(m.scratch);
  const TileScratch scratch(places, m.n);
  for (size_t begin = 0; begin < m.columns; begin += matmul_depth_block) {
    const size_t depth = std::min<size_t>(matmul_depth_block, m.columns - begin);
    pack_vectors(m, begin, depth, scratch.vectors);
    for (size_t row = 0; row < m.rows; row += tile_rows) {
      pack_tile(m, row, begin, depth, scratch.tile);
      const size_t n_rows = std::min(tile_rows, m.rows - row);
      for (size_t first = 0; first < m.n; first += tile_vectors) {
        float sums[tile_vectors][tile_rows];
        tile_product(scratch.vectors + first * depth, scratch.tile, depth, sums[0]);
        for (size_t t = 0; t < std::min(tile_vectors, m.n - first); t++) {
          float* out = m.out[first + t] + row;
          for (size_t r = 0; r < n_rows; r++) out[r] = m.accumulate || begin > 0 ? out[r] + sums[t][r] : sums[t][r];
        }
      }
    }
  }
}

void matmul(const Matmul& m) {
  if (m.n > tile_vectors && m.form == Form::floats && !m.as_alone && !m.batch_invariant) return multiply_many(m);
  Places places(m.scratch);
  const BlockedRow blocked(places, m.columns);
  for (size_t row = 0; row < m.rows; row++) {
    if (is_blocked(m.dtype)) unpack_row(m, row, blocked);
    for (size_t i = 0; i < m.n; i++) {
      const auto* x = static_cast<const float*>(m.x[i]);
      const float product = !is_blocked(m.dtype)     ? dot(x, m.weight, m.dtype, row * m.columns, m.columns)
                            : m.form == Form::blocks ? dot_quantized(blocked, m.x[i], m.columns)
                                                     : dot_blocked(blocked, x, m.columns);
      m.out[i][row] = m.accumulate ? m.out[i][row] + product : product;
    }
  }
}

size_t matmul_scratch(size_t n, size_t columns) {
  return std::max(bytes_of_arrays<BlockedRow>(columns), n > tile_vectors ? bytes_of_arrays<TileScratch>(n) : 0);
}

// Online softmax update of one query with n more positions.
void attend(const AttentionTask& t, size_t i, const float* keys, const float* values, size_t n, float* running_max,
            float* running_sum) {
  const size_t d = t.head_size;
  float scores[attention_key_block], max = *running_max;
  for (size_t p = 0; p < n; p++) {
    scores[p] = t.scale * dot(t.q[i], keys, DType::f32, p * d, d);
    max = std::fmax(max, scores[p]);
  }
  const float rescale = std::exp(*running_max - max);  // 0 in the first block
  *running_max = max;
  *running_sum *= rescale;
  float* out = t.out[i];
  for (size_t c = 0; c < d; c++) out[c] *= rescale;
  for (size_t p = 0; p < n; p++) {
    const float probability = std::exp(scores[p] - max);
    *running_sum += probability;
    for (size_t c = 0; c < d; c++) out[c] += probability * values[p * d + c];
  }
}

// A block of positions, decoded.
struct DecodedBlock {
  float *keys, *values;  // [attention_key_block, head_size]
  DecodedBlock(Places& places, size_t head_size) {
    places.put(keys, attention_key_block * head_size);
    places.put(values, attention_key_block * head_size);
  }
};

size_t attention_scratch(size_t head_size) { return bytes_of_arrays<DecodedBlock>(head_size); }

// Online softmax over blocks of positions, in memory that does not grow with their number.
void attention(const AttentionTask& t) {
  const size_t d = t.head_size;
  const KvLayout layout(t.dtype, d);
  float max[attention_max_queries], sum[attention_max_queries];
  for (size_t i = 0; i < t.n; i++) {
    max[i] = -INFINITY, sum[i] = 0;
    std::fill_n(t.out[i], d, 0.0f);
  }
  const size_t end = std::min(t.end, *std::max_element(t.visible, t.visible + t.n));
  Places places(t.scratch);
  const DecodedBlock block(places, d);
  for (size_t begin = t.begin; begin < end; begin += attention_key_block) {
    const size_t n = std::min<size_t>(attention_key_block, end - begin);
    const size_t offset = (begin >> t.block_shift) * t.block_stride;
    const size_t first = begin & ((size_t{1} << t.block_shift) - 1);
    for (size_t p = 0; p < n; p++) {
      layout.decode(KvKind::key, static_cast<const std::byte*>(t.keys) + offset, first + p, block.keys + p * d);
      layout.decode(KvKind::value, static_cast<const std::byte*>(t.values) + offset, first + p, block.values + p * d);
    }
    for (size_t i = 0; i < t.n; i++) {
      const size_t hidden = t.visible[i] > t.window ? t.visible[i] - t.window : 0;  // positions before the window
      const size_t visible_from = hidden > begin ? hidden - begin : 0;
      const size_t last = t.visible[i] > begin ? std::min(n, t.visible[i] - begin) : 0;
      if (visible_from >= last) continue;
      attend(t, i, block.keys + visible_from * d, block.values + visible_from * d, last - visible_from, &max[i],
             &sum[i]);
    }
  }
  for (size_t i = 0; i < t.n; i++) {
    if (t.max != nullptr) {
      t.max[i] = max[i], t.sum[i] = sum[i];
    } else {
      for (size_t c = 0; c < d; c++) t.out[i][c] /= sum[i];
    }
  }
}

}  // namespace

const Kernels kernels = {.widen = widen,
                         .round_to = round_to,
                         .rms_norm = rms_norm,
                         .silu_multiply = silu_multiply,
                         .rotate = rotate,
                         .quantize_activations = quantize_activations,
                         .fast_form = fast_form,
                         .matmul = matmul,
                         .attention = attention,
                         .matmul_scratch = matmul_scratch,
                         .attention_scratch = attention_scratch};

}  // namespace finermoe::portable
