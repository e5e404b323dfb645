// Tiles of keys and values for attention: read in place, or converted once for many queries.
#pragma once

#include "cpu/kernels/attention.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

// Columns of a key or positions of a value that are contiguous.
template <DType D>
constexpr size_t neighbours = D == DType::q8     ? 4
                              : D == DType::bf16 ? 2
                                                 : 1;

// Multiplies lines of a cache of type D in float32. A lane of a line holds `pair` neighbours, and a line is multiplied
// by `factors` factors of a query.
template <DType D>
struct Floats {
  static constexpr size_t pair = neighbours<D>, factors = pair, lane_bytes = D == DType::f16 ? 2 : 4;
  static Vec line(const char* p) {
    if constexpr (D == DType::bf16) return load(reinterpret_cast<const float*>(p));
    return load_as<D>(p);
  }
  static Vec part(Vec line, size_t i) {
    if constexpr (pair == 1) return line;
    return i == 0 ? first_bf16(line) : second_bf16(line);
  }
  static Vec add(Vec sums, float x, Vec part) { return fma(broadcast(x), part, sums); }
  static void convert_row(float*, size_t) {}
  static void convert_tile(float*, size_t) {}
};

// out[t][o] (+)= sum over lines of x * line, for T queries and the positions or columns o of a tile. The queries'
// factors are Packed [line][T], or rows [T][attention_key_block]. If `half`, the first half of one more line is added.
template <class Op, bool Packed>
struct Product {
  template <size_t T>
  struct With {
    static void run(const float* x, const Tile& tile, size_t n_lines, bool half, bool accumulate, float* out,
                    size_t out_stride) {
      constexpr size_t of_query = Packed ? 1 : attention_key_block, of_factor = Packed ? T : 1;
      Vec sums[T][2];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) sums[t][0] = sums[t][1] = zero();
      auto add_line = [&](Vec first_line, Vec second_line) {
#pragma GCC unroll 2
        for (size_t i = 0; i < Op::factors; i++) {
          const Vec w0 = Op::part(first_line, i), w1 = Op::part(second_line, i);
#pragma GCC unroll 16
          for (size_t t = 0; t < T; t++) {
            sums[t][0] = Op::add(sums[t][0], x[t * of_query], w0);
            sums[t][1] = Op::add(sums[t][1], x[t * of_query], w1);
          }
          x += of_factor;
        }
      };
      const char* w = tile.lines;
      for (size_t k = 0; k < n_lines; k++, w += tile.stride) {
        _mm_prefetch(w + tile.prefetch_distance, _MM_HINT_T1);
        _mm_prefetch(w + tile.prefetch_distance + tile.second, _MM_HINT_T1);
        add_line(Op::line(w), Op::line(w + tile.second));
      }
      if (half) add_line(only_first_bf16(Op::line(w)), only_first_bf16(Op::line(w + tile.second)));
#pragma GCC unroll 16
      for (size_t t = 0; t < T; t++) {
        float* place = out + t * out_stride;
        store(place, accumulate ? add(load(place), sums[t][0]) : sums[t][0]);
        if (tile.second != 0) store(place + lanes, accumulate ? add(load(place + lanes), sums[t][1]) : sums[t][1]);
      }
    }
  };
};

// Lines of a cache whose type Op multiplies as it is.
template <class Op>
struct CacheTiles {
  const AttentionTask& t;
  struct Scratch {
    Scratch(Places&, size_t) {}
  };
  CacheTiles(const AttentionTask& task, const Scratch&) : t(task) {}

  // `n` positions, beginning with a panel, or as many as fit a tile.
  Tile keys(size_t position, size_t n) const {
    const char* panel = static_cast<const char*>(t.keys) + panel_offset(t, position);
    const size_t second = lanes < kv_panel ? lanes * Op::lane_bytes : n > kv_panel ? t.panel_bytes : 0;
    return {panel, kv_panel * Op::lane_bytes, second, next_offset(t, position)};
  }
  // The columns from `column` on of `n` positions.
  Tile values(size_t position, size_t, size_t column) const {
    const char* line = static_cast<const char*>(t.values) + panel_offset(t, position);
    return {line + column * Op::lane_bytes, t.width * Op::lane_bytes,
            column + lanes < t.width ? lanes * Op::lane_bytes : 0, next_offset(t, position)};
  }
};

// out[c * tile_width + p] = keys of a panel
template <DType D>
void widen_keys(const char* panel, size_t width, float* out) {
  for (size_t p = 0; p < kv_panel; p += lanes) {
    if constexpr (D == DType::q8) {
      for (size_t c = 0; c < width; c += 4) {
        const char* block = panel + c / block_columns * q8_block_bytes;
        const Vec scale = load_as<DType::f16>(block + p * 2);
        const char* line = block + block_scale_bytes + (c % block_columns / 4 * kv_panel + p) * 4;
        const Codes codes = load_codes(reinterpret_cast<const unsigned char*>(line));
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) store(out + (c + i) * tile_width + p, mul(scale, column_of(codes, i)));
      }
    } else {
      for (size_t c = 0; c < width; c += neighbours<D>) {
        const Vec line = Floats<D>::line(panel + (c * kv_panel / neighbours<D> + p) * Floats<D>::lane_bytes);
#pragma GCC unroll 2
        for (size_t i = 0; i < neighbours<D>; i++) store(out + (c + i) * tile_width + p, Floats<D>::part(line, i));
      }
    }
  }
}

