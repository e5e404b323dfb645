// Attention with an online softmax over blocks of positions, memory that does not grow with the length. This is what
// the units share that differ in their two products: scores from queries and keys, sums from shares and values.
//
// Keys and values lie as backend/kv_cache.h says: a line of a panel is a vector of positions (keys) or columns
// (values), so that both products add line after line, each times a factor of every query.
#pragma once

#include <utility>

#include "cpu/kernels/tile.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t kv_panel = panel_rows, query_group = block_vectors;

// How many of its visible positions a query does not see: those before its window.
inline size_t hidden_of(const AttentionTask& t, size_t i) {
  return t.visible[i] > t.window ? t.visible[i] - t.window : 0;
}

// Queries that are multiplied together. One of them sees the positions up to `visible`, the others end before or there;
// all of them begin at `hidden` or after.
struct QueryGroup {
  size_t first, n, visible, hidden;
  // Positions of the block at `begin` that are needed, from its first one on.
  size_t depth(size_t begin) const {
    const bool sees = visible > begin && hidden < begin + attention_key_block;
    return sees ? smaller(visible - begin, attention_key_block) : 0;
  }
};

// Groups of even size.
inline size_t group_queries(const AttentionTask& t, QueryGroup* groups) {
  const size_t n_groups = (t.n + query_group - 1) / query_group;
  for (size_t g = 0; g < n_groups; g++) {
    const size_t first = g * t.n / n_groups, end = (g + 1) * t.n / n_groups;
    groups[g] = {first, end - first, 0, hidden_of(t, first)};
    for (size_t i = first; i < end; i++) {
      const size_t visible = smaller(t.visible[i], t.end);
      if (visible > groups[g].visible) groups[g].visible = visible;
      groups[g].hidden = smaller(groups[g].hidden, hidden_of(t, i));
    }
  }
  return n_groups;
}

// Turns the scores of one query into shares relative to the largest score so far, and rescales what has been summed.
// `depth` scores are used by the products; those before `hidden` and from `visible` on become zeros, up to whole
// vectors of pairs.
inline void soften(float* scores, size_t hidden, size_t visible, size_t depth, float* largest_score, float* total,
                   float* sums, size_t width) {
  size_t p = visible / lanes * lanes;
  if (const size_t rest = visible - p; rest != 0) {
    const Vec last = load_first_as<DType::f32>(scores + p, rest);
    store(scores + p, broadcast(-__builtin_inff()));
    store_first(scores + p, last, rest);
    p += lanes;
  }
  for (size_t q = p; q < round_up(depth, 2 * lanes); q += lanes) store(scores + q, zero());
  if (visible == 0) return;
  for (size_t q = 0; q < hidden; q++) scores[q] = -__builtin_inff();
  Vec most = broadcast(*largest_score);
  for (size_t q = 0; q < p; q += lanes) most = max(load(scores + q), most);  // a NaN shows in its share
  const float top = largest(most);
  if (top != *largest_score) {
    const Vec rescale = exp(broadcast(*largest_score - top));
    for (size_t c = 0; c < width; c += lanes) store(sums + c, mul(load(sums + c), rescale));
    store(total, mul(load(total), rescale));
    *largest_score = top;
  }
  Vec added = load(total);
  for (size_t q = 0; q < p; q += lanes) {
    Vec share = exp(sub(load(scores + q), broadcast(top)));
    store(scores + q, share);
    if (q + lanes > visible) {
      share = load_first_as<DType::f32>(scores + q, visible - q);
      store(scores + q, share);
    }
    if (q < hidden) {
      for (size_t i = q; i < smaller(hidden, q + lanes); i++) scores[i] = 0;
      share = load(scores + q);
    }
    added = add(added, share);
  }
  store(total, added);
}

