from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.errors import GeneratorError
from mlcalc.generators import Candidate, Constraints, Provenance, make_generator, read_candidates, write_candidates


@pytest.fixture
def candidates() -> list[Candidate]:
    return list(make_generator("random").sample(4, Constraints(elements=("Al", "Cu"), n_atoms=(2, 6)), seed=1))


@pytest.mark.parametrize("name", ["some/c.extxyz", "cifs"])
def test_round_trip(candidates: list[Candidate], tmp_path: Path, name: str) -> None:
    assert write_candidates(tmp_path / name, candidates) == 4
    back = list(read_candidates(tmp_path / name))
    for one, two in zip(candidates, back, strict=True):
        assert one.provenance == two.provenance
        assert sorted(one.atoms.symbols) == sorted(two.atoms.symbols)
        # CIF keeps lengths and angles, not the orientation of the cell.
        assert two.atoms.cell.cellpar() == pytest.approx(one.atoms.cell.cellpar(), abs=1e-3)
        order = [np.argsort(c.atoms.numbers, kind="stable") for c in (one, two)]
        d1 = one.atoms.get_all_distances(mic=True)[np.ix_(order[0], order[0])]
        d2 = two.atoms.get_all_distances(mic=True)[np.ix_(order[1], order[1])]
        assert d2 == pytest.approx(d1, abs=1e-2)


def test_extended_xyz_is_plain_for_ase_and_loses_no_digits(candidates: list[Candidate], tmp_path: Path) -> None:
    path = tmp_path / "c.extxyz"
    write_candidates(path, candidates)
    frames = ase.io.read(path, ":")
    assert [f.info["space_group"] for f in frames] == [c.provenance.found_space_group for c in candidates]
    for frame, candidate in zip(frames, candidates, strict=True):
        assert frame.positions == pytest.approx(candidate.atoms.positions, abs=1e-7)
        assert "mlcalc_provenance" in frame.info


def test_any_structure_file_is_a_source_of_candidates(tmp_path: Path) -> None:
    atoms = bulk("Cu")
    atoms.calc = EMT()
    ase.io.write(tmp_path / "POSCAR.vasp", atoms)
    (found,) = read_candidates(tmp_path / "POSCAR.vasp")
    assert found.provenance == Provenance("file", details={"file": str(tmp_path / "POSCAR.vasp")})
    assert found.atoms.get_volume() == pytest.approx(atoms.get_volume())


def test_missing_empty_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="no such file"):
        list(read_candidates(tmp_path / "nothing.extxyz"))
    with pytest.raises(GeneratorError, match="without CIF"):
        list(read_candidates(tmp_path))
    (tmp_path / "broken.cif").write_text("not a crystal", encoding="utf-8")
    with pytest.raises(GeneratorError, match=r"broken\.cif: cannot be read"):
        list(read_candidates(tmp_path))


def test_an_error_while_sampling_leaves_no_half_file(candidates: list[Candidate], tmp_path: Path) -> None:
    def some() -> object:
        yield candidates[0]
        raise GeneratorError("out of ideas")

    with pytest.raises(GeneratorError, match="out of ideas"):
        write_candidates(tmp_path / "c.extxyz", some())  # type: ignore[arg-type]
    assert not (tmp_path / "c.extxyz").exists()


@pytest.mark.parametrize("name", ["c.extxyz", "cifs"])
@pytest.mark.parametrize(
    "words", ['a "quoted" name', r"C:\new\table", "Ångström/josé", "two\nlines", "100 %25", "[1, 2]", "{}"]
)
def test_provenance_of_any_words_comes_back(candidates: list[Candidate], tmp_path: Path, words: str, name: str) -> None:
    told = Provenance("file", details={"file": words, words: [words, 1.5, None, True]})
    write_candidates(tmp_path / name, [Candidate(candidates[0].atoms, told)])
    (back,) = read_candidates(tmp_path / name)
    assert back.provenance == told
