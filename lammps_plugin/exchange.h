/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef MLCALC_EXCHANGE_H
#define MLCALC_EXCHANGE_H

#include <cstdint>

namespace mlcalc {

// What the operator needs from the host program. Rows belong to nodes: the first `owned()` are atoms of this rank, the
// others are atoms of other ranks.
class Exchanger {
 public:
  virtual int64_t owned() const = 0;
  // largest row the host has made room for
  virtual int64_t width_limit() const = 0;
  // overwrite the rows of foreign nodes with those of their owners; collective
  virtual void forward(double *rows, int64_t width) = 0;
  // add the rows of foreign nodes to those of their owners; collective
  virtual void reverse(double *rows, int64_t width) = 0;

 protected:
  ~Exchanger() = default;
};

}    // namespace mlcalc

#endif
