// Low-rank changes of some rows' products: model/adapters/low_rank.py's Change. `down` makes the ranks of a row's inputs,
// and what `up` makes of those is added where the base's product is written.
#pragma once

#include <vector>

#include "buffers.h"

namespace csm {

constexpr int kMaxParts = 3;
// Tokens that meet a matrix at once: their sums, two vectors of each part, take half of the registers.
constexpr int kMaxTokens = std::max(1, kRegisters / 4 / kParts);

// These structures are passed in from Python (native/adapters.py), which declares the same fields.
//
// Of both matrices sixteen rows lie side by side, and two columns of each are a step of `kind`. So a vector of sixteen sums
// grows column by column: from whole rows, many of which are short, sums across vectors would take most of the time.
struct Change {
  const void* down;  // [parts * rank / 16, in / 2] steps, zeros behind the last row and the last column
  const void* up;    // [out / 16, rank / 2] steps
  int64_t cols;      // of `down`, a multiple of the 32 inputs that are packed as one step
  int64_t rank;      // even; 0 where the adapter leaves the matrix alone
  int64_t num_parts;
  int64_t ends[kMaxParts];  // the row of `up` after each part's last
  Kind kind;  // float32 or bfloat16
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

// What adapters change of one product.
struct Changes {
  const Adapted& adapted;
  size_t layer;
  Place place;

  const Change& of(const AdapterTokens& group) const { return group.layers[layer].*place; }
};

// Where a product is written: row n of the matrix for token t.
struct Target {
  float* data;
  size_t stride;  // from token to token
  int64_t first;  // the row of the matrix that `data` begins with

  float* at(int token, int64_t row) const { return data + token * stride + (row - first); }
};

// Sixteen sums for each of N tokens. Even and odd columns' pairs have sums of their own, so that more products are under
// way; in this order whatever N is.
template <class Dot, int N>
struct SixteenRows {
  Lanes sums[2][N] = {};

  // Adds pair `Parity` of two. input(n) is the same two numbers of token n's inputs in every place.
  template <int Parity, class Input>
  CSM_INLINE void add(const typename Dot::Row& steps, int64_t pair, Input&& input) {
    unrolled<kParts>([&](auto part) CSM_LAMBDA {
      const auto w = Dot::template weight<part>(steps, pair * step_size(Dot::kKind));
      unrolled<N>([&](auto n) CSM_LAMBDA {
        FloatVector& sum = sums[Parity][n].part[part];
        sum = Dot::add(sum, w, input(n));
      });
    });
  }

  CSM_INLINE Lanes total(int n) const { return sums[0][n] + sums[1][n]; }
};

// Sixteen rows of `down` from `first` on, times the inputs of N tokens: written to ranks[n], as `up` meets them.
template <class Dot, int N>
void make_ranks(const Change& change, int64_t first, const Inputs& inputs, const int* tokens, char* const* ranks) {
  constexpr size_t kStep = step_size(Dot::kKind), kStepBytes = kStep * input_bytes(Dot::kKind);
  const typename Dot::Row steps(static_cast<const typename Dot::Weight*>(change.down) + first * change.cols);
  const char* x[N];
  size_t stride[N];
  for (int n = 0; n < N; ++n) {
    x[n] = inputs.place(tokens[n], kStepBytes);
    stride[n] = inputs.stride(tokens[n], kStepBytes);
  }
  SixteenRows<Dot, N> rows;
  for (int64_t pair = 0; pair < change.cols / 2; pair += kStep / 2) {
    unrolled<kStep / 2>([&](auto i) CSM_LAMBDA {
      rows.template add<i % 2>(steps, pair + i, [&](auto n) CSM_LAMBDA { return Dot::template spread_of<i>(x[n]); });
    });
    for (int n = 0; n < N; ++n) x[n] += stride[n];
  }
  for (int n = 0; n < N; ++n) Dot::pack_dense(ranks[n], rows.total(n));
}

// Adds the rows begin..end-1 of `up`, by the ranks of N tokens.
template <class Dot, int N>
void add_ups(const Change& change, const char* const* ranks, const int* tokens, int64_t begin, int64_t end,
             const Target& to) {
  constexpr size_t kTwo = 2 * input_bytes(Dot::kKind);
  const int64_t num_pairs = change.rank / 2;
  for (int64_t first = begin / kLanes * kLanes; first < end; first += kLanes) {
    const typename Dot::Row steps(static_cast<const typename Dot::Weight*>(change.up) + first * change.rank);
    SixteenRows<Dot, N> rows;
    const auto add = [&](auto parity, int64_t pair) CSM_LAMBDA {
      rows.template add<parity>(steps, pair, [&](auto n) CSM_LAMBDA { return Dot::spread(ranks[n] + pair * kTwo); });
    };
    int64_t pair = 0;
    for (; pair + 2 <= num_pairs; pair += 2) unrolled<2>([&](auto i) CSM_LAMBDA { add(i, pair + i); });
    if (pair < num_pairs) add(std::integral_constant<int, 0>{}, pair);
    const int64_t from = std::max(begin, first), last = std::min(end, first + kLanes);
    for (int n = 0; n < N; ++n) {
      float* sums_to = to.at(tokens[n], from);
      if (last - from == kLanes) {
        store(sums_to, load(sums_to) + rows.total(n));
        continue;
      }
      float each[kLanes];
      store(each, rows.total(n));
      for (int64_t row = from; row < last; ++row) sums_to[row - from] += each[row - first];
    }
  }
}

// f(dot, how many, which is first) for as many tokens at a time as meet a matrix at once.
template <int Most = kMaxTokens, class F>
CSM_INLINE void in_groups(Kind kind, int count, F&& f, int first = 0) {
  for (; first + Most <= count; first += Most) {
    if (kind == Kind::kFloat32) f(FloatDot{}, std::integral_constant<int, Most>{}, first);
    else f(BfloatDot{}, std::integral_constant<int, Most>{}, first);
  }
  if constexpr (Most > 1) in_groups<Most / 2>(kind, count, f, first);
}

// The ranks of every token, and how they come into being and are used.
class Ranks {
 public:
  void reserve(size_t max_tokens, size_t rank) { ranks_ = Rows<float>(max_tokens, round_up(kMaxParts * rank, kLanes)); }

