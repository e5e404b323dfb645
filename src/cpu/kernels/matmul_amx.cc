// Weights of BF16, Q8 and Q4 times activations in BF16, by matrix tiles: the weights become BF16 pairs once for all
// vectors of a task.
#include "cpu/kernels/codes.h"
#include "cpu/kernels/pairs.h"
#include "cpu/kernels/tiles_amx.h"

namespace finermoe::amx {
namespace {

constexpr size_t depth_block = 1536;                 // columns at a time: few passes over the outputs
constexpr size_t panel_outputs = 2 * tile_lines;     // rows of the weights at a time
constexpr size_t slice_outputs = 256;                // whose sums are kept between two blocks of columns
constexpr size_t panel_step_bytes = 2 * tile_bytes;  // pairs of 32 columns of these rows
constexpr size_t least_vectors_for_tiles = 3;        // fewer meet BF16 weights row after row
constexpr size_t few_vectors = 32;                   // up to so many, BF16 weights are not packed

struct TileScratch {
  char* pairs[2];  // [depth_block / 32][2 tiles], of a panel and of the next one
  char* blocks;    // vectors of irregular blocks, [blocks][16, depth_block]
  float* sums;     // tiles [panels of a slice][blocks][2]
  TileScratch(Places& places, size_t n) {
    for (char*& panel : pairs) places.put(panel, depth_block / tile_step_columns * panel_step_bytes);
    places.put(blocks, round_up(n, tile_lines) * depth_block * sizeof(uint16_t));
    places.put(sums, round_up(n, tile_lines) * slice_outputs * sizeof(float));
  }
};

// A tile of pairs from sixteen rows of 32 BF16: row_of(i) is the i-th.
template <class RowOf>
inline void pack_rows_of_pairs(const RowOf& row_of, char* out) {
  Vec v[lanes];
#pragma GCC unroll 16
  for (size_t i = 0; i < lanes; i++) v[i] = row_of(i);
  transpose(v);
#pragma GCC unroll 16
  for (size_t i = 0; i < lanes; i++) store(reinterpret_cast<float*>(out + i * tile_line_bytes), v[i]);
}

// Turns 32 rows of weights of type D, some columns of them, into tiles of pairs, part by part.
template <DType D>
class Packer {
 public:
  explicit Packer(const Matmul& m) : m_(m) { make_table(table_); }
  // Begins with columns [begin, begin + depth) of the rows from `row` on; zeros for rows that do not exist.
  void begin(size_t row, size_t begin, size_t depth, char* out) {
    row_ = row, begin_ = begin, depth_ = depth, out_ = out;
    next_ = 0, end_ = round_up(depth, tile_step_columns) / tile_step_columns * 2 * parts_per_tile;
  }
  void pack(size_t n_parts) {
    for (; n_parts != 0 && next_ < end_; n_parts--, next_++) pack_part();
  }
  void finish() { pack(end_); }
  size_t n_parts() const { return end_; }

 private:
  static constexpr size_t parts_per_tile = D == DType::bf16 ? 1 : block_columns / 4;

  void pack_part() {
    const size_t tile = next_ / parts_per_tile, k = tile / 2 * tile_step_columns, first = row_ + tile % 2 * tile_lines;
    char* out = out_ + tile * tile_bytes;
    if constexpr (D == DType::bf16) {
      pack_rows(first, k, out);
    } else {
      pack_columns(first, k, next_ % parts_per_tile, out);
    }
  }

  // BF16: a tile.
  void pack_rows(size_t first, size_t k, char* out) const {
    const size_t count = smaller(tile_step_columns, depth_ - k), row_bytes = m_.columns * sizeof(uint16_t);
    const __mmask32 exist = static_cast<__mmask32>((1ull << count) - 1);
    const char* at = static_cast<const char*>(m_.weight) + first * row_bytes + (begin_ + k) * sizeof(uint16_t);
    const auto row_of = [&](size_t i) {
      if (first + i >= m_.rows) return zero();
      return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(exist, at + i * row_bytes));
    };
    pack_rows_of_pairs(row_of, out);
  }

