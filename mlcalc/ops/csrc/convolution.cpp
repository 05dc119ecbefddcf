// mlcalc::convolve and mlcalc::convolve_table: shapes, threads, and derivatives. See convolution.h for what they compute
// and mlcalc/ops/convolution.py for what they take.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <tuple>

#include "call.h"
#include "convolution.h"
#include "levels.h"
#include "order.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace mlcalc::ops {
namespace {

Shape make_shape(at::IntArrayRef channels, int64_t l_edge, int64_t l_out, const Tensor &coupling)
{
  const int64_t l_in = static_cast<int64_t>(channels.size()) - 1;
  TORCH_CHECK(std::max({l_in, l_edge, l_out}) <= MAX_L && l_in >= 0 && l_edge >= 0 && l_out >= 0,
              "mlcalc::convolve: degrees up to ", MAX_L, ", not ", std::max({l_in, l_edge, l_out}));
  Shape s;
  s.l_edge = static_cast<int>(l_edge);
  s.n_harmonics = static_cast<int>((l_edge + 1) * (l_edge + 1));
  const Tensor values = coupling.contiguous();
  std::vector<double> table(values.numel());
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "mlcalc::convolve", [&] {
    std::copy_n(values.const_data_ptr<scalar_t>(), table.size(), table.begin());
  });
  std::vector<int64_t> width(l_out + 1, 0), in;
  struct Product { int l1, l2, l3; };
  std::vector<Product> products;
  for (int l1 = 0; l1 <= l_in; ++l1) {
    in.push_back(s.n_in);
    s.n_in += (2 * l1 + 1) * channels[l1];
    for (int l2 = 0; l2 <= l_edge; ++l2)
      for (int l3 = std::abs(l1 - l2); l3 <= std::min<int64_t>(l1 + l2, l_out); ++l3) {
        products.push_back({l1, l2, l3});
        width[l3] += channels[l1];
      }
  }
  for (int64_t l = 0; l <= l_out; ++l) {
    s.start.push_back(s.n_out);
    s.row.push_back((2 * l + 1) * width[l]);
    s.n_out += s.row.back();
  }
  int64_t n_values = 0;
  for (const auto &p : products) n_values += (2 * p.l1 + 1) * (2 * p.l2 + 1) * (2 * p.l3 + 1);
  TORCH_CHECK(values.numel() == n_values, "mlcalc::convolve: ", values.numel(), " coupling coefficients, not ", n_values);
  const double *value = table.data();
  std::vector<int64_t> used(l_out + 1, 0);
  for (const auto &p : products) {
    const int a = 2 * p.l1 + 1, b = 2 * p.l3 + 1;
    const int first = static_cast<int>(s.coefficients.size());
    for (int m1 = 0; m1 < a; ++m1)
      for (int m2 = 0; m2 < 2 * p.l2 + 1; ++m2)
        for (int m3 = 0; m3 < b; ++m3, ++value)
          if (*value != 0.0) s.coefficients.push_back({p.l2 * p.l2 + m2, m3 * a + m1, *value});
    std::stable_sort(s.coefficients.begin() + first, s.coefficients.end(),
                     [](const Coefficient &f, const Coefficient &g) { return f.harmonic < g.harmonic; });
    s.paths.push_back({a, b, static_cast<int>(channels[p.l1]), in[p.l1], s.n_weights, p.l3, used[p.l3], width[p.l3],
                       first, static_cast<int>(s.coefficients.size())});
    used[p.l3] += channels[p.l1];
    s.n_weights += channels[p.l1];
  }
  return s;
}

struct Problem {
  Shape shape;
  Tensor index;
  int64_t n, n_all;
  Order order;

