/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "pair_mlcalc.h"

#include "committee.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "platform.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>

using namespace LAMMPS_NS;

namespace {

// Nuclei are never this close (Angstrom); the repulsion of a potential is meaningless there.
constexpr double overlap_distance = 0.1;
// Below this fraction of the closest pair in the training data a network extrapolates.
constexpr double close_fraction = 0.8;

std::string name_pair(tagint a, tagint b)
{
  return a == b ? fmt::format("atom ID {} and its own image", a)
                : fmt::format("atom IDs {} and {}", std::min(a, b), std::max(a, b));
}

}    // namespace

PairMlcalc::PairMlcalc(LAMMPS *lmp) : Pair(lmp), graph(lmp)
{
  PairMlcalc::settings(0, nullptr);
  // pair_style hybrid reads these flags right after construction
  single_enable = 0;
  restartinfo = 1;
  one_coeff = 1;
  manybody_flag = 1;
  unit_convert_flag = utils::get_supported_conversions(utils::ENERGY);
  no_virial_fdotr_compute = 1;    // the virial comes from edges
  centroidstressflag = CENTROID_AVAIL;
  nextra = N_SUMMARY;
  pvector = summary;
}

PairMlcalc::~PairMlcalc()
{
  forget_ghosts();
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
  memory->destroy(grades.values);
  memory->destroy(deviations.values);
  pvector = nullptr;    // not ours to free
}

void PairMlcalc::allocate()
{
  allocated = 1;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  map = new int[n];
}

void PairMlcalc::init_style()
{
  if (!model) error->all(FLERR, "pair mlcalc: give pair_coeff again after read_restart");
  check_options(*model);    // pair_style may have come again since pair_coeff
  if (!atom->tag_enable) error->all(FLERR, "pair style mlcalc needs atom IDs (atom_modify id yes)");
  if (!force->newton_pair) error->all(FLERR, "pair style mlcalc needs newton pair on (command 'newton on')");
  if (strcmp(update->unit_style, "metal") == 0)
    energy_scale = 1.0;
  else if (strcmp(update->unit_style, "real") == 0)
    energy_scale = utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);
  else
    error->all(FLERR, "pair style mlcalc works with units metal and real, not {}", update->unit_style);
  settle_threads();
  if (threads != threads_said) {
    mlcalc::Model::Threads scope(threads);
    threads_said = threads;
    if (comm->me == 0)
      utils::logmesg(lmp, "mlcalc: threads of torch on each rank: {}\n", mlcalc::Model::Threads::now());
  }
  settle_mode();
  if (bonds_hide_pairs() && comm->me == 0)
    error->warning(FLERR, "pair style mlcalc does not see pairs that special_bonds takes off the neighbor list; use "
                          "'special_bonds lj/coul 1 1 1' if its atoms have bonds");
  neighbor->add_request(this, hops > 1 ? NeighConst::REQ_FULL | NeighConst::REQ_GHOST : NeighConst::REQ_FULL);
  // Buffers are sized by the top pair style, which may be hybrid; comm_style tiled takes the reverse size from here
  // whatever reverse_comm() is told.
  const int width = hops > 1 ? 0 : MAX(0, static_cast<int>(model->info().exchange_width));
  comm_forward = width;
  comm_reverse = model->size() > 1 ? MAX(width, 3 * model->size()) : width;    // forces of the members
  force->pair->comm_forward = MAX(force->pair->comm_forward, comm_forward);
  force->pair->comm_reverse = MAX(force->pair->comm_reverse, comm_reverse);
  graph.forget();
  timed_steps = 0;
  edge_time = model_time = exchange_time = tally_time = 0.0;
  warn_close = model->info().min_distance > 0.0;
  warn_grade = model->has_grades() && std::isfinite(grade_warn);
  warn_deviation = std::isfinite(deviation_warn);
}

double PairMlcalc::init_one(int i, int j)
{
  if (setflag[i][j] == 0) error->all(FLERR, "All pair coeffs are not set");
  return model->info().cutoff;
}

/* ---------------------------------------------------------------------- one step */

// A model that looks no farther than its edges can take atoms a block at a time, so that what it needs beside them is
// bounded. Blocks are of equal size, since each call has its price.
int64_t PairMlcalc::blocks() const
{
  return block > 0 && model->separable() ? MAX(1, (graph.n_atoms() + block - 1) / block) : 1;
}

// This rank's closest pair must not overlap.
void PairMlcalc::check_overlap()
{
  if (graph.closest < overlap_distance)
    stop(fmt::format("{} are on top of each other ({:.4f} Angstrom) at step {}: remove duplicates (also across a "
                     "periodic boundary), or check the units of the positions and the time step",
                     name_pair(atom->tag[graph.closest_i], atom->tag[graph.closest_j]), graph.closest,
                     update->ntimestep));
}

