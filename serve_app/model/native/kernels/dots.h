// Products of weights and inputs, one class for each type that weights come in.
//
// A step is 32 numbers, 64 of int4. A class says how a part of it is loaded, a vector of each sum at a time, and how it is added.
// Where a step is two numbers of each of sixteen rows, as in adapters.h, all sums meet the same two inputs: `spread` takes
// them from numbers that stand one by one, as `pack_dense` writes sixteen; `spread_of` from a packed step of inputs.
#pragma once

#include <algorithm>

#include "lanes.h"

namespace csm {

enum class Kind : int32_t { kFloat32 = 0, kBfloat16 = 1, kInt8 = 2, kInt4 = 3 };

struct Matrix {
  const void* values;  // [rows, cols]
  const void* scales;  // floats [rows] of int8; bfloat16 [rows, cols / 32] of int4; else null
  int64_t rows;
  int64_t cols;  // of int4 a multiple of a step
  Kind kind;
};

constexpr size_t step_size(Kind kind) { return kind == Kind::kInt4 ? 64 : 32; }
constexpr size_t kLongestStep = 64;
constexpr float kLargestInput = 16383;  // of a row of integers that meets weights of 8 or 4 bits

constexpr int64_t row_bytes(Kind kind, int64_t cols) {
  switch (kind) {
    case Kind::kFloat32: return cols * 4;
    case Kind::kBfloat16: return cols * 2;
    case Kind::kInt8: return cols;
    default: return cols / 2;
  }
}

// Of each input, in the form that weights of some kind meet.
constexpr size_t input_bytes(Kind kind) {
#if defined(CSM_BF16)
  return kind == Kind::kFloat32 ? 4 : 2;
#else
  return kind == Kind::kFloat32 || kind == Kind::kBfloat16 ? 4 : 2;
#endif
}

// A row of numbers that stand one by one.
template <class Weight>
struct PlainRow {
  const Weight* values;

  PlainRow(const Matrix& matrix, int64_t row) : values(static_cast<const Weight*>(matrix.values) + row * matrix.cols) {}
  explicit PlainRow(const Weight* from) : values(from) {}

  // Into the second level: past the first. Always inlined, since GCC drops calls of a function that only prefetches.
  CSM_INLINE void prefetch(int64_t k, int64_t ahead) const {
    __builtin_prefetch(reinterpret_cast<const char*>(values + k) + ahead, 0, 2);
  }
};

struct FloatDot {
  using Weight = float;
  using Row = PlainRow<Weight>;
  using Sum = Lanes;
  struct Operand {
    FloatVector first, second;  // of either half of the step
  };
  static constexpr Kind kKind = Kind::kFloat32;
  static constexpr size_t kLongest = SIZE_MAX;
  static constexpr int kSumParts = kParts;

  template <int Part>
  static CSM_INLINE Operand weight(const Row& row, size_t k) {
    const float* p = row.values + k + Part * kWidth;
    return {load_as<FloatVector>(p), load_as<FloatVector>(p + kLanes)};
  }
  template <int Part>
  static CSM_INLINE Operand input(const char* step) {
    const char* p = step + Part * kVectorBytes;
    return {load_as<FloatVector>(p), load_as<FloatVector>(p + kLanes * 4)};
  }
  static CSM_INLINE Operand spread(const char* two) {
    return {bits_as<FloatVector>(csm::spread(two)), bits_as<FloatVector>(csm::spread(two + 4))};
  }
  template <int Pair>
  static CSM_INLINE Operand spread_of(const char* step) {
    return spread(step + 8 * Pair);
  }
  static CSM_INLINE void pack_dense(char* to, const Lanes& numbers) { std::memcpy(to, &numbers, sizeof numbers); }
  static CSM_INLINE FloatVector add(FloatVector sum, const Operand& w, const Operand& x) {
    sum = sum + w.first * x.first;
    return sum + w.second * x.second;
  }
  static CSM_INLINE Lanes lanes(const Sum& sum) { return sum; }
};

// Inputs are rounded to bfloat16 too, as a bfloat16 matrix product does; sums are float32.
struct BfloatDot {
  using Weight = Bf16;
  using Row = PlainRow<Weight>;
  using Sum = Lanes;
  static constexpr Kind kKind = Kind::kBfloat16;
  static constexpr size_t kLongest = SIZE_MAX;
  static constexpr int kSumParts = kParts;
  static CSM_INLINE Lanes lanes(const Sum& sum) { return sum; }

#if defined(CSM_BF16)
  using Operand = WordVector;
  template <int Part>
  static CSM_INLINE Operand weight(const Row& row, size_t k) {
    return load_as<WordVector>(row.values + k + 2 * kWidth * Part);
  }
  template <int Part>
  static CSM_INLINE Operand input(const char* step) {
    return held(load_as<WordVector>(step + kVectorBytes * Part));
  }
  static CSM_INLINE Operand spread(const char* two) { return csm::spread(two); }
  template <int Pair>
  static CSM_INLINE Operand spread_of(const char* step) {
    return spread(step + 4 * Pair);
  }
  static CSM_INLINE void pack_dense(char* to, const Lanes& numbers) { store_halves(to, to_bf16(numbers)); }
  static CSM_INLINE FloatVector add(FloatVector sum, Operand w, Operand x) { return add_bf16_pairs(sum, w, x); }
#else
  // Two numbers in each word of weights: the upper half is a float already, the lower one after a shift. Inputs are
  // taken apart when they are packed.
  struct Operand {
    FloatVector low, high;
  };
  template <int Part>
  static CSM_INLINE Operand weight(const Row& row, size_t k) {
    const auto words = load_as<WordVector>(row.values + k + 2 * kWidth * Part);
    return {bits_as<FloatVector>(words << 16), bits_as<FloatVector>(words & 0xffff0000u)};
  }
  template <int Part>
  static CSM_INLINE Operand input(const char* step) {
    const char* p = step + 2 * kVectorBytes * Part;
    return {load_as<FloatVector>(p), load_as<FloatVector>(p + kVectorBytes)};
  }
  static CSM_INLINE Operand spread(const char* two) {
    return {bits_as<FloatVector>(csm::spread(two)), bits_as<FloatVector>(csm::spread(two + 4))};
  }
  template <int Pair>
  static CSM_INLINE Operand spread_of(const char* step) {
    const char* low = step + 2 * kVectorBytes * (Pair / kWidth) + 4 * (Pair % kWidth);
    return {bits_as<FloatVector>(csm::spread(low)), bits_as<FloatVector>(csm::spread(low + kVectorBytes))};
  }
  static CSM_INLINE void pack_dense(char* to, const Lanes& numbers) {
    const WordLanes rounded = to_bf16(numbers) << 16;
    std::memcpy(to, &rounded, sizeof rounded);
  }
  static CSM_INLINE FloatVector add(FloatVector sum, const Operand& w, const Operand& x) {
    sum = sum + w.low * x.low;
    return sum + w.high * x.high;
  }
#endif
};

// Eight integers of 32 bits, or sixteen that are folded to eight where a vector holds so many.
constexpr int kEightParts = std::max(1, 8 / kWidth);
struct IntSum {
  IntVector part[kEightParts];
};

// Inputs are integers of 15 bits with one scale a row, which is far finer than bfloat16. Their sums are exact, so eight
// do as well as sixteen and leave registers for more weight rows.
struct Int8Dot {
  using Weight = int8_t;
  using Row = PlainRow<Weight>;
  using Sum = IntSum;
  using Operand = ShortVector;
  static constexpr Kind kKind = Kind::kInt8;
  // 4 * 127 * kLargestInput in each of 256 steps is the most that a sum of 32 bits holds.
  static constexpr size_t kLongest = 8192;
  static constexpr int kSumParts = kEightParts;