  Problem(const Tensor &x, const Tensor &edge_index, int64_t n, Shape made)
      : shape(std::move(made)), index(checked(edge_index, n)), n(n), n_all(x.size(0)),
        order(index.const_data_ptr<int64_t>(), index.size(1), n, "mlcalc::convolve")
  {
    TORCH_CHECK(x.dim() == 2 && x.size(1) == shape.n_in, "mlcalc::convolve: features ", x.sizes(), ", not (N, ",
                shape.n_in, ")");
    for (int64_t e = 0; e < index.size(1); ++e)
      TORCH_CHECK_INDEX(sender()[e] >= 0 && sender()[e] < n_all, "mlcalc::convolve: edge ", e, " comes from ",
                        sender()[e], " of ", n_all);
  }

  static Tensor checked(const Tensor &edge_index, int64_t n)
  {
    TORCH_CHECK(edge_index.dim() == 2 && edge_index.size(0) == 2 && n >= 0, "mlcalc::convolve: edges ",
                edge_index.sizes(), ", not (2, E), or ", n, " receivers");
    return edge_index.contiguous();
  }

  const int64_t *sender() const { return index.const_data_ptr<int64_t>() + index.size(1); }
  Edges edges() const { return {order.sorted ? nullptr : order.edges.data(), order.first.data(), sender()}; }
};

template <typename T>
const Kernels<T> &best()
{
#if defined(__x86_64__)
  static const Kernels<T> chosen = level() == 4   ? v4::kernels<T>()
                                   : level() == 3 ? v3::kernels<T>()
                                                  : v1::kernels<T>();
#else
  static const Kernels<T> chosen = v1::kernels<T>();
#endif
  return chosen;
}

template <typename T>
Inputs<T> given(const Shape &s, int64_t edges, const Tensor &x, const Tensor &harmonics, const Tensor &weights)
{
  TORCH_CHECK(harmonics.dim() == 2 && harmonics.size(0) == edges && weights.dim() == 2 && weights.size(0) == edges
                && weights.size(1) == s.n_weights,
              "mlcalc::convolve: harmonics ", harmonics.sizes(), " and weights ", weights.sizes(), ", not (", edges, ", ",
              s.n_harmonics, ") and (", edges, ", ", s.n_weights, ")");
  Inputs<T> inputs;
  inputs.x = x.const_data_ptr<T>();
  inputs.harmonics = harmonics.const_data_ptr<T>();
  inputs.weights = weights.const_data_ptr<T>();
  return inputs;
}

template <typename T>
Inputs<T> tabulated(const Shape &s, int64_t edges, const Tensor &x, const Tensor &vectors, const Tensor &table,
                    double cutoff)
{
  TORCH_CHECK(vectors.dim() == 2 && vectors.size(0) == edges && vectors.size(1) == 3 && table.dim() == 3
                && table.size(0) > 0 && table.size(1) == TERMS && table.size(2) == s.n_weights,
              "mlcalc::convolve_table: vectors ", vectors.sizes(), " and table ", table.sizes(), ", not (", edges,
              ", 3) and (K, ", TERMS, ", ", s.n_weights, ")");
  Inputs<T> inputs;
  inputs.x = x.const_data_ptr<T>();
  inputs.vectors = vectors.const_data_ptr<T>();
  const int64_t intervals = table.size(0);
  inputs.table = {table.const_data_ptr<T>(), intervals, static_cast<T>(cutoff / static_cast<double>(intervals))};
  return inputs;
}

template <typename T>
Tensor run_forward(const Problem &problem, const Inputs<T> &inputs, const at::TensorOptions &options)
{
  Tensor out = at::zeros({problem.n * problem.shape.n_out}, options);
  const Edges edges = problem.edges();
  T *const to = out.mutable_data_ptr<T>();
  at::parallel_for(0, problem.n, 16, [&](int64_t begin, int64_t end) {
    best<T>().forward(problem.shape, edges, inputs, problem.n, begin, end, to);
  });
  return out;
}

