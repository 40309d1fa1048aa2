// The decoder's transformer: a few positions of every frame, each stream with its own keys and values.
#pragma once

#include <vector>

#include "../../../model/native/kernels/team.h"
#include "attention.h"
#include "matrix.h"

namespace mimi {

using Member = csm::Team::Member;

// Results of a chunk: enough to pay for taking it, and weights that are read once for all of its rows.
inline int64_t rows_a_chunk(const Matrix& matrix) {
  constexpr int64_t kChunkProducts = int64_t{1} << 20, kFewest = 48;
  const int64_t width = std::min<int64_t>(kPanelVectors * kLanes, matrix.rows());
  return std::max(kFewest, kChunkProducts / (matrix.cols() * width) / kFewest * kFewest);
}

// `matrix` times each row of what the `num_frames` hold from `first` on: a row begins where the window's history lets
// it, and is as long as the matrix is wide. make_take(row) gives what takes the results from that row on.
template <class MakeTake>
void product(Member& member, const Matrix& matrix, const Window& in, int64_t first, int64_t num_frames,
             MakeTake&& make_take) {
  const int64_t total = num_frames * in.rows(), each = rows_a_chunk(matrix), pieces = (total + each - 1) / each;
  member.stage(matrix.num_panels() * pieces, [&](int64_t chunk) {
    const int64_t begin = chunk % pieces * each, end = std::min(begin + each, total);
    Walk inputs(in, first, begin, in.rows(), in.channels(), -in.history_size());
    multiply(matrix, chunk / pieces, end - begin, [&] { return inputs.next(); }, make_take(begin));
  });
}

struct LayerDescription {
  const float *attention_norm, *attention_norm_bias;
  MatrixDescription qkv, out;
  const float *mlp_norm, *mlp_norm_bias;
  MatrixDescription up, down;
};

struct TransformerDescription {
  const LayerDescription* layers;
  const float* frequencies;  // [head_dim / 2]
  int64_t num_layers;
  int64_t width;
  int64_t num_heads;
  int64_t context;
};

class Transformer {
 private:
  static Walk walk(const Window& window, int64_t row) {
    return Walk(window, 0, row, window.rows(), window.channels());
  }

  auto put(const Window& window, int64_t row) const {
    return [to = walk(window, row)](const float* sums, int64_t column, int64_t count) mutable {
      std::copy_n(sums, count, to.next() + column);
    };
  }

  auto add(int64_t row) const {
    return [to = walk(stream_, row)](const float* sums, int64_t column, int64_t count) mutable {
      float* place = to.next() + column;
      for (int64_t i = 0; i < count; ++i) place[i] += sums[i];
    };
  }

 public:
  // Works on the rows of `stream`, in place: `stream.rows()` positions a frame.
  Transformer(const TransformerDescription& from, const Pass* pass, const Window& stream)
      : pass_(pass),
        stream_(stream),
        num_heads_(from.num_heads),
        head_{from.width / from.num_heads, from.context},
        frequencies_(from.frequencies, from.frequencies + head_.dim / 2),
        normed_(pass, stream.rows(), from.width),
        qkv_(pass, stream.rows(), 3 * from.width),
        mixed_(pass, stream.rows(), from.width),
        inner_(pass, stream.rows(), from.num_layers ? from.layers[0].up.rows : 1),
        turns_(pass, stream.rows(), head_.dim),
        scores_(num_heads_ * (head_.scores_size() + head_.dim * 2)) {
    for (int64_t i = 0; i < from.num_layers; ++i) layers_.emplace_back(from.layers[i], from.width);
  }

  int64_t state_size() const { return static_cast<int64_t>(layers_.size()) * num_heads_ * head_.size(); }

  // The rotations of a frame's positions: cosine and sine, in turn.
  void turn(int64_t frame) const {
    for (int64_t row = 0; row < stream_.rows(); ++row) {
      float* to = turns_.at(frame) + row * head_.dim;
      const auto position = static_cast<float>(pass_->position[frame] * stream_.rows() + row);
      for (int64_t i = 0; i < head_.dim / 2; ++i) {
        to[2 * i] = std::cos(frequencies_[i] * position);
        to[2 * i + 1] = std::sin(frequencies_[i] * position);
      }
    }
  }

