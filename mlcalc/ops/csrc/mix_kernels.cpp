// Compiled several times, for processors with more and less: LEVEL names the namespace, BYTES the vector registers.
#include "mix.h"
#include "registers.h"

namespace mlcalc::ops::LEVEL {
namespace {

// R rows of one degree, to D vectors of outputs.
template <typename T, int B, int R, int D>
inline void block(const Maps &f, const T *x, const T *w, T *y)
{
  typedef typename Vector<T, B>::anywhere V;
  constexpr int n = sizeof(V) / sizeof(T);
  V sum[R][D];
  for (int r = 0; r < R; ++r)
    for (int d = 0; d < D; ++d) sum[r][d] = V{};
  for (int64_t k = 0; k < f.n_in; ++k, w += f.n_out) {
    V column[D];
    for (int d = 0; d < D; ++d) column[d] = *reinterpret_cast<const V *>(w + d * n);
    for (int r = 0; r < R; ++r)
      for (int d = 0; d < D; ++d) sum[r][d] += x[r * f.n_in + k] * column[d];
  }
  for (int r = 0; r < R; ++r)
    for (int d = 0; d < D; ++d) *reinterpret_cast<V *>(y + r * f.n_out + d * n) = sum[r][d];
}

template <typename T, int B, int D>
inline void rows(const Maps &f, int64_t count, const T *x, const T *w, T *y)
{
  int64_t r = 0;
  for (; r + 5 <= count; r += 5) block<T, B, 5, D>(f, x + r * f.n_in, w, y + r * f.n_out);
  switch (count - r) {
    case 1: block<T, B, 1, D>(f, x + r * f.n_in, w, y + r * f.n_out); break;
    case 2: block<T, B, 2, D>(f, x + r * f.n_in, w, y + r * f.n_out); break;
    case 3: block<T, B, 3, D>(f, x + r * f.n_in, w, y + r * f.n_out); break;
    case 4: block<T, B, 4, D>(f, x + r * f.n_in, w, y + r * f.n_out); break;
  }
}

template <typename T, int B>
void apply(const Maps &f, const T *x, const T *w, int64_t begin, int64_t end, T *y)
{
  constexpr int64_t n = sizeof(typename Vector<T, B>::anywhere) / sizeof(T);
  for (int64_t i = begin; i < end; ++i)
    for (int64_t l = 0; l <= f.l_max; ++l) {
      const T *const xi = x + (i * f.rows() + l * l) * f.n_in, *const wi = w + f.first(i) + l * f.n_in * f.n_out;
      T *const yi = y + (i * f.rows() + l * l) * f.n_out;
      int64_t d = 0;
      for (; d + 3 * n <= f.n_out; d += 3 * n) rows<T, B, 3>(f, 2 * l + 1, xi, wi + d, yi + d);
      for (; d < f.n_out; d += n) rows<T, B, 1>(f, 2 * l + 1, xi, wi + d, yi + d);
    }
}

template <typename T, int B>
void outer(const Maps &f, const T *x, const T *y, int64_t n, int64_t begin, int64_t end, T *w)
{
  typedef typename Vector<T, B>::anywhere V;
  for (int64_t l = begin; l < end; ++l)
    for (int64_t i = 0; i < n; ++i) {
      const T *const xi = x + (i * f.rows() + l * l) * f.n_in, *const yi = y + (i * f.rows() + l * l) * f.n_out;
      T *const wi = w + f.first(i) + l * f.n_in * f.n_out;
      for (int64_t k = 0; k < f.n_in; ++k)
        for (int64_t d = 0; d < f.n_out; d += static_cast<int64_t>(sizeof(V) / sizeof(T))) {
          V sum = *reinterpret_cast<V *>(wi + k * f.n_out + d);
          for (int64_t m = 0; m < 2 * l + 1; ++m)
            sum += xi[m * f.n_in + k] * *reinterpret_cast<const V *>(yi + m * f.n_out + d);
          *reinterpret_cast<V *>(wi + k * f.n_out + d) = sum;
        }
    }
}

}  // namespace

template <typename T>
MixKernels<T> mix_kernels(bool wide)
{
  if (wide) return {apply<T, BYTES>, outer<T, BYTES>};
  return {apply<T, 0>, outer<T, 0>};
}
template MixKernels<float> mix_kernels<float>(bool);
template MixKernels<double> mix_kernels<double>(bool);

}  // namespace mlcalc::ops::LEVEL