// Gradients of features are added up sender by sender in the order of the edges, whatever the number of threads: with
// one, edge by edge; with more, a stretch of nodes writes a row per edge, and then each thread adds those of its senders.
template <typename T>
void run_backward(const Problem &problem, const Inputs<T> &inputs, const Tensor &g, Gradients<T> to)
{
  constexpr int64_t stretch = 64;
  TORCH_CHECK(g.numel() == problem.n * problem.shape.n_out, "mlcalc::convolve: gradient ", g.sizes(), ", not (",
              problem.n * problem.shape.n_out, ")");
  const Edges edges = problem.edges();
  const T *const from = g.const_data_ptr<T>();
  const int64_t n = problem.n, width = problem.shape.n_in, threads = at::get_num_threads();
  if (threads == 1 || n <= 16) {
    best<T>().backward(problem.shape, edges, inputs, from, n, 0, n, to);
    return;
  }
  std::vector<T> rows;
  for (int64_t start = 0; start < n; start += stretch * threads) {
    const int64_t stop = std::min(n, start + stretch * threads), e0 = edges.first[start], e1 = edges.first[stop];
    rows.assign((e1 - e0) * width, T(0));
    at::parallel_for(start, stop, 8, [&](int64_t begin, int64_t end) {
      Gradients<T> part = to;
      part.rows = rows.data() + (edges.first[begin] - e0) * width;
      best<T>().backward(problem.shape, edges, inputs, from, n, begin, end, part);
    });
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t e = e0; e < e1; ++e) {
        const int64_t sender = edges.sender[edges.order ? edges.order[e] : e];
        if (sender % threads < begin || sender % threads >= end) continue;
        const T *const row = rows.data() + (e - e0) * width;
        T *const sum = to.x + sender * width;
        for (int64_t c = 0; c < width; ++c) sum[c] += row[c];
      }
    });
  }
}

int64_t degree(const Tensor &harmonics)
{
  int64_t l = 0;
  while ((l + 1) * (l + 1) < harmonics.size(1)) ++l;
  TORCH_CHECK((l + 1) * (l + 1) == harmonics.size(1), "mlcalc::convolve: ", harmonics.size(1), " harmonics");
  return l;
}

Tensor convolve_cpu(const Tensor &x, const Tensor &harmonics, const Tensor &weights, const Tensor &edge_index, int64_t n,
                    at::IntArrayRef channels, int64_t l_out, const Tensor &coupling)
{
  const Problem problem(x, edge_index, n, make_shape(channels, degree(harmonics), l_out, coupling));
  const Tensor a = x.contiguous(), h = harmonics.contiguous(), w = weights.contiguous();
  Tensor out;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "mlcalc::convolve", [&] {
    out = run_forward(problem, given<scalar_t>(problem.shape, edge_index.size(1), a, h, w), x.options());
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> convolve_backward_cpu(const Tensor &g, const Tensor &x, const Tensor &harmonics,
                                                         const Tensor &weights, const Tensor &edge_index, int64_t n,
                                                         at::IntArrayRef channels, int64_t l_out, const Tensor &coupling)
{
  const Problem problem(x, edge_index, n, make_shape(channels, degree(harmonics), l_out, coupling));
  const Tensor gc = g.contiguous(), a = x.contiguous(), h = harmonics.contiguous(), w = weights.contiguous();
  Tensor gx = at::zeros_like(a), gh = at::empty_like(h), gw = at::empty_like(w);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "mlcalc::convolve_backward", [&] {
    Gradients<scalar_t> to;
    to.x = gx.mutable_data_ptr<scalar_t>();
    to.harmonics = gh.mutable_data_ptr<scalar_t>();
    to.weights = gw.mutable_data_ptr<scalar_t>();
    run_backward(problem, given<scalar_t>(problem.shape, edge_index.size(1), a, h, w), gc, to);
  });
  return {gx, gh, gw};
}

Tensor table_cpu(const Tensor &x, const Tensor &vectors, const Tensor &table, double cutoff, const Tensor &edge_index,
                 int64_t n, at::IntArrayRef channels, int64_t l_edge, int64_t l_out, const Tensor &coupling)
{
  const Problem problem(x, edge_index, n, make_shape(channels, l_edge, l_out, coupling));
  const Tensor a = x.contiguous(), v = vectors.contiguous(), t = table.contiguous();
  Tensor out;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "mlcalc::convolve_table", [&] {
    out = run_forward(problem, tabulated<scalar_t>(problem.shape, edge_index.size(1), a, v, t, cutoff), x.options());
  });
  return out;
}

