// Sixteen floats at a time, in the compiler's own vectors: one source for every instruction set.
//
// All sums are taken lane by lane and folded in one fixed order, so a number does not depend on how work was split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define CSM_INLINE inline __attribute__((always_inline))

namespace csm {

constexpr int kLanes = 16;

typedef float Lanes __attribute__((vector_size(64)));
typedef int32_t IntLanes __attribute__((vector_size(64)));
typedef uint32_t WordLanes __attribute__((vector_size(64)));
typedef uint16_t HalfLanes __attribute__((vector_size(32)));
typedef int16_t ShortLanes __attribute__((vector_size(32)));

// A bfloat16 number: the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

template <class To, class From>
CSM_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class V>
CSM_INLINE V load_as(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

CSM_INLINE Lanes load(const float* p) { return load_as<Lanes>(p); }

CSM_INLINE Lanes load(const Bf16* p) {
  return bits_as<Lanes>(__builtin_convertvector(load_as<HalfLanes>(p), WordLanes) << 16);
}

CSM_INLINE void store(float* p, Lanes v) { std::memcpy(p, &v, sizeof v); }

CSM_INLINE Lanes broadcast(float x) { return Lanes{} + x; }

// The first n of sixteen, zeros behind them: nothing past them is touched.
template <class T>
CSM_INLINE Lanes load_first(const T* p, size_t n) {
  if (n >= kLanes) return load(p);
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof(T) == 4) return (Lanes)_mm512_maskz_loadu_ps(mask, p);
  else return (Lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16);
#else
  T part[kLanes] = {};
  for (size_t i = 0; i < n; ++i) part[i] = p[i];
  return load(part);
#endif
}

CSM_INLINE float to_float(float x) { return x; }
CSM_INLINE float to_float(Bf16 x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }

// To the nearest, ties to even; a NaN stays one.
CSM_INLINE void assign(float& to, float x) { to = x; }
CSM_INLINE void assign(Bf16& to, float x) {
  const uint32_t bits = bits_as<uint32_t>(x);
  to.bits = static_cast<uint16_t>(x != x ? (bits >> 16) | 64 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

CSM_INLINE HalfLanes to_bf16(Lanes x) {
  const WordLanes bits = bits_as<WordLanes>(x);
  return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, HalfLanes);
}

// Integers as floats, rounded to the nearest; for magnitudes below 2^22.
CSM_INLINE IntLanes round_to_int(Lanes x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: its last bit counts ones
  return bits_as<IntLanes>(x + kMagic) - bits_as<int32_t>(kMagic);
}

// mask ? a : b, of a comparison's result (all ones or zeros).
CSM_INLINE Lanes select(IntLanes mask, Lanes a, Lanes b) {
  return bits_as<Lanes>((mask & bits_as<IntLanes>(a)) | (~mask & bits_as<IntLanes>(b)));
}

CSM_INLINE Lanes max(Lanes a, Lanes b) { return select(a > b, a, b); }

CSM_INLINE Lanes abs(Lanes x) { return bits_as<Lanes>(bits_as<IntLanes>(x) & 0x7fffffff); }

// e^x within 2 units in the last place, for -87 < x < 88 and clamped outside (Cephes' expf).
CSM_INLINE Lanes exp(Lanes x) {
  x = select(x < -87.0f, broadcast(-87.0f), x);
  x = select(x > 88.0f, broadcast(88.0f), x);
  const IntLanes exponent = round_to_int(x * 1.44269504f);
  const Lanes n = __builtin_convertvector(exponent, Lanes);
  const Lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Lanes p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return bits_as<Lanes>(bits_as<IntLanes>(p) + (exponent << 23));
}

CSM_INLINE float sum(Lanes v) {
  float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

CSM_INLINE float largest(Lanes v) {
  float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] = part[i] > part[i + half] ? part[i] : part[i + half];
  return part[0];
}

#if defined(__AVX512F__) && defined(__AVX512DQ__)
// One step of `sums`: folds the 128-bit quarters, or what lies within them, of two vectors into one.
template <int Low, int High>
CSM_INLINE __m512 fold_quarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, Low), _mm512_shuffle_f32x4(a, b, High));
}
template <int Low, int High>
CSM_INLINE __m512 fold_within(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, Low), _mm512_shuffle_ps(a, b, High));
}

// The sums of sixteen vectors, each in the order of `sum`, for the price of a few. Taking every fourth vector first
// leaves the sums in the vectors' order.
CSM_INLINE Lanes sums(const Lanes* v) {
  __m512 quads[4];
  for (int i = 0; i < 4; ++i) {
    const __m512 first = fold_quarters<0x44, 0xee>((__m512)v[i], (__m512)v[i + 4]);
    const __m512 second = fold_quarters<0x44, 0xee>((__m512)v[i + 8], (__m512)v[i + 12]);
    quads[i] = fold_quarters<0x88, 0xdd>(first, second);
  }
  const __m512 pairs[2] = {fold_within<0x44, 0xee>(quads[0], quads[1]), fold_within<0x44, 0xee>(quads[2], quads[3])};
  return (Lanes)fold_within<0x88, 0xdd>(pairs[0], pairs[1]);
}
#else
CSM_INLINE Lanes sums(const Lanes* v) {
  float part[kLanes];
  for (int i = 0; i < kLanes; ++i) part[i] = sum(v[i]);
  return load(part);
}
#endif

}  // namespace csm
