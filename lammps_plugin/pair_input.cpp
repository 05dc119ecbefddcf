/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

// What the user says: settings, coefficients, restart files.

#include "pair_mlcalc.h"

#include "committee.h"
#include "cores.h"
#include "document.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "modify.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <unistd.h>

using namespace LAMMPS_NS;

namespace {

// Above 1 lies what is farther from the training set than any part of it; validation frames reach 1.5.
constexpr double default_grade_warn = 1.5;
constexpr double none = std::numeric_limits<double>::infinity();
// Of the settings in restart files. Those before there was a version begin with a number from 0 to 5.
constexpr int restart_version = 11;
// Enough that the price of a call does not show, and few enough that what an evaluation writes is still in the cache when it
// is read.
constexpr int default_block = 512;

// "2.13" of "2.13.0", empty if there is no such thing.
std::string major_minor(const std::string &version)
{
  int major, minor;
  if (std::sscanf(version.c_str(), "%d.%d", &major, &minor) != 2) return "";
  return std::to_string(major) + "." + std::to_string(minor);
}

bool is_model_file(const std::string &name)
{
  const auto dot = name.rfind('.');
  return dot != std::string::npos && (name.substr(dot) == ".pt" || name.substr(dot) == ".pt2");
}

}    // namespace

// pair_style given again comes here too, and means what it says: nothing is left of the one before but the model.
void PairMlcalc::settings(int narg, char **arg)
{
  timing = asked_for_grades = false;
  mode = Mode::automatic;
  halo_memory = edges_checked = 0.0;
  block = default_block;
  inputs.clear();
  grade_warn = default_grade_warn;
  grade_stop = deviation_warn = deviation_stop = none;
  bool asked_for_warning = false;
  for (int k = 0; k < narg;) {
    const std::string key = arg[k];
    if (key == "timing" && k + 1 < narg) {
      timing = utils::logical(FLERR, arg[k + 1], false, lmp) != 0;
      k += 2;
    } else if (k + 1 < narg && (key == "grade_warn" || key == "grade_stop" || key == "deviation_warn" ||
                                key == "deviation_stop")) {
      double &threshold = key == "grade_warn" ? grade_warn
          : key == "grade_stop"               ? grade_stop
          : key == "deviation_warn"           ? deviation_warn
                                              : deviation_stop;
      threshold = strcmp(arg[k + 1], "no") == 0 ? none : utils::numeric(FLERR, arg[k + 1], false, lmp);
      if (!(threshold > 0.0)) error->all(FLERR, "pair_style mlcalc: {} must be a positive number or 'no'", key);
      asked_for_warning = asked_for_warning || key == "grade_warn";
      k += 2;
    } else if (mode_option(key)) {
      ++k;
    } else if (key == "halo_memory" && k + 1 < narg) {
      halo_memory = utils::numeric(FLERR, arg[k + 1], false, lmp);
      if (!(halo_memory > 0.0)) error->all(FLERR, "pair_style mlcalc: halo_memory must be a positive number of GiB");
      k += 2;
    } else if (key == "block" && k + 1 < narg) {
      block = strcmp(arg[k + 1], "no") == 0 ? 0 : utils::inumeric(FLERR, arg[k + 1], false, lmp);
      if (block < (strcmp(arg[k + 1], "no") == 0 ? 0 : 1))
        error->all(FLERR, "pair_style mlcalc: block must be a positive number of atoms or 'no'");
      k += 2;
    } else if (key == "input" && k + 2 < narg) {
      inputs[arg[k + 1]] = utils::numeric(FLERR, arg[k + 2], false, lmp);
      k += 3;
    } else
      error->all(FLERR,
                 "pair_style mlcalc: unknown or incomplete option '{}'; options are 'exchange', 'halo', 'auto', 'halo_memory "
                 "GIB', 'block ATOMS|no', 'timing yes|no', 'grade_warn|grade_stop VALUE|no', 'deviation_warn|deviation_stop "
                 "VALUE|no' and 'input NAME VALUE'. The model file goes to pair_coeff.",
                 key);
  }
  asked_for_grades = std::isfinite(grade_stop) || (asked_for_warning && std::isfinite(grade_warn));
}

