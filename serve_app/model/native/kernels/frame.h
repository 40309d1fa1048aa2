// One frame of every row: a backbone step, then the codes, each drawn from what the depth decoder makes of the others.
//
// Rows are independent in every number: none depends on its mates, nor on the number of threads.
#pragma once

#include "pages.h"
#include "sampling.h"
#include "stack.h"

namespace csm {

struct FrameDescription {
  StackDescription backbone;
  StackDescription depth;
  Memory memory;  // the backbone's
  int64_t num_positions;  // of that memory
  Matrix first_head;
  Matrix projection;
  const void* depth_heads;      // [codebooks - 1, vocab, depth hidden]
  const void* audio_embedding;  // [codebooks * vocab, hidden]
  const void* depth_embedding;  // [codebooks * vocab, depth hidden]
  void* next_input;             // [rows, hidden]
  int64_t* position;            // [rows]
  RowSampling sampling;
  int64_t max_rows;
  int64_t num_codebooks;
  int64_t vocab_size;
  int64_t codebook_size;
  int64_t kind;  // a Kind, of everything that is not quantized
};

class Frame {
 public:
  Frame(const FrameDescription& model, int num_threads)
      : model_(model),
        kind_(static_cast<Kind>(model.kind)),
        depth_memory_(1, 2 * depth_layer_size() * model.depth.num_layers),
        backbone_(model.backbone, kind_, model.memory, model.max_rows),
        depth_(model.depth, kind_, depth_memory(), 2 * model.max_rows),
        logits_(model.max_rows, model.codebook_size),
        codes_(model.max_rows * model.num_codebooks),
        workers_(make_workers(num_threads)),
        team_(static_cast<int>(workers_.size()), [this](auto& member, int num_rows) { compute(member, num_rows); }) {
    for (const Matrix& matrix : matrices()) use_huge_pages(matrix.values, matrix_bytes(matrix));
  }

  // From the next step on, row n has adapters[n], or none where that is null. The descriptions must outlive that.
  void set_adapters(int num_rows, const AdapterDescription* const* adapters) {
    team_.between_frames([&] {
      for (Adapted* adapted : {&adapted_, &first_adapted_, &depth_adapted_}) adapted->clear();
      std::vector<const AdapterDescription*> known;
      for (int row = 0; row < num_rows; ++row) {
        if (adapters[row] == nullptr) continue;
        const auto found = std::find(known.begin(), known.end(), adapters[row]);
        const size_t group = found - known.begin();
        if (found == known.end()) add_group(*adapters[row]), known.push_back(adapters[row]);
        adapted_[group].tokens.push_back(row);
        depth_adapted_[group].tokens.push_back(row);
        for (int token : {2 * row, 2 * row + 1}) first_adapted_[group].tokens.push_back(token);
      }
    });
  }

  // Draws codes [num_rows, codebooks] and moves the state of the first rows on.
  void step(int num_rows, int64_t* codes) {
    team_.run(num_rows);
    std::copy_n(codes_.begin(), num_rows * model_.num_codebooks, codes);
  }

 private:
  struct Worker {
    Scratch scratch;
    Sampler sampler;
  };

  void add_group(const AdapterDescription& adapter) {
    adapted_.push_back({adapter.backbone, {}});
    first_adapted_.push_back({adapter.depth, {}});
    depth_adapted_.push_back({adapter.depth, {}});
    if (adapter.rank <= rank_room_) return;
    rank_room_ = adapter.rank;
    backbone_.reserve_ranks(rank_room_);
    depth_.reserve_ranks(rank_room_);
  }

  void compute(Team::Member& member, int num_rows) {
    Worker& worker = workers_[member.index()];
    member.stage(num_rows, [&](int64_t row) {
      to_floats(kind_, row_of(model_.next_input, row, backbone_.hidden_size()), backbone_.hidden_size(),
                backbone_.residual(row));
    });
    backbone_.forward(member, worker.scratch, num_rows, 1, adapted_, [&](int64_t row) { return position_of(row); });
    leave_backbone(member, worker.scratch, num_rows);
    draw(member, worker.sampler, num_rows, 0);
    for (int codebook = 1; codebook < model_.num_codebooks; ++codebook) {
      // The first pass takes two tokens: the backbone's state and the first code.
      const int num_tokens = codebook == 1 ? 2 : 1, position = codebook == 1 ? 0 : codebook;
      const Adapted& adapted = codebook == 1 ? first_adapted_ : depth_adapted_;
      depth_.forward(member, worker.scratch, num_rows, num_tokens, adapted, [&](int64_t) { return position; });
      const Matrix head = depth_head(codebook);
      products(
          member, head, [&] { return depth_.pack_last(worker.scratch, head.kind, num_rows, num_tokens); },
          [&](int64_t row, int64_t n, float value) { logits_[row][n] = value; });
      draw(member, worker.sampler, num_rows, codebook);
    }
  }

  // The state to logits of the first code, and to the depth decoder's first token.
  void leave_backbone(Team::Member& member, Scratch& scratch, int num_rows) {
    const auto pack_state = [&] { return backbone_.pack_last(scratch, kind_, num_rows, 1); };
    products(member, model_.first_head, pack_state,
             [&](int64_t row, int64_t n, float value) { logits_[row][n] = value; });
    products(member, model_.projection, pack_state,
             [&](int64_t row, int64_t n, float value) { depth_.residual(2 * row)[n] = value; });
  }

