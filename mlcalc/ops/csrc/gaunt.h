// Products of fields on the sphere, of (N, M, C) and (N, M, C), exact by quadrature. What kernels share with torch.
#pragma once

#include <cstdint>
#include <vector>

namespace mlcalc::ops {

constexpr int POINTS = 4;  // points of the sphere that are worked on together

// The rows of a field, sorted by their signs under x -> -x, y -> -y, z -> -z, and their values at points of one octant.
template <typename T>
struct Field {
  std::vector<int> order;  // those of class k are order[start[k]] ... order[start[k + 1] - 1]
  int start[9];
  std::vector<T> values;   // (blocks, rows in this order, POINTS)
};

template <typename T>
struct Product {
  Field<T> a, b, out;
  std::vector<T> weights;  // (blocks, POINTS): of each of a point's eight images; zero where a point only fills a block
  int64_t channels;
  int64_t a_atom, a_row, b_atom, b_row;  // strides; all else is dense
};

template <typename T>
struct GauntKernels {
  void (*product)(const Product<T> &, const T *a, const T *b, int64_t begin, int64_t end, T *y);
  void (*gradients)(const Product<T> &, const T *g, const T *a, const T *b, int64_t begin, int64_t end, T *ga, T *gb);
};

// The same source compiled for AVX-512, for AVX2 with FMA, and for any processor; `wide` takes registers full of
// numbers, otherwise they are taken one by one.
namespace v4 { template <typename T> GauntKernels<T> gaunt_kernels(bool wide); }
namespace v3 { template <typename T> GauntKernels<T> gaunt_kernels(bool wide); }
namespace v1 { template <typename T> GauntKernels<T> gaunt_kernels(bool wide); }

}  // namespace mlcalc::ops