// What the user says in OMP_NUM_THREADS or package omp is what LAMMPS has. Else one rank has one thread, as LAMMPS does,
// and several share the cores of their computer: as many threads as cores on each of them would stand in each other's way.
void PairMlcalc::settle_threads()
{
  int asked = std::getenv("OMP_NUM_THREADS") || modify->get_fix_by_id("package_omp");
  MPI_Bcast(&asked, 1, MPI_INT, 0, world);
  threads = asked || comm->nprocs == 1 ? comm->nthreads : mlcalc::cores_per_rank(world);
}

// End on all ranks, with the message of the first that has one.
void PairMlcalc::agree(const std::string &problem)
{
  int mine = problem.empty() ? comm->nprocs : comm->me, first;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == comm->nprocs) return;
  int length = static_cast<int>(problem.size());
  MPI_Bcast(&length, 1, MPI_INT, first, world);
  std::string text = problem;
  text.resize(length);
  MPI_Bcast(text.data(), length, MPI_CHAR, first, world);
  error->all(FLERR, "pair mlcalc: " + text);
}

// Ranks on several machines, or in several folders, can find different files under one name.
void PairMlcalc::same_file_everywhere(const std::string &path)
{
  const std::string mine = mlcalc::fingerprint(path);
  std::string first = mine;
  MPI_Bcast(first.data(), static_cast<int>(first.size()), MPI_CHAR, 0, world);
  std::string problem;
  if (mine != first) {
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    const auto say = [](const std::string &digest) { return digest[0] == ' ' ? "unreadable" : "sha1 " + digest; };
    problem = fmt::format("ranks see different files under the name {}: {} on rank {} ({}), {} on rank 0; copy one file to "
                          "all machines, or give its full path",
                          path, say(mine), comm->me, host, say(first));
  }
  agree(problem);
}

// The model in these files, which has passed its self-check and can have what pair_style asks for.
std::unique_ptr<mlcalc::Committee> PairMlcalc::load(const std::vector<std::string> &paths)
{
  std::unique_ptr<mlcalc::Committee> loaded;
  std::string problem;
  for (const auto &path : paths) same_file_everywhere(path);
  settle_threads();
  try {
    loaded = std::make_unique<mlcalc::Committee>(paths);
    mlcalc::Model::Threads scope(threads);
    loaded->self_check();
  } catch (const std::exception &exception) {
    problem = exception.what();
  }
  agree(problem);
  const auto running = mlcalc::torch_version();
  for (const auto &member : loaded->members()) {
    const auto &made = member.model->info().torch_version;
    if (comm->me == 0 && major_minor(made) != major_minor(running))
      error->warning(FLERR, "{} was made with torch {} and runs with torch {}; its self-check passed", member.path, made,
                     running);
  }
  check_options(*loaded);
  return loaded;
}

// What pair_style says must go with the model.
void PairMlcalc::check_options(const mlcalc::Committee &candidate)
{
  const auto &known = candidate.info().inputs;
  const auto &name = candidate.name();
  std::string problem;
  if (asked_for_grades && !candidate.has_grades())
    problem = name + " has no extrapolation grades; make a file that has: mlcalc grade";
  else if (std::isfinite(std::min(deviation_warn, deviation_stop)) && candidate.size() < 2)
    problem = fmt::format("deviation_warn and deviation_stop compare several models, {} is one: give more files to "
                          "pair_coeff",
                          name);
  for (const auto &input : inputs)
    if (std::find(known.begin(), known.end(), input.first) == known.end())
      problem = fmt::format("{} takes no input '{}'", name, input.first);
  for (const auto &input : known)
    if (!inputs.count(input))
      problem = fmt::format("{} needs a value for '{}': pair_style mlcalc input {} VALUE", name, input, input);
  agree(problem);
}

