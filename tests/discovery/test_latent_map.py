"""Maps of the latent space: what is on them, as picture and as page."""

from __future__ import annotations

import html
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from typer.testing import CliRunner

from mlcalc.cli import app
from mlcalc.crystals.io import LabelledCrystal
from mlcalc.discovery.latent_map import draw_latent_map, latent_map, write_latent_page
from mlcalc.errors import GeneratorError
from mlcalc.generators.vae import VaeGenerator

PLACES = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def perovskite(a: str, b: str, x: str) -> Atoms:
    return Atoms([a, b, x, x, x], cell=[4.0] * 3, pbc=True, scaled_positions=PLACES)


def labelled() -> list[LabelledCrystal]:
    """18 perovskites with labels, a crystal whose element no weights know, and one without the label."""
    kinds = product(("Sr", "Ba", "K"), ("Ti", "Nb"), ("O", "N", "F"))
    found = [LabelledCrystal(perovskite(*kind), {"heat_all": k / 10}, str(k)) for k, kind in enumerate(kinds)]
    unknown, bare = bulk("Ar", "fcc", a=5.3), bulk("Cu")
    return [*found, LabelledCrystal(unknown, {"heat_all": 1.0}, "unknown"), LabelledCrystal(bare, {}, "bare")]


def test_map_keeps_what_principal_components_keep() -> None:
    crystals = labelled()
    found = latent_map(crystals, "heat_all", designed=[perovskite("Ca", "Zr", "O")])
    assert (len(found.names), found.left_out) == (18, 2)
    table = np.array([VaeGenerator().latent(c.atoms) for c in crystals[:18]])
    whole = np.linalg.norm(table[:, None] - table[None], axis=2)
    plane = np.linalg.norm(found.places[:, None] - found.places[None], axis=2)
    assert (plane <= whole + 1e-9).all()  # distances in the plane are never longer than in the whole space
    np.testing.assert_allclose((plane**2).sum() / (whole**2).sum(), sum(found.shares), rtol=1e-6)
    assert found.shares[0] >= found.shares[1] > 0
    assert found.designed.shape == (1, 2)
    own = VaeGenerator().properties_of(perovskite("Ca", "Zr", "O"))["heat_all"]
    assert found.predicted.tolist() == [pytest.approx(own)]
    with pytest.raises(GeneratorError, match="0 of 20 crystals have weight and fit"):
        latent_map(crystals, "weight")
    with pytest.raises(GeneratorError, match="unknown property 'weight'"):
        latent_map(crystals, "weight", designed=[perovskite("Ca", "Zr", "O")])


def test_page_holds_the_points_and_needs_nothing_else(tmp_path: Path) -> None:
    found = latent_map(labelled(), "heat_all", designed=[perovskite("Ca", "Zr", "O")])
    page = write_latent_page(found, tmp_path / "map.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page).group(1))  # type: ignore[union-attr]
    assert [p[3] for p in data["points"]] == list(found.names)
    assert [p[2] for p in data["points"]] == pytest.approx(found.values.tolist())
    assert data["designed"][0][3] == "CaZrO3"
    assert "default-src 'none'" in html.unescape(page)
    assert not re.search(r'(src|href)="(?!data:)', page)
    picture = draw_latent_map(found, tmp_path / "map.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_latent_map_command(tmp_path: Path) -> None:
    import ase.io

    frames = []
    for item in labelled()[:6]:
        item.atoms.info.update(item.labels)
        frames.append(item.atoms)
    ase.io.write(tmp_path / "known.extxyz", frames)
    arguments = ["latent-map", str(tmp_path / "known.extxyz"), "--label", "heat_all", "--out", str(tmp_path / "m.html")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "6 crystals, 0 designed (0 left out)" in done.output
    assert (tmp_path / "m.html").is_file()
