// Edges by the node they belong to, in their own order within each: what sums over edges go by.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <numeric>
#include <vector>

namespace mlcalc::ops {

// edges[first[k]] ... edges[first[k + 1] - 1] belong to node k.
struct Order {
  std::vector<int64_t> edges, first;
  bool sorted = true;  // edges come node by node already

  Order(const int64_t *node, int64_t count, int64_t n, const char *name) : edges(count), first(n + 1, 0)
  {
    for (int64_t e = 0; e < count; ++e) {
      TORCH_CHECK_INDEX(node[e] >= 0 && node[e] < n, name, ": edge ", e, " belongs to ", node[e], " of ", n);
      ++first[node[e] + 1];
      sorted = sorted && (e == 0 || node[e - 1] <= node[e]);
    }
    for (int64_t k = 0; k < n; ++k) first[k + 1] += first[k];
    std::iota(edges.begin(), edges.end(), int64_t{0});
    if (sorted) return;
    std::vector<int64_t> next = first;
    for (int64_t e = 0; e < count; ++e) edges[next[node[e]]++] = e;
  }
};

}  // namespace mlcalc::ops
