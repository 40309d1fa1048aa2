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

  // Calls write(token, row of `up`, what is added) for the rows begin..end-1.
  template <class Write>
  void use(Scratch& scratch, const Adapted& adapted, size_t layer, Place place, int64_t begin, int64_t end,
           Write&& write) const {
    for (const AdapterTokens& group : adapted) {
      const Change& change = group.layers[layer].*place;
      const int* tokens = group.tokens.data();
      for (int64_t part = 0, start = 0; change.rank != 0 && part < change.num_parts; start = change.ends[part++]) {
        const int64_t from = std::max(begin, start), to = std::min(end, change.ends[part]);
        if (from >= to) continue;
        const RowsView rows{ranks_[0] + part * segment_, ranks_.stride(), static_cast<int>(group.tokens.size()),
                            round_up(change.rank, kLongestStep), tokens};
        const Inputs inputs = pack_ranks(scratch, change.up.kind, rows);
        multiply(change.up, inputs, from, to,
                 [&](int64_t row, int64_t n, float value) { write(tokens[row], n, value); });
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
