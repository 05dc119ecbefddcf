from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlcalc.crystals import Codec, make_codec
from mlcalc.crystals.bond_string import atoms_of_net, parse_bond_string
from mlcalc.crystals.codec import full_sites
from mlcalc.crystals.periodic_net import PeriodicNet
from mlcalc.errors import CodecError


class Volume(Codec):
    """Cells of one atom as their edge."""

    name = "volume"
    shape = (1,)

    def encode(self, atoms: Atoms) -> np.ndarray:
        full_sites(atoms)
        return np.array([atoms.get_volume() ** (1 / 3)], np.float32)

    def decode(self, array: np.ndarray) -> Atoms:
        (edge,) = self._check(array)
        return Atoms("Po", cell=[edge] * 3, pbc=True)

    def options(self) -> dict[str, Any]:
        return {}


def test_arrays_are_checked() -> None:
    codec = Volume()
    assert codec.to_dict() == {"name": "volume"}
    assert codec.decode(codec.encode(bulk("Po", "sc", a=3.4))).cell.lengths() == pytest.approx(3.4)
    with pytest.raises(CodecError, match=r"of shape \(1,\), not \(2,\)"):
        codec.decode(np.zeros(2))
    with pytest.raises(CodecError, match="1 of 1 numbers of the array are not finite"):
        codec.decode(np.array([np.nan]))
    with pytest.raises(CodecError, match="unknown codec 'volume'"):
        make_codec(codec.to_dict())


def test_what_is_no_crystal_with_full_sites() -> None:
    full_sites(bulk("Si"))
    whole = bulk("NaCl", "rocksalt", a=5.6)
    whole.info["occupancy"] = {"0": {"Na": 1.0}, "1": {"Cl": 1.0}}
    full_sites(whole)
    partial = bulk("NaCl", "rocksalt", a=5.6)
    partial.info["occupancy"] = {"0": {"Na": 0.7, "K": 0.3}, "1": {"Cl": 1.0}}
    with pytest.raises(CodecError, match=r"site kind 0 is partly occupied \(Na 0\.7, K 0\.3\); make an ordered cell"):
        full_sites(partial)
    partial.info["occupancy"] = {"0": {"Na": 0.7}}
    with pytest.raises(CodecError, match="partly occupied"):
        full_sites(partial)
    with pytest.raises(CodecError, match="without atoms"):
        full_sites(Atoms(cell=[4, 4, 4], pbc=True))
    for atoms in (molecule("H2O"), Atoms("He", pbc=True), Atoms("He", cell=[4, 4, 4], pbc=(True, True, False))):
        with pytest.raises(CodecError, match="periodic along three axes"):
            full_sites(atoms)
    far = bulk("Si")
    far.positions[0, 0] = np.inf
    with pytest.raises(CodecError, match="finite"):
        full_sites(far)


@pytest.mark.parametrize(
    "description",
    [
        {"name": "bond"},
        {"name": ["bond"]},
        {"name": "coordinate", "elements": ["H"], "max_atoms": "x"},
        {"name": "density", "elements": ["H"], "colour": 1},
    ],
)
def test_descriptions_of_no_codec(description: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match=r"cannot be made of|unknown codec"):
        make_codec(description)


def test_numbers_of_any_size_are_crystals_or_refused() -> None:
    rng = np.random.default_rng(0)
    options = {"elements": ("H", "O"), "max_atoms": 3}
    refused = 0
    for size in (1e-3, 1.0, 1e3, 1e8, 1e160):
        for name in ("bond", "coordinate", "density"):
            codec = make_codec({"name": name, **options})
            for _ in range(3):
                try:
                    codec.decode(rng.normal(scale=size, size=codec.shape))
                except CodecError:
                    refused += 1
    assert refused > 20


def test_bonds_of_impossible_or_too_many_atoms() -> None:
    with pytest.raises(CodecError, match=r"a bond of 0\.001 Å is none"):
        atoms_of_net(parse_bond_string("H H 0 1 ooo@0.001 0 1 +oo@0.001 0 1 o+o@0.001 0 1 oo+@3"))
    many = PeriodicNet(("H",) * 200, np.array([[0, 0]] * 3), np.eye(3, dtype=int), np.ones(3), np.zeros(3, bool))
    with pytest.raises(CodecError, match="200 atoms are too many"):
        atoms_of_net(many)
