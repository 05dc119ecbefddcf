/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "committee.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>

namespace mlcalc {

namespace {

using Names = std::vector<std::string>;

// What a committee keeps of each member for an edge: which one it is; its vector and nodes, with room to grow; the
// gradient of the last result; the difference from the mean.
constexpr double bytes_per_edge = 8.0 + 9.0 / 8.0 * (24.0 + 16.0) + 24.0 + 24.0;

bool holds(const Names &names, const std::string &name)
{
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Those of a that are in b, in the order of a.
Names both(const Names &a, const Names &b)
{
  Names found;
  std::copy_if(a.begin(), a.end(), std::back_inserter(found), [&](const auto &name) { return holds(b, name); });
  return found;
}

// Which elements may occur together; no sets mean that all may.
std::vector<Names> sets_of(const ModelInfo &info)
{
  return info.element_sets.empty() ? std::vector<Names>{info.elements} : info.element_sets;
}

// One more set, unless another holds all of it; those that it holds go.
void add(std::vector<Names> &sets, const Names &names)
{
  const auto holds_all = [](const Names &all, const Names &some) { return both(some, all).size() == some.size(); };
  if (names.empty()) return;
  if (std::any_of(sets.begin(), sets.end(), [&](const auto &set) { return holds_all(set, names); })) return;
  std::erase_if(sets, [&](const auto &set) { return holds_all(names, set); });
  sets.push_back(names);
}

// Run something of a member; what goes wrong shall name its file.
template <typename Work> void naming(const std::string &path, const Work &work)
{
  try {
    work();
  } catch (const std::exception &problem) {
    const std::string text = problem.what();
    throw std::runtime_error(text.find(path) == std::string::npos ? path + ": " + text : text);
  }
}

}    // namespace

Committee::Member::Member(const std::string &path_) : path(path_)
{
  naming(path, [&] { model = std::make_unique<Model>(path); });
}

Committee::Committee(const std::vector<std::string> &paths)
{
  for (const auto &path : paths) {
    all.emplace_back(path);
    title += (title.empty() ? "" : ", ") + path;
  }
  together = all.at(0).model->info();
  // Where one member cannot exchange, all cannot; those of one layer need not.
  int64_t least = 1;
  for (size_t m = 0; m < all.size(); ++m) {
    const auto &info = all[m].model->info();
    if ((info.layers == 1 && info.exchange_width >= 0) || info.exchange_width >= least) continue;
    least = info.exchange_width;
    silent = m;
  }
  if (all.size() > 1) combine();
}

void Committee::combine()
{
  auto sets = sets_of(together);
  together.exchange_width = 0;
  for (const auto &member : all) {
    const auto &info = member.model->info();
    if (info.energy_scale != together.energy_scale)
      throw std::runtime_error("members of a committee must mean the same by energy: " + all[0].path + " says '" +
                               together.energy_scale + "', " + member.path + " says '" + info.energy_scale + "'");
    together.elements = both(together.elements, info.elements);
    std::vector<Names> shared;
    for (const auto &one : sets)
      for (const auto &other : sets_of(info))
        add(shared, both(one, other));
    sets = shared;
    together.cutoff = std::max(together.cutoff, info.cutoff);
    together.min_distance = std::max(together.min_distance, info.min_distance);
    together.layers = std::max(together.layers, info.layers);
    together.exchange_width = std::max(together.exchange_width, info.exchange_width);
    together.counted = together.counted && info.counted;
    for (const auto &input : info.inputs)
      if (!holds(together.inputs, input)) together.inputs.push_back(input);
  }
  if (const auto *const member = without_exchange()) together.exchange_width = member->model->info().exchange_width;
  if (together.elements.empty()) throw std::runtime_error(title + " have no element in common");
  together.name = "the committee of " + title;
  together.element_sets = sets;
  for (auto &member : all) {
    const auto &info = member.model->info();
    for (const auto &element : together.elements)
      member.species.push_back(std::find(info.elements.begin(), info.elements.end(), element) - info.elements.begin());
    member.whole = info.cutoff == together.cutoff;
    for (size_t k = 0; k < member.species.size(); ++k)
      if (member.species[k] != static_cast<int64_t>(k)) member.whole = false;
  }
}

bool Committee::has_grades() const
{
  return std::any_of(all.begin(), all.end(), [](const auto &member) { return member.model->has_grades(); });
}

bool Committee::separable() const
{
  return std::all_of(all.begin(), all.end(), [](const auto &member) {
    return member.model->info().layers == 1 && member.model->info().exchange_width == 0;
  });
}

void Committee::self_check()
{
  for (auto &member : all) naming(member.path, [&] { member.model->self_check(); });
}

// The member's species, and the edges within its cutoff; nodes stay where they are.
const ModelGraph &Committee::Member::view(const ModelGraph &of_all)
{
  const double cutoff = model->info().cutoff;
  edges.clear();
  for (int64_t e = 0; e < of_all.n_edges; ++e) {
    const double *const r = &of_all.vectors[3 * e];
    if (whole || r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff * cutoff) edges.push_back(e);
  }
  if (whole) return of_all;
  graph.n_owned = of_all.n_owned;
  graph.n_centres = of_all.n_centres;
  graph.n_nodes = of_all.n_nodes;
  graph.n_edges = static_cast<int64_t>(edges.size());
  graph.species.resize(of_all.n_nodes);
  for (int64_t n = 0; n < of_all.n_nodes; ++n) graph.species[n] = species[of_all.species[n]];
  graph.reserve(graph.n_edges);
  for (int64_t k = 0; k < graph.n_edges; ++k) {
    graph.index[k] = of_all.index[edges[k]];
    graph.index[graph.stride + k] = of_all.index[of_all.stride + edges[k]];
    std::copy_n(&of_all.vectors[3 * edges[k]], 3, &graph.vectors[3 * k]);
  }
  return graph;
}

ModelResult Committee::evaluate(const ModelGraph &graph, Exchanger *exchanger,
                                const std::map<std::string, double> &inputs)
{
  if (all.size() == 1) return all[0].model->evaluate(graph, exchanger, inputs);
  const size_t n = graph.n_owned, count = all.size();
  const double share = 1.0 / static_cast<double>(count);
  energies.assign(n, 0.0);
  gradients.assign(3 * graph.n_edges, 0.0);
  grades.assign(n, 0.0);
  energy_differences.assign(count, 0.0);
  gradient_differences.assign(3 * graph.n_edges * count, 0.0);
  for (size_t m = 0; m < count; ++m) {
    auto &member = all[m];
    naming(member.path, [&] { member.result = member.model->evaluate(member.view(graph), exchanger, inputs); });
    for (size_t i = 0; i < n; ++i) {
      energies[i] += share * member.result.energies[i];
      if (member.result.grades) grades[i] = std::max(grades[i], member.result.grades[i]);
    }
    for (size_t k = 0; k < member.edges.size(); ++k)
      for (int a = 0; a < 3; ++a) {
        const double g = member.result.gradients[3 * k + a];
        gradients[3 * member.edges[k] + a] += share * g;
        gradient_differences[3 * (member.edges[k] * count + m) + a] = g;
      }
  }
  for (size_t m = 0; m < count; ++m)
    for (size_t i = 0; i < n; ++i) energy_differences[m] += all[m].result.energies[i] - energies[i];
  for (int64_t e = 0; e < graph.n_edges; ++e)
    for (size_t m = 0; m < count; ++m)
      for (int a = 0; a < 3; ++a) gradient_differences[3 * (e * count + m) + a] -= gradients[3 * e + a];
  return {energies.data(), gradients.data(), has_grades() ? grades.data() : nullptr};
}

double Committee::measure_memory(const ModelGraph &graph, const std::map<std::string, double> &inputs, int64_t edges)
{
  for (auto *const numbers : {&energies, &gradients, &grades, &gradient_differences}) *numbers = {};
  for (auto &member : all) member.model->forget();
  double most = 0.0;    // members run one after the other
  for (auto &member : all)
    naming(member.path, [&] {
      const auto &view = member.view(graph);
      const int64_t part = std::min(view.n_edges, edges);
      const double share = part > 0 ? static_cast<double>(part) / static_cast<double>(view.n_edges) : 1.0;
      most = std::max(most, member.model->measure_memory(view, inputs, part) / share);
    });
  if (all.size() == 1) return most;
  const auto count = static_cast<double>(all.size());
  return most + (bytes_per_edge * count + 24.0) * static_cast<double>(graph.n_edges);    // 24: the mean gradient
}

double Committee::memory_usage() const
{
  size_t numbers = energies.capacity() + gradients.capacity() + grades.capacity() + gradient_differences.capacity();
  for (const auto &member : all)
    numbers += member.graph.vectors.capacity() + member.graph.index.capacity() + member.edges.capacity();
  return static_cast<double>(numbers * sizeof(double));
}

}    // namespace mlcalc
