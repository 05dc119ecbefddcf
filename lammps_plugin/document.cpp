/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "document.h"

#include <c10/util/hash.h>
#include <caffe2/serialize/inline_container.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <sys/utsname.h>

namespace mlcalc {

namespace {

using json = nlohmann_lmp::json;

Reference read_reference(const json &values)
{
  Reference reference;
  auto &graph = reference.graph;
  graph.species = values.at("species").get<std::vector<int64_t>>();
  graph.n_owned = graph.n_centres = graph.n_nodes = static_cast<int64_t>(graph.species.size());
  const auto &index = values.at("edge_index");
  const auto centres = index.at(0).get<std::vector<int64_t>>(), neighbours = index.at(1).get<std::vector<int64_t>>();
  if (centres.size() != neighbours.size()) throw std::runtime_error("edge_index");
  graph.n_edges = static_cast<int64_t>(centres.size());
  graph.reserve(graph.n_edges);
  std::copy(centres.begin(), centres.end(), graph.index.begin());
  std::copy(neighbours.begin(), neighbours.end(), graph.index.begin() + graph.stride);
  for (const auto &node : {centres, neighbours})
    for (const auto n : node)
      if (n < 0 || n >= graph.n_nodes) throw std::runtime_error("edge_index");
  size_t k = 0;
  for (const auto &row : values.at("edge_vectors"))
    for (int d = 0; d < 3; ++d) graph.vectors.at(k++) = row.at(d).get<double>();
  reference.grades = values.value("grade", std::vector<double>{});
  reference.energies = values.at("energies").get<std::vector<double>>();
  for (const auto &row : values.at("forces"))
    for (int d = 0; d < 3; ++d) reference.forces.push_back(row.at(d).get<double>());
  for (const auto &row : values.at("virial")) {
    if (row.is_array())
      for (const auto &value : row) reference.virial.push_back(value.get<double>());
    else
      reference.virial.push_back(row.get<double>());
  }
  if (static_cast<int64_t>(reference.energies.size()) != graph.n_nodes || reference.virial.size() != 9 ||
      static_cast<int64_t>(reference.forces.size()) != 3 * graph.n_nodes)
    throw std::runtime_error("reference");
  if (!reference.grades.empty() && reference.grades.size() != reference.energies.size())
    throw std::runtime_error("reference");
  const auto &tolerance = values.at("tolerance");
  reference.grade_tolerance = tolerance.value("grade", 0.0);
  reference.energy_tolerance = tolerance.at("energy");
  reference.force_tolerance = tolerance.at("forces");
  reference.virial_tolerance = tolerance.at("virial");
  return reference;
}

ModelInfo read_info(const json &document)
{
  ModelInfo info;
  const auto &values = document.at("info");
  info.name = values.value("name", "");
  info.elements = values.at("elements").get<std::vector<std::string>>();
  info.cutoff = values.at("cutoff");
  info.energy_scale = values.value("energy_scale", "unknown");
  info.min_distance = values.value("min_distance", 0.0);
  info.layers = values.at("layers");
  info.needs = values.value("needs", std::vector<std::string>{});
  info.inputs = values.value("inputs", std::vector<std::string>{});
  info.outputs = values.value("outputs", std::vector<std::string>{});
  info.program = document.value("program", "torchscript");
  info.command = document.value("command", "");
  info.counted = info.program != "aotinductor" || document.value("counted", false);
  info.element_sets = values.value("element_sets", std::vector<std::vector<std::string>>{});
  info.dtype = document.at("dtype");
  info.torch_version = document.at("torch_version");
  info.exchange_width = document.at("exchange_width");
  const auto &units = document.at("units");
  if (units.at("energy") != "eV" || units.at("length") != "angstrom")
    throw std::runtime_error("units other than eV and angstrom");
  if (info.dtype != "float32" && info.dtype != "float64") throw std::runtime_error("dtype " + info.dtype);
  if (!(info.cutoff > 0.0)) throw std::runtime_error("cutoff");
  return info;
}

// The document as text, empty if the archive has none.
std::string read_text(const std::string &path)
{
  if (!std::ifstream(path).good()) throw std::runtime_error("cannot open model file " + path);
  try {
    caffe2::serialize::PyTorchStreamReader archive(path);
    if (!archive.hasRecord("extra/mlcalc.json")) return "";
    const auto [data, size] = archive.getRecord("extra/mlcalc.json");
    return std::string(static_cast<const char *>(data.get()), size);
  } catch (const std::exception &problem) {
    throw std::runtime_error(path + " is not a readable archive of a model (damaged, or not made by mlcalc export): " +
                             first_line(problem.what()));
  }
}

std::string machine()
{
  utsname names;
  return uname(&names) == 0 ? names.machine : "unknown";
}

// Features of this processor as Linux names them.
std::set<std::string> processor_features()
{
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    return {std::istream_iterator<std::string>(words), {}};
  }
  return {};
}

// Why machine code in the file must not be run here, empty if it may.
std::string mismatch(const json &document)
{
  const auto &record = document.at("instruction_set");
  const std::string march = record.at("march"), kind = record.at("machine");
  if (kind != machine()) return "compiled for " + kind + " processors, this one is " + machine();
  const auto have = processor_features();
  std::string lacking;
  for (const std::string name : record.at("needs"))
    if (!have.count(name)) lacking += (lacking.empty() ? "" : ", ") + name;
  if (!lacking.empty()) return "compiled for another processor (" + march + "): this one lacks " + lacking;
  const std::string made = document.at("torch_version");
  if (made != torch_version()) return "compiled for torch " + made + ", this is torch " + torch_version();
  return "";
}

}    // namespace

std::string first_line(const std::string &text)
{
  std::istringstream lines(text);
  std::string first, line;
  std::getline(lines, first);
  if (first.rfind("The following operation failed in the TorchScript", 0) != 0) return first;
  // the last line that begins like "RuntimeError: "
  while (std::getline(lines, line)) {
    const auto colon = line.find("Error: ");
    if (colon != std::string::npos && line.find_first_of(" \t") > colon) first = line.substr(colon + 7);
  }
  return first;
}

std::string export_again(const ModelInfo &info)
{
  const std::string what = "export the model again with this installation: ";
  if (!info.command.empty()) return what + info.command;
  if (info.program != "aotinductor") return what + "mlcalc export POTENTIAL FILE.pt";
  return what + "mlcalc export POTENTIAL FILE.pt2 --format aotinductor --dtype " + info.dtype;
}

std::string fingerprint(const std::string &path)
{
  std::ifstream file(path, std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return content.empty() ? std::string(40, ' ') : c10::sha1(content).str();
}

void read_document(const std::string &path, ModelInfo &info, Reference &reference)
{
  const auto text = read_text(path);
  if (text.empty())
    throw std::runtime_error(path + " is not an mlcalc model file (no mlcalc.json inside): make one with mlcalc export "
                             "POTENTIAL FILE.pt");
  std::string problem;
  try {
    const auto document = json::parse(text);
    if (document.at("kind") != "mlcalc-potential" || document.at("format") != 1)
      throw std::runtime_error("another kind or a newer format");
    info = read_info(document);
    reference = read_reference(document.at("reference"));
    if (info.program == "aotinductor") problem = mismatch(document);
  } catch (const std::exception &trouble) {
    throw std::runtime_error(path + " does not describe a model this plugin can use (" + first_line(trouble.what()) +
                             "): " + export_again(info));
  }
  if (!problem.empty()) throw std::runtime_error(path + " is " + problem + ": " + export_again(info));
}

}    // namespace mlcalc
