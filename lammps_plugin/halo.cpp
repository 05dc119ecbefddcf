/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

// How message passing goes on over the borders of ranks: by exchanges between layers, or by a halo of ghosts.

#include "pair_mlcalc.h"

#include "committee.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "utils.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#ifdef __GLIBC__
#include <malloc.h>
#endif

using namespace LAMMPS_NS;

namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;
// Memory is measured on a part of the graph of this many edges: enough to drown what does not grow with them.
constexpr int64_t sample_edges = 20000;
// What the heap takes over what torch holds: pieces freed in between that fit nothing.
constexpr double heap = 1.25;
// A later run whose graph is larger by this is measured again.
constexpr double growth = 1.1;

// Bytes that programs on this computer can still take without swapping; 0 if the system does not say.
double free_memory()
{
  std::ifstream file("/proc/meminfo");
  for (std::string key, rest; file >> key; std::getline(file, rest))
    if (key == "MemAvailable:") return 1024.0 * std::strtod(rest.c_str(), nullptr);
  return 0.0;
}

// Bytes of the heap that are free and that this process keeps, which the system counts as used; see plugin.cpp.
double kept_memory()
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  return static_cast<double>(mallinfo2().fordblks);
#else
  return 0.0;
#endif
}

// How far ghosts shall reach for the pair styles in a halo, which under hybrid can be several. What the user had asked
// for is kept once, for the last of them to give back.
struct Ghosts {
  double users = 0.0, asked = 0.0;    // asked: of LAMMPS, the most of all
  std::map<const Pair *, double> wants;

  double most() const
  {
    double reach = users;
    for (const auto &want : wants) reach = std::max(reach, want.second);
    return reach;
  }
};
std::map<const LAMMPS *, Ghosts> ghosts_of;

}    // namespace

bool PairMlcalc::mode_option(const std::string &key)
{
  if (key == "auto")
    mode = Mode::automatic;
  else if (key == "exchange")
    mode = Mode::exchange;
  else if (key == "halo")
    mode = Mode::halo;
  else
    return false;
  return true;
}

// One rank needs neither: images of an atom share its features. Nor does one layer: it looks no farther than its edges.
void PairMlcalc::settle_mode()
{
  const auto &info = model->info();
  forget_ghosts();
  hops = 1;
  if (comm->nprocs == 1 || info.layers <= 1) return;
  const auto *const silent = model->without_exchange();
  const auto name = [&](const auto &member) { return model->size() > 1 ? member.path : member.model->info().name; };
  if (mode == Mode::exchange && silent && silent->model->info().exchange_width < 0)
    error->all(FLERR,
               "pair mlcalc: the parts of {} exchange different numbers per atom; use 'pair_style mlcalc halo', or "
               "export the part for these elements: mlcalc export POTENTIAL FILE.pt --elements ...",
               name(*silent));
  if (mode == Mode::exchange && silent)
    error->all(FLERR,
               "pair mlcalc: {} has {} layers and does not exchange features between them (operator mlcalc::exchange), "
               "which {} ranks need; use 'pair_style mlcalc halo', or one rank",
               name(*silent), silent->model->info().layers, comm->nprocs);
  if (mode == Mode::exchange || (mode == Mode::automatic && !silent)) return;
  const auto &members = model->members();
  const auto old = std::find_if(members.begin(), members.end(), [](const auto &m) { return !m.model->info().counted; });
  if (old != members.end())
    error->all(FLERR,
               "pair mlcalc: {} was compiled by a version of mlcalc whose files cannot run in a halo; export it again, "
               "or use 'pair_style mlcalc exchange'",
               name(*old));
  hops = info.layers;
  ask_for_ghosts();
}

// LAMMPS takes pairs with a factor of zero off its neighbor lists.
bool PairMlcalc::bonds_hide_pairs() const
{
  if (atom->molecular == Atom::ATOMIC) return false;
  for (int k = 1; k < 4; ++k)
    if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0) return true;
  return false;
}

// Ghosts of all that energies here depend on, at any time until the next neighbour list.
void PairMlcalc::ask_for_ghosts()
{
  if (comm->mode != Comm::SINGLE)
    error->all(FLERR, "pair mlcalc: a halo does not work with 'comm_modify mode multi'; use 'mode single'");
  if (force->pair->ghostneigh)
    error->all(FLERR, "pair mlcalc: a halo does not work beside a pair style that wants neighbors of ghosts for itself");
  if (bonds_hide_pairs())
    error->all(FLERR, "pair mlcalc: special_bonds takes pairs off the neighbor lists of atoms, but not of ghosts; a halo "
                      "needs 'special_bonds lj/coul 1 1 1'");
  auto &ghosts = ghosts_of[lmp];
  if (ghosts.wants.empty() || comm->cutghostuser != ghosts.asked) ghosts.users = comm->cutghostuser;
  ghosts.wants[this] = hops * model->info().cutoff + neighbor->skin;
  comm->cutghostuser = ghosts.asked = ghosts.most();
  memory_known = false;
}

