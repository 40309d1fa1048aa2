// Prints products of fixed numbers by matrices of every kind, to be compared between processors.
#include <cstdio>
#include <vector>

#include "adapters.h"

namespace {

uint32_t state = 1;

uint32_t draw() { return state = state * 1664525u + 1013904223u; }
float draw_float() { return static_cast<float>(static_cast<int32_t>(draw()) >> 8) / 8388608.0f; }

void print_products(csm::Kind kind, int64_t cols, int num_rows) {
  constexpr int64_t kRows = 43;
  const size_t padded = csm::round_up(cols, csm::kLongestStep);
  std::vector<float> numbers(kRows * cols), scales(kRows);
  std::vector<uint8_t> bytes(kRows * cols);
  std::vector<csm::Bf16> halves(kRows * cols);
  for (float& number : numbers) number = draw_float();
  for (float& scale : scales) scale = draw_float();
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(draw() >> 24);
  for (size_t i = 0; i < halves.size(); ++i) csm::assign(halves[i], numbers[i]);
  const void* values[] = {numbers.data(), halves.data(), bytes.data(), bytes.data()};
  const void* row_scales = kind == csm::Kind::kInt4 ? static_cast<const void*>(halves.data()) : scales.data();
  const csm::Matrix matrix{values[static_cast<int>(kind)], row_scales, kRows, cols, kind};

  csm::Rows<float> rows(num_rows, cols), packed(num_rows, cols), input_scales(1, num_rows);
  const csm::Inputs inputs{reinterpret_cast<char*>(packed[0]), input_scales[0], num_rows,
                           padded * csm::input_bytes(kind)};
  for (int row = 0; row < num_rows; ++row) {
    for (int64_t i = 0; i < cols; ++i) rows[row][i] = draw_float();
    csm::pack_row(kind, inputs, row, rows[row], padded);
  }
  csm::multiply(matrix, inputs, 0, kRows, [&](int64_t row, int64_t n, float value) {
    std::printf("%d %d %d %d %a\n", static_cast<int>(kind), num_rows, static_cast<int>(row), static_cast<int>(n), value);
  });
}

// Changes by the ranks of three tokens, from the middle of sixteen rows on, not to the end of the last sixteen.
void print_changes(csm::Kind kind) {
  constexpr int64_t kRank = 6, kRows = 40, kFirst = 5, kTokens = 3;
  std::vector<float> numbers(csm::round_up(kRows, csm::kLanes) * kRank);
  std::vector<csm::Bf16> halves(numbers.size());
  for (float& number : numbers) number = draw_float();
  for (size_t i = 0; i < halves.size(); ++i) csm::assign(halves[i], numbers[i]);
  csm::Change change{};
  change.down.kind = kind;
  change.up = kind == csm::Kind::kFloat32 ? static_cast<const void*>(numbers.data()) : halves.data();
  change.rank = kRank;
  char ranks[kTokens][4 * kRank];
  const char* places[kTokens];
  for (int token = 0; token < kTokens; ++token) {
    places[token] = ranks[token];
    for (int n = 0; n < kRank; ++n)
      csm::pack_number(kind, ranks[token] + n * csm::input_bytes(kind), draw_float());
  }
  float sums[kTokens][kRows] = {};
  const auto to = [&](int token, int64_t row) { return sums[token] + row; };
  if (kind == csm::Kind::kFloat32) csm::add_ups<csm::FloatDot, kTokens>(change, places, kFirst, kRows - 1, to);
  else csm::add_ups<csm::BfloatDot, kTokens>(change, places, kFirst, kRows - 1, to);
  for (int token = 0; token < kTokens; ++token)
    for (int row = 0; row < kRows; ++row)
      std::printf("%d change %d %d %a\n", static_cast<int>(kind), token, row, sums[token][row]);
}

}  // namespace

int main() {
  for (int num_rows = 1; num_rows <= 9; ++num_rows)
    for (int kind = 0; kind < 4; ++kind)
      print_products(static_cast<csm::Kind>(kind), kind == 3 ? 192 : 171, num_rows);
  for (const csm::Kind kind : {csm::Kind::kFloat32, csm::Kind::kBfloat16}) print_changes(kind);
}
