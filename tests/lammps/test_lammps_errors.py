"""Everything that can be wrong in an input is one clear error that names the thing and the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from lammps_structures import rewrite, structures

from mlcalc.deploy import export
from mlcalc.errors import LammpsError, PluginError
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, model_lines, setup_lines, write_data
from mlcalc.lammps.run import run_input, run_library, run_static
from mlcalc.potentials.base import Potential


def silicon_lines(folder: Path) -> list[str]:
    atoms = bulk("Si", cubic=True)
    box = make_box(atoms)
    write_data(atoms, folder / "structure.data", box=box)
    return setup_lines(box, folder / "structure.data")


def message(lines: list[str], folder: Path) -> str:
    with pytest.raises(LammpsError) as caught:
        run_library("\n".join([*lines, "run 0"]), folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["pair_style mlcalc", "pair_coeff * * MODEL Si", "newton off"], "newton pair on"),
        (["pair_style mlcalc", "pair_coeff * * MODEL Xx"], "element Xx of type 1 .* knows: Si Mo"),
        (["pair_style mlcalc", "pair_coeff * * MODEL Si Mo"], "one element .* for each of the 1 atom types"),
        (["pair_style mlcalc", "pair_coeff * * nowhere.pt Si"], "cannot open model file nowhere.pt"),
        (["pair_style mlcalc speed yes"], "unknown or incomplete option 'speed'"),
        (["pair_style mlcalc"], "pair coeffs are not set"),
        (["pair_style mlcalc input charge 1.0", "pair_coeff * * MODEL Si"], "takes no input 'charge'"),
    ],
)
def test_wrong_input(lines: list[str], expected: str, equivariant_file: Path, tmp_path: Path) -> None:
    import re

    setup = silicon_lines(tmp_path)
    if "newton off" in lines:
        lines = [line for line in lines if line != "newton off"]
        setup = ["newton off" if line == "newton on" else line for line in setup]
    text = message([*setup, *(line.replace("MODEL", str(equivariant_file)) for line in lines)], tmp_path)
    assert re.search(expected, text), text


def test_other_units(equivariant_file: Path, tmp_path: Path) -> None:
    lines = [line.replace("units metal", "units lj") for line in silicon_lines(tmp_path)]
    text = message([*lines, *model_lines(equivariant_file, atom_types(Atoms("Si")))], tmp_path)
    assert "units metal and real, not lj" in text


def test_damaged_and_foreign_files(equivariant_file: Path, tmp_path: Path) -> None:
    setup, types = silicon_lines(tmp_path), atom_types(Atoms("Si"))
    content = equivariant_file.read_bytes()
    (tmp_path / "half.pt").write_bytes(content[: len(content) // 2])
    assert "half.pt is not a readable archive of a model" in message(
        [*setup, *model_lines(tmp_path / "half.pt", types)], tmp_path
    )
    (tmp_path / "text.pt").write_text("not a model")
    assert "text.pt is not a readable archive of a model" in message(
        [*setup, *model_lines(tmp_path / "text.pt", types)], tmp_path
    )
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "foreign.pt"))
    assert "not an mlcalc model file" in message([*setup, *model_lines(tmp_path / "foreign.pt", types)], tmp_path)


def test_self_check_finds_a_changed_number(equivariant_file: Path, tmp_path: Path) -> None:
    def change(document: dict) -> None:
        document["reference"]["forces"][0][1] += 1e-5

    rewrite(equivariant_file, tmp_path / "changed.pt", change)
    lines = [*silicon_lines(tmp_path), *model_lines(tmp_path / "changed.pt", atom_types(Atoms("Si")))]
    text = message(lines, tmp_path)
    assert "does not reproduce its own reference structure" in text
    assert "mlcalc export" in text


def test_unchanged_copy_passes(equivariant_file: Path, tmp_path: Path) -> None:
    """The rewriting itself breaks nothing, so the test above fails for the reason it names."""
    rewrite(equivariant_file, tmp_path / "copy.pt", lambda document: None)
    run_static(bulk("Si", cubic=True), tmp_path / "copy.pt")


def test_elements_that_were_never_together(equivariant_file: Path, tmp_path: Path) -> None:
    rewrite(equivariant_file, tmp_path / "sets.pt", lambda d: d["info"].__setitem__("element_sets", [["Si"], ["Mo"]]))
    with pytest.raises(LammpsError, match=r"not trained on these elements together; it knows the sets \{Si\}, \{Mo\}"):
        run_static(structures()["bulk"], tmp_path / "sets.pt")
    run_static(bulk("Si", cubic=True), tmp_path / "sets.pt")


def test_later_format(equivariant_file: Path, tmp_path: Path) -> None:
    rewrite(equivariant_file, tmp_path / "later.pt", lambda d: d.__setitem__("format", 99))
    with pytest.raises(LammpsError, match=r"newer format.*mlcalc export"):
        run_static(bulk("Si", cubic=True), tmp_path / "later.pt")


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("distance", [0.0, 0.09])
def test_atoms_on_top_of_each_other(distance: float, ranks: int, equivariant_file: Path) -> None:
    atoms = bulk("Si", cubic=True) * (3, 1, 1)
    atoms.append("Si")
    atoms.positions[-1] = atoms.positions[16] + [distance, 0, 0]
    expected = rf"atom IDs 17 and 25 are on top of each other \({distance:.4f} Angstrom\) at step 0"
    with pytest.raises(LammpsError, match=expected):
        run_static(atoms, equivariant_file, ranks=ranks, in_process=False)
    atoms.positions[-1] = atoms.positions[16] + [0.11, 0, 0]
    run_static(atoms, equivariant_file, ranks=ranks, in_process=False)


def test_energies_that_are_not_numbers(models: dict[str, Potential], tmp_path: Path) -> None:
    """Forces overflow in float32 when two atoms nearly touch: an error with their IDs, on one rank and on two."""
    import copy

    broken = copy.deepcopy(models["equivariant"])
    export(broken, tmp_path / "fine.pt", dtype="float32")
    module = torch.jit.load(str(tmp_path / "fine.pt"), _extra_files=(files := {"mlcalc.json": ""}))
    document = json.loads(files["mlcalc.json"])
    for row, index in enumerate(document["info"]["elements"]):
        assert row == ("Si", "Mo").index(index)
    # The reference energy of Mo becomes infinite and the reference structure pure silicon: only a run can notice.
    for name, buffer in module.named_buffers():
        if name.endswith("reference_energies"):
            buffer[1] = float("inf")
    species = document["reference"]["species"]
    silicon = [k for k, s in enumerate(species) if s == 0]
    document["reference"].update(
        species=[0],
        edge_index=[[], []],
        edge_vectors=[],
        energies=[document["reference"]["energies"][silicon[-1]]],
        forces=[[0.0] * 3],
        virial=[0.0] * 9,
    )
    with torch.no_grad():
        lone = module(torch.zeros(1, dtype=torch.int64), torch.zeros((2, 0), dtype=torch.int64), torch.zeros((0, 3)))
    document["reference"]["energies"] = lone.double().tolist()
    torch.jit.save(module, str(tmp_path / "inf.pt"), _extra_files={"mlcalc.json": json.dumps(document)})
    atoms = structures()["bulk"]
    for ranks in (1, 2):
        with pytest.raises(LammpsError, match=r"the energy of atom ID \d+ is inf at step 0"):
            run_static(atoms, tmp_path / "inf.pt", ranks=ranks, in_process=False)


def test_errors_come_through_from_many_ranks(equivariant_file: Path, tmp_path: Path) -> None:
    lines = [*silicon_lines(tmp_path), *model_lines("nowhere.pt", atom_types(Atoms("Si")))]
    with pytest.raises(LammpsError, match=r"cannot open model file nowhere.pt"):
        run_input("\n".join(lines), tmp_path / "run", ranks=3, timeout_s=120)


def test_python_side_errors(equivariant_file: Path) -> None:
    with pytest.raises(LammpsError, match="without atoms"):
        run_static(Atoms(), equivariant_file)
    with pytest.raises(LammpsError, match="linearly dependent"):
        run_static(Atoms("Si", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), equivariant_file)
    with pytest.raises(LammpsError, match="units metal and real"):
        run_static(bulk("Si"), equivariant_file, units="lj")
    assert issubclass(PluginError, RuntimeError)
