/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "model.h"

#include "exchange_scope.h"

#include <ATen/Parallel.h>
#include <nlohmann/json.hpp>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>
#include <torch/version.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace mlcalc {

namespace {

using json = nlohmann_lmp::json;

const char *const again = "export the model again with this installation: mlcalc export POTENTIAL FILE.pt";

// First line only: torch appends a C++ stack trace.
std::string first_line(const std::string &text)
{
  return text.substr(0, text.find('\n'));
}

struct Reference {
  ModelGraph graph;
  std::vector<double> energies, forces, virial;
  double energy_tolerance, force_tolerance, virial_tolerance;
};

Reference read_reference(const json &values)
{
  Reference reference;
  auto &graph = reference.graph;
  graph.species = values.at("species").get<std::vector<int64_t>>();
  graph.n_owned = graph.n_nodes = static_cast<int64_t>(graph.species.size());
  const auto &index = values.at("edge_index");
  const auto centres = index.at(0).get<std::vector<int64_t>>(), neighbours = index.at(1).get<std::vector<int64_t>>();
  if (centres.size() != neighbours.size()) throw std::runtime_error("edge_index");
  graph.n_edges = static_cast<int64_t>(centres.size());
  graph.reserve(graph.n_edges);
  std::copy(centres.begin(), centres.end(), graph.index.begin());
  std::copy(neighbours.begin(), neighbours.end(), graph.index.begin() + graph.stride);
  for (const auto &node : {centres, neighbours})
    for (const auto n : node)
      if (n < 0 || n >= graph.n_nodes) throw std::runtime_error("edge_index");
  size_t k = 0;
  for (const auto &row : values.at("edge_vectors"))
    for (int d = 0; d < 3; ++d) graph.vectors.at(k++) = row.at(d).get<double>();
  reference.energies = values.at("energies").get<std::vector<double>>();
  for (const auto &row : values.at("forces"))
    for (int d = 0; d < 3; ++d) reference.forces.push_back(row.at(d).get<double>());
  for (const auto &row : values.at("virial")) {
    if (row.is_array())
      for (const auto &value : row) reference.virial.push_back(value.get<double>());
    else
      reference.virial.push_back(row.get<double>());
  }
  if (static_cast<int64_t>(reference.energies.size()) != graph.n_nodes || reference.virial.size() != 9 ||
      static_cast<int64_t>(reference.forces.size()) != 3 * graph.n_nodes)
    throw std::runtime_error("reference");
  const auto &tolerance = values.at("tolerance");
  reference.energy_tolerance = tolerance.at("energy");
  reference.force_tolerance = tolerance.at("forces");
  reference.virial_tolerance = tolerance.at("virial");
  return reference;
}

ModelInfo read_info(const json &document)
{
  ModelInfo info;
  const auto &values = document.at("info");
  info.name = values.value("name", "");
  info.elements = values.at("elements").get<std::vector<std::string>>();
  info.cutoff = values.at("cutoff");
  info.min_distance = values.value("min_distance", 0.0);
  info.layers = values.at("layers");
  info.needs = values.value("needs", std::vector<std::string>{});
  info.inputs = values.value("inputs", std::vector<std::string>{});
  info.element_sets = values.value("element_sets", std::vector<std::vector<std::string>>{});
  info.dtype = document.at("dtype");
  info.torch_version = document.at("torch_version");
  info.exchange_width = document.at("exchange_width");
  const auto &units = document.at("units");
  if (units.at("energy") != "eV" || units.at("length") != "angstrom")
    throw std::runtime_error("units other than eV and angstrom");
  if (info.dtype != "float32" && info.dtype != "float64") throw std::runtime_error("dtype " + info.dtype);
  if (!(info.cutoff > 0.0)) throw std::runtime_error("cutoff");
  return info;
}

double largest_difference(const std::vector<double> &a, const std::vector<double> &b)
{
  double largest = 0.0;
  for (size_t k = 0; k < a.size(); ++k) {
    const double difference = std::abs(a[k] - b[k]);
    if (!(difference <= largest)) largest = difference;    // keeps NaN
  }
  return largest;
}

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

}    // namespace

struct Model::Impl {
  torch::jit::Module module;
  torch::ScalarType dtype = torch::kDouble;
  bool triplets = false;
  Reference reference;
  torch::Tensor energies, gradients;    // what the last result points to
};

void ModelGraph::reserve(int64_t edges)
{
  if (edges > stride || index.empty()) {
    stride = edges + edges / 8 + 16;
    index.resize(2 * stride);
    vectors.resize(3 * stride);
  }
}

