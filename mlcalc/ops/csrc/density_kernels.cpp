// Compiled several times, for processors with more and less: LEVEL names the namespace, BYTES the vector registers.
#include <algorithm>
#include <cmath>

#include "density.h"
#include "registers.h"

namespace mlcalc::ops::LEVEL {
namespace {

constexpr int RADIAL = 8;  // radial functions that are worked on together
template <typename T>
struct Group { typedef T type __attribute__((vector_size(RADIAL * sizeof(T)))); };

// A value and its derivative along one direction.
template <typename V>
struct Dual {
  V v, d;
  Dual &operator+=(const Dual &b) { v += b.v; d += b.d; return *this; }
};
template <typename V>
inline Dual<V> operator+(const Dual<V> &a, const Dual<V> &b) { return {a.v + b.v, a.d + b.d}; }
template <typename V>
inline Dual<V> operator-(const Dual<V> &a, const Dual<V> &b) { return {a.v - b.v, a.d - b.d}; }
template <typename V>
inline Dual<V> operator*(const Dual<V> &a, const Dual<V> &b) { return {a.v * b.v, a.v * b.d + a.d * b.v}; }
template <typename T, typename V>
inline Dual<V> operator*(T a, const Dual<V> &b) { return {a * b.v, a * b.d}; }
template <typename T, typename V>
inline Dual<V> operator+(T a, const Dual<V> &b) { return {a + b.v, b.d}; }
template <typename T, typename V>
inline Dual<V> operator-(T a, const Dual<V> &b) { return {a - b.v, -b.d}; }

template <typename V>
inline V positive(const V &x) { return x > 0 ? x : V{}; }
template <typename V>
inline Dual<V> positive(const Dual<V> &x) { return {positive(x.v), x.v > 0 ? x.d : V{}}; }

// 1 / sqrt(x)
template <typename T, typename V>
inline V inverse_root(const V &x)
{
  V y;
  if constexpr (sizeof(V) == sizeof(T)) y = std::sqrt(x);
  else for (unsigned i = 0; i < sizeof(V) / sizeof(T); ++i) y[i] = std::sqrt(x[i]);
  return T(1) / y;
}
template <typename T, typename V>
inline Dual<V> inverse_root(const Dual<V> &x)
{
  const V y = inverse_root<T>(x.v);
  return {y, T(-0.5) * y * y * y * x.d};
}

template <typename T, typename S>
inline S polynomial(const std::vector<T> &coefficients, const S &x)
{
  S sum = coefficients.back() + S{};
  for (int k = static_cast<int>(coefficients.size()) - 2; k >= 0; --k) sum = coefficients[k] + sum * x;
  return sum;
}

// As many edges as a vector holds; S is a vector or its dual.
template <typename T, typename S>
struct Edges {
  const Density<T> &f;
  struct alignas(64) Cell { S s; };
  S x, y, z, inverse, inside, envelope;  // unit vector, 1 / r, 1 - r / cutoff or 0
  std::vector<Cell> h, b, legendre, c, s, sine, cosine, gh, gb;

  explicit Edges(const Density<T> &f_) : f(f_)
  {
    const int l = f.l_max + 1, r = (f.n_radial + RADIAL - 1) / RADIAL * RADIAL;
    h.resize(f.components());
    gh.resize(f.components());
    legendre.resize(l * (l + 1) / 2);
    c.resize(l);
    s.resize(l);
    for (auto *cells : {&b, &gb, &sine, &cosine}) cells->assign(r, Cell{S{}});
  }

  // Values of the basis at edge vectors.
  void evaluate(S vx, S vy, S vz)
  {
    inverse = inverse_root<T>(vx * vx + vy * vy + vz * vz);
    x = vx * inverse;
    y = vy * inverse;
    z = vz * inverse;
    angular();
    inside = positive(T(1) - (T(1) / f.cutoff) * ((vx * vx + vy * vy + vz * vz) * inverse));
    radial();
  }

