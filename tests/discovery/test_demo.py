from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.discovery import FunnelSettings, figures, run_funnel
from mlcalc.discovery._demo_steps import supercell_for_md, verdict
from mlcalc.discovery.demo import DemoSettings, run_demo
from mlcalc.discovery.report import number, scientific, seconds, symbol_html
from mlcalc.errors import WorkflowError
from mlcalc.generators import Candidate, Provenance


class Page(HTMLParser):
    """Collects text, images and everything that would need a network."""

    def __init__(self, path: Path):
        super().__init__()
        self.text: list[str] = []
        self.images: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        for key, value in attrs:
            if key == "src":
                self.images.append(value or "")
            if key in ("src", "href") and not (value or "").startswith("data:"):
                self.outside.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[tuple[str, int, int]]]:
    told: list[tuple[str, int, int]] = []
    path = run_demo(
        tmp_path_factory.mktemp("demo"),
        EMT,
        calculator_name="ase.calculators.emt:EMT",
        settings=DemoSettings(elements=("Cu",), number=8, n_atoms=(1, 4), workers=1, md_steps=60, md_warmup_steps=20),
        progress=lambda *step: told.append(step),
    )
    return path, json.loads(path.with_name("report.json").read_text(encoding="utf-8")), told


def test_the_page_needs_nothing_else(report: tuple[Path, dict[str, Any], Any]) -> None:
    page = Page(report[0])
    assert page.open == []
    assert page.outside == []
    assert len(page.images) == 4
    for image in page.images:
        kind, data = image.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(data, validate=True)
    text = " ".join("".join(page.text).split())
    assert "{{" not in text
    assert "{%" not in text
    assert "undefined" not in text.lower()
    # It says what did not happen.
    assert "Dynamics ran in ASE only" in text


def test_numbers_on_the_page_are_those_of_the_record(report: tuple[Path, dict[str, Any], Any]) -> None:
    path, record, _ = report
    text = " ".join("".join(Page(path).text).split())
    best = record["best"]
    assert f"{best['cell']['a']:.3f} Å" in text
    assert f"{record['phonons']['max_frequency_thz']:.2f} THz" in text
    for stage in record["search"]["stages"]:
        assert re.search(rf"{re.escape(stage['name'])} ?{stage['entered']} ?{stage['passed']}", text), stage
    assert record["parity"] is None
    assert record["potential"] is None


def test_copper_comes_out_as_emt_has_it(report: tuple[Path, dict[str, Any], Any]) -> None:
    best = report[1]["best"]
    # EMT's own fcc lattice constant is 3.590 Å; hcp lies 1 meV away.
    assert best["shortest_distance_ang"] == pytest.approx(3.59 / 2**0.5, abs=0.03)
    assert best["space_group"] in (225, 194)
    assert report[1]["md"]["runs"][0]["engine"] == "ase"
    assert report[1]["md"]["n_atoms"] >= 64


def test_progress_tells_every_step_and_its_end(report: tuple[Path, dict[str, Any], list[tuple[str, int, int]]]) -> None:
    told = report[2]
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps == ["search", "refine", "phonons", "MD in ASE", "report"]
    assert [t[1:] for t in told if t[0] == "search"][-2:] == [(8, 8), (1, 1)]
    assert set(report[1]["timings_s"]) == set(steps) - {"report"}


def test_a_finished_run_starts_again_and_leaves_other_files_alone(
    report: tuple[Path, dict[str, Any], Any],
) -> None:
    path, _record, _ = report
    (path.parent / "mine.txt").write_text("keep", encoding="utf-8")
    settings = DemoSettings(
        elements=("Cu",), number=3, n_atoms=(1, 2), workers=1, md_steps=60, md_warmup_steps=20, seed=4
    )
    run_demo(path.parent, EMT, calculator_name="ase.calculators.emt:EMT", settings=settings)
    again = json.loads(path.with_name("report.json").read_text(encoding="utf-8"))
    assert again["search"]["stages"][0]["entered"] == 3
    assert (path.parent / "mine.txt").exists()


