// A stack of Llama layers over a few new tokens of each row: model/layers.py's Transformer.
#pragma once

#include <cmath>
#include <vector>

#include "adapters.h"
#include "attention.h"
#include "buffers.h"
#include "team.h"

namespace csm {

// These structures are passed in from Python (native/frame.py), which declares the same fields.
struct LayerDescription {
  const void* attention_norm;
  const void* mlp_norm;
  Matrix qkv;
  Matrix out;
  Matrix gate_up;
  Matrix down;
};

struct StackDescription {
  const LayerDescription* layers;
  const void* norm;
  const void* cos;  // [num_positions, head_dim]
  const void* sin;
  int64_t num_layers;
  int64_t hidden_size;
  int64_t intermediate_size;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t num_positions;
  double rms_norm_eps;
};

// Keys and values [layers, 2, rows, kv heads, positions, head_dim]; strides in numbers, the last two are dense.
struct Memory {
  void* data;
  int64_t layer_stride;
  int64_t value_stride;  // from keys to values
  int64_t row_stride;
  int64_t head_stride;
  Kind kind;
};

inline void to_floats(Kind kind, const void* from, size_t count, float* to) {
  for (size_t i = 0; i < count; ++i)
    to[i] = kind == Kind::kFloat32 ? static_cast<const float*>(from)[i] : to_float(static_cast<const Bf16*>(from)[i]);
}

inline Rows<float> floats_of(Kind kind, const void* from, size_t num_rows, size_t size) {
  Rows<float> rows(num_rows, size);
  for (size_t row = 0; row < num_rows; ++row)
    to_floats(kind, static_cast<const char*>(from) + row * row_bytes(kind, size), size, rows[row]);
  return rows;
}

// Matrix rows that a thread takes at a time: enough to pay for the taking, few enough that none waits long.
constexpr int64_t kChunkBytes = 65536;

inline int64_t chunk_rows(int64_t bytes_per_row) {
  const size_t group = rows_of_run(bytes_per_row) > 2 ? kMaxGroup : kLanes;
  return static_cast<int64_t>(round_up(std::max<int64_t>(1, kChunkBytes / bytes_per_row), group));
}

inline int64_t chunk_rows(const Matrix& matrix) { return chunk_rows(row_bytes(matrix.kind, matrix.cols)); }

// Asks memory for the first of the rows from `row` on, where they do not follow what is read before them: a processor
// fetches ahead by itself only once it has seen a few lines in order.
inline void ask_for(const Matrix& matrix, int64_t row) {
  constexpr int64_t kBytes = 8192;
  const auto* first = static_cast<const char*>(matrix.values) + row * row_bytes(matrix.kind, matrix.cols);
  for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(first + i, 0, 2);
}

inline int64_t num_chunks(int64_t total, int64_t each) { return (total + each - 1) / each; }

class Stack {
 public:
  // `kind` is the model's own, of norms and tables.
  Stack(const StackDescription& description, Kind kind, const Memory& memory, size_t max_tokens)
      : shape_(description),
        kind_(kind),
        memory_(memory),
        layers_(description.layers, description.layers + description.num_layers),
        norm_(floats_of(kind, description.norm, 1, description.hidden_size)),
        cos_(floats_of(kind, description.cos, description.num_positions, description.head_dim)),
        sin_(floats_of(kind, description.sin, description.num_positions, description.head_dim)),
        residual_(max_tokens, description.hidden_size),
        qkv_(max_tokens, (description.num_heads + 2 * description.num_kv_heads) * description.head_dim),
        mixed_(max_tokens, description.num_heads * description.head_dim),
        inner_(max_tokens, description.intermediate_size),
        max_tokens_(max_tokens) {
    for (const LayerDescription& layer : layers_) {
      attention_norms_.push_back(floats_of(kind, layer.attention_norm, 1, description.hidden_size));
      mlp_norms_.push_back(floats_of(kind, layer.mlp_norm, 1, description.hidden_size));
    }
  }

  float* residual(int64_t token) { return residual_[token]; }
  int64_t hidden_size() const { return shape_.hidden_size; }

  size_t widest() const {
    return std::max({shape_.hidden_size, shape_.intermediate_size, shape_.num_heads * shape_.head_dim});
  }

  int64_t queries_per_head() const { return shape_.num_heads / shape_.num_kv_heads; }
  int64_t head_dim() const { return shape_.head_dim; }

  // The last of each row's tokens, normed, in the form that `kind` takes.
  Inputs pack_last(Scratch& scratch, Kind kind, int num_rows, int num_tokens) const {
    const RowsView last{residual_[num_tokens - 1], num_tokens * residual_.stride(), num_rows, residual_.padded()};
    const auto eps = static_cast<float>(shape_.rms_norm_eps);
    return pack_normed(scratch.packed, scratch.line[0], kind, last, shape_.hidden_size, norm_[0], eps);
  }

