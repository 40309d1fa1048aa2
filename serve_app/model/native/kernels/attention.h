// Attention of one row's query heads that share keys, over the positions that this row has, and no others.
#pragma once

#include <algorithm>

#include "sums.h"

namespace csm {

constexpr int kHeadTile = 4;
constexpr int kPositionTile = 4;

// Positions whose products with four heads fit the registers.
constexpr int kPositionsAtOnce = kParts == 1 ? kPositionTile : 1;

// Products of four heads [4, dim] and of Count positions from `first` on.
template <int Count, class T>
CSM_INLINE void multiply_keys(const float* queries, size_t query_stride, const T* keys, size_t dim, int first,
                              Lanes* products) {
  Lanes local[kHeadTile * Count] = {};
  for (size_t d = 0; d < dim; d += kLanes)
    unrolled<Count>([&](auto p) CSM_LAMBDA {
      const Lanes key = load_first(keys + (first + p) * dim + d, dim - d);
      unrolled<kHeadTile>([&](auto h) CSM_LAMBDA {
        local[h * Count + p] = local[h * Count + p] + load(queries + h * query_stride + d) * key;
      });
    });
  unrolled<kHeadTile>([&](auto h) CSM_LAMBDA {
    unrolled<Count>([&](auto p) CSM_LAMBDA { products[h * kPositionTile + first + p] = local[h * Count + p]; });
  });
}

// Scores of four heads and four positions, some of which may be absent.
template <class T>
CSM_INLINE Lanes score_tile(const float* queries, size_t query_stride, const T* keys, size_t dim, int num_positions) {
  Lanes products[kHeadTile * kPositionTile] = {};
  int p = 0;
  for (; p + kPositionsAtOnce <= num_positions; p += kPositionsAtOnce)
    multiply_keys<kPositionsAtOnce>(queries, query_stride, keys, dim, p, products);
  for (; p < num_positions; ++p) multiply_keys<1>(queries, query_stride, keys, dim, p, products);
  return sums(products);
}

// scores[h][p] to e^(score - the largest), and the sum of those.
inline float soften(float* scores, int64_t length) {
  float most = scores[0];
  for (int64_t p = 1; p < length; ++p) most = scores[p] > most ? scores[p] : most;
  Lanes total{};
  for (int64_t p = 0; p < length; p += kLanes) {
    const Lanes part = exp(load(scores + p) - most);
    store(scores + p, part);
    for (int64_t i = length - p; i < kLanes; ++i) scores[p + i] = 0;
    total = total + load(scores + p);
  }
  return sum(total);
}

// Values of four heads' scores: sixteen of `dim` columns to out[h][0..15].
template <class T>
CSM_INLINE void mix_tile(const float* scores, size_t score_stride, const T* values, size_t dim, size_t columns,
                         int64_t length, Lanes* mixed) {
  Lanes local[kHeadTile] = {};
  for (int64_t p = 0; p < length; ++p) {
    const Lanes value = load_first(values + p * dim, columns);
    unrolled<kHeadTile>([&](auto h) CSM_LAMBDA { local[h] = local[h] + value * scores[h * score_stride + p]; });
  }
  unrolled<kHeadTile>([&](auto h) CSM_LAMBDA { mixed[h] = local[h]; });
}

// `queries` [heads, query_stride], scaled, zeros up to a multiple of four heads and of sixteen columns; `keys` and
// `values` [length, dim]; `scores` [heads so filled up, score_stride] is scratch, score_stride a multiple of sixteen.
// Writes `out` [heads, dim].
template <class T>
void attend(const float* queries, size_t query_stride, int num_heads, const T* keys, const T* values, size_t dim,
            int64_t length, float* scores, size_t score_stride, float* out) {
  for (int head = 0; head < num_heads; head += kHeadTile) {
    float* tile_scores = scores + head * score_stride;
    for (int64_t p = 0; p < length; p += kPositionTile) {
      const int num = static_cast<int>(length - p < kPositionTile ? length - p : kPositionTile);
      float part[kLanes];
      const float* tile_queries = queries + head * query_stride;
      store(part, score_tile(tile_queries, query_stride, keys + p * dim, dim, num));
      for (int h = 0; h < kHeadTile; ++h)
        std::memcpy(tile_scores + h * score_stride + p, part + h * kPositionTile, kPositionTile * sizeof(float));
    }
    float totals[kHeadTile];
    for (int h = 0; h < kHeadTile; ++h) totals[h] = soften(tile_scores + h * score_stride, length);
    for (size_t d = 0; d < dim; d += kLanes) {
      Lanes mixed[kHeadTile];
      mix_tile(tile_scores, score_stride, values + d, dim, dim - d, length, mixed);
      for (int h = 0; h < kHeadTile && head + h < num_heads; ++h) {
        float part[kLanes];
        store(part, mixed[h] / totals[h]);
        std::memcpy(out + (head + h) * dim + d, part, std::min<size_t>(kLanes, dim - d) * sizeof(float));
      }
    }
  }
}

}  // namespace csm
