// Matrix times a few rows of inputs: what a frame spends its time on, and a matter of reading the matrix at full speed.
//
// How memory is read fastest depends on the processor: in order, or in a few runs side by side. Where there are runs, one
// or two rows of inputs meet one weight row of each run at a time. Else weight rows share the loads of inputs, and where
// inputs do not fit the first cache, a small group of weight rows is taken in blocks of columns. Memory is asked in time
// for the blocks behind them.
#pragma once

#include <type_traits>

#include "inputs.h"
#include "sums.h"

namespace csm {

constexpr int kMaxGroup = 32;  // weight rows whose sums are kept at once
constexpr size_t kBlockBytes = 16384;  // of inputs that meet a group of weight rows, half of a first-level cache

#if defined(__znver1__) || defined(__znver2__) || defined(__znver3__) || defined(__znver4__) || defined(__znver5__)
#define CSM_ZEN 1
#endif

// Runs through memory that one or two rows of inputs meet at once. What fetches ahead on an Intel processor follows each
// run alone, and several together are faster: a plain loop read 22 GB/s in one, 26 in eight (Ice Lake, two cores). Other
// processors were measured in one run, or not at all.
#if !defined(CSM_ZEN) && (defined(CSM_AVX512) || defined(CSM_AVX2))
constexpr int kRuns = 8;
#else
constexpr int kRuns = 1;
#endif

// Whether so many rows of inputs meet weight rows in runs, or else in blocks of columns.
constexpr bool in_runs(int num_rows) { return num_rows <= 2 && kRuns > 1; }

// How far ahead of what is multiplied memory is asked for what follows, once a cache line. On a Zen 4, 2 KB is too late,
// and 4 to 16 KB differ little.
constexpr int64_t kAheadBytes = 8192;

// Weight rows that are multiplied together; sums, weights and an input must fit the registers. Weights of 4 bits take
// four each, and their products some more: with AVX2 there is room for one.
constexpr int tile_size(Kind kind, int num_rows) {
  const int sums = (kind == Kind::kInt8 ? kEightParts : kParts) * num_rows;
  if (in_runs(num_rows)) return std::clamp(kRegisters / (kind == Kind::kInt4 ? 8 : 2) / sums, 1, kRuns);
  if (num_rows == 1 || (num_rows == 2 && (kind == Kind::kInt4 || kParts > 2))) return 1;
  return std::clamp(kRegisters / 2 / sums, 1, num_rows > 2 && num_rows <= 4 && kind != Kind::kInt4 ? 4 : 2);
}

// Whether memory is asked ahead at all. A single row of inputs needs it, too: without, an AVX2 processor of AMD reads a
// quarter to a third slower than a plain loop. With AVX-512 (Zen 4), int8 gains a tenth and bfloat16 loses as much.
constexpr bool asks_ahead(Kind kind, int num_rows) {
  if (in_runs(num_rows) && tile_size(kind, num_rows) > 1) return false;
#if defined(CSM_AVX512)
  return num_rows > 1 || kind == Kind::kInt8;
#else
  return true;
#endif
}

// Weight rows of one run: shorter ones than some pages begin anew too often.
constexpr int rows_of_run(int64_t bytes_per_row) { return bytes_per_row >= 8192 ? 1 : bytes_per_row >= 4096 ? 2 : 4; }

// Weight rows whose sums are kept at once.
constexpr int group_size(const Matrix& matrix, int num_rows) {
  if (!in_runs(num_rows)) return num_rows == 1 ? 16 : 8;
  return std::max(16, tile_size(matrix.kind, num_rows) * rows_of_run(row_bytes(matrix.kind, matrix.cols)));
}

// Columns of each block where none has more than `most`, which is at least kLongestStep: about equally many, so that
// each asks for all of the next.
constexpr size_t even_block(size_t cols, size_t most) {
  most = most / kLongestStep * kLongestStep;
  const size_t num_blocks = std::max<size_t>(1, (cols + most - 1) / most);
  return round_up((cols + num_blocks - 1) / num_blocks, kLongestStep);
}

// From weight row `row` of a group of `count`, in the block of columns begin..end-1, to what is multiplied kAheadBytes
// later: a row of the same block, of the next block, or of the next group's first.
inline int64_t bytes_ahead(const Matrix& matrix, int row, int count, int tile, size_t begin, size_t end) {
  const int64_t block = row_bytes(matrix.kind, end - begin), bytes_per_row = row_bytes(matrix.kind, matrix.cols);
  const int64_t rows = std::max<int64_t>(tile, kAheadBytes / block);
  if (row + rows < count) return rows * bytes_per_row;
  const bool last = static_cast<int64_t>(end) == matrix.cols;
  return last ? rows * bytes_per_row - row_bytes(matrix.kind, begin) : (rows - count) * bytes_per_row + block;
}

// Adds the products of M weight rows, each `apart` rows behind the one before, and of N rows of inputs, columns
// begin..end-1, to their `sums` [rows, N]. Meanwhile it asks for what stands `ahead` bytes further on.
template <class Dot, int M, int N>
CSM_INLINE void add_tile(const Matrix& matrix, int64_t first, int apart, const char* inputs, size_t begin,
                         size_t end, int64_t ahead, typename Dot::Sum* sums) {
  using Row = typename Dot::Row;
  constexpr size_t kStep = step_size(Dot::kKind), kStepBytes = kStep * input_bytes(Dot::kKind);
  // Exact sums are folded to fewer vectors only where registers are short.
  constexpr int kLocal = M * N * kParts <= kRegisters / 2 ? kParts : Dot::kSumParts;
  using Vector = std::remove_cvref_t<decltype(sums->part[0])>;
  Vector local[M][N][kLocal] = {};
  unrolled<M * N * Dot::kSumParts>([&](auto i) CSM_LAMBDA {
    constexpr int m = i / Dot::kSumParts / N, n = i / Dot::kSumParts % N, part = i % Dot::kSumParts;
    local[m][n][part] = sums[m * apart * N + n].part[part];
  });

  const auto step = [&](auto row_of, size_t k, const char* x) CSM_LAMBDA {
    unrolled<kParts>([&](auto part) CSM_LAMBDA {
      const auto add = [&](auto m, auto n, const auto& w, const auto& input) CSM_LAMBDA {
        auto& sum = local[m][n][part % kLocal];
        sum = Dot::add(sum, w, input);
        if constexpr (Dot::kKind == Kind::kInt8 && (N > 2 || kLocal < kParts)) sum = in_turn(sum);
      };
      const auto input_of = [&](auto n) CSM_LAMBDA { return Dot::template input<part>(x + n * kStepBytes); };
      const auto weight_of = [&](auto m) CSM_LAMBDA { return Dot::template weight<part>(row_of(m), k); };
      if constexpr (N <= 2) {
        unrolled<M>([&](auto m) CSM_LAMBDA {
          const auto w = weight_of(m);
          unrolled<N>([&](auto n) CSM_LAMBDA { add(m, n, w, input_of(n)); });
        });
      } else {
        typename Dot::Operand w[M];
        unrolled<M>([&](auto m) CSM_LAMBDA { w[m] = weight_of(m); });
        unrolled<N>([&](auto n) CSM_LAMBDA {
          const auto input = input_of(n);
          unrolled<M>([&](auto m) CSM_LAMBDA { add(m, n, w[m], input); });
        });
      }
    });
  };
  const char* x = inputs + begin / kStep * N * kStepBytes;
  size_t k = begin;
  if constexpr (asks_ahead(Dot::kKind, N)) {
    // A cache line is two steps of int8 and of int4, if registers suffice for two. A step of float32 is two lines.
    constexpr int kLines = std::max(1, static_cast<int>(row_bytes(Dot::kKind, kStep) / 64));
    constexpr int kSteps = (Dot::kKind == Kind::kInt8 && N != 2) || (Dot::kKind == Kind::kInt4 && N == 1) ? 2 : 1;
    for (; k + kSteps * kStep <= end; k += kSteps * kStep) {
      unrolled<M * kLines>([&](auto i) CSM_LAMBDA {
        Row(matrix, first + i / kLines * apart).prefetch(k, ahead + i % kLines * 64);
      });
      unrolled<kSteps>([&](auto i) CSM_LAMBDA {
        step([&](auto m) CSM_LAMBDA { return Row(matrix, first + m * apart); }, k + i * kStep, x);
        x += N * kStepBytes;
      });
    }
  }
  for (; k + kStep <= end; k += kStep, x += N * kStepBytes)
    step([&](auto m) CSM_LAMBDA { return Row(matrix, first + m * apart); }, k, x);
  if constexpr (Dot::kKind != Kind::kInt4) {
    if (k < end) {
      typename Dot::Weight rest[M][kStep] = {};
      for (int m = 0; m < M; ++m)
        std::memcpy(rest[m], Row(matrix, first + m * apart).values + k, (end - k) * sizeof rest[0][0]);
      step([&](auto m) CSM_LAMBDA { return Row(rest[m]); }, 0, x);
    }
  }
  unrolled<M * N * Dot::kSumParts>([&](auto i) CSM_LAMBDA {
    constexpr int m = i / Dot::kSumParts / N, n = i / Dot::kSumParts % N, part = i % Dot::kSumParts;
    Vector sum = local[m][n][part];
    for (int other = part + Dot::kSumParts; other < kLocal; other += Dot::kSumParts) sum += local[m][n][other];
    sums[m * apart * N + n].part[part] = sum;
  });
}

// The same for `count` weight rows that follow each other, and all of their sums.
template <class Dot, int N>
CSM_INLINE void add_rows(const Matrix& matrix, int64_t first, int count, const char* inputs, size_t begin, size_t end,
                         typename Dot::Sum* sums) {
  constexpr int M = tile_size(Dot::kKind, N);
  const int run = in_runs(N) ? rows_of_run(row_bytes(Dot::kKind, matrix.cols)) : 1;
  const auto ahead = [&](int row) {
    return in_runs(N) ? kAheadBytes : bytes_ahead(matrix, row, count, M, begin, end);
  };
  int row = 0;
  if constexpr (M > 1)
    for (; row + M * run <= count; row += M * run)
      for (int i = row; i < row + run; ++i)
        add_tile<Dot, M, N>(matrix, first + i, run, inputs, begin, end, ahead(row), sums + i * N);
  for (; row < count; ++row)
    add_tile<Dot, 1, N>(matrix, first + row, 1, inputs, begin, end, ahead(row), sums + row * N);
}

// The sums of `count` weight rows and a group of N input rows: [count, N].
template <class Dot, int N>
void multiply_group(const Matrix& matrix, int64_t first, int count, const char* inputs, float* results) {
  constexpr int kSums = in_runs(N) ? kMaxGroup * N : round_up(8 * N, kLanes);
  const size_t cols = matrix.cols;
  const size_t block = in_runs(N) ? cols : even_block(cols, kBlockBytes / N / input_bytes(Dot::kKind));
  typename Dot::Sum sums[kSums] = {};
  Lanes totals[kSums];  // of parts before the last: see kLongest
  for (size_t part = 0; part < cols; part += std::min(Dot::kLongest, cols - part)) {
    const size_t part_end = part + std::min(Dot::kLongest, cols - part);
    for (size_t begin = part; begin < part_end; begin += std::min(block, part_end - begin)) {
      const size_t end = begin + std::min(block, part_end - begin);
      add_rows<Dot, N>(matrix, first, count, inputs, begin, end, sums);
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
  const int64_t group = group_size(matrix, inputs.num_rows);
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
