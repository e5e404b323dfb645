// Q8 and Q4 matrices (base/blocks.h) times quantized activations, by integer dot products of one block after another in
// the order of the columns; or times float activations, with the weights' exact values.
#include "cpu/kernels/codes.h"
#include "cpu/kernels/tile.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t panel_vectors = panel_rows / lanes;
constexpr size_t code_bytes = block_columns * panel_rows;  // codes of one block, a byte each
constexpr size_t few_vectors = 8;                          // up to this many read a panel once
constexpr size_t exact_few_vectors = 2 * few_vectors;      // more float vectors are multiplied by packed tiles
constexpr size_t packed_vectors = 32;                      // for more vectors, Q4 codes are unpacked to bytes first
constexpr size_t hardware_prefetch_vectors = 2;            // up to this many, the hardware prefetcher keeps up
constexpr size_t prefetch_distance = 4096;                 // bytes ahead of weights that are read once
constexpr size_t side_by_side = 4;                         // panels that Matmul::rows_side_by_side reads at once
constexpr size_t few_beside = 3;                           // more vectors meet two panels of Q4 where it is set
constexpr size_t vectors_in_cache = 512 * 1024;            // bytes of quantized vectors in one pass over the panels

// Codes and scales of panels, as they are stored or, for Q4, unpacked to bytes.
struct Panels {
  const unsigned char *codes, *scales;
  size_t code_stride, scale_stride;  // bytes from one block to the next
  size_t panel_codes, panel_scales;  // bytes from one panel to the next
};

// Bytes to be prefetched into the second-level cache with each block. With several vectors, arithmetic delays the reads
// so much that the hardware prefetcher falls behind.
struct Prefetch {
  const unsigned char* at;
  size_t bytes;
  void operator()(size_t block) const {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch(at + block * bytes + i, _MM_HINT_T1);
  }
};

// The same for panels that are read side by side: some blocks ahead in each of them, then the first ones of the next
// panels.
template <size_t R>
struct PrefetchOfPanels {
  const unsigned char* at;
  size_t block_bytes, blocks, ahead;
  void operator()(size_t block) const {
    if (ahead == 0) return;
    const size_t there = block + ahead;
    const unsigned char* from = at + there * block_bytes;
    if (there >= blocks) from += (R - 1) * blocks * block_bytes;
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      for (size_t i = 0; i < block_bytes; i += 64) _mm_prefetch(from + r * blocks * block_bytes + i, _MM_HINT_T1);
    }
  }
};

inline void store_outputs(const Matmul& m, size_t vector, size_t row, Vec v) {
  put_outputs(m.out[vector] + row, v, m.rows - row, m.accumulate);
}

// T quantized vectors times R vectors of rows: each a panel, or a part of one where a vector has fewer lanes than a
// panel has rows. prefetch(block) is called with each block.
template <size_t R, size_t T, bool Packed, class Ahead>
void dot_rows(const Matmul& m, const Panels& panels, const Ahead& prefetch, size_t first, size_t row,
              const unsigned char* table) {
  const size_t padded = round_up(m.columns, block_columns), blocks = padded / block_columns;
  const size_t half = row % panel_rows / lanes;
  const signed char* x[T];
  for (size_t t = 0; t < T; t++) x[t] = static_cast<const signed char*>(m.x[first + t]);
  Vec out[T][R];
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) out[t][r] = zero();
  }
  const unsigned char *codes = panels.codes, *scales = panels.scales + half * lanes * sizeof(uint16_t);
  for (size_t block = 0; block < blocks; block++) {
    prefetch(block);
    const size_t scale_at = padded + block * sizeof(float), offset_at = scale_at + blocks * sizeof(float);
    Sums sums[T][R];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) {
      int offset;
      __builtin_memcpy(&offset, x[t] + offset_at, sizeof offset);
#pragma GCC unroll 4
      for (size_t r = 0; r < R; r++) sums[t][r] = first_sums(offset);
    }
