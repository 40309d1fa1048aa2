// Sixteen floats at a time, in as many vectors as the processor needs for them.
//
// Sixteen on every processor: all sums are taken lane by lane and folded in one fixed order, so a number depends neither
// on how work was split nor on how wide the registers are.
#pragma once

#include "vectors.h"

namespace csm {

constexpr int kLanes = 16;
constexpr int kParts = kLanes / kWidth;

template <class Vector>
struct Parts {
  Vector part[kParts];
};

using Lanes = Parts<FloatVector>;
using IntLanes = Parts<IntVector>;
using WordLanes = Parts<WordVector>;

// A bfloat16 number: the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// f of each part of some vectors.
template <class To, class F, class... From>
CSM_INLINE Parts<To> each(F&& f, const Parts<From>&... from) {
  Parts<To> to;
  unrolled<kParts>([&](auto i) CSM_LAMBDA { to.part[i] = (To)f(from.part[i]...); });
  return to;
}

template <class V>
CSM_INLINE Parts<V> splat(decltype(V{}[0] + 0) x) {
  return each<V>([x](V v) CSM_LAMBDA { return v + x; }, Parts<V>{});
}

#define CSM_OPERATOR(op)                                                                              \
  template <class V>                                                                                  \
  CSM_INLINE Parts<V> operator op(const Parts<V>& a, const Parts<V>& b) {                             \
    return each<V>([](V x, V y) CSM_LAMBDA { return x op y; }, a, b);                                 \
  }                                                                                                   \
  template <class V, class Scalar>                                                                    \
  CSM_INLINE Parts<V> operator op(const Parts<V>& a, Scalar b) {                                      \
    return each<V>([b](V x) CSM_LAMBDA { return x op b; }, a);                                        \
  }
CSM_OPERATOR(+)
CSM_OPERATOR(-)
CSM_OPERATOR(*)
CSM_OPERATOR(/)
CSM_OPERATOR(&)
CSM_OPERATOR(|)
CSM_OPERATOR(<<)
CSM_OPERATOR(>>)
#undef CSM_OPERATOR

template <class V>
CSM_INLINE Parts<V> operator-(const Parts<V>& a) {
  return each<V>([](V x) CSM_LAMBDA { return -x; }, a);
}

template <class V>
CSM_INLINE Parts<V> operator~(const Parts<V>& a) {
  return each<V>([](V x) CSM_LAMBDA { return ~x; }, a);
}

CSM_INLINE Lanes load(const float* p) {
  Lanes v;
  unrolled<kParts>([&](auto i) CSM_LAMBDA { v.part[i] = load_as<FloatVector>(p + i * kWidth); });
  return v;
}

CSM_INLINE Lanes load(const Bf16* p) {
  Lanes v;
  unrolled<kParts>([&](auto i) CSM_LAMBDA {
    const auto halves = load_as<HalfWordVector>(p + i * kWidth);
    v.part[i] = bits_as<FloatVector>(__builtin_convertvector(halves, WordVector) << 16);
  });
  return v;
}

CSM_INLINE void store(float* p, const Lanes& v) {
  unrolled<kParts>([&](auto i) CSM_LAMBDA { std::memcpy(p + i * kWidth, &v.part[i], kVectorBytes); });
}

CSM_INLINE Lanes broadcast(float x) { return splat<FloatVector>(x); }

// The first n of sixteen, zeros behind them: nothing past them is touched.
template <class T>
CSM_INLINE Lanes load_first(const T* p, size_t n) {
  if (n >= kLanes) return load(p);
#if defined(CSM_AVX512)
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof(T) == 4) return {(FloatVector)_mm512_maskz_loadu_ps(mask, p)};
  else return {(FloatVector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16)};
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

// Rounded to bfloat16, in the lower half of each word.
CSM_INLINE WordLanes to_bf16(const Lanes& x) {
  const WordLanes bits = bits_as<WordLanes>(x);
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// Sixteen numbers of 16 bits: the lower half of each word.
template <class V>
CSM_INLINE void store_halves(void* to, const Parts<V>& words) {
  unrolled<kParts>([&](auto i) CSM_LAMBDA {
    const auto halves = __builtin_convertvector(words.part[i], HalfWordVector);
    std::memcpy(static_cast<char*>(to) + i * sizeof halves, &halves, sizeof halves);
  });
}

// Integers as floats, rounded to the nearest; for magnitudes below 2^22.
CSM_INLINE IntLanes round_to_int(const Lanes& x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: its last bit counts ones
  return bits_as<IntLanes>(x + kMagic) - bits_as<int32_t>(kMagic);
}

CSM_INLINE Lanes to_floats(const IntLanes& x) {
  return each<FloatVector>([](IntVector v) CSM_LAMBDA { return __builtin_convertvector(v, FloatVector); }, x);
}

CSM_INLINE IntLanes operator>(const Lanes& a, const Lanes& b) {
  return each<IntVector>([](FloatVector x, FloatVector y) CSM_LAMBDA { return x > y; }, a, b);
}

// mask ? a : b, of a comparison's result (all ones or zeros).
CSM_INLINE Lanes select(const IntLanes& mask, const Lanes& a, const Lanes& b) {
  return bits_as<Lanes>((mask & bits_as<IntLanes>(a)) | (~mask & bits_as<IntLanes>(b)));
}

CSM_INLINE Lanes max(const Lanes& a, const Lanes& b) { return select(a > b, a, b); }

CSM_INLINE Lanes abs(const Lanes& x) { return bits_as<Lanes>(bits_as<IntLanes>(x) & 0x7fffffff); }

// e^x within 2 units in the last place, for -87 < x < 88 and clamped outside (Cephes' expf).
CSM_INLINE Lanes exp(Lanes x) {
  x = select(broadcast(-87.0f) > x, broadcast(-87.0f), x);
  x = select(x > broadcast(88.0f), broadcast(88.0f), x);
  const IntLanes exponent = round_to_int(x * 1.44269504f);
  const Lanes n = to_floats(exponent);
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

CSM_INLINE float sum(const Lanes& v) {
  float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

CSM_INLINE float largest(const Lanes& v) {
  float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] = part[i] > part[i + half] ? part[i] : part[i + half];
  return part[0];
}

}  // namespace csm
