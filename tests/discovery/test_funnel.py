from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.discovery import FunnelResult, FunnelSettings, run_funnel
from mlcalc.discovery.records import Journal
from mlcalc.errors import NonFiniteError, WorkflowError
from mlcalc.generators import Candidate, Constraints, Provenance, make_generator


class FailingEMT(EMT):
    """Refuses three-atom cells with an error, dies on five-atom cells without one."""

    def calculate(self, atoms: Atoms | None = None, *args: object, **kwargs: object) -> None:
        assert atoms is not None
        if len(atoms) == 3:
            raise NonFiniteError("three is one too many")
        if len(atoms) == 5:
            os._exit(1)
        super().calculate(atoms, *args, **kwargs)


def copper(n: int = 8, seed: int = 1, largest: int = 4) -> list[Candidate]:
    constraints = Constraints(elements=("Cu",), n_atoms=(1, largest))
    return list(make_generator("random").sample(n, constraints, seed))


def by_hand(*structures: Atoms) -> list[Candidate]:
    return [Candidate(atoms, Provenance("hand", index=k)) for k, atoms in enumerate(structures)]


def comparable(result: FunnelResult) -> dict:
    values = result.to_dict()
    for row in values["relaxed"] + values["ranked"]:
        del row["wall_time_s"]
    return values


def test_copper_comes_out_close_packed(tmp_path: Path) -> None:
    result = run_funnel(copper, EMT, tmp_path)
    best = result.ranked[0].best
    fcc = bulk("Cu", a=3.59)
    fcc.calc = EMT()
    # EMT puts fcc and hcp copper within 1 meV per atom, at -0.007 eV.
    assert best.energy_ev_per_atom <= fcc.get_potential_energy() + 1e-3
    assert {225, 194} & {r.best.space_group for r in result.ranked[:2]}
    energies = [r.best.enthalpy_ev_per_atom for r in result.ranked]
    assert energies == sorted(energies)
    assert sorted(k for r in result.ranked for k in r.members) == [r.index for r in result.relaxed]
    json.dumps(result.to_dict(), allow_nan=False)


def test_nothing_leaves_the_denominator(tmp_path: Path) -> None:
    close = bulk("Cu", a=1.5)
    good, same = bulk("Cu", a=3.7), bulk("Cu", a=3.5, cubic=True)
    trio = bulk("Cu") * (3, 1, 1)
    result = run_funnel(lambda: by_hand(close, good, trio, same), FailingEMT, tmp_path)
    stages = {s.name: s for s in result.stages}
    assert stages["generated"].passed == 4
    assert (stages["valid distances"].entered, stages["valid distances"].passed) == (4, 3)
    assert stages["valid distances"].failures == {"atoms too close": [0]}
    assert (stages["relaxed"].entered, stages["relaxed"].passed) == (3, 2)
    assert stages["relaxed"].failures == {"NonFiniteError": [2]}
    assert (stages["distinct"].entered, stages["distinct"].passed) == (2, 1)
    assert result.ranked[0].members == (1, 3)
    for before, after in zip(result.stages, result.stages[1:], strict=False):
        assert before.passed == after.entered
        assert after.entered == after.passed + sum(len(v) for v in after.failures.values())


def test_more_crowded_than_the_training_data_is_not_ranked(tmp_path: Path) -> None:
    settings = FunnelSettings(trusted_neighbors_ang=(2.0,) * 8 + (2.6,))  # copper has twelve, 2.54 Å away
    long, short = bulk("Cu", "sc", a=4.0), bulk("Cu", a=3.6)
    result = run_funnel(lambda: by_hand(short), EMT, tmp_path, settings=settings)
    assert result.stages[3].failures == {"more crowded than the training data": [0]}
    assert result.ranked == ()
    record = json.loads((tmp_path / "records.jsonl").read_text(encoding="utf-8"))
    assert re.match(r"neighbour 9 of an atom 0\.0[56]\d Å closer", record["message"])
    loose = FunnelSettings(trusted_neighbors_ang=(2.3,) * 12)
    assert len(run_funnel(lambda: by_hand(long, short), EMT, tmp_path / "loose", settings=loose).relaxed) == 2


class GradedEMT(EMT):
    """EMT that was trained at less than 13 Å³ per atom, in the way calculators with grades tell it."""

    implemented_properties = (*EMT.implemented_properties, "extrapolation_grades")

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        self.results["extrapolation_grades"] = np.full(len(self.atoms), self.atoms.get_volume() / len(self.atoms) / 13)


def test_beyond_the_training_data_is_listed_and_not_ranked(tmp_path: Path) -> None:
    candidates = [bulk("Cu", a=3.6), bulk("Cu", "sc", a=2.4), bulk("Cu", "bcc", a=2.9)]
    settings = FunnelSettings(largest_grade=1.0)
    result = run_funnel(lambda: by_hand(*candidates), GradedEMT, tmp_path, settings=settings)
    assert result.stages[3].failures == {"beyond the training data": [1]}
    assert [e.candidate.index for e in result.extrapolated] == [1]
    outside = result.extrapolated[0].candidate
    assert outside.grade == pytest.approx(outside.volume_ang3_per_atom / 13)
    assert outside.grade > 1.0
    assert 1 not in [k for r in result.ranked for k in r.members]
    assert all(r.best.grade is not None and r.best.grade < 1.0 for r in result.ranked)
    assert result.to_dict()["extrapolated"][0]["reason"] == "beyond the training data"
    everything = run_funnel(lambda: by_hand(*candidates), GradedEMT, tmp_path / "all")
    assert everything.extrapolated == ()


