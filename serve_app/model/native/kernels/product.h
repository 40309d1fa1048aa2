// Matrix times a few rows of inputs: what a frame spends its time on, and a matter of reading the matrix at full speed.
//
// Memory is fastest when it is read in order. So one or two rows of inputs meet one weight row at a time. With more of
// them, weight rows share the loads of inputs, and inputs no longer fit the first cache: then a small group of weight
// rows is taken in blocks of columns, and asks for the rows behind it in time.
#pragma once

#include "inputs.h"
#include "sums.h"

namespace csm {

constexpr int kMaxGroup = 16;  // weight rows whose sums are kept at once
constexpr size_t kBlockBytes = 16384;  // of inputs that meet a group of weight rows, half of a first-level cache
// How far ahead a weight row that meets one row of inputs asks for what follows it in memory, once a cache line. Without
// it, an AVX2 processor reads a quarter to a third slower than a plain loop; one with AVX-512 was at its limit without it.
#if defined(CSM_AVX512)
constexpr int64_t kReadAheadBytes = 0;
#else
constexpr int64_t kReadAheadBytes = 8192;
#endif

constexpr int group_size(int num_rows) { return num_rows == 1 ? kMaxGroup : 8; }

// Weight rows that share each load of an input; sums, weights and an input must fit the registers. Weights of 4 bits take
// four each, and their products some more.
constexpr int tile_size(Kind kind, int num_rows) {
  if (num_rows <= 2) return 1;
  return std::clamp(kRegisters / 2 / kParts / num_rows, 1, num_rows <= 4 && kind != Kind::kInt4 ? 4 : 2);
}

// Adds the products of weight rows `rows` and of N rows of inputs, columns begin..end-1, to `sums` [M, N].
template <class Dot, int M, int N>
CSM_INLINE void add_tile(const Matrix& matrix, int64_t first, const char* inputs, size_t begin, size_t end,
                         typename Dot::Sum* sums) {
  using Row = typename Dot::Row;
  constexpr size_t kStep = step_size(Dot::kKind), kStepBytes = kStep * input_bytes(Dot::kKind);
  typename Dot::Sum local[M][N];
  unrolled<M * N>([&](auto i) CSM_LAMBDA { local[i / N][i % N] = sums[i]; });

  const auto step = [&](auto row_of, size_t k, const char* x) CSM_LAMBDA {
    unrolled<kParts>([&](auto part) CSM_LAMBDA {
      typename Dot::Operand w[M];
      unrolled<M>([&](auto m) CSM_LAMBDA { w[m] = Dot::template weight<part>(row_of(m), k); });
      unrolled<N>([&](auto n) CSM_LAMBDA {
        const auto input = Dot::template input<part>(x + n * kStepBytes);
        unrolled<M>([&](auto m) CSM_LAMBDA {
          local[m][n].part[part] = Dot::add(local[m][n].part[part], w[m], input);
        });
      });
    });
  };
  const char* x = inputs + begin / kStep * N * kStepBytes;
  size_t k = begin;
  if constexpr (N == 1 && kReadAheadBytes > 0) {
    constexpr int kSteps = static_cast<int>(std::max<size_t>(1, 64 / row_bytes(Dot::kKind, kStep)));
    constexpr int64_t kAhead = kReadAheadBytes / row_bytes(Dot::kKind, kStep) * kStep;
    for (; k + kSteps * kStep <= end; k += kSteps * kStep) {
      Row(matrix, first).prefetch(k + kAhead);
      unrolled<kSteps>([&](auto i) CSM_LAMBDA {
        step([&](auto m) CSM_LAMBDA { return Row(matrix, first + m); }, k + i * kStep, x);
        x += N * kStepBytes;
      });
    }
  }
  for (; k + kStep <= end; k += kStep, x += N * kStepBytes) {
    if constexpr (N > 2) unrolled<M>([&](auto m) CSM_LAMBDA { Row(matrix, first + m + M).prefetch(k); });
    step([&](auto m) CSM_LAMBDA { return Row(matrix, first + m); }, k, x);
  }
  if constexpr (Dot::kKind != Kind::kInt4) {
    if (k < end) {
      typename Dot::Weight rest[M][kStep] = {};
      for (int m = 0; m < M; ++m)
        std::memcpy(rest[m], Row(matrix, first + m).values + k, (end - k) * sizeof rest[0][0]);
      step([&](auto m) CSM_LAMBDA { return Row(rest[m]); }, 0, x);
    }
  }
  unrolled<M * N>([&](auto i) CSM_LAMBDA { sums[i] = local[i / N][i % N]; });
}

// The sums of `count` weight rows and a group of N input rows: [count, N].
template <class Dot, int N>
void multiply_group(const Matrix& matrix, int64_t first, int count, const char* inputs, float* results) {
  constexpr int M = tile_size(Dot::kKind, N), kSums = round_up(group_size(N) * N, kLanes);
  constexpr size_t kBlock = N <= 2 ? SIZE_MAX : kBlockBytes / N / input_bytes(Dot::kKind) / 64 * 64;
  const size_t cols = matrix.cols;
  typename Dot::Sum sums[kSums] = {};
  Lanes totals[kSums];  // of parts before the last: see kLongest
  for (size_t part = 0; part < cols; part += std::min(Dot::kLongest, cols - part)) {
    const size_t part_end = part + std::min(Dot::kLongest, cols - part);
    for (size_t begin = part; begin < part_end; begin += std::min(kBlock, part_end - begin)) {
      const size_t end = begin + std::min(kBlock, part_end - begin);
      int row = 0;
      for (; row + M <= count; row += M) add_tile<Dot, M, N>(matrix, first + row, inputs, begin, end, sums + row * N);
      if constexpr (M > 1)
        for (; row < count; ++row) add_tile<Dot, 1, N>(matrix, first + row, inputs, begin, end, sums + row * N);
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

using MultiplyGroup = void (*)(const Matrix&, int64_t, int, const char*, float*);

struct MultiplyGroups {
  MultiplyGroup of[kMaxRows];
};

template <class Dot, int... I>
constexpr MultiplyGroups multiply_groups(std::integer_sequence<int, I...>) {
  return {{multiply_group<Dot, I + 1>...}};
}

template <class Dot>
constexpr MultiplyGroups kMultiplyGroups = multiply_groups<Dot>(std::make_integer_sequence<int, kMaxRows>{});

inline const MultiplyGroup* kernels_of(Kind kind) {
  switch (kind) {
    case Kind::kFloat32: return kMultiplyGroups<FloatDot>.of;
    case Kind::kBfloat16: return kMultiplyGroups<BfloatDot>.of;
    case Kind::kInt8: return kMultiplyGroups<Int8Dot>.of;
    default: return kMultiplyGroups<Int4Dot>.of;
  }
}

// Calls write(row of inputs, row of the matrix, product) for the matrix's rows begin..end-1.
template <class Write>
void multiply(const Matrix& matrix, const Inputs& inputs, int64_t begin, int64_t end, Write&& write) {
  const MultiplyGroup* kernels = kernels_of(matrix.kind);
  const int64_t group = group_size(std::min(inputs.num_rows, 2));
  const auto* row_scales = matrix.kind == Kind::kInt8 ? static_cast<const float*>(matrix.scales) : nullptr;
  const bool has_scales = matrix.kind == Kind::kInt8 || matrix.kind == Kind::kInt4;
  float results[kMaxGroup * kMaxRows + kLanes];
  for (int64_t first = begin; first < end; first += group) {
    const int count = static_cast<int>(std::min(group, end - first));
    for (int row = 0; row < inputs.num_rows; row += kMaxRows) {
      const int num = std::min(kMaxRows, inputs.num_rows - row);
      kernels[num - 1](matrix, first, count, inputs.group(row), results);
      for (int i = 0; i < count; ++i) {
        const float scale = row_scales ? row_scales[first + i] : 1.0f;
        for (int n = 0; n < num; ++n)
          write(row + n, first + i, results[i * num + n] * (has_scales ? scale * inputs.scales[row + n] : 1.0f));
      }
    }
  }
}

}  // namespace csm