// out[p * tile_width + c] = columns of n positions, beginning with a panel; may write a few more positions
template <DType D>
void widen_values(const char* panel, size_t panel_bytes, size_t width, size_t n, size_t column, float* out) {
  for (size_t p = 0; p < n; p += neighbours<D>, out += neighbours<D> * tile_width) {
    for (size_t c = column; c < smaller(column + tile_width, width); c += lanes) {
      float* place = out + (c - column);
      if constexpr (D == DType::q8) {
        const char* block = panel + p / kv_panel * panel_bytes + c / block_columns * q8_block_bytes;
        const size_t line = (p % kv_panel / 4 * block_columns + c % block_columns) * 4;
        const Codes codes =
            flip_signs(load_codes(reinterpret_cast<const unsigned char*>(block + block_scale_bytes + line)));
        float scales[lanes];
        store(scales, load_first_as<DType::f16>(block + p % kv_panel * 2, 4));
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) store(place + i * tile_width, mul(broadcast(scales[i]), column_of(codes, i)));
      } else {
        const Vec line = Floats<D>::line(panel + (p * width / neighbours<D> + c) * Floats<D>::lane_bytes);
#pragma GCC unroll 2
        for (size_t i = 0; i < neighbours<D>; i++) store(place + i * tile_width, Floats<D>::part(line, i));
      }
    }
  }
}

// Lines of a cache of type D, converted to floats and then to what Op multiplies.
template <DType D, class Op>
struct ConvertedTiles {
  const AttentionTask& t;
  float* tile;
  struct Scratch {
    float* tile;  // [columns of keys or positions of values, tile_width]
    Scratch(Places& places, size_t width) { places.put(tile, larger(width, attention_key_block) * tile_width); }
  };
  ConvertedTiles(const AttentionTask& task, const Scratch& scratch) : t(task), tile(scratch.tile) {}

  Tile keys(size_t position, size_t n) const {
    const char* panel = static_cast<const char*>(t.keys) + panel_offset(t, position);
    for (size_t p = 0; p < smaller(n, tile_width); p += kv_panel, panel += t.panel_bytes) {
      widen_keys<D>(panel, t.width, tile + p);
    }
    Op::convert_tile(tile, t.width);
    return {reinterpret_cast<const char*>(tile), tile_width * sizeof(float), n > lanes ? lanes * sizeof(float) : 0, 0};
  }
  Tile values(size_t position, size_t n, size_t column) const {
    const char* panel = static_cast<const char*>(t.values) + panel_offset(t, position);
    widen_values<D>(panel, t.panel_bytes, t.width, n, column, tile);
    Op::convert_tile(tile, n);
    return {reinterpret_cast<const char*>(tile), tile_width * sizeof(float),
            column + lanes < t.width ? lanes * sizeof(float) : 0, 0};
  }
};

// The two products of attend(), tile by tile.
template <class Op, class Tiles>
struct TileProducts {
  const AttentionTask& t;
  Tiles tiles;
  float* packed;  // queries, packed by group
  struct Scratch {
    typename Tiles::Scratch tiles;
    float* packed;  // [n, width], and what pack_rows() writes beyond it
    Scratch(Places& places, size_t n, size_t width) : tiles(places, width) { places.put(packed, n * width + lanes); }
  };
  TileProducts(const AttentionTask& task, const Scratch& scratch)
      : t(task), tiles(task, scratch.tiles), packed(scratch.packed) {}

  void pack(const QueryGroup& group, float* rows) {
    const char* pointers[lanes] = {};
    for (size_t i = 0; i < group.n; i++) {
      Op::convert_row(rows + i * t.width, t.width);
      pointers[i] = reinterpret_cast<const char*>(rows + i * t.width);
    }
    pack_rows<DType::f32>(pointers, 0, t.width / Op::pair * Op::factors, packed + group.first * t.width, group.n);
  }

  void scores(const QueryGroup* groups, size_t n_groups, size_t begin, float* scores) {
    const size_t depth = deepest(groups, n_groups, begin);
    for (size_t p = 0; p < depth; p += tile_width) {
      const Tile tile = tiles.keys(begin + p, depth - p);
      for (const QueryGroup* g = groups; g < groups + n_groups; g++) {
        if (g->depth(begin) <= p) continue;
        kernel_of<Product<Op, true>::template With>(g->n)(packed + g->first * t.width, tile, t.width / Op::pair, false,
                                                          false, scores + g->first * attention_key_block + p,
                                                          attention_key_block);
      }
    }
  }

  void add_values(const QueryGroup* groups, size_t n_groups, size_t begin, float* probabilities, float* out) {
    for (const QueryGroup* g = groups; g < groups + n_groups; g++) {
      for (size_t i = g->first; i < g->first + g->n; i++) {
        Op::convert_row(probabilities + i * attention_key_block, round_up(g->depth(begin), 2 * lanes));
      }
    }
    const size_t depth = deepest(groups, n_groups, begin);
    for (size_t c = 0; c < t.width; c += tile_width) {
      const Tile tile = tiles.values(begin, depth, c);
      for (const QueryGroup* g = groups; g < groups + n_groups; g++) {
        if (const size_t d = g->depth(begin); d != 0) {
          kernel_of<Product<Op, false>::template With>(g->n)(probabilities + g->first * attention_key_block, tile,
                                                             d / Op::pair, d % Op::pair != 0, true,
                                                             out + g->first * t.width + c, t.width);
        }
      }
    }
  }

  static size_t deepest(const QueryGroup* groups, size_t n_groups, size_t begin) {
    size_t depth = 0;
    for (size_t g = 0; g < n_groups; g++) {
      if (groups[g].depth(begin) > depth) depth = groups[g].depth(begin);
    }
    return depth;
  }
};

}  // namespace
}  // namespace finermoe::FINERMOE_KERNELS