Model::Model(const std::string &path) : impl(std::make_unique<Impl>())
{
  if (!std::ifstream(path).good()) throw std::runtime_error("cannot open model file " + path);
  torch::jit::ExtraFilesMap extra{{"mlcalc.json", ""}};
  try {
    impl->module = torch::jit::load(path, torch::kCPU, extra);
  } catch (const std::exception &problem) {
    throw std::runtime_error(path + " is not a readable TorchScript archive (damaged, or not made by mlcalc export): " +
                             first_line(problem.what()));
  }
  if (extra["mlcalc.json"].empty())
    throw std::runtime_error(path + " is a TorchScript archive but not an mlcalc model file (no mlcalc.json inside): "
                             "make one with mlcalc export POTENTIAL FILE.pt");
  try {
    const auto document = json::parse(extra["mlcalc.json"]);
    if (document.at("kind") != "mlcalc-potential" || document.at("format") != 1)
      throw std::runtime_error("another kind or a newer format");
    information = read_info(document);
    impl->reference = read_reference(document.at("reference"));
  } catch (const std::exception &problem) {
    throw std::runtime_error(path + " does not describe a model this plugin can use (" + first_line(problem.what()) +
                             "): " + again);
  }
  for (const auto &table : information.needs) {
    if (table != "triplets")
      throw std::runtime_error(path + " needs the index table " + table + ", which pair style mlcalc does not supply");
    impl->triplets = true;
  }
  impl->dtype = information.dtype == "float32" ? torch::kFloat : torch::kDouble;
  impl->module.eval();
  for (auto parameter : impl->module.parameters()) parameter.set_requires_grad(false);
}

Model::~Model() = default;

ModelResult Model::evaluate(const ModelGraph &graph, Exchanger *exchanger, const std::map<std::string, double> &inputs)
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
                     .to(impl->dtype)
                     .detach()
                     .requires_grad_(true);

  c10::Dict<std::string, torch::Tensor> extra;
  extra.insert("batch", torch::zeros({graph.n_nodes}, whole));
  extra.insert("owned", torch::arange(graph.n_owned, whole));
  if (impl->triplets) extra.insert("triplets", triplet_table(graph));
  for (const auto &name : information.inputs)
    extra.insert(name, torch::full({1}, inputs.count(name) ? inputs.at(name) : 0.0, vectors.options()).detach());

  ExchangeScope scope(exchanger);
  auto energies = impl->module.forward({species, index, vectors, extra}).toTensor().narrow(0, 0, graph.n_owned);

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
  impl->energies = energies.detach().to(torch::kDouble).contiguous();
  impl->gradients = gradients.detach().to(torch::kDouble).contiguous();
  return {impl->energies.data_ptr<double>(), impl->gradients.data_ptr<double>()};
}

void Model::self_check()
{
  const auto &reference = impl->reference;
  const auto &graph = reference.graph;
  ModelResult result;
  try {
    result = evaluate(graph, nullptr, {});
  } catch (const std::exception &problem) {
    throw std::runtime_error("the model cannot evaluate its own reference structure (" + first_line(problem.what()) +
                             "): " + again);
  }
  const std::vector<double> energies(result.energies, result.energies + graph.n_nodes);
  std::vector<double> forces(3 * graph.n_nodes, 0.0), virial(9, 0.0);
  for (int64_t e = 0; e < graph.n_edges; ++e)
    for (int a = 0; a < 3; ++a) {
      forces[3 * graph.index[e] + a] += result.gradients[3 * e + a];
      forces[3 * graph.index[graph.stride + e] + a] -= result.gradients[3 * e + a];
      for (int b = 0; b < 3; ++b) virial[3 * a + b] -= graph.vectors[3 * e + a] * result.gradients[3 * e + b];
    }
  const double energy = largest_difference(energies, reference.energies);
  const double force = largest_difference(forces, reference.forces);
  const double stress = largest_difference(virial, reference.virial);
  if (energy <= reference.energy_tolerance && force <= reference.force_tolerance &&
      stress <= reference.virial_tolerance)
    return;
  std::ostringstream text;
  text << "the model does not reproduce its own reference structure: off by " << energy << " eV/atom, " << force
       << " eV/Angstrom, virial " << stress << " eV (allowed " << reference.energy_tolerance << ", "
       << reference.force_tolerance << ", " << reference.virial_tolerance << "; made with torch "
       << information.torch_version << ", running with " << torch_version() << "): " << again;
  throw std::runtime_error(text.str());
}

Model::Threads::Threads(int number) : before(at::get_num_threads())
{
  if (number > 0 && number != before) at::set_num_threads(number);
}

Model::Threads::~Threads()
{
  if (at::get_num_threads() != before) at::set_num_threads(before);
}

std::string torch_version()
{
  return std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + "." +
      std::to_string(TORCH_VERSION_PATCH);
}

}    // namespace mlcalc
