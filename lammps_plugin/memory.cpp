/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

// How much memory an evaluation takes.

#include "model.h"

#include "program.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>

namespace mlcalc {

namespace {

// What torch's allocator tells of itself on this thread.
class PeakMemory : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void *, int64_t size, size_t, size_t, c10::Device) override
  {
    now += size;
    peak = std::max(peak, now);
  }
  bool memoryProfilingEnabled() const override { return true; }

  int64_t now = 0, peak = 0;
};

// The first centres with all their edges, and foreign nodes in proportion; neighbours are renamed to fit. Every row keeps
// its length, its species and its vectors, so that the part costs what the whole does, edge for edge.
ModelGraph part_of(const ModelGraph &whole, int64_t edges)
{
  ModelGraph part;
  part.n_edges = std::min(edges, whole.n_edges);
  if (part.n_edges == 0) return whole;
  part.n_centres = whole.index[part.n_edges - 1] + 1;
  part.n_owned = std::min(whole.n_owned, part.n_centres);
  const int64_t foreign = whole.n_nodes - whole.n_centres;
  const int64_t kept = (foreign * part.n_centres + whole.n_centres - 1) / std::max<int64_t>(whole.n_centres, 1);
  part.n_nodes = part.n_centres + kept;
  part.species.assign(whole.species.begin(), whole.species.begin() + part.n_centres);
  part.species.insert(part.species.end(), whole.species.begin() + whole.n_centres,
                      whole.species.begin() + whole.n_centres + kept);
  part.reserve(part.n_edges);
  std::copy_n(whole.index.begin(), part.n_edges, part.index.begin());
  std::copy_n(whole.vectors.begin(), 3 * part.n_edges, part.vectors.begin());
  for (int64_t e = 0; e < part.n_edges; ++e) {
    const int64_t k = whole.index[whole.stride + e];
    part.index[part.stride + e] = k < whole.n_centres || kept == 0
        ? k % part.n_centres
        : part.n_centres + (k - whole.n_centres) % kept;
  }
  return part;
}

}    // namespace

void Model::forget()
{
  program->last = {};
}

double Model::measure_memory(const ModelGraph &graph, const std::map<std::string, double> &inputs, int64_t edges)
{
  const auto part = part_of(graph, edges);
  forget();
  const auto memory = std::make_shared<PeakMemory>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, memory);
  evaluate(part, nullptr, inputs);
  forget();
  return static_cast<double>(memory->peak);
}

}    // namespace mlcalc
