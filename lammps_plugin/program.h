/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef MLCALC_PROGRAM_H
#define MLCALC_PROGRAM_H

#include "model.h"

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>

namespace mlcalc {

// Double precision; grades are undefined if not asked for.
struct ProgramOutput {
  at::Tensor energies, gradients, grades;
};

// The program inside a model file, in one of its formats.
class Program {
 public:
  virtual ~Program() = default;
  virtual ProgramOutput run(const ModelGraph &, Exchanger *, const std::map<std::string, double> &inputs) = 0;
  ProgramOutput last;    // what the last result points to
};

std::unique_ptr<Program> load_torchscript(const std::string &path, const ModelInfo &);
std::unique_ptr<Program> load_aotinductor(const std::string &path, const ModelInfo &);

}    // namespace mlcalc

#endif
