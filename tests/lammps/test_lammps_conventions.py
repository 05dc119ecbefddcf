"""Conventions against a native pair style: the same pair potential as a model and as ``lj/smooth/linear``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pair_potential import LennardJones

from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import open_library, run_input


def shaken(tilted: bool) -> Atoms:
    atoms = bulk("Ar", a=3.6, cubic=not tilted).repeat((3, 3, 3) if tilted else (2, 2, 2))
    atoms.rattle(0.1, seed=4)
    return atoms


def results(pair_lines: list[str], atoms: Atoms, folder: Path, ranks: int) -> dict[str, np.ndarray]:
    folder.mkdir()
    box = make_box(atoms)
    write_data(atoms, folder / "structure.data", box=box)
    lines = [
        *setup_lines(box, folder / "structure.data"),
        *pair_lines,
        "compute energies all pe/atom",
        "compute stresses all stress/atom NULL",
        "compute centroid all centroid/stress/atom NULL",
        "thermo_style custom step pe pxx pyy pzz pxy pxz pyz",
        "velocity all create 200 5 loop geom",
        f"dump 1 all custom 1 {folder}/dump id fx fy fz c_energies c_stresses[*] c_centroid[*]",
        "dump_modify 1 sort id format float %.17g",
        "run 0 post no",
        f'print "$(pe:%.17g) $(pxx:%.17g) $(pyy:%.17g) $(pzz:%.17g) $(pxy:%.17g) $(pxz:%.17g) $(pyz:%.17g)" '
        f"file {folder}/totals",
    ]
    run_input("\n".join(lines) + "\n", folder, ranks)
    return {"atoms": np.loadtxt(folder / "dump", skiprows=9), "totals": np.loadtxt(folder / "totals")}


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_number_is_that_of_the_native_style(
    tilted: bool, ranks: int, lennard_jones: LennardJones, lennard_jones_file: Path, tmp_path: Path
) -> None:
    """Energy, pressure with its kinetic part, forces, per-atom energy, stress/atom and centroid/stress/atom."""
    atoms, c = shaken(tilted), lennard_jones.config
    native_lines = [
        f"pair_style lj/smooth/linear {c['cutoff']}",
        f"pair_coeff 1 1 {c['epsilon']} {c['sigma']}",
    ]
    ours = results(model_lines(lennard_jones_file, atom_types(atoms)), atoms, tmp_path / "ours", ranks)
    native = results(native_lines, atoms, tmp_path / "native", ranks)
    for key in ours:
        scale = np.abs(native[key]).max(axis=0)
        assert (np.abs(ours[key] - native[key]) <= 1e-10 * scale + 1e-9).all(), key


def test_constants_are_those_of_lammps() -> None:
    from mlcalc.lammps.data import UNITS

    lmp = open_library()
    try:
        for name, units in UNITS.items():
            lmp.command("clear")
            lmp.command(f"units {name}")
            assert lmp.extract_global("nktv2p") == units.pressure
            # the default time step is 1 fs in both styles
            assert units.velocity == pytest.approx(1.0 / lmp.extract_global("dt"), rel=1e-15)
            boltzmann = lmp.extract_global("boltz")
            # kB in eV/K times the factor is kB in the style's units, to the digits LAMMPS gives
            assert boltzmann == pytest.approx(8.617343e-5 * units.energy, rel=2e-6)
    finally:
        lmp.close()
