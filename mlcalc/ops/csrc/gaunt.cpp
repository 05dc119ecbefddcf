// mlcalc::gaunt: shapes, threads, and derivatives. See mlcalc/ops/gaunt.py for what it takes.
#include "gaunt.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <tuple>

#include "call.h"
#include "registers.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace mlcalc::ops {
namespace {

// The polar axis is y: component m > 0 of degree l is Re (z + ix)^m, m < 0 is Im (z + ix)^|m|, each times a polynomial
// of y with the parity of l - |m|.
template <typename T>
Field<T> field(int64_t rows, const Tensor &values)
{
  std::vector<int> members[8];
  int row = 0;
  for (int l = 0; row < rows; ++l)
    for (int m = -l; m <= l; ++m, ++row) {
      const int odd_x = m < 0, odd_z = (m < 0 ? m + 1 : m) & 1, odd_y = (l - m) & 1;
      members[odd_x + 2 * odd_y + 4 * odd_z].push_back(row);
    }
  TORCH_CHECK(row == rows, "mlcalc::gaunt: ", rows, " components, which is not (l + 1)^2");
  Field<T> f;
  for (int k = 0; k < 8; ++k) {
    f.start[k] = static_cast<int>(f.order.size());
    f.order.insert(f.order.end(), members[k].begin(), members[k].end());
  }
  f.start[8] = static_cast<int>(rows);
  const int64_t points = values.size(0), blocks = (points + POINTS - 1) / POINTS;
  const auto y = values.accessor<const T, 2>();
  f.values.assign(blocks * rows * POINTS, T(0));
  for (int64_t p = 0; p < points; ++p)
    for (int64_t i = 0; i < rows; ++i) f.values[(p / POINTS * rows + i) * POINTS + p % POINTS] = y[p][f.order[i]];
  return f;
}

template <typename T>
Product<T> make_product(const Tensor &a, const Tensor &b, const Tensor &values, const Tensor &weights, int64_t rows)
{
  Product<T> p{field<T>(a.size(1), values), field<T>(b.size(1), values), field<T>(rows, values), {}, a.size(2),
               a.stride(0), a.stride(1), b.stride(0), b.stride(1)};
  const auto w = weights.accessor<const T, 1>();
  p.weights.assign((w.size(0) + POINTS - 1) / POINTS * POINTS, T(0));
  for (int64_t k = 0; k < w.size(0); ++k) p.weights[k] = w[k];
  return p;
}

template <typename T>
GauntKernels<T> best(int64_t channels)
{
  MLCALC_WIDEST(channels * static_cast<int64_t>(sizeof(T)), gaunt_kernels<T>)
}

void check(const Tensor &a, const Tensor &b, const Tensor &values, const Tensor &weights, int64_t rows)
{
  TORCH_CHECK(a.dim() == 3 && b.dim() == 3 && a.size(0) == b.size(0) && a.size(2) == b.size(2),
              "mlcalc::gaunt: fields of shapes ", a.sizes(), " and ", b.sizes());
  TORCH_CHECK(values.dim() == 2 && weights.dim() == 1 && weights.size(0) == values.size(0) && values.size(1) >= rows
                && values.size(1) >= a.size(1) && values.size(1) >= b.size(1),
              "mlcalc::gaunt: values ", values.sizes(), " and weights ", weights.sizes(), " at points");
  TORCH_CHECK(b.scalar_type() == a.scalar_type() && values.scalar_type() == a.scalar_type()
                && weights.scalar_type() == a.scalar_type(),
              "mlcalc::gaunt: ", a.scalar_type(), " and ", b.scalar_type(), " with points in ", values.scalar_type());
}

// Some of the channels of a wider tensor are taken as they are.
Tensor dense(const Tensor &x)
{
  return x.stride(2) == 1 ? x : x.contiguous();
}

Tensor gaunt_cpu(const Tensor &first, const Tensor &second, const Tensor &values, const Tensor &weights, int64_t rows)
{
  check(first, second, values, weights, rows);
  const Tensor a = dense(first), b = dense(second);
  Tensor out = at::empty({a.size(0), rows, a.size(2)}, a.options());
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "mlcalc::gaunt", [&] {
    const auto product = make_product<scalar_t>(a, b, values, weights, rows);
    const auto kernels = best<scalar_t>(a.size(2));
    const scalar_t *const pa = a.const_data_ptr<scalar_t>(), *const pb = b.const_data_ptr<scalar_t>();
    scalar_t *const to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, a.size(0), 16, [&](int64_t begin, int64_t end) {
      kernels.product(product, pa, pb, begin, end, to);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> backward_cpu(const Tensor &gradient, const Tensor &first, const Tensor &second,
                                        const Tensor &values, const Tensor &weights)
{
  check(first, second, values, weights, gradient.size(1));
  const Tensor g = gradient.contiguous(), a = dense(first), b = dense(second);
  Tensor ga = at::empty(a.sizes(), a.options()), gb = at::empty(b.sizes(), b.options());
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "mlcalc::gaunt_backward", [&] {
    const auto product = make_product<scalar_t>(a, b, values, weights, g.size(1));
    const auto kernels = best<scalar_t>(a.size(2));
    const scalar_t *const pg = g.const_data_ptr<scalar_t>();
    const scalar_t *const pa = a.const_data_ptr<scalar_t>(), *const pb = b.const_data_ptr<scalar_t>();
    scalar_t *const to_a = ga.mutable_data_ptr<scalar_t>(), *const to_b = gb.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, a.size(0), 16, [&](int64_t begin, int64_t end) {
      kernels.gradients(product, pg, pa, pb, begin, end, to_a, to_b);
    });
  });
  return {ga, gb};
}

Tensor gaunt(const Tensor &a, const Tensor &b, const Tensor &values, const Tensor &weights, int64_t rows)
{
  return MLCALC_CALL("gaunt", gaunt_cpu, a, b, values, weights, rows);
}

std::tuple<Tensor, Tensor> gaunt_backward(const Tensor &g, const Tensor &a, const Tensor &b, const Tensor &values,
                                          const Tensor &weights)
{
  return MLCALC_CALL("gaunt_backward", backward_cpu, g, a, b, values, weights);
}

// The mean of g a b over the sphere is linear in each of the three, so that all derivatives are products again.
struct Backward : Function<Backward> {
  static variable_list forward(AutogradContext *context, const Tensor &g, const Tensor &a, const Tensor &b,
                               const Tensor &values, const Tensor &weights)
  {
    context->save_for_backward({g, a, b, values, weights});
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [ga, gb] = gaunt_backward(g, a, b, values, weights);
    return {ga, gb};
  }

  static variable_list backward(AutogradContext *context, variable_list u)
  {
    const auto saved = context->get_saved_variables();
    const Tensor &g = saved[0], &a = saved[1], &b = saved[2], &values = saved[3], &weights = saved[4];
    return {gaunt(u[0], b, values, weights, g.size(1)) + gaunt(a, u[1], values, weights, g.size(1)),
            gaunt(g, u[1], values, weights, a.size(1)), gaunt(g, u[0], values, weights, b.size(1)), Tensor(), Tensor()};
  }
};

struct Gaunt : Function<Gaunt> {
  static Tensor forward(AutogradContext *context, const Tensor &a, const Tensor &b, const Tensor &values,
                        const Tensor &weights, int64_t rows)
  {
    context->save_for_backward({a, b, values, weights});
    const at::AutoDispatchBelowADInplaceOrView below;
    return gaunt(a, b, values, weights, rows);
  }

  static variable_list backward(AutogradContext *context, variable_list g)
  {
    const auto saved = context->get_saved_variables();
    auto [ga, gb] = gaunt_backward(g[0], saved[0], saved[1], saved[2], saved[3]);
    return {ga, gb, Tensor(), Tensor(), Tensor()};
  }
};

Tensor gaunt_autograd(const Tensor &a, const Tensor &b, const Tensor &values, const Tensor &weights, int64_t rows)
{
  return Gaunt::apply(a, b, values, weights, rows);
}

std::tuple<Tensor, Tensor> backward_autograd(const Tensor &g, const Tensor &a, const Tensor &b, const Tensor &values,
                                             const Tensor &weights)
{
  auto out = Backward::apply(g, a, b, values, weights);
  return {out[0], out[1]};
}

}  // namespace

MLCALC_REGISTER("gaunt",
  m.def("gaunt(Tensor a, Tensor b, Tensor values, Tensor weights, int rows) -> Tensor");
  m.def("gaunt_backward(Tensor g, Tensor a, Tensor b, Tensor values, Tensor weights) -> (Tensor, Tensor)");,
  m.impl("gaunt", gaunt_cpu);
  m.impl("gaunt_backward", backward_cpu);,
  m.impl("gaunt", gaunt_autograd);
  m.impl("gaunt_backward", backward_autograd);)

}  // namespace mlcalc::ops
