/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

// How far the model can be trusted: extrapolation grades, deviations between the members of a committee.

#include "pair_mlcalc.h"

#include "committee.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "memory.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace LAMMPS_NS;

// Room for one number per atom, all zero.
void PairMlcalc::reserve(PerAtom &numbers)
{
  if (!numbers.values || atom->nmax > numbers.size) {
    memory->destroy(numbers.values);
    numbers.size = atom->nmax;
    memory->create(numbers.values, numbers.size, "pair:per_atom");
  }
  std::fill_n(numbers.values, numbers.size, 0.0);
}

// The largest value of all ranks, that of atom i on the rank that has it, against two thresholds: one warning in a run,
// or its end. Texts take the atom's ID, the value, the unit of forces, the step and the threshold.
void PairMlcalc::judge(const OnRank &most, int i, double warn_above, double stop_above, bool &warn_once,
                       const char *warning, const char *end)
{
  const bool stops = most.value > stop_above;
  if (!stops && !(warn_once && most.value > warn_above)) return;
  tagint tag = comm->me == most.rank ? atom->tag[i] : 0;
  MPI_Bcast(&tag, 1, MPI_LMP_TAGINT, most.rank, world);
  const char *const unit = strcmp(update->unit_style, "real") == 0 ? "kcal/mol/Angstrom" : "eV/Angstrom";
  if (stops) error->all(FLERR, end, tag, most.value, unit, update->ntimestep, stop_above);
  warn_once = false;
  if (comm->me == 0) error->warning(FLERR, warning, tag, most.value, unit, update->ntimestep, warn_above);
}

// Nothing is known of this step.
void PairMlcalc::begin_trust()
{
  if (model->has_grades()) reserve(grades);
  if (model->size() < 2) return;
  force_excess.assign(static_cast<size_t>(graph.n_images()) * 3 * model->size(), 0.0);
  energy_excess.assign(model->size(), 0.0);
}

// Keep, of the graph just evaluated, the grades of its atoms and members' energies and forces minus their means; forces
// are gathered at one image of each atom.
void PairMlcalc::add_trust(const double *grades_of_nodes)
{
  if (model->has_grades())
    for (int64_t n = 0; n < graph.n_owned(); ++n) grades.values[graph.atom_of_node(n)] = grades_of_nodes[n];
  const int width = 3 * model->size();
  if (model->size() < 2) return;
  for (int m = 0; m < model->size(); ++m) energy_excess[m] += model->energy_excess()[m];
  const double *excess = model->gradient_excess().data();
  for (int64_t e = 0; e < graph.n_edges(); ++e, excess += width) {
    double *const centre = &force_excess[static_cast<size_t>(graph.home(graph.centre(e))) * width];
    double *const neighbour = &force_excess[static_cast<size_t>(graph.home(graph.neighbour(e))) * width];
    for (int a = 0; a < width; ++a) {
      centre[a] += excess[a];
      neighbour[a] -= excess[a];
    }
  }
}

// Warn of grades once in a run, stop where the user wants it; also on ranks without atoms.
void PairMlcalc::check_grades()
{
  OnRank mine = {0.0, comm->me}, most;
  int where = 0;
  for (int i = 0; i < atom->nlocal; ++i)
    if (grades.values[i] > mine.value) {
      mine.value = grades.values[i];
      where = i;
    }
  MPI_Allreduce(&mine, &most, 1, MPI_DOUBLE_INT, MPI_MAXLOC, world);
  summary[LARGEST_GRADE] = comm->me == 0 ? most.value : 0.0;    // compute pair adds up the ranks
  judge(most, where, grade_warn, grade_stop, warn_grade,
        "pair mlcalc: atom ID {0} has extrapolation grade {1:.3f} at step {3}, above grade_warn {4:g} (1 is the farthest in "
        "training): energies and forces are extrapolations (one warning per run)",
        "pair mlcalc: atom ID {0} has extrapolation grade {1:.3f} at step {3}, above grade_stop {4:g}");
}

// The same for the standard deviation of the force on each atom over the members; what they differ by at images of other
// ranks' atoms goes to them.
void PairMlcalc::check_deviation()
{
  const int members = model->size(), width = 3 * members;
  if (members < 2) return;
  if (comm->nprocs > 1) graph.reverse_images(this, force_excess.data(), width);

  reserve(deviations);
  OnRank mine = {0.0, comm->me}, most;
  double least = std::numeric_limits<double>::infinity();
  std::vector<double> sums(2, 0.0);    // deviations, atoms, energies of the members minus the mean
  sums.insert(sums.end(), energy_excess.begin(), energy_excess.end());
  int where = 0;
  for (int64_t n = 0; n < graph.n_atoms(); ++n) {
    const int i = graph.owned_atom(n);
    const double *const excess = &force_excess[static_cast<size_t>(i) * width];
    double square = 0.0;
    for (int a = 0; a < width; ++a) square += excess[a] * excess[a];
    const double deviation = deviations.values[i] = energy_scale * std::sqrt(square / members);
    sums[0] += deviation;
    sums[1] += 1.0;
    least = std::min(least, deviation);
    if (deviation > mine.value) {
      mine.value = deviation;
      where = i;
    }
  }
  MPI_Allreduce(&mine, &most, 1, MPI_DOUBLE_INT, MPI_MAXLOC, world);
  MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_DOUBLE, MPI_MIN, world);
  MPI_Allreduce(MPI_IN_PLACE, sums.data(), static_cast<int>(sums.size()), MPI_DOUBLE, MPI_SUM, world);
  if (comm->me == 0 && sums[1] > 0.0) {
    double square = 0.0;
    for (int m = 0; m < members; ++m) square += sums[2 + m] * sums[2 + m];
    summary[LARGEST_DEVIATION] = most.value;
    summary[SMALLEST_DEVIATION] = least;
    summary[MEAN_DEVIATION] = sums[0] / sums[1];
    summary[ENERGY_DEVIATION] = energy_scale * std::sqrt(square / members);
  }

  judge(most, where, deviation_warn, deviation_stop, warn_deviation,
        "pair mlcalc: atom ID {0} has force deviation {1:.4f} {2} at step {3}, above deviation_warn {4:g}: the members of the "
        "committee disagree (one warning per run)",
        "pair mlcalc: atom ID {0} has force deviation {1:.4f} {2} at step {3}, above deviation_stop {4:g}");
}

// For `fix pair N mlcalc grade 1 force_deviation 1`, which also asks for "grade_flag" and "force_deviation_flag".
void *PairMlcalc::extract(const char *name, int &dim)
{
  dim = 0;
  if (strcmp(name, "grade_flag") == 0) return &grades.flag;
  return strcmp(name, "force_deviation_flag") == 0 ? &deviations.flag : nullptr;
}

void *PairMlcalc::extract_peratom(const char *name, int &columns)
{
  columns = 0;
  PerAtom *const found = strcmp(name, "grade") == 0 ? &grades
      : strcmp(name, "force_deviation") == 0        ? &deviations
                                                    : nullptr;
  if (!found) return nullptr;
  if (model && found == &grades && !model->has_grades())
    error->all(FLERR, "pair mlcalc: {} has no extrapolation grades; make a file that has: mlcalc grade",
               model->info().name);
  if (model && found == &deviations && model->size() < 2)
    error->all(FLERR, "pair mlcalc: force_deviation needs several model files: pair_coeff * * A.pt B.pt ...");
  if (!found->values || atom->nmax > found->size) reserve(*found);
  return found->values;
}
