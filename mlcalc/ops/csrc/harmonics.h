// Real spherical harmonics up to degree 3 of N unit vectors at once, in e3nn's order (y is the polar axis) and
// component normalisation: the squares of a degree sum to 2 l + 1.
#pragma once

#include "convolution.h"

namespace mlcalc::ops {

namespace LEVEL {

constexpr double R3 = 1.7320508075688772, R5 = 2.23606797749979, R7 = 2.6457513110645907, R15 = 3.872983346207417;
constexpr double R105 = 10.246950765959598, A3 = 2.091650066335189 /* sqrt(35/8) */, B3 = 1.6201851746019651 /* sqrt(21/8) */;

// u: x, y, z, each N numbers; h: (l_max + 1)² times N numbers.
template <typename T, int N>
inline void harmonics(int l_max, const T *u, T *h)
{
  for (int q = 0; q < N; ++q) {
    const T x = u[q], y = u[N + q], z = u[2 * N + q];
    h[q] = T(1);
    if (l_max < 1) continue;
    h[N + q] = T(R3) * x;
    h[2 * N + q] = T(R3) * y;
    h[3 * N + q] = T(R3) * z;
    if (l_max < 2) continue;
    const T s = x * x + z * z, d = z * z - x * x;
    h[4 * N + q] = T(R15) * x * z;
    h[5 * N + q] = T(R15) * x * y;
    h[6 * N + q] = T(R5) * (y * y - T(0.5) * s);
    h[7 * N + q] = T(R15) * y * z;
    h[8 * N + q] = T(0.5 * R15) * d;
    if (l_max < 3) continue;
    const T f = T(4) * y * y - s;
    h[9 * N + q] = T(A3) * x * (T(3) * z * z - x * x);
    h[10 * N + q] = T(R105) * x * y * z;
    h[11 * N + q] = T(B3) * x * f;
    h[12 * N + q] = T(0.5 * R7) * y * (T(2) * y * y - T(3) * s);
    h[13 * N + q] = T(B3) * z * f;
    h[14 * N + q] = T(0.5 * R105) * y * d;
    h[15 * N + q] = T(A3) * z * (z * z - T(3) * x * x);
  }
}

// From gradients g to the harmonics, gradients v to the components of u.
template <typename T, int N>
inline void harmonics_backward(int l_max, const T *u, const T *g, T *v)
{
  for (int q = 0; q < N; ++q) {
    const T x = u[q], y = u[N + q], z = u[2 * N + q];
    T vx = T(0), vy = T(0), vz = T(0);
    if (l_max >= 1) {
      vx += T(R3) * g[N + q];
      vy += T(R3) * g[2 * N + q];
      vz += T(R3) * g[3 * N + q];
    }
    if (l_max >= 2) {
      const T a = T(R15) * g[4 * N + q], b = T(R15) * g[5 * N + q], c = T(R5) * g[6 * N + q];
      const T d = T(R15) * g[7 * N + q], e = T(R15) * g[8 * N + q];
      vx += a * z + b * y - c * x - e * x;
      vy += b * x + T(2) * c * y + d * z;
      vz += a * x - c * z + d * y + e * z;
    }
    if (l_max >= 3) {
      const T s = x * x + z * z, f = T(4) * y * y - s;
      const T a = T(3 * A3) * g[9 * N + q], b = T(R105) * g[10 * N + q], c = T(B3) * g[11 * N + q];
      const T d = T(0.5 * R7) * g[12 * N + q], e = T(B3) * g[13 * N + q];
      const T k = T(R105) * g[14 * N + q], m = T(3 * A3) * g[15 * N + q];
      vx += a * (z * z - x * x) + b * y * z + c * (f - T(2) * x * x) - T(6) * d * x * y - T(2) * e * x * z
            - k * x * y - T(2) * m * x * z;
      vy += b * x * z + T(8) * c * x * y + d * (T(6) * y * y - T(3) * s) + T(8) * e * y * z
            + T(0.5) * k * (z * z - x * x);
      vz += T(2) * a * x * z + b * x * y - T(2) * c * x * z - T(6) * d * y * z + e * (f - T(2) * z * z)
            + k * y * z + m * (z * z - x * x);
    }
    v[q] = vx;
    v[N + q] = vy;
    v[2 * N + q] = vz;
  }
}

}  // namespace LEVEL
}  // namespace mlcalc::ops
