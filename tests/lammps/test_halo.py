"""Message passing over the borders of ranks without the exchange operator: a halo of ghosts gives the same numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from halo_cases import TOLERANCE, long, pair, plain, run_lines
from lammps_structures import python_route, rewrite, structures

from mlcalc.deploy import export
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, write_data
from mlcalc.lammps.run import LammpsStatic, read_static, run_input, run_static, static_lines
from mlcalc.potentials.base import Potential

STRUCTURES = {**structures(), "long": long()}
CASES = [("plain-3", name, "auto") for name in STRUCTURES]
CASES += [("plain-2", name, "auto") for name in ("long", "sliver", "half-empty")]
CASES += [("schnet", "long", "halo"), ("schnet", "long", "exchange")]
CASES += [("equivariant", name, mode) for name in ("long", "sliver", "slab") for mode in ("halo", "exchange")]


@pytest.fixture(scope="module", params=[2, 3], ids=lambda n: f"{n}-ranks")
def results(
    request: pytest.FixtureRequest, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str, str], LammpsStatic]:
    """All cases in one LAMMPS process per number of ranks."""
    base = tmp_path_factory.mktemp(f"ranks{request.param}")
    lines, folders = [], {}
    for model, name, mode in CASES:
        atoms, folder = STRUCTURES[name], base / model / name / mode
        folder.mkdir(parents=True)
        box, types = make_box(atoms), atom_types(atoms)
        write_data(atoms, folder / "structure.data", types=types, box=box)
        lines += ["clear", *static_lines(box, types, files[model], folder, options=mode)]
        folders[model, name, mode] = (folder, box)
    run = run_input("\n".join(lines) + "\n", base, request.param, timeout_s=300)
    return {
        case: read_static(folder, STRUCTURES[case[1]], box, "metal", request.param, run.wall_time_s)
        for case, (folder, box) in folders.items()
    }


@pytest.mark.parametrize(("model", "name", "mode"), CASES)
def test_same_numbers_on_any_number_of_ranks(
    model: str,
    name: str,
    mode: str,
    results: dict[tuple[str, str, str], LammpsStatic],
    networks: dict[str, Potential],
) -> None:
    found, wanted = results[model, name, mode], python_route(networks[model], STRUCTURES[name])
    assert abs(found.energy - wanted["energies"].sum()) < TOLERANCE * len(wanted["energies"])
    assert np.abs(found.energies - wanted["energies"]).max() < TOLERANCE
    assert np.abs(found.forces - wanted["forces"]).max() < TOLERANCE
    assert np.abs(found.virials - wanted["virials"]).max() < TOLERANCE
    assert np.abs(found.virial - wanted["virial"]).max() < 1e-8  # the sum over atoms, through LAMMPS' pressure
    assert np.abs(found.virials.sum(axis=0) - found.virial).max() < 1e-8
    if name == "long":
        assert np.abs(wanted["forces"]).max() > 1e-2


def test_one_layer_of_ghosts_would_be_wrong(
    files: dict[str, Path], networks: dict[str, Potential], tmp_path: Path
) -> None:
    """The test above can fail: a file that lies about its layers gets too few ghosts."""
    rewrite(files["plain-3"], tmp_path / "liar.pt", lambda document: document["info"].__setitem__("layers", 2))
    wanted = python_route(networks["plain-3"], STRUCTURES["long"])["forces"]
    found = run_static(STRUCTURES["long"], tmp_path / "liar.pt", ranks=2)
    assert np.abs(found.forces - wanted).max() > 1e-6


TOTALS = "$(pe:%.17g) $(pxx:%.17g) $(pyy:%.17g) $(pzz:%.17g) $(pxy:%.17g) $(pxz:%.17g) $(pyz:%.17g)"


def everything(atoms: Atoms, pair_lines: list[str], folder: Path, ranks: int, *more: str) -> tuple[np.ndarray, ...]:
    """Totals, and per atom: force, energy, nine components of the virial."""
    lines = [
        *pair_lines,
        *more,
        "compute e all pe/atom",
        "compute c all centroid/stress/atom NULL pair",
        "dump 1 all custom 1 dump id fx fy fz c_e c_c[*]",
        "dump_modify 1 sort id format float %.17g",
        "thermo_style custom step pe pxx pyy pzz pxy pxz pyz",
        "run 0 post no",
        f'print "{TOTALS}" file totals',
    ]
    run_lines(atoms, lines, folder, ranks)
    return np.loadtxt(folder / "totals"), np.loadtxt(folder / "dump", skiprows=9)[:, 1:]


SURROUNDINGS = {
    "hybrid/overlay": [
        "pair_style hybrid/overlay mlcalc lj/cut 5.0",
        "pair_coeff * * mlcalc FILE Si Mo",
        "pair_coeff * * lj/cut 0.01 2.0",
    ],
    "NULL": [
        "pair_style hybrid mlcalc lj/cut 4.5",
        "pair_coeff * * mlcalc FILE Si NULL",
        "pair_coeff 2 2 lj/cut 0.01 2.5",
        "pair_coeff 1 2 lj/cut 0.0 2.5",
    ],
    "longer partner": [
        "pair_style hybrid/overlay mlcalc halo zero 9.0",
        "pair_coeff * * mlcalc FILE Si Mo",
        "pair_coeff * * zero",
    ],
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_beside_other_pair_styles(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    """Totals, forces and per-atom virials are those of one rank."""
    lines = [line.replace("FILE", str(files["plain-3"])) for line in SURROUNDINGS[name]]
    one = everything(long(), lines, tmp_path / "one", 1)
    for ranks in (2, 3):
        totals, per_atom = everything(long(), lines, tmp_path / str(ranks), ranks)
        assert abs(totals[0] - one[0][0]) < 1e-9
        assert np.abs(totals - one[0]).max() < 1e-5  # bar
        assert np.abs(per_atom[:, :4] - one[1][:, :4]).max() < 1e-10
        assert np.abs(per_atom - one[1]).max() < 1e-6  # bar times Å³


def test_tiled_communication(files: dict[str, Path], tmp_path: Path) -> None:
    """Unequal boxes from recursive bisection; the communication cutoff must not exceed the box there."""
    atoms = bulk("Si", cubic=True).repeat((3, 3, 4))
    del atoms[[k for k, z in enumerate(atoms.positions[:, 2]) if z > 14.0]]
    atoms.rattle(0.1, seed=1)
    atoms.symbols[::3] = "Mo"
    one = everything(atoms, pair(files["plain-3"]), tmp_path / "one", 1)
    tiled = everything(atoms, ["comm_style tiled", *pair(files["plain-3"])], tmp_path / "tiled", 3, "balance 1.0 rcb")
    assert abs(tiled[0][0] - one[0][0]) < 1e-9
    assert np.abs(tiled[1][:, :4] - one[1][:, :4]).max() < 1e-10


def test_units_real(files: dict[str, Path]) -> None:
    found = [
        run_static(STRUCTURES["slab"], files["plain-2"], ranks=2, units=units, options="halo")
        for units in ("metal", "real")
    ]
    assert np.abs(found[0].forces - found[1].forces).max() < TOLERANCE
    assert np.abs(found[0].virials - found[1].virials).max() < TOLERANCE


def test_npt_ends_at_the_energy_of_its_structure(
    files: dict[str, Path], networks: dict[str, Potential], tmp_path: Path
) -> None:
    """Atoms move between ranks and between neighbour lists, the cell changes; the restart remembers the mode."""
    more = [
        "velocity all create 2000 7",
        "timestep 0.001",
        "fix 1 all npt temp 2000 2000 0.05 iso 0 20000 0.02",
        "neighbor 0.3 bin",
        "thermo 20",
        "run 60",
        "write_dump all custom end id type xu yu zu fx fy fz modify sort id format float %.17g",
        "print '$(pe:%.17g) $(lx:%.17g) $(ly:%.17g) $(lz:%.17g)' file totals",
        "write_restart half",
        "clear",
        "read_restart half",
        pair(files["plain-3"])[1],
        "run 0",
    ]
    output = run_lines(long(), pair(files["plain-3"], "timing yes halo"), tmp_path, 2, *more)
    energy, *lengths = np.loadtxt(tmp_path / "totals")
    table = np.loadtxt(tmp_path / "end", skiprows=9)
    final = Atoms(long().symbols, positions=table[:, 2:5], cell=lengths, pbc=True)
    assert np.abs(np.array(lengths) - long().cell.lengths()).max() > 0.02
    builds = [int(n) for n in re.findall(r"Neighbor list builds = (\d+)", output)]
    assert builds[0] > 2
    wanted = python_route(networks["plain-3"], final)
    assert abs(energy - wanted["energies"].sum()) < 1e-9
    assert np.abs(table[:, 5:8] - wanted["forces"]).max() < 1e-9
    assert output.count("mlcalc timing over") >= 2
    assert output.count("ghost atom cutoff = 12.3") == 1  # before
    assert output.count("ghost atom cutoff = 14") == 1  # and after the restart, with the default skin


def test_one_line_gets_rid_of_the_halo(tmp_path: Path) -> None:
    """The same network with the operator exchanges, and gives the same numbers."""
    numbers = {}
    for exchanges in (False, True):
        export(plain(3, exchanges), tmp_path / "network.pt")
        output = run_lines(long(), pair(tmp_path / "network.pt"), tmp_path / str(exchanges), 2, "run 0")
        assert ("mlcalc: halo" in output) != exchanges
        numbers[exchanges] = run_static(long(), tmp_path / "network.pt", ranks=2)
    assert np.abs(numbers[True].forces - numbers[False].forces).max() < TOLERANCE
    assert np.abs(numbers[True].virials - numbers[False].virials).max() < TOLERANCE
