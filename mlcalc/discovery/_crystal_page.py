"""What the page of a campaign says about one crystal: structure, files to download, what happened to it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from markupsafe import Markup
from pymatgen.core import Element
from pymatgen.io.cif import CifWriter

from mlcalc.crystals.structures import structure_of
from mlcalc.crystals.symmetry import conventional_cell
from mlcalc.discovery._campaign_result import RankedCrystal
from mlcalc.discovery._campaign_summary import ranked_frames
from mlcalc.discovery._svg import Axes, drawing, line
from mlcalc.discovery.report import image
from mlcalc.workflows._md_record import read_log

if TYPE_CHECKING:
    from mlcalc.discovery._campaign_result import Gathered

# More atoms than this are not shown in the conventional cell.
_LARGEST = 300
# Points of a curve in a small plot.
_POINTS = 240


def crystal_data(crystal: RankedCrystal, symprec: float) -> dict[str, Any]:
    """Return what the scripts of the page need of a crystal; JSON-ready.

    Args:
        crystal: of the ranking.
        symprec: tolerance of its space group, Å.

    Returns:
        ``cells`` to look at (``relaxed``, and ``conventional`` where there is symmetry) and the texts of ``files``.
    """
    plain = Atoms(crystal.atoms.numbers, positions=crystal.atoms.positions, cell=crystal.atoms.cell, pbc=True)
    structure = structure_of(plain)
    name = f"{crystal.rank:03d}-{crystal.formula}"
    cells = {"relaxed": _cell(plain)}
    files = {f"{name}.cif": _titled(CifWriter(structure), name)}
    if crystal.space_group is not None and crystal.space_group > 1:
        # spglib may see no symmetry here after all; the cell as relaxed is there in any case.
        with suppress(ValueError):
            standard = conventional_cell(plain, symprec)
            if len(standard) <= _LARGEST:
                cells["conventional"] = _cell(standard)
            files[f"{name}-symmetric.cif"] = _titled(CifWriter(structure, symprec=symprec), f"{name}-symmetric")
    frame = io.StringIO()
    ase.io.write(frame, list(ranked_frames([crystal])), format="extxyz")
    return {"cells": cells, "files": files, "extxyz": frame.getvalue()}


def _titled(writer: CifWriter, name: str) -> str:
    """Return the text of a CIF whose block has a name, so that many can stand in one file."""
    header, _, rest = str(writer).partition("\ndata_")
    return f"{header}\ndata_{name}\n{rest.partition(chr(10))[2]}"


def _cell(atoms: Atoms) -> dict[str, Any]:
    # Atoms a hair below the upper face belong to the lower one.
    scaled = atoms.cell.scaled_positions(atoms.positions)
    scaled -= np.floor(scaled + 1e-4)
    return {
        "cell": np.round(atoms.cell.array, 5).tolist(),
        "symbols": atoms.get_chemical_symbols(),
        "scaled": np.round(scaled, 5).tolist(),
    }


def element_looks(elements: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour (Jmol's), covalent radius (Å), and whether it is a metal, by element."""
    looks = {}
    for element in elements:
        number = atomic_numbers[element]
        red, green, blue = (round(255 * value) for value in jmol_colors[number])
        radius = round(float(covalent_radii[number]), 3)
        looks[element] = {"colour": [red, green, blue], "radius": radius, "metal": bool(Element(element).is_metal)}
    return looks


def crystal_story(crystal: RankedCrystal, gathered: Gathered, folder: Path) -> dict[str, Any]:
    """Return lattice, vibrations, dynamics and pictures of a crystal, for the template."""
    lengths, angles = np.split(crystal.atoms.cell.cellpar(), 2)
    moved = gathered.of("dynamics").get(crystal.index)
    return {
        "lengths": lengths.tolist(),
        "angles": angles.tolist(),
        "volume": float(crystal.atoms.cell.volume) / len(crystal.atoms),
        "phonons": gathered.of("phonons").get(crystal.index),
        "dynamics": moved,
        "plots": _dynamics_plots(folder / "dynamics" / f"{crystal.index:05d}" / "log.csv") if moved else [],
        "bands": _bands(folder / "phonons" / f"{crystal.index:05d}" / "bands.png", crystal),
    }


def _bands(path: Path, crystal: RankedCrystal) -> Markup | None:
    if not path.is_file():
        return None
    return image(path.read_bytes(), "image/png", f"Phonon bands of {crystal.formula}, rank {crystal.rank}")


def _dynamics_plots(path: Path) -> list[Markup]:
    """Return temperature and potential energy over time, if the run left its log."""
    if not path.is_file():
        return []
    log = read_log(path)
    keep = slice(None, None, max(1, len(log["time_fs"]) // _POINTS))
    time_ps, energy = log["time_fs"][keep] / 1000, log["potential_ev"][keep] - log["potential_ev"][0]
    if len(time_ps) < 2 or not np.isfinite([log["temperature_k"][keep], energy]).all():
        return []
    return [
        _curve(time_ps, log["temperature_k"][keep], "temperature (K)"),
        _curve(time_ps, energy, "ΔE, potential (eV)"),
    ]


def _curve(time_ps: np.ndarray, values: np.ndarray, label: str) -> Markup:
    span = float(np.ptp(values)) or 1.0
    y = (float(values.min()) - 0.05 * span, float(values.max()) + 0.05 * span)
    axes = Axes((float(time_ps[0]), float(time_ps[-1])), y, 420, 190, (64, 12, 12, 44))
    points = [axes.at(t, v) for t, v in zip(time_ps, values, strict=True)]
    return drawing(420, 190, f"{label} over time", [*axes.frame("time (ps)", label), line(points, "curve")])
