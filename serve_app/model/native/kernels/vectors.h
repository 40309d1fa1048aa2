// One register's worth of numbers, and what each instruction set has for it. Everything above is built from these.
//
// A vector is as wide as the widest register: 64 bytes with AVX-512, 32 with AVX2, 16 elsewhere. Wider ones than the
// machine has would be legal C++, but compilers then keep them on the stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define CSM_INLINE inline __attribute__((always_inline))
#define CSM_LAMBDA __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define CSM_AVX512 1
#elif defined(__AVX2__)
#define CSM_AVX2 1
#elif defined(__SSE2__)
#define CSM_SSE2 1
#elif defined(__aarch64__)
#define CSM_NEON 1
#endif

#if (defined(CSM_AVX512) && defined(__AVX512BF16__)) || \
    (defined(CSM_NEON) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC))
#define CSM_BF16 1
#endif

namespace csm {

// What the kernels were compiled for.
constexpr const char* kInstructionSet =
#if defined(CSM_AVX512)
    "AVX-512"
#if defined(__AVX512BF16__)
    ", bf16"
#endif
#if defined(__AVX512VNNI__)
    ", VNNI"
#endif
#elif defined(CSM_AVX2)
    "AVX2"
#if defined(__FMA__)
    ", FMA"
#endif
#if defined(__AVXVNNI__)
    ", AVX-VNNI"
#endif
#elif defined(CSM_SSE2)
    "SSE2"
#elif defined(CSM_NEON)
    "NEON"
#if defined(CSM_BF16)
    ", bf16"
#endif
#else
    "none known"
#endif
    ;

#if defined(CSM_AVX512)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(CSM_AVX2)
constexpr int kVectorBytes = 32, kRegisters = 16;
#elif defined(CSM_NEON)
constexpr int kVectorBytes = 16, kRegisters = 32;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

constexpr int kWidth = kVectorBytes / 4;  // numbers of 32 bits in a vector

typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef int32_t IntVector __attribute__((vector_size(kVectorBytes)));
typedef uint32_t WordVector __attribute__((vector_size(kVectorBytes)));
typedef int16_t ShortVector __attribute__((vector_size(kVectorBytes)));  // twice kWidth of them
typedef uint16_t HalfWordVector __attribute__((vector_size(kVectorBytes / 2)));
typedef int16_t HalfShortVector __attribute__((vector_size(kVectorBytes / 2)));

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

// f(0), …, f(Count - 1) with constants: a loop might be unrolled too late for its arrays to become registers.
template <int Count, class F>
CSM_INLINE void unrolled(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) CSM_LAMBDA { (f(std::integral_constant<int, I>{}), ...); }(
      std::make_integer_sequence<int, Count>{});
}

// A word of 32 bits in every place.
CSM_INLINE WordVector spread(const void* word) { return WordVector{} + load_as<uint32_t>(word); }

// Keeps a vector in its register where loads are the limit: compilers would rather load it again for every product.
template <class Vector>
CSM_INLINE Vector held(Vector v) {
#if defined(CSM_AVX512)
  asm("" : "+v"(v));
#endif
  return v;
}

// Twice kWidth numbers of 8 bits, as 16 bits.
CSM_INLINE ShortVector widen(const int8_t* p) {
#if defined(CSM_AVX512)
  return (ShortVector)_mm512_cvtepi8_epi16(load_as<__m256i>(p));
#elif defined(CSM_AVX2)
  return (ShortVector)_mm256_cvtepi8_epi16(load_as<__m128i>(p));
#elif defined(CSM_SSE2)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return (ShortVector)_mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
#elif defined(CSM_NEON)
  return (ShortVector)vmovl_s8(vld1_s8(p));
#else
  ShortVector v;
  for (int i = 0; i < 2 * kWidth; ++i) v[i] = p[i];
  return v;
#endif
}

struct Nibbles {
  ShortVector low, high;
};

