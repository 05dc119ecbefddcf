// mlcalc::density: shapes, threads, and derivatives. See mlcalc/ops/density.py for what it takes.
#include "density.h"
#include "order.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <tuple>

#include "call.h"
#include "registers.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace mlcalc::ops {
namespace {

struct Basis {
  int64_t l_max, n_radial;
  double cutoff;
  int64_t power;
};

// Derivatives Q(l, m) = d^m P_l / dy^m of Legendre's polynomials: Q(m, m) = (2 m - 1)!!, and above that
// (l - m) Q(l, m) = (2 l - 1) y Q(l - 1, m) - (l + m - 1) Q(l - 2, m).
template <typename T>
Density<T> make_density(const Order &order, const Basis &basis)
{
  Density<T> f;
  f.l_max = static_cast<int>(basis.l_max);
  f.n_radial = static_cast<int>(basis.n_radial);
  f.power = static_cast<int>(basis.power);
  f.cutoff = static_cast<T>(basis.cutoff);
  f.scale = static_cast<T>(std::sqrt(2.0 / basis.cutoff) * basis.cutoff);
  f.edges = order.edges.data();
  f.start = order.first.data();
  for (int l = 0; l <= f.l_max; ++l) {
    double ratio = 1.0, first = 1.0;  // (l - m)! / (l + m)! and (2 m - 1)!!
    for (int m = 0; m <= l; ++m) {
      if (m) {
        ratio /= static_cast<double>(l - m + 1) * (l + m);
        first *= 2 * m - 1;
      }
      f.norms.push_back(static_cast<T>(std::sqrt((2 * l + 1) * ratio * (m ? 2.0 : 1.0))));
      f.recurrence.push_back(static_cast<T>(m == l ? first : (2 * l - 1.0) / (l - m)));
      f.recurrence.push_back(static_cast<T>(m == l ? 0.0 : (l + m - 1.0) / (l - m)));
    }
  }
  for (int64_t k = 0; k < basis.power; ++k) f.envelope.push_back(static_cast<T>((k + 1) * (k + 2) / 2));
  double term = 1.0;
  for (int k = 0; k < (sizeof(T) == sizeof(float) ? 8 : 12); ++k) {  // Taylor's series for a quarter turn, to rounding
    f.cosine.push_back(static_cast<T>(term));
    term /= 2 * k + 1;
    f.sine.push_back(static_cast<T>(term));
    term /= -(2 * k + 2);
  }
  return f;
}

template <typename T>
DensityKernels<T> best()
{
  MLCALC_WIDEST(0, density_kernels<T>)
}

void check(const Tensor &vectors, const Tensor &row, const Basis &basis)
{
  TORCH_CHECK(vectors.dim() == 2 && vectors.size(1) == 3 && row.dim() == 1 && row.size(0) == vectors.size(0)
                && row.scalar_type() == at::kLong,
              "mlcalc::density: edge vectors ", vectors.sizes(), " in rows ", row.sizes());
  TORCH_CHECK(basis.l_max >= 0 && basis.n_radial > 0 && basis.power > 0 && basis.cutoff > 0,
              "mlcalc::density: degree ", basis.l_max, ", ", basis.n_radial, " radial functions, power ", basis.power,
              ", cutoff ", basis.cutoff);
}

Tensor density_cpu(const Tensor &vectors, const Tensor &row, int64_t n, int64_t l_max, int64_t n_radial, double cutoff,
                   int64_t power)
{
  const Basis basis{l_max, n_radial, cutoff, power};
  check(vectors, row, basis);
  const Tensor v = vectors.contiguous();
  const Tensor rows = row.contiguous();
  const Order order(rows.const_data_ptr<int64_t>(), rows.size(0), n, "mlcalc::density");
  Tensor out = at::empty({n, (l_max + 1) * (l_max + 1), n_radial}, v.options());
  AT_DISPATCH_FLOATING_TYPES(v.scalar_type(), "mlcalc::density", [&] {
    const auto f = make_density<scalar_t>(order, basis);
    const auto kernels = best<scalar_t>();
    const scalar_t *const pv = v.const_data_ptr<scalar_t>();
    scalar_t *const to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, n, 16, [&](int64_t begin, int64_t end) { kernels.density(f, pv, begin, end, to); });
  });
  return out;
}