def test_not_converged_is_a_failure_with_a_name(tmp_path: Path) -> None:
    result = run_funnel(
        lambda: by_hand(bulk("Cu", a=4.2)), EMT, tmp_path, settings=FunnelSettings(max_steps=1, fmax=1e-4)
    )
    assert result.stages[2].failures == {"not converged": [0]}
    assert result.ranked == ()


def test_pressure_ranks_by_enthalpy(tmp_path: Path) -> None:
    result = run_funnel(copper, EMT, tmp_path, settings=FunnelSettings(pressure_gpa=30.0))
    free = run_funnel(copper, EMT, tmp_path / "free")
    best = result.ranked[0].best
    assert best.volume_ang3_per_atom < free.ranked[0].best.volume_ang3_per_atom - 0.5
    work = 30.0 / 160.21766 * best.volume_ang3_per_atom
    assert best.enthalpy_ev_per_atom - best.energy_ev_per_atom == pytest.approx(work, rel=1e-6)


def test_workers_and_a_calculator_that_kills_its_process(tmp_path: Path) -> None:
    five = bulk("Cu") * (5, 1, 1)
    cells = [bulk("Cu", a=3.55 + 0.02 * k) for k in range(4)]
    result = run_funnel(lambda: by_hand(*cells[:2], five, *cells[2:]), FailingEMT, tmp_path, workers=2)
    assert result.stages[2].failures == {"worker died": [2]}
    assert [r.index for r in result.relaxed] == [0, 1, 3, 4]
    alone = run_funnel(lambda: by_hand(*cells), EMT, tmp_path / "alone")
    assert [r.energy_ev_per_atom for r in alone.relaxed] == pytest.approx(
        [r.energy_ev_per_atom for r in result.relaxed], abs=1e-9
    )


SCRIPT = """
import sys
from ase.calculators.emt import EMT
from mlcalc.discovery import run_funnel
from mlcalc.generators import Constraints, make_generator
import time
class Slow(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(0.02)
        super().calculate(*args, **kwargs)
copper = Constraints(elements=("Cu",), n_atoms=(1, 4))
run_funnel(lambda: make_generator("random").sample(8, copper, 1), Slow, sys.argv[1])
"""


def test_killed_it_goes_on_and_does_nothing_twice(tmp_path: Path) -> None:
    records = tmp_path / "killed" / "records.jsonl"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(records.parent)])
    deadline = time.monotonic() + 120
    while not (records.exists() and records.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with records.open("ab") as file:
        file.write(b'{"index": 99, "stage": "relax')  # a line cut short
    kept = records.read_bytes().count(b"\n")
    assert 3 <= kept < 8

    calls = []

    def counted() -> EMT:
        calls.append(1)
        return EMT()

    def never() -> Iterator[Candidate]:
        raise AssertionError("candidates are on disk already")

    resumed = run_funnel(never, counted, records.parent)
    indices = [json.loads(line)["index"] for line in records.read_text(encoding="utf-8").splitlines()]
    assert sorted(indices) == list(range(8))
    unbroken = run_funnel(copper, EMT, tmp_path / "unbroken")
    assert comparable(resumed) == comparable(unbroken)
    before = records.read_bytes()
    assert comparable(run_funnel(never, counted, records.parent)) == comparable(unbroken)
    assert records.read_bytes() == before
    assert len(calls) == 1


def test_another_campaign_in_the_folder_is_an_error(tmp_path: Path) -> None:
    run_funnel(lambda: by_hand(bulk("Cu")), EMT, tmp_path, description={"seed": 1})
    with pytest.raises(WorkflowError, match="seed was 1, now 2"):
        run_funnel(lambda: by_hand(bulk("Cu")), EMT, tmp_path, description={"seed": 2})
    with pytest.raises(WorkflowError, match=r"fmax was 0\.02, now 0\.05"):
        run_funnel(
            lambda: by_hand(bulk("Cu")), EMT, tmp_path, description={"seed": 1}, settings=FunnelSettings(fmax=0.05)
        )


def test_journal_keeps_whole_lines_and_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append({"a": 1})
        with pytest.raises(WorkflowError, match="in use"):
            Journal(path)
        with pytest.raises(ValueError, match=r"[Oo]ut of range float"):
            journal.append({"a": float("nan")})
    with path.open("ab") as file:
        file.write(b'{"a": 2')
    with Journal(path) as journal:
        assert journal.records == [{"a": 1}]
        journal.append({"a": 3})
    with Journal(path) as journal:
        assert journal.records == [{"a": 1}, {"a": 3}]
    path.write_bytes(b'{"a": 1}\n{"a\n{"a": 3}\n')
    with pytest.raises(WorkflowError, match="line 2"):
        Journal(path)


def test_empty_campaign(tmp_path: Path) -> None:
    result = run_funnel(list, EMT, tmp_path)
    assert result.ranked == ()
    assert [s.entered for s in result.stages] == [0] * len(result.stages)
