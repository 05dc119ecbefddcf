"""LAMMPS runs of the peers: model files, inputs, and times from LAMMPS' own log. One rank, one thread."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _environments import Unavailable, run
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.errors import LammpsError
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import run_input

WARM_UP = 10  # steps
SKIN_ANG = 1.0
TETHER_EV_PER_ANG2 = 5.0  # to the sites: atoms vibrate alike, whatever the weights know
SUFFIXES = {"torchscript": "pt", "aotinductor": "pt2"}
_NUMBER = r"([-+\d.eE]+)"
_LOOP = re.compile(rf"^Loop time of {_NUMBER} on 1 procs for (\d+) steps with (\d+) atoms", re.MULTILINE)
_SHARE = re.compile(rf"^{_NUMBER}% CPU use", re.MULTILINE)

# By name: 2Jmax and whether products of two components count. SNAP as the published one for Si of Zuo et al., J. Phys.
# Chem. A 124, 731 (2020): 2Jmax 8, cutoff 4.9 Å; of the quadratic one 2Jmax is an assumption.
SNAPS = {"SNAP": (8, False), "qSNAP": (6, True)}

DEEPMD_CUTOFF_ANG = 5.0  # that of `mlearn`
DEEPMD_STEPS = 200


def snap_lines(folder: Path, name: str = "SNAP") -> list[str]:
    """Write one of ``SNAPS`` with random coefficients into ``folder`` and return its input lines."""
    highest, quadratic = SNAPS[name]
    half = highest // 2 + 1
    components = half * (half + 1) * (2 * half + 1) // 6  # for an even 2Jmax: 30 of 6, 55 of 8
    number = 1 + components + (components * (components + 1) // 2 if quadratic else 0)
    values = np.random.default_rng(0).normal(scale=1e-3, size=number)
    (folder / "snapcoeff").write_text(f"1 {number}\nSi 0.5 1\n" + "".join(f"{x:.9f}\n" for x in values))
    (folder / "snapparam").write_text(
        f"rcutfac 4.9\ntwojmax {highest}\nrfac0 0.99363\nrmin0 0\nquadraticflag {int(quadratic)}\nbzeroflag 0\n"
    )
    return ["pair_style snap", f'pair_coeff * * "{folder}/snapcoeff" "{folder}/snapparam" Si']


def mlcalc_lines(folder: Path, potential: str, dtype: str, form: str, atoms: Atoms) -> list[str]:
    """Export ``potential`` as a model file of the format ``form`` and return its input lines.

    Raises:
        Unavailable: this mlcalc does not write that format.
    """
    program = [sys.executable, "-c", "from mlcalc.cli import main; main()", "export"]
    options = [] if form == "torchscript" else ["--format", form]
    if options and "--format" not in run([*program, "--help"], None):
        raise Unavailable("`mlcalc export` has no --format here")
    path = folder / f"{form}-{dtype}.{SUFFIXES[form]}"
    if not path.exists():
        run([*program, potential, str(path), "--dtype", dtype, "--elements", "Si", *options], None)
    return model_lines(path, atom_types(atoms))


def deepmd_lines(environment: Path, cache: Path, dtype: str, frames: Sequence[Atoms]) -> list[str]:
    """Train se_e2_a briefly on ``frames`` (with energy and forces), compress it, and return its input lines.

    Raises:
        Unavailable: a step of it failed.
    """
    settings = deepmd_settings("Si", dtype, ["data"], DEEPMD_STEPS)
    key = hashlib.sha256((json.dumps(settings) + environment.name).encode()).hexdigest()[:10]
    folder = cache / f"deepmd-model-{key}"
    model = folder / "compressed.pb"
    if not model.exists():
        write_deepmd_system(folder / "data", "Si", [(a, a.get_potential_energy(), a.get_forces()) for a in frames])
        (folder / "input.json").write_text(json.dumps(settings, indent=1))
        for command in (
            ["train", "input.json"],
            ["freeze", "-o", "plain.pb"],
            ["compress", "-i", "plain.pb", "-o", "compressing.pb"],
        ):
            program = [str(environment / "bin" / "dp"), "--tf", *command]
            run(program, environment, cwd=folder, log=folder / f"{command[0]}.log")
        (folder / "compressing.pb").replace(model)
    return [f'pair_style deepmd "{model}"', "pair_coeff * *"]


def write_deepmd_system(folder: Path, element: str, frames: Sequence[tuple[Atoms, float, NDArray[np.float64]]]) -> None:
    """Write frames (atoms, energy, forces) of one element and equally many atoms as a system of DeePMD-kit."""
    arrays = folder / "set.000"
    arrays.mkdir(parents=True, exist_ok=True)
    np.save(arrays / "coord.npy", [a.positions.ravel() for a, _, _ in frames])
    np.save(arrays / "box.npy", [a.cell.array.ravel() for a, _, _ in frames])
    np.save(arrays / "energy.npy", [energy for _, energy, _ in frames])
    np.save(arrays / "force.npy", [np.ravel(forces) for _, _, forces in frames])
    (folder / "type.raw").write_text("0\n" * len(frames[0][0]))
    (folder / "type_map.raw").write_text(f"{element}\n")


def deepmd_settings(element: str, dtype: str, systems: Sequence[str], steps: int) -> dict[str, object]:
    """Return the input of ``dp train``; the learning rate falls to a hundredth over ``steps``."""
    descriptor = {
        "type": "se_e2_a",
        "rcut": DEEPMD_CUTOFF_ANG,
        "rcut_smth": 0.5,
        "sel": [40],  # 28 neighbours in the crystal
        "neuron": [25, 50, 100],
        "axis_neuron": 16,
        "resnet_dt": False,
        "seed": 1,
        "precision": dtype,
    }
    fitting = {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1, "precision": dtype}
    weights = {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1}
    return {
        "model": {"type_map": [element], "descriptor": descriptor, "fitting_net": fitting},
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": max(50, steps // 100)},
        "loss": {"type": "ener", **weights, "start_pref_v": 0, "limit_pref_v": 0},
        "training": {
            "training_data": {"systems": list(systems), "batch_size": 1},
            "numb_steps": steps,
            "disp_freq": max(50, steps // 100),
            "save_freq": steps,
            "seed": 1,
        },
    }


def measure(atoms: Atoms, lines: list[str], seconds: float, folder: Path, environment: Path | None) -> dict[str, Any]:
    """Return steps, wall and processor time of NVE at 300 K; the warm-up is not in them.

    Raises:
        Unavailable: LAMMPS failed, or its log lacks the times.
    """
    write_data(atoms, folder / "structure.data")
    text = "\n".join(
        [
            *setup_lines(make_box(atoms), folder / "structure.data"),
            *lines,
            f"neighbor {SKIN_ANG} bin",
            "velocity all create 300 1 loop geom",
            "timestep 0.001",
            "fix move all nve",
            f"fix tether all spring/self {TETHER_EV_PER_ANG2}",
            "thermo 1000000",
            f"run {WARM_UP}",
            f"timer timeout {seconds:.3f} every 1",
            "run 1000000",
            "",
        ]
    )
    if environment is None:
        try:
            output = run_input(text, folder).output
        except LammpsError as error:
            raise Unavailable(str(error)) from error
    else:
        (folder / "in.lammps").write_text(text, encoding="utf-8")
        command = [str(environment / "bin" / "lmp"), "-in", "in.lammps", "-log", "log.lammps", "-nocite"]
        output = run(command, environment, cwd=folder)
    return times(output)


def times(output: str) -> dict[str, Any]:
    """Return atoms, calls, wall and processor time of the last run in what LAMMPS printed.

    Raises:
        Unavailable: they are not there.
    """
    loops, shares = _LOOP.findall(output), _SHARE.findall(output)
    if len(loops) != 2 or len(shares) != 2:
        raise Unavailable(f"the log of LAMMPS holds {len(loops)} runs, not 2")
    wall, steps, atoms = loops[-1]
    processor = float(wall) * float(shares[-1]) / 100.0
    return {"atoms": int(atoms), "calls": int(steps), "wall_s": float(wall), "processor_s": processor}
