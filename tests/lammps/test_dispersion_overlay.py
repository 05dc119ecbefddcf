"""The potential and LAMMPS' own D3 under hybrid/overlay, against the sum in ASE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lammps_structures import ELEMENTS, structures

from mlcalc import MLCalculator
from mlcalc.calculators import Dispersion
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import run_input

PAIRS, COORDINATION = 20.0, 15.0
BAR = 1.0 / 1602176.634  # eV/Å³
# Hartree and Bohr have eight and seven digits in LAMMPS.
RELATIVE = 2e-6


@pytest.mark.parametrize(("name", "ranks"), [("bulk", 1), ("bulk", 2), ("slab", 1)])
def test_overlay_is_the_sum_in_ase(name: str, ranks: int, equivariant_file: Path, tmp_path: Path) -> None:
    atoms = structures()[name]
    box = make_box(atoms)
    write_data(atoms, tmp_path / "structure.data", types=atom_types(atoms, ELEMENTS), box=box)
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        "neigh_modify one 100000 page 1000000",
        f"pair_style hybrid/overlay mlcalc dispersion/d3 bj pbe {PAIRS} {COORDINATION}",
        f"pair_coeff * * mlcalc {equivariant_file} {' '.join(ELEMENTS)}",
        f"pair_coeff * * dispersion/d3 {' '.join(ELEMENTS)}",
        "compute p all pressure NULL virial",
        "thermo_style custom step pe c_p[*]",
        f"dump 1 all custom 1 {tmp_path}/dump id fx fy fz",
        "dump_modify 1 sort id format float %.17g",
        "run 0 post no",
        f'print "$(pe:%.17g) {" ".join(f"$(c_p[{k}]:%.17g)" for k in range(1, 7))}" file {tmp_path}/totals',
    ]
    run_input("\n".join(lines) + "\n", tmp_path, ranks)
    energy, *pressure = np.loadtxt(tmp_path / "totals")
    forces = box.vectors_to_ase(np.loadtxt(tmp_path / "dump", skiprows=9)[:, 1:])

    same = Dispersion("d3bj", "pbe", cutoff_ang=PAIRS, coordination_cutoff_ang=COORDINATION, smooth_ang=0.0)
    with_it, without = MLCalculator(equivariant_file, dispersion=same), MLCalculator(equivariant_file)
    added = with_it.get_property("dispersion_energy", atoms)
    assert abs(energy - with_it.get_property("energy", atoms)) < RELATIVE * abs(added)
    part = with_it.get_property("forces", atoms) - without.get_property("forces", atoms)
    assert np.abs(part).max() > 0.01
    assert np.abs(forces - with_it.get_property("forces", atoms)).max() < 10 * RELATIVE * np.abs(part).max()
    if atoms.pbc.all():
        tensor = -np.array(pressure)[np.array(((0, 3, 4), (3, 1, 5), (4, 5, 2)))] * BAR
        stress = box.tensors_to_ase(tensor)[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
        assert np.abs(stress - with_it.get_property("stress", atoms)).max() < 1e-7