  // Into how many parts the work of `make` falls.
  static int64_t num_chunks(const Changes& changes) {
    int64_t total = 0;
    for (const AdapterTokens& group : changes.adapted) total += num_chunks(changes.of(group));
    return total;
  }

  // The ranks of a chunk, from the inputs of all tokens.
  void make(const Changes& changes, int64_t chunk, const Inputs& inputs) const {
    const AdapterTokens* group = changes.adapted.data();
    for (; chunk >= num_chunks(changes.of(*group)); ++group) chunk -= num_chunks(changes.of(*group));
    const Change& change = changes.of(*group);
    const int* tokens = group->tokens.data();
    const int64_t first = chunk * kLanes;
    in_groups(change.kind, static_cast<int>(group->tokens.size()), [&](auto dot, auto num, int at) {
      char* ranks[num];
      for (int n = 0; n < num; ++n) ranks[n] = of(change, tokens[at + n], first);
      make_ranks<decltype(dot), num>(change, first, inputs, tokens + at, ranks);
    });
  }

  // Asks for what `use` will read of memory, so that it comes while the base's product is computed. Always inlined, since
  // GCC drops calls of a function that only prefetches.
  CSM_INLINE void prefetch(const Changes& changes, int64_t begin, int64_t end) const {
    for (const AdapterTokens& group : changes.adapted) {
      const Change& change = changes.of(group);
      if (change.rank == 0) continue;
      const int64_t each = row_bytes(change.kind, change.rank);
      const char* from = static_cast<const char*>(change.up);
      for (int64_t at = begin * each; at < end * each; at += 64) __builtin_prefetch(from + at, 0, 3);
    }
  }

  // Adds the rows begin..end-1 of `up`.
  void use(const Changes& changes, int64_t begin, int64_t end, const Target& to) const {
    for (const AdapterTokens& group : changes.adapted) {
      const Change& change = changes.of(group);
      if (change.rank == 0) continue;
      for (int64_t part = 0, start = 0; part < change.num_parts; start = change.ends[part++]) {
        const int64_t from = std::max(begin, start), last = std::min(end, change.ends[part]);
        if (from < last) use_part(change, group.tokens, part, from, last, to);
      }
    }
  }

 private:
  static int64_t num_chunks(const Change& change) {
    return static_cast<int64_t>(round_up(change.num_parts * change.rank, kLanes)) / kLanes;
  }

  // The place of a row of `down`.
  char* of(const Change& change, int token, int64_t row) const {
    return reinterpret_cast<char*>(ranks_[token]) + row * input_bytes(change.kind);
  }

  void use_part(const Change& change, const std::vector<int>& tokens, int64_t part, int64_t begin, int64_t end,
                const Target& to) const {
    in_groups(change.kind, static_cast<int>(tokens.size()), [&](auto dot, auto num, int at) {
      const char* ranks[num];
      for (int n = 0; n < num; ++n) ranks[n] = of(change, tokens[at + n], part * change.rank);
      add_ups<decltype(dot), num>(change, ranks, tokens.data() + at, begin, end, to);
    });
  }

  Rows<float> ranks_;
};

}  // namespace csm
