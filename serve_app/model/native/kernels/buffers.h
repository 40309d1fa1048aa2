// Memory that is made once: numbers in rows that start at a cache line, zeros between a row's end and the next row.
#pragma once

#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "product.h"

namespace csm {

// Without the extra line, rows of a power of two would all compete for the same few places of a cache.
constexpr size_t row_stride(size_t size, size_t bytes_each) { return round_up(size, kLongestStep) * bytes_each + 64; }

template <class T>
class Rows {
 public:
  Rows() = default;
  Rows(size_t num_rows, size_t size) : stride_(row_stride(size, sizeof(T)) / sizeof(T)), size_(size) {
    const size_t bytes = round_up(num_rows * stride_ * sizeof(T) + 64, 64);
    data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), 0, bytes);
  }

  T* operator[](size_t row) const { return data_.get() + row * stride_; }
  size_t stride() const { return stride_; }
  size_t padded() const { return round_up(size_, kLongestStep); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t stride_ = 0;
  size_t size_ = 0;
};

// Some rows of a buffer: all, or every so many.
struct RowsView {
  const float* data;
  size_t stride;
  int num_rows;
  size_t padded;

  const float* operator[](size_t row) const { return data + row * stride; }
};

// Room for packed inputs.
struct InputsRoom {
  InputsRoom(size_t num_rows, size_t widest) : numbers(num_rows, widest), scales(1, num_rows) {}

  // Of `num_rows` rows that are `padded` numbers wide.
  Inputs inputs(Kind kind, int num_rows, size_t padded) const {
    return {reinterpret_cast<char*>(numbers[0]), scales[0], num_rows, padded * input_bytes(kind)};
  }

  Rows<float> numbers;  // wide enough for any kind of inputs
  Rows<float> scales;
};

// What one thread works in.
struct Scratch {
  struct Sizes {
    size_t num_rows;
    size_t widest;
    size_t num_queries;  // that share a key
    size_t head_dim;
    size_t num_positions;
    size_t chunk;  // of the rows of a matrix
  };

  explicit Scratch(const Sizes& sizes)
      : line(1, sizes.widest),
        packed(sizes.num_rows, sizes.widest),
        packed_for_ranks(sizes.num_rows, sizes.widest),
        queries(sizes.num_queries, sizes.head_dim),
        scores(sizes.num_queries, sizes.num_positions),
        up(sizes.num_rows, sizes.chunk) {}

  Rows<float> line;
  InputsRoom packed, packed_for_ranks;
  Rows<float> queries;
  Rows<float> scores;
  Rows<float> up;
};

inline Inputs pack(const InputsRoom& room, Kind kind, RowsView rows) {
  const Inputs inputs = room.inputs(kind, rows.num_rows, rows.padded);
  for (int row = 0; row < rows.num_rows; ++row) pack_row(kind, inputs, row, rows[row], rows.padded);
  return inputs;
}

// RMSNorm (Zhang and Sennrich, 2019) on the way, in `line`; `weight` [size] is filled up with zeros.
inline Inputs pack_normed(const InputsRoom& room, float* line, Kind kind, RowsView rows, size_t size,
                          const float* weight, float eps) {
  const Inputs inputs = room.inputs(kind, rows.num_rows, rows.padded);
  for (int row = 0; row < rows.num_rows; ++row) {
    const float* from = rows[row];
    Lanes squares{};
    for (size_t i = 0; i < rows.padded; i += kLanes) squares = squares + load(from + i) * load(from + i);
    const float factor = 1 / std::sqrt(sum(squares) / static_cast<float>(size) + eps);
    for (size_t i = 0; i < rows.padded; i += kLanes) store(line + i, load(from + i) * factor * load(weight + i));
    pack_row(kind, inputs, row, line, rows.padded);
  }
  return inputs;
}

}  // namespace csm
