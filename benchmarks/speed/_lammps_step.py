"""One NVE step in LAMMPS on one rank and thread, from its own timers and those of the pair style."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms

from mlcalc.deploy import read_document
from mlcalc.errors import LammpsError
from mlcalc.graphs import neighbor_list
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import run_input

WARM_UP = 5
_NUMBER = r"([-+\d.eE]+)"
_LOOP = re.compile(rf"^Loop time of {_NUMBER} on 1 procs for (\d+) steps", re.MULTILINE)
_TIMERS = {name: re.compile(rf"^{name}\s*\|\s*{_NUMBER}", re.MULTILINE) for name in ("Pair", "Neigh", "Comm")}
_PLUGIN = re.compile(
    rf"^mlcalc timing over \d+ force calls .*: edges {_NUMBER}, model {_NUMBER}, exchange {_NUMBER}, tally {_NUMBER};",
    re.MULTILINE,
)
_SHARE = re.compile(rf"^{_NUMBER}% CPU use", re.MULTILINE)
_BUILDS = re.compile(r"^Neighbor list builds = (\d+)", re.MULTILINE)


def lammps_step(atoms: Atoms, file: Path, steps: int, repeats: int, skin: float) -> dict[str, float]:
    """Return the times of ``StepCost``, ms per atom, ``edges_per_atom`` and ``cpu_share``.

    ``list`` is LAMMPS' Neigh and Comm; ``edges`` and ``model`` are the plugin's; ``rest`` is integration, the adding up
    of forces and LAMMPS' own work. ``rebuild`` comes from a run that makes a new list at every step.

    Raises:
        LammpsError: LAMMPS stopped, or its log lacks a timer.
    """
    builds = max(5, steps // 5)
    box, types = make_box(atoms), atom_types(atoms)
    with tempfile.TemporaryDirectory(prefix="mlcalc-speed-") as name:
        folder = Path(name)
        write_data(atoms, folder / "structure.data", types=types, box=box)
        lines = [
            *setup_lines(box, folder / "structure.data"),
            *model_lines(file, types, "timing yes"),
            f"neighbor {skin:.17g} bin",
            "velocity all create 300 1 loop geom",
            "timestep 0.001",
            "fix move all nve",
            "thermo 1000000",
            f"run {WARM_UP}",
            *[f"run {steps}"] * repeats,
            "neigh_modify every 1 delay 0 check no",
            f"run {builds}",
        ]
        output = run_input("\n".join(lines) + "\n", folder).output
    runs = output.split("Loop time of")[1:]
    if len(runs) != repeats + 2:
        raise LammpsError(f"the log holds {len(runs)} runs, not {repeats + 2}")
    measured = [_times("Loop time of" + text, len(atoms)) for text in runs[1:]]
    *plain, rebuilding = measured
    result = {key: float(np.median([run[key] for run in plain])) for key in plain[0]}
    # A step that makes a new list against one that does not: Neigh is the list, Comm its ghosts.
    made = rebuilding.pop("builds") - result["builds"] * builds / steps
    result["rebuild_ms"] = (rebuilding["list_ms"] - result["list_ms"]) * builds / made
    del result["builds"]
    edges = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, read_document(file)["info"]["cutoff"])[0].shape[
        1
    ]
    return {**result, "edges_per_atom": edges / len(atoms)}


def _times(text: str, n_atoms: int) -> dict[str, float]:
    """Return the times of one run (ms per atom and step) and the number of neighbour lists built."""
    loop, plugin, builds, share = (pattern.search(text) for pattern in (_LOOP, _PLUGIN, _BUILDS, _SHARE))
    timers = {name: pattern.search(text) for name, pattern in _TIMERS.items()}
    if loop is None or plugin is None or builds is None or share is None or not all(timers.values()):
        raise LammpsError(f"a timer is missing in the log of LAMMPS:\n{text}")
    scale = 1e3 / (int(loop[2]) * n_atoms)
    seconds = {name: float(found[1]) for name, found in timers.items() if found is not None}
    times = {
        "total_ms": float(loop[1]) * scale,
        "list_ms": (seconds["Neigh"] + seconds["Comm"]) * scale,
        "edges_ms": float(plugin[1]) / n_atoms,
        "model_ms": float(plugin[2]) / n_atoms,
    }
    times["rest_ms"] = 2.0 * times["total_ms"] - sum(times.values())
    return {**times, "builds": float(builds[1]), "cpu_share": float(share[1]) / 100.0}
