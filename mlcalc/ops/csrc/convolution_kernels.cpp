// Compiled several times, for processors with more and less: LEVEL names the namespace, BYTES the vector registers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "harmonics.h"

namespace mlcalc::ops::LEVEL {
namespace {

constexpr int SOME = 4;  // edges whose gradients of K are contracted together

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

// Radial weights of an edge: a row of them, or polynomials in the position within an interval of the table.
template <typename T>
struct Radial {
  const T *row;
  T power[TERMS], slope[TERMS];

  // For one path: w, and with a table also dw/dr. `length` is that of a row of coefficients.
  template <bool table, typename P, bool derivative>
  const T *weights(const Path &p, int64_t length, T *w, T *dw) const
  {
    if constexpr (!table) {
      return row + p.weight;
    } else {
      const T *const r = row + p.weight;
      for (int64_t c = 0; c < p.channels; c += P::width) {
        P value = P::load(r + c), change = P::zero();
        for (int j = 1; j < TERMS; ++j) {
          const P term = P::load(r + j * length + c);
          value.add(power[j], term);
          if constexpr (derivative) change.add(slope[j], term);
        }
        value.store(w + c);
        if constexpr (derivative) change.store(dw + c);
      }
      return w;
    }
  }
};

// Up to BLOCK edges of one node, and what is worked out for all of them side by side.
template <typename T>
class Block {
 public:
  Block(const Shape &shape, const Edges &edges, const Inputs<T> &inputs)
      : shape(shape), edges(edges), inputs(inputs), h(shape.n_harmonics * BLOCK), gh(h.size()), k(49 * BLOCK)
  {
    for (const Coefficient &f : shape.coefficients) values.push_back(static_cast<T>(f.value));
    int64_t most = 0;
    for (const Path &p : shape.paths) most = std::max<int64_t>(most, p.channels);
    w.resize(most);
    dw.resize(most);
  }

  // Take the edges begin … end, of which those beyond the table's end are left out, and work out their harmonics.
  void start(int64_t begin, int64_t end)
  {
    count = 0;
    for (int64_t e = begin; e < end; ++e) {
      const int64_t edge = edges.order ? edges.order[e] : e;
      Radial<T> found;
      if (inputs.vectors) {
        const T *const v = inputs.vectors + 3 * edge;
        const T length = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
        if (!find(length, found)) continue;
        r[count] = length;
        for (int i = 0; i < 3; ++i) u[i * BLOCK + count] = v[i] / length;
      } else {
        found.row = inputs.weights + edge * shape.n_weights;
        for (int m = 0; m < shape.n_harmonics; ++m)
          h[m * BLOCK + count] = inputs.harmonics[edge * shape.n_harmonics + m];
      }
      radial[count] = found;
      edge_of[count] = edge;
      place[count] = e;
      x[count++] = inputs.x + edges.sender[edge] * shape.n_in;
    }
    if (inputs.vectors) {
      for (int q = count; q < BLOCK; ++q)
        for (int i = 0; i < 3; ++i) u[i * BLOCK + q] = T(0);
      harmonics<T, BLOCK>(shape.l_edge, u, h.data());
    }
  }

  // K of a path, BLOCK edges side by side.
  const T *couple(const Path &p)
  {
    typedef Pack<T, LANES<T>, BLOCK / LANES<T>> Row;
    std::fill(k.begin(), k.begin() + p.a * p.b * BLOCK, T(0));
    for (int i = p.first; i < p.last; ++i) {
      T *const to = k.data() + shape.coefficients[i].coupled * BLOCK;
      Row sum = Row::load(to);
      sum.add(values[i], Row::load(h.data() + shape.coefficients[i].harmonic * BLOCK));
      sum.store(to);
    }
    return k.data();
  }

  const Shape &shape;
  const Edges &edges;
  const Inputs<T> &inputs;
  int count = 0;
  int64_t edge_of[BLOCK], place[BLOCK];  // place: among the edges by receiver
  const T *x[BLOCK];
  Radial<T> radial[BLOCK];
  T u[3 * BLOCK], r[BLOCK];
  std::vector<T> h, gh, values, w, dw;

 private:
  bool find(T length, Radial<T> &found) const
  {
    const T position = length / inputs.table.step;
    if (position >= static_cast<T>(inputs.table.intervals) && std::isfinite(position)) return false;
    // Of what is not finite nothing is left out: it becomes NaN, for the caller to see.
    const int64_t interval = std::isfinite(position) ? static_cast<int64_t>(position) : 0;
    const T s = position - static_cast<T>(interval);
    found.row = inputs.table.coefficients + interval * TERMS * shape.n_weights;
    found.power[0] = T(1);
    found.slope[0] = T(0);
    for (int j = 1; j < TERMS; ++j) {
      found.slope[j] = static_cast<T>(j) * found.power[j - 1] / inputs.table.step;
      found.power[j] = found.power[j - 1] * s;
    }
    return true;
  }

