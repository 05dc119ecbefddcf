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
void AtomGraph::map_atoms(NeighList *list, double reach)
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
  owned.clear();
  for (int ii = 0; ii < list->inum; ++ii)
    if (species_of_type[atom->type[list->ilist[ii]]] >= 0) owned.push_back(list->ilist[ii]);

  // Beside a pair style of longer range most of the list is out of reach.
  const double *const *const x = atom->x;
  const int *const type = atom->type;
  const double reach_squared = reach * reach;
  const int rows = list->inum + (hops > 1 ? list->gnum : 0);
  candidates.clear();
  starts.assign(nall, 0);
  ends.assign(nall, 0);
  for (int ii = 0; ii < rows; ++ii) {
    const int i = list->ilist[ii];
    starts[i] = ends[i] = static_cast<int64_t>(candidates.size());
    if (species_of_type[type[i]] < 0) continue;
    const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
    for (int jj = 0; jj < list->numneigh[i]; ++jj) {
      const int j = list->firstneigh[i][jj] & NEIGHMASK;
      const double dx = x[j][0] - xi, dy = x[j][1] - yi, dz = x[j][2] - zi;
      if (dx * dx + dy * dy + dz * dz < reach_squared && species_of_type[type[j]] >= 0) candidates.push_back(j);
    }
    ends[i] = static_cast<int64_t>(candidates.size());
  }
  mapped = neighbor->ncalls;
}

void AtomGraph::update(NeighList *list, const std::vector<int> &species, double cutoff_, int hops_)
{
  if (mapped != neighbor->ncalls || n_local != atom->nlocal || n_ghost != atom->nghost) {
    species_of_type = species;
    cutoff = cutoff_;
    hops = hops_;
    // Where atoms have moved since the list was made, nobody knows how far.
    map_atoms(list, neighbor->ago == 0 ? cutoff + neighbor->skin : std::numeric_limits<double>::infinity());
  }
  closest = std::numeric_limits<double>::infinity();
  closest_i = closest_j = 0;
}

void AtomGraph::take(int64_t first, int64_t last)
{
  const double *const *const x = atom->x;
  const double cutoff_squared = cutoff * cutoff;
  for (const int i : atoms) node_of[representative[i]] = -1;
  atoms.assign(owned.begin() + first, owned.begin() + last);
  for (int64_t n = 0; n < last - first; ++n) node_of[atoms[n]] = n;

  graph.n_owned = last - first;
  double shortest = closest * closest;
  int64_t edges = 0, node = 0;
  for (int hop = 0; hop < hops; ++hop) {
    const auto end = static_cast<int64_t>(atoms.size());
    int64_t most = edges;
    for (int64_t n = node; n < end; ++n) most += ends[atoms[n]] - starts[atoms[n]];
    graph.reserve(most, edges);
    if (static_cast<int64_t>(neighbours.size()) < graph.stride) neighbours.resize(graph.stride);
    int64_t *const from = graph.index.data(), *const to = from + graph.stride;
    double *vector = graph.vectors.data() + 3 * edges;
    for (; node < end; ++node) {
      const int i = atoms[node];
      const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
      for (int64_t c = starts[i]; c < ends[i]; ++c) {
        const int j = candidates[c];
        const double dx = x[j][0] - xi, dy = x[j][1] - yi, dz = x[j][2] - zi;
        const double r_squared = dx * dx + dy * dy + dz * dz;
        if (r_squared >= cutoff_squared) continue;
        if (r_squared < shortest) {
          shortest = r_squared;
          closest_i = i;
          closest_j = j;
        }
        int64_t &other = node_of[representative[j]];
        if (other < 0) {
          other = static_cast<int64_t>(atoms.size());
          atoms.push_back(j);
        }
        from[edges] = node;
        to[edges] = other;
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
  closest = std::sqrt(shortest);
  graph.n_edges = edges;
  graph.n_centres = node;
  graph.n_nodes = static_cast<int64_t>(atoms.size());
  graph.species.resize(graph.n_nodes);
  for (int64_t n = 0; n < graph.n_nodes; ++n) graph.species[n] = species_of_type[atom->type[atoms[n]]];
  if (graph.n_nodes == 0) {
    // A rank without atoms still takes part in every exchange. Give the model a foreign node of the right kind, so that
    // it goes the way it goes on the other ranks.
    graph.n_nodes = 1;
    graph.species.assign(1, *std::max_element(species_of_type.begin(), species_of_type.end()));
  }
}

// Ghosts pass on what they receive (corners travel through faces), so every ghost has a row in transit, not only the
// foreign nodes. Null for an owned atom without a node.
const double *AtomGraph::row(int i) const
{
  if (i >= n_local) return image_rows + static_cast<size_t>(i - n_local) * width;
  const int64_t at = rows_of_atoms ? i : node_of[i];
  return at < 0 ? nullptr : own_rows + at * width;
}

void AtomGraph::forward(Pair *pair, double *rows, int row_width)
{
  width = row_width;
  ghost_rows.assign(static_cast<size_t>(n_ghost) * width, 0.0);
  own_rows = rows;
  image_rows = ghost_rows.data();
  rows_of_atoms = false;
  comm->forward_comm(pair, width);
  for (int64_t n = graph.n_owned; n < static_cast<int64_t>(atoms.size()); ++n)
    std::copy_n(row(atoms[n]), width, rows + n * width);
}

void AtomGraph::reverse(Pair *pair, double *rows, int row_width)
{
  width = row_width;
  ghost_rows.assign(static_cast<size_t>(n_ghost) * width, 0.0);
  own_rows = rows;
  image_rows = ghost_rows.data();
  rows_of_atoms = false;
  for (int64_t n = graph.n_owned; n < static_cast<int64_t>(atoms.size()); ++n)
    std::copy_n(rows + n * width, width, row(atoms[n]));
  comm->reverse_comm(pair, width);
}

void AtomGraph::reverse_images(Pair *pair, double *rows, int row_width)
{
  width = row_width;
  own_rows = rows;
  image_rows = rows + static_cast<size_t>(n_local) * width;
  rows_of_atoms = true;
  comm->reverse_comm(pair, row_width);
}

int AtomGraph::pack_forward(int n, const int *indices, double *buffer) const
{
  double *to = buffer;
  for (int k = 0; k < n; ++k, to += width) {
    if (const double *const from = row(indices[k]))
      std::copy_n(from, width, to);
    else
      std::fill_n(to, width, 0.0);
  }
  return n * width;
}

void AtomGraph::unpack_forward(int n, int first, const double *buffer)
{
  std::copy_n(buffer, static_cast<size_t>(n) * width, row(first));
}

int AtomGraph::pack_reverse(int n, int first, double *buffer) const
{
  std::copy_n(row(first), static_cast<size_t>(n) * width, buffer);
  return n * width;
}

void AtomGraph::unpack_reverse(int n, const int *indices, const double *buffer)
{
  const double *from = buffer;
  for (int k = 0; k < n; ++k, from += width) {
    double *const to = row(indices[k]);
    if (!to) continue;
    for (int a = 0; a < width; ++a) to[a] += from[a];
  }
}

double AtomGraph::memory_usage() const
{
  return static_cast<double>(graph.vectors.capacity() + ghost_rows.capacity()) * sizeof(double) +
      static_cast<double>(graph.index.capacity() + node_of.capacity() + starts.capacity() + ends.capacity()) *
      sizeof(int64_t) +
      static_cast<double>(neighbours.capacity() + representative.capacity() + candidates.capacity()) * sizeof(int);
}