  // state_of(slot) is `state_size` numbers that are the slot's own.
  template <class StateOf>
  void forward(Member& member, int64_t num_frames, StateOf&& state_of) {
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      norm(member, num_frames, layer.attention_norm);
      product(member, layer.qkv, normed_, 0, num_frames, [&](int64_t row) { return put(qkv_, row); });
      member.stage(num_heads_, [&](int64_t head) {
        const int64_t offset = (static_cast<int64_t>(i) * num_heads_ + head) * head_.size();
        for (int64_t frame = 0; frame < num_frames; ++frame)
          attend(head, frame, Head(head_, state_of(pass_->slot[frame]) + offset));
      });
      product(member, layer.out, mixed_, 0, num_frames, [&](int64_t row) { return add(row); });
      norm(member, num_frames, layer.mlp_norm);
      product(member, layer.up, normed_, 0, num_frames, [&](int64_t row) {
        return [to = walk(inner_, row)](const float* sums, int64_t column, int64_t count) mutable {
          map(sums, to.next() + column, count, [](Vector x, int64_t) { return gelu(x); });
        };
      });
      product(member, layer.down, inner_, 0, num_frames, [&](int64_t row) { return add(row); });
    }
  }

 private:
  struct Norm {
    std::vector<float> weight, bias;
  };
  struct Layer {
    Layer(const LayerDescription& from, int64_t width)
        : attention_norm{{from.attention_norm, from.attention_norm + width},
                         {from.attention_norm_bias, from.attention_norm_bias + width}},
          mlp_norm{{from.mlp_norm, from.mlp_norm + width}, {from.mlp_norm_bias, from.mlp_norm_bias + width}},
          qkv(from.qkv),
          out(from.out),
          up(from.up),
          down(from.down) {}
    Norm attention_norm, mlp_norm;
    Matrix qkv, out, up, down;
  };

  void norm(Member& member, int64_t num_frames, const Norm& norm) {
    member.stage(num_frames, [&](int64_t frame) {
      const int64_t width = stream_.channels();
      for (int64_t row = 0; row < stream_.rows(); ++row)
        layer_norm(stream_.at(frame) + row * width, norm.weight.data(), norm.bias.data(), width,
                   normed_.at(frame) + row * width);
    });
  }

  // As moshi does, all keys of a frame are kept before its first position looks back, which thus sees fewer.
  void attend(int64_t head, int64_t frame, const Head& memory) {
    const int64_t rows = stream_.rows(), dim = head_.dim, width = num_heads_ * dim;
    const int64_t position = pass_->position[frame] * rows;
    float* scores = scores_.data() + head * (head_.scores_size() + 2 * dim);
    float* turned = scores + head_.scores_size();
    for (int64_t row = 0; row < rows; ++row) {
      const float* key = qkv_.at(frame) + row * 3 * width + width + head * dim;
      rotate(key, turns_.at(frame) + row * dim, 1, turned);
      memory.keep(position + row, turned, key + width);
    }
    const float scale = 1 / std::sqrt(static_cast<float>(dim));
    for (int64_t row = 0; row < rows; ++row) {
      rotate(qkv_.at(frame) + row * 3 * width + head * dim, turns_.at(frame) + row * dim, scale, turned);
      memory.attend(turned, std::max<int64_t>(0, position + rows - head_.context), position + row + 1, scores,
                    mixed_.at(frame) + row * width + head * dim);
    }
  }

  // Pairs of neighbours are rotated against each other.
  void rotate(const float* from, const float* turn, float scale, float* to) const {
    for (int64_t d = 0; d < head_.dim; d += 2) {
      to[d] = (from[d] * turn[d] - from[d + 1] * turn[d + 1]) * scale;
      to[d + 1] = (from[d] * turn[d + 1] + from[d + 1] * turn[d]) * scale;
    }
  }

  const Pass* pass_;
  const Window& stream_;
  int64_t num_heads_;
  HeadShape head_;
  std::vector<float> frequencies_;
  std::vector<Layer> layers_;
  Window normed_, qkv_, mixed_, inner_, turns_;
  Memory scores_;
};

}  // namespace mimi
