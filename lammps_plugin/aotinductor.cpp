/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "program.h"

#include "document.h"
#include "exchange_scope.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>

namespace mlcalc {

namespace {

// Sizes 0 and 1 are special to the compiler. Programs are made for at least this many owned nodes, one node more than
// there are, and this many edges; edges beyond the cutoff have no weight.
constexpr int64_t least = 2;

// Rows of a program that was given more owned nodes than there are, for an exchanger that knows nothing of them.
class Padded : public Exchanger {
 public:
  Padded(Exchanger &inner_, const ModelGraph &graph, int64_t extra_) :
      inner(inner_), n_owned(graph.n_owned), n_nodes(graph.n_nodes), extra(extra_)
  {
  }
  int64_t owned() const override { return n_owned + extra; }
  int64_t width_limit() const override { return inner.width_limit(); }
  void forward(double *rows, int64_t width) override
  {
    take(rows, width);
    inner.forward(packed.data(), width);
    give(rows, width);
  }
  void reverse(double *rows, int64_t width) override
  {
    take(rows, width);
    inner.reverse(packed.data(), width);
    give(rows, width);
  }

 private:
  void take(const double *rows, int64_t width)
  {
    packed.assign(n_nodes * width, 0.0);
    std::copy_n(rows, n_owned * width, packed.begin());
    std::copy_n(rows + (n_owned + extra) * width, (n_nodes - n_owned) * width, packed.begin() + n_owned * width);
  }
  void give(double *rows, int64_t width) const
  {
    std::copy_n(packed.begin(), n_owned * width, rows);
    std::copy_n(packed.begin() + n_owned * width, (n_nodes - n_owned) * width, rows + (n_owned + extra) * width);
  }

  Exchanger &inner;
  int64_t n_owned, n_nodes, extra;
  std::vector<double> packed;
};

class AOTInductor : public Program {
 public:
  AOTInductor(const std::string &path, const ModelInfo &info_) :
      info(info_), dtype(info.dtype == "float32" ? at::kFloat : at::kDouble)
  {
    try {
      loader = std::make_unique<torch::inductor::AOTIModelPackageLoader>(path, "model", /*run_single_threaded=*/true);
    } catch (const std::exception &problem) {
      throw std::runtime_error(path + " is not a readable AOTInductor package: " + first_line(problem.what()));
    }
  }

  ProgramOutput run(const ModelGraph &graph, Exchanger *exchanger, const std::map<std::string, double> &inputs) override
  {
    at::AutoDispatchBelowADInplaceOrView without_autograd;
    const int64_t n = graph.n_centres, foreign = graph.n_nodes - n;
    const int64_t extra = std::max<int64_t>(0, least - n);
    const int64_t edges = std::max(graph.n_edges, least);
    const auto whole = at::TensorOptions().dtype(at::kLong);

    auto species = at::zeros({graph.n_nodes + extra + 1}, whole);
    auto *const kinds = species.data_ptr<int64_t>();
    std::copy_n(graph.species.data(), n, kinds);
    std::copy_n(graph.species.data() + n, foreign, kinds + n + extra);

    auto index = at::empty({2, edges}, whole);
    auto *const centres = index.data_ptr<int64_t>(), *const neighbours = centres + edges;
    std::copy_n(graph.index.data(), graph.n_edges, centres);
    std::copy_n(graph.index.data() + graph.stride, graph.n_edges, neighbours);
    if (extra > 0)
      for (int64_t e = 0; e < graph.n_edges; ++e)
        if (neighbours[e] >= n) neighbours[e] += extra;
    auto vectors = at::empty({edges, 3}, at::TensorOptions().dtype(dtype));
    if (graph.n_edges > 0)
      vectors.narrow(0, 0, graph.n_edges)
          .copy_(at::from_blob(const_cast<double *>(graph.vectors.data()), {graph.n_edges, 3},
                               at::TensorOptions().dtype(at::kDouble)));
    for (int64_t e = graph.n_edges; e < edges; ++e) centres[e] = neighbours[e] = n + extra - 1;
    vectors.narrow(0, graph.n_edges, edges - graph.n_edges).fill_(2.0 * info.cutoff);

    std::vector<at::Tensor> given = {species, index, vectors, at::arange(n + extra, whole)};
    if (info.counted) {
      given.push_back(at::zeros({n + extra}, vectors.options()));
      given.back().narrow(0, 0, graph.n_owned).fill_(1.0);
    }
    for (const auto &name : info.inputs)
      given.push_back(at::full({1}, inputs.count(name) ? inputs.at(name) : 0.0, vectors.options()));

    std::unique_ptr<Padded> padded;
    if (exchanger && extra > 0) padded = std::make_unique<Padded>(*exchanger, graph, extra);
    ExchangeScope scope(padded ? padded.get() : exchanger);
    const auto found = loader->run(given);
    const auto plain = [](const at::Tensor &values, int64_t rows) {
      return values.narrow(0, 0, rows).to(at::kDouble).contiguous();
    };
    ProgramOutput output{plain(found.at(0), graph.n_owned), plain(found.at(1), graph.n_edges), {}};
    for (size_t k = 0; k < info.outputs.size(); ++k)
      if (info.outputs[k] == "grade") output.grades = plain(found.at(2 + k), graph.n_owned);
    return output;
  }

 private:
  ModelInfo info;
  at::ScalarType dtype;
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader;
};

}    // namespace

std::unique_ptr<Program> load_aotinductor(const std::string &path, const ModelInfo &info)
{
  return std::make_unique<AOTInductor>(path, info);
}

}    // namespace mlcalc
