// Linear maps of channels, one for each degree. What kernels share with torch.
#pragma once

#include <cstdint>

namespace mlcalc::ops {

// From rows x (N, (l_max + 1)^2, n_in) with weights (S, l_max + 1, n_in, n_out).
struct Maps {
  int64_t l_max, n_in, n_out;
  const int64_t *set;  // (N,): which of the S; null where there is one for all

  int64_t rows() const { return (l_max + 1) * (l_max + 1); }
  int64_t first(int64_t i) const { return (set ? set[i] : 0) * (l_max + 1) * n_in * n_out; }
};

template <typename T>
struct MixKernels {
  // y = x w, atoms [begin, end)
  void (*apply)(const Maps &, const T *x, const T *w, int64_t begin, int64_t end, T *y);
  // w += x^T y summed over n atoms, degrees [begin, end)
  void (*outer)(const Maps &, const T *x, const T *y, int64_t n, int64_t begin, int64_t end, T *w);
};

// The same source compiled for AVX-512, for AVX2 with FMA, and for any processor; `wide` takes registers full of
// numbers, otherwise they are taken one by one.
namespace v4 { template <typename T> MixKernels<T> mix_kernels(bool wide); }
namespace v3 { template <typename T> MixKernels<T> mix_kernels(bool wide); }
namespace v1 { template <typename T> MixKernels<T> mix_kernels(bool wide); }

}  // namespace mlcalc::ops
