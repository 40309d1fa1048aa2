// One matrix times many rows of inputs, as a prompt is read: the matrix comes from memory once for all of them.
#pragma once

#include "buffers.h"
#include "stack.h"
#include "team.h"

namespace csm {

class Multiplier {
 public:
  explicit Multiplier(int num_threads) : team_(num_threads, [this](Team::Member& member, int) { work(member); }) {}

  // `inputs` [num_rows, cols] to `outputs` [num_rows, rows], both dense.
  void run(const Matrix& matrix, const float* inputs, int num_rows, float* outputs) {
    const size_t padded = round_up(matrix.cols, kLongestStep);
    if (num_rows > max_rows_ || padded > max_padded_) {
      max_rows_ = std::max(max_rows_, num_rows);
      max_padded_ = std::max(max_padded_, padded);
      packed_ = Rows<char>(1, max_rows_ * row_stride(max_padded_, sizeof(float)));
      scales_ = Rows<float>(1, max_rows_);
      lines_ = Rows<float>(max_rows_, max_padded_);
    }
    matrix_ = &matrix;
    from_ = inputs;
    to_ = outputs;
    inputs_ = {packed_[0], scales_[0], num_rows, padded * input_bytes(matrix.kind)};
    team_.run(num_rows);
  }

 private:
  void work(Team::Member& member) {
    const Matrix& matrix = *matrix_;
    const Inputs inputs = inputs_;
    const size_t padded = round_up(matrix.cols, kLongestStep);
    member.stage(inputs.num_rows, [&](int64_t row) {
      float* line = lines_[row];
      std::memcpy(line, from_ + row * matrix.cols, matrix.cols * sizeof(float));
      std::memset(line + matrix.cols, 0, (padded - matrix.cols) * sizeof(float));
      pack_row(matrix.kind, inputs, static_cast<int>(row), line, padded);
    });
    const int64_t each = chunk_rows(matrix);
    member.stage(num_chunks(matrix.rows, each), [&](int64_t chunk) {
      multiply(matrix, inputs, chunk * each, std::min((chunk + 1) * each, matrix.rows),
               [&](int64_t row, int64_t n, float value) { to_[row * matrix.rows + n] = value; });
    });
  }

  Rows<char> packed_;
  Rows<float> scales_;
  Rows<float> lines_;
  int max_rows_ = 0;
  size_t max_padded_ = 0;
  const Matrix* matrix_ = nullptr;
  const float* from_ = nullptr;
  float* to_ = nullptr;
  Inputs inputs_{};
  Team team_;  // last: its threads must end before what they use
};

}  // namespace csm
