"""Message passing over the borders of ranks without the exchange operator: a halo of ghosts gives the same numbers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from lammps_structures import ELEMENTS, rewrite, structures
from plain_networks import Failing, Forking, Plain

from mlcalc.deploy import export
from mlcalc.errors import LammpsError
from mlcalc.graphs import build_graph
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import LammpsStatic, read_static, run_input, run_static, static_lines
from mlcalc.potentials.base import Potential
from mlcalc.potentials.derivatives import atomic_virials, energies_and_gradients, forces, strain_derivative

CUTOFF = 4.0
TOLERANCE = 1e-10  # eV, eV/Å, in float64


def long(repeats: int = 6) -> Atoms:
    """A crystal longer than any halo here, so that hops count."""
    atoms = bulk("Si", cubic=True).repeat((1, 2, repeats))
    atoms.rattle(0.15, seed=4)
    atoms.symbols[np.random.default_rng(4).permutation(len(atoms))[: len(atoms) // 3]] = "Mo"
    return atoms


STRUCTURES = {**structures(), "long": long()}
CASES = [("plain-3", name, "auto") for name in STRUCTURES]
CASES += [("plain-2", name, "auto") for name in ("long", "sliver", "half-empty")]
CASES += [("schnet", "long", "halo"), ("schnet", "long", "exchange")]
CASES += [("equivariant", name, mode) for name in ("long", "sliver", "slab") for mode in ("halo", "exchange")]


def plain(layers: int, exchanges: bool = False) -> Plain:
    torch.manual_seed(layers)
    return Plain(layers, CUTOFF, exchanges=exchanges).double().eval()


@pytest.fixture(scope="module")
def networks(models: dict[str, Potential]) -> dict[str, Potential]:
    return {**models, "plain-2": plain(2), "plain-3": plain(3)}


@pytest.fixture(scope="module")
def files(
    networks: dict[str, Potential], model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("plain")
    out = dict(model_files)
    for name in ("plain-2", "plain-3"):
        out[name] = folder / f"{name}.pt"
        export(networks[name], out[name])
    return out


def right(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    graph = build_graph(atoms, potential.info.elements, potential.info.cutoff)
    energies, gradients = energies_and_gradients(potential, graph)
    return {
        "energies": energies.detach().numpy(),
        "forces": forces(gradients, graph.edge_index, graph.n_atoms).numpy(),
        "virial": -strain_derivative(gradients, graph)[0].numpy(),
        "virials": atomic_virials(gradients, graph).numpy(),
    }


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
    found, wanted = results[model, name, mode], right(networks[model], STRUCTURES[name])
    assert abs(found.energy - wanted["energies"].sum()) < TOLERANCE * len(wanted["energies"])
    assert np.abs(found.energies - wanted["energies"]).max() < TOLERANCE
    assert np.abs(found.forces - wanted["forces"]).max() < TOLERANCE
    assert np.abs(found.virials - wanted["virials"]).max() < TOLERANCE
    assert np.abs(found.virial - wanted["virial"]).max() < 1e-8  # the sum over atoms, through LAMMPS' pressure
    assert np.abs(found.virials.sum(axis=0) - found.virial).max() < 1e-8
    if name == "long":
        assert np.abs(wanted["forces"]).max() > 1e-2


def run_lines(atoms: Atoms, pair_lines: list[str], folder: Path, ranks: int, *more: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    box = make_box(atoms)
    write_data(atoms, folder / "structure.data", types=atom_types(atoms, ELEMENTS), box=box)
    lines = [*setup_lines(box, folder / "structure.data", processors="1 1 *"), *pair_lines, *more]
    return run_input("\n".join(lines) + "\n", folder, ranks, timeout_s=120).output


def pair(file: Path, options: str = "") -> list[str]:
    return [f"pair_style mlcalc {options}", f"pair_coeff * * {file} {' '.join(ELEMENTS)}"]


def test_one_layer_of_ghosts_would_be_wrong(
    files: dict[str, Path], networks: dict[str, Potential], tmp_path: Path
) -> None:
    """The test above can fail: a file that lies about its layers gets too few ghosts."""
    rewrite(files["plain-3"], tmp_path / "liar.pt", lambda document: document["info"].__setitem__("layers", 2))
    wanted = right(networks["plain-3"], STRUCTURES["long"])["forces"]
    found = run_static(STRUCTURES["long"], tmp_path / "liar.pt", ranks=2)
    assert np.abs(found.forces - wanted).max() > 1e-6


@pytest.mark.parametrize("layers", [2, 3])
def test_the_halo_holds_what_is_within_reach_and_no_more(layers: int, files: dict[str, Path], tmp_path: Path) -> None:
    """Ghosts and edges counted by hand, breadth first."""
    atoms = long(10)
    output = run_lines(atoms, pair(files[f"plain-{layers}"]), tmp_path, 2, "run 0")
    line = next(line for line in output.splitlines() if line.startswith("mlcalc: halo"))
    ghosts, times = re.search(r"(\d+) ghosts for \d+ atoms on 2 ranks, ([\d.]+) times the edges", line).groups()
    centre, neighbour = neighbor_list("ij", atoms, CUTOFF)
    upper = atoms.get_scaled_positions()[:, 2] >= 0.5
    expected = edges = 0
    for owned in (upper, ~upper):
        reached = owned
        for _ in range(layers):
            rows = reached[centre]
            reached = reached.copy()
            reached[neighbour[rows]] = True
        expected += int((reached & ~owned).sum())
        edges += int(rows.sum())
    assert int(ghosts) == expected
    assert float(times) == pytest.approx(edges / len(centre), abs=0.006)
    assert expected < len(atoms)


def test_auto_takes_the_cheapest_that_is_right(
    files: dict[str, Path], lennard_jones_file: Path, tmp_path: Path
) -> None:
    """A halo for a model without the operator on several ranks; no ghosts beyond one cutoff in all other cases."""
    atoms = long()
    reach = {}
    for model, ranks, options in (
        ("plain-3", 2, ""),
        ("plain-3", 1, "halo"),
        ("equivariant", 2, ""),
        ("equivariant", 2, "halo"),
        ("equivariant", 2, "exchange"),
    ):
        output = run_lines(atoms, pair(files[model], options), tmp_path / f"{model}{ranks}{options}", ranks, "run 0")
        reach[model, ranks, options] = float(output.split("ghost atom cutoff = ")[1].split()[0])
        assert ("mlcalc: halo" in output) == (reach[model, ranks, options] > 10)
    assert list(reach.values()) == [14.0, 6.0, 6.0, 14.0, 6.0]  # skin 2 Å
    argon = bulk("Ar", a=5.2, cubic=True).repeat((2, 2, 4))
    lines = ["pair_style mlcalc halo", f"pair_coeff * * {lennard_jones_file} Ar"]
    box = make_box(argon)
    write_data(argon, tmp_path / "structure.data", box=box)
    output = run_input("\n".join([*setup_lines(box, tmp_path / "structure.data"), *lines, "run 0"]), tmp_path, 2).output
    assert "ghost atom cutoff = 7" in output
    assert "halo" not in output


def test_ghosts_are_given_back(files: dict[str, Path], tmp_path: Path) -> None:
    """The next pair style gets what the user asked for."""
    more = ["run 0", "pair_style lj/cut 4.0", "pair_coeff * * 0.01 2.0", "run 0", *pair(files["plain-2"]), "run 0"]
    output = run_lines(long(), ["comm_modify cutoff 7.5", *pair(files["plain-2"])], tmp_path, 2, *more)
    assert re.findall(r"ghost atom cutoff = ([\d.]+)", output) == ["10", "7.5", "10"]


def test_exchange_is_refused_for_a_model_that_does_not(files: dict[str, Path]) -> None:
    expected = "plain has 2 layers and does not exchange features .* which 2 ranks need; use 'pair_style mlcalc halo'"
    with pytest.raises(LammpsError, match=expected):
        run_static(STRUCTURES["long"], files["plain-2"], ranks=2, options="exchange")
    run_static(STRUCTURES["long"], files["plain-2"], ranks=1, options="exchange")


def test_too_much_memory_is_refused_before_the_first_evaluation(files: dict[str, Path], tmp_path: Path) -> None:
    """All ranks end at once, with the number; a limit just above it lets the run go on."""
    output = run_lines(long(), pair(files["equivariant"], "halo"), tmp_path / "free", 2, "run 0")
    needed = float(re.search(r"([\d.e-]+) GiB on a node of [\d.e+]+ GiB free", output).group(1))
    assert 1e-4 < needed < 1.0
    run_lines(long(), pair(files["equivariant"], f"halo halo_memory {1.1 * needed:.6g}"), tmp_path / "more", 2, "run 0")
    expected = rf"{needed:g} GiB on a node of [\d.e-]+ GiB allowed by halo_memory: not enough. Use more nodes"
    with pytest.raises(LammpsError, match=expected) as caught:
        run_lines(
            long(), pair(files["equivariant"], f"halo halo_memory {0.9 * needed:.6g}"), tmp_path / "less", 2, "run 0"
        )
    assert "on proc" not in str(caught.value)
    with pytest.raises(LammpsError, match="halo_memory must be a positive number of GiB"):
        run_static(long(), files["plain-2"], options="halo_memory 0")


def test_measured_memory_grows_with_the_edges(files: dict[str, Path], tmp_path: Path) -> None:
    """Twice the atoms in the same halo take more by what atoms take: the estimate is linear in edges."""
    found = []
    for repeats in (10, 20, 40):
        output = run_lines(long(repeats), pair(files["equivariant"], "halo"), tmp_path / str(repeats), 2, "run 0")
        found.append(float(re.search(r"([\d.e-]+) GiB on a node", output).group(1)))
    assert found[2] - found[1] == pytest.approx(2 * (found[1] - found[0]), rel=0.1)


def test_a_wrong_mode_is_named(files: dict[str, Path]) -> None:
    with pytest.raises(
        LammpsError, match="unknown or incomplete option 'halos'; options are 'exchange', 'halo', 'auto'"
    ):
        run_static(STRUCTURES["long"], files["plain-2"], options="halos")


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
    wanted = right(networks["plain-3"], final)
    assert abs(energy - wanted["energies"].sum()) < 1e-9
    assert np.abs(table[:, 5:8] - wanted["forces"]).max() < 1e-9
    assert output.count("mlcalc timing over") >= 2
    assert output.count("ghost atom cutoff = 12.3") == 1  # before
    assert output.count("ghost atom cutoff = 14") == 1  # and after the restart, with the default skin


def test_bonds_that_hide_pairs_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    """LAMMPS takes them off the rows of atoms and not of ghosts, so that ranks would see different graphs."""
    more = ["create_box 2 box bond/types 1", "create_atoms 1 region box", "mass * 28"]
    first = ["units metal", "atom_style bond", "region box block 0 5 0 5 0 30", *more[:1], "lattice diamond 5.43"]
    lines = [*first, *more[1:], *pair(files["plain-2"]), "run 0"]
    with pytest.raises(LammpsError, match="a halo needs 'special_bonds lj/coul 1 1 1'"):
        run_input("\n".join(lines), tmp_path, 2)
    assert "mlcalc: halo" in run_input("\n".join(["special_bonds lj/coul 1 1 1", *lines]), tmp_path, 2).output


def test_modes_that_cannot_be(files: dict[str, Path], tmp_path: Path) -> None:
    first = ["neighbor 2.0 multi", "comm_modify mode multi"]
    with pytest.raises(LammpsError, match="a halo does not work with 'comm_modify mode multi'"):
        run_lines(long(), [*first, *pair(files["plain-2"])], tmp_path, 2, "run 0")


def crowded() -> Atoms:
    """Two atoms close together, far from the border between two ranks along z."""
    atoms = bulk("Si", cubic=True).repeat((1, 1, 6))
    atoms.append("Si")
    atoms.positions[-1] = atoms.positions[np.argmin(np.abs(atoms.positions[:, 2] - 24.0))] + [0.5, 0.3, 0.0]
    return atoms


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("raise", "no such environment"),
        ("memory", "can't allocate memory|not enough memory|DefaultCPUAllocator"),
        ("nan", "is nan at step 0"),
    ],
)
def test_a_rank_that_fails_alone_ends_the_run(way: str, expected: str, tmp_path: Path) -> None:
    """The other rank waits in an exchange; the run must end with the reason and not hang."""
    export(Failing(way).double(), tmp_path / "failing.pt")
    start = time.monotonic()
    with pytest.raises(LammpsError, match=expected):
        run_static(crowded(), tmp_path / "failing.pt", ranks=2, processors="1 1 2")
    assert time.monotonic() - start < 60


def test_an_exchange_on_a_foreign_thread_is_refused(tmp_path: Path) -> None:
    """It would be left out in silence, or talk to MPI from a thread that must not."""
    export(Forking().double(), tmp_path / "forking.pt")
    atoms = bulk("Si", cubic=True).repeat((1, 1, 3))
    run_static(atoms, tmp_path / "forking.pt")
    with pytest.raises(LammpsError, match="mlcalc::exchange was called on a foreign thread"):
        run_static(atoms, tmp_path / "forking.pt", ranks=2)


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