#pragma GCC unroll 8
    for (size_t c = 0; c < block_columns / 4; c++) {
      Codes w[R];
#pragma GCC unroll 4
      for (size_t r = 0; r < R; r++) w[r] = codes_of<Packed>(codes + r * panels.panel_codes, c, half, table);
#pragma GCC unroll 8
      for (size_t t = 0; t < T; t++) {
        const Codes four = broadcast_four(x[t] + block * block_columns + 4 * c);
#pragma GCC unroll 4
        for (size_t r = 0; r < R; r++) sums[t][r] = add_products(sums[t][r], w[r], four);
      }
    }
    Vec scale[R];
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) scale[r] = load_as<DType::f16>(scales + r * panels.panel_scales);
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) {
      float x_scale;
      __builtin_memcpy(&x_scale, x[t] + scale_at, sizeof x_scale);
#pragma GCC unroll 4
      for (size_t r = 0; r < R; r++) {
        out[t][r] = fma(to_float(sums[t][r]), mul(scale[r], broadcast(x_scale)), out[t][r]);
      }
    }
    codes += panels.code_stride;
    scales += panels.scale_stride;
  }
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) store_outputs(m, first + t, row + r * lanes, out[t][r]);
  }
}

// n vectors in chunks whose sums fit the registers; each chunk prefetches its part of `next`.
template <size_t R, bool Packed>
void dot_all(size_t n, const Matmul& m, const Panels& panels, Prefetch next, size_t first, size_t row,
             const unsigned char* table) {
  constexpr size_t most = lanes == 16 ? (R == 2 ? 6 : 8) : 4;  // vectors whose sums fit the registers
  constexpr decltype(&dot_rows<R, 1, Packed, Prefetch>) with[] = {
      dot_rows<R, 1, Packed, Prefetch>,
      dot_rows<R, 2, Packed, Prefetch>,
      dot_rows<R, 3, Packed, Prefetch>,
      dot_rows<R, 4, Packed, Prefetch>,
      dot_rows<R, smaller(5, most), Packed, Prefetch>,
      dot_rows<R, smaller(6, most), Packed, Prefetch>,
      dot_rows<R, smaller(7, most), Packed, Prefetch>,
      dot_rows<R, smaller(8, most), Packed, Prefetch>,
  };
  const size_t n_chunks = (n + most - 1) / most, chunk = (n + n_chunks - 1) / n_chunks;
  const size_t n_steps = n_chunks * (round_up(m.columns, block_columns) / block_columns);
  const size_t bytes_per_step = round_up((next.bytes + n_steps - 1) / n_steps, 64);
  for (size_t done = 0; done < n; done += chunk, next.at += n_steps / n_chunks * bytes_per_step) {
    with[smaller(chunk, n - done) - 1](m, panels, {next.at, bytes_per_step}, first + done, row, table);
  }
}

// Two panels, or the last one. Many vectors multiply both at once; otherwise one panel follows the other, in memory
// order. `next` is what follows them. Codes of 4 bits are looked up for each pass: fewer vectors in a pass, as with two
// panels, mean more of that, but also twelve dots under way in place of eight, of which some processors need ten.
template <bool Packed>
void dot_panels(size_t n, const Matmul& m, const Panels& panels, Prefetch next, size_t first, size_t row,
                const unsigned char* table) {
  const bool both = Packed ? m.rows_side_by_side && n > few_beside : n > few_vectors;
  if (both && lanes == panel_rows && m.rows - row > panel_rows) {
    return dot_all<2, Packed>(n, m, panels, next, first, row, table);
  }
  // Several passes over a panel prefetch the next one; a single pass prefetches what it will soon read.
  const bool read_once = n <= few_vectors, read_only = n <= hardware_prefetch_vectors;
  const size_t distance = !read_once ? panels.panel_scales : read_only ? m.prefetch : prefetch_distance;
  const size_t bytes = distance != 0 ? next.bytes / 2 : 0;
  for (size_t panel = 0; panel < 2; panel++) {
    Panels one = panels;
    one.codes += panel * panels.panel_codes;
    one.scales += panel * panels.panel_scales;
    for (size_t part = 0; part < panel_rows; part += lanes) {
      const size_t at = row + panel * panel_rows + part;
      const Prefetch behind = {one.scales + distance, part == 0 ? bytes : 0};
      if (at < m.rows) dot_all<1, Packed>(n, m, one, behind, first, at, table);
    }
  }
}

void unpack_q4(const unsigned char* block, size_t blocks, const unsigned char* table, unsigned char* out) {
  for (size_t i = 0; i < blocks; i++, block += q4_block_bytes, out += code_bytes) {
    for (size_t at = 0; at < code_bytes / 2; at += 4 * lanes) {
      const Codes both = load_codes(block + block_scale_bytes + at);
      store_codes(out + at, look_up(table, low_halves(both)));
      store_codes(out + code_bytes / 2 + at, look_up(table, high_halves(both)));
    }
  }
}

