// mlcalc::mix: shapes, threads, and derivatives. See mlcalc/ops/mix.py for what it takes.
#include "mix.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "call.h"
#include "registers.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace mlcalc::ops {
namespace {

typedef std::optional<Tensor> Maybe;

template <typename T>
MixKernels<T> best(int64_t channels)
{
  MLCALC_WIDEST(channels * static_cast<int64_t>(sizeof(T)), mix_kernels<T>)
}

Maps make_maps(int64_t sets, int64_t degrees, const Tensor &x, int64_t n_out, const Tensor &set)
{
  TORCH_CHECK(x.dim() == 3 && x.size(1) == degrees * degrees, "mlcalc::mix: rows ", x.sizes(), " of ", degrees,
              " degrees");
  Maps maps{degrees - 1, x.size(2), n_out, nullptr};
  if (!set.defined()) {
    TORCH_CHECK(sets == 1, "mlcalc::mix: ", sets, " sets of weights, and not said which");
    return maps;
  }
  TORCH_CHECK(set.dim() == 1 && set.size(0) == x.size(0) && set.scalar_type() == at::kLong,
              "mlcalc::mix: sets ", set.sizes(), " for rows ", x.sizes());
  maps.set = set.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < set.size(0); ++i)
    TORCH_CHECK_INDEX(maps.set[i] >= 0 && maps.set[i] < sets, "mlcalc::mix: set ", maps.set[i], " of ", sets);
  return maps;
}

Tensor dense(const Maybe &set)
{
  return set.has_value() ? set->contiguous() : Tensor();
}

Tensor mix_cpu(const Tensor &rows, const Tensor &weights, const Maybe &which)
{
  const Tensor x = rows.contiguous(), w = weights.contiguous(), set = dense(which);
  TORCH_CHECK(w.dim() == 4 && x.dim() == 3 && w.size(2) == x.size(2) && w.scalar_type() == x.scalar_type(),
              "mlcalc::mix: weights ", w.sizes(), " for rows ", x.sizes());
  const Maps maps = make_maps(w.size(0), w.size(1), x, w.size(3), set);
  Tensor y = at::empty({x.size(0), x.size(1), maps.n_out}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "mlcalc::mix", [&] {
    const auto kernels = best<scalar_t>(maps.n_out);
    const scalar_t *const px = x.const_data_ptr<scalar_t>(), *const pw = w.const_data_ptr<scalar_t>();
    scalar_t *const to = y.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, x.size(0), 16, [&](int64_t begin, int64_t end) {
      kernels.apply(maps, px, pw, begin, end, to);
    });
  });
  return y;
}

Tensor weight_cpu(const Tensor &rows_in, const Tensor &rows_out, const Maybe &which, int64_t sets)
{
  const Tensor x = rows_in.contiguous(), y = rows_out.contiguous(), set = dense(which);
  TORCH_CHECK(x.dim() == 3 && y.dim() == 3 && y.size(0) == x.size(0) && y.size(1) == x.size(1)
                && y.scalar_type() == x.scalar_type(),
              "mlcalc::mix_weight: rows ", x.sizes(), " and ", y.sizes());
  int64_t degrees = 0;
  while (degrees * degrees < x.size(1)) ++degrees;
  const Maps maps = make_maps(sets, degrees, x, y.size(2), set);
  Tensor w = at::zeros({sets, degrees, maps.n_in, maps.n_out}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "mlcalc::mix_weight", [&] {
    const auto kernels = best<scalar_t>(maps.n_out);
    const scalar_t *const px = x.const_data_ptr<scalar_t>(), *const py = y.const_data_ptr<scalar_t>();
    scalar_t *const to = w.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, degrees, 1, [&](int64_t begin, int64_t end) {
      kernels.outer(maps, px, py, x.size(0), begin, end, to);
    });
  });
  return w;
}

Tensor mix(const Tensor &x, const Tensor &w, const Maybe &set)
{
  return MLCALC_CALL("mix", mix_cpu, x, w, set);
}

Tensor mix_weight(const Tensor &x, const Tensor &y, const Maybe &set, int64_t sets)
{
  return MLCALC_CALL("mix_weight", weight_cpu, x, y, set, sets);
}

Maybe maybe(const Tensor &set)
{
  return set.defined() ? Maybe(set) : std::nullopt;
}

// The sum of g x w is linear in each of the three, so that all derivatives are one of these two.
struct Weight : Function<Weight> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &y, const Maybe &set, int64_t sets)
  {
    context->save_for_backward({x, y, set.value_or(Tensor())});
    const at::AutoDispatchBelowADInplaceOrView below;
    return mix_weight(x, y, set, sets);
  }

  static variable_list backward(AutogradContext *context, variable_list w)
  {
    const auto saved = context->get_saved_variables();
    const Maybe set = maybe(saved[2]);
    Tensor gx, gy;
    if (context->needs_input_grad(0)) gx = mix(saved[1], w[0].transpose(2, 3), set);
    if (context->needs_input_grad(1)) gy = mix(saved[0], w[0], set);
    return {gx, gy, Tensor(), Tensor()};
  }
};

struct Mix : Function<Mix> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &w, const Maybe &set)
  {
    context->save_for_backward({x, w, set.value_or(Tensor())});
    const at::AutoDispatchBelowADInplaceOrView below;
    return mix(x, w, set);
  }

  static variable_list backward(AutogradContext *context, variable_list g)
  {
    const auto saved = context->get_saved_variables();
    const Maybe set = maybe(saved[2]);
    Tensor gx, gw;
    if (context->needs_input_grad(0)) gx = mix(g[0], saved[1].transpose(2, 3), set);
    if (context->needs_input_grad(1)) gw = mix_weight(saved[0], g[0], set, saved[1].size(0));
    return {gx, gw, Tensor()};
  }
};

Tensor mix_autograd(const Tensor &x, const Tensor &w, const Maybe &set)
{
  return Mix::apply(x, w, set);
}

Tensor weight_autograd(const Tensor &x, const Tensor &y, const Maybe &set, int64_t sets)
{
  return Weight::apply(x, y, set, sets);
}

}  // namespace

MLCALC_REGISTER("mix",
  m.def("mix(Tensor x, Tensor weights, Tensor? set) -> Tensor");
  m.def("mix_weight(Tensor x, Tensor y, Tensor? set, int sets) -> Tensor");,
  m.impl("mix", mix_cpu);
  m.impl("mix_weight", weight_cpu);,
  m.impl("mix", mix_autograd);
  m.impl("mix_weight", weight_autograd);)

}  // namespace mlcalc::ops
