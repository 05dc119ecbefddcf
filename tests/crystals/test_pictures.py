from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from matplotlib.patches import Circle

from mlcalc.crystals import pictures
from mlcalc.errors import CodecError
from mlcalc.figures import new_figure, save_figure


def crystals(count: int) -> list[tuple[str, Atoms]]:
    found = [bulk("NaCl", "rocksalt", a=5.64), bulk("ZnO", "wurtzite", a=3.25, c=5.2), bulk("Cu")]
    return [(pictures.title_of(atoms), atoms) for atoms in found[:count]]


@pytest.mark.parametrize("kind", pictures.representations())
def test_a_row_a_crystal(kind: str, tmp_path: Path) -> None:
    figure = pictures.show(crystals(2), kind)
    rows = {axes.get_subplotspec().rowspan.start for axes in figure.axes if axes.get_subplotspec() is not None}
    assert rows == {0, 1}
    assert figure.axes[0].get_title() == "NaCl"
    path = save_figure(figure, tmp_path / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


def test_the_gallery_has_a_column_a_representation(tmp_path: Path) -> None:
    figure = pictures.gallery(crystals(3))
    titles = {axes.get_title() for axes in figure.axes}
    assert {"NaCl", "ZnO", "Cu", "bond image", "electron density"} <= titles


def test_why_a_crystal_has_no_place() -> None:
    assert pictures.why_not(bulk("NaCl", "rocksalt", a=5.64)) is None
    close = Atoms("NaCl", cell=[4.0] * 3, positions=[(0, 0, 0), (0, 0, 0.01)], pbc=True)
    assert "clash" in str(pictures.why_not(close))
    assert "too far apart" in str(pictures.why_not(Atoms("He", cell=[9.0] * 3, pbc=True)))


def test_atoms_on_corners_are_drawn_at_all_of_them() -> None:
    from mlcalc.crystals._ball_picture import draw_crystal

    def balls(atoms: Atoms) -> int:
        axes = new_figure(2, 2).subplots()
        draw_crystal(axes, atoms)
        return sum(isinstance(patch, Circle) for patch in axes.patches) // 2  # each with its spot of light

    assert balls(bulk("Po", "sc", a=3.35)) == 8
    shifted = bulk("Po", "sc", a=3.35)
    shifted.translate([0.5, 0.6, 0.7])
    assert balls(shifted) == 1
    assert balls(Atoms("CsCl", cell=[4.1] * 3, scaled_positions=[(0, 0, 0), (0.5, 0.5, 1 - 1e-12)], pbc=True)) == 10


def test_bond_pictures_hold_all_pixels_of_the_array() -> None:
    figure = pictures.show(crystals(1), "bond")
    (image,) = figure.axes[1].get_images()
    picture = np.asarray(image.get_array())
    assert picture.shape == (6, 18)
    # Six neighbours each, both ways.
    assert (picture > 0.9).sum() == 12


def test_what_cannot_be_shown() -> None:
    with pytest.raises(CodecError, match="no crystals"):
        pictures.show([], "bond")
    with pytest.raises(CodecError, match="unknown representation 'photo'; there are:"):
        pictures.show(crystals(1), "photo")
