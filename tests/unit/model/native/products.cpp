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

float number_of(csm::Kind kind, const char* from) {
  if (kind == csm::Kind::kFloat32 || csm::input_bytes(kind) == 4) return csm::load_as<float>(from);
  return csm::to_float(csm::load_as<csm::Bf16>(from));
}

// Ranks of some of seven tokens, then changes by other ranks of them, from the middle of sixteen rows on and not to the end
// of the last sixteen. How many tokens meet a matrix at once differs between processors.
void print_changes(csm::Kind kind) {
  constexpr int64_t kCols = 96, kRank = 6, kRows = 40, kFirst = 5;
  constexpr int kTokens = 7, kAdapted = 5, kNumbers[kAdapted] = {0, 2, 3, 5, 6};
  std::vector<float> numbers(csm::kLanes * kCols + csm::round_up(kRows, csm::kLanes) * kRank);
  std::vector<csm::Bf16> halves(numbers.size());
  for (float& number : numbers) number = draw_float();
  for (size_t i = 0; i < halves.size(); ++i) csm::assign(halves[i], numbers[i]);
  const bool is_float = kind == csm::Kind::kFloat32;
  csm::Change change{};
  change.kind = kind;
  change.down = is_float ? static_cast<const void*>(numbers.data()) : halves.data();
  change.up = is_float ? static_cast<const void*>(&numbers[csm::kLanes * kCols]) : &halves[csm::kLanes * kCols];
  change.cols = kCols;
  change.rank = kRank;

  const csm::InputsRoom room(kTokens, kCols);
  csm::Rows<float> rows(kTokens, kCols);
  for (int token = 0; token < kTokens; ++token)
    for (int64_t i = 0; i < kCols; ++i) rows[token][i] = draw_float();
  const csm::Inputs inputs = csm::pack(room, kind, {rows[0], rows.stride(), kTokens, rows.padded()});
  char ranks[kAdapted][4 * csm::kLanes];
  char* places[kAdapted];
  for (int i = 0; i < kAdapted; ++i) places[i] = ranks[i];
  csm::in_groups(kind, kAdapted, [&](auto dot, auto num, int at) {
    csm::make_ranks<decltype(dot), num>(change, 0, inputs, kNumbers + at, places + at);
  });
  for (int i = 0; i < kAdapted; ++i)
    for (int n = 0; n < csm::kLanes; ++n) {
      const float rank = number_of(kind, ranks[i] + n * csm::input_bytes(kind));
      std::printf("%d rank %d %d %a\n", static_cast<int>(kind), i, n, rank);
    }

  for (char* to : places) {
    float drawn[csm::kLanes];
    for (float& number : drawn) number = draw_float();
    if (is_float) csm::FloatDot::pack_dense(to, csm::load(drawn));
    else csm::BfloatDot::pack_dense(to, csm::load(drawn));
  }
  csm::Rows<float> sums(kTokens, kRows);
  const csm::Target target{sums[0], sums.stride(), 0};
  csm::in_groups(kind, kAdapted, [&](auto dot, auto num, int at) {
    csm::add_ups<decltype(dot), num>(change, places + at, kNumbers + at, kFirst, kRows - 1, target);
  });
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