// Scratch of attend(); Products place what they need beside it.
template <class Products>
struct AttentionScratch {
  float *sums, *scores, *totals;  // [n, width], [n, attention_key_block], [n, lanes]
  typename Products::Scratch products;
  AttentionScratch(Places& places, size_t n, size_t width) : products(places, n, width) {
    places.put(sums, n * width);
    places.put(scores, n * attention_key_block);
    places.put(totals, n * lanes);
  }
};

// For up to n queries over a cache of any type.
template <class Products>
size_t attend_scratch(size_t n, size_t head_size) {
  return bytes_of_arrays<AttentionScratch<Products>>(n, round_up(head_size, block_columns));
}

// Products: pack() takes the queries of a group, rows [n, width] that may be changed; scores() and add_values() compute
// for all groups and the positions [begin, begin + count).
template <class Products>
void attend(const AttentionTask& t) {
  Places places(t.scratch);
  const AttentionScratch<Products> scratch(places, t.n, t.width);
  float *sums = scratch.sums, *scores = scratch.scores, *totals = scratch.totals;
  float largest_score[attention_max_queries];
  QueryGroup groups[attention_max_queries];
  const size_t n_groups = group_queries(t, groups);
  Products products(t, scratch.products);

  size_t end = 0;
  for (size_t g = 0; g < n_groups; g++) {
    if (groups[g].visible > end) end = groups[g].visible;
    float* rows = sums + groups[g].first * t.width;
    for (size_t i = 0; i < groups[g].n; i++) {
      const float* q = t.q[groups[g].first + i];
      for (size_t c = 0; c < t.width; c++) rows[i * t.width + c] = c < t.head_size ? q[c] * t.scale : 0;
    }
    products.pack(groups[g], rows);
  }
  for (size_t i = 0; i < t.n; i++) largest_score[i] = -__builtin_inff();
  for (size_t i = 0; i < t.n * t.width; i++) sums[i] = 0;
  for (size_t i = 0; i < t.n * lanes; i++) totals[i] = 0;

  for (size_t begin = t.begin; begin < end; begin += attention_key_block) {
    products.scores(groups, n_groups, begin, scores);
    for (size_t g = 0; g < n_groups; g++) {
      const size_t depth = groups[g].depth(begin);
      for (size_t i = groups[g].first; depth != 0 && i < groups[g].first + groups[g].n; i++) {
        size_t hidden = hidden_of(t, i), visible = t.visible[i] > begin ? smaller(t.visible[i] - begin, depth) : 0;
        hidden = hidden > begin ? hidden - begin : 0;
        if (hidden >= visible) hidden = visible = 0;
        soften(scores + i * attention_key_block, hidden, visible, depth, &largest_score[i], totals + i * lanes,
               sums + i * t.width, t.width);
      }
    }
    products.add_values(groups, n_groups, begin, scores, sums);
  }
  for (size_t i = 0; i < t.n; i++) {
    const float total = sum(load(totals + i * lanes)), factor = t.largest != nullptr ? 1 : 1 / total;
    for (size_t c = 0; c < t.head_size; c++) t.out[i][c] = sums[i * t.width + c] * factor;
    if (t.largest != nullptr) t.largest[i] = largest_score[i], t.total[i] = total;
  }
}

// Lines of keys or values: `stride` bytes apart; a second vector of each line `second` bytes from the first, or none.
// `ahead` bytes further lies what is fetched from memory meanwhile.
struct Tile {
  const char* lines;
  size_t stride, second, ahead;
};

// Kernel<n>::run, for n queries of at most query_group.
template <template <size_t> class Kernel, size_t... I>
auto kernel_of(size_t n, std::index_sequence<I...>) {
  constexpr decltype(&Kernel<1>::run) with[] = {Kernel<I + 1>::run...};
  return with[n - 1];
}
template <template <size_t> class Kernel>
auto kernel_of(size_t n) {
  return kernel_of<Kernel>(n, std::make_index_sequence<query_group>());
}

}  // namespace
}  // namespace finermoe::FINERMOE_KERNELS
