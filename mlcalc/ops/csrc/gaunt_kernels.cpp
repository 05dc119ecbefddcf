// Compiled several times, for processors with more and less: LEVEL names the namespace, BYTES the vector registers.
#include <algorithm>

#include "gaunt.h"
#include "registers.h"

namespace mlcalc::ops::LEVEL {
namespace {

// Rows of one atom and as many channels as a vector holds, in the order of the field.
template <typename T, int B>
struct Rows {
  typedef typename Vector<T, B>::type V;
  typedef typename Vector<T, B>::anywhere U;
  struct alignas(sizeof(V)) Row { V v; };
  std::vector<Row> rows;
  const Field<T> &field;

  explicit Rows(const Field<T> &f) : rows(f.order.size()), field(f) {}
  int64_t size() const { return static_cast<int64_t>(rows.size()); }
  void clear() { for (auto &row : rows) row.v = V{}; }
  void load(const T *x, int64_t stride)
  {
    for (int64_t i = 0; i < size(); ++i) rows[i].v = *reinterpret_cast<const U *>(x + field.order[i] * stride);
  }
  void store(T *x, int64_t stride) const
  {
    for (int64_t i = 0; i < size(); ++i) *reinterpret_cast<U *>(x + field.order[i] * stride) = rows[i].v;
  }
};

template <typename T, int B>
struct Images {
  typename Rows<T, B>::V v[POINTS][8];
};

// Values at a point's eight images from the sums over each class, and the transpose of that, which is the same.
template <typename V>
inline void reflect(V *v)
{
  V a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = v[i] + v[i + 1];
    a[i + 1] = v[i] - v[i + 1];
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = i; j < i + 2; ++j) {
      b[j] = a[j] + a[j + 2];
      b[j + 2] = a[j] - a[j + 2];
    }
  for (int j = 0; j < 4; ++j) {
    v[j] = b[j] + b[j + 4];
    v[j + 4] = b[j] - b[j + 4];
  }
}

template <typename T, int B>
inline void spread(const Rows<T, B> &x, int block, Images<T, B> &s)
{
  typedef typename Rows<T, B>::V V;
  const T *y = x.field.values.data() + block * x.size() * POINTS;
  const auto *row = x.rows.data();
  for (int k = 0; k < 8; ++k) {
    V sum[POINTS];
    for (int q = 0; q < POINTS; ++q) sum[q] = V{};
    for (int i = x.field.start[k]; i < x.field.start[k + 1]; ++i, ++row, y += POINTS)
      for (int q = 0; q < POINTS; ++q) sum[q] += y[q] * row->v;
    for (int q = 0; q < POINTS; ++q) s.v[q][k] = sum[q];
  }
  for (int q = 0; q < POINTS; ++q) reflect(s.v[q]);
}

template <typename T, int B>
inline void collect(Images<T, B> &s, int block, Rows<T, B> &x)
{
  typedef typename Rows<T, B>::V V;
  for (int q = 0; q < POINTS; ++q) reflect(s.v[q]);
  const T *y = x.field.values.data() + block * x.size() * POINTS;
  auto *row = x.rows.data();
  for (int k = 0; k < 8; ++k) {
    V t[POINTS];
    for (int q = 0; q < POINTS; ++q) t[q] = s.v[q][k];
    for (int i = x.field.start[k]; i < x.field.start[k + 1]; ++i, ++row, y += POINTS) {
      V sum = row->v;
      for (int q = 0; q < POINTS; ++q) sum += y[q] * t[q];
      row->v = sum;
    }
  }
}

// The mean of the product alone, for which no points are needed: the harmonics are orthonormal.
template <typename T, int B>
void mean(const Product<T> &p, const T *a, const T *b, int64_t begin, int64_t end, T *y)
{
  typedef typename Rows<T, B>::U U;
  constexpr int n = sizeof(U) / sizeof(T);
  const int64_t rows = static_cast<int64_t>(std::min(p.a.order.size(), p.b.order.size()));
  for (int64_t i = begin; i < end; ++i)
    for (int64_t c = 0; c < p.channels; c += n) {
      typename Rows<T, B>::V sum{};
      for (int64_t m = 0; m < rows; ++m)
        sum += *reinterpret_cast<const U *>(a + i * p.a_atom + m * p.a_row + c) *
               *reinterpret_cast<const U *>(b + i * p.b_atom + m * p.b_row + c);
      *reinterpret_cast<U *>(y + i * p.channels + c) = sum;
    }
}

// y = g x, and zero in rows that x has not.
template <typename T, int B>
void scale(int64_t rows, int64_t given, int64_t channels, const T *g, const T *x, int64_t stride, T *y)
{
  typedef typename Rows<T, B>::U U;
  for (int64_t c = 0; c < channels; c += static_cast<int64_t>(sizeof(U) / sizeof(T))) {
    const typename Rows<T, B>::V factor = *reinterpret_cast<const U *>(g + c);
    for (int64_t m = 0; m < rows; ++m)
      *reinterpret_cast<U *>(y + m * channels + c) =
        m < given ? factor * *reinterpret_cast<const U *>(x + m * stride + c) : U{};
  }
}

template <typename T, int B>
void product(const Product<T> &p, const T *a, const T *b, int64_t begin, int64_t end, T *y)
{
  constexpr int n = sizeof(typename Rows<T, B>::V) / sizeof(T);
  if (p.out.order.size() == 1) return mean<T, B>(p, a, b, begin, end, y);
  Rows<T, B> ra(p.a), rb(p.b), ry(p.out);
  Images<T, B> sa, sb;
  const int blocks = static_cast<int>(p.weights.size()) / POINTS;
  for (int64_t i = begin; i < end; ++i)
    for (int64_t c = 0; c < p.channels; c += n) {
      ra.load(a + i * p.a_atom + c, p.a_row);
      rb.load(b + i * p.b_atom + c, p.b_row);
      ry.clear();
      for (int block = 0; block < blocks; ++block) {
        spread(ra, block, sa);
        spread(rb, block, sb);
        for (int q = 0; q < POINTS; ++q)
          for (int k = 0; k < 8; ++k) sa.v[q][k] *= p.weights[block * POINTS + q] * sb.v[q][k];
        collect(sa, block, ry);
      }
      ry.store(y + i * ry.size() * p.channels + c, p.channels);
    }
}

template <typename T, int B>
void gradients(const Product<T> &p, const T *g, const T *a, const T *b, int64_t begin, int64_t end, T *ga, T *gb)
{
  typedef typename Rows<T, B>::V V;
  constexpr int n = sizeof(V) / sizeof(T);
  if (p.out.order.size() == 1) {
    const int64_t rows_a = static_cast<int64_t>(p.a.order.size()), rows_b = static_cast<int64_t>(p.b.order.size());
    for (int64_t i = begin; i < end; ++i) {
      const T *const gi = g + i * p.channels;
      scale<T, B>(rows_a, rows_b, p.channels, gi, b + i * p.b_atom, p.b_row, ga + i * rows_a * p.channels);
      scale<T, B>(rows_b, rows_a, p.channels, gi, a + i * p.a_atom, p.a_row, gb + i * rows_b * p.channels);
    }
    return;
  }
  Rows<T, B> ra(p.a), rb(p.b), rg(p.out), rga(p.a), rgb(p.b);
  Images<T, B> sa, sb, sg;
  const int blocks = static_cast<int>(p.weights.size()) / POINTS;
  for (int64_t i = begin; i < end; ++i)
    for (int64_t c = 0; c < p.channels; c += n) {
      ra.load(a + i * p.a_atom + c, p.a_row);
      rb.load(b + i * p.b_atom + c, p.b_row);
      rg.load(g + i * rg.size() * p.channels + c, p.channels);
      rga.clear();
      rgb.clear();
      for (int block = 0; block < blocks; ++block) {
        spread(ra, block, sa);
        spread(rb, block, sb);
        spread(rg, block, sg);
        for (int q = 0; q < POINTS; ++q)
          for (int k = 0; k < 8; ++k) {
            const V scaled = p.weights[block * POINTS + q] * sg.v[q][k];
            sa.v[q][k] *= scaled;
            sb.v[q][k] *= scaled;
          }
        collect(sb, block, rga);
        collect(sa, block, rgb);
      }
      rga.store(ga + i * rga.size() * p.channels + c, p.channels);
      rgb.store(gb + i * rgb.size() * p.channels + c, p.channels);
    }
}

}  // namespace

template <typename T>
GauntKernels<T> gaunt_kernels(bool wide)
{
  if (wide) return {product<T, BYTES>, gradients<T, BYTES>};
  return {product<T, 0>, gradients<T, 0>};
}
template GauntKernels<float> gaunt_kernels<float>(bool);
template GauntKernels<double> gaunt_kernels<double>(bool);

}  // namespace mlcalc::ops::LEVEL
