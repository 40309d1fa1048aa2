// Rows of inputs in the form that a matrix of some kind takes.
#pragma once

#include <algorithm>

#include "dots.h"

namespace csm {

// Input rows that are multiplied at once: their sums take half of the registers. Compilers begin the parts of a step all
// at once; where there are four, what is under way takes most of the other half.
constexpr int kMaxRows = kParts > 2 ? 2 : std::min(8, kRegisters / 2 / kParts);

// Rows in groups of kMaxRows. A group's rows alternate step by step, so that one pointer leads through all of them;
// zeros fill them up to a whole step.
struct Inputs {
  char* data;
  float* scales;  // [rows], of int8 and int4 matrices
  int num_rows;
  size_t row_bytes;

  char* group(int row) const { return data + row / kMaxRows * kMaxRows * row_bytes; }
  // Of the first of a row's steps, and from one to the next.
  char* place(int row, size_t step_bytes) const { return group(row) + row % kMaxRows * step_bytes; }
  size_t stride(int row, size_t step_bytes) const {
    return step_bytes * std::min(kMaxRows, num_rows - row / kMaxRows * kMaxRows);
  }
};

// As integers of 16 bits, the row's largest being kLargestInput.
template <size_t Step>
inline void pack_shorts(const Inputs& inputs, int row, const float* from, size_t padded) {
  Lanes most{};
  for (size_t i = 0; i < padded; i += kLanes) most = max(abs(load(from + i)), most);
  const float largest_value = largest(most);
  inputs.scales[row] = largest_value / kLargestInput;
  const float inverse = largest_value > 0 ? kLargestInput / largest_value : 0;
  char* to = inputs.place(row, 2 * Step);
  for (size_t i = 0; i < padded; i += Step, to += inputs.stride(row, 2 * Step))
    for (size_t j = 0; j < Step; j += kLanes) store_halves(to + 2 * j, round_to_int(load(from + i + j) * inverse));
}

// `from` [padded] becomes row `row` of `inputs`; padded is a multiple of every step.
inline void pack_row(Kind kind, const Inputs& inputs, int row, const float* from, size_t padded) {
  constexpr size_t kStep = 32;
  if (kind == Kind::kInt4) return pack_shorts<64>(inputs, row, from, padded);
  if (kind == Kind::kInt8) return pack_shorts<32>(inputs, row, from, padded);
  const size_t step = kStep * input_bytes(kind);
  const size_t stride = inputs.stride(row, step);
  char* to = inputs.place(row, step);
  if (kind == Kind::kFloat32) {
    for (size_t i = 0; i < padded; i += kStep, to += stride) std::memcpy(to, from + i, step);
    return;
  }
  if (kind == Kind::kBfloat16) {
    for (size_t i = 0; i < padded; i += kStep, to += stride) {
      uint16_t halves[kStep];
      for (size_t j = 0; j < kStep; j += kLanes) store_halves(halves + j, to_bf16(load(from + i + j)));
#if defined(CSM_BF16)
      std::memcpy(to, halves, step);
#else
      unrolled<kParts>([&](auto part) CSM_LAMBDA {
        const auto words = load_as<WordVector>(halves + 2 * kWidth * part);
        const WordVector apart[2] = {words << 16, words & 0xffff0000u};
        std::memcpy(to + sizeof apart * part, apart, sizeof apart);
      });
#endif
    }
  }
}

}  // namespace csm
