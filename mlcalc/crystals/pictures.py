"""Pictures of crystals in their representations: the crystal, and the arrays that codecs make of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlcalc.crystals._ball_picture import INK, SOFT, draw_crystal
from mlcalc.crystals._reduced_cell import reduced
from mlcalc.crystals.codec import CODECS, make_codec
from mlcalc.crystals.density_voxels import DensityVoxels
from mlcalc.crystals.symmetry import find_space_group
from mlcalc.errors import CodecError
from mlcalc.figures import new_figure

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
Painter = Callable[[Any, np.ndarray, Atoms, Any], None]


def representations() -> tuple[str, ...]:
    """Return the names of what can be shown, in the order of the gallery."""
    return tuple(name for name in ("coordinate", "bond", "density") if name in CODECS)


def show(crystals: Sequence[tuple[str, Atoms]], representation: str) -> Any:
    """Return a figure with a row for each crystal: the crystal itself, then what a codec makes of it.

    Args:
        crystals: titles and structures.
        representation: ``coordinate``, ``bond`` or ``density``.

    Raises:
        CodecError: no crystals, unknown representation, or a crystal that the codec does not hold.
    """
    if representation not in representations():
        raise CodecError(f"unknown representation {representation!r}; there are: {', '.join(representations())}")
    painters = _PAINTERS[representation]
    return _figure(crystals, [(representation, name, painter) for name, painter in painters.items()])


def gallery(crystals: Sequence[tuple[str, Atoms]]) -> Any:
    """Return a figure with a row for each crystal: the crystal itself, then one column a representation.

    Raises:
        CodecError: no crystals, or one that a codec does not hold.
    """
    return _figure(crystals, [(kind, *next(iter(_PAINTERS[kind].items()))) for kind in representations()])


def why_not(atoms: Atoms) -> str | None:
    """Return why a crystal has no place in a gallery, what the first codec that does not hold it says; else None."""
    options = {"elements": sorted(set(atoms.get_chemical_symbols())), "max_atoms": len(atoms)}
    try:
        for kind in representations():
            make_codec({"name": kind, **options}).encode(atoms)
    except CodecError as error:
        return str(error)
    return None


def _figure(crystals: Sequence[tuple[str, Atoms]], panels: Sequence[tuple[str, str, Painter]]) -> Any:
    if not crystals:
        raise CodecError("no crystals to show")
    elements = sorted({s for _, atoms in crystals for s in atoms.get_chemical_symbols()})
    most = max(len(atoms) for _, atoms in crystals)
    codecs = {kind: make_codec({"name": kind, "elements": elements, "max_atoms": most}) for kind, _, _ in panels}
    arrays = [{kind: codec.encode(atoms) for kind, codec in codecs.items()} for _, atoms in crystals]
    figure = new_figure(2.7 * (1 + len(panels)), 2.75 * len(crystals) + 0.25)
    grid = figure.subplots(len(crystals), 1 + len(panels), squeeze=False)
    for row, ((title, atoms), array) in enumerate(zip(crystals, arrays, strict=True)):
        first = grid[row, 0]
        draw_crystal(first, reduced(atoms))
        first.set_title(title, fontsize=9.5, color=INK)
        for axes, (kind, name, painter) in zip(grid[row, 1:], panels, strict=True):
            painter(axes, array[kind], atoms, codecs[kind])
            axes.tick_params(length=0, labelsize=7, colors=INK)
            for spine in axes.spines.values():
                spine.set(color=SOFT, linewidth=0.6)
            if row == 0:
                axes.set_title(name, fontsize=9.5, color=INK)
    return figure


def lowered(text: str) -> str:
    """Return text with its digits as subscripts."""
    return text.translate(_SUBSCRIPTS)


def title_of(atoms: Atoms) -> str:
    """Return the reduced formula with subscripts, for titles."""
    return lowered(str(atoms.symbols.formula.reduce()[0].format("metal")))


def symbol_of(atoms: Atoms, symprec: float) -> str:
    """Return the symbol of the space group with subscripts, for titles."""
    group = find_space_group(atoms, symprec)
    if group is None:
        return "no symmetry found"
    return re.sub(r"_(\d)", lambda match: lowered(match.group(1)), group.symbol)


def _coordinate(axes: Any, array: np.ndarray, atoms: Atoms, codec: Any) -> None:
    """Paint rows and channels: blue below 0, white at 0, red above."""
    axes.imshow(array, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    symbols = atoms.get_chemical_symbols()
    if array.shape[1] <= 9:
        axes.set_xticks(range(1 + len(symbols)), ["cell", *symbols])
    else:
        axes.set_xticks([0, array.shape[1] / 2], ["cell", "atoms"])
    rows = ["cos x", "sin x", "cos y", "sin y", "cos z", "sin z", "empty"]
    first = len(rows)
    elements = codec.elements if len(codec.elements) <= 16 else [""] * len(codec.elements)
    axes.set_yticks(range(first + len(elements)), [*rows, *elements])
    axes.axvline(0.5, color=INK, lw=0.6)
    axes.axhline(first - 0.5, color=INK, lw=0.6)


def _bond(axes: Any, array: np.ndarray, atoms: Atoms, codec: Any) -> None:
    """Paint, for each pair of atoms, a block of 3 × 9 pixels: 3 × 3 cells of a layer, three layers side by side."""
    import matplotlib as mpl

    count = len(atoms)
    blocks = array[:27, :count, :count].reshape(3, 3, 3, count, count)
    # Rows: atom, cell along b; columns: atom, layer along c, cell along a.
    picture = blocks.transpose(3, 1, 4, 2, 0).reshape(3 * count, 9 * count)
    colours = mpl.colormaps["magma_r"].with_extremes(under="white")
    drawn = axes.imshow(picture, cmap=colours, vmin=0.2, vmax=1.2, aspect="auto", interpolation="nearest")
    symbols = atoms.get_chemical_symbols() if count <= 12 else [""] * count
    axes.set_xticks(9 * np.arange(count) + 4, symbols)
    axes.set_yticks(3 * np.arange(count) + 1, symbols)
    for k in range(1, count):
        axes.axvline(9 * k - 0.5, color=SOFT, lw=0.5)
        axes.axhline(3 * k - 0.5, color=SOFT, lw=0.5)
    scale = axes.figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02, ticks=[0.2, 0.6, 1.0])
    scale.ax.tick_params(length=0, labelsize=7, colors=INK)
    scale.outline.set(edgecolor=SOFT, linewidth=0.6)


def _density(channel: int, cmap: str, logarithm: bool = False) -> Painter:
    def paint(axes: Any, array: np.ndarray, atoms: Atoms, codec: Any) -> None:
        """Paint the largest value along c, over the a and b axes as they lie; of the cell, its middle plane."""
        from matplotlib.colors import LinearSegmentedColormap

        values = array[channel].max(axis=2)
        shift = 0.0
        if channel == _CELL:
            values, shift = array[channel][:, :, array.shape[3] // 2], 0.5
        else:  # what lies on one face lies on the opposite one
            values = np.pad(values, (0, 1), mode="wrap")
        cell = np.linalg.cholesky((c := reduced(atoms).cell.array) @ c.T)
        step = (np.arange(len(values)) + shift) / array.shape[1]
        points = step[:, None, None] * cell[0, :2] + step[None, :, None] * cell[1, :2]
        shown = np.log10(np.maximum(values, 1e-6)) if logarithm else values
        low, high = (max(shown.max() - 3, -2.0), shown.max()) if logarithm else (0.0, 1.0)
        colours = cmap if logarithm else LinearSegmentedColormap.from_list(cmap, ["white", cmap])
        if channel == _CELL:
            # One line for each Å from the middle.
            levels = np.arange(1.0, 10.0 * shown.max()) / 10
            axes.contour(points[..., 0], points[..., 1], shown, levels, colors=[cmap], linewidths=0.8)
        else:
            axes.pcolormesh(
                *np.moveaxis(points, 2, 0), shown, cmap=colours, shading="gouraud", rasterized=True, vmin=low, vmax=high
            )
        outline = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) @ cell[:2, :2]
        axes.plot(*outline.T, color=SOFT, lw=0.8)
        axes.set_aspect("equal")
        axes.axis("off")

    return paint


_CELL = DensityVoxels.CHANNELS.index("cell")
_PAINTERS: dict[str, dict[str, Painter]] = {
    "coordinate": {"coordinate image": _coordinate},
    "bond": {"bond image": _bond},
    "density": {
        "electron density": _density(0, "inferno", logarithm=True),
        "atoms": _density(1, "black"),
        "group": _density(2, "#c2410c"),
        "period": _density(3, "#1a7f37"),
        "cell": _density(_CELL, "#1f6feb"),
    },
}
