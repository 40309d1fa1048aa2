// How fast some threads read memory: the floor under any step. Compiled apart from the kernels that are measured against
// it, and without anything of theirs.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

constexpr int64_t kHugePage = int64_t{1} << 21;

struct Free {
  void operator()(uint64_t* p) const { std::free(p); }
};

constexpr int64_t kRunWords = 1024;  // 8 KiB: what fetches ahead does so within a page

uint64_t add_up(const uint64_t* words, int64_t count) { return std::accumulate(words, words + count, uint64_t{0}); }

// The same, in four runs side by side: some processors read faster so.
uint64_t add_up_in_runs(const uint64_t* words, int64_t count) {
  typedef uint64_t Two __attribute__((vector_size(16)));
  Two sums[4] = {};
  int64_t begin = 0;
  for (; begin + 4 * kRunWords <= count; begin += 4 * kRunWords)
    for (int64_t i = begin; i < begin + kRunWords; i += 8)  // a cache line
      for (int run = 0; run < 4; ++run)
        for (int word = 0; word < 8; word += 2) {
          Two two;
          std::memcpy(&two, words + i + run * kRunWords + word, sizeof two);
          sums[run] += two;
        }
  const Two all = sums[0] + sums[1] + sums[2] + sums[3];
  return all[0] + all[1] + add_up(words + begin, count - begin);
}

// Bytes per second of one pass, each thread over a part of its own; `total` keeps the compiler from leaving it out.
template <class Read>
double read_once(const uint64_t* words, int64_t count, int num_threads, uint64_t& total, Read&& add_up_part) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  std::vector<uint64_t> sums(num_threads * 16);  // a cache line and its neighbour each
  const int64_t each = count / num_threads;
  const auto read = [&](int thread) { sums[thread * 16] = add_up_part(words + thread * each, each); };
  for (int thread = 1; thread < num_threads; ++thread) others.emplace_back(read, thread);
  read(0);
  for (std::thread& thread : others) thread.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  total += add_up(sums.data(), static_cast<int64_t>(sums.size()));
  return static_cast<double>(num_threads * each * 8) / seconds.count();
}

double best_rate(int num_threads, int64_t bytes, int repeats) {
  bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  const std::unique_ptr<uint64_t, Free> words(static_cast<uint64_t*>(std::aligned_alloc(kHugePage, bytes)));
  if (!words) throw std::bad_alloc();
#if defined(__linux__)
  madvise(words.get(), bytes, MADV_HUGEPAGE);  // as weights have them
#endif
  std::fill_n(words.get(), bytes / 8, uint64_t{1});
  double best = 0;
  uint64_t total = 0;
  for (int i = 0; i < repeats; ++i)
    for (const auto read : {add_up, add_up_in_runs})
      best = std::max(best, read_once(words.get(), bytes / 8, num_threads, total, read));
  return total ? best : 0;
}

}  // namespace

// Bytes per second, the best of `repeats` passes over `bytes`, each in one run and in four. Zero where memory or threads
// could not be had.
extern "C" double csm_read_bandwidth(int num_threads, int64_t bytes, int repeats) {
  try {
    return best_rate(num_threads, bytes, repeats);
  } catch (const std::exception&) {
    return 0;
  }
}