  // A block format, whose panels have as many rows as a tile, and its blocks as many columns: columns 4c to 4c + 3.
  void pack_columns(size_t first, size_t k, size_t c, char* out) const {
    constexpr size_t block_bytes = D == DType::q4 ? q4_block_bytes : q8_block_bytes;
    const size_t blocks = round_up(m_.columns, block_columns) / block_columns;
    const size_t index = first / panel_rows * blocks + (begin_ + k) / block_columns;
    const unsigned char* block = static_cast<const unsigned char*>(m_.weight) + index * block_bytes;
    out += 2 * c * tile_line_bytes;
    if (first >= m_.rows) {
      store(reinterpret_cast<float*>(out), zero());
      store(reinterpret_cast<float*>(out + tile_line_bytes), zero());
      return;
    }
    const Codes four = codes_of<D == DType::q4>(block + block_scale_bytes, c, 0, table_);
    // A line of the next panel. Packing is slow enough that the hardware prefetcher falls behind.
    _mm_prefetch(block + (2 * blocks * block_bytes + c * block_bytes / (block_columns / 4)), _MM_HINT_T1);
    const Vec scale = load_as<DType::f16>(block), offset = mul(scale, broadcast(-128));  // exact
    Vec values[4];
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
      Codes code = i == 0 ? four : _mm512_srli_epi32(four, 8 * i);
      if (i < 3) code = _mm512_and_si512(code, _mm512_set1_epi32(255));
      values[i] = fma(_mm512_cvtepi32_ps(code), scale, offset);
    }
    _mm512_storeu_si512(out, pairs_of(values[0], values[1]));
    _mm512_storeu_si512(out + tile_line_bytes, pairs_of(values[2], values[3]));
  }

  const Matmul& m_;
  unsigned char table_[16];
  size_t row_ = 0, begin_ = 0, depth_ = 0;
  char* out_ = nullptr;
  size_t next_ = 0, end_ = 0;  // parts
};

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

// Sixteen vectors, or the last ones: where a product finds them and puts its outputs.
struct VectorBlock {
  size_t first, n;
  Lines left;
  bool regular_out;
};

// Columns [begin, begin + depth) of the vectors, copied to `copy` where they are not regular.
Lines left_lines(const Matmul& m, const VectorBlock& block, size_t begin, size_t depth, char* copy) {
  const auto at = [&](size_t i) { return static_cast<const char*>(m.x[block.first + i]) + begin * sizeof(uint16_t); };
  if (is_regular(m.x, block.first, m.n)) return {at(0), static_cast<size_t>(at(1) - at(0))};
  constexpr size_t stride = depth_block * sizeof(uint16_t);
  const size_t bytes = round_up(depth, tile_step_columns) * sizeof(uint16_t);
  for (size_t i = 0; i < tile_lines; i++) {
    for (size_t b = 0; b < bytes; b += tile_line_bytes) {
      const __m512i v = i < block.n ? _mm512_loadu_si512(at(i) + b) : _mm512_setzero_si512();
      _mm512_storeu_si512(copy + i * stride + b, v);
    }
  }
  return {copy, stride};
}

// The outputs of a block of vectors and 16 rows: in place, or in a copy where they are not regular.
class Outputs {
 public:
  Outputs(const Matmul& m, const VectorBlock& block, size_t row)
      : m_(m), block_(block), row_(row), in_place_(block.regular_out && row + tile_lines <= m.rows) {}

  // Into their place.
  void fetch() {
    for (size_t i = 0; !in_place_ && i < block_.n; i++) {
      store(copy_[i], load_up_to<DType::f32>(m_.out[block_.first + i] + row_, n_rows()));
    }
  }
  float* place() { return in_place_ ? m_.out[block_.first] + row_ : copy_[0]; }
  size_t stride() const {
    if (!in_place_) return sizeof copy_[0];
    return static_cast<size_t>(m_.out[block_.first + 1] - m_.out[block_.first]) * sizeof(float);
  }
  void finish() const {
    for (size_t i = 0; !in_place_ && i < block_.n; i++) {
      store_up_to(m_.out[block_.first + i] + row_, load(copy_[i]), n_rows());
    }
  }

 private:
  size_t n_rows() const { return smaller(lanes, m_.rows - row_); }
  const Matmul& m_;
  const VectorBlock& block_;
  const size_t row_;
  const bool in_place_;
  alignas(64) float copy_[tile_lines][lanes];
};

// What is multiplied at a time: columns of a panel of rows. Goes through a slice of rows once for each block of
// columns.
struct Panel {
  size_t row = 0, begin = 0, slice = 0;
  Panel after(const Matmul& m) const {
    const size_t slice_end = smaller(slice + slice_outputs, m.rows);
    if (row + panel_outputs < slice_end) return {row + panel_outputs, begin, slice};
    if (begin + depth_block < m.columns) return {slice, begin + depth_block, slice};
    return {slice_end, 0, slice_end};
  }
  bool exists(const Matmul& m) const { return row < m.rows; }
  bool is_first() const { return begin == 0; }
  bool is_last(const Matmul& m) const { return begin + depth_block >= m.columns; }
  size_t depth(const Matmul& m) const { return smaller(depth_block, m.columns - begin); }
  size_t steps(const Matmul& m) const { return round_up(depth(m), tile_step_columns) / tile_step_columns; }
};

