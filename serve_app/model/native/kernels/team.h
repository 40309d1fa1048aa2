// A few threads that go through a frame's stages together.
//
// A stage is a number of chunks; whoever is free takes the next, and a stage is over when its chunks are done, whoever
// did them. A thread that the system stopped for a while finds the stages gone by and catches up without work, so it
// delays the others by no more than the chunk it held.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
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

    // body(chunk) for each of the chunks that fall to this thread, prepare() before the first of them.
    template <class Prepare, class Body>
    void stage(int64_t num_chunks, Prepare&& prepare, Body&& body) {
      if (team_.threads_.empty()) {
        prepare();
        for (int64_t chunk = 0; chunk < num_chunks; ++chunk) body(chunk);
        team_.num_announced_.store(0, std::memory_order_relaxed);
        return;
      }
      bool prepared = false;
      const uint64_t stage = stage_++;
      for (uint64_t ticket = team_.ticket_.load(std::memory_order_acquire); stage_of(ticket) == stage;) {
        if (static_cast<int64_t>(chunk_of(ticket)) >= num_chunks) {
          ticket = team_.wait_for_end(stage);
          continue;
        }
        if (!team_.ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acquire)) continue;
        if (!prepared) prepare();
        prepared = true;
        body(static_cast<int64_t>(chunk_of(ticket)));
        team_.finish_chunk(stage, num_chunks);
        ticket = team_.ticket_.load(std::memory_order_acquire);
      }
    }

    template <class Body>
    void stage(int64_t num_chunks, Body&& body) {
      stage(num_chunks, [] {}, body);
    }

    // Within a chunk: what others of this stage wait for is done.
    void announce() { team_.num_announced_.fetch_add(1, std::memory_order_release); }

    // Within a chunk, until `count` chunks before it have announced themselves. They must wait for nothing.
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
  Team(int num_threads, std::function<void(Member&, int)> frame) : frame_(std::move(frame)), caller_(*this, 0) {
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
    const uint64_t first_stage = stage_of(ticket_.load(std::memory_order_relaxed));
    // One word, so that a thread that comes late never mixes two frames.
    job_.store(first_stage << kRowBits | static_cast<uint64_t>(num_rows), std::memory_order_release);
    if (!threads_.empty()) wake();
    caller_.stage_ = first_stage;
    frame_(caller_, num_rows);
  }

 private:
  static constexpr int kChunkBits = 24;
  static constexpr int kRowBits = 16;
  static constexpr auto kPatience = std::chrono::microseconds(50);

  static uint64_t stage_of(uint64_t ticket) { return ticket >> kChunkBits; }
  static uint64_t chunk_of(uint64_t ticket) { return ticket & ((uint64_t{1} << kChunkBits) - 1); }

  void finish_chunk(uint64_t stage, int64_t num_chunks) {
    if (num_done_.fetch_add(1, std::memory_order_acq_rel) + 1 < num_chunks) return;
    num_done_.store(0, std::memory_order_relaxed);
    num_announced_.store(0, std::memory_order_relaxed);
    ticket_.store((stage + 1) << kChunkBits, std::memory_order_release);
  }

  uint64_t wait_for_end(uint64_t stage) const {
    uint64_t ticket;
    spin_while([&] { return stage_of(ticket = ticket_.load(std::memory_order_acquire)) == stage; });
    return ticket;
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
  // What all threads write must not share a cache line with what they read.
  alignas(128) std::atomic<uint64_t> ticket_{0};
  alignas(128) std::atomic<int64_t> num_done_{0};
  std::atomic<int64_t> num_announced_{0};
  alignas(128) std::atomic<uint64_t> job_{0};
  alignas(128) std::atomic<int> num_inside_{0};
  std::atomic<uint32_t> frame_number_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace csm