// The lower and the upper halves of twice kWidth bytes, less 8.
CSM_INLINE Nibbles unpack_nibbles(const uint8_t* p) {
#if defined(CSM_AVX512)
  const auto words = (ShortVector)_mm512_cvtepu8_epi16(load_as<__m256i>(p));
  return {(words & 15) - 8, (words >> 4) - 8};
#elif defined(CSM_AVX2)
  const auto words = (ShortVector)_mm256_cvtepu8_epi16(load_as<__m128i>(p));
  return {(words & 15) - 8, (words >> 4) - 8};
#elif defined(CSM_SSE2)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const auto words = (ShortVector)_mm_unpacklo_epi8(bytes, _mm_setzero_si128());
  return {(words & 15) - 8, (words >> 4) - 8};
#elif defined(CSM_NEON)
  const auto words = (ShortVector)vmovl_u8(vld1_u8(p));
  return {(words & 15) - 8, (words >> 4) - 8};
#else
  Nibbles both;
  for (int i = 0; i < 2 * kWidth; ++i) both.low[i] = (p[i] & 15) - 8, both.high[i] = (p[i] >> 4) - 8;
  return both;
#endif
}

// Keeps additions of integers in their turn, where sums fill the registers: else compilers add products to each other
// first, or load far ahead, and push sums out. Where there is room, they do well to.
CSM_INLINE IntVector in_turn(IntVector sum) {
#if defined(CSM_AVX512)
  asm volatile("" : "+v"(sum));
#elif defined(CSM_AVX2) || defined(CSM_SSE2)
  asm volatile("" : "+x"(sum));
#elif defined(CSM_NEON)
  asm volatile("" : "+w"(sum));
#endif
  return sum;
}

// Lane i of the sum gains w[2i] * x[2i] + w[2i + 1] * x[2i + 1].
CSM_INLINE IntVector add_pairs(IntVector sum, ShortVector w, ShortVector x) {
#if defined(CSM_AVX512) && defined(__AVX512VNNI__)
  return (IntVector)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#elif defined(CSM_AVX512)
  return sum + (IntVector)_mm512_madd_epi16((__m512i)w, (__m512i)x);
#elif defined(CSM_AVX2) && defined(__AVXVNNI__)
  return (IntVector)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)w, (__m256i)x);
#elif defined(CSM_AVX2)
  return sum + (IntVector)_mm256_madd_epi16((__m256i)w, (__m256i)x);
#elif defined(CSM_SSE2)
  return sum + (IntVector)_mm_madd_epi16((__m128i)w, (__m128i)x);
#elif defined(CSM_NEON)
  const int32x4_t first = vmull_s16(vget_low_s16((int16x8_t)w), vget_low_s16((int16x8_t)x));
  return sum + (IntVector)vpaddq_s32(first, vmull_high_s16((int16x8_t)w, (int16x8_t)x));
#else
  for (int i = 0; i < kWidth; ++i) sum[i] += w[2 * i] * x[2 * i] + w[2 * i + 1] * x[2 * i + 1];
  return sum;
#endif
}

// One bfloat16 number as a float in every place.
CSM_INLINE FloatVector broadcast_bf16(const uint16_t* p) {
#if defined(CSM_AVX512)
  const auto both = (WordVector)_mm512_set1_epi16(static_cast<short>(*p));
#elif defined(CSM_AVX2)
  const auto both = (WordVector)_mm256_set1_epi16(static_cast<short>(*p));
#elif defined(CSM_NEON)
  const auto both = (WordVector)vld1q_dup_u16(p);
#else
  const auto both = WordVector{} + *p;
#endif
  return bits_as<FloatVector>(both << 16);
}

#if defined(CSM_BF16)
// Lane i of the sum gains the products of pair i, of bfloat16: twice kWidth of them in a vector.
CSM_INLINE FloatVector add_bf16_pairs(FloatVector sum, WordVector w, WordVector x) {
#if defined(CSM_AVX512)
  return (FloatVector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
#else
  return (FloatVector)vbfdotq_f32((float32x4_t)sum, (bfloat16x8_t)w, (bfloat16x8_t)x);
#endif
}
#endif

}  // namespace csm
