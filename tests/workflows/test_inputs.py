"""What all workflows accept and what importing them costs."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.workflows import md, phonons
from mlcalc.workflows._structures import as_atoms, space_group


def test_pymatgen_structures_are_taken_wherever_atoms_are() -> None:
    atoms = bulk("Cu", a=3.6)
    structure = AseAtomsAdaptor.get_structure(atoms)
    call = {"ensemble": "nve", "steps": 5, "log_interval": 1, "trajectory_interval": 5}
    np.testing.assert_allclose(
        md(structure, EMT(), **call).potential_ev, md(atoms, EMT(), **call).potential_ev, atol=1e-10
    )
    options = {"supercell": (2, 2, 2), "mesh": [2, 2, 2], "path_points": 5, "imaginary_tolerance_thz": 99.0}
    assert phonons(structure, EMT(), **options).max_frequency_thz == pytest.approx(
        phonons(atoms, EMT(), **options).max_frequency_thz, abs=1e-8
    )


def test_pymatgen_molecules_are_taken_too() -> None:
    water = molecule("H2O")
    taken = as_atoms(AseAtomsAdaptor.get_molecule(water))
    np.testing.assert_allclose(taken.positions, water.positions)
    assert not taken.pbc.any()


def test_nan_positions_name_their_atoms_and_cells_are_checked() -> None:
    water = molecule("H2O")
    water.positions[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"atoms \[2\]"):
        as_atoms(water)
    copper = bulk("Cu")
    copper.cell[0, 0] = np.inf
    with pytest.raises(NonFiniteError, match="cell"):
        as_atoms(copper)
    with pytest.raises(WorkflowError, match="got dict"):
        as_atoms({"a": 1})


def test_space_groups() -> None:
    assert space_group(bulk("Si"), 1e-4) == "Fd-3m (227)"
    assert space_group(molecule("H2O"), 1e-4) is None


def test_importing_workflows_and_the_command_line_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, mlcalc.workflows, mlcalc.cli; print({'torch', 'matplotlib', 'e3nn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_site_properties_of_pymatgen_are_kept_or_missed_aloud() -> None:
    structure = Structure(
        Lattice.cubic(4.0),
        ["Cu", "Cu"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        site_properties={"selective_dynamics": [[False] * 3, [True] * 3], "magmom": [1.0, -2.0]},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms = as_atoms(structure)
    assert [item.index.tolist() for item in atoms.constraints] == [[0]]
    np.testing.assert_array_equal(atoms.get_initial_magnetic_moments(), [1.0, -2.0])
    structure.add_site_property("velocities", [[0.0] * 3] * 2)
    with pytest.warns(UserWarning, match="site properties velocities"):
        as_atoms(structure)


def test_disordered_structures_are_refused_by_name() -> None:
    alloy = Structure(Lattice.cubic(3.8), ["Cu", {"Cu": 0.5, "Au": 0.5}], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(WorkflowError, match=r"Cu1\.5 Au0\.5 is disordered: site 1 \("):
        as_atoms(alloy)
