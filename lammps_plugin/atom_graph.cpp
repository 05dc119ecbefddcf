/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "atom_graph.h"

#include "atom.h"
#include "comm.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

using namespace LAMMPS_NS;

AtomGraph::AtomGraph(LAMMPS *lmp) : Pointers(lmp) {}

// All images of an atom share one node: that of the owned atom if it lives here, else that of its first ghost.
void AtomGraph::map_atoms(NeighList *list, const std::vector<int> &species_of_type)
{
  n_local = atom->nlocal;
  n_ghost = atom->nghost;
  const int nall = n_local + n_ghost;
  std::unordered_map<tagint, int> first;
  first.reserve(nall);
  representative.resize(nall);
  for (int i = 0; i < nall; ++i) representative[i] = first.try_emplace(atom->tag[i], i).first->second;

  node_of.assign(nall, -1);
  atoms.clear();
  for (int ii = 0; ii < list->inum; ++ii) {
    const int i = list->ilist[ii];
    if (species_of_type[atom->type[i]] < 0) continue;
    node_of[i] = static_cast<int64_t>(atoms.size());
    atoms.push_back(i);
  }
  graph.n_owned = static_cast<int64_t>(atoms.size());
  mapped_at = neighbor->lastcall;
}

void AtomGraph::update(NeighList *list, const std::vector<int> &species_of_type, double cutoff, int hops)
{
  if (neighbor->ago == 0 || mapped_at != neighbor->lastcall || n_local != atom->nlocal || n_ghost != atom->nghost)
    map_atoms(list, species_of_type);
  double *const *const x = atom->x;
  const int *const type = atom->type;
  const double cutoff_squared = cutoff * cutoff;

  // forget the foreign nodes of the last step
  for (size_t n = graph.n_owned; n < atoms.size(); ++n) node_of[representative[atoms[n]]] = -1;
  atoms.resize(graph.n_owned);
  closest = std::numeric_limits<double>::infinity();
  closest_i = closest_j = 0;
  int64_t edges = 0, node = 0;
  for (int hop = 0; hop < hops; ++hop) {
    const auto end = static_cast<int64_t>(atoms.size());
    int64_t most = edges;
    for (int64_t n = node; n < end; ++n) most += list->numneigh[atoms[n]];
    graph.reserve(most, edges);
    if (static_cast<int64_t>(neighbours.size()) < graph.stride) neighbours.resize(graph.stride);
    int64_t *const from = graph.index.data(), *const to = from + graph.stride;
    double *vector = graph.vectors.data() + 3 * edges;
    for (; node < end; ++node) {
      const int i = atoms[node];
      const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
      const int *const neighbour_list = list->firstneigh[i];
      for (int jj = 0; jj < list->numneigh[i]; ++jj) {
        const int j = neighbour_list[jj] & NEIGHMASK;
        const double dx = x[j][0] - xi, dy = x[j][1] - yi, dz = x[j][2] - zi;
        const double r_squared = dx * dx + dy * dy + dz * dz;
        if (r_squared >= cutoff_squared || species_of_type[type[j]] < 0) continue;
        if (r_squared < closest) {
          closest = r_squared;
          closest_i = i;
          closest_j = j;
        }
        const int k = representative[j];
        if (node_of[k] < 0) {
          node_of[k] = static_cast<int64_t>(atoms.size());
          atoms.push_back(j);
        }
        from[edges] = node;
        to[edges] = node_of[k];
        neighbours[edges] = j;
        vector[0] = dx;
        vector[1] = dy;
        vector[2] = dz;
        vector += 3;
        ++edges;
      }
    }
    if (hop == 0) owned_edges = edges;
  }
  closest = std::sqrt(closest);
  graph.n_edges = edges;
  graph.n_centres = node;
  graph.n_nodes = static_cast<int64_t>(atoms.size());
  graph.species.resize(graph.n_nodes);
  for (int64_t n = 0; n < graph.n_nodes; ++n) graph.species[n] = species_of_type[type[atoms[n]]];
  if (graph.n_nodes == 0) {
    // A rank without atoms still takes part in every exchange. Give the model a foreign node of the right kind, so that
    // it goes the way it goes on the other ranks.
    graph.n_nodes = 1;
    graph.species.assign(1, *std::max_element(species_of_type.begin(), species_of_type.end()));
  }
}

// Ghosts pass on what they receive (corners travel through faces), so every ghost has a row in transit, not only the
// foreign nodes.
void AtomGraph::forward(Pair *pair, double *rows, int row_width)
{
  node_rows = rows;
  width = row_width;
  ghost_rows.assign(static_cast<size_t>(n_ghost) * width, 0.0);
  comm->forward_comm(pair, width);
  for (int64_t n = graph.n_owned; n < static_cast<int64_t>(atoms.size()); ++n)
    std::copy_n(ghost_row(atoms[n]), width, rows + n * width);
}

void AtomGraph::reverse(Pair *pair, double *rows, int row_width)
{
  node_rows = rows;
  width = row_width;
  ghost_rows.assign(static_cast<size_t>(n_ghost) * width, 0.0);
  for (int64_t n = graph.n_owned; n < static_cast<int64_t>(atoms.size()); ++n)
    std::copy_n(rows + n * width, width, ghost_row(atoms[n]));
  comm->reverse_comm(pair, width);
}

int AtomGraph::pack_forward(int n, const int *indices, double *buffer) const
{
  double *to = buffer;
  for (int k = 0; k < n; ++k, to += width) {
    const int i = indices[k];
    if (i >= n_local)
      std::copy_n(ghost_row(i), width, to);
    else if (node_of[i] >= 0)
      std::copy_n(node_rows + node_of[i] * width, width, to);
    else
      std::fill_n(to, width, 0.0);
  }
  return n * width;
}

void AtomGraph::unpack_forward(int n, int first, const double *buffer)
{
  std::copy_n(buffer, static_cast<size_t>(n) * width,
              ghost_rows.data() + static_cast<size_t>(first - n_local) * width);
}

int AtomGraph::pack_reverse(int n, int first, double *buffer) const
{
  std::copy_n(ghost_rows.data() + static_cast<size_t>(first - n_local) * width, static_cast<size_t>(n) * width, buffer);
  return n * width;
}

void AtomGraph::unpack_reverse(int n, const int *indices, const double *buffer)
{
  const double *from = buffer;
  for (int k = 0; k < n; ++k, from += width) {
    const int i = indices[k];
    double *to;
    if (i >= n_local)
      to = ghost_row(i);
    else if (node_of[i] >= 0)
      to = node_rows + node_of[i] * width;
    else
      continue;
    for (int a = 0; a < width; ++a) to[a] += from[a];
  }
}

double AtomGraph::memory_usage() const
{
  return static_cast<double>(graph.vectors.capacity() + ghost_rows.capacity()) * sizeof(double) +
      static_cast<double>(graph.index.capacity() + node_of.capacity()) * sizeof(int64_t) +
      static_cast<double>(neighbours.capacity() + representative.capacity()) * sizeof(int);
}