  void angular()
  {
    c[0].s = T(1) + S{};
    s[0].s = S{};
    for (int m = 1; m <= f.l_max; ++m) {
      c[m].s = z * c[m - 1].s - x * s[m - 1].s;
      s[m].s = z * s[m - 1].s + x * c[m - 1].s;
    }
    for (int l = 0, k = 0; l <= f.l_max; ++l)
      for (int m = 0; m <= l; ++m, ++k) {
        S q;
        if (m == l) q = f.recurrence[2 * k] + S{};
        else {
          q = f.recurrence[2 * k] * (y * legendre[k - l].s);
          if (m < l - 1) q = q - f.recurrence[2 * k + 1] * legendre[k - 2 * l + 1].s;
        }
        legendre[k].s = q;
        q = f.norms[k] * q;
        h[l * l + l + m].s = q * c[m].s;
        if (m) h[l * l + l - m].s = q * s[m].s;
      }
  }

  void radial()
  {
    const T pi = T(3.14159265358979323846);
    const S u = pi * (T(0.5) - inside), square = u * u;  // sin(pi r / cutoff) = cos(u), cos(…) = -sin(u)
    const S s1 = polynomial(f.cosine, square), c1 = T(-1) * (u * polynomial(f.sine, square));
    envelope = inside * inside * inside * polynomial(f.envelope, T(1) - inside);
    const S factor = f.scale * (envelope * inverse);
    S sn = s1, cn = c1;
    for (int n = 0; n < f.n_radial; ++n) {
      sine[n].s = sn;
      cosine[n].s = cn;
      b[n].s = factor * sn;
      const S next = sn * c1 + cn * s1;
      cn = cn * c1 - sn * s1;
      sn = next;
    }
  }

  // gh and gb from g (groups, components, RADIAL)
  void contract(const T *g)
  {
    const int components = f.components();
    for (int m = 0; m < components; ++m) gh[m].s = S{};
    for (int first = 0; first < f.n_radial; first += RADIAL, g += components * RADIAL) {
      S sum[RADIAL], value[RADIAL];
      for (int r = 0; r < RADIAL; ++r) {
        sum[r] = S{};
        value[r] = b[first + r].s;
      }
      for (int m = 0; m < components; ++m) {
        const S hm = h[m].s;
        S even = gh[m].s, odd{};
        for (int r = 0; r < RADIAL; r += 2) {
          even += g[m * RADIAL + r] * value[r];
          odd += g[m * RADIAL + r + 1] * value[r + 1];
          sum[r] += g[m * RADIAL + r] * hm;
          sum[r + 1] += g[m * RADIAL + r + 1] * hm;
        }
        gh[m].s = even + odd;
      }
      for (int r = 0; r < RADIAL; ++r) gb[first + r].s = sum[r];
    }
  }

