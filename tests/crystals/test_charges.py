from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import bulk

from mlcalc.crystals.charges import is_charge_balanced, oxidation_states


@pytest.mark.parametrize(
    ("composition", "states"),
    [
        ({"Na": 1, "Cl": 1}, {"Na": 1, "Cl": -1}),
        ({"Mg": 1, "Al": 2, "O": 4}, {"Mg": 2, "Al": 3, "O": -2}),
        ({"Fe": 2, "O": 3}, {"Fe": 3, "O": -2}),
        ({"Fe": 1, "O": 1}, {"Fe": 2, "O": -2}),
        ({"Ca": 1, "Ti": 1, "O": 3}, {"Ca": 2, "Ti": 4, "O": -2}),
        ({"K": 1, "P": 1, "O": 3}, {"K": 1, "P": 5, "O": -2}),
        ({"Na": 1, "Cl": 2}, None),
        ({"Fe": 3, "O": 4}, None),  # mixed valence: 8/3
        ({"Si": 1}, None),
    ],
)
def test_states_of_the_textbook(composition: dict[str, int], states: dict[str, int] | None) -> None:
    assert oxidation_states(composition) == states


def test_anions_are_the_more_electronegative() -> None:
    states = oxidation_states({"Cl": 1, "O": 1, "Na": 1, "H": 1})
    if states is not None:
        assert states["O"] < 0 < states["Na"]
    # Neutral on paper (N 3+, C 4-) with the charges the wrong way round is no solution.
    assert oxidation_states({"O": 1, "F": 2}) is None


def test_balanced_compositions() -> None:
    assert is_charge_balanced(bulk("Cu"))
    assert is_charge_balanced(bulk("NaCl", "rocksalt", a=5.64) * (2, 1, 1))
    assert is_charge_balanced(Atoms("CuZn", cell=[3, 3, 3], pbc=True))
    assert not is_charge_balanced(Atoms("NaCl2", cell=[4, 4, 4], pbc=True))
