// Matrix products in float32: weights packed once, inputs read where they lie.
//
// Each number of a result is one sum, over the inputs in their order, whatever it is computed along with.
#pragma once

#include <algorithm>
#include <utility>

#include "memory.h"
#include "vectors.h"

namespace mimi {

// Rows [rows, cols] as torch's linear layers have them; `bias` [rows] may be null.
struct MatrixDescription {
  const float* weight;
  const float* bias;
  int64_t rows;
  int64_t cols;
};

// A panel is some vectors of neighbouring results. A tile of rows by vectors has its sums in registers; what is left
// of them holds weights and inputs: one of each on x86, more on ARM, and products where they are not added at once.
constexpr int kPanelVectors = 4;
constexpr int kTileRows = 8;
constexpr int tile_rows(int num_vectors) {
#if defined(__FMA__)
  const int num_sums = kNumRegisters * 3 / 4;
#else
  const int num_sums = kNumRegisters * 5 / 8;
#endif
  return std::min(kTileRows, num_sums / num_vectors);
}

class Matrix {
 public:
  explicit Matrix(const MatrixDescription& from)
      : rows_(from.rows),
        cols_(from.cols),
        weight_(num_vectors() * kLanes * cols_),
        bias_(num_vectors() * kLanes) {
    for (int64_t panel = 0; panel < num_panels(); ++panel) {
      float* to = weight_.data() + panel * kPanelVectors * kLanes * cols_;
      const int64_t first = panel * kPanelVectors * kLanes, width = vectors_of(panel) * kLanes;
      for (int64_t n = 0; n < std::min(width, rows_ - first); ++n)
        for (int64_t k = 0; k < cols_; ++k) to[k * width + n] = from.weight[(first + n) * cols_ + k];
    }
    if (from.bias) std::copy_n(from.bias, rows_, bias_.data());
    weight_.use_huge_pages();
  }

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t num_panels() const { return (num_vectors() + kPanelVectors - 1) / kPanelVectors; }
  int vectors_of(int64_t panel) const {
    return static_cast<int>(std::min<int64_t>(kPanelVectors, num_vectors() - panel * kPanelVectors));
  }
  const float* panel(int64_t panel) const { return weight_.data() + panel * kPanelVectors * kLanes * cols_; }
  const float* bias(int64_t panel) const { return bias_.data() + panel * kPanelVectors * kLanes; }

 private:
  int64_t num_vectors() const { return (rows_ + kLanes - 1) / kLanes; }

  int64_t rows_, cols_;
  Memory weight_, bias_;
};

using Tile = void (*)(const float* const* inputs, const float* panel, const float* bias, int64_t depth, float* sums);

template <int N, class SumOf>
MIMI_INLINE void add_products(Vector one, const Vector* others, SumOf&& sum_of) {
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) sum_of(i) = sum_of(i) + one * others[i];
}

template <int R, int V>
void multiply_tile(const float* const* inputs, const float* panel, const float* bias, int64_t depth, float* sums) {
  Vector local[R][V];
  const float* input[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    input[r] = inputs[r];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) local[r][v] = load(bias + v * kLanes);
  }
  for (int64_t k = 0; k < depth; ++k) {
    // The fewer of the two are held, so that all fits where there are sixteen registers.
    const auto weight = [&](int v) { return held(load(panel + (k * V + v) * kLanes)); };
    const auto one = [&](int r) { return broadcast(input[r][k]); };
    if constexpr (R < V) {
      Vector x[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) x[r] = held(one(r));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) add_products<R>(weight(v), x, [&](int r) -> Vector& { return local[r][v]; });
    } else {
      Vector w[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[v] = weight(v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) add_products<V>(one(r), w, [&](int v) -> Vector& { return local[r][v]; });
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(sums + (r * V + v) * kLanes, local[r][v]);
}

// Not inline, so that the table is this library's own: a process may hold another one, for another processor.
template <int V, int... R>
static Tile tile_of(int num_rows, std::integer_sequence<int, R...>) {
  static constexpr Tile kTiles[] = {multiply_tile<R + 1, V>...};
  return kTiles[num_rows - 1];
}

template <int V>
inline Tile tile_of(int num_rows) {
  return tile_of<V>(num_rows, std::make_integer_sequence<int, tile_rows(V)>());
}

inline Tile tile_for(int num_rows, int num_vectors) {
  switch (num_vectors) {
    case 1: return tile_of<1>(num_rows);
    case 2: return tile_of<2>(num_rows);
    case 3: return tile_of<3>(num_rows);
    default: return tile_of<4>(num_rows);
  }
}

// One panel's results for `num_rows` of inputs: next_input() gives where each begins, and take(sums, column, count)
// gets the results of each, `count` of them from `column` on.
template <class NextInput, class Take>
inline void multiply(const Matrix& matrix, int64_t panel, int64_t num_rows, NextInput&& next_input, Take&& take) {
  const int vectors = matrix.vectors_of(panel), most = tile_rows(vectors);
  const int64_t column = panel * kPanelVectors * kLanes;
  const int64_t count = std::min<int64_t>(vectors * kLanes, matrix.rows() - column);
  alignas(64) float sums[kTileRows * kPanelVectors * kLanes];
  for (int64_t row = 0; row < num_rows; row += most) {
    const int num = static_cast<int>(std::min<int64_t>(most, num_rows - row));
    const float* inputs[kTileRows];
    for (int r = 0; r < num; ++r) inputs[r] = next_input();
    tile_for(num, vectors)(inputs, matrix.panel(panel), matrix.bias(panel), matrix.cols(), sums);
    for (int r = 0; r < num; ++r) take(sums + r * vectors * kLanes, column, count);
  }
}

}  // namespace mimi
