"""What the pair style keeps of a neighbour list is all that can come within the cutoff before the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import run_input

QUANTITIES = "$(pe:%.17g) $(pxx:%.17g) $(pxy:%.17g) $(pyy:%.17g)"


@pytest.mark.parametrize("ranks", [1, 2])
def test_energy_is_that_of_a_fresh_list(ranks: int, equivariant_file: Path, tmp_path: Path) -> None:
    """A hot crystal beside a style of longer range; a model of layers that exchange."""
    atoms = bulk("Si", cubic=True, a=5.0).repeat(2)
    atoms.symbols[::3] = "Mo"
    atoms.rattle(0.1, seed=1)
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, tmp_path / "structure.data", types=types, box=box)
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        "pair_style hybrid/overlay mlcalc zero 7.0",
        f"pair_coeff * * mlcalc {equivariant_file} {' '.join(types.elements)}",
        "pair_coeff * * zero",
        "neighbor 2.0 bin",
        "neigh_modify every 1 delay 0 check yes",
        "velocity all create 4000 3 loop geom",
        "timestep 0.001",
        "fix move all nve",
        "run 45",
        f'print "{QUANTITIES}" file "{tmp_path}/kept"',
        "run 0",
        f'print "{QUANTITIES}" file "{tmp_path}/fresh"',
    ]
    output = run_input("\n".join(lines) + "\n", tmp_path, ranks).output
    builds = [int(line.split("=")[1]) for line in output.splitlines() if line.startswith("Neighbor list builds")]
    assert 0 <= builds[0] < 40
    kept, fresh = (np.array((tmp_path / name).read_text().split(), dtype=float) for name in ("kept", "fresh"))
    assert abs(kept[0] - fresh[0]) < 1e-10 * len(atoms)
    assert np.abs(kept[1:] - fresh[1:]).max() < 1e-5 * np.abs(fresh[1:]).max()
