"""Balls, sticks and the cell: a crystal drawn into axes of Matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.geometry import wrap_positions
from pymatgen.core import Element

INK, SOFT = "#1b2430", "#9aa4b1"
#: Sticks join atoms up to this many sums of covalent radii apart.
_STICK = 1.2
#: Atoms this close to a face of the cell, in fractions, are drawn at the opposite one too.
_FACE = 0.02


def draw_crystal(axes: Any, atoms: Atoms) -> None:
    """Draw a crystal in perspective-free projection, c up, seen from a little above and beside its a axis.

    Atoms on faces, edges and corners of the cell are drawn at all of them.

    Args:
        axes: of Matplotlib; axis lines are taken off.
        atoms: a crystal.
    """
    turned = _upright(atoms.cell.array)
    scaled = np.linalg.solve(atoms.cell.array.T, wrap_positions(atoms.positions, atoms.cell, eps=1e-4).T).T
    places, kinds = [], []
    for position, number in zip(scaled, atoms.numbers, strict=True):
        choices = [(0, 1) if x < _FACE else (0, -1) if x > 1 - _FACE else (0,) for x in position]
        for shift in np.stack(np.meshgrid(*choices), axis=-1).reshape(-1, 3):
            places.append((position + shift) @ turned)
            kinds.append(number)
    points, numbers = np.array(places) @ _view().T, np.array(kinds)
    radii = covalent_radii[numbers]
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    frame = corners @ turned @ _view().T
    for one, other in ((k, m) for k in range(8) for m in range(k) if np.abs(corners[k] - corners[m]).sum() == 1):
        # An edge is behind what is nearer than its middle.
        axes.plot(
            *frame[[one, other], :2].T, color=SOFT, lw=0.8, zorder=frame[[one, other], 2].mean(), solid_capstyle="round"
        )
    # In compounds, sticks between metals would hide the bonds.
    metal = np.array([Element(chemical_symbols[n]).is_metal for n in numbers])
    bonding = ~metal if (~metal).any() else np.ones(len(numbers), dtype=bool)
    for k in range(len(points)):
        for m in range(k):
            if not (bonding[k] or bonding[m]):
                continue
            if np.linalg.norm(points[k] - points[m]) < _STICK * (radii[k] + radii[m]):
                _stick(axes, points[k], points[m], jmol_colors[numbers[k]], jmol_colors[numbers[m]])
    for point, number, radius in zip(points, numbers, radii, strict=True):
        _ball(axes, point, 0.42 * radius, jmol_colors[number])
    every = np.vstack([points[:, :2], frame[:, :2]])
    margin = 0.45 * radii.max() + 0.1
    axes.set_xlim(every[:, 0].min() - margin, every[:, 0].max() + margin)
    axes.set_ylim(every[:, 1].min() - margin, every[:, 1].max() + margin)
    axes.set_aspect("equal")
    axes.axis("off")


def _ball(axes: Any, point: np.ndarray, radius: float, colour: np.ndarray) -> None:
    from matplotlib.patches import Circle

    edge = 0.45 * np.asarray(colour)
    axes.add_patch(
        Circle((point[0], point[1]), radius, facecolor=colour, edgecolor=edge, lw=0.7, zorder=point[2] + radius)
    )
    # A spot of light, up and to the left.
    light = 1 - 0.45 * (1 - np.asarray(colour))
    spot = (point[0] - 0.3 * radius, point[1] + 0.3 * radius)
    axes.add_patch(Circle(spot, 0.42 * radius, facecolor=light, edgecolor="none", alpha=0.8, zorder=point[2] + radius))


def _stick(axes: Any, one: np.ndarray, other: np.ndarray, colour: np.ndarray, other_colour: np.ndarray) -> None:
    middle = 0.5 * (one + other)
    for end, shade in ((one, colour), (other, other_colour)):
        along, depth = np.stack([end[:2], middle[:2]]).T, float(0.5 * (end[2] + middle[2]))
        axes.plot(*along, color=0.45 * np.asarray(shade), lw=3.4, zorder=depth - 0.01, solid_capstyle="butt")
        axes.plot(*along, color=shade, lw=2.2, zorder=depth, solid_capstyle="butt")


def _upright(cell: np.ndarray) -> np.ndarray:
    """Return the cell with its first vector along x and the second in the xy plane."""
    turned = np.linalg.cholesky(cell @ cell.T)
    if np.linalg.det(cell) < 0:
        turned[2] *= -1
    return turned


def _view() -> np.ndarray:
    """Return rows: to the right, up, and towards the eye."""
    turn, tilt = np.radians(-18), np.radians(14)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    right, away, up = about_z
    towards = -away * np.cos(tilt) + up * np.sin(tilt)
    return np.stack([right, np.cross(towards, right), towards])
