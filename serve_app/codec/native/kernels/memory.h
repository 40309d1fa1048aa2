// Memory that is made once, and the activations of a pass in it.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "../../../model/native/kernels/pages.h"
#include "vectors.h"

namespace mimi {

// Zeros, from a cache line on, with room for a whole vector behind the last number. What is never touched costs nothing.
class Memory {
 public:
  Memory() = default;
  explicit Memory(int64_t size) : size_(size), block_(std::calloc(size + 32, sizeof(float))) {
    if (!block_) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(block_.get());
    data_ = reinterpret_cast<float*>((address + 63) / 64 * 64);
  }

  float* data() const { return data_; }
  int64_t size() const { return size_; }
  void use_huge_pages() const {
    if (size_ * sizeof(float) >= csm::kHugePage) csm::use_huge_pages(data_, size_ * sizeof(float));
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  int64_t size_ = 0;
  std::unique_ptr<void, Free> block_;
  float* data_ = nullptr;
};

// Frames of one call that are computed together: so many that weights are read seldom, so few that activations stay
// in the cache.
constexpr int64_t kPassFrames = 16;

// Which streams a pass's frames belong to. The frames of one stream follow each other.
struct Pass {
  int64_t stream[kPassFrames + 1];    // the number of the frame's stream in this pass
  int64_t slot[kPassFrames + 1];
  int64_t position[kPassFrames + 1];  // of the stream's frame since it began
  bool is_first[kPassFrames + 1];     // of its stream in this pass
  bool is_last[kPassFrames + 1];
};

// An activation of a pass: each frame's `rows` of `channels`, dense. Before the rows of each stream stand the last
// `history` rows of its last pass, so that what a causal convolution sees is one piece of memory.
class Window {
 public:
  Window() = default;
  // With `pass` null it holds one frame at a time, whichever it is.
  Window(const Pass* pass, int64_t rows, int64_t channels, int64_t history = 0)
      : pass_(pass),
        rows_(rows),
        channels_(channels),
        history_(history),
        memory_((pass ? kPassFrames : 1) * (rows + history) * channels) {}

  int64_t rows() const { return rows_; }
  int64_t channels() const { return channels_; }
  int64_t history() const { return history_; }
  int64_t history_size() const { return history_ * channels_; }

  // The frame's first row; its history stands right before it.
  float* at(int64_t frame) const {
    const int64_t row = pass_ ? frame * rows_ + (pass_->stream[frame] + 1) * history_ : history_;
    return memory_.data() + row * channels_;
  }

  void restore(int64_t frame, const float* state) const {
    std::memcpy(at(frame) - history_size(), state, history_size() * sizeof(float));
  }
  void save(int64_t frame, float* state) const {
    std::memcpy(state, at(frame) + rows_ * channels_ - history_size(), history_size() * sizeof(float));
  }

 private:
  const Pass* pass_ = nullptr;
  int64_t rows_ = 0, channels_ = 0, history_ = 0;
  Memory memory_;
};

// Walks through the rows of a window's frames: `num_steps` steps of `step` numbers a frame, the first at `offset`.
class Walk {
 public:
  Walk(const Window& window, int64_t frame, int64_t begin, int64_t num_steps, int64_t step, int64_t offset = 0)
      : window_(&window),
        frame_(frame + begin / num_steps),
        done_(begin % num_steps),
        num_steps_(num_steps),
        step_(step),
        offset_(offset),
        place_(window.at(frame_) + offset + done_ * step) {}

  MIMI_INLINE float* next() {
    float* place = place_;
    place_ += step_;
    if (++done_ == num_steps_) {
      done_ = 0;
      place_ = window_->at(++frame_) + offset_;
    }
    return place;
  }

 private:
  const Window* window_;
  int64_t frame_, done_, num_steps_, step_, offset_;
  float* place_;
};

}  // namespace mimi
