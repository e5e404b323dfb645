// Weights of BF16, Q8 and Q4 times activations in BF16, by matrix tiles: the weights become BF16 pairs once for all
// vectors of a task.
#include "cpu/kernels/tiles_amx.h"

namespace finermoe::amx {
namespace {

constexpr size_t depth_block = 512;               // columns at a time: pairs of 32 rows fill half the first-level cache
constexpr size_t panel_outputs = 2 * tile_lines;  // rows of the weights at a time
constexpr size_t panel_step_bytes = 2 * tile_bytes;  // pairs of 32 columns of these rows
constexpr size_t least_vectors_for_tiles = 4;        // fewer meet BF16 weights row after row

struct TileScratch {
  char* pairs;   // [depth_block / 32][2 tiles]
  char* blocks;  // vectors of irregular blocks, [blocks][16, depth_block]
  TileScratch(Places& places, size_t n) {
    places.put(pairs, depth_block / tile_step_columns * panel_step_bytes);
    places.put(blocks, (n + tile_lines - 1) / tile_lines * tile_lines * depth_block * sizeof(uint16_t));
  }
};

// Columns [begin, begin + depth) of 16 rows of BF16, as tiles of pairs; zeros for rows that do not exist.
void pack_bf16(const char* weight, size_t columns, size_t n_rows, size_t begin, size_t depth, char* out) {
  for (size_t k = 0; k < depth; k += tile_step_columns, out += panel_step_bytes) {
    const size_t count = smaller(tile_step_columns, depth - k);
    const __mmask32 exist = static_cast<__mmask32>((1ull << count) - 1);
    Vec v[lanes];
#pragma GCC unroll 16
    for (size_t i = 0; i < lanes; i++) {
      const char* at = weight + (i * columns + begin + k) * sizeof(uint16_t);
      v[i] = i < n_rows ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(exist, at)) : zero();
    }
    transpose(v);
    for (size_t i = 0; i < lanes; i++) store(reinterpret_cast<float*>(out + i * tile_line_bytes), v[i]);
  }
}

// Two columns of 16 rows as pairs.
inline __m512i pairs_of(Vec first, Vec second) {
  alignas(64) static constexpr uint16_t alternating[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  return _mm512_permutexvar_epi16(_mm512_load_si512(alternating), both);
}

// The same of a panel of a block format, whose blocks have as many columns as a tile.
template <bool Packed>
void pack_blocks(const unsigned char* panel, size_t begin, size_t depth, char* out, const unsigned char* table) {
  constexpr size_t block_bytes = Packed ? q4_block_bytes : q8_block_bytes;
  const unsigned char* block = panel + begin / block_columns * block_bytes;
  for (size_t k = 0; k < depth; k += block_columns, block += block_bytes, out += panel_step_bytes) {
    const Vec scale = load_as<DType::f16>(block), offset = mul(scale, broadcast(-128));  // exact
#pragma GCC unroll 8
    for (size_t c = 0; c < block_columns / 4; c++) {
      const unsigned char* codes = block + block_scale_bytes;
      Codes four;
      if constexpr (Packed) {
        const Codes both = load_codes(codes + c % 4 * 64);
        four = look_up(table, c < 4 ? low_halves(both) : high_halves(both));
      } else {
        four = load_codes(codes + c * 64);
      }
      Vec values[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        Codes code = i == 0 ? four : _mm512_srli_epi32(four, static_cast<unsigned>(8 * i));
        if (i < 3) code = _mm512_and_si512(code, _mm512_set1_epi32(255));
        values[i] = fma(_mm512_cvtepi32_ps(code), scale, offset);
      }
      _mm512_storeu_si512(out + 2 * c * tile_line_bytes, pairs_of(values[0], values[1]));
      _mm512_storeu_si512(out + (2 * c + 1) * tile_line_bytes, pairs_of(values[2], values[3]));
    }
  }
}

// Columns [begin, begin + depth) of up to 32 rows from `row` on.
void pack(const Matmul& m, size_t row, size_t begin, size_t depth, char* out, const unsigned char* table) {
  const size_t row_bytes = m.columns * sizeof(uint16_t);
  const size_t blocks = round_up(m.columns, block_columns) / block_columns;
  for (size_t first = row; first < row + panel_outputs; first += tile_lines, out += tile_bytes) {
    const auto* weight = static_cast<const unsigned char*>(m.weight);
    if (first >= m.rows) {
      for (size_t k = 0; k < depth; k += tile_step_columns) {
        __builtin_memset(out + k / tile_step_columns * panel_step_bytes, 0, tile_bytes);
      }
    } else if (m.dtype == DType::bf16) {
      pack_bf16(reinterpret_cast<const char*>(weight) + first * row_bytes, m.columns,
                smaller(tile_lines, m.rows - first), begin, depth, out);
    } else if (m.dtype == DType::q8) {
      pack_blocks<false>(weight + first / panel_rows * blocks * q8_block_bytes, begin, depth, out, table);
    } else {
      pack_blocks<true>(weight + first / panel_rows * blocks * q4_block_bytes, begin, depth, out, table);
    }
  }
}

// Whether 16 vectors from `first` on exist and lie as far from each other as the first two.
template <class T>
bool is_regular(T* const* vectors, size_t first, size_t n) {
  if (first + tile_lines > n) return false;
  const auto at = [&](size_t i) { return reinterpret_cast<uintptr_t>(vectors[first + i]); };
  for (size_t i = 2; i < tile_lines; i++) {
    if (at(i) - at(i - 1) != at(1) - at(0)) return false;
  }
  return at(1) > at(0);
}

// The vectors from `first` on as lines of the left operand, copied to `block` where they are not regular.
Lines left_lines(const Matmul& m, size_t first, size_t begin, size_t depth, char* block) {
  const auto at = [&](size_t i) { return static_cast<const char*>(m.x[first + i]) + begin * sizeof(uint16_t); };
  if (is_regular(m.x, first, m.n)) return {at(0), static_cast<size_t>(at(1) - at(0))};
  constexpr size_t stride = depth_block * sizeof(uint16_t);
  const size_t bytes = round_up(depth, tile_step_columns) * sizeof(uint16_t);
  for (size_t i = 0; i < tile_lines; i++) {
    for (size_t b = 0; b < bytes; b += tile_line_bytes) {
      const __m512i v = first + i < m.n ? _mm512_loadu_si512(at(i) + b) : _mm512_setzero_si512();
      _mm512_storeu_si512(block + i * stride + b, v);
    }
  }
  return {block, stride};
}

// The outputs of 16 vectors and 16 rows: in place, or in a copy where they are not regular.
class Outputs {
 public:
  Outputs(const Matmul& m, size_t first, size_t row)
      : m_(m), first_(first), row_(row), in_place_(row + tile_lines <= m.rows && is_regular(m.out, first, m.n)) {}

  const float* load() {
    if (in_place_) return m_.out[first_] + row_;
    for (size_t i = 0; i < n_vectors(); i++)
      store(copy_[i], load_up_to<DType::f32>(m_.out[first_ + i] + row_, n_rows()));
    return copy_[0];
  }
  float* place() { return in_place_ ? m_.out[first_] + row_ : copy_[0]; }
  size_t stride() const {
    return in_place_ ? static_cast<size_t>(m_.out[first_ + 1] - m_.out[first_]) * sizeof(float) : sizeof copy_[0];
  }
  void finish() const {
    for (size_t i = 0; !in_place_ && i < n_vectors(); i++) {
      store_up_to(m_.out[first_ + i] + row_, avx512::load(copy_[i]), n_rows());
    }
  }

 private:
  size_t n_vectors() const { return smaller(tile_lines, m_.n - first_); }
  size_t n_rows() const { return smaller(lanes, m_.rows - row_); }
  const Matmul& m_;
  const size_t first_, row_;
  const bool in_place_;
  alignas(64) float copy_[tile_lines][lanes];
};

// One or two blocks of 16 vectors times packed pairs of up to 32 rows.
template <bool Two>
void multiply_blocks(const Matmul& m, const Lines* left, size_t first, size_t row, const char* pairs, size_t steps,
                     bool accumulate) {
  const Lines right[2] = {{pairs, tile_line_bytes}, {pairs + tile_bytes, tile_line_bytes}};
  const size_t halves = row + tile_lines < m.rows ? 2 : 1;
  zero_sums();
  for (size_t i = 0; accumulate && i < (Two ? 2 : 1); i++) {
    for (size_t j = 0; j < halves; j++) {
      Outputs out(m, first + i * tile_lines, row + j * tile_lines);
      const float* from = out.load();
      load_sums(i, j, from, out.stride());
    }
  }
  multiply_tiles<Two, true>(left, right, panel_step_bytes, steps);
  for (size_t i = 0; i < (Two ? 2 : 1); i++) {
    for (size_t j = 0; j < halves; j++) {
      Outputs out(m, first + i * tile_lines, row + j * tile_lines);
      store_sums(i, j, out.place(), out.stride());
      out.finish();
    }
  }
}

void multiply(const Matmul& m) {
  Places places(m.scratch);
  const TileScratch scratch(places, m.n);
  unsigned char table[16];
  for (size_t i = 0; i < 16; i++) table[i] = static_cast<unsigned char>(q4_values[i] + 128);
  Lines left[matmul_max_vectors / tile_lines + 1];
  const size_t n_blocks = (m.n + tile_lines - 1) / tile_lines;
  const Tiles tiles;
  for (size_t begin = 0; begin < m.columns; begin += depth_block) {
    const size_t depth = smaller(depth_block, m.columns - begin);
    const size_t steps = round_up(depth, tile_step_columns) / tile_step_columns;
    const bool accumulate = m.accumulate || begin != 0;
    for (size_t b = 0; b < n_blocks; b++) {
      left[b] =
          left_lines(m, b * tile_lines, begin, depth, scratch.blocks + b * tile_lines * depth_block * sizeof(uint16_t));
    }
    for (size_t row = 0; row < m.rows; row += panel_outputs) {
      pack(m, row, begin, depth, scratch.pairs, table);
      size_t b = 0;
      for (; b + 2 <= n_blocks; b += 2) {
        multiply_blocks<true>(m, left + b, b * tile_lines, row, scratch.pairs, steps, accumulate);
      }
      if (b < n_blocks) {
        multiply_blocks<false>(m, left + b, b * tile_lines, row, scratch.pairs, steps, accumulate);
      }
    }
  }
}

}  // namespace

void matmul(const Matmul& m) {
  const bool row_after_row = m.dtype == DType::bf16 && m.n < least_vectors_for_tiles;
  if (m.form != Form::bf16 || m.as_alone || row_after_row) return avx512::matmul(m);
  multiply(m);
}

size_t matmul_scratch(size_t n, size_t columns) {
  return larger(avx512::matmul_scratch(n, columns), bytes_of_arrays<TileScratch>(n));
}

}  // namespace finermoe::amx
