/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "program.h"

#include "document.h"
#include "exchange_scope.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

namespace mlcalc {

namespace {

// all ordered pairs of distinct edges with a common centre, by first edge
torch::Tensor triplet_table(const ModelGraph &graph)
{
  std::vector<int64_t> pairs;
  for (int64_t start = 0, end; start < graph.n_edges; start = end) {
    for (end = start; end < graph.n_edges && graph.index[end] == graph.index[start];) ++end;
    for (int64_t a = start; a < end; ++a)
      for (int64_t b = start; b < end; ++b)
        if (a != b) {
          pairs.push_back(a);
          pairs.push_back(b);
        }
  }
  return torch::tensor(pairs, torch::kInt64).reshape({-1, 2});
}

class TorchScript : public Program {
 public:
  TorchScript(const std::string &path, const ModelInfo &info_) :
      info(info_), dtype(info.dtype == "float32" ? torch::kFloat : torch::kDouble)
  {
    for (const auto &table : info.needs) {
      if (table != "triplets")
        throw std::runtime_error(path + " needs the index table " + table + ", which pair style mlcalc does not supply");
      triplets = true;
    }
    for (const auto &output : info.outputs) grades = grades || output == "grade";
    try {
      module = torch::jit::load(path, torch::kCPU);
    } catch (const std::exception &problem) {
      throw std::runtime_error(path + " is not a readable TorchScript archive: " + first_line(problem.what()));
    }
    module.eval();
    for (auto parameter : module.parameters()) parameter.set_requires_grad(false);
  }

  ProgramOutput run(const ModelGraph &graph, Exchanger *exchanger, const std::map<std::string, double> &inputs) override
  {
    // Shapes change at every step and gradients of weights are never wanted: specialising the graph does not pay.
    torch::jit::GraphOptimizerEnabledGuard no_specialisation(false);
    torch::AutoGradMode with_gradients(true);
    const auto whole = torch::TensorOptions().dtype(torch::kInt64);
    const auto real = torch::TensorOptions().dtype(torch::kDouble);
    const auto species = torch::from_blob(const_cast<int64_t *>(graph.species.data()), {graph.n_nodes}, whole);
    const auto index = torch::from_blob(const_cast<int64_t *>(graph.index.data()), {2, graph.n_edges},
                                        {graph.stride, 1}, whole);
    auto vectors = torch::from_blob(const_cast<double *>(graph.vectors.data()), {graph.n_edges, 3}, real)
                       .to(dtype)
                       .detach()
                       .requires_grad_(true);

    c10::Dict<std::string, torch::Tensor> extra;
    extra.insert("batch", torch::zeros({graph.n_nodes}, whole));
    extra.insert("owned", torch::arange(graph.n_centres, whole));
    if (triplets) extra.insert("triplets", triplet_table(graph));
    if (grades) extra.insert("grade", torch::empty({0}));
    for (const auto &name : info.inputs)
      extra.insert(name, torch::full({1}, inputs.count(name) ? inputs.at(name) : 0.0, vectors.options()).detach());

    ExchangeScope scope(exchanger);
    auto energies = module.forward({species, index, vectors, extra}).toTensor().narrow(0, 0, graph.n_owned);

    std::vector<torch::Tensor> outputs, seeds;
    const auto total = energies.sum();
    if (total.requires_grad()) {
      outputs.push_back(total);
      seeds.push_back(torch::ones_like(total));
    }
    if (scope.calls > 0) {
      outputs.push_back(scope.last_token);
      seeds.push_back(torch::zeros_like(scope.last_token));
    }
    torch::Tensor gradients;
    if (!outputs.empty()) {
      const auto derivatives =
          torch::autograd::grad(outputs, {vectors, scope.first_token}, seeds, false, false, /*allow_unused=*/true);
      gradients = derivatives[0];
    }
    if (!gradients.defined()) gradients = torch::zeros_like(vectors);
    const auto plain = [](const torch::Tensor &values) { return values.detach().to(torch::kDouble).contiguous(); };
    ProgramOutput output{plain(energies), plain(gradients), {}};
    if (grades) output.grades = plain(extra.at("grade")).narrow(0, 0, graph.n_owned);
    return output;
  }

 private:
  ModelInfo info;
  torch::ScalarType dtype;
  torch::jit::Module module;
  bool triplets = false, grades = false;
};

}    // namespace

std::unique_ptr<Program> load_torchscript(const std::string &path, const ModelInfo &info)
{
  return std::make_unique<TorchScript>(path, info);
}

}    // namespace mlcalc