  // Token t of a row, residual(row * num_tokens + t), stands at position_of(row) + t.
  template <class PositionOf>
  void forward(Team::Member& member, Scratch& scratch, int num_rows, int num_tokens, const Adapted& adapted,
               PositionOf&& position_of) {
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      const LayerDescription& weights = layers_[layer];
      project(member, scratch, weights.qkv, num_rows * num_tokens, {adapted, layer, &LayerChanges::qkv},
              attention_norms_[layer]);
      member.stage(num_rows * shape_.num_kv_heads, [&](int64_t chunk) {
        const int64_t row = chunk / shape_.num_kv_heads, head = chunk % shape_.num_kv_heads;
        for (int token = 0; token < num_tokens; ++token)
          attend_at(scratch, layer, row, head, row * num_tokens + token, position_of(row) + token);
      });
      add_product(member, scratch, weights.out, num_rows * num_tokens, {adapted, layer, &LayerChanges::out}, mixed_);
      gate(member, scratch, weights.gate_up, num_rows * num_tokens, {adapted, layer, &LayerChanges::gate_up},
           mlp_norms_[layer]);
      add_product(member, scratch, weights.down, num_rows * num_tokens, {adapted, layer, &LayerChanges::down}, inner_);
    }
  }

  void reserve_ranks(size_t rank) { ranks_.reserve(max_tokens_, rank); }

 private:
  RowsView view(const Rows<float>& rows, int num_rows) const {
    return {rows[0], rows.stride(), num_rows, rows.padded()};
  }

  // What packs all tokens' normed residual for a product.
  auto normed_residual(int num_tokens, const Rows<float>& norm) const {
    return [this, num_tokens, &norm](const InputsRoom& room, float* line, Kind kind) {
      const auto eps = static_cast<float>(shape_.rms_norm_eps);
      return pack_normed(room, line, kind, view(residual_, num_tokens), shape_.hidden_size, norm[0], eps);
    };
  }

  // One stage: add(inputs, begin, end, use) for chunks of the rows of a matrix of some kind. Before them come the ranks of
  // rows with adapters, for which use(begin, end, target) waits.
  template <class Pack, class Add>
  void product(Team::Member& member, Scratch& scratch, Kind kind, int64_t num_rows, int64_t each, const Changes& changes,
               Pack&& pack_inputs, Add&& add) {
    const int64_t num_ranks = Ranks::num_chunks(changes);
    Inputs inputs, for_ranks;
    const auto prepare = [&] {
      for_ranks = inputs = pack_inputs(scratch.packed, scratch.line[0], kind);
      // The matrix is quantized, adapters are not.
      if (num_ranks > 0 && kind != kind_) for_ranks = pack_inputs(scratch.packed_for_ranks, scratch.line[0], kind_);
    };
    const auto use = [&](int64_t begin, int64_t end, const Target& to) {
      if (num_ranks == 0) return;
      member.wait_for_announced(num_ranks);
      ranks_.use(changes, begin, end, to);
    };
    const auto take = [&](int64_t chunk) {
      if (chunk < num_ranks) {
        ranks_.make(changes, chunk, for_ranks);
        member.announce();
        return;
      }
      const int64_t begin = (chunk - num_ranks) * each;
      add(inputs, begin, std::min(begin + each, num_rows), use);
    };
    member.stage(num_ranks + num_chunks(num_rows, each), prepare, take, num_ranks);
  }

  void project(Team::Member& member, Scratch& scratch, const Matrix& qkv, int num_tokens, const Changes& changes,
               const Rows<float>& norm) {
    product(member, scratch, qkv.kind, qkv.rows, chunk_rows(qkv), changes, normed_residual(num_tokens, norm),
            [&](const Inputs& inputs, int64_t begin, int64_t end, auto&& use) {
              ranks_.prefetch(changes, begin, end);
              multiply(qkv, inputs, begin, end, [&](int64_t row, int64_t n, float value) { qkv_[row][n] = value; });
              use(begin, end, Target{qkv_[0], qkv_.stride(), 0});
            });
  }

