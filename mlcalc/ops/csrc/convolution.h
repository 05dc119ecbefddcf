// Sums of messages over neighbours: for every node i and every product of degrees (l1, l2, l3) = path p
//   out_i[m3, c] = Σ_edges w_e[p, c] Σ_{m1} K_e[m3, m1] x_j[m1, c],   K_e[m3, m1] = Σ_{m2} coupling[m1, m2, m3] Y_e[m2],
// one pass over the edges of a node; nothing is kept per edge. What the kernels share with the torch side.
#pragma once

#include <cstdint>
#include <vector>

namespace mlcalc::ops {

constexpr int MAX_L = 3;  // highest degree
constexpr int BLOCK = 32;  // edges of a node that are worked out side by side

struct Path {
  int a, b;              // 2 l1 + 1, 2 l3 + 1
  int channels;
  int64_t in, weight;    // offsets into rows of x and of weights
  int degree;            // l3
  int64_t out, stride;   // offset into a component of the result's degree, and that component's length
  int first, last;       // its coefficients, by harmonic
};

// One nonzero coupling coefficient; coupled = m3 (2 l1 + 1) + m1 is its place in K of its path.
struct Coefficient {
  int harmonic, coupled;
  double value;
};

struct Shape {
  std::vector<Path> paths;
  std::vector<Coefficient> coefficients;
  std::vector<int64_t> row;    // numbers per node of each degree of the result
  std::vector<int64_t> start;  // of each degree's block for one node: block l begins at n * start[l]
  int64_t n_in = 0, n_out = 0, n_weights = 0;
  int n_harmonics = 0, l_edge = 0;
};

// Radial functions as polynomials in the position (0 to 1) within each of `intervals` intervals of length `step` (Å):
// TERMS rows of n_weights coefficients each, the constant terms first.
constexpr int TERMS = 6;
template <typename T>
struct Table {
  const T *coefficients = nullptr;
  int64_t intervals = 0;
  T step = 0;
};

// Nodes begin … end own the edges order[first[i]] … order[first[i + 1] - 1]; no order means that of the edges.
struct Edges {
  const int64_t *order, *first, *sender;
};

// Either harmonics and weights are given for each edge, or its vector (Å) and a table.
template <typename T>
struct Inputs {
  const T *x;
  const T *harmonics = nullptr, *weights = nullptr;
  const T *vectors = nullptr;
  Table<T> table;
};

// Gradients; those to x are added to the sender's row, or written to the row of their edge if there is one for each.
template <typename T>
struct Gradients {
  T *x = nullptr;
  T *rows = nullptr;  // row 0 belongs to the first edge of node begin; of edges beyond the table none is written
  T *harmonics = nullptr, *weights = nullptr;
  T *vectors = nullptr;
};

template <typename T>
struct Kernels {
  void (*forward)(const Shape &, const Edges &, const Inputs<T> &, int64_t n, int64_t begin, int64_t end, T *out);
  void (*backward)(const Shape &, const Edges &, const Inputs<T> &, const T *g, int64_t n, int64_t begin, int64_t end,
                   const Gradients<T> &);
};

// The same source compiled for AVX-512, for AVX2 with FMA, and for any processor.
namespace v4 { template <typename T> Kernels<T> kernels(); }
namespace v3 { template <typename T> Kernels<T> kernels(); }
namespace v1 { template <typename T> Kernels<T> kernels(); }

}  // namespace mlcalc::ops
