"""Candidates chosen before any is relaxed: by one energy, by likelihood, by a learned score."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import GPa

sys.path.insert(0, str(Path(__file__).parent))
from _campaign_script import SETTINGS, campaign, candidates, counts

from mlcalc.discovery import CampaignSettings, run_campaign
from mlcalc.discovery._ranking import how_many, lowest_first
from mlcalc.discovery._shards import read_records
from mlcalc.errors import WorkflowError
from mlcalc.generators import Candidate, Provenance

SHORT = {**vars(SETTINGS), "phonons": 0, "mesh_phonons": 0, "dynamics": 0}


def settings(**options: Any) -> CampaignSettings:
    return CampaignSettings(**{**SHORT, **options})


def ranking(folder: Path) -> dict[int, dict[str, Any]]:
    return {r["index"]: r for r in read_records(folder / "records") if r["stage"] == "ranking"}


def energy(index: int) -> float:
    """Energy per atom of a candidate as it is."""
    atoms = next(c.atoms for k, c in enumerate(candidates()) if k == index)
    atoms.calc = EMT()
    return float(atoms.get_potential_energy()) / len(atoms)


def test_the_lowest_as_they_are_go_on_and_the_others_are_counted(tmp_path: Path) -> None:
    result = campaign(tmp_path, settings=settings(rank="energy", relax_best=2.0))
    stages = {stage.name: stage for stage in result.stages}
    assert [stage.name for stage in result.stages][2:5] == ["uniqueness", "ranking", "relaxation"]
    for before, after in zip(result.stages, result.stages[1:], strict=False):
        assert after.entered == before.passed == after.passed + sum(map(len, after.failures.values()))
    # 0 is too dense and 2 a copy of 1; the others by EMT itself.
    order = sorted((1, 3, 4, 5), key=energy)
    assert stages["ranking"].entered == 4
    assert stages["ranking"].failures == {"not among the best 2 by energy": sorted(order[2:])}
    records = ranking(tmp_path)
    assert [records[i]["place"] for i in order] == [1, 2, 3, 4]
    lowest = result.references.hull().hull_energy("Cu")
    for index, record in records.items():
        assert record["score"] == pytest.approx(energy(index) - lowest, abs=1e-9)
    assert sorted(i for stage, i in counts(tmp_path) if stage == "relaxation") == sorted(order[:2])
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["rank"] == "energy"
    assert report["cost"]["single points"]["candidates"] == 4
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not among the best 2 by energy" in page
    assert f"place 4 of {len(order)}" in page


def test_at_a_pressure_candidates_are_ranked_by_enthalpy(tmp_path: Path) -> None:
    relaxation = SETTINGS.relaxation.__class__(fmax=0.05, max_steps=100, pressure_gpa=30.0)
    campaign(tmp_path, settings=settings(rank="energy", relax_best=1.0, relaxation=relaxation))
    structures = {k: c.atoms for k, c in enumerate(candidates()) if k in (1, 3, 4, 5)}
    work = {k: 30.0 * GPa * a.get_volume() / len(a) for k, a in structures.items()}
    enthalpies = {k: energy(k) + work[k] for k in structures}
    records = ranking(tmp_path)
    first = min(enthalpies, key=lambda k: enthalpies[k])
    assert records[first]["place"] == 1
    assert records[first]["status"] == "ok"
    base = records[1]["score"] - enthalpies[1]
    for k, record in records.items():
        assert record["score"] == pytest.approx(enthalpies[k] + base, abs=1e-9)


class NoPairs(EMT):
    """Fails on the hexagonal cell of two atoms."""

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if len(atoms) == 2:
            raise ArithmeticError("two is one too many")
        super().calculate(atoms, *arguments, **keywords)


def test_who_has_no_score_comes_last_and_is_counted(tmp_path: Path) -> None:
    result = campaign(tmp_path, NoPairs, settings=settings(rank="energy", relax_best=3.0))
    stages = {stage.name: stage for stage in result.stages}
    assert stages["ranking"].failures == {"not among the best 3 by energy": [3]}
    assert ranking(tmp_path)[3]["message"] == "no score, place 4 of 4"
    failed = [
        r for r in read_records(tmp_path / "records") if r["stage"] == "single points" and r["status"] == "failed"
    ]
    assert [(r["index"], r["reason"]) for r in failed] == [(3, "ArithmeticError")]


class OnceBroken(EMT):
    """Fails as long as a file is there."""

    mark = Path()

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if self.mark.exists() and len(atoms) != 1:  # references are of one atom
            raise RuntimeError("out of memory")
        super().calculate(atoms, *arguments, **keywords)


def test_what_failed_before_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "broken"
    mark.write_text("", encoding="utf-8")
    monkeypatch.setattr(OnceBroken, "mark", mark)
    several = [Candidate(bulk("Cu", cubic=True, a=a), Provenance("hand", index=k)) for k, a in enumerate((3.5, 3.7))]

    def call() -> Any:
        return run_campaign(
            lambda: several,
            OnceBroken,
            tmp_path / "o",
            elements=("Cu",),
            settings=settings(rank="energy", relax_best=1.0, reference_atoms=1),
        )

    with pytest.raises(WorkflowError, match="the same command tries again"):
        call()
    mark.unlink()
    call()
    records = ranking(tmp_path / "o")
    assert sorted(record["status"] for record in records.values()) == ["failed", "ok"]
    assert all(record["score"] is not None for record in records.values())


def likely() -> Iterator[Candidate]:
    """Give candidates log-probabilities, for each atom 1 to 6 and the more the later."""
    for k, candidate in enumerate(candidates()):
        log = float((k + 1) * len(candidate.atoms))
        yield Candidate(candidate.atoms, Provenance("hand", index=k, log_probability=log))


def test_likelihood_counts_by_atom_and_wants_all_to_have_one(tmp_path: Path) -> None:
    options = {"elements": ("Cu",), "settings": settings(rank="likelihood", relax_best=0.5)}
    result = run_campaign(likely, EMT, tmp_path / "likely", **options)
    # Half of four, the most probable for each atom; candidate 3 has two atoms.
    assert [s.failures for s in result.stages if s.name == "ranking"] == [
        {"not among the best 2 by likelihood": [1, 3]}
    ]
    with pytest.raises(
        WorkflowError, match=r"4 of 4 candidates have no log-probability \(the first is candidate 1, of h"
    ):
        run_campaign(candidates, EMT, tmp_path / "unlikely", **options)


def test_the_learned_score_ranks_without_a_potential(tmp_path: Path) -> None:
    result = campaign(tmp_path, settings=settings(rank="stability"))
    stages = {stage.name: stage for stage in result.stages}
    assert (stages["ranking"].entered, stages["ranking"].passed) == (4, 2)  # a third, rounded up
    records = ranking(tmp_path)
    scores = [records[i]["score"] for i in sorted(records, key=lambda i: records[i]["place"])]
    assert scores == sorted(scores)
    assert np.isfinite(scores).all()
    assert not [stage for stage, _ in counts(tmp_path) if stage == "single points"]


def test_killed_while_ranking_it_goes_on(tmp_path: Path) -> None:
    chosen = settings(rank="energy", relax_best=2.0)
    whole = campaign(tmp_path / "whole", settings=chosen)
    code = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nimport _campaign_script as s\n"
        "from test_campaign_ranking import settings\n"
        "s.MortalEMT.last = ('single points', 3)\n"
        "s.campaign(Path(sys.argv[2]), settings=settings(rank='energy', relax_best=2.0))\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "killed")]
    assert subprocess.run(command, check=False, timeout=300).returncode == -9
    # Shards of two: the first is on disk.
    assert sum(stage == "single points" for stage, _ in counts(tmp_path / "killed")) == 2
    again = campaign(tmp_path / "killed", settings=chosen)
    assert ranking(tmp_path / "killed") == ranking(tmp_path / "whole")
    assert [vars(s) for s in again.stages] == [vars(s) for s in whole.stages]
    assert set(counts(tmp_path / "killed").values()) == {1}


def test_shares_numbers_and_nonsense() -> None:
    assert [how_many(best, 10) for best in (0.01, 1 / 3, 0.5, 1.0, 7.0, 50.0)] == [1, 4, 5, 1, 7, 10]
    assert lowest_first([4, 2, 7, 5], {4: 1.0, 2: None, 7: float("nan"), 5: -1.0}) == [5, 4, 2, 7]
    for wrong, message in (
        ({"rank": "beauty"}, "ranked by energy, likelihood, stability"),
        ({"relax_best": 0.5}, "relax_best needs rank"),
        ({"rank": "energy", "relax_best": 1.5}, "a share between 0 and 1, or a whole number"),
        ({"rank": "energy", "relax_best": 0.0}, "a share between 0 and 1, or a whole number"),
        ({"rank": "energy", "relax_best": float("inf")}, "a share between 0 and 1, or a whole number"),
    ):
        with pytest.raises(WorkflowError, match=message):
            settings(**wrong)


def test_elements_without_references_cannot_be_ranked_by_energy(tmp_path: Path) -> None:
    def gold() -> Iterator[Candidate]:
        yield Candidate(bulk("Au"), Provenance("hand"))

    with pytest.raises(
        WorkflowError, match="no candidate can be ranked by energy: the calculator fails on all of them"
    ):
        run_campaign(gold, EMT, tmp_path, elements=("Cu",), settings=settings(rank="energy"))
