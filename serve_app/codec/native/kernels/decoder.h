// Mimi's decoder: the frames of some streams to sound, each stream from where it was.
#pragma once

#include <deque>

#include "transformer.h"

namespace mimi {

// A transposed convolution that makes `stride` rows of one, and a residual block on them. A transposed convolution's
// kernel is twice its stride: its rows are one product with the row and the one before it.
struct BlockDescription {
  MatrixDescription spread;  // [stride * channels, 2 * channels before]
  MatrixDescription narrow;  // [hidden, taps * channels]
  MatrixDescription widen;   // [channels, hidden]
  int64_t stride;
};

struct DecoderDescription {
  const float* table;   // [codebooks, codes, width]: what a code adds to its frame
  const float* spread;  // [2 * positions, width]: a frame's share in its positions, then in the next frame's
  TransformerDescription transformer;
  MatrixDescription first;
  const BlockDescription* blocks;
  MatrixDescription last;
  int64_t num_codebooks;
  int64_t num_codes;
  int64_t num_positions;  // of a frame in the transformer
  int64_t num_blocks;
};

class Decoder {
 public:
  Decoder(const DecoderDescription& from, int64_t num_slots, int num_threads)
      : from_(from),
        width_(from.transformer.width),
        table_(from.num_codebooks * from.num_codes * width_),
        spread_(2 * from.num_positions * width_),
        frames_(&pass_, 1, width_, 1),
        stream_(&pass_, from.num_positions, width_, from.first.cols / width_ - 1),
        transformer_(from.transformer, &pass_, stream_),
        first_(from.first),
        entry_(&pass_, from.num_positions, from.first.rows, 1),
        last_(from.last),
        team_(num_threads, [this](Member& member, int num_frames) { compute(member, num_frames); }) {
    std::copy_n(from.table, table_.size(), table_.data());
    std::copy_n(from.spread, spread_.size(), spread_.data());
    for (const Window* window : {&frames_, &stream_, &entry_}) wide_.add(*window);
    const Window* in = &entry_;
    for (int64_t i = 0; i < from.num_blocks; ++i) {
      const bool is_end = i + 1 == from.num_blocks;
      const int64_t history = is_end ? from.last.cols / from.blocks[i].widen.rows - 1 : 1;
      const Block& block = blocks_.emplace_back(from.blocks[i], i < kWideBlocks ? &pass_ : nullptr, *in, history);
      for (const Window* window : {&block.active, &block.out}) (i < kWideBlocks ? wide_ : narrow_).add(*window);
      in = &block.out;
    }
    narrow_.begin = wide_.size;
    histories_size_ = (wide_.size + narrow_.size + 15) / 16 * 16;
    for (int64_t slot = 0; slot < num_slots; ++slot)
      slots_.emplace_back(histories_size_ + transformer_.state_size());
  }

  int64_t frame_samples() const { return blocks_.back().out.rows(); }

  void reset(int64_t slot) {
    slots_[slot].num_frames = 0;
    std::fill_n(slots_[slot].memory.data(), histories_size_, 0.0f);
  }

  // Stream s goes on in slots[s] with the next num_frames[s] of `codes` [frames, codebooks]; fills `samples` [frames,
  // frame_samples].
  void decode(int64_t num_streams, const int64_t* slots, const int64_t* num_frames, const int64_t* codes,
              int16_t* samples) {
    codes_ = codes;
    samples_ = samples;
    int64_t filled = 0;
    for (int64_t stream = 0; stream < num_streams; ++stream)
      for (int64_t frame = 0; frame < num_frames[stream]; ++frame) {
        if (filled == kPassFrames) filled = run(filled);
        add_to_pass(filled++, slots[stream]);
      }
    if (filled) run(filled);
  }

 private:
  // Their weights are large: they are read once for all frames of a pass. Later blocks make so many rows that one
  // frame at a time is better, whose activations stay in the cache.
  static constexpr int64_t kWideBlocks = 2;

  struct Slot {
    explicit Slot(int64_t size) : memory(size) {}
    Memory memory;  // histories, then the transformer's
    int64_t num_frames = 0;
  };

  struct Block {
    Block(const BlockDescription& from, const Pass* pass, const Window& in, int64_t history)
        : spread(from.spread),
          narrow(from.narrow),
          widen(from.widen),
          in(in),
          skipped(pass, in.rows() * from.stride, widen.rows()),
          active(pass, skipped.rows(), widen.rows(), narrow.cols() / widen.rows() - 1),
          hidden(pass, skipped.rows(), narrow.rows()),
          out(pass, skipped.rows(), widen.rows(), history) {}
    Matrix spread, narrow, widen;
    const Window& in;
    Window skipped, active, hidden, out;
  };

  int64_t run(int64_t num_frames) {
    pass_.is_last[num_frames - 1] = true;
    team_.run(static_cast<int>(num_frames));
    codes_ += num_frames * from_.num_codebooks;
    samples_ += num_frames * frame_samples();
    return 0;
  }

  void add_to_pass(int64_t frame, int64_t slot) {
    const bool is_first = frame == 0 || pass_.slot[frame - 1] != slot;
    pass_.stream[frame] = frame == 0 ? 0 : pass_.stream[frame - 1] + is_first;
    pass_.slot[frame] = slot;
    pass_.position[frame] = slots_[slot].num_frames++;
    pass_.is_first[frame] = is_first;
    pass_.is_last[frame] = false;
    if (frame > 0) pass_.is_last[frame - 1] = is_first;
  }