// The first step of a run at which the closest pair of all ranks is closer than the potential knows gets a warning.
void PairMlcalc::check_distance()
{
  if (!warn_close) return;
  const double known = model->info().min_distance;
  OnRank mine = {graph.closest, comm->me}, least;
  MPI_Allreduce(&mine, &least, 1, MPI_DOUBLE_INT, MPI_MINLOC, world);
  if (least.value >= close_fraction * known) return;
  warn_close = false;
  tagint tags[2] = {0, 0};
  if (comm->me == least.rank) {
    tags[0] = atom->tag[graph.closest_i];
    tags[1] = atom->tag[graph.closest_j];
  }
  MPI_Bcast(tags, 2, MPI_LMP_TAGINT, least.rank, world);
  if (comm->me == 0)
    error->warning(FLERR,
                   "pair mlcalc: {} are {:.4f} Angstrom apart at step {}, the closest pair in training {:.4f}: energies "
                   "and forces are extrapolations (one warning per run)",
                   name_pair(tags[0], tags[1]), least.value, update->ntimestep, known);
}

void PairMlcalc::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  double now = platform::walltime();
  const auto lap = [&now] {
    const double before = now;
    return (now = platform::walltime()) - before;
  };
  graph.update(list, species_of_type, model->info().cutoff, hops);
  begin_trust();
  auto *const exchanger = comm->nprocs > 1 && hops == 1 && !model->separable() ? this : nullptr;
  const int64_t n_blocks = blocks(), n_atoms = graph.n_atoms();
  for (int64_t b = 0; b < n_blocks; ++b) {
    graph.take(n_atoms * b / n_blocks, n_atoms * (b + 1) / n_blocks);
    check_overlap();
    if (b == n_blocks - 1) check_distance();    // all ranks, and as early as the closest pair is known
    edge_time += lap();
    if (hops > 1 && !memory_known) {
      check_memory();
      lap();
    }

    mlcalc::ModelResult result;
    std::string problem;
    try {
      mlcalc::Model::Threads scope(threads);
      result = model->evaluate(graph.nodes_and_edges(), exchanger, inputs);
    } catch (const std::exception &exception) {
      problem = exception.what();
    }
    if (!problem.empty()) stop("the model failed: " + problem);
    model_time += lap();

    tally(result.energies, result.gradients);
    add_trust(result.grades);
    tally_time += lap();
  }
  if (model->has_grades()) check_grades();
  check_deviation();
  tally_time += lap();
  ++timed_steps;
}

// With r the vector of an edge and g the derivative of the energy with respect to it: the centre feels g, the neighbour
// -g, and -r (x) g is the edge's virial, half of which goes to either atom.
void PairMlcalc::tally(const double *energies, const double *gradients)
{
  double *const *const f = atom->f;
  double total = 0.0;
  for (int64_t n = 0; n < graph.n_owned(); ++n) total += energies[n];
  if (eflag_global) eng_vdwl += energy_scale * total;
  if (eflag_atom)
    for (int64_t n = 0; n < graph.n_owned(); ++n) eatom[graph.atom_of_node(n)] += energy_scale * energies[n];

  double w[3][3] = {};
  double check = total;
  for (int64_t e = 0; e < graph.n_edges(); ++e) {
    const int i = graph.centre(e), j = graph.neighbour(e);
    const double *const r = graph.vector(e);
    double g[3];
    for (int a = 0; a < 3; ++a) {
      g[a] = energy_scale * gradients[3 * e + a];
      f[i][a] += g[a];
      f[j][a] -= g[a];
      check += g[a];
    }
    if (!vflag_either) continue;
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) w[a][b] -= r[a] * g[b];
    if (vflag_atom) {
      const double v[6] = {-0.5 * r[0] * g[0], -0.5 * r[1] * g[1], -0.5 * r[2] * g[2],
                           -0.25 * (r[0] * g[1] + r[1] * g[0]), -0.25 * (r[0] * g[2] + r[2] * g[0]),
                           -0.25 * (r[1] * g[2] + r[2] * g[1])};
      for (int k = 0; k < 6; ++k) {
        vatom[i][k] += v[k];
        vatom[j][k] += v[k];
      }
    }
    if (cvflag_atom) {
      // xx yy zz xy xz yz yx zx zy
      const double v[9] = {r[0] * g[0], r[1] * g[1], r[2] * g[2], r[0] * g[1], r[0] * g[2],
                           r[1] * g[2], r[1] * g[0], r[2] * g[0], r[2] * g[1]};
      for (int k = 0; k < 9; ++k) {
        cvatom[i][k] -= 0.5 * v[k];
        cvatom[j][k] -= 0.5 * v[k];
      }
    }
  }
  if (!std::isfinite(check)) not_finite(energies, gradients);
  if (vflag_global) {
    for (int a = 0; a < 3; ++a) virial[a] += w[a][a];
    virial[3] += 0.5 * (w[0][1] + w[1][0]);
    virial[4] += 0.5 * (w[0][2] + w[2][0]);
    virial[5] += 0.5 * (w[1][2] + w[2][1]);
  }
}

