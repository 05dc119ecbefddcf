/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "model.h"

#include "document.h"
#include "program.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace mlcalc {

namespace {

double largest_difference(const std::vector<double> &a, const std::vector<double> &b)
{
  double largest = 0.0;
  for (size_t k = 0; k < a.size(); ++k) {
    const double difference = std::abs(a[k] - b[k]);
    if (!(difference <= largest)) largest = difference;    // keeps NaN
  }
  return largest;
}

}    // namespace

void ModelGraph::reserve(int64_t edges, int64_t kept)
{
  if (edges > stride || index.empty()) {
    const int64_t before = stride;
    stride = edges + edges / 8 + 16;
    index.resize(2 * stride);
    vectors.resize(3 * stride);
    std::copy_backward(index.begin() + before, index.begin() + before + kept, index.begin() + stride + kept);
  }
}

Model::Model(const std::string &path) : reference(std::make_unique<Reference>())
{
  read_document(path, information, *reference);
  program = information.program == "aotinductor" ? load_aotinductor(path, information)
                                                 : load_torchscript(path, information);
}

Model::~Model() = default;

bool Model::has_grades() const
{
  return !reference->grades.empty();
}

ModelResult Model::evaluate(const ModelGraph &graph, Exchanger *exchanger, const std::map<std::string, double> &inputs)
{
  auto &output = program->last;
  try {
    output = program->run(graph, exchanger, inputs);
  } catch (const std::exception &problem) {
    throw std::runtime_error(first_line(problem.what()));
  }
  return {output.energies.data_ptr<double>(), output.gradients.data_ptr<double>(),
          output.grades.defined() ? output.grades.data_ptr<double>() : nullptr};
}

void Model::self_check()
{
  const auto &graph = reference->graph;
  ModelResult result;
  try {
    result = evaluate(graph, nullptr, {});
  } catch (const std::exception &problem) {
    throw std::runtime_error("the model cannot evaluate its own reference structure (" + first_line(problem.what()) +
                             "): " + export_again(information));
  }
  const std::vector<double> energies(result.energies, result.energies + graph.n_nodes);
  std::vector<double> forces(3 * graph.n_nodes, 0.0), virial(9, 0.0);
  for (int64_t e = 0; e < graph.n_edges; ++e)
    for (int a = 0; a < 3; ++a) {
      forces[3 * graph.index[e] + a] += result.gradients[3 * e + a];
      forces[3 * graph.index[graph.stride + e] + a] -= result.gradients[3 * e + a];
      for (int b = 0; b < 3; ++b) virial[3 * a + b] -= graph.vectors[3 * e + a] * result.gradients[3 * e + b];
    }
  const double energy = largest_difference(energies, reference->energies);
  const double force = largest_difference(forces, reference->forces);
  const double stress = largest_difference(virial, reference->virial);
  double grade = 0.0;
  if (result.grades)
    grade = largest_difference({result.grades, result.grades + graph.n_nodes}, reference->grades);
  if (energy <= reference->energy_tolerance && force <= reference->force_tolerance &&
      stress <= reference->virial_tolerance && grade <= reference->grade_tolerance)
    return;
  std::ostringstream text;
  text << "the model does not reproduce its own reference structure: off by " << energy << " eV/atom, " << force
       << " eV/Angstrom, virial " << stress << " eV, grade " << grade << " (allowed " << reference->energy_tolerance << ", "
       << reference->force_tolerance << ", " << reference->virial_tolerance << ", "
       << reference->grade_tolerance << "; made with torch "
       << information.torch_version << ", running with " << torch_version() << "): " << export_again(information);
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

int Model::Threads::now()
{
  return at::get_num_threads();
}

std::string torch_version()
{
  return std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + "." +
      std::to_string(TORCH_VERSION_PATCH);
}

}    // namespace mlcalc
