// Floats in the widest vectors that stay in registers, in the compiler's own vector type.
//
// A wider vector than the processor has is worse than a narrow one: GCC 12 keeps it on the stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define MIMI_INLINE inline __attribute__((always_inline))

namespace mimi {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kNumRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kNumRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kNumRegisters = 32;
#else
constexpr int kVectorBytes = 16, kNumRegisters = 16;
#endif
constexpr int kLanes = kVectorBytes / 4;

typedef float Vector __attribute__((vector_size(kVectorBytes)));
typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
typedef float LooseVector __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

MIMI_INLINE Vector load(const float* p) { return *reinterpret_cast<const LooseVector*>(p); }
MIMI_INLINE void store(float* p, Vector v) { *reinterpret_cast<LooseVector*>(p) = v; }
// Less zero is x itself, which compilers see; more zero is not where x is -0, and would be an addition each time.
MIMI_INLINE Vector broadcast(float x) { return x - Vector{}; }

// Keeps a vector in its register. GCC would rather load it again for every product, of which loads are the limit.
MIMI_INLINE Vector held(Vector v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#endif
  return v;
}

// The first n lanes, 0 < n < kLanes; nothing past them is touched, and what is loaded there is zero.
#if defined(__AVX512F__)
MIMI_INLINE Vector load_first(const float* p, int64_t n) {
  return (Vector)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
MIMI_INLINE void store_first(float* p, Vector v, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
}
#else
// Copies of constant size: a call of memcpy would cost more than all the rest of a narrow row.
MIMI_INLINE void copy_first(float* to, const float* from, int64_t n) {
  if (n & 4) std::memcpy(to, from, 16), to += 4, from += 4;
  if (n & 2) std::memcpy(to, from, 8), to += 2, from += 2;
  if (n & 1) *to = *from;
}
MIMI_INLINE Vector load_first(const float* p, int64_t n) {
  float part[kLanes] = {};
  copy_first(part, p, n);
  return load(part);
}
MIMI_INLINE void store_first(float* p, Vector v, int64_t n) {
  float part[kLanes];
  store(part, v);
  copy_first(p, part, n);
}
#endif

// body(vector of `from`) to `to`, for n numbers; body takes and gives a vector, and the place of its first lane.
template <class Body>
MIMI_INLINE void map(const float* from, float* to, int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, body(load(from + i), i));
  if (i < n) store_first(to + i, body(load_first(from + i, n - i), i), n - i);
}

MIMI_INLINE Integers bits_of(Vector v) { return (Integers)v; }
MIMI_INLINE Vector select(Integers mask, Vector a, Vector b) {
  return (Vector)((mask & bits_of(a)) | (~mask & bits_of(b)));
}

// In a fixed order, whatever the lanes hold.
MIMI_INLINE float sum(Vector v) {
  float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

}  // namespace mimi
