/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef LMP_MLCALC_CORES_H
#define LMP_MLCALC_CORES_H

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#ifdef __linux__
#include <sched.h>
#endif

namespace mlcalc {

// The first processor of the core that holds this one, itself where the system does not say.
inline int first_on_core(int processor)
{
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(processor) + "/topology/thread_siblings_list");
  int first;
  return file >> first ? first : processor;
}

// Cores that each rank of this computer can have to itself, at least 1: those that its ranks are allowed to run on (which
// batch systems and mpirun can restrict), by their number. Collective.
inline int cores_per_rank(MPI_Comm world)
{
  constexpr int word = 8 * sizeof(unsigned long);
  std::array<unsigned long, 256> mine{}, all{};
#ifdef __linux__
  if (sched_getaffinity(0, sizeof(mine), reinterpret_cast<cpu_set_t *>(mine.data())) != 0) mine.fill(0);
#endif
  int me, ranks, cores = 0;
  MPI_Comm node;
  MPI_Comm_rank(world, &me);
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, me, MPI_INFO_NULL, &node);
  MPI_Comm_size(node, &ranks);
  MPI_Allreduce(mine.data(), all.data(), static_cast<int>(all.size()), MPI_UNSIGNED_LONG, MPI_BOR, node);
  std::array<unsigned long, 256> counted{};    // a core with several hardware threads counts once
  for (int p = 0; p < static_cast<int>(all.size()) * word; ++p) {
    if (!(all[p / word] >> (p % word) & 1UL)) continue;
    const int first = first_on_core(p) % (static_cast<int>(all.size()) * word);
    const unsigned long bit = 1UL << (first % word);
    if (counted[first / word] & bit) continue;
    counted[first / word] |= bit;
    ++cores;
  }
  if (cores == 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  // the same on all ranks of the node, whatever each could read
  MPI_Allreduce(MPI_IN_PLACE, &cores, 1, MPI_INT, MPI_MIN, node);
  MPI_Comm_free(&node);
  return std::max(1, cores / ranks);
}

}    // namespace mlcalc

#endif