def test_killed_in_the_middle_it_ends_with_the_same_numbers(
    report: tuple[Path, dict[str, Any], Any], tmp_path: Path
) -> None:
    settings = DemoSettings(
        elements=("Cu",), number=3, n_atoms=(1, 2), workers=1, md_steps=60, md_warmup_steps=20, seed=4
    )

    class Killed(BaseException):
        """What no handler of ordinary errors catches."""

    def kill(step: str, done: int, total: int) -> None:
        if step == "MD in ASE" and done == 30:
            raise Killed

    def ends(progress: Any) -> dict[str, Any]:
        path = run_demo(tmp_path, EMT, calculator_name="ase.calculators.emt:EMT", settings=settings, progress=progress)
        return json.loads(path.with_name("report.json").read_text(encoding="utf-8"))

    with pytest.raises(Killed):
        ends(kill)
    records = (tmp_path / "search" / "records.jsonl").read_bytes()
    resumed = ends(None)
    assert (tmp_path / "search" / "records.jsonl").read_bytes() == records
    again = ends(None)  # finished: starts anew
    for part in ("best", "phonons"):
        assert resumed[part] == again[part]
    assert resumed["md"]["runs"][0]["rdf"] == again["md"]["runs"][0]["rdf"]


def test_nothing_came_through_is_an_error_that_counts(tmp_path: Path) -> None:
    class Broken(EMT):
        def calculate(self, *args: object, **kwargs: object) -> None:
            raise ArithmeticError("no")

    settings = DemoSettings(elements=("Cu",), number=2, n_atoms=(1, 2), workers=1)
    with pytest.raises(WorkflowError, match=r"ArithmeticError \(2\)"):
        run_demo(tmp_path, Broken, calculator_name="broken", settings=settings)


def test_diamond_is_called_diamond_by_its_symmetry_only(tmp_path: Path) -> None:
    candidates = [Candidate(bulk("Cu", a=3.6), Provenance("hand"))]
    funnel = run_funnel(lambda: candidates, EMT, tmp_path, settings=FunnelSettings())
    phonon = {"dynamically_stable": True}
    best = {"space_group": 227, "n_atoms_conventional": 8, "cell": {"a": 5.4}}
    assert not verdict(funnel, best, phonon)["is_diamond"]  # copper
    funnel.ranked[0].best.atoms.symbols = "Si"
    assert verdict(funnel, best, phonon)["is_diamond"]
    assert not verdict(funnel, {**best, "n_atoms_conventional": 16}, phonon)["is_diamond"]
    assert not verdict(funnel, {**best, "space_group": 225}, phonon)["is_diamond"]


def test_supercells_are_large_enough() -> None:
    for cell in (bulk("Si", cubic=True), bulk("Ti"), bulk("Si")):
        big = supercell_for_md(cell)
        heights = 1 / np.linalg.norm(np.linalg.inv(big.cell.array), axis=0)
        assert heights.min() >= 9.0
        assert len(big) >= 64


def test_symbols_and_numbers() -> None:
    assert symbol_html("Fd-3m") == 'Fd<span class="bar">3</span>m'
    assert symbol_html("I4_1/amd") == "I4<sub>1</sub>/amd"
    assert symbol_html(None) == "–"
    assert symbol_html("<b>") == "&lt;b&gt;"
    assert figures.mathtext("P6_3/m-3") == r"$\mathregular{P6_{3}/m\bar{3}}$"
    assert (number(-1.2345, 2), number(-1e-9, 2), number(None)) == ("−1.23", "0.00", "–")
    assert scientific(3.4e-9) == "3.4&thinsp;×&thinsp;10<sup>−9</sup>"
    assert (seconds(3.21), seconds(200.0)) == ("3.2 s", "3 min 20 s")
    assert [figures.crystal_system(n) for n in (1, 15, 16, 74, 142, 143, 168, 194, 195, 227)] == [
        "triclinic", "monoclinic", "orthorhombic", "orthorhombic", "tetragonal",
        "trigonal", "hexagonal", "hexagonal", "cubic", "cubic",
    ]  # fmt: skip


def test_figures_leave_matplotlib_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    svg = figures.energy_volume([20.0, 18.0], [-5.4, -5.2], [227, None], {0: "Fd-3m"})
    assert svg == figures.energy_volume([20.0, 18.0], [-5.4, -5.2], [227, None], {0: "Fd-3m"})
    assert dict(mpl.rcParams) == before