Tensor backward_cpu(const Tensor &gradient, const Tensor &vectors, const Tensor &row, int64_t l_max, int64_t n_radial,
                    double cutoff, int64_t power)
{
  const Basis basis{l_max, n_radial, cutoff, power};
  check(vectors, row, basis);
  const Tensor g = gradient.contiguous(), v = vectors.contiguous();
  const Tensor rows = row.contiguous();
  const Order order(rows.const_data_ptr<int64_t>(), rows.size(0), g.size(0), "mlcalc::density");
  Tensor out = at::empty_like(v);
  AT_DISPATCH_FLOATING_TYPES(v.scalar_type(), "mlcalc::density_backward", [&] {
    const auto f = make_density<scalar_t>(order, basis);
    const auto kernels = best<scalar_t>();
    const scalar_t *const pg = g.const_data_ptr<scalar_t>(), *const pv = v.const_data_ptr<scalar_t>();
    scalar_t *const to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, g.size(0), 16, [&](int64_t begin, int64_t end) {
      kernels.gradient(f, pg, pv, begin, end, to);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> second_cpu(const Tensor &direction, const Tensor &gradient, const Tensor &vectors,
                                      const Tensor &row, int64_t l_max, int64_t n_radial, double cutoff, int64_t power)
{
  const Basis basis{l_max, n_radial, cutoff, power};
  check(vectors, row, basis);
  const Tensor u = direction.contiguous(), g = gradient.contiguous(), v = vectors.contiguous();
  const Tensor rows = row.contiguous();
  const Order order(rows.const_data_ptr<int64_t>(), rows.size(0), g.size(0), "mlcalc::density");
  Tensor to_g = at::empty_like(g), to_v = at::empty_like(v);
  AT_DISPATCH_FLOATING_TYPES(v.scalar_type(), "mlcalc::density_second", [&] {
    const auto f = make_density<scalar_t>(order, basis);
    const auto kernels = best<scalar_t>();
    const scalar_t *const pu = u.const_data_ptr<scalar_t>(), *const pg = g.const_data_ptr<scalar_t>();
    const scalar_t *const pv = v.const_data_ptr<scalar_t>();
    scalar_t *const yg = to_g.mutable_data_ptr<scalar_t>(), *const yv = to_v.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, g.size(0), 16, [&](int64_t begin, int64_t end) {
      kernels.second(f, pu, pg, pv, begin, end, yg, yv);
    });
  });
  return {to_g, to_v};
}

Tensor density_backward(const Tensor &g, const Tensor &vectors, const Tensor &row, const Basis &b)
{
  return MLCALC_CALL("density_backward", backward_cpu, g, vectors, row, b.l_max, b.n_radial, b.cutoff, b.power);
}

void keep(AutogradContext *context, const Basis &basis)
{
  context->saved_data["l_max"] = basis.l_max;
  context->saved_data["n_radial"] = basis.n_radial;
  context->saved_data["cutoff"] = basis.cutoff;
  context->saved_data["power"] = basis.power;
}

Basis kept(AutogradContext *context)
{
  return {context->saved_data["l_max"].toInt(), context->saved_data["n_radial"].toInt(),
          context->saved_data["cutoff"].toDouble(), context->saved_data["power"].toInt()};
}

struct DensityBackward : Function<DensityBackward> {
  static Tensor forward(AutogradContext *context, const Tensor &g, const Tensor &vectors, const Tensor &row,
                        const Basis &basis)
  {
    context->save_for_backward({g, vectors, row});
    keep(context, basis);
    const at::AutoDispatchBelowADInplaceOrView below;
    return density_backward(g, vectors, row, basis);
  }

  static variable_list backward(AutogradContext *context, variable_list u)
  {
    const auto saved = context->get_saved_variables();
    const Basis b = kept(context);
    auto [to_g, to_v] = MLCALC_CALL("density_second", second_cpu, u[0], saved[0], saved[1], saved[2], b.l_max,
                                    b.n_radial, b.cutoff, b.power);
    return {to_g, to_v, Tensor(), Tensor()};
  }
};

// The number of rows may be a symbol, while a program is traced.
Tensor density_autograd(const Tensor &vectors, const Tensor &row, c10::SymInt n, int64_t l_max, int64_t n_radial,
                        double cutoff, int64_t power);

struct DensityForward : Function<DensityForward> {
  static Tensor forward(AutogradContext *context, const Tensor &vectors, const Tensor &row, const c10::SymInt &n,
                        const Basis &b)
  {
    context->save_for_backward({vectors, row});
    keep(context, b);
    const at::AutoDispatchBelowADInplaceOrView below;
    return MLCALC_CALL("density", density_autograd, vectors, row, n, b.l_max, b.n_radial, b.cutoff, b.power);
  }

  static variable_list backward(AutogradContext *context, variable_list g)
  {
    const auto saved = context->get_saved_variables();
    return {density_backward(g[0], saved[0], saved[1], kept(context)), Tensor(), Tensor(), Tensor()};
  }
};

Tensor density_autograd(const Tensor &vectors, const Tensor &row, c10::SymInt n, int64_t l_max, int64_t n_radial,
                        double cutoff, int64_t power)
{
  return DensityForward::apply(vectors, row, n, Basis{l_max, n_radial, cutoff, power});
}

Tensor backward_autograd(const Tensor &g, const Tensor &vectors, const Tensor &row, int64_t l_max, int64_t n_radial,
                         double cutoff, int64_t power)
{
  return DensityBackward::apply(g, vectors, row, Basis{l_max, n_radial, cutoff, power});
}

// Third derivatives are not there, and must not be mistaken for zero.
struct DensitySecond : Function<DensitySecond> {
  static variable_list forward(AutogradContext *, const Tensor &u, const Tensor &g, const Tensor &vectors,
                               const Tensor &row, const Basis &b)
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [to_g, to_v] =
      MLCALC_CALL("density_second", second_cpu, u, g, vectors, row, b.l_max, b.n_radial, b.cutoff, b.power);
    return {to_g, to_v};
  }

  static variable_list backward(AutogradContext *, variable_list)
  {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "densities have no third derivatives; set MLCALC_OPS=0");
  }
};

std::tuple<Tensor, Tensor> second_autograd(const Tensor &u, const Tensor &g, const Tensor &vectors, const Tensor &row,
                                           int64_t l_max, int64_t n_radial, double cutoff, int64_t power)
{
  auto out = DensitySecond::apply(u, g, vectors, row, Basis{l_max, n_radial, cutoff, power});
  return {out[0], out[1]};
}

}  // namespace

MLCALC_REGISTER("density",
  m.def("density(Tensor vectors, Tensor row, SymInt n, int l_max, int n_radial, float cutoff, int power) -> Tensor");
  m.def("density_backward(Tensor g, Tensor vectors, Tensor row, int l_max, int n_radial, float cutoff, int power) "
        "-> Tensor");
  m.def("density_second(Tensor u, Tensor g, Tensor vectors, Tensor row, int l_max, int n_radial, float cutoff, "
        "int power) -> (Tensor, Tensor)");,
  m.impl("density", density_cpu);
  m.impl("density_backward", backward_cpu);
  m.impl("density_second", second_cpu);,
  m.impl("density", density_autograd);
  m.impl("density_backward", backward_autograd);
  m.impl("density_second", second_autograd);)

}  // namespace mlcalc::ops
