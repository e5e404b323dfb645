// Attention with an online softmax over blocks of positions: both products by packed tiles, memory that does not grow
// with the length.
#include "cpu/kernels/tile.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

struct Scratch {
  float* keys;     // [attention_key_block / tile_width] tiles of [d, tile_width]
  float* values;   // [d / tile_width] tiles of [attention_key_block, tile_width]
  float* scores;   // [n, attention_key_block]
  float* sums;     // [n, d]
  float* queries;  // packed vectors of depth d
  float* shares;   // packed vectors of depth at most attention_key_block
};

// Turns the scores of one query into shares relative to the largest score so far, and rescales what has been summed.
void soften(float* scores, size_t visible, size_t count, float scale, float* largest, float* total, float* sums,
            size_t d) {
  float top = *largest;
  for (size_t p = 0; p < visible; p++) {
    scores[p] *= scale;
    if (!(scores[p] <= top)) top = scores[p];  // a NaN becomes the top, and shows in the result
  }
  for (size_t p = visible; p < count; p++) scores[p] = 0;
  Vec added = zero();
  for (size_t p = 0; p < visible; p += lanes) {
    const size_t n = smaller(lanes, visible - p);
    Vec share = exp(sub(load_first_as<DType::f32>(scores + p, n), broadcast(top)));
    store_first(scores + p, share, n);
    if (n < lanes) share = load_first_as<DType::f32>(scores + p, n);
    added = add(added, share);
  }
  if (top != *largest) {
    float rescale[lanes];
    store(rescale, exp(broadcast(*largest - top)));
    *total *= rescale[0];
    for (size_t c = 0; c < d; c++) sums[c] *= rescale[0];
    *largest = top;
  }
  *total += sum(added);
}

template <DType D>
void attention_as(const AttentionTask& t) {
  const size_t d = t.head_size, value_tiles = (d + tile_width - 1) / tile_width;
  Scratch s;
  s.keys = t.scratch;
  s.values = s.keys + attention_key_block * d;
  s.scores = s.values + attention_key_block * value_tiles * tile_width;
  s.sums = s.scores + attention_max_queries * attention_key_block;
  s.queries = s.sums + attention_max_queries * d;
  s.shares = s.queries + attention_max_queries * d + lanes;

  float largest[attention_max_queries], total[attention_max_queries];
  float *score_rows[attention_max_queries], *sum_rows[attention_max_queries];
  size_t longest = 0;
  for (size_t i = 0; i < t.n; i++) {
    largest[i] = -__builtin_inff();
    total[i] = 0;
    score_rows[i] = s.scores + i * attention_key_block;
    sum_rows[i] = s.sums + i * d;
    if (t.visible[i] > longest) longest = t.visible[i];
  }
  for (size_t i = 0; i < t.n * d; i++) s.sums[i] = 0;
  pack_vectors(t.q, t.n, 0, d, s.queries);

  for (size_t begin = 0; begin < longest; begin += attention_key_block) {
    const size_t count = smaller(attention_key_block, longest - begin);
    const char* keys = static_cast<const char*>(t.keys) + bytes_of<D>(begin * d);
    const char* values = static_cast<const char*>(t.values) + bytes_of<D>(begin * d);
    for (size_t p = 0; p < count; p += tile_width) {
      const size_t n_keys = smaller(tile_width, count - p);
      pack_tile<D>(keys + bytes_of<D>(p * d), n_keys, d, 0, d, s.keys);
      tile_products(s.queries, t.n, s.keys, d, score_rows, p, n_keys, false);
    }
    for (size_t i = 0; i < t.n; i++) {
      const size_t visible = t.visible[i] > begin ? smaller(count, t.visible[i] - begin) : 0;
      soften(score_rows[i], visible, count, t.scale, &largest[i], &total[i], sum_rows[i], d);
    }
    pack_vectors(score_rows, t.n, 0, count, s.shares);
    for (size_t c = 0; c < d; c += tile_width) {
      const size_t width = smaller(tile_width, d - c);
      for (size_t p = 0; p < count; p++) {
        for (size_t half = 0; half < width; half += lanes) {
          const char* place = values + bytes_of<D>(p * d + c + half);
          const size_t n = smaller(lanes, width - half);
          store(s.values + p * tile_width + half, n == lanes ? load_as<D>(place) : load_first_as<D>(place, n));
        }
      }
      tile_products(s.shares, t.n, s.values, count, sum_rows, c, width, true);
    }
  }
  for (size_t i = 0; i < t.n; i++) {
    for (size_t c = 0; c < d; c++) t.out[i][c] = sum_rows[i][c] / total[i];
  }
}

}  // namespace

void attention(const AttentionTask& t) {
  switch (t.dtype) {
    case DType::f32:
      return attention_as<DType::f32>(t);
    case DType::f16:
      return attention_as<DType::f16>(t);
    case DType::bf16:
      return attention_as<DType::bf16>(t);
  }
}

}  // namespace finermoe::FINERMOE_KERNELS