  // How many stages a thread goes through depends on `num_frames` alone: one that comes late counts them all the same.
  void compute(Member& member, int64_t num_frames) {
    member.stage(num_frames, [&](int64_t frame) { begin(frame); });
    member.stage(num_frames, [&](int64_t frame) { spread(frame); });
    transformer_.forward(member, num_frames, [&](int64_t slot) { return slots_[slot].memory.data() + histories_size_; });
    convolve(member, first_, stream_, 0, num_frames, entry_);
    for (size_t i = 0; i < kWideBlocks && i < blocks_.size(); ++i) run_block(member, blocks_[i], 0, num_frames);
    for (int64_t frame = 0; frame < num_frames; ++frame) {
      member.stage(1, [&](int64_t) { restore(narrow_, frame); });
      for (size_t i = kWideBlocks; i < blocks_.size(); ++i) run_block(member, blocks_[i], frame, 1);
      sound(member, frame);
      member.stage(1, [&](int64_t) { save(narrow_, frame); });
    }
    member.stage(num_frames, [&](int64_t frame) {
      if (pass_.is_last[frame]) save(wide_, frame);
    });
  }

  void begin(int64_t frame) {
    if (pass_.is_first[frame]) restore(wide_, frame);
    transformer_.turn(frame);
    float* to = frames_.at(frame);
    std::fill_n(to, width_, 0.0f);
    for (int64_t codebook = 0; codebook < from_.num_codebooks; ++codebook) {
      const int64_t code = codebook * from_.num_codes + codes_[frame * from_.num_codebooks + codebook];
      const float* from = table_.data() + code * width_;
      for (int64_t i = 0; i < width_; ++i) to[i] += from[i];
    }
  }

  void spread(int64_t frame) {
    const float *now = frames_.at(frame), *before = now - width_;
    for (int64_t row = 0; row < from_.num_positions; ++row) {
      const float *share = spread_.data() + row * width_, *late = share + from_.num_positions * width_;
      float* to = stream_.at(frame) + row * width_;
      for (int64_t i = 0; i < width_; ++i) to[i] = now[i] * share[i] + before[i] * late[i];
    }
  }

  // To `out` through ELU. `in` has as many rows as `out`, or fewer, each of which makes several.
  void convolve(Member& member, const Matrix& matrix, const Window& in, int64_t first, int64_t num_frames,
                const Window& out) {
    product(member, matrix, in, first, num_frames, [&](int64_t row) {
      return [to = Walk(out, first, row, in.rows(), matrix.rows())](const float* sums, int64_t column,
                                                                    int64_t count) mutable {
        map(sums, to.next() + column, count, [](Vector x, int64_t) { return elu(x); });
      };
    });
  }

  void run_block(Member& member, const Block& block, int64_t first, int64_t num_frames) {
    product(member, block.spread, block.in, first, num_frames, [&](int64_t row) {
      const auto walk = [&](const Window& to) { return Walk(to, first, row, block.in.rows(), block.spread.rows()); };
      return [skipped = walk(block.skipped), active = walk(block.active)](const float* sums, int64_t column,
                                                                          int64_t count) mutable {
        std::copy_n(sums, count, skipped.next() + column);
        map(sums, active.next() + column, count, [](Vector x, int64_t) { return elu(x); });
      };
    });
    convolve(member, block.narrow, block.active, first, num_frames, block.hidden);
    product(member, block.widen, block.hidden, first, num_frames, [&](int64_t row) {
      const auto walk = [&](const Window& to) { return Walk(to, first, row, to.rows(), to.channels()); };
      return [skipped = walk(block.skipped), out = walk(block.out)](const float* sums, int64_t column,
                                                                    int64_t count) mutable {
        const float* other = skipped.next() + column;
        map(sums, out.next() + column, count, [&](Vector x, int64_t i) {
          return elu(x + (i + kLanes <= count ? load(other + i) : load_first(other + i, count - i)));
        });
      };
    });
  }

  void sound(Member& member, int64_t frame) {
    product(member, last_, blocks_.back().out, frame, 1, [&](int64_t row) {
      return [to = samples_ + frame * frame_samples() + row](const float* sums, int64_t, int64_t) mutable {
        const float scaled = std::nearbyint(sums[0] * 32768.0f);
        *to++ = static_cast<int16_t>(std::min(std::max(scaled, -32768.0f), 32767.0f));
      };
    });
  }

  // The windows with a history, and where in a slot's memory it is kept.
  struct Kept {
    void add(const Window& window) {
      windows.push_back(&window);
      size += window.history_size();
    }
    // body(window, the slot's history of it)
    template <class Body>
    void each(float* memory, Body&& body) const {
      float* state = memory + begin;
      for (const Window* window : windows) {
        body(*window, state);
        state += window->history_size();
      }
    }
    int64_t begin = 0, size = 0;
    std::vector<const Window*> windows;
  };

  void restore(const Kept& kept, int64_t frame) const {
    kept.each(slots_[pass_.slot[frame]].memory.data(), [&](const Window& w, float* state) { w.restore(frame, state); });
  }
  void save(const Kept& kept, int64_t frame) const {
    kept.each(slots_[pass_.slot[frame]].memory.data(), [&](const Window& w, float* state) { w.save(frame, state); });
  }

  DecoderDescription from_;  // its numbers; what it points to is gone
  int64_t width_;
  Pass pass_{};
  Memory table_, spread_;
  Window frames_, stream_;
  Transformer transformer_;
  Matrix first_;
  Window entry_;
  std::deque<Block> blocks_;
  Matrix last_;
  Kept wide_, narrow_;
  int64_t histories_size_ = 0;
  std::vector<Slot> slots_;
  const int64_t* codes_ = nullptr;
  int16_t* samples_ = nullptr;
  csm::Team team_;
};

}  // namespace mimi