  // Derivative with respect to the edge vectors from gh and gb.
  void gradient(S &vx, S &vy, S &vz)
  {
    S gx{}, gy{}, gz{};
    for (int m = 0; m <= f.l_max; ++m) {
      S to_c{}, to_s{};
      for (int l = m; l <= f.l_max; ++l) {
        const int k = l * (l + 1) / 2 + m;
        const S up = f.norms[k] * gh[l * l + l + m].s, down = f.norms[k] * gh[l * l + l - m].s;
        S along = up * c[m].s;
        if (m) {
          along += down * s[m].s;
          to_c += up * legendre[k].s;
          to_s += down * legendre[k].s;
        }
        if (m < l) gy += along * legendre[k + 1].s;
      }
      if (m) {
        gz += T(m) * (to_c * c[m - 1].s + to_s * s[m - 1].s);
        gx += T(m) * (to_s * c[m - 1].s - to_c * s[m - 1].s);
      }
    }
    S power = T(1) + S{};
    const S t = T(1) - inside;
    for (int k = 1; k < f.power; ++k) power = power * t;
    const T p = T(f.power), k = T(3.14159265358979323846) / f.cutoff;
    const S slope = (T(-0.5) * p * (p + 1) * (p + 2) / f.cutoff) * (power * (inside * inside));
    const S on_sine = f.scale * (inverse * (slope - envelope * inverse));
    const S on_cosine = (f.scale * k) * (envelope * inverse);
    S gr{};
    for (int n = 0; n < f.n_radial; ++n) gr += gb[n].s * (on_sine * sine[n].s + T(n + 1) * (on_cosine * cosine[n].s));
    const S along = gr - inverse * (gx * x + gy * y + gz * z);
    vx = gx * inverse + x * along;
    vy = gy * inverse + y * along;
    vz = gz * inverse + z * along;
  }
};

template <typename T>
struct Lanes {
  typedef typename Vector<T, BYTES>::type V;
  static constexpr int n = sizeof(V) / sizeof(T);
  static T get(const V &v, int lane)
  {
    if constexpr (n == 1) return v;
    else return v[lane];
  }
  // Columns of (E, 3) at some edges; lanes beyond them get an edge at the cutoff, which counts nothing.
  static void load(const T *vectors, const int64_t *edges, int count, T beyond, V *v)
  {
    alignas(64) T buffer[3][n];
    for (int lane = 0; lane < n; ++lane)
      for (int k = 0; k < 3; ++k) buffer[k][lane] = lane < count ? vectors[3 * edges[lane] + k] : k ? T(0) : beyond;
    for (int k = 0; k < 3; ++k) v[k] = *reinterpret_cast<const V *>(buffer[k]);
  }
  static void store(const V *v, const int64_t *edges, int count, T *vectors)
  {
    for (int k = 0; k < 3; ++k) {
      alignas(64) T buffer[n];
      *reinterpret_cast<V *>(buffer) = v[k];
      for (int lane = 0; lane < count; ++lane) vectors[3 * edges[lane] + k] = buffer[lane];
    }
  }
};

// Sums of h ⊗ b over edges.
template <typename T>
struct Sums {
  typedef typename Lanes<T>::V V;
  typedef typename Group<T>::type G;
  struct alignas(64) Cell { G g; };
  const int components, n_radial, groups;
  std::vector<Cell> total, rows;

  explicit Sums(const Density<T> &f)
      : components(f.components()), n_radial(f.n_radial), groups((n_radial + RADIAL - 1) / RADIAL),
        total(groups * components), rows(Lanes<T>::n)
  {
  }
  void clear() { for (auto &cell : total) cell.g = G{}; }

