/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef LMP_PAIR_MLCALC_H
#define LMP_PAIR_MLCALC_H

#include "atom_graph.h"
#include "exchange.h"
#include "pair.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mlcalc {
class Committee;
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
  void *extract(const char *, int &) override;
  void *extract_peratom(const char *, int &) override;
  double memory_usage() override;

 private:
  // what fix pair asks for, see extract_peratom()
  struct PerAtom {
    double *values = nullptr;
    int size = 0, flag = 0;
  };
  // what compute pair shows, on the first rank; it adds up the ranks
  enum { LARGEST_GRADE, LARGEST_DEVIATION, SMALLEST_DEVIATION, MEAN_DEVIATION, ENERGY_DEVIATION, N_SUMMARY };

  // A value and the rank that has it, as MPI wants them for the largest and the smallest.
  struct OnRank {
    double value;
    int rank;
  };

  // the model's side of communication, see exchange.h
  int64_t owned() const override;
  int64_t width_limit() const override;
  void forward(double *, int64_t) override;
  void reverse(double *, int64_t) override;

  // between ranks, see halo.cpp
  enum class Mode { automatic, exchange, halo };
  bool mode_option(const std::string &key);
  void settle_mode();
  bool bonds_hide_pairs() const;
  void ask_for_ghosts();
  void forget_ghosts();
  void ghosts_in_restart(double *asked_and_users) const;
  void ghosts_from_restart(const double *asked_and_users);
  void check_memory();
  Mode mode = Mode::automatic;
  int hops = 1;                   // of the graph: 1, or in a halo the layers of the model
  double halo_memory = 0.0;       // GiB that the ranks of a node may use; 0: what is free
  bool memory_known = false;      // checked in this run
  double edges_checked = 0.0;     // on this rank, when memory was last measured

  void allocate();
  void settle_threads();
  void agree(const std::string &problem);
  void same_file_everywhere(const std::string &path);
  std::unique_ptr<mlcalc::Committee> load(const std::vector<std::string> &paths);
  void check_options(const mlcalc::Committee &);
  std::vector<int> map_types(const mlcalc::Committee &, const std::vector<std::string> &elements);
  int64_t blocks() const;
  void check_overlap();
  void check_distance();
  void reserve(PerAtom &);
  void begin_trust();
  void add_trust(const double *grades_of_nodes);
  void check_grades();
  void check_deviation();
  void judge(const OnRank &most, int i, double warn_above, double stop_above, bool &warn_once, const char *warning,
             const char *end);
  void tally(const double *energies, const double *gradients);
  [[noreturn]] void stop(const std::string &message);
  [[noreturn]] void not_finite(const double *energies, const double *gradients);

  std::unique_ptr<mlcalc::Committee> model;    // of one or several
  AtomGraph graph;
  std::vector<int> species_of_type;            // index into the model's elements, -1 for NULL
  std::map<std::string, double> inputs;        // per-structure inputs
  double energy_scale = 1.0;                   // LAMMPS energy units per eV
  int threads = 1;                             // of torch on this rank
  int threads_said = 0;                        // in the output of LAMMPS
  bool warn_close = false;                     // until a run has been warned of close atoms
  int block = 0;                               // most atoms in one evaluation of a model that can be taken apart; 0: all

  // extrapolation grades; thresholds are infinite where there is none
  double grade_warn, grade_stop;
  bool asked_for_grades = false;    // by a threshold of the user's
  bool warn_grade = false;    // until a run has been warned of a grade
  PerAtom grades;

  // standard deviations of forces over the models, in LAMMPS units
  double deviation_warn, deviation_stop;
  bool warn_deviation = false;    // as warn_grade
  PerAtom deviations;
  std::vector<double> force_excess;    // (images of atoms, models, 3) forces minus their mean
  std::vector<double> energy_excess;    // (models) energies minus their mean
  double summary[N_SUMMARY] = {};

  bool timing = false;
  bigint timed_steps = 0;
  double edge_time = 0.0, model_time = 0.0, exchange_time = 0.0, tally_time = 0.0;
};

}    // namespace LAMMPS_NS

#endif