std::tuple<Tensor, Tensor> table_backward_cpu(const Tensor &g, const Tensor &x, const Tensor &vectors,
                                              const Tensor &table, double cutoff, const Tensor &edge_index, int64_t n,
                                              at::IntArrayRef channels, int64_t l_edge, int64_t l_out,
                                              const Tensor &coupling)
{
  const Problem problem(x, edge_index, n, make_shape(channels, l_edge, l_out, coupling));
  const Tensor gc = g.contiguous(), a = x.contiguous(), v = vectors.contiguous(), t = table.contiguous();
  Tensor gx = at::zeros_like(a), gv = at::zeros_like(v);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "mlcalc::convolve_table_backward", [&] {
    Gradients<scalar_t> to;
    to.x = gx.mutable_data_ptr<scalar_t>();
    to.vectors = gv.mutable_data_ptr<scalar_t>();
    run_backward(problem, tabulated<scalar_t>(problem.shape, edge_index.size(1), a, v, t, cutoff), gc, to);
  });
  return {gx, gv};
}

// With the signatures of the schemas: while a program is traced, the number of nodes is a symbol.
Tensor convolve_autograd(const Tensor &x, const Tensor &h, const Tensor &w, const Tensor &index, c10::SymInt n,
                         at::IntArrayRef channels, int64_t l_out, const Tensor &coupling);
std::tuple<Tensor, Tensor, Tensor> convolve_backward_autograd(const Tensor &g, const Tensor &x, const Tensor &h,
                                                              const Tensor &w, const Tensor &index, c10::SymInt n,
                                                              at::IntArrayRef channels, int64_t l_out,
                                                              const Tensor &coupling);
Tensor table_autograd(const Tensor &x, const Tensor &vectors, const Tensor &table, double cutoff, const Tensor &index,
                      c10::SymInt n, at::IntArrayRef channels, int64_t l_edge, int64_t l_out, const Tensor &coupling);
std::tuple<Tensor, Tensor> table_backward_autograd(const Tensor &g, const Tensor &x, const Tensor &vectors,
                                                   const Tensor &table, double cutoff, const Tensor &index,
                                                   c10::SymInt n, at::IntArrayRef channels, int64_t l_edge,
                                                   int64_t l_out, const Tensor &coupling);

struct Settings {
  c10::SymInt n;
  std::vector<int64_t> channels;
  int64_t l_out;

  void save(AutogradContext *context) const
  {
    context->saved_data["n"] = n;
    context->saved_data["channels"] = channels;
    context->saved_data["l_out"] = l_out;
  }

  static Settings saved(AutogradContext *context)
  {
    return {context->saved_data["n"].toSymInt(), context->saved_data["channels"].toIntVector(),
            context->saved_data["l_out"].toInt()};
  }

  Tensor forward(const Tensor &x, const Tensor &h, const Tensor &w, const Tensor &index, const Tensor &coupling) const
  {
    return MLCALC_CALL("convolve", convolve_autograd, x, h, w, index, n, channels, l_out, coupling);
  }

  std::tuple<Tensor, Tensor, Tensor> backward(const Tensor &g, const Tensor &x, const Tensor &h, const Tensor &w,
                                              const Tensor &index, const Tensor &coupling) const
  {
    return MLCALC_CALL("convolve_backward", convolve_backward_autograd, g, x, h, w, index, n, channels, l_out, coupling);
  }
};

