/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef MLCALC_MODEL_H
#define MLCALC_MODEL_H

#include "exchange.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mlcalc {

// What a model file says about itself; Angstrom and eV.
struct ModelInfo {
  std::string name, dtype, torch_version;
  std::string program;    // torchscript or aotinductor
  std::string energy_scale;    // what the energies mean
  std::string command;    // that made the file, if known
  std::vector<std::string> elements, needs, inputs, outputs;
  std::vector<std::vector<std::string>> element_sets;    // empty: any elements may occur together
  double cutoff = 0.0;
  double min_distance = 0.0;    // closest pair in the training data, 0 if unknown
  int layers = 1;
  int64_t exchange_width = 0;    // of the operator mlcalc::exchange; 0: the program does not use it
  bool counted = true;           // the program can tell centres whose energy counts from others
};

// The nodes and edges of one rank. The first n_owned nodes are its own atoms; the first n_centres have edges, and the
// others are ghosts. More centres than owned atoms are a halo, see atom_graph.h.
struct ModelGraph {
  int64_t n_owned = 0, n_centres = 0, n_nodes = 0, n_edges = 0;
  std::vector<int64_t> species;
  std::vector<int64_t> index;    // centres at 0, neighbours at stride
  int64_t stride = 0;
  std::vector<double> vectors;    // neighbour minus centre

  // make room for a number of edges, which need not all be used; the first `kept` stay
  void reserve(int64_t edges, int64_t kept = 0);
};

// Valid until the next evaluation.
struct ModelResult {
  const double *energies = nullptr;     // n_owned
  const double *gradients = nullptr;    // 3 n_edges, derivative of the owned atoms' energy on all ranks
  const double *grades = nullptr;       // n_owned, null if the model has none
};

class Program;
struct Reference;

class Model {
 public:
  // Throws std::runtime_error with a message for the user.
  explicit Model(const std::string &path);
  ~Model();

  const ModelInfo &info() const { return information; }
  bool has_grades() const;
  // Evaluate the reference structure in the file; throws std::runtime_error if the numbers are not those in the file.
  void self_check();
  // `exchanger` may be null: no other ranks. `inputs` are the per-structure inputs the model asks for.
  ModelResult evaluate(const ModelGraph &, Exchanger *exchanger, const std::map<std::string, double> &inputs);
  // Bytes that torch holds at most during an evaluation, from a part of the graph with at most so many edges.
  double measure_memory(const ModelGraph &, const std::map<std::string, double> &inputs, int64_t edges);
  // Let go of the last result.
  void forget();
  // Thread count of libtorch in this process while the object lives.
  class Threads {
   public:
    explicit Threads(int number);
    ~Threads();
    static int now();

   private:
    int before;
  };

 private:
  ModelInfo information;
  std::unique_ptr<Reference> reference;
  std::unique_ptr<Program> program;
};

// The version of libtorch this plugin runs with, "major.minor.patch".
std::string torch_version();

}    // namespace mlcalc

#endif
