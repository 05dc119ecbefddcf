from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from mlcalc.crystals.io import LabelledCrystal
from mlcalc.crystals.matching import match_error
from mlcalc.discovery._benchmark_hull import published_hull, reference_hull
from mlcalc.discovery._benchmark_ranking import rankings
from mlcalc.discovery._benchmark_report import markdown, write_benchmark
from mlcalc.discovery._benchmark_statistics import Profile, share
from mlcalc.discovery.benchmark import BenchmarkResult, BenchmarkSettings, Free, from_list, run_benchmark
from mlcalc.discovery.novelty import KnownCrystals
from mlcalc.errors import GeneratorError, WorkflowError
from mlcalc.generators import Constraints
from mlcalc.generators.random import RandomGenerator
from mlcalc.workflows import WorkflowWarning

SETTINGS = BenchmarkSettings(number=6, per_condition=3, resamples=200, max_steps=60)


def fcc(symbol: str, a: float) -> Atoms:
    return bulk(symbol, "fcc", a=a)


def training() -> list[Atoms]:
    return [fcc("Cu", 3.6), fcc("Al", 4.05), fcc("Ni", 3.5), fcc("Ag", 4.1), fcc("Au", 4.1), fcc("Pt", 3.95)]


class Six:
    """Six crystals of which all is known, in the order in which they are asked for; the last is never given."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, constraints: Constraints, count: int, seed: int) -> Iterator[Atoms]:
        self.calls += 1
        if seed == 0:
            yield fcc("Cu", 3.7)  # known
            yield bulk("Cu", "fcc", a=3.6, cubic=True)  # the same crystal, in another cell and closer to rest
            yield bulk("NiAl", "cesiumchloride", a=2.9)  # new
        else:
            yield Atoms("Cu", cell=[1.2, 4.0, 4.0], pbc=True)  # too close to its own image
            yield Atoms("AuCu3", cell=[3.75] * 3, scaled_positions=FCC, pbc=True)  # new
            raise GeneratorError("no more")


FCC = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkResult, Path, Six]:
    folder = tmp_path_factory.mktemp("benchmark")
    source = Six()

    def hull(atoms: Atoms, energy: float) -> float | None:
        """Ni-Al is stable, Cu 0.05 eV/atom above the hull, that of Au-Cu unknown."""
        return {"AlNi": 0.0, "Cu": 0.05}.get(atoms.symbols.formula.reduce()[0].format("hill"))

    return run_benchmark({"six": source}, training(), EMT(), folder, settings=SETTINGS, hull=hull), folder, source


def test_every_share_has_all_that_was_asked_for_below_it(benchmark: tuple[BenchmarkResult, Path, Six]) -> None:
    six, known = benchmark[0].rows
    assert six.asked == 6
    before = {key: round(6 * interval.value, 9) for key, interval in six.before.items()}
    # Too close: valid in nothing. The two copper crystals differ by 8 % in volume, so both are there once.
    assert before == {
        "generated": 5,
        "valid_structure": 4,
        "charge_balanced": 5,
        "valid": 4,
        "unique": 4,
        "novel": 2,
        "unique_novel": 2,
        "symmetric": 4,
    }
    after = {key: round(6 * interval.value, 9) for key, interval in six.after.items()}
    # Relaxed, the two are one.
    assert after["converged"] == 4
    assert after["unique"] == 3
    assert after["novel"] == after["unique_novel"] == 2
    assert after["stable"] == after["stable_unique_novel"] == 1
    assert after["metastable"] == 3
    assert after["metastable_unique_novel"] == 1
    assert six.hull_unknown == 1
    assert six.failures == {"atoms too close": 1, "not generated: no more": 1}
    assert six.cost_s == pytest.approx(six.generation_s + six.relaxation_s)
    for interval in (*six.before.values(), *six.after.values()):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    # By one energy and by the learned score; this source knows no likelihood.
    assert [(r.by, r.relaxations) for r in six.rankings] == [
        ("all", 4),
        ("new as generated", 2),
        ("best 33 % by single-point energy above hull", 1),
        ("best 33 % by learned stability", 1),
    ]
    assert known.name == "training set"
    assert known.after["converged"].value == 1
    assert known.after["novel"].value == 0
    assert known.distance_before["elements_tv"] == 0  # all six, each once


def test_a_killed_benchmark_goes_on(benchmark: tuple[BenchmarkResult, Path, Six], tmp_path: Path) -> None:
    result, folder, source = benchmark
    assert source.calls == 2
    lines = (folder / "six.jsonl").read_text(encoding="utf-8").splitlines()
    for name in ("campaign.json", "training_set.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    # Killed after the first relaxation, in the middle of a line.
    (tmp_path / "six.jsonl").write_text("\n".join(lines[:3]) + "\n" + lines[3][:40], encoding="utf-8")
    again = run_benchmark({"six": source}, training(), EMT(), tmp_path, settings=SETTINGS)
    assert source.calls == 2
    assert again.rows[0].before == result.rows[0].before
    assert again.rows[0].after == {k: v for k, v in result.rows[0].after.items() if "stable" not in k}
    with pytest.raises(WorkflowError, match="another campaign: seed was 0, now 1"):
        run_benchmark({"six": source}, training(), EMT(), tmp_path, settings=replace(SETTINGS, seed=1))


def test_with_and_without_relaxing_are_two_benchmarks(
    benchmark: tuple[BenchmarkResult, Path, Six], tmp_path: Path
) -> None:
    """Folders of before there was a choice were relaxed, and go on."""
    _, folder, source = benchmark
    for name in ("campaign.json", "six.jsonl", "training_set.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    claim = tmp_path / "campaign.json"
    document = json.loads(claim.read_text(encoding="utf-8"))
    assert document["settings"].pop("relax") is True
    claim.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(WorkflowError, match="another campaign: relax was True, now False"):
        run_benchmark({"six": source}, training(), None, tmp_path, settings=replace(SETTINGS, relax=False))
    run_benchmark({"six": source}, training(), EMT(), tmp_path, settings=SETTINGS)
    assert source.calls == 2  # nothing anew
    assert json.loads(claim.read_text(encoding="utf-8"))["settings"]["relax"] is True


def test_files_say_the_same(benchmark: tuple[BenchmarkResult, Path, Six], tmp_path: Path) -> None:
    paths = write_benchmark(benchmark[0], tmp_path)
    document = json.loads(paths[0].read_text(encoding="utf-8"))
    assert document["rows"][0]["after"]["stable"]["value"] == pytest.approx(1 / 6)
    page = markdown(benchmark[0])
    assert paths[1].read_text(encoding="utf-8") == page
    assert "| six | 83.3 [" in page
    assert "- six, atoms too close: 1" in page
    assert paths[2].read_bytes()[:4] == b"\x89PNG"


def test_targets_are_found_or_not(tmp_path: Path) -> None:
    targets = [fcc("Cu", 3.62), bulk("NiAl", "cesiumchloride", a=2.88)]
    asked: list[Constraints] = []

    def source(constraints: Constraints, count: int, seed: int) -> list[Atoms]:
        asked.append(constraints)
        if constraints.formula == "Cu":
            return [fcc("Cu", 3.9), bulk("Cu", "diamond", a=5.4)][:count]
        return [Atoms("NiAl", cell=[2.5, 2.5, 9.0], scaled_positions=[(0, 0, 0), (0, 0, 0.3)], pbc=True)]

    settings = BenchmarkSettings(number=4, per_condition=2, resamples=100, max_steps=1)
    row, known = run_benchmark({"some": source}, training(), EMT(), tmp_path, settings=settings, targets=targets).rows
    assert [(c.formula, c.n_atoms) for c in asked] == [("Cu", (1, 1)), ("AlNi", (2, 2))]
    assert row.match_before is not None
    assert row.match_before.value == 0.5
    assert row.match_rms_before == pytest.approx(0.0, abs=1e-6)
    assert known.match_before is None
    assert row.failures["not generated: too few"] == 1


def test_without_relaxing_all_is_judged_as_generated(tmp_path: Path) -> None:
    """No calculator is looked at; what would be said of relaxed crystals is not said."""
    targets = [fcc("Cu", 3.62), bulk("NiAl", "cesiumchloride", a=2.88)]

    def source(constraints: Constraints, count: int, seed: int) -> list[Atoms]:
        return [fcc("Cu", 3.9), bulk("Cu", "diamond", a=5.4)][:count] if constraints.formula == "Cu" else []

    settings = BenchmarkSettings(number=4, per_condition=2, resamples=100, relax=False)
    result = run_benchmark({"some": source}, training(), None, tmp_path, settings=settings, targets=targets)
    row = result.rows[0]
    assert row.match_before is not None
    assert row.match_before.value == 0.5
    assert (row.match_after, row.after, row.rankings, row.relaxation_s) == (None, {}, (), 0.0)
    assert row.before["unique_novel"].value == 0.25  # diamond; fcc copper is known
    assert row.failures == {"not generated: too few": 2}
    page = markdown(result)
    assert "| some | 50.0 [" in page
    assert "elaxation" not in page.split("## Cost")[0]
    assert all(path.exists() for path in write_benchmark(result, tmp_path))
    with pytest.raises(WorkflowError, match="those of relaxed crystals"):
        run_benchmark({}, training(), None, tmp_path, settings=settings, hull=lambda atoms, energy: 0.0)


def test_bootstrap_of_independent_entries_is_binomial() -> None:
    """Mean and width of 400 entries with 30 % hits: the standard error of a share is sqrt(p (1 - p) / n)."""
    hits = [k % 10 < 3 for k in range(400)]
    found = share(hits, list(range(400)), resamples=4000, seed=1)
    assert found.value == pytest.approx(0.3)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.value - found.low == pytest.approx(half, rel=0.1)
    # Ten alike in each group: as few independent entries as groups.
    grouped = share([k % 100 < 30 for k in range(400)], [k // 10 for k in range(400)], resamples=4000, seed=1)
    assert grouped.high - grouped.value == pytest.approx(half * np.sqrt(10), rel=0.15)


def test_no_hit_in_n_leaves_room_for_some() -> None:
    """The exact binomial bound: 1 - 0.025^(1/n)."""
    found = share([False] * 20, list(range(20)), resamples=100, seed=0)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_distances_between_sets() -> None:
    one = Profile.of([fcc("Cu", 4.0)] * 2, 0.1)
    two = Profile.of([fcc("Cu", 4.0), bulk("Zn", "hcp", a=2.66, c=4.95)], 0.1)
    found = one.distances(two)
    assert found["crystal_systems_tv"] == pytest.approx(0.5)
    assert found["elements_tv"] == pytest.approx(0.5)
    zinc = 2.66**2 * 4.95 * np.sqrt(3) / 4  # Å³ per atom
    assert found["volume_ang3_per_atom_w"] == pytest.approx(abs(zinc - 16.0) / 2)
    assert found["number_of_atoms_w"] == pytest.approx(0.5)
    assert all(np.isnan(list(one.distances(Profile.of([], 0.1)).values())))


def test_matches() -> None:
    known = KnownCrystals([bulk("NaCl", "rocksalt", a=5.64)])
    assert bulk("NaCl", "rocksalt", a=5.4, cubic=True) in known
    assert bulk("NaCl", "cesiumchloride", a=3.4) not in known
    assert bulk("KCl", "rocksalt", a=5.64) not in known
    # One of two atoms moved by d: with the mean taken off, both are d/2 away, in units of (a³/8)^(1/3).
    target = bulk("NaCl", "rocksalt", a=5.64)
    moved = target.copy()
    moved.positions[0, 0] += 0.4
    assert match_error(moved, target) == pytest.approx(0.2 / 2.82, rel=1e-3)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcalc.cli import app

    monkeypatch.chdir(tmp_path)
    ase.io.write("mine.extxyz", [fcc("Cu", 3.7), bulk("NiAl", "cesiumchloride", a=2.9)])
    line = "benchmark-generator random --training known.jsonl --candidates mine.extxyz -n 2 --per-condition 1"
    published(Path("published.jsonl"))
    with Path("known.jsonl").open("w", encoding="utf-8") as file:
        for atoms, name in ((ORDERED, "one"), (fcc("Cu", 3.6), "Cu"), (fcc("Ni", 3.5), "nickel")):
            row = {"id": name, "cell": atoms.cell.tolist(), "species": list(atoms.symbols)}
            file.write(json.dumps({**row, "frac": atoms.get_scaled_positions().tolist()}) + "\n")
    line += " --max-atoms 2 --calculator ase.calculators.emt:EMT --max-steps 30 --out b --hull published.jsonl"
    done = CliRunner().invoke(app, line.split(), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    rows = json.loads(Path("b/benchmark.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["random", "mine", "training set"]
    assert rows[0]["asked"] == 2
    assert rows[1]["before"]["novel"]["value"] == 0.5
    assert Path("b/benchmark.md").exists()
    assert rows[1]["hull_unknown"] == 1  # Ni-Al: the file knows neither
    assert rows[2]["after"]["metastable"]["value"] >= 0.5
    assert "metastable" in done.output
    assert "published formation energies" in done.output
    bare = line.split(" --calculator")[0] + " --no-relax --out c"
    done = CliRunner().invoke(app, bare.split(), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "relaxed" not in done.output
    refused = CliRunner().invoke(app, [*bare.split(), "--hull", "published.jsonl"])
    assert "no potential and no hull" in str(refused.exception)
    refused = CliRunner().invoke(app, [*bare.split(), "--weights", "flow-perov"])
    assert "--weights flow-perov are those of flow: name this generator" in str(refused.exception)


def test_the_command_goes_on_with_the_same_sources_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcalc.cli import app, benchmark_generator

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark_generator, "_draw", lambda made: lambda constraints, count, seed: [fcc("Cu", 3.7)])
    ase.io.write("known.extxyz", training())
    ase.io.write("mine.extxyz", [fcc("Cu", 3.7), bulk("NiAl", "cesiumchloride", a=2.9)])
    line = "benchmark-generator random --training known.extxyz --candidates mine.extxyz -n 2 --no-relax --out b"

    def again() -> str:
        return str(CliRunner().invoke(app, line.split()).exception)

    assert again() == again() == "None"
    ase.io.write("mine.extxyz", [fcc("Cu", 3.7), bulk("NiAl", "cesiumchloride", a=3.0)])
    assert "holds another campaign: files, mine was '2 crystals, " in again()
    ase.io.write("mine.extxyz", [fcc("Cu", 3.7), bulk("NiAl", "cesiumchloride", a=2.9)])
    options = RandomGenerator().options()
    with monkeypatch.context() as patch:
        patch.setattr(RandomGenerator, "options", lambda self: {**options, "choices": 7})
        assert "holds another campaign: options, random, choices was 50, now 7" in again()
    # A folder of a version that noted neither goes on, says so, and is bound from then on.
    claim = Path("b/campaign.json")
    document = json.loads(claim.read_text(encoding="utf-8"))
    for key in ("files", "options"):
        del document["description"][key]
    claim.write_text(json.dumps(document), encoding="utf-8")
    with pytest.warns(WorkflowWarning, match="did not note the options and files of its sources"):
        assert again() == "None"
    ase.io.write("mine.extxyz", [fcc("Cu", 3.7)])
    assert "files, mine was '2 crystals, " in again()


def emt_energy(atoms: Atoms) -> float:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


ORDERED = Atoms("CuAu", cell=[2.75, 2.75, 3.7], scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], pbc=True)


def published(path: Path) -> list[LabelledCrystal]:
    """Write formation energies: CuAu at -0.4 eV/atom, and Cu3Au, 0.3 above the hull, known to be 0.35 above."""
    rows = [
        {"id": "one", "formula": "CuAu", "formation_energy_per_atom": -0.4, "e_above_hull": 0.0},
        {"id": "two", "formula": "Cu3Au", "formation_energy_per_atom": 0.1, "e_above_hull": 0.35},
        {"id": "Cu", "formula": "Cu", "formation_energy_per_atom": 0.0},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return [LabelledCrystal(ORDERED, {}, "one"), LabelledCrystal(fcc("Cu", 3.6), {}, "Cu")]


def test_energies_above_published_ones(tmp_path: Path) -> None:
    """Two crystals fix two corrections; then CuAu is as low as published, and what lies above it is by hand."""
    crystals = published(tmp_path / "published.jsonl")
    above = published_hull(tmp_path / "published.jsonl", crystals, EMT())
    facts = above.facts
    copper = emt_energy(fcc("Cu", 3.6))
    gold = emt_energy(ORDERED) + 0.8 - copper  # E = 2 * -0.4 + mu_Cu + mu_Au
    assert facts.corrections is not None
    assert facts.corrections.ev_per_atom == pytest.approx({"Cu": copper, "Au": gold})
    assert above(ORDERED, emt_energy(ORDERED)) == pytest.approx(0.0, abs=1e-9)
    assert above(ORDERED, emt_energy(ORDERED) + 0.2) == pytest.approx(0.1)
    # CuAu3 lies on the line from CuAu (-0.4) to gold (0): the hull is at -0.2.
    assert above(Atoms("CuAu3"), copper + 3 * gold) == pytest.approx(0.2)
    # Cu3Au is said to be 0.35 above a hull that is then at -0.25, not at the line's -0.2.
    assert above(Atoms("Cu3Au"), 3 * copper + gold) == pytest.approx(0.25)
    assert facts.mean_disagreement_ev_per_atom == pytest.approx((0.0 + 0.05) / 2)
    assert above(fcc("Ni", 3.5), -1.0) is None
    assert above.covers(ORDERED)
    assert not above.covers(bulk("NiAl", "cesiumchloride", a=2.9))
    assert "published formation energies" in facts.sentence()
    with pytest.raises(WorkflowError, match="no crystal of the training set has the id"):
        published_hull(tmp_path / "published.jsonl", [LabelledCrystal(ORDERED, {}, "other")], EMT())


def test_energies_above_references_of_the_same_potential() -> None:
    crystals = [LabelledCrystal(fcc(e, a), {}, e) for e, a in (("Cu", 3.7), ("Au", 4.0))]
    crystals.append(LabelledCrystal(bulk("Fe", "bcc", a=2.9), {}, "not known to EMT"))
    above = reference_hull(crystals, "by hand", EMT(), max_steps=100)
    assert above.facts.phases == 2
    lowest = {e: min(emt_energy(fcc(e, a)) for a in np.linspace(3.5, 4.2, 281)) for e in ("Cu", "Au")}
    found = above(Atoms("Cu3Au"), 3 * lowest["Cu"] + lowest["Au"] + 4 * 0.2)
    assert found == pytest.approx(0.2, abs=1e-3)
    assert above(bulk("Fe", "bcc", a=2.9), -1.0) is None
    assert not above.covers(Atoms("Cu3Au"))  # the line between two elements


def test_a_ranking_counts_relaxations() -> None:
    tried = [True] * 9 + [False]
    new = [True] * 6 + [False] * 4
    good = [True, False, False, True, False, False, True, False, False, False]
    scores = {"score": [0.1, 0.2, 0.9, 0.0, 0.5, None, -1.0, 0.0, 0.0, -2.0], "nothing": [None] * 10}
    found = rankings(tried, new, good, scores, 1 / 3, lambda hits, groups: share(hits, groups, 100, 0), range(10))
    assert [(r.by, r.relaxations, round(r.successes.value * r.relaxations, 9)) for r in found] == [
        ("all", 9, 3),
        ("new as generated", 6, 2),
        ("best 33 % by score", 2, 2),
    ]


def test_free_sources_are_asked_at_once_and_more_can_be_asked_for(tmp_path: Path) -> None:
    asked: list[tuple[tuple[str, ...], int]] = []

    def source(constraints: Constraints, count: int, seed: int) -> Iterator[Atoms]:
        asked.append((constraints.elements, count))
        for k in range(count):
            atoms = fcc("Cu", 3.6 + 0.001 * k)
            atoms.info["log_probability"] = -float(k)
            yield atoms

    settings = BenchmarkSettings(number=1, per_condition=1, resamples=50, max_steps=1, fmax=10, stress_tolerance_gpa=99)
    sources = {"free": Free(source), "told": source}
    first = run_benchmark(sources, training(), EMT(), tmp_path, settings=settings).rows
    assert [row.asked for row in first] == [1, 1, 1]
    assert asked[0] == ((), 64)
    assert len(asked[1][0]) == 1
    more = run_benchmark(sources, training(), EMT(), tmp_path, settings=replace(settings, number=3)).rows
    assert [row.asked for row in more] == [3, 3, 3]
    assert [count for _, count in asked] == [64, 1, 1, 1]
    assert more[0].after["converged"].value == 1
    with pytest.raises(WorkflowError, match="targets have formulas"):
        run_benchmark({"free": Free(source)}, training(), EMT(), tmp_path, targets=training())


def test_lists_are_given_once() -> None:
    settings = BenchmarkSettings(seed=3)
    draw = from_list(training(), settings)
    found = [a.symbols[0] for seed in (3, 4, 5) for a in draw(Constraints(), 2, seed)]
    assert found == ["Cu", "Al", "Ni", "Ag", "Au", "Pt"]
    assert list(draw(Constraints(), 2, 6)) == []
    shuffled = from_list(training(), settings, shuffle=True)
    assert sorted(a.symbols[0] for seed in (3, 4, 5) for a in shuffled(Constraints(), 2, seed)) == sorted(found)


def test_what_cannot_be_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="holds no crystals"):
        run_benchmark({}, [], EMT(), tmp_path)
    with pytest.raises(WorkflowError, match="row of its own"):
        run_benchmark({"training set": Six()}, training(), EMT(), tmp_path)
    with pytest.raises(WorkflowError, match="conditions of their own"):
        run_benchmark({}, training(), EMT(), tmp_path, targets=training(), conditions=[Constraints()])
