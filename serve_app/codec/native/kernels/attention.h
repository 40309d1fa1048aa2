// Attention over the last positions of one stream, for one head.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "functions.h"
#include "memory.h"

namespace mimi {

// Keys and values of one head lie in blocks of kLanes positions that are used in turn. Keys lie across, so that a
// block's scores are one vector; values are filled up to whole vectors.
struct HeadShape {
  int64_t dim;
  int64_t context;

  int64_t num_blocks() const { return (context + kLanes - 1) / kLanes + 1; }
  int64_t padded_dim() const { return (dim + kLanes - 1) / kLanes * kLanes; }
  int64_t keys_size() const { return num_blocks() * kLanes * dim; }
  int64_t size() const { return keys_size() + num_blocks() * kLanes * padded_dim(); }
  int64_t scores_size() const { return (num_blocks() + 1) * kLanes; }
};

class Head {
 public:
  Head(const HeadShape& shape, float* data) : shape_(shape), keys_(data), values_(data + shape.keys_size()) {}

  void keep(int64_t position, const float* key, const float* value) const {
    const int64_t place = position % (shape_.num_blocks() * kLanes);
    float* across = keys_ + place / kLanes * kLanes * shape_.dim + place % kLanes;
    for (int64_t d = 0; d < shape_.dim; ++d) across[d * kLanes] = key[d];
    std::copy_n(value, shape_.dim, values_ + place * shape_.padded_dim());
  }

  // Over the positions begin..end-1; `query` [dim] is scaled. Sums go by position, not by place.
  void attend(const float* query, int64_t begin, int64_t end, float* scores, float* out) const {
    const int64_t first = begin / kLanes, last = (end - 1) / kLanes;
    Vector most = broadcast(-std::numeric_limits<float>::infinity());
    for (int64_t block = first; block <= last; ++block) {
      const Vector part = score(query, block, begin, end);
      store(scores + (block - first) * kLanes, part);
      most = select(part > most, part, most);
    }
    const float largest = largest_of(most);
    Vector total{};
    for (int64_t block = 0; block <= last - first; ++block) {
      const Vector part = exp(load(scores + block * kLanes) - largest);
      store(scores + block * kLanes, part);
      total = total + part;
    }
    const float factor = 1 / sum(total);
    for (int64_t d = 0; d < shape_.dim; d += kColumns * kLanes)
      mix(scores - first * kLanes, begin, end, d, factor, out);
  }

 private:
  static constexpr int kColumns = 4;

  static float largest_of(Vector v) {
    float most = v[0];
    for (int i = 1; i < kLanes; ++i) most = std::max(most, v[i]);
    return most;
  }

  Vector score(const float* query, int64_t block, int64_t begin, int64_t end) const {
    const float* keys = keys_ + block % shape_.num_blocks() * kLanes * shape_.dim;
    Vector even{}, odd{};
    for (int64_t d = 0; d < shape_.dim; d += 2) {
      even = even + load(keys + d * kLanes) * query[d];
      odd = odd + load(keys + (d + 1) * kLanes) * query[d + 1];
    }
    float part[kLanes];
    store(part, even + odd);
    // What lies outside is old, or was never written.
    for (int64_t i = 0; i < begin - block * kLanes; ++i) part[i] = -std::numeric_limits<float>::infinity();
    for (int64_t i = end - block * kLanes; i < kLanes; ++i) part[i] = -std::numeric_limits<float>::infinity();
    return load(part);
  }

  // Up to four vectors of the result from column d on; scores[position].
  void mix(const float* scores, int64_t begin, int64_t end, int64_t d, float factor, float* out) const {
    const int64_t stride = shape_.padded_dim(), num_places = shape_.num_blocks() * kLanes;
    const int num = static_cast<int>(std::min<int64_t>(kColumns, (stride - d) / kLanes));
    Vector mixed[kColumns] = {};
    int64_t place = begin % num_places;
    for (int64_t position = begin; position < end; ++position) {
      const float* value = values_ + place * stride + d;
      // A constant where it can be, so that the sums stay in registers.
      if (num == kColumns)
        for (int c = 0; c < kColumns; ++c) mixed[c] = mixed[c] + load(value + c * kLanes) * scores[position];
      else
        for (int c = 0; c < num; ++c) mixed[c] = mixed[c] + load(value + c * kLanes) * scores[position];
      if (++place == num_places) place = 0;
    }
    for (int c = 0; c < num; ++c) {
      const int64_t left = shape_.dim - d - c * kLanes;
      if (left >= kLanes) store(out + d + c * kLanes, mixed[c] * factor);
      else store_first(out + d + c * kLanes, mixed[c] * factor, left);
    }
  }

  HeadShape shape_;
  float *keys_, *values_;
};

}  // namespace mimi
