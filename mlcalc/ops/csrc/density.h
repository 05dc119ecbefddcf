// Densities of neighbours, sums over edges of radial functions times harmonics. What kernels share with torch.
#pragma once

#include <cstdint>
#include <vector>

namespace mlcalc::ops {

// Harmonics of degrees 0 ... l_max times Bessel functions under an envelope, and the edges that each row sums over.
template <typename T>
struct Density {
  int l_max, n_radial, power;
  T cutoff, scale;
  std::vector<T> norms;      // (l_max + 1)(l_max + 2) / 2: of degree l and order m >= 0
  std::vector<T> recurrence; // two for each of those
  std::vector<T> envelope;   // coefficients of the polynomial beside (1 - x)^3
  std::vector<T> sine, cosine;
  const int64_t *edges, *start;  // edges[start[k]] ... edges[start[k + 1] - 1] belong to row k

  int components() const { return (l_max + 1) * (l_max + 1); }
};

template <typename T>
struct DensityKernels {
  // (rows, components, n_radial) of edge vectors (E, 3), rows [begin, end)
  void (*density)(const Density<T> &, const T *vectors, int64_t begin, int64_t end, T *y);
  // derivative with respect to the vectors, contracted with g
  void (*gradient)(const Density<T> &, const T *g, const T *vectors, int64_t begin, int64_t end, T *gv);
  // derivative of that, contracted with u (E, 3), with respect to g and to the vectors
  void (*second)(const Density<T> &, const T *u, const T *g, const T *vectors, int64_t begin, int64_t end, T *y, T *gv);
};

// The same source compiled for AVX-512, for AVX2 with FMA, and for any processor; all take registers full of edges.
namespace v4 { template <typename T> DensityKernels<T> density_kernels(bool wide); }
namespace v3 { template <typename T> DensityKernels<T> density_kernels(bool wide); }
namespace v1 { template <typename T> DensityKernels<T> density_kernels(bool wide); }

}  // namespace mlcalc::ops
