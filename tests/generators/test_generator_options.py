"""Candidates say with which options of their generator they were drawn."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from mlcalc.generators import GENERATORS, Constraints, Provenance, make_generator, read_candidates, write_candidates
from mlcalc.generators.design import Designer, DesignSettings

# None of them the default.
OPTIONS: dict[str, dict[str, Any]] = {
    "flow": {
        "steps": 3,
        "slope": 8.0,
        "min_distance": 0.3,
        "guidance": 1.5,
        "temperature": 0.9,
        "symprec": 0.05,
        "attempts": 40,
    },
    "gan": {"min_distance": 0.5, "symprec": 0.05, "attempts": 70},
    "random": {"min_distance": 0.8, "volume_range": [1.5, 3.5], "geometries": 30, "choices": 40},
    "substitution": {"charge_balance": False, "min_distance": 0.6, "attempts": 150},
    "vae": {"min_distance": 0.5, "symprec": 0.05, "attempts": 70},
    "wyckoff": {
        "min_distance": 0.6,
        "guidance": 1.5,
        "attempts": 70,
        "temperature": 0.9,
        "geometry_temperature": 0.8,
        "energy_above_hull": 0.05,
        "known": True,
    },
}
# These are told by ``model_hash``.
MODEL = {"flow": {"weights"}, "gan": {"weights"}, "vae": {"weights"}, "wyckoff": {"weights"}} | {
    "random": set(),
    "substitution": {"prototypes", "symprec"},
}


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_candidates_say_with_which_options_they_were_drawn(name: str, tmp_path: Path) -> None:
    generator = make_generator(name, **OPTIONS[name])
    taken = inspect.signature(type(generator)).parameters
    assert set(OPTIONS[name]) == set(taken) - MODEL[name]
    assert all(OPTIONS[name][option] != taken[option].default for option in OPTIONS[name])
    constraints = Constraints(elements=("Sr", "Ti", "O"), n_atoms=(5, 5))
    write_candidates(tmp_path / "one.extxyz", generator.sample(1, constraints, seed=0))
    (candidate,) = read_candidates(tmp_path / "one.extxyz")
    assert candidate.provenance.details["options"] == OPTIONS[name] == generator.options()


def test_designs_and_lines_say_it_too() -> None:
    designer = Designer(None, DesignSettings(2, 1, 4, 1), min_distance=0.3, symprec=0.05)
    (found,) = designer.design({"heat_all": (-5.0, 5.0)}, 1)
    assert found.provenance.details["options"] == {
        "min_distance": 0.3,
        "symprec": 0.05,
        "attempts": 100,
        "gradient_steps": 2,
        "generations": 1,
        "population": 4,
        "rounds": 1,
    }
    line, _ = designer.generator.interpolate(found.atoms, found.atoms, 2)
    assert line[0].provenance.details["options"] == designer.generator.options()


def test_files_of_earlier_versions_are_read() -> None:
    old = {"generator": "flow", "seed": 1, "index": 0, "model_hash": "0" * 16, "details": {"rejected": 0, "steps": 30}}
    provenance = Provenance.from_dict(json.loads(json.dumps(old)))
    assert provenance.details == {"rejected": 0, "steps": 30}
