/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef MLCALC_COMMITTEE_H
#define MLCALC_COMMITTEE_H

#include "model.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mlcalc {

// Several models as one: energies and gradients are means over them, grades the largest. One model alone passes through
// unchanged. Species of its graphs are those of `info().elements`, edges reach to `info().cutoff`, the largest of the
// members', of which each takes those within its own.
class Committee {
 public:
  struct Member {
    explicit Member(const std::string &path);

    std::string path;
    std::unique_ptr<Model> model;
    std::vector<int64_t> species;    // the member's, of each of the committee's
    bool whole = true;               // the committee's graph is the member's
    ModelGraph graph;                // else its own
    std::vector<int64_t> edges;      // of its graph, among the committee's
    ModelResult result;

    const ModelGraph &view(const ModelGraph &);
  };

  // Throws std::runtime_error with a message for the user: a file cannot be used, or not together with the others.
  explicit Committee(const std::vector<std::string> &paths);

  const std::vector<Member> &members() const { return all; }
  int size() const { return static_cast<int>(all.size()); }
  // What holds for the members together.
  const ModelInfo &info() const { return together; }
  // Their files, for messages.
  const std::string &name() const { return title; }
  bool has_grades() const;
  // Why layers cannot exchange features, null if they can: the member at fault.
  const Member *without_exchange() const { return silent < all.size() ? &all[silent] : nullptr; }
  // Whether energies of some atoms need nothing of others but their place: one layer, no exchange.
  bool separable() const;
  // See Model.
  void self_check();
  ModelResult evaluate(const ModelGraph &, Exchanger *, const std::map<std::string, double> &inputs);
  // Bytes for the whole graph, from parts of it with at most so many edges; lets go of the last evaluation.
  double measure_memory(const ModelGraph &, const std::map<std::string, double> &inputs, int64_t edges);

  // Of the last evaluation, by how much members are above the mean: sums of energies of owned atoms (size); gradients
  // (edges, size, 3). Empty for one model alone.
  const std::vector<double> &energy_excess() const { return energy_differences; }
  const std::vector<double> &gradient_excess() const { return gradient_differences; }
  double memory_usage() const;

 private:
  void combine();

  std::vector<Member> all;
  size_t silent = std::string::npos;    // see without_exchange()
  ModelInfo together;
  std::string title;
  std::vector<double> energies, gradients, grades, energy_differences, gradient_differences;
};

}    // namespace mlcalc

#endif
