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
  // Sixteen rows at a time, two ranks of each at a time: a step of `down`'s kind. So a vector of sixteen sums grows rank
  // by rank; from whole rows, each of which is short, sums across vectors would take most of the time.
  const void* up;  // [out / 16, rank / 2] steps
  int64_t rank;    // even; 0 where the adapter leaves the matrix alone
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

// Adds the rows begin..end-1 of `up`, by the ranks of N tokens, to what to(n, row) points to.
template <class Dot, int N, class To>
CSM_INLINE void add_ups(const Change& change, const char* const* ranks, int64_t begin, int64_t end, To&& to) {
  constexpr size_t kTwo = 2 * input_bytes(Dot::kKind), kStep = step_size(Dot::kKind);
  const int64_t num_steps = change.rank / 2;
  for (int64_t first = begin / kLanes * kLanes; first < end; first += kLanes) {
    const typename Dot::Row steps(static_cast<const typename Dot::Weight*>(change.up) + first * change.rank);
    Lanes sums[N] = {};
    for (int64_t step = 0; step < num_steps; ++step) {
      unrolled<kParts>([&](auto part) CSM_LAMBDA {
        const auto w = Dot::template weight<part>(steps, step * kStep);
        unrolled<N>([&](auto n) CSM_LAMBDA {
          sums[n].part[part] = Dot::add(sums[n].part[part], w, Dot::spread(ranks[n] + step * kTwo));
        });
      });
    }
    const int64_t from = std::max(begin, first), last = std::min(end, first + kLanes);
    unrolled<N>([&](auto n) CSM_LAMBDA {
      float* sums_to = to(n, from);
      if (last - from == kLanes) {
        store(sums_to, load(sums_to) + sums[n]);
        return;
      }
      float each[kLanes];
      store(each, sums[n]);
      for (int64_t row = from; row < last; ++row) sums_to[row - from] += each[row - first];
    });
  }
}

// The ranks of every token, and how they come into being and are used.
class Ranks {
 public:
  void reserve(size_t max_tokens, size_t rank) { ranks_ = Rows<float>(max_tokens, kMaxParts * rank); }

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
        pack_number(change.down.kind, of(change, tokens[row], n), value);
      });
    });
  }

  // Asks for what `use` will read of memory, so that it comes while the base's product is computed. Always inlined, since
  // GCC drops calls of a function that only prefetches.
  CSM_INLINE void prefetch(const Adapted& adapted, size_t layer, Place place, int64_t begin, int64_t end) const {
    for (const AdapterTokens& group : adapted) {
      const Change& change = group.layers[layer].*place;
      if (change.rank == 0) continue;
      const int64_t each = row_bytes(change.down.kind, change.rank);
      const char* from = static_cast<const char*>(change.up);
      for (int64_t at = begin * each; at < end * each; at += 64) __builtin_prefetch(from + at, 0, 3);
    }
  }

  // Adds the rows begin..end-1 of `up` to what to(token, row of `up`) points to.
  template <class To>
  void use(const Adapted& adapted, size_t layer, Place place, int64_t begin, int64_t end, To&& to) const {
    for (const AdapterTokens& group : adapted) {
      const Change& change = group.layers[layer].*place;
      if (change.rank == 0) continue;
      if (change.down.kind == Kind::kFloat32) use_in<FloatDot>(change, group.tokens, begin, end, to);
      else use_in<BfloatDot>(change, group.tokens, begin, end, to);
    }
  }

 private:
  static constexpr int64_t kChunk = 32;

  static int64_t chunks(const Change& change) {
    return change.rank == 0 ? 0 : (change.down.rows + kChunk - 1) / kChunk;
  }

  // The place of a row of `down`.
  char* of(const Change& change, int token, int64_t row) const {
    return reinterpret_cast<char*>(ranks_[token]) + row * input_bytes(change.down.kind);
  }

  template <class Dot, class To>
  void use_in(const Change& change, const std::vector<int>& tokens, int64_t begin, int64_t end, To&& to) const {
    for (int64_t part = 0, start = 0; part < change.num_parts; start = change.ends[part++]) {
      const int64_t from = std::max(begin, start), last = std::min(end, change.ends[part]);
      if (from >= last) continue;
      const auto add = [&](auto num, size_t first) CSM_LAMBDA {
        const char* ranks[num];
        for (int n = 0; n < num; ++n) ranks[n] = of(change, tokens[first + n], part * change.rank);
        add_ups<Dot, num>(change, ranks, from, last,
                          [&](int n, int64_t row) CSM_LAMBDA { return to(tokens[first + n], row); });
      };
      size_t first = 0;
      for (; first + 2 <= tokens.size(); first += 2) add(std::integral_constant<int, 2>{}, first);
      if (first < tokens.size()) add(std::integral_constant<int, 1>{}, first);
    }
  }

  Rows<float> ranks_;
};

}  // namespace csm
