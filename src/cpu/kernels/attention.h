// Attention with an online softmax over blocks of positions, in memory that does not grow with their number. The
// kernels share this loop; each brings its own two products, queries times keys and probabilities times values.
//
// Keys and values have the layout of cpu/kv_layout.h: a line of a panel is a vector of positions (keys) or columns
// (values). Both products add up lines, each times one factor of every query.
#pragma once

#include <utility>

#include "cpu/kernels/tile.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t kv_panel = panel_rows, query_group = block_vectors;

// How far the panel of a position lies from the first one of a head, in bytes.
inline size_t panel_offset(const AttentionTask& t, size_t position) {
  const size_t in_block = position & ((size_t{1} << t.block_shift) - 1);
  return (position >> t.block_shift) * t.block_stride + in_block / kv_panel * t.panel_bytes;
}
// How far the positions that are computed next lie from those that begin at `begin`.
inline size_t next_offset(const AttentionTask& t, size_t begin) {
  return panel_offset(t, begin + attention_key_block) - panel_offset(t, begin);
}

// The number of positions before a query's window.
inline size_t hidden_of(const AttentionTask& t, size_t i) {
  return t.visible[i] > t.window ? t.visible[i] - t.window : 0;
}

// Queries that are multiplied together. Together they see the positions [hidden, visible), each a part of them.
struct QueryGroup {
  size_t first, n, visible, hidden;
  // How many positions of the block at `begin` are needed, from its first one on.
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

// Online softmax update of one query: turns `depth` scores into probabilities relative to the running max, and rescales
// what was summed before if the max grew. Scores before `hidden` and from `visible` on become zeros, up to whole
// vectors of pairs. The running sum has a part for each lane.
inline void update_softmax(float* scores, size_t hidden, size_t visible, size_t depth, float* running_max,
                           float* running_sum, float* out, size_t width) {
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
  Vec lane_max = broadcast(*running_max);
  for (size_t q = 0; q < p; q += lanes) lane_max = max(load(scores + q), lane_max);  // a NaN shows in its probability
  const float new_max = max_of(lane_max);
  if (new_max != *running_max) {
    const Vec rescale = exp(broadcast(*running_max - new_max));
    for (size_t c = 0; c < width; c += lanes) store(out + c, mul(load(out + c), rescale));
    store(running_sum, mul(load(running_sum), rescale));
    *running_max = new_max;
  }
  Vec lane_sum = load(running_sum);
  for (size_t q = 0; q < p; q += lanes) {
    Vec probability = exp(sub(load(scores + q), broadcast(new_max)));
    store(scores + q, probability);
    if (q + lanes > visible) {
      probability = load_first_as<DType::f32>(scores + q, visible - q);
      store(scores + q, probability);
    }
    if (q < hidden) {
      for (size_t i = q; i < smaller(hidden, q + lanes); i++) scores[i] = 0;
      probability = load(scores + q);
    }
    lane_sum = add(lane_sum, probability);
  }
  store(running_sum, lane_sum);
}

// Scratch of attend(); Products place what they need beside it.
template <class Products>
struct AttentionScratch {
  float* out;           // [n, width], n rounded up to whole vectors
  float* scores;        // [n, attention_key_block], likewise
  float* running_sums;  // [n, lanes]
  typename Products::Scratch products;
  AttentionScratch(Places& places, size_t n, size_t width) : products(places, n, width) {
    places.put(out, round_up(n, lanes) * width);
    places.put(scores, round_up(n, lanes) * attention_key_block);
    places.put(running_sums, n * lanes);
  }
};

// For up to n queries over a cache of any type.
template <class Products>
size_t attend_scratch(size_t n, size_t head_size) {
  return bytes_of_arrays<AttentionScratch<Products>>(n, round_up(head_size, block_columns));
}

// Products have pack(), which takes the queries of a group as rows [n, width] and may change them, and scores() and
// add_values(), which compute the block of positions at `begin` for all groups.
template <class Products>
void attend(const AttentionTask& t) {
  Places places(t.scratch);
  const AttentionScratch<Products> scratch(places, t.n, t.width);
  float *out = scratch.out, *scores = scratch.scores, *running_sums = scratch.running_sums;
  float running_max[attention_max_queries];
  QueryGroup groups[attention_max_queries];
  const size_t n_groups = group_queries(t, groups);
  Products products(t, scratch.products);

  size_t end = 0;
  for (size_t g = 0; g < n_groups; g++) {
    if (groups[g].visible > end) end = groups[g].visible;
    float* rows = out + groups[g].first * t.width;
    for (size_t i = 0; i < groups[g].n; i++) {
      const float* q = t.q[groups[g].first + i];
      for (size_t c = 0; c < t.width; c++) rows[i * t.width + c] = c < t.head_size ? q[c] * t.scale : 0;
    }
    products.pack(groups[g], rows);
  }
  for (size_t i = 0; i < t.n; i++) running_max[i] = -__builtin_inff();
  for (size_t i = 0; i < round_up(t.n, lanes) * t.width; i++) out[i] = 0;
  for (size_t i = 0; i < t.n * lanes; i++) running_sums[i] = 0;

  for (size_t begin = t.begin; begin < end; begin += attention_key_block) {
    products.scores(groups, n_groups, begin, scores);
    for (size_t g = 0; g < n_groups; g++) {
      const size_t depth = groups[g].depth(begin);
      for (size_t i = groups[g].first; depth != 0 && i < groups[g].first + groups[g].n; i++) {
        size_t hidden = hidden_of(t, i), visible = t.visible[i] > begin ? smaller(t.visible[i] - begin, depth) : 0;
        hidden = hidden > begin ? hidden - begin : 0;
        if (hidden >= visible) hidden = visible = 0;
        update_softmax(scores + i * attention_key_block, hidden, visible, depth, &running_max[i],
                       running_sums + i * lanes, out + i * t.width, t.width);
      }
    }
    products.add_values(groups, n_groups, begin, scores, out);
  }
  for (size_t i = 0; i < t.n; i++) {
    const float running_sum = sum(load(running_sums + i * lanes)), factor = t.max != nullptr ? 1 : 1 / running_sum;
    for (size_t c = 0; c < t.head_size; c++) t.out[i][c] = out[i * t.width + c] * factor;
    if (t.max != nullptr) t.max[i] = running_max[i], t.sum[i] = running_sum;
  }
}

// Lines of keys or values, `stride` bytes apart. A line has a second vector `second` bytes from the first, unless that
// is 0. Reading a line prefetches what is `prefetch_distance` bytes after it.
struct Tile {
  const char* lines;
  size_t stride, second, prefetch_distance;
};

// Kernel<n>::run for n queries, at most query_group.
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