// <g, convolve(x, h, w)> is linear in each of g, x, h and w, so that every derivative is made of the same two operators.
struct ConvolveBackward : Function<ConvolveBackward> {
  static variable_list forward(AutogradContext *context, const Tensor &g, const Tensor &x, const Tensor &h,
                               const Tensor &w, const Tensor &index, const Tensor &coupling, const Settings &settings)
  {
    context->save_for_backward({g, x, h, w, index, coupling});
    context->set_materialize_grads(false);
    settings.save(context);
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [gx, gh, gw] = settings.backward(g, x, h, w, index, coupling);
    return {gx, gh, gw};
  }

  static variable_list backward(AutogradContext *context, variable_list along)
  {
    const auto saved = context->get_saved_variables();
    const Tensor &g = saved[0], &x = saved[1], &h = saved[2], &w = saved[3], &index = saved[4], &coupling = saved[5];
    const Settings settings = Settings::saved(context);
    const std::array<Tensor, 3> inputs{x, h, w};
    std::array<Tensor, 4> sums;  // to g, x, h, w
    const auto add = [](Tensor &sum, const Tensor &part) { sum = sum.defined() ? sum + part : part; };
    for (size_t k = 0; k < 3; ++k) {
      if (!along[k].defined()) continue;
      std::array<Tensor, 3> changed = inputs;
      changed[k] = along[k];
      const auto &[cx, ch, cw] = changed;
      add(sums[0], settings.forward(cx, ch, cw, index, coupling));
      const auto [gx, gh, gw] = settings.backward(g, cx, ch, cw, index, coupling);
      if (k != 0) add(sums[1], gx);
      if (k != 1) add(sums[2], gh);
      if (k != 2) add(sums[3], gw);
    }
    return {sums[0], sums[1], sums[2], sums[3], Tensor(), Tensor(), Tensor()};
  }
};

struct Convolve : Function<Convolve> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &h, const Tensor &w, const Tensor &index,
                        const Tensor &coupling, const Settings &settings)
  {
    context->save_for_backward({x, h, w, index, coupling});
    settings.save(context);
    const at::AutoDispatchBelowADInplaceOrView below;
    return settings.forward(x, h, w, index, coupling);
  }

  static variable_list backward(AutogradContext *context, variable_list g)
  {
    const auto saved = context->get_saved_variables();
    const auto [gx, gh, gw] = Settings::saved(context).backward(g[0], saved[0], saved[1], saved[2], saved[3], saved[4]);
    return {gx, gh, gw, Tensor(), Tensor(), Tensor()};
  }
};

Tensor convolve_autograd(const Tensor &x, const Tensor &h, const Tensor &w, const Tensor &index, c10::SymInt n,
                         at::IntArrayRef channels, int64_t l_out, const Tensor &coupling)
{
  TORCH_CHECK(!coupling.requires_grad(), "mlcalc::convolve has no derivative by its coupling coefficients");
  return Convolve::apply(x, h, w, index, coupling, Settings{n, channels.vec(), l_out});
}

std::tuple<Tensor, Tensor, Tensor> convolve_backward_autograd(const Tensor &g, const Tensor &x, const Tensor &h,
                                                              const Tensor &w, const Tensor &index, c10::SymInt n,
                                                              at::IntArrayRef channels, int64_t l_out,
                                                              const Tensor &coupling)
{
  auto out = ConvolveBackward::apply(g, x, h, w, index, coupling, Settings{n, channels.vec(), l_out});
  return {out[0], out[1], out[2]};
}