// End the run from this rank alone. LAMMPS' own message can get lost when the other ranks are killed at once.
void PairMlcalc::stop(const std::string &message)
{
  if (comm->nprocs > 1) {
    std::fprintf(stderr, "ERROR on proc %d: pair mlcalc: %s\n", comm->me, message.c_str());
    std::fflush(stderr);
    platform::usleep(100000);
  }
  error->one(FLERR, "pair mlcalc: " + message);
}

void PairMlcalc::not_finite(const double *energies, const double *gradients)
{
  for (int64_t n = 0; n < graph.n_owned(); ++n)
    if (!std::isfinite(energies[n]))
      stop(fmt::format("the energy of atom ID {} is {} at step {}; is it too close to another atom?",
                       atom->tag[graph.atom_of_node(n)], energies[n], update->ntimestep));
  for (int64_t e = 0; e < graph.n_edges(); ++e)
    for (int a = 0; a < 3; ++a)
      if (!std::isfinite(gradients[3 * e + a]))
        stop(fmt::format("the force between atom IDs {} and {} is {} at step {}", atom->tag[graph.centre(e)],
                         atom->tag[graph.neighbour(e)], gradients[3 * e + a], update->ntimestep));
  stop(fmt::format("energies or forces overflow at step {}", update->ntimestep));
}

/* ---------------------------------------------------------------------- features between ranks */

int64_t PairMlcalc::owned() const
{
  return graph.n_owned();
}

int64_t PairMlcalc::width_limit() const
{
  return model->info().exchange_width;
}

void PairMlcalc::forward(double *rows, int64_t width)
{
  const double start = platform::walltime();
  graph.forward(this, rows, static_cast<int>(width));
  exchange_time += platform::walltime() - start;
}

void PairMlcalc::reverse(double *rows, int64_t width)
{
  const double start = platform::walltime();
  graph.reverse(this, rows, static_cast<int>(width));
  exchange_time += platform::walltime() - start;
}

int PairMlcalc::pack_forward_comm(int n, int *indices, double *buffer, int, int *)
{
  return graph.pack_forward(n, indices, buffer);
}

void PairMlcalc::unpack_forward_comm(int n, int first, double *buffer)
{
  graph.unpack_forward(n, first, buffer);
}

int PairMlcalc::pack_reverse_comm(int n, int first, double *buffer)
{
  return graph.pack_reverse(n, first, buffer);
}

void PairMlcalc::unpack_reverse_comm(int n, int *indices, double *buffer)
{
  graph.unpack_reverse(n, indices, buffer);
}

/* ---------------------------------------------------------------------- reports */

void PairMlcalc::finish()
{
  if (!timing || timed_steps == 0) return;
  const double mine[4] = {edge_time, model_time - exchange_time, exchange_time, tally_time};
  double mean[4];
  MPI_Allreduce(mine, mean, 4, MPI_DOUBLE, MPI_SUM, world);
  const double scale = 1e3 / (static_cast<double>(comm->nprocs) * static_cast<double>(timed_steps));
  const auto atoms = static_cast<double>(MAX(atom->natoms, 1));
  double total = 0.0;
  for (double &value : mean) total += (value *= scale);
  utils::logmesg(lmp,
                 "mlcalc timing over {} force calls on {} ranks, ms per call (rank mean): edges {:.4f}, model {:.4f}, "
                 "exchange {:.4f}, tally {:.4f}; total {:.6f} ms per atom and call\n",
                 timed_steps, comm->nprocs, mean[0], mean[1], mean[2], mean[3], total / atoms);
}

double PairMlcalc::memory_usage()
{
  return Pair::memory_usage() + graph.memory_usage() + (model ? model->memory_usage() : 0.0) +
      (static_cast<double>(grades.size + deviations.size) + static_cast<double>(force_excess.capacity())) * sizeof(double);
}

// What plugin.cpp looks for in this library.
extern "C" LAMMPS_NS::Pair *mlcalc_create_pair(LAMMPS_NS::LAMMPS *lmp)
{
  return new LAMMPS_NS::PairMlcalc(lmp);
}
