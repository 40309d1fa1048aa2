// Low-rank changes of some rows' products: model/adapters/low_rank.py's Change. A product by `down` in a stage of its own
// makes the ranks, and one by `up` is added where the base's product is written.
#pragma once

#include <vector>

#include "buffers.h"
#include "team.h"

namespace csm {

constexpr int kMaxParts = 3;

// These structures are passed in from Python (native/adapters.py), which declares the same fields.
struct Change {
  Matrix down;  // [parts * rank, in]
  Matrix up;    // [out, rank]
  int64_t rank;  // 0 where the adapter leaves the matrix alone
  int64_t num_parts;
  int64_t ends[kMaxParts];  // the row of `up` after each part's last
};

struct LayerChanges {
  Change qkv, out, gate_up, down;
};

struct AdapterDescription {
  const LayerChanges* backbone;
  const LayerChanges* depth;
  int64_t rank;  // the largest
};

// The tokens of one adapter in a pass.
struct AdapterTokens {
  const LayerChanges* layers;
  std::vector<int> tokens;
};

using Adapted = std::vector<AdapterTokens>;
using Place = Change LayerChanges::*;

// Adds the products of the matrix's rows begin..end-1, which are short, to what to(input row, matrix row) points to.
//
// `multiply` would spend most of its time on the sums of such rows. Here sixteen rows become a vector of sixteen sums.
template <class Dot, class To>
CSM_INLINE void add_short_products(const Matrix& matrix, const Inputs& inputs, int64_t begin, int64_t end, To&& to) {
  constexpr size_t kStep = step_size(Dot::kKind), kStepBytes = kStep * input_bytes(Dot::kKind);
  const size_t cols = matrix.cols, whole = cols / kStep * kStep;
  for (int64_t first = begin; first < end; first += kLanes) {
    const int count = static_cast<int>(std::min<int64_t>(kLanes, end - first));
    for (int n = 0; n < inputs.num_rows; ++n) {
      Lanes products[kLanes] = {};
      const size_t stride = inputs.stride(n, kStepBytes);
      const auto add = [&](auto& sum, const auto& row, size_t k, const char* x) CSM_LAMBDA {
        unrolled<kParts>([&](auto part) CSM_LAMBDA {
          sum.part[part] =
              Dot::add(sum.part[part], Dot::template weight<part>(row, k), Dot::template input<part>(x));
        });
      };
      for (int i = 0; i < count; ++i) {
        const typename Dot::Row row(matrix, first + i);
        const char* x = inputs.place(n, kStepBytes);
        for (size_t k = 0; k < whole; k += kStep, x += stride) add(products[i], row, k, x);
        if (whole == cols) continue;
        typename Dot::Weight rest[kStep] = {};
        std::memcpy(rest, row.values + whole, (cols - whole) * sizeof rest[0]);
        add(products[i], typename Dot::Row(rest), 0, x);
      }
      const Lanes sixteen = sums(products);
      float* sums_to = to(n, first);
      if (count == kLanes) {
        store(sums_to, load(sums_to) + sixteen);
        continue;
      }
      float each[kLanes];
      store(each, sixteen);
      for (int i = 0; i < count; ++i) sums_to[i] += each[i];
    }
  }
}

// The ranks of every token, and how they come into being and are used.
class Ranks {
 public:
  void reserve(size_t max_tokens, size_t rank) {
    if (rank <= segment_) return;
    segment_ = round_up(rank, kLongestStep);
    ranks_ = Rows<float>(max_tokens, kMaxParts * segment_);
  }

  // Calls pack(kind, token numbers, how many) for the inputs of a group.
  template <class Pack>
  void make(Team::Member& member, const Adapted& adapted, size_t layer, Place place, Pack&& pack) const {
    int64_t total = 0;
    for (const AdapterTokens& group : adapted) total += chunks(group.layers[layer].*place);
    if (total == 0) return;
    member.stage(total, [&](int64_t chunk) {
      const AdapterTokens* group = adapted.data();
      for (; chunk >= chunks(group->layers[layer].*place); ++group) chunk -= chunks(group->layers[layer].*place);
      const Change& change = group->layers[layer].*place;
      const int* tokens = group->tokens.data();
      const Inputs inputs = pack(change.down.kind, tokens, static_cast<int>(group->tokens.size()));
      const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, change.down.rows);
      multiply(change.down, inputs, begin, end, [&](int64_t row, int64_t n, float value) {
        ranks_[tokens[row]][n / change.rank * segment_ + n % change.rank] = value;
      });
    });
  }

  // Asks for what `use` will read of memory, so that it comes while the base's product is computed.
  void prefetch(const Adapted& adapted, size_t layer, Place place, int64_t begin, int64_t end) const {
    for (const AdapterTokens& group : adapted) {
      const Change& change = group.layers[layer].*place;
      if (change.rank == 0) continue;
      const int64_t each = row_bytes(change.up.kind, change.rank);
      const char* from = static_cast<const char*>(change.up.values);
      for (int64_t at = begin * each; at < end * each; at += 64) __builtin_prefetch(from + at, 0, 2);
    }
  }

  // Adds the rows begin..end-1 of `up` to what to(token, row of `up`) points to.
  template <class To>
  void use(Scratch& scratch, const Adapted& adapted, size_t layer, Place place, int64_t begin, int64_t end,
           To&& to) const {
    for (const AdapterTokens& group : adapted) {
      const Change& change = group.layers[layer].*place;
      const int* tokens = group.tokens.data();
      for (int64_t part = 0, start = 0; change.rank != 0 && part < change.num_parts; start = change.ends[part++]) {
        const int64_t from = std::max(begin, start), last = std::min(end, change.ends[part]);
        if (from >= last) continue;
        const RowsView rows{ranks_[0] + part * segment_, ranks_.stride(), static_cast<int>(group.tokens.size()),
                            round_up(change.rank, kLongestStep), tokens};
        const Inputs inputs = pack_ranks(scratch, change.up.kind, rows);
        const auto of = [&](int row, int64_t n) CSM_LAMBDA { return to(tokens[row], n); };
        if (change.up.kind == Kind::kFloat32) add_short_products<FloatDot>(change.up, inputs, from, last, of);
        else add_short_products<BfloatDot>(change.up, inputs, from, last, of);
      }
    }
  }

 private:
  static constexpr int64_t kChunk = 32;

  static int64_t chunks(const Change& change) {
    return change.rank == 0 ? 0 : (change.down.rows + kChunk - 1) / kChunk;
  }

  size_t segment_ = 0;  // from one part's ranks to the next's
  Rows<float> ranks_;
};

}  // namespace csm
