// Matrix times a few rows of inputs: what a frame spends its time on, and a matter of reading the matrix at full speed.
//
// Memory is fastest when it is read in order. So one or two rows of inputs meet one weight row at a time. With more of
// them, weight rows share the loads of inputs, and inputs no longer fit the first cache: then a small group of weight
// rows is taken in blocks of columns, and asks for the rows behind it in time.
#pragma once

#include <algorithm>

#include "dots.h"

namespace csm {

struct Matrix {
  const void* values;   // [rows, cols]
  const float* scales;  // [rows] of int8, else null
  int64_t rows;
  int64_t cols;
  Kind kind;
};

// Rows of inputs in the form that a matrix of some kind takes; zeros fill them up to a whole step.
struct Inputs {
  char* data;
  size_t stride;  // bytes
  float* scales;  // [rows], of int8 matrices
  int num_rows;
};

constexpr int kMaxRows = 8;    // input rows that are multiplied at once
constexpr int kMaxGroup = 16;  // weight rows whose sums are kept at once
constexpr size_t kBlockBytes = 16384;  // of inputs that meet a group of weight rows, half of a first-level cache

constexpr int kSecondLevel = 2;  // of __builtin_prefetch: to keep it out of the first cache

constexpr int group_size(int num_rows) { return num_rows == 1 ? kMaxGroup : 8; }

// Weight rows that share each load of an input; sums, weights and an input must fit the registers.
constexpr int tile_size(int num_rows) { return num_rows <= 2 ? 1 : num_rows <= 4 ? 4 : 2; }

template <class Dot, int M, int N>
CSM_INLINE void add_tile(const typename Dot::Weight* weights, size_t cols, const char* inputs, size_t stride,
                         size_t begin, size_t end, typename Dot::Sum* sums) {
  using Weight = typename Dot::Weight;
  using Input = typename Dot::Input;
  typename Dot::Sum local[M][N];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) local[m][n] = sums[m * N + n];

  const auto step = [&](auto weight_at, size_t k) __attribute__((always_inline)) {
    typename Dot::Operand w[M];
    for (int m = 0; m < M; ++m) w[m] = Dot::weight(weight_at(m));
    for (int n = 0; n < N; ++n) {
      const auto x = Dot::input(reinterpret_cast<const Input*>(inputs + n * stride) + k);
      for (int m = 0; m < M; ++m) local[m][n] = Dot::add(local[m][n], w[m], x);
    }
  };
  size_t k = begin;
  for (; k + Dot::kStep <= end; k += Dot::kStep) {
    if constexpr (N > 2)
      for (int m = 0; m < M; ++m) __builtin_prefetch(weights + (m + M) * cols + k, 0, kSecondLevel);
    step([&](int m) { return weights + m * cols + k; }, k);
  }
  if (k < end) {
    Weight rest[M][Dot::kStep] = {};
    for (int m = 0; m < M; ++m) std::memcpy(rest[m], weights + m * cols + k, (end - k) * sizeof(Weight));
    step([&](int m) { return rest[m]; }, k);
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) sums[m * N + n] = local[m][n];
}

// The sums of `count` weight rows and N input rows: [count, N].
template <class Dot, int N>
void multiply_group(const void* values, size_t cols, int count, const char* inputs, size_t stride, float* results) {
  constexpr int M = tile_size(N), kSums = round_up(group_size(N) * N, kLanes);
  constexpr size_t kBlock = N <= 2 ? SIZE_MAX : kBlockBytes / N / sizeof(typename Dot::Input) / 64 * 64;
  const auto* weights = static_cast<const typename Dot::Weight*>(values);
  typename Dot::Sum sums[kSums] = {};
  Lanes totals[kSums];  // of parts before the last: see kLongest
  for (size_t part = 0; part < cols; part += std::min(Dot::kLongest, cols - part)) {
    const size_t part_end = part + std::min(Dot::kLongest, cols - part);
    for (size_t begin = part; begin < part_end; begin += std::min(kBlock, part_end - begin)) {
      const size_t end = begin + std::min(kBlock, part_end - begin);
      int row = 0;
      for (; row + M <= count; row += M)
        add_tile<Dot, M, N>(weights + row * cols, cols, inputs, stride, begin, end, sums + row * N);
      for (; row < count; ++row)
        add_tile<Dot, 1, N>(weights + row * cols, cols, inputs, stride, begin, end, sums + row * N);
    }
    if (part_end == cols) break;
    for (int i = 0; i < kSums; ++i) {
      totals[i] = part == 0 ? Dot::lanes(sums[i]) : totals[i] + Dot::lanes(sums[i]);
      sums[i] = typename Dot::Sum{};
    }
  }
  for (int i = 0; i < count * N; i += kLanes) {
    Lanes sixteen[kLanes];
    for (int j = 0; j < kLanes; ++j) sixteen[j] = Dot::lanes(sums[i + j]);
    if (cols > Dot::kLongest)
      for (int j = 0; j < kLanes; ++j) sixteen[j] = totals[i + j] + sixteen[j];
    store(results + i, csm::sums(sixteen));
  }
}

