/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef MLCALC_DOCUMENT_H
#define MLCALC_DOCUMENT_H

#include "model.h"

#include <stdexcept>
#include <string>
#include <vector>

namespace mlcalc {

// The small structure in a model file and what it must give.
struct Reference {
  ModelGraph graph;
  std::vector<double> energies, forces, virial, grades;
  double energy_tolerance = 0.0, force_tolerance = 0.0, virial_tolerance = 0.0, grade_tolerance = 0.0;
};

// Read what a model file says about itself, without touching its program. Throws std::runtime_error with a message for
// the user: not a model file, a newer one, or compiled for another processor or torch.
void read_document(const std::string &path, ModelInfo &, Reference &);

// What went wrong, in one line: torch appends a C++ stack trace, and puts the trace of a TorchScript program first.
std::string first_line(const std::string &text);

// How to make the file anew.
std::string export_again(const ModelInfo &);

// A digest of a file's content, 40 characters; blanks if it cannot be read.
std::string fingerprint(const std::string &path);

}    // namespace mlcalc

#endif