  template <class Pack, class Write>
  void products(Team::Member& member, const Matrix& matrix, Pack&& pack_inputs, Write&& write) {
    const int64_t each = chunk_rows(matrix);
    Inputs inputs;
    member.stage(
        num_chunks(matrix.rows, each), [&] { inputs = pack_inputs(); },
        [&](int64_t chunk) {
          multiply(matrix, inputs, chunk * each, std::min((chunk + 1) * each, matrix.rows), write);
        });
  }

  void draw(Team::Member& member, Sampler& sampler, int num_rows, int codebook) {
    member.stage(num_rows, [&](int64_t row) {
      const int64_t code = sampler.draw(model_.sampling, row, codebook, logits_[row]);
      codes_[row * model_.num_codebooks + codebook] = code;
      if (codebook + 1 == model_.num_codebooks) {
        advance(row);
      } else {
        const int64_t size = depth_.hidden_size(), index = codebook * model_.vocab_size + code;
        to_floats(kind_, row_of(model_.depth_embedding, index, size), size,
                  depth_.residual(codebook == 0 ? 2 * row + 1 : row));
      }
    });
  }

  // engine/row_state.py's RowState.advance
  void advance(int64_t row) {
    const int64_t* codes = &codes_[row * model_.num_codebooks];
    const RowSampling& sampling = model_.sampling;
    const int64_t place = row * kHistoryFrames + sampling.frame[row] % kHistoryFrames;
    std::copy_n(codes, model_.num_codebooks, sampling.history + place * model_.num_codebooks);
    ++sampling.frame[row];
    ++model_.position[row];
    if (kind_ == Kind::kFloat32) embed<float>(row, codes);
    else embed<Bf16>(row, codes);
  }

  template <class T>
  void embed(int64_t row, const int64_t* codes) {
    const int64_t size = backbone_.hidden_size();
    float* total = backbone_.residual(row);
    std::fill_n(total, size, 0.0f);
    for (int64_t codebook = 0; codebook < model_.num_codebooks; ++codebook) {
      const int64_t index = codebook * model_.vocab_size + codes[codebook];
      const T* part = static_cast<const T*>(model_.audio_embedding) + index * size;
      for (int64_t i = 0; i < size; ++i) total[i] += to_float(part[i]);
    }
    T* to = static_cast<T*>(model_.next_input) + row * size;
    for (int64_t i = 0; i < size; ++i) assign(to[i], total[i]);
  }

  const void* row_of(const void* table, int64_t row, int64_t size) const {
    return static_cast<const char*>(table) + row * row_bytes(kind_, size);
  }

  int64_t position_of(int64_t row) const {
    return std::clamp<int64_t>(model_.position[row], 0, model_.num_positions - 1);
  }

  // Reserved ids at the end of the vocabulary are never drawn, so their logits are not made.
  Matrix depth_head(int codebook) const {
    const int64_t size = model_.depth.hidden_size;
    const void* values = row_of(model_.depth_heads, (codebook - 1) * model_.vocab_size, size);
    return {values, nullptr, model_.codebook_size, size, kind_};
  }

  int64_t depth_layer_size() const {
    return model_.max_rows * model_.depth.num_kv_heads * model_.num_codebooks * model_.depth.head_dim;
  }

  // Always in float32: it is small, and made and used within one frame.
  Memory depth_memory() const {
    const int64_t head = model_.num_codebooks * model_.depth.head_dim, layer = depth_layer_size();
    return {depth_memory_[0], 2 * layer, layer, model_.depth.num_kv_heads * head, head, Kind::kFloat32};
  }

  std::vector<Matrix> matrices() const {
    std::vector<Matrix> all{model_.first_head, model_.projection};
    for (const StackDescription* stack : {&model_.backbone, &model_.depth})
      for (const LayerDescription& layer : std::vector(stack->layers, stack->layers + stack->num_layers))
        all.insert(all.end(), {layer.qkv, layer.out, layer.gate_up, layer.down});
    for (int codebook = 1; codebook < model_.num_codebooks; ++codebook) all.push_back(depth_head(codebook));
    return all;
  }

  static int64_t matrix_bytes(const Matrix& matrix) { return matrix.rows * row_bytes(matrix.kind, matrix.cols); }

  // One alone where there is too little to share.
  std::vector<Worker> make_workers(int num_threads) const {
    int64_t largest_bytes = 0, chunk = 0;
    for (const Matrix& matrix : matrices()) {
      largest_bytes = std::max(largest_bytes, matrix_bytes(matrix));
      chunk = std::max(chunk, chunk_rows(matrix));
    }
    const Scratch::Sizes sizes{
        .num_rows = static_cast<size_t>(2 * model_.max_rows),
        .widest = std::max(backbone_.widest(), depth_.widest()),
        .num_queries = round_up(std::max(backbone_.queries_per_head(), depth_.queries_per_head()), kHeadTile),
        .head_dim = static_cast<size_t>(std::max(backbone_.head_dim(), depth_.head_dim())),
        .num_positions = static_cast<size_t>(std::max(model_.num_positions, model_.num_codebooks)),
        .chunk = static_cast<size_t>(chunk),
    };
    std::vector<Worker> workers;
    for (int i = 0; i < (largest_bytes <= kChunkBytes ? 1 : num_threads); ++i)
      workers.push_back({Scratch(sizes), Sampler(model_.codebook_size, model_.num_codebooks)});
    return workers;
  }

  FrameDescription model_;
  Kind kind_;
  Rows<float> depth_memory_;
  Stack backbone_, depth_;
  Adapted adapted_, first_adapted_, depth_adapted_;  // of the backbone, the depth decoder's first pass and its others
  int64_t rank_room_ = 0;
  Rows<float> logits_;
  std::vector<int64_t> codes_;
  std::vector<Worker> workers_;
  Team team_;  // last: its threads use all of the above
};

}  // namespace csm