struct ConvolveTable : Function<ConvolveTable> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &vectors, const Tensor &table,
                        const Tensor &index, const Tensor &coupling, double cutoff, int64_t l_edge,
                        const Settings &settings)
  {
    context->save_for_backward({x, vectors, table, index, coupling});
    settings.save(context);
    context->saved_data["cutoff"] = cutoff;
    context->saved_data["l_edge"] = l_edge;
    const at::AutoDispatchBelowADInplaceOrView below;
    return MLCALC_CALL("convolve_table", table_autograd, x, vectors, table, cutoff, index, settings.n, settings.channels,
                       l_edge, settings.l_out, coupling);
  }

  static variable_list backward(AutogradContext *context, variable_list g)
  {
    const auto saved = context->get_saved_variables();
    const Settings settings = Settings::saved(context);
    const double cutoff = context->saved_data["cutoff"].toDouble();
    const int64_t l_edge = context->saved_data["l_edge"].toInt();
    const auto [gx, gv] =
      MLCALC_CALL("convolve_table_backward", table_backward_autograd, g[0], saved[0], saved[1], saved[2], cutoff, saved[3],
                  settings.n, settings.channels, l_edge, settings.l_out, saved[4]);
    return {gx, gv, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor table_autograd(const Tensor &x, const Tensor &vectors, const Tensor &table, double cutoff, const Tensor &index,
                      c10::SymInt n, at::IntArrayRef channels, int64_t l_edge, int64_t l_out, const Tensor &coupling)
{
  TORCH_CHECK(!coupling.requires_grad() && !table.requires_grad(),
              "mlcalc::convolve_table has no derivative by its table or coupling coefficients");
  return ConvolveTable::apply(x, vectors, table, index, coupling, cutoff, l_edge, Settings{n, channels.vec(), l_out});
}

// A table has first derivatives only.
struct ConvolveTableBackward : Function<ConvolveTableBackward> {
  static variable_list forward(AutogradContext *, const Tensor &g, const Tensor &x, const Tensor &vectors,
                               const Tensor &table, double cutoff, const Tensor &index, const Tensor &coupling,
                               int64_t l_edge, const Settings &settings)
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [gx, gv] = MLCALC_CALL("convolve_table_backward", table_backward_autograd, g, x, vectors, table, cutoff, index,
                                settings.n, settings.channels, l_edge, settings.l_out, coupling);
    return {gx, gv};
  }

  static variable_list backward(AutogradContext *, variable_list)
  {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "radial tables have no second derivatives; use the potential without tables");
  }
};

std::tuple<Tensor, Tensor> table_backward_autograd(const Tensor &g, const Tensor &x, const Tensor &vectors,
                                                   const Tensor &table, double cutoff, const Tensor &index, c10::SymInt n,
                                                   at::IntArrayRef channels, int64_t l_edge, int64_t l_out,
                                                   const Tensor &coupling)
{
  auto out = ConvolveTableBackward::apply(g, x, vectors, table, cutoff, index, coupling, l_edge,
                                          Settings{n, channels.vec(), l_out});
  return {out[0], out[1]};
}

}  // namespace

MLCALC_REGISTER("convolve",
  m.def("convolve(Tensor x, Tensor harmonics, Tensor weights, Tensor edge_index, SymInt n, int[] channels, int l_out, "
        "Tensor coupling) -> Tensor");
  m.def("convolve_backward(Tensor g, Tensor x, Tensor harmonics, Tensor weights, Tensor edge_index, SymInt n, "
        "int[] channels, int l_out, Tensor coupling) -> (Tensor, Tensor, Tensor)");
  m.def("convolve_table(Tensor x, Tensor vectors, Tensor table, float cutoff, Tensor edge_index, SymInt n, "
        "int[] channels, int l_edge, int l_out, Tensor coupling) -> Tensor");
  m.def("convolve_table_backward(Tensor g, Tensor x, Tensor vectors, Tensor table, float cutoff, Tensor edge_index, "
        "SymInt n, int[] channels, int l_edge, int l_out, Tensor coupling) -> (Tensor, Tensor)");,
  m.impl("convolve", convolve_cpu);
  m.impl("convolve_backward", convolve_backward_cpu);
  m.impl("convolve_table", table_cpu);
  m.impl("convolve_table_backward", table_backward_cpu);,
  m.impl("convolve", convolve_autograd);
  m.impl("convolve_backward", convolve_backward_autograd);
  m.impl("convolve_table", table_autograd);
  m.impl("convolve_table_backward", table_backward_autograd);)

}  // namespace mlcalc::ops