// One or two blocks of vectors times packed pairs of a panel. `sums` are the tiles of the blocks, where they wait for
// the next columns.
template <bool Two, class Beside>
void multiply_blocks(const Matmul& m, const VectorBlock* blocks, const Panel& panel, const char* pairs, float* sums,
                     const Beside& beside) {
  const Lines left[2] = {blocks[0].left, blocks[Two].left};
  const Lines right[2] = {{pairs, tile_line_bytes}, {pairs + tile_bytes, tile_line_bytes}};
  const size_t halves = panel.row + tile_lines < m.rows ? 2 : 1;
  const auto tile_of = [&](size_t i, size_t j) { return sums + (2 * i + j) * tile_lines * lanes; };
  zero_sums();
  for (size_t i = 0; i < 1 + Two; i++) {
    for (size_t j = 0; j < halves; j++) {
      if (!panel.is_first()) {
        load_sums(i, j, tile_of(i, j), tile_line_bytes);
      } else if (m.accumulate) {
        Outputs out(m, blocks[i], panel.row + j * tile_lines);
        out.fetch();
        load_sums(i, j, out.place(), out.stride());
      }
    }
  }
  multiply_tiles<Two, true>(left, right, panel_step_bytes, panel.steps(m), beside);
  for (size_t i = 0; i < 1 + Two; i++) {
    for (size_t j = 0; j < halves; j++) {
      if (!panel.is_last(m)) {
        store_sums(i, j, tile_of(i, j), tile_line_bytes);
        continue;
      }
      Outputs out(m, blocks[i], panel.row + j * tile_lines);
      store_sums(i, j, out.place(), out.stride());
      out.finish();
    }
  }
}

template <DType D>
void multiply(const Matmul& m) {
  Places places(m.scratch);
  const TileScratch scratch(places, m.n);
  const size_t n_blocks = round_up(m.n, tile_lines) / tile_lines, n_pairs = (n_blocks + 1) / 2;
  VectorBlock blocks[matmul_max_vectors / tile_lines + 1];
  for (size_t b = 0; b < n_blocks; b++) {
    const size_t first = b * tile_lines;
    blocks[b] = {first, smaller(tile_lines, m.n - first), {}, is_regular(m.out, first, m.n)};
  }
  Panel panel;
  Packer<D> packer(m);
  packer.begin(panel.row, panel.begin, panel.depth(m), scratch.pairs[0]);
  packer.finish();
  const Tiles tiles;
  for (size_t count = 0; panel.exists(m); count++) {
    if (panel.row == panel.slice) {
      for (size_t b = 0; b < n_blocks; b++) {
        char* copy = scratch.blocks + b * tile_lines * depth_block * sizeof(uint16_t);
        blocks[b].left = left_lines(m, blocks[b], panel.begin, panel.depth(m), copy);
      }
    }
    // The next panel is packed beside the products of this one.
    const Panel next = panel.after(m);
    size_t parts = 0;
    if (next.exists(m)) {
      packer.begin(next.row, next.begin, next.depth(m), scratch.pairs[(count + 1) % 2]);
      parts = (packer.n_parts() + n_pairs * panel.steps(m) - 1) / (n_pairs * panel.steps(m));
    }
    const auto pack_some = [&] { packer.pack(parts); };
    const char* pairs = scratch.pairs[count % 2];
    float* sums = scratch.sums + (panel.row - panel.slice) * round_up(m.n, tile_lines);
    size_t b = 0;
    for (; b + 2 <= n_blocks; b += 2, sums += 4 * tile_lines * lanes) {
      multiply_blocks<true>(m, blocks + b, panel, pairs, sums, pack_some);
    }
    if (b < n_blocks) multiply_blocks<false>(m, blocks + b, panel, pairs, sums, pack_some);
    packer.finish();
    panel = next;
  }
}

// Few vectors times BF16: the rows of the weights are left operands where they lie, and the vectors become pairs. What
// follows is for that.
struct FewScratch {
  char* pairs;  // of the vectors, [blocks of 16][depth_block / 32] tiles
  char* rows;   // the last rows of the weights, [16, depth_block]
  explicit FewScratch(Places& places) {
    places.put(pairs, few_vectors * depth_block * sizeof(uint16_t));
    places.put(rows, tile_lines * depth_block * sizeof(uint16_t));
  }
};

// Columns [begin, begin + depth) of a block of vectors.
void pack_vectors(const Matmul& m, size_t first, size_t begin, size_t depth, char* out) {
  for (size_t k = begin; k < begin + depth; k += tile_step_columns, out += tile_bytes) {
    const auto row_of = [&](size_t i) {
      if (first + i >= m.n) return zero();
      return _mm512_castsi512_ps(_mm512_loadu_si512(static_cast<const uint16_t*>(m.x[first + i]) + k));
    };
    pack_rows_of_pairs(row_of, out);
  }
}

