"""The pair style beside others and in everything LAMMPS does with pair styles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from lammps_structures import ELEMENTS, structures
from pair_potential import Angles

from mlcalc.deploy import export
from mlcalc.errors import LammpsError
from mlcalc.graphs import build_graph
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import run_input, run_library, run_static
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.derivatives import energies_and_gradients, forces
from mlcalc.potentials.registry import build

TOTALS = "$(pe:%.17g) $(pxx:%.17g) $(pyy:%.17g) $(pzz:%.17g) $(pxy:%.17g) $(pxz:%.17g) $(pyz:%.17g)"


def python_energy(potential: Potential, atoms: Atoms) -> float:
    graph = build_graph(atoms, potential.info.elements, potential.info.cutoff)
    return float(energies_and_gradients(potential, graph)[0].sum())


def single_point(atoms: Atoms, pair_lines: list[str], folder: Path, ranks: int) -> tuple[np.ndarray, np.ndarray]:
    """Totals, and per atom: force, energy, nine components of the virial."""
    folder.mkdir()
    box = make_box(atoms)
    write_data(atoms, folder / "structure.data", types=atom_types(atoms, ELEMENTS), box=box)
    lines = [
        *setup_lines(box, folder / "structure.data"),
        *pair_lines,
        "compute e all pe/atom",
        "compute c all centroid/stress/atom NULL pair",
        f"dump 1 all custom 1 {folder}/dump id fx fy fz c_e c_c[*]",
        "dump_modify 1 sort id format float %.17g",
        "thermo_style custom step pe pxx pyy pzz pxy pxz pyz",
        "run 0 post no",
        f'print "{TOTALS}" file {folder}/totals',
    ]
    run_input("\n".join(lines) + "\n", folder, ranks)
    return np.loadtxt(folder / "totals"), np.loadtxt(folder / "dump", skiprows=9)[:, 1:]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("file", ["equivariant_file", "sevennet_file"])
def test_hybrid_overlay_adds_up(ranks: int, file: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    atoms = structures()["bulk"]
    model = f"{request.getfixturevalue(file)} {' '.join(ELEMENTS)}"
    ours = ["pair_style mlcalc", f"pair_coeff * * {model}"]
    lj = ["pair_style lj/cut 5.0", "pair_coeff * * 0.01 2.0"]
    both = [
        "pair_style hybrid/overlay mlcalc lj/cut 5.0",
        f"pair_coeff * * mlcalc {model}",
        "pair_coeff * * lj/cut 0.01 2.0",
    ]
    parts = [single_point(atoms, lines, tmp_path / name, ranks) for name, lines in (("a", ours), ("b", lj))]
    totals, per_atom = single_point(atoms, both, tmp_path / "c", ranks)
    assert np.abs(totals - parts[0][0] - parts[1][0]).max() < 1e-5  # pressures of 1e4 bar
    assert abs(totals[0] - parts[0][0][0] - parts[1][0][0]) < 1e-10
    assert np.abs(per_atom - parts[0][1] - parts[1][1]).max() < 1e-6
    assert np.abs(per_atom[:, :4] - parts[0][1][:, :4] - parts[1][1][:, :4]).max() < 1e-10


@pytest.mark.parametrize("ranks", [1, 3])
def test_null_types_are_not_seen(ranks: int, equivariant_file: Path, tmp_path: Path) -> None:
    """Type 2 belongs to lj/cut alone; the model gives what it gives on the atoms of type 1."""
    atoms = structures()["bulk"]
    lines = [
        "pair_style hybrid mlcalc lj/cut 4.5",
        f"pair_coeff * * mlcalc {equivariant_file} Si NULL",
        "pair_coeff 2 2 lj/cut 0.01 2.5",
        "pair_coeff 1 2 lj/cut 0.0 2.5",
    ]
    totals, per_atom = single_point(atoms, lines, tmp_path / "all", ranks)
    own = np.array(atoms.get_chemical_symbols()) == "Si"
    alone = run_static(atoms[own], equivariant_file)
    assert np.abs(per_atom[own, :3] - alone.forces).max() < 1e-10
    assert np.abs(per_atom[own, 3] - alone.energies).max() < 1e-10
    assert abs(totals[0] - alone.energy - per_atom[~own, 3].sum()) < 1e-9


def test_one_model_can_serve_two_groups_of_types(
    models: dict[str, Potential], equivariant_file: Path, tmp_path: Path
) -> None:
    """Two instances under hybrid, each with its own buffers: the sum of two separate systems."""
    atoms = structures()["bulk"]
    lines = [
        "pair_style hybrid mlcalc mlcalc zero 4.0",
        f"pair_coeff * * mlcalc 1 {equivariant_file} Si NULL",
        f"pair_coeff * * mlcalc 2 {equivariant_file} NULL Mo",
        "pair_coeff 1 2 zero",
    ]
    totals, _ = single_point(atoms, lines, tmp_path / "two", 2)
    own = np.array(atoms.get_chemical_symbols()) == "Si"
    wanted = sum(python_energy(models["equivariant"], part) for part in (atoms[own], atoms[~own]))
    assert abs(totals[0] - wanted) < 1e-9


@pytest.mark.parametrize("pair", ["alone", "hybrid"])
def test_tiled_communication(pair: str, models: dict[str, Potential], equivariant_file: Path, tmp_path: Path) -> None:
    """Ranks of unequal boxes, from recursive bisection, with a body of atoms in one corner."""
    atoms = structures()["bulk"].repeat((1, 1, 2))
    del atoms[[k for k, z in enumerate(atoms.positions[:, 2]) if z > 13.0]]
    style = "" if pair == "alone" else "mlcalc"
    lines = [
        "comm_style tiled",
        "pair_style mlcalc" if pair == "alone" else "pair_style hybrid/overlay mlcalc zero 5.0",
        f"pair_coeff * * {style} {equivariant_file} {' '.join(ELEMENTS)}",
        *(["pair_coeff * * zero"] if pair == "hybrid" else []),
        "balance 1.0 rcb",
    ]
    totals, per_atom = single_point(atoms, lines, tmp_path / "tiled", 3)
    assert abs(totals[0] - python_energy(models["equivariant"], atoms)) / len(atoms) < 1e-9
    assert np.abs(per_atom[:, :3] - run_static(atoms, equivariant_file).forces).max() < 1e-8


def test_restart_with_pair_coeff_again(equivariant_file: Path, tmp_path: Path) -> None:
    atoms = structures()["triclinic"]
    box = make_box(atoms)
    write_data(atoms, tmp_path / "structure.data", box=box)
    model = model_lines(equivariant_file, atom_types(atoms))
    go_on = [
        "fix 1 all nve",
        "thermo_style custom step pe ke",
        "run 4",
        f"print '$(pe:%.17g) $(ke:%.17g)' file {tmp_path}",
    ]
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        *model,
        "velocity all create 300 9",
        "fix 1 all nve",
        "run 6",
        f"write_restart {tmp_path}/half",
        *go_on[1:-1],
        f"{go_on[-1]}/unbroken",
        "clear",
        f"read_restart {tmp_path}/half",
        model[1],
        *go_on[:-1],
        f"{go_on[-1]}/resumed",
    ]
    run_input("\n".join(lines) + "\n", tmp_path / "run", ranks=2)
    assert np.abs(np.loadtxt(tmp_path / "unbroken") - np.loadtxt(tmp_path / "resumed")).max() < 1e-9


def test_minimize_finds_the_minimum(lennard_jones_file: Path, tmp_path: Path) -> None:
    """A shaken crystal goes back to the perfect one."""
    perfect = bulk("Ar", a=3.45, cubic=True).repeat(2)
    shaken = perfect.copy()
    shaken.rattle(0.08, seed=3)
    box = make_box(shaken)
    write_data(shaken, tmp_path / "structure.data", box=box)
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        *model_lines(lennard_jones_file, atom_types(shaken)),
        "minimize 0 1e-8 500 5000",
        f"print '$(pe:%.17g) $(fnorm:%.17g)' file {tmp_path}/end",
    ]
    run_library("\n".join(lines), tmp_path)
    energy, force = np.loadtxt(tmp_path / "end")
    assert force < 1e-7
    assert energy == pytest.approx(run_static(perfect, lennard_jones_file).energy, abs=1e-9)


@pytest.mark.parametrize("ranks", [1, 4])
def test_npt_ends_at_the_energy_of_its_structure(
    ranks: int, models: dict[str, Potential], equivariant_file: Path, tmp_path: Path
) -> None:
    """Cell and atoms change at every step, atoms move between ranks, and the numbers stay those of the structure."""
    atoms = structures()["triclinic"].repeat((1, 1, 2))
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, tmp_path / "structure.data", types=types, box=box)
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        *model_lines(equivariant_file, types),
        "velocity all create 900 7",
        "timestep 0.001",
        "fix 1 all npt temp 900 900 0.05 tri 0 100000 0.02",
        "neighbor 0.3 bin",
        "thermo 20",
        "run 60",
        f"write_dump all custom {tmp_path}/end id type xu yu zu fx fy fz modify sort id format float %.17g",
        f"print '$(pe:%.17g) $(vol:%.17g) $(lx:%.17g) $(ly:%.17g) $(lz:%.17g) $(xy:%.17g) $(xz:%.17g) $(yz:%.17g)' "
        f"file {tmp_path}/totals",
    ]
    run_input("\n".join(lines) + "\n", tmp_path / "run", ranks)
    energy, volume, lx, ly, lz, xy, xz, yz = np.loadtxt(tmp_path / "totals")
    table = np.loadtxt(tmp_path / "end", skiprows=9)
    cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
    final = Atoms(atoms.symbols, positions=table[:, 2:5], cell=cell, pbc=True)
    assert abs(volume / atoms.get_volume() - 1) > 0.005
    assert np.abs(cell - box.cell).max() > 0.05
    assert abs(energy - python_energy(models["equivariant"], final)) / len(atoms) < 1e-9
    assert np.abs(table[:, 5:8] - run_static(final, equivariant_file).forces).max() < 1e-8


def test_energy_is_conserved(tmp_path: Path, drift_model: Path) -> None:
    """NVE, 1 ps, float64: slope of the total energy by least squares."""
    atoms = bulk("Si", cubic=True).repeat((2, 1, 1))
    box = make_box(atoms)
    write_data(atoms, tmp_path / "structure.data", box=box)
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        *model_lines(drift_model, atom_types(atoms)),
        "velocity all create 300 12",
        "timestep 0.00025",
        "fix 1 all nve",
        "thermo_style custom step etotal temp",
        "thermo_modify format float %.15g",
        "thermo 10",
        "run 4000",
    ]
    output = run_input("\n".join(lines) + "\n", tmp_path / "run", ranks=1).output
    rows = [line.split() for line in output.splitlines()]
    rows = [row for row in rows if len(row) == 3 and row[0].isdigit()]
    step, energy, temperature = np.array(rows, dtype=float).T
    assert len(step) == 401
    assert temperature[100:].mean() > 100
    slope = np.polyfit(step * 0.00025, energy / len(atoms), 1)[0]
    assert abs(slope) < 1e-6, f"{slope:.2e} eV/atom/ps"


@pytest.fixture
def drift_model(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    info = PotentialInfo(elements=("Si",), cutoff=4.5, layers=2)
    # Random weights are rough, and the crystal heats up on them: what moves the energy then is the length of the time
    # step (half of it, a quarter of the fluctuation), so low degree, small scale and short steps.
    config = {"architecture": "equivariant", "network": {"layers": 2, "channels": 4, "l_max": 2}, "zbl": True}
    potential = build(config, info, torch.float64)
    potential.set_energies([0.0], 0.25)
    export(potential, tmp_path / "drift.pt")
    return tmp_path / "drift.pt"


def test_timing_is_reported(equivariant_file: Path, tmp_path: Path) -> None:
    atoms = structures()["bulk"]
    box = make_box(atoms)
    write_data(atoms, tmp_path / "structure.data", box=box)
    lines = [
        *setup_lines(box, tmp_path / "structure.data"),
        *model_lines(equivariant_file, atom_types(atoms), "timing yes"),
        "fix 1 all nve",
        "run 3",
    ]
    output = run_input("\n".join(lines) + "\n", tmp_path / "run", ranks=2).output
    line = next(line for line in output.splitlines() if line.startswith("mlcalc timing"))
    assert "4 force calls on 2 ranks" in line
    assert all(
        float(line.split(f"{part} ")[1].split(",")[0].split(";")[0]) > 0
        for part in ("edges", "model", "exchange", "tally")
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_index_tables_and_inputs(ranks: int, tmp_path: Path) -> None:
    """A three-body potential with a per-structure input, given on the pair_style line."""
    potential = Angles(cutoff=3.5)
    export(potential, tmp_path / "angles.pt")
    atoms = bulk("Si", cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=6)
    graph = build_graph(atoms, ("Si",), 3.5, needs=("triplets",))
    graph.tables["strength"] = torch.tensor([80.0], dtype=torch.float64)
    energies, gradients = energies_and_gradients(potential, graph)
    assert float(energies.sum()) > 0.1
    lines = ["pair_style mlcalc input strength 80.0", f"pair_coeff * * {tmp_path}/angles.pt Si Si"]
    totals, per_atom = single_point(atoms, lines, tmp_path / "run", ranks)
    assert abs(totals[0] - float(energies.sum())) < 1e-10
    assert np.abs(per_atom[:, :3] - forces(gradients, graph.edge_index, len(atoms)).numpy()).max() < 1e-10
    with pytest.raises(LammpsError, match="needs a value for 'strength': pair_style mlcalc input strength VALUE"):
        run_static(atoms, tmp_path / "angles.pt")