// Index into the model's elements of each type, -1 for NULL.
std::vector<int> PairMlcalc::map_types(const mlcalc::Committee &candidate, const std::vector<std::string> &elements)
{
  const auto &info = candidate.info();
  std::vector<std::string> used;
  std::vector<int> species(atom->ntypes + 1, -1);
  for (size_t k = 0; k < elements.size(); ++k) {
    if (elements[k] == "NULL") continue;
    const auto found = std::find(info.elements.begin(), info.elements.end(), elements[k]);
    if (found == info.elements.end()) {
      std::string known;
      for (const auto &element : info.elements) known += " " + element;
      error->all(FLERR, "pair_coeff: element {} of type {} is not in {}{}, which {}:{}", elements[k], k + 1,
                 candidate.size() > 1 ? "all of " : "", candidate.name(), candidate.size() > 1 ? "share" : "knows", known);
    }
    species[k + 1] = static_cast<int>(found - info.elements.begin());
    used.push_back(elements[k]);
  }
  const auto &sets = info.element_sets;
  const bool together = sets.empty() || std::any_of(sets.begin(), sets.end(), [&](const auto &set) {
    return std::all_of(used.begin(), used.end(),
                       [&](const auto &e) { return std::find(set.begin(), set.end(), e) != set.end(); });
  });
  if (!together) {
    std::string known;
    for (const auto &set : sets) {
      known += known.empty() ? " {" : ", {";
      for (const auto &element : set) known += (known.back() == '{' ? "" : " ") + element;
      known += "}";
    }
    error->all(FLERR, "pair_coeff: {} was not trained on these elements together; it knows the sets{}", candidate.name(),
               known);
  }
  if (used.empty()) error->all(FLERR, "pair_coeff: no atom type has an element, all are NULL");
  return species;
}

// Where something is wrong, what was before stays. The first name is a file whatever it is called; more of them are told
// from elements by their endings.
void PairMlcalc::coeff(int narg, char **arg)
{
  int files = 1;
  while (2 + files < narg && is_model_file(arg[2 + files])) ++files;
  if (narg != 2 + files + atom->ntypes)
    error->all(FLERR,
               "pair_coeff for mlcalc is '* * FILE.pt' and one element (or NULL) for each of the {} atom types; the files "
               "of a committee, all ending in .pt or .pt2, come before the elements",
               atom->ntypes);
  auto loaded = load({arg + 2, arg + 2 + files});
  auto species = map_types(*loaded, {arg + 2 + files, arg + narg});
  model = std::move(loaded);
  species_of_type = std::move(species);
  edges_checked = 0.0;
  std::fill_n(summary, N_SUMMARY, 0.0);
  if (!allocated) allocate();
  map_element2type(atom->ntypes, arg + 2 + files);
}

void PairMlcalc::write_restart(FILE *file)
{
  write_restart_settings(file);
}

void PairMlcalc::read_restart(FILE *file)
{
  read_restart_settings(file);
}

void PairMlcalc::write_restart_settings(FILE *file)
{
  const auto put = [&](const void *from, size_t bytes) { fwrite(from, 1, bytes, file); };
  const int numbers[] = {restart_version, timing, static_cast<int>(mode), asked_for_grades, block,
                         static_cast<int>(inputs.size())};
  put(numbers, sizeof(numbers));
  for (const auto &input : inputs) {
    const int length = static_cast<int>(input.first.size());
    put(&length, sizeof(length));
    put(input.first.data(), length);
    put(&input.second, sizeof(double));
  }
  double ghosts[2];
  ghosts_in_restart(ghosts);
  for (const double value : {grade_warn, grade_stop, deviation_warn, deviation_stop, halo_memory, ghosts[0], ghosts[1]})
    put(&value, sizeof(double));
}

void PairMlcalc::read_restart_settings(FILE *file)
{
  const auto get = [&](void *to, size_t bytes) {
    if (comm->me == 0) utils::sfread(FLERR, to, 1, bytes, file, nullptr, error);
    MPI_Bcast(to, static_cast<int>(bytes), MPI_BYTE, 0, world);
  };
  int version, numbers[5];
  get(&version, sizeof(version));
  if (version != restart_version)
    error->all(FLERR,
               "pair mlcalc: the restart file was written by another version of mlcalc (its settings are in form {}, this "
               "version knows {}); turn it into a data file with that version: write_data",
               version, restart_version);
  get(numbers, sizeof(numbers));
  timing = numbers[0] != 0;
  mode = static_cast<Mode>(numbers[1]);
  asked_for_grades = numbers[2] != 0;
  block = numbers[3];
  inputs.clear();
  for (int k = 0; k < numbers[4]; ++k) {
    int length;
    get(&length, sizeof(length));
    std::string name(length, ' ');
    get(name.data(), length);
    get(&inputs[name], sizeof(double));
  }
  double ghosts[2];
  for (double *const value :
       {&grade_warn, &grade_stop, &deviation_warn, &deviation_stop, &halo_memory, &ghosts[0], &ghosts[1]})
    get(value, sizeof(double));
  ghosts_from_restart(ghosts);
}
