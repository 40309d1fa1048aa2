// The sums of sixteen vectors of sixteen, each in the order of `sum`, for the price of a few.
#pragma once

#include "lanes.h"

namespace csm {

#if defined(CSM_AVX512)

// Folds the 128-bit quarters, or what lies within them, of two vectors into one.
template <int Low, int High>
CSM_INLINE __m512 fold_quarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, Low), _mm512_shuffle_f32x4(a, b, High));
}
template <int Low, int High>
CSM_INLINE __m512 fold_within(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, Low), _mm512_shuffle_ps(a, b, High));
}

// Taking every fourth vector first leaves the sums in the vectors' order.
CSM_INLINE Lanes sums(const Lanes* v) {
  __m512 quads[4];
  for (int i = 0; i < 4; ++i) {
    const __m512 first = fold_quarters<0x44, 0xee>((__m512)v[i].part[0], (__m512)v[i + 4].part[0]);
    const __m512 second = fold_quarters<0x44, 0xee>((__m512)v[i + 8].part[0], (__m512)v[i + 12].part[0]);
    quads[i] = fold_quarters<0x88, 0xdd>(first, second);
  }
  const __m512 pairs[2] = {fold_within<0x44, 0xee>(quads[0], quads[1]), fold_within<0x44, 0xee>(quads[2], quads[3])};
  return {(FloatVector)fold_within<0x88, 0xdd>(pairs[0], pairs[1])};
}

#elif defined(CSM_AVX2) || defined(CSM_SSE2) || defined(CSM_NEON)

typedef float Quad __attribute__((vector_size(16)));

// Down to four lanes: lane i and lane i + 8, then i + 4.
CSM_INLINE Quad quad(const Lanes& v) {
#if defined(CSM_AVX2)
  const __m256 eight = (__m256)(v.part[0] + v.part[1]);
  return (Quad)(_mm256_castps256_ps128(eight) + _mm256_extractf128_ps(eight, 1));
#else
  return (v.part[0] + v.part[2]) + (v.part[1] + v.part[3]);
#endif
}

// Lane i and lane i + 2, then i + 1, of four at once.
CSM_INLINE Quad fold_quads(Quad a, Quad b, Quad c, Quad d) {
#if defined(CSM_NEON)
  const auto halves = [](Quad x, Quad y) CSM_LAMBDA {
    const auto first = vcombine_f32(vget_low_f32((float32x4_t)x), vget_low_f32((float32x4_t)y));
    return vaddq_f32(first, vcombine_f32(vget_high_f32((float32x4_t)x), vget_high_f32((float32x4_t)y)));
  };
  return (Quad)vpaddq_f32(halves(a, b), halves(c, d));
#else
  const __m128 ab = _mm_add_ps(_mm_movelh_ps((__m128)a, (__m128)b), _mm_movehl_ps((__m128)b, (__m128)a));
  const __m128 cd = _mm_add_ps(_mm_movelh_ps((__m128)c, (__m128)d), _mm_movehl_ps((__m128)d, (__m128)c));
  return (Quad)_mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
#endif
}

CSM_INLINE Lanes sums(const Lanes* v) {
  Quad four[4];
  unrolled<4>([&](auto i) CSM_LAMBDA {
    four[i] = fold_quads(quad(v[4 * i]), quad(v[4 * i + 1]), quad(v[4 * i + 2]), quad(v[4 * i + 3]));
  });
  return load_as<Lanes>(four);
}

#else

CSM_INLINE Lanes sums(const Lanes* v) {
  float part[kLanes];
  for (int i = 0; i < kLanes; ++i) part[i] = sum(v[i]);
  return load(part);
}

#endif

}  // namespace csm