  void add_product(Team::Member& member, Scratch& scratch, const Matrix& matrix, int num_tokens, const Changes& changes,
                   const Rows<float>& from) {
    const auto pack_from = [&](const InputsRoom& room, float*, Kind kind) {
      return pack(room, kind, view(from, num_tokens));
    };
    product(member, scratch, matrix.kind, matrix.rows, chunk_rows(matrix), changes, pack_from,
            [&](const Inputs& inputs, int64_t begin, int64_t end, auto&& use) {
              ranks_.prefetch(changes, begin, end);
              multiply(matrix, inputs, begin, end,
                       [&](int64_t row, int64_t n, float value) { residual_[row][n] += value; });
              use(begin, end, Target{residual_[0], residual_.stride(), 0});
            });
  }

  // SwiGLU: silu(gate) * up, of which the matrix holds first the one, then the other.
  void gate(Team::Member& member, Scratch& scratch, const Matrix& gate_up, int num_tokens, const Changes& changes,
            const Rows<float>& norm) {
    const int64_t total = gate_up.rows / 2;
    product(member, scratch, gate_up.kind, total, chunk_rows(gate_up), changes, normed_residual(num_tokens, norm),
            [&](const Inputs& inputs, int64_t begin, int64_t end, auto&& use) {
              for (int64_t from : {begin, total + begin}) ranks_.prefetch(changes, from, from + end - begin);
              ask_for(gate_up, total + begin);
              multiply(gate_up, inputs, begin, end,
                       [&](int64_t row, int64_t n, float value) { inner_[row][n] = value; });
              if (end < total) ask_for(gate_up, end);
              multiply(gate_up, inputs, total + begin, total + end,
                       [&](int64_t row, int64_t n, float value) { scratch.up[row][n - total - begin] = value; });
              use(begin, end, Target{inner_[0], inner_.stride(), 0});
              use(total + begin, total + end, Target{scratch.up[0], scratch.up.stride(), total + begin});
              for (int row = 0; row < num_tokens; ++row) {
                for (int64_t i = begin; i < end; i += kLanes) {
                  // What lies past the end are zeros, and stays such; chunks begin at whole vectors.
                  const Lanes x = load(inner_[row] + i);
                  const Lanes up = load_first(scratch.up[row] + i - begin, end - i);
                  store(inner_[row] + i, x / (exp(-x) + 1.0f) * up);
                }
              }
            });
  }

  // One token's query heads that share key head `head`: keep its key and value, then read all up to `position`.
  void attend_at(Scratch& scratch, size_t layer, int64_t row, int64_t head, int64_t token, int64_t position) {
    if (memory_.kind == Kind::kFloat32) attend_in<float>(scratch, layer, row, head, token, position);
    else attend_in<Bf16>(scratch, layer, row, head, token, position);
  }

  template <class T>
  void attend_in(Scratch& scratch, size_t layer, int64_t row, int64_t head, int64_t token, int64_t position) {
    const int64_t dim = shape_.head_dim, num_queries = queries_per_head();
    const float* projected = qkv_[token];
    T* keys = static_cast<T*>(memory_.data) + layer * memory_.layer_stride + row * memory_.row_stride +
              head * memory_.head_stride;
    T* values = keys + memory_.value_stride;
    const float* new_key = projected + (shape_.num_heads + head) * dim;
    const float* new_value = new_key + shape_.num_kv_heads * dim;
    float* turned = scratch.line[0];
    turn(new_key, position, 1, turned);
    for (int64_t d = 0; d < dim; ++d) {
      assign(keys[position * dim + d], turned[d]);
      assign(values[position * dim + d], new_value[d]);
    }
    const float scale = 1 / std::sqrt(static_cast<float>(dim));
    for (int64_t q = 0; q < num_queries; ++q)
      turn(projected + (head * num_queries + q) * dim, position, scale, scratch.queries[q]);
    attend(scratch.queries[0], scratch.queries.stride(), static_cast<int>(num_queries), keys, values, dim, position + 1,
           scratch.scores[0], scratch.scores.stride(), mixed_[token] + head * num_queries * dim);
  }

  // The rotary embedding: halves are rotated against each other, and the table's sines carry the sign.
  void turn(const float* from, int64_t position, float scale, float* to) const {
    const int64_t dim = shape_.head_dim, half = dim / 2;
    const float *cos = cos_[position], *sin = sin_[position];
    for (int64_t d = 0; d < half; ++d) {
      to[d] = (from[d] * cos[d] + from[d + half] * sin[d]) * scale;
      to[d + half] = (from[d + half] * cos[d + half] + from[d] * sin[d + half]) * scale;
    }
  }

  StackDescription shape_;
  Kind kind_;
  Memory memory_;
  std::vector<LayerDescription> layers_;
  Rows<float> norm_, cos_, sin_;
  std::vector<Rows<float>> attention_norms_, mlp_norms_;
  Rows<float> residual_, qkv_, mixed_, inner_;
  size_t max_tokens_;
  Ranks ranks_;
};

}  // namespace csm
