from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import natural_cutoffs, neighbor_list
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

sys.path.insert(0, str(Path(__file__).parent))
from _page_campaigns import EVIL, FLAGS, chromium, cubic, layered, pair, run

from mlcalc.discovery import CampaignResult, EnergyScale, Hull, Phase
from mlcalc.discovery._campaign_gallery import gallery
from mlcalc.discovery._campaign_page import STRUCTURES, write_page
from mlcalc.discovery._campaign_result import Gathered
from mlcalc.discovery._campaign_summary import summarise
from mlcalc.discovery._hull_diagram import hull_diagram, hull_points, ternary_position
from mlcalc.discovery._shards import read_records
from mlcalc.generators import Provenance, read_candidates

Campaign = tuple[Path, CampaignResult]


class Reader(HTMLParser):
    """Well-formed: every element is closed where it was opened; pictures have words."""

    EMPTY = frozenset(("meta", "img", "br"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.ids: list[str] = []
        self.feed(text)
        assert not self.open
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.ids += [value for name, value in attrs if name == "id" and value]
        assert tag != "img" or named["alt"]
        assert tag != "svg" or named["aria-label"]
        assert not (named.get("src") or "").startswith("http")
        assert tag != "link"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def gathered(folder: Path) -> tuple[Gathered, list[Provenance]]:
    records: dict[str, dict[int, dict[str, Any]]] = {}
    for record in read_records(folder / "records"):
        records.setdefault(record["stage"], {}).setdefault(record["index"], record)
    candidates = list(read_candidates(folder / "candidates.extxyz"))
    return Gathered([c.atoms for c in candidates], records), [c.provenance for c in candidates]


@pytest.fixture(scope="session")
def cu_au(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Return folder and result of a campaign over copper and gold."""
    folder = tmp_path_factory.mktemp("cu-au")
    return folder, run(folder, pair(), ("Cu", "Au"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: install chromium (or google-chrome) to test pages in a browser")
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


class Visit:
    """A page in the browser, which must stay quiet: no errors, no requests but for itself."""

    def __init__(self, browser: Browser, folder: Path, **options: Any) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1200, "height": 900}, **options)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto((folder / "report.html").as_uri())

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, *_: object) -> None:
        asked = [url for url in self.asked if not url.startswith("blob:")]
        assert self.said == []
        assert len(asked) == 1
        assert asked[0].startswith("file:")
        assert "taken" not in self.page.title()
        self.page.close()


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"#crystals tr.crystal > td:nth-child({number})").all_inner_texts()


def picture(page: Page) -> np.ndarray:
    """Return the visible canvas as seen, (H, W, 3)."""
    shot = page.locator("canvas:visible").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def download(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator(f"{button}:visible").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_corners_and_edges_of_the_triangle() -> None:
    assert ternary_position((1, 0, 0)) == (0.0, 0.0)
    assert ternary_position((0, 1, 0)) == (1.0, 0.0)
    assert ternary_position((0, 0, 1)) == pytest.approx((0.5, sqrt(3) / 2))
    assert ternary_position((1, 1, 0)) == pytest.approx((0.5, 0.0))
    assert ternary_position((1, 0, 1)) == pytest.approx((0.25, sqrt(3) / 4))
    # A third of each is the same distance from all corners; and shares grow towards their corner linearly.
    x, y = ternary_position((2, 2, 2))
    assert [np.hypot(x - a, y - b) for a, b in ((0, 0), (1, 0), (0.5, sqrt(3) / 2))] == pytest.approx([1 / sqrt(3)] * 3)
    assert ternary_position((0.2, 0.3, 0.5))[1] == pytest.approx(0.5 * sqrt(3) / 2)


def test_lines_join_what_is_stable_together() -> None:
    energies = {"Mg": 0.0, "O": 0.0, "Si": 0.0, "MgO": -3.0, "SiO2": 0.5}
    scale = EnergyScale("PBE", "one potential")
    hull = Hull([Phase(name, name, energy) for name, energy in energies.items()], scale)
    lines = {frozenset((one.name, other.name)) for one, other in hull.tie_lines()}
    # MgO lies between Mg and O and cuts their line; SiO2 is not stable and has none.
    assert lines == {
        frozenset(pair) for pair in (("Mg", "MgO"), ("O", "MgO"), ("Mg", "Si"), ("O", "Si"), ("Si", "MgO"))
    }


def test_the_line_of_two_elements_is_convex_and_below_all(cu_au: Campaign) -> None:
    _, result = cu_au
    diagram, points = hull_diagram(result), hull_points(result)
    assert diagram.svg is not None
    assert len(re.findall('<g class="point', diagram.svg)) == diagram.shown
    assert sum(p.rank is not None for p in points) == len(result.ranked)
    assert len(points) == len(result.ranked) + len(result.references.phases)
    drawn = re.search(r'<polyline class="hull" points="([^"]+)"', diagram.svg)
    assert drawn is not None
    line = [tuple(map(float, point.split(","))) for point in drawn[1].split()]
    assert len(line) == 3  # the elements and the reference Cu₃Au
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(line)]
    assert slopes[0] > slopes[1]  # pixels count downwards
    # Copper is at the left: a quarter of gold lies a quarter of the way to the right.
    assert (line[1][0] - line[0][0]) / (line[2][0] - line[0][0]) == pytest.approx(0.25, abs=1e-3)


def test_the_page_is_whole(cu_au: Campaign) -> None:
    folder, result = cu_au
    text = (folder / "report.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert reader.counts["canvas"] == len(result.ranked)
    assert reader.counts["script"] == 4  # data, and the page's own three
    assert '<html lang="en">' in text
    for stage in result.stages:
        assert f"<td>{stage.name}</td>" in text
        for reason, who in stage.failures.items():
            assert f"{stage.name}: {reason}, {len(who)}" in text


def test_found_crystals_are_shown_as_arrays_beside_stable_references(browser: Browser, cu_au: Campaign) -> None:
    folder, result = cu_au
    words = re.search(r'alt="Crystals in each representation: ([^"]+)"', (folder / "report.html").read_text("utf-8"))
    assert words is not None
    rows = words[1].split("; ")
    # The compound comes before the elements; then the lowest crystals that are no references.
    assert rows[0] == "reference: AuCu₃, Pm-3m"
    new = [crystal for crystal in result.ranked if not crystal.known_as]
    assert new
    assert rows[2].startswith(f"rank {new[0].rank}: ")
    with Visit(browser, folder) as page:
        page.locator("#gallery > summary").click()
        width, height = page.locator("#gallery img").evaluate("(i) => [i.naturalWidth, i.naturalHeight]")
        assert width > 1000  # the policy of the page lets it in
        assert height == pytest.approx(150 * (2.75 * len(rows) + 0.25), abs=2)


def test_crystals_that_a_codec_does_not_hold_are_left_out_of_the_picture(cu_au: Campaign) -> None:
    _, result = cu_au
    flat = replace(result.ranked[0], rank=1, known_as=(), atoms=bulk("Cu").repeat((3, 3, 3)))
    other = replace(result.ranked[1], rank=2)
    shown = gallery(replace(result, ranked=(flat, other)))
    assert shown is not None
    assert "rank 2: " in shown
    assert "rank 1: " not in shown
    assert gallery(replace(result, ranked=(flat,))) is None
    assert gallery(replace(result, ranked=())) is None


def test_rows_sort_as_numbers_with_the_unknown_last(browser: Browser, cu_au: Campaign) -> None:
    folder, result = cu_au
    with Visit(browser, folder) as page:
        assert page.title() == "Cu–Au: campaign · mlcalc"
        assert column(page, 1) == [str(c.rank) for c in result.ranked]
        known = sorted(c.min_frequency_thz for c in result.ranked if c.min_frequency_thz is not None)
        unknown = ["–"] * (len(result.ranked) - len(known))
        assert known
        assert unknown
        header = page.locator("#crystals th:nth-child(8)")
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == "ascending"
        assert column(page, 8) == [f"{value:.2f}" for value in known] + unknown
        header.locator("button").click()
        assert column(page, 8) == [f"{value:.2f}" for value in reversed(known)] + unknown
        page.click("#crystals th:nth-child(4) button")
        above = sorted(c.energy_above_hull_ev_per_atom or 0.0 for c in result.ranked)
        assert [float(text.replace("−", "-")) for text in column(page, 4)] == pytest.approx(above, abs=6e-5)
        page.locator("#crystals th:nth-child(2) button").press("Enter")
        assert column(page, 2) == sorted(column(page, 2))


def test_a_crystal_opens_and_turns(browser: Browser, cu_au: Campaign) -> None:
    folder, result = cu_au
    crystal = next(c for c in result.ranked if c.held_in_dynamics is not None)
    with Visit(browser, folder) as page:
        assert not page.locator("canvas").first.is_visible()
        button = page.locator(f"#crystal-{crystal.rank} button.open")
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        panel = page.locator(f"#more-{crystal.rank}")
        panel.get_by_role("button", name="Cell as relaxed").click()
        canvas = panel.locator("canvas")
        # As many bonds as ASE counts, periodic images included.
        bonds = len(neighbor_list("i", crystal.atoms, natural_cutoffs(crystal.atoms, mult=1.2)))
        assert int(canvas.get_attribute("data-bonds") or 0) == bonds
        assert int(canvas.get_attribute("data-atoms") or 0) >= crystal.n_atoms
        before = picture(page)
        assert len(np.unique(before.reshape(-1, 3), axis=0)) > 100
        box = canvas.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 80, y + 30)
        page.mouse.up()
        turned = picture(page)
        assert (turned != before).any(axis=2).mean() > 0.02
        canvas.focus()
        focused = picture(page)
        page.mouse.wheel(0, -300)
        page.wait_for_timeout(200)
        ink = [(image < 250).any(axis=2).mean() for image in (focused, picture(page))]
        assert ink[1] > 1.2 * ink[0]  # larger
        page.keyboard.press("0")
        assert np.abs(picture(page).astype(int) - before).max(axis=2)[10:-10, 10:-10].max() == 0  # as it was
        words = panel.inner_text()
        assert f"{crystal.n_atoms} atoms; {crystal.atoms.cell.cellpar()[0]:.3f}" in words
        assert "atoms moved" in words
        assert panel.locator("figure svg").count() == 2  # temperature and energy of the dynamics
        page.keyboard.press("Escape")
        button.click()
        assert not canvas.is_visible()


def test_files_hold_the_crystal(browser: Browser, cu_au: Campaign, tmp_path: Path) -> None:
    folder, result = cu_au
    with Visit(browser, folder) as page:
        for crystal in result.ranked[:2]:  # Chromium asks somebody before the eleventh file of a page
            page.click(f"#crystal-{crystal.rank} button.open")
            row = f"#more-{crystal.rank} button"
            expected = AseAtomsAdaptor.get_structure(crystal.atoms)
            path = download(page, f"{row}:has-text('as relaxed'):has-text('CIF')", tmp_path)
            read = ase.io.read(path)
            assert read.cell.cellpar() == pytest.approx(crystal.atoms.cell.cellpar(), abs=1e-5)
            assert read.get_chemical_symbols() == crystal.atoms.get_chemical_symbols()
            apart = read.get_scaled_positions() - crystal.atoms.get_scaled_positions()
            assert np.abs(apart - np.round(apart)).max() < 1e-5
            symmetric = Structure.from_file(download(page, f"{row}:has-text('symmetrised')", tmp_path))
            assert symmetric.get_space_group_info(symprec=1e-3)[1] == crystal.space_group
            assert StructureMatcher(scale=False).fit(symmetric, expected)
            frame = ase.io.read(download(page, f"{row}:has-text('Extended')", tmp_path))
            assert np.allclose(frame.positions, crystal.atoms.positions, atol=1e-7)
        everyone = ase.io.read(download(page, "[data-all=cif]", tmp_path), ":", format="cif")
        assert [a.get_chemical_formula() for a in everyone] == [c.atoms.get_chemical_formula() for c in result.ranked]
        frames = ase.io.read(download(page, "[data-all=extxyz]", tmp_path), ":")
        assert [a.info["rank"] for a in frames] == [c.rank for c in result.ranked]


def test_points_of_the_hull_say_what_they_are(browser: Browser, cu_au: Campaign) -> None:
    folder, result = cu_au
    with Visit(browser, folder) as page:
        assert page.locator("#hull .point").count() == hull_diagram(result).shown
        best = page.locator("#hull .point[data-rank='1']")
        best.dispatch_event("pointerenter", {"clientX": 300, "clientY": 300})
        told = page.locator("#tip").inner_text()
        assert told.startswith(f"{result.ranked[0].formula} ")
        assert "(rank 1, " in told
        assert f"{result.ranked[0].formation_energy_ev_per_atom:.4f}".replace("-", "−").rstrip("0") in told
        best.dispatch_event("click")
        assert page.locator("#more-1 canvas").is_visible()


def test_names_from_files_are_words_only(browser: Browser, cu_au: Campaign) -> None:
    folder, _ = cu_au
    assert "<script>document" not in (folder / "report.html").read_text(encoding="utf-8")
    with Visit(browser, folder) as page:
        page.wait_for_timeout(200)
        assert page.locator("img:not([src^='data:'])").count() == 0
        assert page.locator("script").count() == 4
        for details in page.locator("details").all():
            details.evaluate("element => element.open = true")
        words = page.inner_text("main")
        assert words.count(EVIL) >= 4  # what was asked, generators, the candidate, the reference it is known as


def test_metals_of_an_oxide_are_not_joined(browser: Browser, cu_au: Campaign, tmp_path: Path) -> None:
    folder, result = cu_au
    oxide = bulk("OLi2", "fluorite", a=4.62)  # lithium is 2.31 Å from lithium, 2.00 Å from oxygen
    assert len(neighbor_list("i", oxide, natural_cutoffs(oxide, mult=1.2))) > 16
    shown = replace(result, ranked=(replace(result.ranked[0], atoms=oxide),))
    write_page(tmp_path, shown, *gathered(folder), {}, None)
    with Visit(browser, tmp_path) as page:
        page.click("#crystal-1 button.open")
        panel = page.locator("#more-1")
        panel.get_by_role("button", name="Cell as relaxed").click()
        # Eight lithiums around the oxygen, four oxygens around each of two lithiums.
        assert panel.locator("canvas").get_attribute("data-bonds") == "16"


def test_bands_are_shown_where_they_are(browser: Browser, cu_au: Campaign, tmp_path: Path) -> None:
    folder, result = cu_au
    drawn = tmp_path / "phonons" / f"{result.ranked[1].index:05d}" / "bands.png"
    drawn.parent.mkdir(parents=True)
    Image.new("RGB", (64, 32), "red").save(drawn)
    write_page(tmp_path, result, *gathered(folder), {}, None)
    drawn.unlink()
    with Visit(browser, tmp_path) as page:
        page.click("#crystal-2 button.open")
        bands = page.locator("#more-2 img")
        assert bands.evaluate("image => image.naturalWidth") == 64
        assert "bands" in (bands.get_attribute("alt") or "")
        assert page.locator("#crystals img").count() == 1


def test_a_missing_element_is_said_aloud(browser: Browser, cu_au: Campaign, tmp_path: Path) -> None:
    folder, result = cu_au
    pool, origins = gathered(folder)
    left = tuple(phase for phase in result.references.phases if set(phase.atoms.symbols) != {"Au"})
    unknown = summarise(pool, replace(result.references, phases=left, missing=("Au",)), result.settings)
    write_page(tmp_path, unknown, pool, origins, {}, None)
    with Visit(browser, tmp_path) as page:
        assert page.get_by_role("alert").inner_text().startswith("No reference of Au.")
        assert "unknown" in column(page, 4)
        assert "have no place" in page.inner_text("figcaption >> nth=0")
        page.click("#crystals th:nth-child(4) button")
        page.click("#crystals th:nth-child(4) button")
        assert column(page, 4)[-1] == "unknown"


def test_nothing_left_is_a_page_too(browser: Browser, tmp_path: Path) -> None:
    result = run(tmp_path, [bulk("Cu", a=1.2)], ("Cu",), references=False)
    assert result.ranked == ()
    Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    with Visit(browser, tmp_path, color_scheme="dark") as page:
        assert "No candidate was left" in page.inner_text(".lead")
        assert "distances: atoms too close, 1" in page.inner_text("main")
        assert 0 < page.locator("#hull .point").count() == hull_diagram(result).shown
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"


def test_three_elements_make_a_triangle(browser: Browser, tmp_path: Path) -> None:
    structures = [cubic("Au", "Cu", 3.75), layered("Ag", "Au", 2.9, 4.1)]
    result = run(tmp_path, structures, ("Ag", "Cu", "Au"), phonons=0, dynamics=0)
    diagram = hull_diagram(result)
    assert diagram.svg is not None
    Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    with Visit(browser, tmp_path) as page:
        assert page.locator("#hull .point").count() == diagram.shown
        places = {}
        for crystal in result.ranked:
            box = page.locator(f"#hull .point[data-rank='{crystal.rank}']").bounding_box()
            assert box is not None
            places[crystal.formula] = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        corners = {}
        for element in ("Ag", "Cu", "Au"):
            marks = page.locator("#hull .point").filter(has_not=page.locator("circle"))
            pure = next(m for m in marks.all() if (m.get_attribute("data-told") or "").startswith(f"{element} A_"))
            box = pure.bounding_box()
            assert box is not None
            corners[element] = np.array((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))
        halfway = (corners["Ag"] + corners["Au"]) / 2
        assert places["AgAu"] == pytest.approx(halfway, abs=1.0)
        assert places["AuCu3"] == pytest.approx(0.75 * corners["Cu"] + 0.25 * corners["Au"], abs=1.0)


def test_many_crystals_and_more_elements_than_a_picture_has(cu_au: Campaign, tmp_path: Path) -> None:
    folder, result = cu_au
    pool, origins = gathered(folder)
    many = tuple(replace(result.ranked[k % len(result.ranked)], rank=k + 1) for k in range(250))
    stages = (
        replace(result.stages[0], entered=1000, passed=700, failures={"duplicate": [0] * 300}),
        *result.stages[1:],
    )
    references = replace(result.references, elements=("Cu", "Au", "Ag", "Pt"))
    large = replace(result, ranked=many, candidates=1000, stages=stages, references=references)
    lost = {"status": "failed", "reason": "worker died"}
    records = {**pool.records, "phonons": {many[0].index: lost}, "dynamics": {many[0].index: lost}}
    full = Gathered([pool.pool[0]] * 1000, records)
    write_page(tmp_path, large, full, [origins[0]] * 1000, {}, None)
    path = tmp_path / "report.html"
    reader = Reader(path.read_text(encoding="utf-8"))
    assert reader.counts["canvas"] == STRUCTURES
    assert sum(name.startswith("crystal-") for name in reader.ids) == 250
    text = path.read_text(encoding="utf-8")
    assert f"structures of the first {STRUCTURES} are in this page, those of all 250" in text
    assert "The first 200 of 300." in text
    assert "A hull of 4 elements has no picture" in text
    assert text.count("failed: worker died") == 2 * len(range(0, STRUCTURES, len(result.ranked)))
    assert path.stat().st_size < 3e6
