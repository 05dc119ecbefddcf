/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef LMP_PAIR_MLCALC_H
#define LMP_PAIR_MLCALC_H

#include "exchange.h"
#include "pair.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mlcalc {
class Model;
struct ModelGraph;
}    // namespace mlcalc

namespace LAMMPS_NS {

class PairMlcalc : public Pair, private mlcalc::Exchanger {
 public:
  PairMlcalc(class LAMMPS *);
  ~PairMlcalc() override;

  void compute(int, int) override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void finish() override;
  void write_restart(FILE *) override;
  void read_restart(FILE *) override;
  void write_restart_settings(FILE *) override;
  void read_restart_settings(FILE *) override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  double memory_usage() override;

 private:
  // the model's side of communication, see exchange.h
  int64_t owned() const override;
  int64_t width_limit() const override;
  void forward(double *, int64_t) override;
  void reverse(double *, int64_t) override;

  void allocate();
  void agree(const std::string &problem);
  void load(const std::string &path);
  void map_types(int narg, char **arg);
  void map_atoms();
  void build_edges();
  void check_distance(double distance, int i, int j);
  void tally(const double *energies, const double *gradients);
  [[noreturn]] void not_finite(const double *energies, const double *gradients);

  std::unique_ptr<mlcalc::Model> model;
  std::unique_ptr<mlcalc::ModelGraph> graph;
  std::vector<int> species_of_type;            // index into the model's elements, -1 for NULL
  std::map<std::string, double> inputs;        // per-structure inputs
  double energy_scale = 1.0;                   // LAMMPS energy units per eV
  bool warn_close = false;                     // until a run has been warned of extrapolation

  // LAMMPS atoms and the model's nodes
  std::vector<int> representative;     // of all images of an atom: the owned one, or the first ghost
  std::vector<int64_t> node_of;        // node of a representative, -1 if it has none
  std::vector<int> atom_of_node;       // back
  std::vector<int> neighbour_atom;     // LAMMPS atom at the end of each edge
  bigint mapped_at = -1;               // step of the neighbour list the map belongs to
  int mapped_local = -1, mapped_ghost = -1;

  // rows in transit, see forward() and reverse()
  double *node_rows = nullptr;
  std::vector<double> ghost_rows;
  int row_width = 0;

  bool timing = false;
  bigint timed_steps = 0;
  double edge_time = 0.0, model_time = 0.0, exchange_time = 0.0, tally_time = 0.0;
};

}    // namespace LAMMPS_NS

#endif
