/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "exchange_scope.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <atomic>

namespace mlcalc {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local ExchangeScope *current = nullptr;
std::atomic<int> talking = 0;    // scopes with an exchanger, on all threads

// The exchanger of this thread, null where the operator is the identity. MPI belongs to the thread that called the
// model: on another one, which a program can start by fork, there is no way to tell in which order to communicate.
Exchanger *exchanger_here()
{
  TORCH_CHECK(current || talking == 0,
              "mlcalc::exchange was called on a foreign thread; a model must exchange on the thread that calls it, not in "
              "a fork");
  return current ? current->exchanger : nullptr;
}

int64_t row_width(const Tensor &features)
{
  int64_t width = 1;
  for (int64_t d = 1; d < features.dim(); ++d) width *= features.size(d);
  return width;
}

void check_width(const Exchanger &exchanger, int64_t width)
{
  TORCH_CHECK(width <= exchanger.width_limit(), "the model exchanges ", width, " numbers per atom, but its file says ",
              exchanger.width_limit(), ": export it again");
}

// Communication works on double precision rows, the only kind LAMMPS sends.
Tensor as_rows(const Tensor &features)
{
  auto rows = features.to(at::kDouble).contiguous();
  return rows.is_alias_of(features) ? rows.clone() : rows;
}

Tensor forward_rows(Exchanger &exchanger, const Tensor &features)
{
  check_width(exchanger, row_width(features));
  auto rows = as_rows(features.detach());
  exchanger.forward(rows.data_ptr<double>(), row_width(features));
  return rows.to(features.scalar_type());
}

Tensor reverse_rows(Exchanger &exchanger, const Tensor &gradient)
{
  check_width(exchanger, row_width(gradient));
  auto rows = as_rows(gradient.detach());
  exchanger.reverse(rows.data_ptr<double>(), row_width(gradient));
  const auto owned = exchanger.owned();
  rows.narrow(0, owned, rows.size(0) - owned).zero_();
  return rows.to(gradient.scalar_type());
}

Tensor exchange_cpu(const Tensor &features)
{
  auto *const exchanger = exchanger_here();
  return exchanger ? forward_rows(*exchanger, features) : features.clone();
}

Tensor exchange_backward_cpu(const Tensor &gradient)
{
  auto *const exchanger = exchanger_here();
  return exchanger ? reverse_rows(*exchanger, gradient) : gradient.clone();
}

Tensor call(const char *name, const Tensor &features)
{
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Tensor(const Tensor &)>();
  return op.call(features);
}

// Either operator is the other's derivative.
class Exchange : public torch::autograd::Function<Exchange> {
 public:
  static variable_list forward(AutogradContext *ctx, const Tensor &features, const Tensor &token, bool back)
  {
    ctx->saved_data["exchanger"] = reinterpret_cast<int64_t>(exchanger_here());
    ctx->saved_data["back"] = back;
    at::AutoDispatchBelowADInplaceOrView below;
    return {call(back ? "mlcalc::exchange_backward" : "mlcalc::exchange", features), token.detach().clone()};
  }

  static variable_list backward(AutogradContext *ctx, variable_list gradients)
  {
    // MPI belongs to the thread that called the model, and `current` does too; autograd keeps CPU work there.
    TORCH_CHECK(ctx->saved_data["exchanger"].toInt() == reinterpret_cast<int64_t>(exchanger_here()),
                "mlcalc::exchange: backward runs on a foreign thread, or after the evaluation has ended");
    const bool back = ctx->saved_data["back"].toBool();
    // gradients are zeros where autograd had none
    return {call(back ? "mlcalc::exchange" : "mlcalc::exchange_backward", gradients[0]), at::zeros_like(gradients[1]),
            Tensor()};
  }
};

Tensor exchange_autograd(const Tensor &features)
{
  if (!exchanger_here()) return Exchange::apply(features, at::zeros({1}), false)[0];
  ++current->calls;
  auto out = Exchange::apply(features, current->last_token, false);
  current->last_token = out[1];
  return out[0];
}

Tensor exchange_backward_autograd(const Tensor &gradient)
{
  return Exchange::apply(gradient, at::zeros({1}), true)[0];
}

// In a Python process that has imported mlcalc the schemas are there already.
void define(torch::Library &library)
{
  for (const char *name : {"exchange", "exchange_backward"})
    if (!c10::Dispatcher::singleton().findSchema({std::string("mlcalc::") + name, ""}).has_value())
      library.def((std::string(name) + "(Tensor features) -> Tensor").c_str());
  library.impl("exchange", torch::dispatch(c10::DispatchKey::CPU, exchange_cpu));
  library.impl("exchange_backward", torch::dispatch(c10::DispatchKey::CPU, exchange_backward_cpu));
  library.impl("exchange", torch::dispatch(c10::DispatchKey::AutogradCPU, exchange_autograd));
  library.impl("exchange_backward", torch::dispatch(c10::DispatchKey::AutogradCPU, exchange_backward_autograd));
}

}    // namespace

ExchangeScope::ExchangeScope(Exchanger *exchanger_) : exchanger(exchanger_), outer(current)
{
  first_token = at::zeros({1}, at::kDouble).set_requires_grad(true);
  last_token = first_token;
  current = this;
  if (exchanger) ++talking;
}

ExchangeScope::~ExchangeScope()
{
  current = outer;
  if (exchanger) --talking;
}

}    // namespace mlcalc

TORCH_LIBRARY_FRAGMENT(mlcalc, library)
{
  mlcalc::define(library);
}