// Puts sums [row][vector], or adds them to what is there.
void put_transposed(const Matmul& m, size_t first, size_t row, const float (*sums)[lanes], bool accumulate) {
  Vec v[lanes];
#pragma GCC unroll 16
  for (size_t i = 0; i < lanes; i++) v[i] = load(sums[i]);
  transpose(v);
#pragma GCC unroll 16
  for (size_t i = 0; i < lanes; i++) {
    if (first + i < m.n) put_outputs(m.out[first + i] + row, v[i], m.rows - row, accumulate);
  }
}

template <bool TwoRows, bool TwoVectors>
void multiply_rows(const Matmul& m, const Lines* left, size_t row, size_t first, const char* pairs, size_t block_bytes,
                   size_t steps, bool accumulate) {
  const Lines right[2] = {{pairs, tile_line_bytes}, {pairs + block_bytes, tile_line_bytes}};
  zero_sums();
  multiply_tiles<TwoRows, TwoVectors>(left, right, tile_bytes, steps);
  alignas(64) float sums[lanes][lanes];
  for (size_t i = 0; i < 1 + TwoRows; i++) {
    for (size_t j = 0; j < 1 + TwoVectors; j++) {
      store_sums(i, j, sums[0], sizeof sums[0]);
      put_transposed(m, first + j * tile_lines, row + i * tile_lines, sums, accumulate);
    }
  }
}

// Sixteen rows, or 32, times all vectors.
template <bool TwoRows>
void multiply_panel(const Matmul& m, const Lines* left, size_t row, const char* pairs, size_t steps, bool accumulate) {
  const size_t block_bytes = steps * tile_bytes;
  size_t first = 0;
  for (; first + tile_lines < m.n; first += 2 * tile_lines, pairs += 2 * block_bytes) {
    multiply_rows<TwoRows, true>(m, left, row, first, pairs, block_bytes, steps, accumulate);
  }
  if (first < m.n) multiply_rows<TwoRows, false>(m, left, row, first, pairs, block_bytes, steps, accumulate);
}

void multiply_few(const Matmul& m) {
  Places places(m.scratch);
  const FewScratch scratch(places);
  const size_t row_bytes = m.columns * sizeof(uint16_t), n_blocks = round_up(m.n, tile_lines) / tile_lines;
  const Tiles tiles;
  for (size_t begin = 0; begin < m.columns; begin += depth_block) {
    const size_t depth = smaller(depth_block, m.columns - begin), steps = depth / tile_step_columns;
    const size_t block_bytes = steps * tile_bytes;
    const bool accumulate = m.accumulate || begin != 0;
    for (size_t b = 0; b < n_blocks; b++) {
      pack_vectors(m, b * tile_lines, begin, depth, scratch.pairs + b * block_bytes);
    }
    for (size_t row = 0; row < m.rows; row += panel_outputs) {
      const char* weight = static_cast<const char*>(m.weight) + row * row_bytes + begin * sizeof(uint16_t);
      Lines left[2];
      const size_t n_left = m.rows - row > tile_lines ? 2 : 1;
      for (size_t i = 0; i < n_left; i++) {
        left[i] = {weight + i * tile_lines * row_bytes, row_bytes};
        const size_t n_rows = smaller(tile_lines, m.rows - row - i * tile_lines);
        if (n_rows == tile_lines) continue;
        const size_t bytes = depth * sizeof(uint16_t);  // tiles have sixteen rows
        for (size_t r = 0; r < n_rows; r++) {
          __builtin_memcpy(scratch.rows + r * bytes, left[i].at + r * row_bytes, bytes);
        }
        left[i] = {scratch.rows, bytes};
      }
      (n_left == 2 ? multiply_panel<true> : multiply_panel<false>)(m, left, row, scratch.pairs, steps, accumulate);
    }
  }
}

}  // namespace

void matmul(const Matmul& m) {
  const bool row_after_row = m.dtype == DType::bf16 && m.n < least_vectors_for_tiles;
  if (m.form != Form::bf16 || m.as_alone || row_after_row) return avx512::matmul(m);
  if (m.dtype == DType::bf16 && m.n <= few_vectors && m.columns % tile_step_columns == 0) return multiply_few(m);
  switch (m.dtype) {
    case DType::bf16:
      return multiply<DType::bf16>(m);
    case DType::q8:
      return multiply<DType::q8>(m);
    default:
      return multiply<DType::q4>(m);
  }
}

size_t matmul_scratch(size_t n, size_t columns) {
  return larger(avx512::matmul_scratch(n, columns),
                larger(bytes_of_arrays<TileScratch>(n), bytes_of_arrays<FewScratch>()));
}

}  // namespace finermoe::amx