  template <typename GetH, typename GetB> void add(GetH h, GetB b, int count)
  {
    for (int group = 0; group < groups; ++group) {
      for (int r = 0; r < RADIAL; ++r) {
        const V &value = b(group * RADIAL + r);
        for (int lane = 0; lane < count; ++lane) reinterpret_cast<T *>(&rows[lane].g)[r] = Lanes<T>::get(value, lane);
      }
      Cell *const sum = total.data() + group * components;
      int m = 0;
      for (; m + 7 <= components; m += 7) {
        G part[7];
        const T *at[7];
        for (int j = 0; j < 7; ++j) {
          part[j] = sum[m + j].g;
          at[j] = reinterpret_cast<const T *>(&h(m + j));
        }
        for (int lane = 0; lane < count; ++lane)
          for (int j = 0; j < 7; ++j) part[j] += at[j][lane] * rows[lane].g;
        for (int j = 0; j < 7; ++j) sum[m + j].g = part[j];
      }
      for (; m < components; ++m)
        for (int lane = 0; lane < count; ++lane) sum[m].g += reinterpret_cast<const T *>(&h(m))[lane] * rows[lane].g;
    }
  }
  void store(T *y) const
  {
    for (int group = 0; group < groups; ++group)
      for (int m = 0; m < components; ++m)
        for (int r = 0; r < RADIAL && group * RADIAL + r < n_radial; ++r)
          y[m * n_radial + group * RADIAL + r] = total[group * components + m].g[r];
  }
};

// One row of (components, n_radial) as (groups, components, RADIAL).
template <typename T>
void group_rows(const Density<T> &f, const T *g, std::vector<T> &grouped)
{
  for (int first = 0, k = 0; first < f.n_radial; first += RADIAL)
    for (int m = 0; m < f.components(); ++m)
      for (int r = first; r < first + RADIAL; ++r, ++k) grouped[k] = r < f.n_radial ? g[m * f.n_radial + r] : T(0);
}

template <typename T>
void density(const Density<T> &f, const T *vectors, int64_t begin, int64_t end, T *y)
{
  typedef typename Lanes<T>::V V;
  Edges<T, V> e(f);
  Sums<T> sums(f);
  for (int64_t k = begin; k < end; ++k) {
    sums.clear();
    for (int64_t q = f.start[k]; q < f.start[k + 1]; q += Lanes<T>::n) {
      const int count = static_cast<int>(std::min<int64_t>(Lanes<T>::n, f.start[k + 1] - q));
      V v[3];
      Lanes<T>::load(vectors, f.edges + q, count, f.cutoff, v);
      e.evaluate(v[0], v[1], v[2]);
      sums.add([&](int m) -> const V & { return e.h[m].s; }, [&](int r) -> const V & { return e.b[r].s; }, count);
    }
    sums.store(y + k * f.components() * f.n_radial);
  }
}

template <typename T>
void gradient(const Density<T> &f, const T *g, const T *vectors, int64_t begin, int64_t end, T *gv)
{
  typedef typename Lanes<T>::V V;
  Edges<T, V> e(f);
  std::vector<T> grouped(e.b.size() * f.components());
  for (int64_t k = begin; k < end; ++k) {
    group_rows(f, g + k * f.components() * f.n_radial, grouped);
    for (int64_t q = f.start[k]; q < f.start[k + 1]; q += Lanes<T>::n) {
      const int count = static_cast<int>(std::min<int64_t>(Lanes<T>::n, f.start[k + 1] - q));
      V v[3];
      Lanes<T>::load(vectors, f.edges + q, count, f.cutoff, v);
      e.evaluate(v[0], v[1], v[2]);
      e.contract(grouped.data());
      e.gradient(v[0], v[1], v[2]);
      Lanes<T>::store(v, f.edges + q, count, gv);
    }
  }
}

template <typename T>
void second(const Density<T> &f, const T *u, const T *g, const T *vectors, int64_t begin, int64_t end, T *y, T *gv)
{
  typedef typename Lanes<T>::V V;
  typedef Dual<V> D;
  Edges<T, D> e(f);
  Sums<T> sums(f);
  std::vector<T> grouped(e.b.size() * f.components());
  for (int64_t k = begin; k < end; ++k) {
    group_rows(f, g + k * f.components() * f.n_radial, grouped);
    sums.clear();
    for (int64_t q = f.start[k]; q < f.start[k + 1]; q += Lanes<T>::n) {
      const int count = static_cast<int>(std::min<int64_t>(Lanes<T>::n, f.start[k + 1] - q));
      V v[3], d[3];
      Lanes<T>::load(vectors, f.edges + q, count, f.cutoff, v);
      Lanes<T>::load(u, f.edges + q, count, T(0), d);
      D w[3];
      for (int i = 0; i < 3; ++i) w[i] = {v[i], d[i]};
      e.evaluate(w[0], w[1], w[2]);
      sums.add([&](int m) -> const V & { return e.h[m].s.d; }, [&](int r) -> const V & { return e.b[r].s.v; }, count);
      sums.add([&](int m) -> const V & { return e.h[m].s.v; }, [&](int r) -> const V & { return e.b[r].s.d; }, count);
      e.contract(grouped.data());
      e.gradient(w[0], w[1], w[2]);
      for (int i = 0; i < 3; ++i) v[i] = w[i].d;
      Lanes<T>::store(v, f.edges + q, count, gv);
    }
    sums.store(y + k * f.components() * f.n_radial);
  }
}

}  // namespace

template <typename T>
DensityKernels<T> density_kernels(bool)
{
  return {density<T>, gradient<T>, second<T>};
}
template DensityKernels<float> density_kernels<float>(bool);
template DensityKernels<double> density_kernels<double>(bool);

}  // namespace mlcalc::ops::LEVEL
