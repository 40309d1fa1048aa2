// How fast some threads read memory: the floor under any step.
#pragma once

#include "buffers.h"
#include "pages.h"
#include "stack.h"

namespace csm {

// Bytes per second of the fastest of `repeats` products of a large bfloat16 matrix and one row.
inline double read_bandwidth(int num_threads, int64_t bytes, int repeats) {
  constexpr int64_t kColumns = 8192;
  const int64_t num_rows = bytes / kColumns / 2;
  Rows<char> memory(1, num_rows * kColumns * 2);
  use_huge_pages(memory[0], num_rows * kColumns * 2);
  const Matrix matrix{memory[0], nullptr, num_rows, kColumns, Kind::kBfloat16};
  Rows<float> input(1, kColumns), output(1, num_rows);
  const Inputs inputs{reinterpret_cast<char*>(input[0]), nullptr, 1, kColumns * 4};
  const int64_t each = chunk_rows(matrix);
  Team team(num_threads, [&](Team::Member& member, int) {
    member.stage(num_chunks(num_rows, each), [&](int64_t chunk) {
      multiply(matrix, inputs, chunk * each, std::min((chunk + 1) * each, num_rows),
               [&](int64_t, int64_t n, float value) { output[0][n] = value; });
    });
  });
  double best = 0;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    team.run(1);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(num_rows * kColumns * 2) / seconds.count());
  }
  return best;
}

}  // namespace csm