// Scratch for many vectors times Q4 codes.
struct UnpackedScratch {
  unsigned char* codes;  // of two panels, a byte each
  UnpackedScratch(Places& places, size_t blocks) { places.put(codes, 2 * blocks * code_bytes); }
};

// One or two vectors times several panels at once: as many streams reach more of the memory's bandwidth on some
// processors.
template <bool Packed>
void dot_side_by_side(const Matmul& m, const Panels& panels, size_t row, const unsigned char* table) {
  const size_t blocks = round_up(m.columns, block_columns) / block_columns;
  const PrefetchOfPanels<side_by_side> ahead = {panels.scales, panels.code_stride, blocks,
                                                smaller(m.prefetch / side_by_side / panels.code_stride, blocks)};
  if (m.n == 1) {
    dot_rows<side_by_side, 1, Packed>(m, panels, ahead, 0, row, table);
  } else {
    dot_rows<side_by_side, 2, Packed>(m, panels, ahead, 0, row, table);
  }
}

void matmul_quantized(const Matmul& m) {
  const size_t stride = m.dtype == DType::q8 ? q8_block_bytes : q4_block_bytes;
  const size_t padded = round_up(m.columns, block_columns), blocks = padded / block_columns;
  const bool unpack = m.dtype == DType::q4 && m.n > packed_vectors, packed = m.dtype == DType::q4 && !unpack;
  Places places(m.scratch);
  const UnpackedScratch unpacked(places, blocks);
  unsigned char table[16];
  make_table(table);
  const size_t in_cache = vectors_in_cache / padded / few_vectors * few_vectors;
  const size_t chunk = in_cache < 4 * few_vectors ? 4 * few_vectors : in_cache;
  for (size_t first = 0; first < m.n; first += chunk) {
    const size_t n = smaller(chunk, m.n - first);
    const unsigned char* weight = static_cast<const unsigned char*>(m.weight);
    const auto panels_from = [&](const unsigned char* at) {
      return Panels{at + block_scale_bytes, at, stride, stride, blocks * stride, blocks * stride};
    };
    size_t row = 0;
    if (lanes == panel_rows && m.rows_side_by_side && m.n <= hardware_prefetch_vectors) {
      for (; row + side_by_side * panel_rows <= m.rows; row += side_by_side * panel_rows) {
        (packed ? dot_side_by_side<true> : dot_side_by_side<false>)(m, panels_from(weight), row, table);
        weight += side_by_side * blocks * stride;
      }
    }
    for (; row < m.rows; row += 2 * panel_rows, weight += 2 * blocks * stride) {
      Panels panels = panels_from(weight);
      const Prefetch next = {weight + 2 * blocks * stride, first == 0 ? 2 * blocks * stride : 0};
      if (unpack) {
        unpack_q4(weight, m.rows - row > panel_rows ? 2 * blocks : blocks, table, unpacked.codes);
        panels.codes = unpacked.codes;
        panels.code_stride = code_bytes;
        panels.panel_codes = blocks * code_bytes;
      }
      if (packed) {
        dot_panels<true>(n, m, panels, next, first, row, table);
      } else {
        dot_panels<false>(n, m, panels, next, first, row, table);
      }
    }
  }
}

