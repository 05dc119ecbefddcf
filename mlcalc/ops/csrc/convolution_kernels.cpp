// Compiled several times, for processors with more and less: LEVEL names the namespace, BYTES the vector registers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "harmonics.h"

namespace mlcalc::ops::LEVEL {
namespace {

constexpr int EDGES = 4;  // whose messages are added while a piece of the result stays in registers

template <typename T, int N>
struct Register {
  typedef T type __attribute__((vector_size(N * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <typename T>
struct Register<T, 1> {
  typedef T type;
};

template <typename T>
constexpr int LANES = BYTES / static_cast<int>(sizeof(T));
template <typename T>
using Full = typename Register<T, LANES<T>>::type;

// Channels taken at a time, a Pack of N registers with `lanes` numbers each: two full ones, half a one, one number.
template <typename T, int L, int N>
struct Pack {
  typedef typename Register<T, L>::type V;
  static constexpr int width = L * N;
  V v[N];

  static Pack load(const T *p)
  {
    Pack r;
    for (int i = 0; i < N; ++i) r.v[i] = *reinterpret_cast<const V *>(p + i * L);
    return r;
  }
  static Pack zero()
  {
    Pack r;
    for (int i = 0; i < N; ++i) r.v[i] = V{};
    return r;
  }
  void store(T *p) const
  {
    for (int i = 0; i < N; ++i) *reinterpret_cast<V *>(p + i * L) = v[i];
  }
  void add(T factor, const Pack &x)
  {
    for (int i = 0; i < N; ++i) v[i] += factor * x.v[i];
  }
  void add(const Pack &x, const Pack &y)
  {
    for (int i = 0; i < N; ++i) v[i] += x.v[i] * y.v[i];
  }
  friend Pack operator*(const Pack &x, const Pack &y)
  {
    Pack r;
    for (int i = 0; i < N; ++i) r.v[i] = x.v[i] * y.v[i];
    return r;
  }
  // Added up to one full register's lanes.
  void store_lanes(T *p) const
  {
    if constexpr (L < LANES<T>) *reinterpret_cast<Full<T> *>(p) = Full<T>{};
    V sum = v[0];
    for (int i = 1; i < N; ++i) sum += v[i];
    *reinterpret_cast<V *>(p) = sum;
  }
};
template <typename T>
using Wide = Pack<T, LANES<T>, 2>;
template <typename T>
using Narrow = Pack<T, LANES<T> / 2, 1>;
template <typename T>
using Single = Pack<T, 1, 1>;

template <typename T, int L>
inline T total(const T *p)
{
  if constexpr (L == 1) {
    return *p;
  } else {
    typedef typename Register<T, L / 2>::type Half;
    T half[L / 2];
    *reinterpret_cast<Half *>(half) = *reinterpret_cast<const Half *>(p) + *reinterpret_cast<const Half *>(p + L / 2);
    return total<T, L / 2>(half);
  }
}

// k: K of the path, GROUP edges side by side; x, w: rows of `count` edges, at this path's offsets.
template <typename T, typename P, int A, int B>
inline void forward_path(const T *k, int count, const T *const *x, const T *const *w, const Path &p, T *out)
{
  const int64_t channels = p.channels, stride = p.stride;
  for (int64_t c = 0; c < channels; c += P::width) {
    P sum[B];
    for (int b = 0; b < B; ++b) sum[b] = P::load(out + b * stride + c);
    for (int q = 0; q < count; ++q) {
      const T *const xq = x[q] + p.in + c;
      const P weight = P::load(w[q] + p.weight + c);
      for (int a = 0; a < A; ++a) {
        const P sent = weight * P::load(xq + a * channels);
        for (int b = 0; b < B; ++b) sum[b].add(k[(b * A + a) * GROUP + q], sent);
      }
    }
    for (int b = 0; b < B; ++b) sum[b].store(out + b * stride + c);
  }
}

// One edge: gradients gx (added to) and gw, and of K the sums over channels, LANES numbers each.
template <typename T, typename P, int A, int B>
inline void backward_path(const T *k, const T *g, const T *x, const T *w, const Path &p, T *gx, T *gw, T *gk)
{
  const int64_t channels = p.channels, stride = p.stride;
  for (int a = 0; a < A; ++a) {
    P sum[B];
    for (int b = 0; b < B; ++b) sum[b] = P::zero();
    for (int64_t c = 0; c < channels; c += P::width) {
      const P weight = P::load(w + c), sent = P::load(x + a * channels + c), product = weight * sent;
      P returned = P::zero();
      for (int b = 0; b < B; ++b) {
        const P gb = P::load(g + b * stride + c);
        returned.add(k[(b * A + a) * GROUP], gb);
        sum[b].add(product, gb);
      }
      P to = P::load(gx + a * channels + c), along = a == 0 ? P::zero() : P::load(gw + c);
      to.add(weight, returned);
      along.add(sent, returned);
      to.store(gx + a * channels + c);
      along.store(gw + c);
    }
    for (int b = 0; b < B; ++b) sum[b].store_lanes(gk + (b * A + a) * LANES<T>);
  }
}

#define MLCALC_DEGREES(F, N)                                                                          \
  switch (p.a * 8 + p.b) {                                                                            \
    case 9: F(N, 1, 1); break; case 11: F(N, 1, 3); break; case 13: F(N, 1, 5); break; case 15: F(N, 1, 7); break; \
    case 25: F(N, 3, 1); break; case 27: F(N, 3, 3); break; case 29: F(N, 3, 5); break; case 31: F(N, 3, 7); break; \
    case 41: F(N, 5, 1); break; case 43: F(N, 5, 3); break; case 45: F(N, 5, 5); break; case 47: F(N, 5, 7); break; \
    case 57: F(N, 7, 1); break; case 59: F(N, 7, 3); break; case 61: F(N, 7, 5); break; case 63: F(N, 7, 7); break; \
  }
#define MLCALC_WIDTHS(F)                                          \
  if (p.channels % Wide<T>::width == 0) { MLCALC_DEGREES(F, Wide<T>) }   \
  else if (p.channels % Narrow<T>::width == 0) { MLCALC_DEGREES(F, Narrow<T>) } \
  else { MLCALC_DEGREES(F, Single<T>) }

// What is worked out for GROUP edges side by side, and room for the rows of a few.
template <typename T>
class Group {
 public:
  Group(const Shape &shape, const Edges &edges, const Inputs<T> &inputs)
      : shape(shape), edges(edges), inputs(inputs), h(shape.n_harmonics * GROUP), gh(h.size()),
        coupled(shape.n_coupled * GROUP), weights(EDGES * shape.n_weights)
  {
    for (const Coefficient &f : shape.coefficients) values.push_back(static_cast<T>(f.value));
  }

  int64_t edge(int q) const { return edges.order ? edges.order[first + q] : first + q; }
  const T *x(int q) const { return inputs.x + edges.sender[edge(q)] * shape.n_in; }
  const T *k(const Path &p, int q) const { return coupled.data() + p.coupled * GROUP + q; }

  // Work out harmonics and K of the edges begin …, at most GROUP and before end; returns their number.
  int start(int64_t begin, int64_t end)
  {
    first = begin;
    const int count = static_cast<int>(std::min<int64_t>(GROUP, end - begin));
    if (inputs.vectors) {
      for (int q = 0; q < GROUP; ++q) {
        const T *const v = inputs.vectors + 3 * edge(std::min(q, count - 1));
        r[q] = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
        for (int i = 0; i < 3; ++i) u[i * GROUP + q] = v[i] / r[q];
      }
      harmonics(shape.l_edge, u, h.data());
    } else {
      for (int q = 0; q < GROUP; ++q) {
        const T *const row = inputs.harmonics + edge(std::min(q, count - 1)) * shape.n_harmonics;
        for (int m = 0; m < shape.n_harmonics; ++m) h[m * GROUP + q] = row[m];
      }
    }
    std::fill(coupled.begin(), coupled.end(), T(0));
    typedef Pack<T, LANES<T>, GROUP / LANES<T>> Row;
    for (size_t i = 0; i < values.size(); ++i) {
      T *const to = coupled.data() + shape.coefficients[i].coupled * GROUP;
      Row sum = Row::load(to);
      sum.add(values[i], Row::load(h.data() + shape.coefficients[i].harmonic * GROUP));
      sum.store(to);
    }
    return count;
  }

  // The radial weights of an edge: given, or from the table into row `slot`; no row if the edge is beyond its end.
  const T *weight(int q, int slot)
  {
    if (!inputs.vectors) return inputs.weights + edge(q) * shape.n_weights;
    const Piece piece = find(r[q]);
    if (!piece.rows) return nullptr;
    T *const to = weights.data() + slot * shape.n_weights;
    evaluate(piece.rows, piece.power, to);
    return to;
  }

  // The sum over all weights of gw times their derivative by the length.
  T slope(int q, const T *gw)
  {
    const Piece piece = find(r[q]);
    T factor[TERMS];
    for (int k = 0; k < TERMS; ++k) factor[k] = k ? static_cast<T>(k) * piece.power[k - 1] / inputs.table.step : T(0);
    typedef Pack<T, LANES<T>, 2> P;
    T *const derivative = weights.data();
    evaluate(piece.rows, factor, derivative);
    P sum = P::zero();
    int64_t i = 0;
    for (; i + P::width <= shape.n_weights; i += P::width) sum.add(P::load(gw + i), P::load(derivative + i));
    T part[LANES<T>];
    sum.store_lanes(part);
    T all = total<T, LANES<T>>(part);
    for (; i < shape.n_weights; ++i) all += gw[i] * derivative[i];
    return all;
  }

  const Shape &shape;
  const Edges &edges;
  const Inputs<T> &inputs;
  int64_t first = 0;
  T u[3 * GROUP], r[GROUP];
  std::vector<T> h, gh, values;  // values: the coefficients

 private:
  // The interval of the table a length lies in, and powers of the position within it.
  struct Piece {
    const T *rows;
    T power[TERMS];
  };

  Piece find(T length) const
  {
    Piece piece{nullptr, {}};
    const T position = length / inputs.table.step;
    if (!(position < static_cast<T>(inputs.table.intervals))) return piece;
    const int64_t k = static_cast<int64_t>(position);
    piece.rows = inputs.table.coefficients + k * TERMS * shape.n_weights;
    piece.power[0] = T(1);
    for (int j = 1; j < TERMS; ++j) piece.power[j] = piece.power[j - 1] * (position - static_cast<T>(k));
    return piece;
  }

  // to_i = Σ_k factor_k row_k[i] for all weights i.
  void evaluate(const T *rows, const T *factor, T *__restrict to) const
  {
    const int64_t n = shape.n_weights;
    const T a = factor[0], b = factor[1], c = factor[2], d = factor[3], e = factor[4], f = factor[5];
    const T *const ra = rows, *const rb = ra + n, *const rc = rb + n, *const rd = rc + n, *const re = rd + n;
    const T *const rf = re + n;
    for (int64_t i = 0; i < n; ++i) to[i] = a * ra[i] + b * rb[i] + c * rc[i] + d * rd[i] + e * re[i] + f * rf[i];
  }

  std::vector<T> coupled, weights;
};

template <typename T>
void forward(const Shape &shape, const Edges &edges, const Inputs<T> &inputs, int64_t n, int64_t begin, int64_t end,
             T *out)
{
  Group<T> group(shape, edges, inputs);
  for (int64_t i = begin; i < end; ++i)
    for (int64_t e = edges.first[i]; e < edges.first[i + 1]; e += GROUP) {
      const int count = group.start(e, edges.first[i + 1]);
      for (int q = 0; q < count; q += EDGES) {
        const int some = std::min(EDGES, count - q);
        const T *x[EDGES], *w[EDGES];
        int from[EDGES], used = 0;
        for (int s = 0; s < some; ++s) {
          const T *const weight = group.weight(q + s, used);
          if (!weight) continue;
          x[used] = group.x(q + s);
          w[used] = weight;
          from[used++] = q + s;
        }
        // Edges within the table's range lie side by side, except where one was beyond it.
        for (int s = 0; s < used;) {
          int run = 1;
          while (s + run < used && from[s + run] == from[s] + run) ++run;
          for (const Path &p : shape.paths) {
            T *const to = out + n * shape.start[p.degree] + i * shape.row[p.degree] + p.out;
#define CALL(P, A, B) forward_path<T, P, A, B>(group.k(p, from[s]), run, x + s, w + s, p, to)
            MLCALC_WIDTHS(CALL)
#undef CALL
          }
          s += run;
        }
      }
    }
}

template <typename T>
void backward(const Shape &shape, const Edges &edges, const Inputs<T> &inputs, const T *g, int64_t n, int64_t begin,
              int64_t end, const Gradients<T> &to)
{
  constexpr int lanes = LANES<T>;
  Group<T> group(shape, edges, inputs);
  std::vector<T> gk(shape.n_coupled * lanes), own_row(shape.n_in), own_weights(shape.n_weights);
  for (int64_t i = begin; i < end; ++i)
    for (int64_t e = edges.first[i]; e < edges.first[i + 1]; e += GROUP) {
      const int count = group.start(e, edges.first[i + 1]);
      T along[GROUP] = {};  // derivative by the length
      std::fill(group.gh.begin(), group.gh.end(), T(0));
      for (int q = 0; q < count; ++q) {
        T *const gx = to.rows ? to.rows + (e + q - edges.first[begin]) * shape.n_in : own_row.data();
        std::fill(gx, gx + shape.n_in, T(0));
        const T *const w = group.weight(q, 0);
        T *const gw = to.weights ? to.weights + group.edge(q) * shape.n_weights : own_weights.data();
        if (!w) continue;
        const T *const x = group.x(q);
        for (const Path &p : shape.paths) {
          const T *const gi = g + n * shape.start[p.degree] + i * shape.row[p.degree] + p.out;
#define CALL(P, A, B) \
  backward_path<T, P, A, B>(group.k(p, q), gi, x + p.in, w + p.weight, p, gx + p.in, gw + p.weight, \
                            gk.data() + p.coupled * lanes)
          MLCALC_WIDTHS(CALL)
#undef CALL
        }
        // Contract K's gradient lane by lane, and add up the lanes of each harmonic only.
        size_t f = 0;
        for (int m = 0; m < shape.n_harmonics; ++m) {
          auto sum = Pack<T, lanes, 1>::zero();
          for (; f < group.values.size() && shape.coefficients[f].harmonic == m; ++f)
            sum.add(group.values[f], Pack<T, lanes, 1>::load(gk.data() + shape.coefficients[f].coupled * lanes));
          T part[lanes];
          sum.store(part);
          group.gh[m * GROUP + q] = total<T, lanes>(part);
        }
        if (to.vectors) along[q] = group.slope(q, gw);
        if (!to.rows) {
          T *const row = to.x + edges.sender[group.edge(q)] * shape.n_in;
          for (int64_t c = 0; c < shape.n_in; ++c) row[c] += gx[c];
        }
      }
      if (to.vectors) {
        T v[3 * GROUP];
        harmonics_backward(shape.l_edge, group.u, group.gh.data(), v);
        for (int q = 0; q < count; ++q) {
          T *const row = to.vectors + 3 * group.edge(q);
          T radial = T(0);
          for (int c = 0; c < 3; ++c) radial += v[c * GROUP + q] * group.u[c * GROUP + q];
          for (int c = 0; c < 3; ++c)
            row[c] = (v[c * GROUP + q] - group.u[c * GROUP + q] * radial) / group.r[q]
                     + along[q] * group.u[c * GROUP + q];
        }
      } else if (to.harmonics) {
        for (int q = 0; q < count; ++q)
          for (int m = 0; m < shape.n_harmonics; ++m)
            to.harmonics[group.edge(q) * shape.n_harmonics + m] = group.gh[m * GROUP + q];
      }
    }
}

}  // namespace

template <typename T>
Kernels<T> kernels()
{
  return {forward<T>, backward<T>};
}

template Kernels<float> kernels<float>();
template Kernels<double> kernels<double>();

}  // namespace mlcalc::ops::LEVEL
