"""The LAMMPS side: building the plugin, writing inputs, running LAMMPS on Atoms.

Names are imported when asked for: ``lmp`` itself loads ``mlcalc.lammps.build`` at every start, on every rank.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcalc.lammps.box import LammpsBox
    from mlcalc.lammps.build import PluginStatus, build_plugin, plugin_folder, plugin_status
    from mlcalc.lammps.data import atom_types, write_data
    from mlcalc.lammps.run import LammpsStatic, model_file, model_files, run_input, run_static

_HOME = {
    "LammpsBox": "box",
    "PluginStatus": "build",
    "build_plugin": "build",
    "plugin_folder": "build",
    "plugin_status": "build",
    "atom_types": "data",
    "write_data": "data",
    "LammpsStatic": "run",
    "model_file": "run",
    "model_files": "run",
    "run_input": "run",
    "run_static": "run",
}

__all__ = [
    "LammpsBox",
    "LammpsStatic",
    "PluginStatus",
    "atom_types",
    "build_plugin",
    "model_file",
    "model_files",
    "plugin_folder",
    "plugin_status",
    "run_input",
    "run_static",
    "write_data",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
