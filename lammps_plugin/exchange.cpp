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

#include <thread>

namespace mlcalc {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local ExchangeScope *current = nullptr;

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

class Exchange : public torch::autograd::Function<Exchange> {
 public:
  static variable_list forward(AutogradContext *ctx, const Tensor &features, const Tensor &token)
  {
    ctx->saved_data["scope"] = reinterpret_cast<int64_t>(current);
    ctx->saved_data["thread"] = static_cast<int64_t>(std::hash<std::thread::id>{}(std::this_thread::get_id()));
    return {forward_rows(*current->exchanger, features), token.detach().clone()};
  }

  static variable_list backward(AutogradContext *ctx, variable_list gradients)
  {
    // MPI belongs to the thread that called the model; autograd keeps CPU work there.
    TORCH_CHECK(ctx->saved_data["thread"].toInt() ==
                    static_cast<int64_t>(std::hash<std::thread::id>{}(std::this_thread::get_id())),
                "mlcalc::exchange: backward runs on a foreign thread");
    auto *scope = reinterpret_cast<ExchangeScope *>(ctx->saved_data["scope"].toInt());
    const auto &gradient = gradients[0];    // zeros where autograd had none
    auto rows = as_rows(gradient);
    scope->exchanger->reverse(rows.data_ptr<double>(), row_width(gradient));
    const auto owned = scope->exchanger->owned();
    rows.narrow(0, owned, rows.size(0) - owned).zero_();
    return {rows.to(gradient.scalar_type()), at::zeros_like(scope->first_token)};
  }
};

Tensor exchange_cpu(const Tensor &features)
{
  if (!current || !current->exchanger) return features.view_as(features);
  ++current->calls;
  return forward_rows(*current->exchanger, features);
}

Tensor exchange_autograd(const Tensor &features)
{
  if (!current || !current->exchanger) return features.view_as(features);
  ++current->calls;
  auto out = Exchange::apply(features, current->last_token);
  current->last_token = out[1];
  return out[0];
}

Tensor exchange_identity(const Tensor &features)
{
  return features.view_as(features);
}

// In a Python process that has imported mlcalc the schema and its identity are there already.
bool has_schema()
{
  return c10::Dispatcher::singleton().findSchema({"mlcalc::exchange", ""}).has_value();
}

void define(torch::Library &library)
{
  if (!has_schema()) {
    library.def("exchange(Tensor features) -> Tensor");
    library.impl("exchange", torch::dispatch(c10::DispatchKey::CompositeImplicitAutograd, exchange_identity));
  }
  library.impl("exchange", torch::dispatch(c10::DispatchKey::CPU, exchange_cpu));
  library.impl("exchange", torch::dispatch(c10::DispatchKey::AutogradCPU, exchange_autograd));
}

}    // namespace

ExchangeScope::ExchangeScope(Exchanger *exchanger_) : exchanger(exchanger_), outer(current)
{
  first_token = at::zeros({1}, at::kDouble).set_requires_grad(true);
  last_token = first_token;
  current = this;
}

ExchangeScope::~ExchangeScope()
{
  current = outer;
}

}    // namespace mlcalc

TORCH_LIBRARY_FRAGMENT(mlcalc, library)
{
  mlcalc::define(library);
}
