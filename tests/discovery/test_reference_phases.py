from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import GPa

import mlcalc
from mlcalc.calculators import BatchedCalculator, MLCalculator
from mlcalc.crystals import closest_pair, find_space_group
from mlcalc.discovery.identity import energy_scale, known_weights
from mlcalc.discovery.prototypes import decorated_prototypes
from mlcalc.discovery.references import (
    ReferenceSettings,
    ReferenceStructure,
    file_structures,
    make_references,
    materials_project_structures,
)
from mlcalc.errors import WorkflowError

QUICK = ReferenceSettings(max_atoms=1, fmax=0.01, stress_tolerance_gpa=0.05)


def test_prototypes_are_decorated_in_every_distinct_way() -> None:
    found = dict(decorated_prototypes(["Mg", "O"], 2))
    rock_salt = [atoms for name, atoms in found.items() if name.endswith("(B1)")]
    assert len(rock_salt) == 1  # exchanging the elements gives the same crystal
    assert find_space_group(rock_salt[0]).number == 225
    assert rock_salt[0].get_volume() == pytest.approx(2 * (1.41 + 0.66) ** 3)
    names = Counter(atoms.get_chemical_formula(empirical=True) for atoms in found.values())
    assert names["Mg"] == names["O"] > 5
    assert all(len(atoms) <= 2 for atoms in found.values())
    for atoms in found.values():
        pair = closest_pair(atoms, 1.1)
        assert pair is not None
        assert pair.ratio == pytest.approx(1.0)
    three = dict(decorated_prototypes(["Mg", "O"], 3))
    fluorite = [atoms for name, atoms in three.items() if name.endswith("(C1)")]
    assert {a.get_chemical_formula(empirical=True) for a in fluorite} == {"MgO2", "Mg2O"}


class CountingEMT(EMT):
    """Counts its energies."""

    calls = 0

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        CountingEMT.calls += 1
        super().calculate(*arguments, **keywords)


def lowest_fcc(symbol: str) -> float:
    energies = []
    for a in np.linspace(3.4, 4.3, 181):
        atoms = bulk(symbol, "fcc", a=a)
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy())
    return min(energies)


def test_elements_are_as_low_as_a_scan_finds_them(tmp_path: Path) -> None:
    ordered = bulk("Cu", "fcc", a=3.8, cubic=True)
    ordered.symbols[[0, 1]] = "Au"
    extra = [ReferenceStructure("CuAu L1_0", "by hand", ordered)]
    start = CountingEMT.calls
    found = make_references(["Cu", "Au"], CountingEMT(), extra, settings=QUICK, folder=tmp_path)
    assert CountingEMT.calls > start
    assert found.missing == ()
    hull = found.hull()
    for symbol in ("Cu", "Au"):
        assert hull.hull_energy(symbol) == pytest.approx(lowest_fcc(symbol), abs=2e-3)
    assert {s.source: (s.offered, s.relaxed + sum(map(len, s.failures.values()))) for s in found.sources} == {
        s.source: (s.offered, s.offered) for s in found.sources
    }
    # EMT binds the ordered alloy, by about 0.04 eV an atom more than the elements.
    alloy = next(p for p in found.phases if p.name == "CuAu L1_0")
    formation = hull.formation_energy("CuAu", alloy.energy_ev_per_atom, found.scale)
    assert formation is not None
    assert formation < 0.0
    assert alloy.name in {p.name for p in hull.stable()}
    # Again: everything comes from the cache, to the last bit.
    before = CountingEMT.calls
    again = make_references(["Cu", "Au"], CountingEMT(), extra, settings=QUICK, folder=tmp_path)
    assert CountingEMT.calls == before
    assert [p.energy_ev_per_atom for p in again.phases] == [p.energy_ev_per_atom for p in found.phases]
    # Other settings are another cache.
    make_references(["Cu"], CountingEMT(), settings=ReferenceSettings(max_atoms=1, fmax=0.02), folder=tmp_path)
    assert CountingEMT.calls > before


def test_at_a_pressure_the_hull_is_one_of_enthalpies() -> None:
    settings = ReferenceSettings(max_atoms=1, pressure_gpa=20.0, fmax=0.01, stress_tolerance_gpa=0.02)
    found = make_references(["Cu"], EMT(), settings=settings)
    enthalpies = []
    for a in np.linspace(3.2, 3.7, 201):
        atoms = bulk("Cu", "fcc", a=a)
        atoms.calc = EMT()
        enthalpies.append(atoms.get_potential_energy() + 20.0 * GPa * atoms.get_volume())
    assert found.hull().hull_energy("Cu") == pytest.approx(min(enthalpies), abs=2e-3)
    with pytest.raises(WorkflowError, match="two scales"):
        found.hull().energy_above_hull("Cu", 1.0, energy_scale(EMT()))


class NoGold(EMT):
    """Knows nothing about gold."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any, **keywords: Any) -> None:
        assert atoms is not None
        if "Au" in atoms.get_chemical_symbols():
            raise NotImplementedError("no gold here")
        super().calculate(atoms, *arguments, **keywords)


def test_an_element_that_fails_is_missing_and_counted() -> None:
    found = make_references(["Cu", "Au"], NoGold(), settings=QUICK)
    assert found.missing == ("Au",)
    assert found.hull().energy_above_hull("CuAu", -1.0, found.scale) is None
    assert len(found.sources[0].failures["NotImplementedError"]) >= found.sources[0].offered // 2
    assert found.to_dict()["missing"] == ["Au"]


def test_weights_and_not_names_identify_a_potential() -> None:
    potential = mlcalc.load("mlearn", elements=["Ni"])
    one = MLCalculator(potential)
    assert known_weights(EMT()) is None
    assert len(known_weights(one) or "") == 64
    assert "PBE" in energy_scale(one).meaning
    assert (
        energy_scale(one) == energy_scale(MLCalculator(potential)) == energy_scale(BatchedCalculator(potential, None))
    )
    changed = MLCalculator(potential)
    next(iter(changed.potentials[0].parameters())).data += 1e-3
    assert energy_scale(changed) != energy_scale(one)
    assert energy_scale(MLCalculator(potential, tables=True)) != energy_scale(MLCalculator(potential))


def test_files_give_what_belongs_to_the_system(tmp_path: Path) -> None:
    from ase.io import write

    path = tmp_path / "phases.extxyz"
    frames = [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6), bulk("CuAu", "rocksalt", a=5.0)]
    frames[0].info["formation_energy_per_atom"] = 0.25
    write(path, frames)
    found = list(file_structures(path, ["Cu", "Au"]))
    assert [item.atoms.get_chemical_formula() for item in found] == ["Cu", "AuCu"]
    assert found[0].labels == {"formation_energy_per_atom": 0.25}
    with pytest.raises(WorkflowError, match="holds Cl, Na"):
        make_references(["Cu"], LennardJones(), [ReferenceStructure("salt", "x", frames[1])], settings=QUICK)


def test_the_database_names_its_extra_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mp_api", None)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(WorkflowError, match=r"mlcalc\[materials-project\]"):
        list(materials_project_structures(["Cu"]))
