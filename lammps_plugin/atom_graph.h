/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef LMP_MLCALC_ATOM_GRAPH_H
#define LMP_MLCALC_ATOM_GRAPH_H

#include "model.h"
#include "pointers.h"

#include <cstddef>
#include <vector>

namespace LAMMPS_NS {

// The atoms and ghosts of a rank as nodes and edges of a model's graph, and rows of numbers of nodes on their way between
// ranks.
//
// With one hop only owned atoms have edges, and features of ghosts have to come from other ranks. With as many hops as
// the model has layers the graph holds all that energies of owned atoms depend on: nodes by their distance in hops, each
// at its closest image, and edges of all but the last.
//
// A graph is that of some of the owned atoms, in the order of LAMMPS; where features travel between ranks, of all.
class AtomGraph : protected Pointers {
 public:
  explicit AtomGraph(class LAMMPS *);

  // Begin a step with the full neighbour list, which has rows of ghosts for more than one hop.
  void update(class NeighList *, const std::vector<int> &species_of_type, double cutoff, int hops);
  // The next update starts from nothing.
  void forget() { mapped = -1; }
  // Owned atoms that have an element.
  int64_t n_atoms() const { return static_cast<int64_t>(owned.size()); }
  int owned_atom(int64_t n) const { return owned[n]; }
  // Make the graph of those from `first` to before `last`.
  void take(int64_t first, int64_t last);

  const mlcalc::ModelGraph &nodes_and_edges() const { return graph; }
  int64_t n_owned() const { return graph.n_owned; }
  int64_t n_edges() const { return graph.n_edges; }
  int64_t n_owned_edges() const { return owned_edges; }
  int atom_of_node(int64_t node) const { return atoms[node]; }
  int centre(int64_t edge) const { return atoms[graph.index[edge]]; }
  int neighbour(int64_t edge) const { return neighbours[edge]; }
  const double *vector(int64_t edge) const { return &graph.vectors[3 * edge]; }
  // Of all images of an atom: the owned one, or the first ghost.
  int home(int i) const { return representative[i]; }
  int n_images() const { return n_local + n_ghost; }
  // The closest pair of the step so far; infinitely far where there is none.
  double closest = 0.0;
  int closest_i = 0, closest_j = 0;

  // Rows (nodes, width): of owned nodes to their ghosts on all ranks; of ghosts added to those of their owners.
  void forward(class Pair *, double *rows, int width);
  void reverse(class Pair *, double *rows, int width);
  // Rows (n_images, width): of ghosts added to those of their owners.
  void reverse_images(class Pair *, double *rows, int width);
  int pack_forward(int n, const int *indices, double *buffer) const;
  void unpack_forward(int n, int first, const double *buffer);
  int pack_reverse(int n, int first, double *buffer) const;
  void unpack_reverse(int n, const int *indices, const double *buffer);
  double memory_usage() const;

 private:
  void map_atoms(class NeighList *, double reach);
  const double *row(int i) const;
  double *row(int i) { return const_cast<double *>(static_cast<const AtomGraph *>(this)->row(i)); }

  std::vector<int> species_of_type;
  double cutoff = 0.0;
  int hops = 1;

  mlcalc::ModelGraph graph;
  int64_t owned_edges = 0;            // those whose centre is owned, which come first
  std::vector<int> representative;    // see home()
  std::vector<int64_t> node_of;       // node of a representative, -1 if it has none
  std::vector<int> owned;             // LAMMPS atoms, see n_atoms()
  std::vector<int> atoms;             // of the nodes, at the image whose edges are taken
  std::vector<int> neighbours;        // LAMMPS atom at the end of each edge
  bigint mapped = -1;                 // which neighbour list of the run the maps belong to
  int n_local = -1, n_ghost = -1;

  // what of the neighbour list can come within the cutoff before the next: of atom i from starts[i] to before ends[i]
  std::vector<int> candidates;
  std::vector<int64_t> starts, ends;

  // rows in transit, see forward() and reverse()
  double *own_rows = nullptr, *image_rows = nullptr;
  bool rows_of_atoms = false;    // else of nodes
  std::vector<double> ghost_rows;
  int width = 0;
};

}    // namespace LAMMPS_NS

#endif
