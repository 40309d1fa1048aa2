// A few threads that go through a frame's stages together.
//
// A stage is a number of chunks. Each thread begins with a run of its own, since memory is read fastest in order, then
// takes what others have left of theirs; a stage is over when its chunks are done, whoever did them. A thread that the
// system stopped for a while finds the stages gone by and catches up without work, so it delays the others by no more
// than the chunk it held.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "lanes.h"

namespace csm {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Team {
 public:
  // One thread's place in the frame. Every thread goes through the same stages in the same order.
  class Member {
   public:
    Member(Team& team, int index) : team_(team), index_(index) {}

    int index() const { return index_; }

    // body(chunk) for each of the chunks that fall to this thread, prepare() before the first of them. Nobody takes
    // another chunk while one of the first `num_first` is to be had.
    template <class Prepare, class Body>
    void stage(int64_t num_chunks, Prepare&& prepare, Body&& body, int64_t num_first = 0) {
      if (team_.threads_.empty()) {
        prepare();
        for (int64_t chunk = 0; chunk < num_chunks; ++chunk) body(chunk);
        team_.num_announced_.store(0, std::memory_order_relaxed);
        return;
      }
      const uint64_t stage = stage_++;
      if (team_.stage_.load(std::memory_order_acquire) != stage) return;  // It has gone by.
      bool prepared = false;
      const auto work_through = [&](Run& run, int64_t begin, int64_t end) {
        int64_t num_done = 0;
        for (int64_t chunk; (chunk = run.take(stage, end - begin)) >= 0; ++num_done) {
          if (!prepared) prepare();
          prepared = true;
          body(begin + chunk);
        }
        if (num_done > 0) team_.finish(stage, num_done, num_chunks);
      };
      work_through(team_.first_, 0, num_first);
      const int64_t num_threads = team_.num_threads(), num_others = num_chunks - num_first;
      for (int64_t i = 0; i < num_threads; ++i) {
        const int64_t owner = (index_ + i) % num_threads;
        work_through(team_.runs_[owner], num_first + num_others * owner / num_threads,
                     num_first + num_others * (owner + 1) / num_threads);
      }
      team_.wait_for_end(stage);
    }

    template <class Body>
    void stage(int64_t num_chunks, Body&& body) {
      stage(num_chunks, [] {}, body);
    }

    // Within a chunk: what others of this stage wait for is done.
    void announce() { team_.num_announced_.fetch_add(1, std::memory_order_release); }

    // Within a chunk, until `count` of the first chunks have announced themselves. Those must wait for nothing.
    void wait_for_announced(int64_t count) const {
      team_.spin_while([&] { return team_.num_announced_.load(std::memory_order_acquire) < count; });
    }

   private:
    friend class Team;
    Team& team_;
    int index_;
    uint64_t stage_ = 0;
  };

  // `frame` is what each thread runs for a frame of some rows.
  Team(int num_threads, std::function<void(Member&, int)> frame)
      : frame_(std::move(frame)), caller_(*this, 0), runs_(std::make_unique<Run[]>(num_threads)) {
    for (int index = 1; index < num_threads; ++index) threads_.emplace_back([this, index] { serve(index); });
  }

  ~Team() {
    stopping_.store(true);
    wake();
    for (std::thread& thread : threads_) thread.join();
  }

  // change() while no thread is in a frame, nor can begin one. Waits for threads that the system stopped, so it is for
  // what changes now and then.
  template <class Change>
  void between_frames(Change&& change) {
    job_.store(0);
    while (num_inside_.load() != 0) std::this_thread::yield();
    change();
  }

  void run(int num_rows) {
    const uint64_t first_stage = stage_.load(std::memory_order_relaxed);
    // One word, so that a thread that comes late never mixes two frames.
    job_.store(first_stage << kRowBits | static_cast<uint64_t>(num_rows), std::memory_order_release);
    if (!threads_.empty()) wake();
    caller_.stage_ = first_stage;
    frame_(caller_, num_rows);
  }

 private:
  static constexpr int kRowBits = 16;
  static constexpr auto kPatience = std::chrono::microseconds(50);

  // Chunks that are taken in order. One word counts them and says of which stage, so that a thread that comes late to a
  // stage finds none left. Alone in its cache lines, since its owner takes most of them.
  class alignas(128) Run {
   public:
    // The next of `size` chunks in a stage. Below zero where none is left.
    int64_t take(uint64_t stage, int64_t size) {
      uint64_t taken = taken_.load(std::memory_order_relaxed);
      for (;;) {
        if (taken >> kChunkBits > stage) return -1;
        const uint64_t none = stage << kChunkBits, now = std::max(taken, none);
        const auto chunk = static_cast<int64_t>(now - none);
        if (chunk >= size) return -1;
        if (taken_.compare_exchange_weak(taken, now + 1, std::memory_order_acquire)) return chunk;
      }
    }

   private:
    static constexpr int kChunkBits = 24;
    std::atomic<uint64_t> taken_{0};
  };

  int64_t num_threads() const { return static_cast<int64_t>(threads_.size()) + 1; }

  void finish(uint64_t stage, int64_t num_done, int64_t num_chunks) {
    if (num_done_.fetch_add(num_done, std::memory_order_acq_rel) + num_done < num_chunks) return;
    num_done_.store(0, std::memory_order_relaxed);
    num_announced_.store(0, std::memory_order_relaxed);
    stage_.store(stage + 1, std::memory_order_release);
  }

  void wait_for_end(uint64_t stage) const {
    spin_while([&] { return stage_.load(std::memory_order_acquire) == stage; });
  }

  template <class Condition>
  static void spin_while(Condition&& condition) {
    for (int spins = 0; condition(); ++spins) {
      // Whoever is waited for may need this core.
      if (spins < 4000) relax();
      else std::this_thread::yield();
    }
  }

  void wake() {
    frame_number_.fetch_add(1, std::memory_order_release);
    frame_number_.notify_all();
  }

  void serve(int index) {
    Member member(*this, index);
    for (uint32_t seen = 0;;) {
      seen = wait_for_frame(seen);
      if (stopping_.load()) return;
      num_inside_.fetch_add(1);
      // In one order with `between_frames`: either that waits for this thread, or this thread finds no job.
      const uint64_t job = job_.load();
      member.stage_ = job >> kRowBits;
      if (const int num_rows = static_cast<int>(job & ((1 << kRowBits) - 1))) frame_(member, num_rows);
      num_inside_.fetch_sub(1);
    }
  }

  // Awake for a moment, since frames follow each other closely, then asleep.
  uint32_t wait_for_frame(uint32_t seen) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (frame_number_.load(std::memory_order_acquire) == seen) {
      relax();
      if (std::chrono::steady_clock::now() > deadline) frame_number_.wait(seen, std::memory_order_acquire);
    }
    return frame_number_.load(std::memory_order_acquire);
  }

  std::function<void(Member&, int)> frame_;
  Member caller_;
  std::vector<std::thread> threads_;
  std::unique_ptr<Run[]> runs_;  // one for each thread
  Run first_;
  // What all threads write must not share a cache line with what they read.
  alignas(128) std::atomic<uint64_t> stage_{0};
  alignas(128) std::atomic<int64_t> num_done_{0};
  std::atomic<int64_t> num_announced_{0};
  alignas(128) std::atomic<uint64_t> job_{0};
  alignas(128) std::atomic<int> num_inside_{0};
  std::atomic<uint32_t> frame_number_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace csm