// T float vectors times one panel. A weight is scale * value, rounded to float, as everywhere.
template <size_t T, bool Packed>
void multiply_panel(const Matmul& m, const unsigned char* panel, size_t first, size_t row, const unsigned char* table) {
  constexpr size_t stride = Packed ? q4_block_bytes : q8_block_bytes;
  for (size_t half = 0; half < panel_vectors; half++) {
    if (row + half * lanes >= m.rows) break;
    Vec out[T];
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) out[t] = zero();
    const unsigned char* block = panel;
    for (size_t begin = 0; begin < m.columns; begin += block_columns, block += stride) {
      const Vec scale = load_as<DType::f16>(block + half * lanes * sizeof(uint16_t));
      for (size_t c = 0; c < block_columns / 4; c++) {
        const Codes codes = codes_of<Packed>(block + block_scale_bytes, c, half, table);
        for (size_t j = 0; j < 4 && begin + 4 * c + j < m.columns; j++) {
          const Vec w = mul(scale, column_of(codes, static_cast<int>(j)));
#pragma GCC unroll 8
          for (size_t t = 0; t < T; t++) {
            out[t] = fma(broadcast(static_cast<const float*>(m.x[first + t])[begin + 4 * c + j]), w, out[t]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) store_outputs(m, first + t, row + half * lanes, out[t]);
  }
}

template <bool Packed>
void multiply_few(const Matmul& m, const unsigned char* table) {
  constexpr decltype(&multiply_panel<1, Packed>) with[] = {multiply_panel<1, Packed>, multiply_panel<2, Packed>,
                                                           multiply_panel<3, Packed>, multiply_panel<4, Packed>};
  const size_t panel_bytes =
      round_up(m.columns, block_columns) / block_columns * (Packed ? q4_block_bytes : q8_block_bytes);
  const unsigned char* panel = static_cast<const unsigned char*>(m.weight);
  for (size_t row = 0; row < m.rows; row += panel_rows, panel += panel_bytes) {
    for (size_t first = 0; first < m.n; first += 4) with[smaller(4, m.n - first) - 1](m, panel, first, row, table);
  }
}

// Columns [begin, begin + depth) of up to tile_width rows as a packed tile; `begin` is a multiple of block_columns.
template <bool Packed>
void pack_blocks(const unsigned char* weight, size_t panel_bytes, size_t n_rows, size_t begin, size_t depth, float* out,
                 const unsigned char* table) {
  constexpr size_t stride = Packed ? q4_block_bytes : q8_block_bytes;
  for (size_t row = 0; row < tile_width; row += lanes) {
    const size_t half = row % panel_rows / lanes;
    const unsigned char* block = weight + row / panel_rows * panel_bytes + begin / block_columns * stride;
    for (size_t k = 0; k < depth; k += block_columns, block += stride) {
      if (row >= n_rows) {
        for (size_t i = k; i < smaller(depth, k + block_columns); i++) store(out + i * tile_width + row, zero());
        continue;
      }
      const Vec scale = load_as<DType::f16>(block + half * lanes * sizeof(uint16_t));
      for (size_t c = 0; c < block_columns / 4; c++) {
        const Codes codes = codes_of<Packed>(block + block_scale_bytes, c, half, table);
        for (size_t j = 0; j < 4 && k + 4 * c + j < depth; j++) {
          store(out + (k + 4 * c + j) * tile_width + row, mul(scale, column_of(codes, static_cast<int>(j))));
        }
      }
    }
  }
}

template <bool Packed>
void multiply_many(const Matmul& m, const unsigned char* table) {
  const size_t panel_bytes =
      round_up(m.columns, block_columns) / block_columns * (Packed ? q4_block_bytes : q8_block_bytes);
  const unsigned char* weight = static_cast<const unsigned char*>(m.weight);
  Places places(m.scratch);
  const TileScratch scratch(places, m.n);
  for (size_t begin = 0; begin < m.columns; begin += matmul_depth_block) {
    const size_t depth = smaller(matmul_depth_block, m.columns - begin);
    pack_vectors(reinterpret_cast<const float* const*>(m.x), m.n, begin, depth, scratch.vectors);
    for (size_t row = 0; row < m.rows; row += tile_width) {
      const size_t n_rows = smaller(tile_width, m.rows - row);
      pack_blocks<Packed>(weight + row / panel_rows * panel_bytes, panel_bytes, n_rows, begin, depth, scratch.tile,
                          table);
      tile_products(scratch.vectors, m.n, scratch.tile, depth, m.out, row, n_rows, m.accumulate || begin != 0);
    }
  }
}

}  // namespace

void matmul_blocks(const Matmul& m) {
  if (m.form == Form::blocks) return matmul_quantized(m);
  unsigned char table[16];
  make_table(table);
  const bool packed = m.dtype == DType::q4, few = m.n <= exact_few_vectors || m.as_alone;
  if (packed) return few ? multiply_few<true>(m, table) : multiply_many<true>(m, table);
  return few ? multiply_few<false>(m, table) : multiply_many<false>(m, table);
}

size_t matmul_blocks_scratch(size_t n, size_t columns) {
  const size_t blocks = round_up(columns, block_columns) / block_columns;
  return larger(n > exact_few_vectors ? bytes_of_arrays<TileScratch>(n) : 0,
                n > packed_vectors ? bytes_of_arrays<UnpackedScratch>(blocks) : 0);
}

}  // namespace finermoe::FINERMOE_KERNELS
