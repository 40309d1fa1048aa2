// Products of weights and inputs, one class for each type that weights come in.
//
// A class says how many numbers one step takes, how they are loaded, and how a step is added to its sum.
#pragma once

#include "lanes.h"

namespace csm {

#if defined(__AVX512F__)
// Keeps a vector in its register. Compilers would rather load it again for every product, of which loads are the limit.
template <class Vector>
CSM_INLINE Vector held(Vector v) {
  asm("" : "+v"(v));
  return v;
}
#endif

enum class Kind : int32_t { kFloat32 = 0, kBfloat16 = 1, kInt8 = 2 };

struct FloatDot {
  using Weight = float;
  using Input = float;
  using Operand = Lanes;
  using Sum = Lanes;
  static constexpr size_t kStep = 16;
  static constexpr size_t kLongest = SIZE_MAX;

  static CSM_INLINE Operand weight(const Weight* p) { return load(p); }
  static CSM_INLINE Operand input(const Input* p) { return load(p); }
  static CSM_INLINE Sum add(Sum sum, Operand w, Operand x) { return sum + w * x; }
  static CSM_INLINE Lanes lanes(Sum sum) { return sum; }
};

// Inputs are rounded to bfloat16 too, as a bfloat16 matrix product does; sums are float32.
struct BfloatDot {
  using Weight = Bf16;
  using Input = Bf16;
  using Sum = Lanes;
  static constexpr size_t kStep = 32;
  static constexpr size_t kLongest = SIZE_MAX;
  static CSM_INLINE Lanes lanes(Sum sum) { return sum; }

#if defined(__AVX512BF16__)
  using Operand = __m512bh;
  static CSM_INLINE Operand weight(const Weight* p) { return load_as<__m512bh>(p); }
  static CSM_INLINE Operand input(const Input* p) { return (__m512bh)held(load_as<__m512i>(p)); }
  static CSM_INLINE Sum add(Sum sum, Operand w, Operand x) { return (Lanes)_mm512_dpbf16_ps((__m512)sum, w, x); }
#else
  using Operand = WordLanes;  // two numbers in each word: the upper half is one already, the lower one after a shift
  static CSM_INLINE Operand weight(const Weight* p) { return load_as<WordLanes>(p); }
  static CSM_INLINE Operand input(const Input* p) { return load_as<WordLanes>(p); }
  static CSM_INLINE Sum add(Sum sum, Operand w, Operand x) {
    sum = sum + bits_as<Lanes>(w << 16) * bits_as<Lanes>(x << 16);
    return sum + bits_as<Lanes>(w & 0xffff0000u) * bits_as<Lanes>(x & 0xffff0000u);
  }
#endif
};

// Inputs are int16 with one scale a row, which is far finer than bfloat16.
struct Int8Dot {
  using Weight = int8_t;
  using Input = int16_t;
  using Sum = IntLanes;
  static constexpr size_t kStep = 32;
  // 2 * 127 * 32767 in each of 256 steps is the most that a lane of 32 bits holds.
  static constexpr size_t kLongest = 8192;
  static CSM_INLINE Lanes lanes(Sum sum) { return __builtin_convertvector(sum, Lanes); }

#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
  using Operand = __m512i;
  static CSM_INLINE Operand weight(const Weight* p) { return _mm512_cvtepi8_epi16(load_as<__m256i>(p)); }
  static CSM_INLINE Operand input(const Input* p) { return held(load_as<__m512i>(p)); }
  static CSM_INLINE Sum add(Sum sum, Operand w, Operand x) { return (IntLanes)_mm512_dpwssd_epi32((__m512i)sum, w, x); }
#elif defined(__AVX2__)
  struct Operand {
    __m256i low, high;
  };
  static CSM_INLINE Operand weight(const Weight* p) {
    return {_mm256_cvtepi8_epi16(load_as<__m128i>(p)), _mm256_cvtepi8_epi16(load_as<__m128i>(p + 16))};
  }
  static CSM_INLINE Operand input(const Input* p) { return {load_as<__m256i>(p), load_as<__m256i>(p + 16)}; }
  static CSM_INLINE Sum add(Sum sum, Operand w, Operand x) {
    const __m256i products[2] = {_mm256_madd_epi16(w.low, x.low), _mm256_madd_epi16(w.high, x.high)};
    return sum + load_as<IntLanes>(products);
  }
#else
  struct Operand {
    IntLanes low, high;
  };
  static CSM_INLINE Operand input(const Input* p) {
    return {__builtin_convertvector(load_as<ShortLanes>(p), IntLanes),
            __builtin_convertvector(load_as<ShortLanes>(p + 16), IntLanes)};
  }
  static CSM_INLINE Operand weight(const Weight* p) {
    Input wide[kStep];
    for (size_t i = 0; i < kStep; ++i) wide[i] = p[i];
    return input(wide);
  }
  static CSM_INLINE Sum add(Sum sum, Operand w, Operand x) { return sum + w.low * x.low + w.high * x.high; }
#endif
};

}  // namespace csm
