// The functions between the products: exponentials, ELU, GELU, layer norm.
#pragma once

#include <cmath>

#include "vectors.h"

namespace mimi {

struct Power {
  Vector scale;  // 2^n
  Vector rest;   // e^r - 1, with |r| <= ln(2) / 2
};

// e^x = scale * (1 + rest), for x clamped to -87..88 (Cephes' polynomial).
MIMI_INLINE Power power(Vector x) {
  x = select(x < -87.0f, broadcast(-87.0f), x);
  x = select(x > 88.0f, broadcast(88.0f), x);
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: its last bit counts ones
  const Vector shifted = x * 1.44269504f + kMagic;
  const Integers exponent = bits_of(shifted) - 0x4b400000;
  const Vector n = shifted - kMagic;
  const Vector r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {(Vector)((exponent + 127) << 23), p * r * r + r};
}

MIMI_INLINE Vector exp(Vector x) {
  const Power p = power(x);
  return p.scale * p.rest + p.scale;
}

// x above zero, e^x - 1 below; small numbers keep their digits.
MIMI_INLINE Vector elu(Vector x) {
  const Power p = power(select(x > 0.0f, Vector{}, x));
  return select(x > 0.0f, x, p.scale * p.rest + (p.scale - 1.0f));
}

// x times the normal distribution at x, within 5e-8. The polynomial is a fit to the logarithm of its lower half.
MIMI_INLINE Vector gelu(Vector x) {
  Vector a = select(x < 0.0f, -x, x);
  a = select(a > 6.0f, broadcast(6.0f), a);
  Vector p = broadcast(2.5668194e-07f);
  p = p * a - 5.1476673e-06f;
  p = p * a + 4.2847718e-05f;
  p = p * a - 1.6699295e-04f;
  p = p * a - 4.7451602e-05f;
  p = p * a + 4.8702345e-03f;
  p = p * a - 3.6388557e-02f;
  p = p * a - 3.1829256e-01f;
  p = p * a - 7.9788721e-01f;
  p = p * a - 6.9314706e-01f;
  const Vector tail = exp(p);
  return select(x < 0.0f, x * tail, x - x * tail);
}

// `from` [size], less its mean, by its deviation, times `weight`, plus `bias`.
inline void layer_norm(const float* from, const float* weight, const float* bias, int64_t size, float* to) {
  constexpr float kEpsilon = 1e-5f;
  const auto total = [&](auto&& term) {
    Vector lanes{};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) lanes = lanes + term(load(from + i));
    float rest = 0;
    for (; i < size; ++i) rest += term(broadcast(from[i]))[0];
    return sum(lanes) + rest;
  };
  const float mean = total([](Vector x) { return x; }) / static_cast<float>(size);
  const float variance = total([=](Vector x) { return (x - mean) * (x - mean); }) / static_cast<float>(size);
  const float factor = 1 / std::sqrt(variance + kEpsilon);
  for (int64_t i = 0; i < size; ++i) to[i] = (from[i] - mean) * factor * weight[i] + bias[i];
}

}  // namespace mimi
