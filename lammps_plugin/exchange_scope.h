/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#ifndef MLCALC_EXCHANGE_SCOPE_H
#define MLCALC_EXCHANGE_SCOPE_H

#include "exchange.h"

#include <ATen/core/Tensor.h>

namespace mlcalc {

// While a scope is alive, mlcalc::exchange talks to its exchanger on the thread that made it; otherwise it is the
// identity.
//
// Ranks must call forward and reverse communication in the same order and number, but autograd skips nodes that a
// rank's energy does not depend on (no edges, no atoms). Therefore all exchanges of one evaluation are strung on a
// token: every exchange takes the token of the one before and returns a new one, and the caller includes the last
// token among the outputs and the first among the inputs of the derivative. Backward then runs through every exchange
// exactly once, last one first, whatever became of the features.
class ExchangeScope {
 public:
  explicit ExchangeScope(Exchanger *exchanger);
  ~ExchangeScope();
  ExchangeScope(const ExchangeScope &) = delete;
  ExchangeScope &operator=(const ExchangeScope &) = delete;

  Exchanger *exchanger;
  at::Tensor first_token, last_token;
  int calls = 0;

 private:
  ExchangeScope *outer;
};

}    // namespace mlcalc

#endif