using MultiplyGroup = void (*)(const void*, size_t, int, const char*, size_t, float*);

template <class Dot>
constexpr MultiplyGroup kMultiplyGroup[kMaxRows] = {
    multiply_group<Dot, 1>, multiply_group<Dot, 2>, multiply_group<Dot, 3>, multiply_group<Dot, 4>,
    multiply_group<Dot, 5>, multiply_group<Dot, 6>, multiply_group<Dot, 7>, multiply_group<Dot, 8>,
};

inline const MultiplyGroup* kernels_of(Kind kind) {
  switch (kind) {
    case Kind::kFloat32: return kMultiplyGroup<FloatDot>;
    case Kind::kBfloat16: return kMultiplyGroup<BfloatDot>;
    default: return kMultiplyGroup<Int8Dot>;
  }
}

inline size_t weight_bytes(Kind kind) { return kind == Kind::kFloat32 ? 4 : kind == Kind::kBfloat16 ? 2 : 1; }
inline size_t input_bytes(Kind kind) { return kind == Kind::kFloat32 ? 4 : 2; }

// Calls write(row of inputs, row of the matrix, product) for the matrix's rows begin..end-1.
template <class Write>
void multiply(const Matrix& matrix, const Inputs& inputs, int64_t begin, int64_t end, Write&& write) {
  const MultiplyGroup* kernels = kernels_of(matrix.kind);
  const int64_t group = group_size(std::min(inputs.num_rows, 2));
  float results[kMaxGroup * kMaxRows + kLanes];
  for (int64_t first = begin; first < end; first += group) {
    const int count = static_cast<int>(std::min(group, end - first));
    const char* values = static_cast<const char*>(matrix.values) + first * matrix.cols * weight_bytes(matrix.kind);
    for (int row = 0; row < inputs.num_rows; row += kMaxRows) {
      const int num = std::min(kMaxRows, inputs.num_rows - row);
      kernels[num - 1](values, matrix.cols, count, inputs.data + row * inputs.stride, inputs.stride, results);
      for (int i = 0; i < count; ++i) {
        const float scale = matrix.scales ? matrix.scales[first + i] : 1.0f;
        for (int n = 0; n < num; ++n)
          write(row + n, first + i, results[i * num + n] * (matrix.scales ? scale * inputs.scales[row + n] : 1.0f));
      }
    }
  }
}

inline void pack_row(Kind kind, const float* from, size_t padded, char* to, float* scale) {
  switch (kind) {
    case Kind::kFloat32: std::memcpy(to, from, padded * sizeof(float)); return;
    case Kind::kBfloat16:
      for (size_t i = 0; i < padded; i += kLanes) {
        const HalfLanes halves = to_bf16(load(from + i));
        std::memcpy(to + 2 * i, &halves, sizeof halves);
      }
      return;
    case Kind::kInt8:
      Lanes most{};
      for (size_t i = 0; i < padded; i += kLanes) most = max(abs(load(from + i)), most);
      const float largest_value = largest(most);
      *scale = largest_value / 32767;
      const float inverse = largest_value > 0 ? 32767 / largest_value : 0;
      for (size_t i = 0; i < padded; i += kLanes) {
        const ShortLanes shorts = __builtin_convertvector(round_to_int(load(from + i) * inverse), ShortLanes);
        std::memcpy(to + 2 * i, &shorts, sizeof shorts);
      }
  }
}

}  // namespace csm
