// Attention of many queries by matrix tiles, with queries, keys, probabilities and values in BF16. A cache in BF16 has
// the layout of a right operand, and is multiplied in place (cpu/kv_layout.h).
#include "cpu/kernels/pairs.h"
#include "cpu/kernels/tiles_amx.h"

namespace finermoe::amx {
namespace {

constexpr size_t score_stride = attention_key_block * sizeof(float);

// The two products of attend(), for sixteen queries at a time, whatever their group.
template <class Cache>
struct MatrixProducts {
  const AttentionTask& t;
  Cache cache;
  char* queries;  // [n, width] BF16, n rounded up to a multiple of 16
  char* tail;     // [16, 32] pairs of the last positions of a block, if they do not fill a tile
  struct Scratch {
    typename Cache::Scratch cache;
    char *queries, *tail;
    Scratch(Places& places, size_t n, size_t width) : cache(places, width) {
      places.put(queries, round_up(n, tile_lines) * width * sizeof(uint16_t));
      places.put(tail, 2 * tile_bytes);
    }
  };
  MatrixProducts(const AttentionTask& task, const Scratch& scratch)
      : t(task), cache(task, scratch.cache), queries(scratch.queries), tail(scratch.tail) {
    const size_t row_bytes = t.width * sizeof(uint16_t);
    __builtin_memset(queries + t.n * row_bytes, 0, (round_up(t.n, tile_lines) - t.n) * row_bytes);
  }

  void pack(const QueryGroup& group, float* rows) {
    const size_t row_bytes = t.width * sizeof(uint16_t);
    for (size_t i = 0; i < group.n; i++, rows += t.width) {
      Pairs::convert_row(rows, t.width);
      __builtin_memcpy(queries + (group.first + i) * row_bytes, rows, row_bytes);
    }
  }

  void scores(const QueryGroup* groups, size_t n_groups, size_t begin, float* scores) {
    const size_t depth = deepest_of(groups, n_groups, begin), row_bytes = t.width * sizeof(uint16_t);
    for (size_t p = 0; p < depth; p += 2 * tile_lines) {
      const Tile tile = cache.keys(begin + p, depth - p);
      const Lines right[2] = {{tile.lines, tile.stride}, {tile.lines + tile.second, tile.stride}};
      for_pairs_of_blocks([&](size_t first, auto two) {
        const Lines left[2] = {{queries + first * row_bytes, row_bytes},
                               {queries + (first + tile_lines) * row_bytes, row_bytes}};
        const size_t steps = t.width / tile_step_columns;
        float* out = scores + first * attention_key_block + p;
        zero_sums();
        if (tile.second == 0) {
          multiply_tiles<two.value, false>(left, right, tile_pairs * tile.stride, steps);
        } else {
          multiply_tiles<two.value, true>(left, right, tile_pairs * tile.stride, steps);
        }
        for (size_t i = 0; i < 1 + two.value; i++) {
          float* row = out + i * tile_lines * attention_key_block;
          store_sums(i, 0, row, score_stride);
          if (tile.second != 0) store_sums(i, 1, row + tile_lines, score_stride);
        }
      });
    }
  }

  void add_values(const QueryGroup* groups, size_t n_groups, size_t begin, float* probabilities, float* out) {
    const size_t depth = deepest_of(groups, n_groups, begin);
    convert_probabilities(groups, n_groups, begin, round_up(depth, tile_step_columns), probabilities);
    const size_t steps = depth / tile_step_columns, rest = depth % tile_step_columns, stride = t.width * sizeof(float);
    for (size_t c = 0; c < t.width; c += tile_width) {
      const Tile tile = cache.values(begin, depth, c);
      const Lines right[2] = {{tile.lines, tile.stride}, {tile.lines + tile.second, tile.stride}};
      const Lines last[2] = {{tail, tile_line_bytes}, {tail + tile_bytes, tile_line_bytes}};
      if (rest != 0) copy_tail(tile, steps * tile_pairs, rest);
      for_pairs_of_blocks([&](size_t first, auto two) {
        const char* row = reinterpret_cast<const char*>(probabilities + first * attention_key_block);
        const Lines left[2] = {{row, score_stride}, {row + tile_lines * score_stride, score_stride}};
        for (size_t i = 0; i < 1 + two.value; i++) {
          for (size_t j = 0; j < 2; j++) load_sums(i, j, place(out, first, i, c, j), stride);
        }
        multiply_tiles<two.value, true>(left, right, tile_pairs * tile.stride, steps);
        if (rest != 0) {
          const Lines rest_left[2] = {{left[0].at + steps * tile_line_bytes, score_stride},
                                      {left[1].at + steps * tile_line_bytes, score_stride}};
          multiply_tiles<two.value, true>(rest_left, last, 0, 1);
        }
        for (size_t i = 0; i < 1 + two.value; i++) {
          for (size_t j = 0; j < 2; j++) store_sums(i, j, place(out, first, i, c, j), stride);
        }
      });
    }
  }

 private:
  template <bool Two>
  struct Blocks {
    static constexpr bool value = Two;
  };
  // Calls work(first query, Blocks) for two blocks of sixteen at a time, and for the last one alone if they are odd.
  template <class Work>
  void for_pairs_of_blocks(const Work& work) const {
    size_t first = 0;
    for (; first + tile_lines < t.n; first += 2 * tile_lines) work(first, Blocks<true>());
    if (first < t.n) work(first, Blocks<false>());
  }

  float* place(float* out, size_t first, size_t i, size_t column, size_t j) const {
    return out + (first + i * tile_lines) * t.width + column + j * tile_lines;
  }

  static size_t deepest_of(const QueryGroup* groups, size_t n_groups, size_t begin) {
    size_t depth = 0;
    for (size_t g = 0; g < n_groups; g++) depth = larger(depth, groups[g].depth(begin));
    return depth;
  }

  // In place, with zeros beyond what a group sees.
  void convert_probabilities(const QueryGroup* groups, size_t n_groups, size_t begin, size_t n, float* rows) const {
    for (size_t g = 0; g < n_groups; g++) {
      const size_t seen = round_up(groups[g].depth(begin), tile_step_columns);
      for (size_t i = groups[g].first; i < groups[g].first + groups[g].n; i++) {
        char* row = reinterpret_cast<char*>(rows + i * attention_key_block);
        Pairs::convert_row(rows + i * attention_key_block, seen);
        __builtin_memset(row + seen * sizeof(uint16_t), 0, (n - seen) * sizeof(uint16_t));
      }
    }
  }

  // The lines of pairs that hold the last `rest` positions, from `line` on, and zeros.
  void copy_tail(const Tile& tile, size_t line, size_t rest) const {
    for (size_t half = 0; half < 2; half++) {
      for (size_t i = 0; i < tile_lines; i++) {
        const char* at = tile.lines + half * tile.second + (line + i) * tile.stride;
        Vec pairs = zero();
        if (2 * i < rest) pairs = Pairs::line(at);
        if (2 * i + 1 == rest) pairs = only_first_bf16(pairs);
        store(reinterpret_cast<float*>(tail + half * tile_bytes + i * tile_line_bytes), pairs);
      }
    }
  }
};

}  // namespace

void attention(const AttentionTask& t) {
  if (!t.quantized || t.n <= query_group || t.width % tile_step_columns != 0) return avx512::attention(t);
  const Tiles tiles;
  attend_in_pairs<MatrixProducts>(t);
}

size_t attention_scratch(size_t head_size) {
  return larger(avx512::attention_scratch(head_size), attend_in_pairs_scratch<MatrixProducts>(head_size));
}

}  // namespace finermoe::amx
