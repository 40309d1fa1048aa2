// Drawing one code of one row: the same function as model/sampling.py's FrameSampler, which says what it means.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace csm {

constexpr int64_t kHistoryFrames = 64;

// The fields of model/sampling.py's RowSampling, of all rows.
struct RowSampling {
  const float* temperature;
  const int64_t* top_k;
  const float* top_p;
  const float* repetition_penalty;
  const uint8_t* greedy;
  const int64_t* seed;
  const int64_t* min_frames;
  int64_t* frame;
  int64_t* history;  // [rows, kHistoryFrames, codebooks]
};

// splitmix64
constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

inline uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

inline double negative_gumbel(uint64_t key, int64_t code) {
  const uint64_t counter = key + kGolden + static_cast<uint64_t>(code) * kGolden;
  const double uniform = (static_cast<double>(mix(counter) >> 12) + 0.5) * 0x1p-52;
  return std::log(-std::log(uniform));
}

struct Candidate {
  float value;
  int64_t code;
};

// Highest value first; of equals, the lower code.
inline bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.code < b.code);
}

// One thread's scratch memory for draws.
class Sampler {
 public:
  Sampler(int64_t codebook_size, int64_t num_codebooks)
      : codebook_size_(codebook_size), num_codebooks_(num_codebooks), seen_(codebook_size) {
    candidates_.reserve(codebook_size);
  }

  // `logits` [codebook_size] are changed.
  int64_t draw(const RowSampling& rows, int64_t row, int64_t codebook, float* logits) {
    if (rows.repetition_penalty[row] != 1) penalize(rows, row, codebook, logits);
    // End of speech is a frame of zeros, so a first code other than zero rules it out.
    if (codebook == 0 && rows.frame[row] < rows.min_frames[row]) logits[0] = -std::numeric_limits<float>::infinity();
    if (rows.greedy[row]) return std::max_element(logits, logits + codebook_size_) - logits;
    take_top_k(logits, rows.top_k[row]);
    const float coldness = 1 / rows.temperature[row];
    for (Candidate& candidate : candidates_) candidate.value *= coldness;
    if (rows.top_p[row] < 1) keep_top_p(rows.top_p[row]);
    const uint64_t frame_key = mix(mix(rows.seed[row]) + static_cast<uint64_t>(rows.frame[row] + 1) * kGolden);
    return likeliest(mix(frame_key + static_cast<uint64_t>(codebook + 1) * kGolden));
  }

 private:
  void penalize(const RowSampling& rows, int64_t row, int64_t codebook, float* logits) {
    const float penalty = rows.repetition_penalty[row];
    const int64_t* history = rows.history + row * kHistoryFrames * num_codebooks_ + codebook;
    std::fill(seen_.begin(), seen_.end(), 0);
    for (int64_t frame = 0; frame < kHistoryFrames; ++frame) {
      const int64_t code = history[frame * num_codebooks_];
      if (code < 0 || code >= codebook_size_ || seen_[code]) continue;
      seen_[code] = 1;
      logits[code] = logits[code] > 0 ? logits[code] / penalty : logits[code] * penalty;
    }
  }

  // A heap of the best so far, the worst of them on top: most logits fail against that one.
  void take_top_k(const float* logits, int64_t top_k) {
    const int64_t count = std::clamp<int64_t>(top_k, 1, codebook_size_);
    candidates_.clear();
    for (int64_t code = 0; code < count; ++code) candidates_.push_back({logits[code], code});
    if (count == codebook_size_) return;
    std::make_heap(candidates_.begin(), candidates_.end(), ranks_before);
    for (int64_t code = count; code < codebook_size_; ++code) {
      if (!(logits[code] > candidates_.front().value)) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), ranks_before);
      candidates_.back() = {logits[code], code};
      std::push_heap(candidates_.begin(), candidates_.end(), ranks_before);
    }
  }

  // The best that hold `top_p` together: a code stays while those before it do not yet.
  void keep_top_p(float top_p) {
    const auto ranks_after = [](const Candidate& a, const Candidate& b) { return ranks_before(b, a); };
    float most = candidates_.front().value;
    for (const Candidate& candidate : candidates_) most = std::max(most, candidate.value);
    double total = 0;
    for (const Candidate& candidate : candidates_) total += std::exp(candidate.value - most);
    std::make_heap(candidates_.begin(), candidates_.end(), ranks_after);
    double cumulated = 0;
    auto kept = candidates_.end();  // those from here on
    while (kept != candidates_.begin()) {
      const float probability = static_cast<float>(std::exp(candidates_.front().value - most) / total);
      cumulated += probability;
      if (kept != candidates_.end() && static_cast<float>(cumulated) - probability >= top_p) break;
      std::pop_heap(candidates_.begin(), kept--, ranks_after);
    }
    candidates_.erase(candidates_.begin(), kept);
  }

  int64_t likeliest(uint64_t key) const {
    Candidate best = candidates_.front();
    double most = -std::numeric_limits<double>::infinity();
    for (const Candidate& candidate : candidates_) {
      const double value = static_cast<double>(candidate.value) - negative_gumbel(key, candidate.code);
      if (value > most || (value == most && ranks_before(candidate, best))) {
        most = value;
        best = candidate;
      }
    }
    return best.code;
  }

  int64_t codebook_size_;
  int64_t num_codebooks_;
  std::vector<uint8_t> seen_;
  std::vector<Candidate> candidates_;
};

}  // namespace csm