  template <int Part>
  static CSM_INLINE Operand weight(const Row& row, size_t k) {
    return widen(row.values + k + 2 * kWidth * Part);
  }
  template <int Part>
  static CSM_INLINE Operand input(const char* step) {
    return held(load_as<ShortVector>(step + kVectorBytes * Part));
  }
  static CSM_INLINE IntVector add(IntVector sum, Operand w, Operand x) { return add_pairs(sum, w, x); }
  static CSM_INLINE Lanes lanes(const Sum& sum) {
#if defined(CSM_AVX512)
    const auto sixteen = (__m512i)sum.part[0];
    const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sixteen), _mm512_extracti64x4_epi64(sixteen, 1));
    return {(FloatVector)_mm512_zextps256_ps512(_mm256_cvtepi32_ps(eight))};
#else
    Lanes eight{};
    unrolled<kEightParts>([&](auto i) CSM_LAMBDA {
      eight.part[i] = __builtin_convertvector(sum.part[i], FloatVector);
    });
    return eight;
#endif
  }
};

// A step is two groups of 32, each with its scale: a byte holds number i of the first in its lower half, of the second in
// its upper half. A group's products are exact integers, then scaled and added up in float32.
struct Int4Dot {
  using Weight = uint8_t;
  using Sum = Lanes;
  struct Operand {
    Nibbles values;
    FloatVector low_scale, high_scale;
  };
  struct Row {
    const uint8_t* values;
    const Bf16* scales;

    Row(const Matrix& matrix, int64_t row)
        : values(static_cast<const uint8_t*>(matrix.values) + row * matrix.cols / 2),
          scales(static_cast<const Bf16*>(matrix.scales) + row * matrix.cols / 32) {}

    CSM_INLINE void prefetch(int64_t k, int64_t ahead) const { __builtin_prefetch(values + k / 2 + ahead, 0, 2); }
  };
  static constexpr Kind kKind = Kind::kInt4;
  static constexpr size_t kLongest = SIZE_MAX;
  static constexpr int kSumParts = kParts;

  template <int Part>
  static CSM_INLINE Operand weight(const Row& row, size_t k) {
    const uint16_t* scales = &row.scales[k / 32].bits;
    return {unpack_nibbles(row.values + k / 2 + 2 * kWidth * Part), broadcast_bf16(scales), broadcast_bf16(scales + 1)};
  }
  template <int Part>
  static CSM_INLINE Nibbles input(const char* step) {
    const char* p = step + kVectorBytes * Part;
    return {held(load_as<ShortVector>(p)), held(load_as<ShortVector>(p + 64))};
  }
  static CSM_INLINE FloatVector add(FloatVector sum, const Operand& w, const Nibbles& x) {
    sum = sum + __builtin_convertvector(add_pairs(IntVector{}, w.values.low, x.low), FloatVector) * w.low_scale;
    return sum + __builtin_convertvector(add_pairs(IntVector{}, w.values.high, x.high), FloatVector) * w.high_scale;
  }
  static CSM_INLINE Lanes lanes(const Sum& sum) { return sum; }
};

}  // namespace csm