// What the user asked for stands again, unless it has been changed meanwhile.
void PairMlcalc::forget_ghosts()
{
  const auto found = ghosts_of.find(lmp);
  if (found == ghosts_of.end()) return;
  auto &ghosts = found->second;
  if (ghosts.wants.erase(this) && comm && comm->cutghostuser == ghosts.asked)
    comm->cutghostuser = ghosts.asked = ghosts.most();
  if (ghosts.wants.empty()) ghosts_of.erase(found);
}

// LAMMPS keeps the reach in restart files and sets it again before the pair style is there.
void PairMlcalc::ghosts_in_restart(double *asked_and_users) const
{
  const auto found = ghosts_of.find(lmp);
  const bool ours = found != ghosts_of.end() && found->second.wants.count(this);
  asked_and_users[0] = ours ? found->second.asked : 0.0;
  asked_and_users[1] = ours ? found->second.users : 0.0;
}

void PairMlcalc::ghosts_from_restart(const double *asked_and_users)
{
  if (asked_and_users[0] > 0.0 && comm->cutghostuser == asked_and_users[0]) comm->cutghostuser = asked_and_users[1];
}

// Before the first evaluation of a run, unless a run before was as large: what the halo costs, and whether it fits into
// memory.
void PairMlcalc::check_memory()
{
  const auto &nodes = graph.nodes_and_edges();
  const int mine_grew = static_cast<double>(nodes.n_edges) > growth * edges_checked;
  int grew;
  MPI_Allreduce(&mine_grew, &grew, 1, MPI_INT, MPI_MAX, world);
  if (!grew) {
    memory_known = true;
    return;
  }
  std::string problem;
  double bytes = 0.0;
  try {
    mlcalc::Model::Threads scope(threads);
    if (nodes.n_edges > 0) bytes = heap * model->measure_memory(nodes, inputs, sample_edges);
  } catch (const std::exception &exception) {
    problem = std::string("the model failed: ") + exception.what();
  }
  agree(problem);

  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, comm->me, MPI_INFO_NULL, &node);
  double node_bytes = 0.0, available = 0.0, kept = 0.0;
  MPI_Allreduce(&bytes, &node_bytes, 1, MPI_DOUBLE, MPI_SUM, node);
  const double free_here = halo_memory > 0.0 ? halo_memory * gib : free_memory(), kept_here = MIN(bytes, kept_memory());
  MPI_Allreduce(&free_here, &available, 1, MPI_DOUBLE, MPI_MIN, node);
  MPI_Allreduce(&kept_here, &kept, 1, MPI_DOUBLE, MPI_SUM, node);
  MPI_Comm_free(&node);
  if (halo_memory <= 0.0 && available > 0.0) available += kept;

  // the node with the least left, or the most used where that is unknown
  OnRank mine = {available - node_bytes, comm->me}, least;
  MPI_Allreduce(&mine, &least, 1, MPI_DOUBLE_INT, MPI_MINLOC, world);
  double worst[2] = {node_bytes, available}, fullest = 0.0;
  MPI_Bcast(worst, 2, MPI_DOUBLE, least.rank, world);
  MPI_Allreduce(&bytes, &fullest, 1, MPI_DOUBLE, MPI_MAX, world);
  const double counts[3] = {static_cast<double>(nodes.n_nodes - nodes.n_owned), static_cast<double>(nodes.n_edges),
                            static_cast<double>(graph.n_owned_edges())};
  double sums[3];
  MPI_Allreduce(counts, sums, 3, MPI_DOUBLE, MPI_SUM, world);

  const auto *const silent = mode == Mode::automatic && model->size() > 1 ? model->without_exchange() : nullptr;
  const auto text = fmt::format(
      "halo of {:g} Angstrom{}: {:.0f} ghosts for {} atoms on {} ranks, {:.2f} times the edges; the model takes about "
      "{:.3g} GiB on the fullest rank, {:.3g} GiB on a node",
      hops * model->info().cutoff, silent ? fmt::format(" for all members, as {} does not exchange", silent->path) : "",
      sums[0], atom->natoms, comm->nprocs, sums[2] > 0.0 ? sums[1] / sums[2] : 1.0,
      fullest / gib, worst[0] / gib);
  const bool known = worst[1] > 0.0;
  const auto limit = !known ? std::string()
      : halo_memory > 0.0   ? fmt::format(" of {:g} GiB allowed by halo_memory", halo_memory)
                            : fmt::format(" of {:.3g} GiB free", worst[1] / gib);
  if (known && least.value < 0.0)
    error->all(FLERR,
               "pair mlcalc: {}{}: not enough. Use more nodes, or fewer ranks on each, or a model that exchanges features "
               "between its layers; halo_memory GIB sets another limit",
               text, limit);
  if (comm->me == 0) utils::logmesg(lmp, "mlcalc: {}{}\n", text, limit);
  edges_checked = static_cast<double>(nodes.n_edges);
  memory_known = true;
}