  std::vector<T> k;
};

// Add the messages of one path to the result of the block's node. w: room for a row of weights of each edge.
template <typename T, bool table, typename P, int A, int B>
void forward_path(Block<T> &block, const Path &p, T *w, T *out)
{
  const T *const k = block.couple(p);
  const int64_t channels = p.channels, stride = p.stride;
  const T *weights[BLOCK];
  for (int q = 0; q < block.count; ++q)
    weights[q] = block.radial[q].template weights<table, P, false>(p, block.shape.n_weights, w + q * channels, nullptr);
  for (int64_t c = 0; c < channels; c += P::width) {
    P sum[B];
    for (int b = 0; b < B; ++b) sum[b] = P::load(out + b * stride + c);
    for (int q = 0; q < block.count; ++q) {
      const T *const x = block.x[q] + p.in + c;
      const P weight = P::load(weights[q] + c);
      for (int a = 0; a < A; ++a) {
        const P sent = weight * P::load(x + a * channels);
        for (int b = 0; b < B; ++b) sum[b].add(k[(b * A + a) * BLOCK + q], sent);
      }
    }
    for (int b = 0; b < B; ++b) sum[b].store(out + b * stride + c);
  }
}

// Gradients of one path: added to the rows gx of the block's edges; gw, where weights are given; sums over channels,
// LANES numbers each, added to gh (by edge and harmonic) and, with a table, to the derivative by the length.
template <typename T, bool table, typename P, int A, int B>
void backward_path(Block<T> &block, const Path &p, const T *g, T *rows, T *gw, T *gh, T *along)
{
  constexpr int lanes = LANES<T>;
  typedef Pack<T, lanes, 1> Lanes;
  const T *const k = block.couple(p);
  const int64_t channels = p.channels, stride = p.stride;
  const auto &coefficients = block.shape.coefficients;
  const int64_t per_edge = block.shape.n_harmonics * lanes;
  alignas(64) T sums[SOME][A * B * lanes];  // the gradient of K, of a few edges
  for (int q = 0; q < block.count; ++q) {
    T *const gk = sums[q % SOME];
    T *const dw = block.dw.data(), *const gx = rows + q * block.shape.n_in + p.in;
    const T *const w = block.radial[q].template weights<table, P, true>(p, block.shape.n_weights, block.w.data(), dw);
    const T *const x = block.x[q] + p.in;
    T *const to_w = table ? nullptr : gw + block.edge_of[q] * block.shape.n_weights + p.weight;
    P slope = P::zero();
    for (int a = 0; a < A; ++a) {
      P sum[B];
      for (int b = 0; b < B; ++b) sum[b] = P::zero();
      T factor[B];
      for (int b = 0; b < B; ++b) factor[b] = k[(b * A + a) * BLOCK + q];
      for (int64_t c = 0; c < channels; c += P::width) {
        const P weight = P::load(w + c), sent = P::load(x + a * channels + c), product = weight * sent;
        P returned = P::zero();
        for (int b = 0; b < B; ++b) {
          const P gb = P::load(g + b * stride + c);
          returned.add(factor[b], gb);
          sum[b].add(product, gb);
        }
        P to = P::load(gx + a * channels + c);
        to.add(weight, returned);
        to.store(gx + a * channels + c);
        const P both = sent * returned;
        if constexpr (table) {
          slope.add(P::load(dw + c), both);
        } else {
          P all = a == 0 ? P::zero() : P::load(to_w + c);
          all.add(T(1), both);
          all.store(to_w + c);
        }
      }
      for (int b = 0; b < B; ++b) sum[b].store_lanes(gk + (b * A + a) * lanes);
    }
    if constexpr (table) {
      T part[lanes];
      slope.store_lanes(part);
      Lanes sum = Lanes::load(along + q * lanes);
      sum.add(T(1), Lanes::load(part));
      sum.store(along + q * lanes);
    }
    if (q % SOME != SOME - 1 && q != block.count - 1) continue;
    // Contract K's gradient lane by lane; lanes are added up once all paths are done.
    for (int s = q % SOME + 1; s < SOME; ++s) std::fill(sums[s], sums[s] + A * B * lanes, T(0));
    for (int i = p.first; i < p.last;) {
      const int m = coefficients[i].harmonic;
      T *const to = gh + (q - q % SOME) * per_edge + m * lanes;
      Lanes sum[SOME];
      for (int s = 0; s < SOME; ++s) sum[s] = Lanes::load(to + s * per_edge);
      for (; i < p.last && coefficients[i].harmonic == m; ++i)
        for (int s = 0; s < SOME; ++s)
          sum[s].add(block.values[i], Lanes::load(sums[s] + coefficients[i].coupled * lanes));
      for (int s = 0; s < SOME; ++s) sum[s].store(to + s * per_edge);
    }
  }
}

#define MLCALC_DEGREES(F, P)                                                                                        \
  switch (p.a * 8 + p.b) {                                                                                          \
    case 9: F(P, 1, 1); break; case 11: F(P, 1, 3); break; case 13: F(P, 1, 5); break; case 15: F(P, 1, 7); break;  \
    case 25: F(P, 3, 1); break; case 27: F(P, 3, 3); break; case 29: F(P, 3, 5); break; case 31: F(P, 3, 7); break; \
    case 41: F(P, 5, 1); break; case 43: F(P, 5, 3); break; case 45: F(P, 5, 5); break; case 47: F(P, 5, 7); break; \
    case 57: F(P, 7, 1); break; case 59: F(P, 7, 3); break; case 61: F(P, 7, 5); break; case 63: F(P, 7, 7); break; \
  }
#define MLCALC_WIDTHS(F)                                                         \
  if (p.channels % Wide<T>::width == 0) { MLCALC_DEGREES(F, Wide<T>) }           \
  else if (p.channels % Narrow<T>::width == 0) { MLCALC_DEGREES(F, Narrow<T>) }  \
  else { MLCALC_DEGREES(F, Single<T>) }

template <typename T, bool table>
void forward_nodes(Block<T> &block, int64_t n, int64_t begin, int64_t end, T *out)
{
  const Shape &shape = block.shape;
  const int64_t *const first = block.edges.first;
  std::vector<T> w(table ? block.w.size() * BLOCK : 0);
  for (int64_t i = begin; i < end; ++i)
    for (int64_t e = first[i]; e < first[i + 1]; e += BLOCK) {
      block.start(e, std::min(e + BLOCK, first[i + 1]));
      for (const Path &p : shape.paths) {
        T *const to = out + n * shape.start[p.degree] + i * shape.row[p.degree] + p.out;
#define CALL(P, A, B) forward_path<T, table, P, A, B>(block, p, w.data(), to)
        MLCALC_WIDTHS(CALL)
#undef CALL
      }
    }
}

template <typename T, bool table>
void backward_nodes(Block<T> &block, const T *g, int64_t n, int64_t begin, int64_t end, const Gradients<T> &to)
{
  constexpr int lanes = LANES<T>;
  const Shape &shape = block.shape;
  const int64_t *const first = block.edges.first;
  std::vector<T> own_rows(BLOCK * shape.n_in), gh(BLOCK * shape.n_harmonics * lanes), along(BLOCK * lanes);
  for (int64_t i = begin; i < end; ++i)
    for (int64_t e = first[i]; e < first[i + 1]; e += BLOCK) {
      block.start(e, std::min(e + BLOCK, first[i + 1]));
      std::fill(own_rows.begin(), own_rows.begin() + block.count * shape.n_in, T(0));
      std::fill(gh.begin(), gh.end(), T(0));
      std::fill(along.begin(), along.end(), T(0));
      for (const Path &p : shape.paths) {
        const T *const gi = g + n * shape.start[p.degree] + i * shape.row[p.degree] + p.out;
#define CALL(P, A, B) \
  backward_path<T, table, P, A, B>(block, p, gi, own_rows.data(), to.weights, gh.data(), along.data())
        MLCALC_WIDTHS(CALL)
#undef CALL
      }
      for (int q = 0; q < block.count; ++q) {
        const T *const row = own_rows.data() + q * shape.n_in;
        if (to.rows) {
          std::copy(row, row + shape.n_in, to.rows + (block.place[q] - first[begin]) * shape.n_in);
        } else {
          T *const sum = to.x + block.edges.sender[block.edge_of[q]] * shape.n_in;
          for (int64_t c = 0; c < shape.n_in; ++c) sum[c] += row[c];
        }
        for (int m = 0; m < shape.n_harmonics; ++m)
          block.gh[m * BLOCK + q] = total<T, lanes>(gh.data() + (q * shape.n_harmonics + m) * lanes);
      }
      if constexpr (table) {
        T v[3 * BLOCK];
        harmonics_backward<T, BLOCK>(shape.l_edge, block.u, block.gh.data(), v);
        for (int q = 0; q < block.count; ++q) {
          const T slope = total<T, lanes>(along.data() + q * lanes);
          T *const row = to.vectors + 3 * block.edge_of[q];
          T radial = T(0);
          for (int c = 0; c < 3; ++c) radial += v[c * BLOCK + q] * block.u[c * BLOCK + q];
          for (int c = 0; c < 3; ++c) {
            const T unit = block.u[c * BLOCK + q];
            row[c] = (v[c * BLOCK + q] - unit * radial) / block.r[q] + slope * unit;
          }
        }
      } else {
        for (int q = 0; q < block.count; ++q)
          for (int m = 0; m < shape.n_harmonics; ++m)
            to.harmonics[block.edge_of[q] * shape.n_harmonics + m] = block.gh[m * BLOCK + q];
      }
    }
}

template <typename T>
void forward(const Shape &shape, const Edges &edges, const Inputs<T> &inputs, int64_t n, int64_t begin, int64_t end,
             T *out)
{
  Block<T> block(shape, edges, inputs);
  if (inputs.vectors) forward_nodes<T, true>(block, n, begin, end, out);
  else forward_nodes<T, false>(block, n, begin, end, out);
}

template <typename T>
void backward(const Shape &shape, const Edges &edges, const Inputs<T> &inputs, const T *g, int64_t n, int64_t begin,
              int64_t end, const Gradients<T> &to)
{
  Block<T> block(shape, edges, inputs);
  if (inputs.vectors) backward_nodes<T, true>(block, g, n, begin, end, to);
  else backward_nodes<T, false>(block, g, n, begin, end, to);
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
