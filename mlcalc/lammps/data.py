"""LAMMPS data files and the input lines every run shares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase import units as ase_units
from numpy.typing import NDArray

from mlcalc.errors import LammpsError, NonFiniteError
from mlcalc.lammps.box import LammpsBox, make_box

ModelFiles = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class LammpsUnits:
    """A LAMMPS unit style, with LAMMPS' own constants (they differ from ASE's in the eighth digit).

    Attributes:
        name: value of the ``units`` command.
        energy: LAMMPS energy units per eV.
        pressure: LAMMPS' ``nktv2p``: pressure units per energy unit and Å³.
        velocity: LAMMPS velocity units per Å/fs.
    """

    name: str
    energy: float
    pressure: float
    velocity: float


UNITS = {
    "metal": LammpsUnits("metal", 1.0, 1.6021765e6, 1000.0),
    "real": LammpsUnits("real", 23.060549, 68568.415, 1.0),
}


def lammps_units(name: str) -> LammpsUnits:
    """Return a unit style.

    Raises:
        LammpsError: for other than ``metal`` and ``real``.
    """
    if name not in UNITS:
        raise LammpsError(f"pair_style mlcalc works with units metal and real, not {name!r}")
    return UNITS[name]


@dataclass(frozen=True)
class AtomTypes:
    """LAMMPS atom types of a structure: one for every pair of element and mass.

    Attributes:
        elements: symbol of each type, as ``pair_coeff`` wants them.
        masses: mass of each type, amu.
        index: (N,) type of each atom, from 1.
    """

    elements: tuple[str, ...]
    masses: tuple[float, ...]
    index: NDArray[np.int64]


def atom_types(atoms: Atoms, elements: tuple[str, ...] | list[str] = ()) -> AtomTypes:
    """Return the atom types of a structure.

    Args:
        atoms: any structure; isotopes (masses that differ within an element) become types of their own.
        elements: symbols that shall have a type, first and in this order, whether or not the structure has them.
    """
    symbols, masses = atoms.get_chemical_symbols(), atoms.get_masses()
    kinds: list[tuple[str, float]] = []
    for symbol in elements:
        own = [float(m) for s, m in zip(symbols, masses, strict=True) if s == symbol]
        kinds.append((symbol, own[0] if own else float(Atoms(symbol).get_masses()[0])))
    pairs = [(symbol, float(mass)) for symbol, mass in zip(symbols, masses, strict=True)]
    kinds += [pair for pair in dict.fromkeys(pairs) if pair not in kinds]
    place = {kind: k + 1 for k, kind in reversed(list(enumerate(kinds)))}
    return AtomTypes(
        elements=tuple(symbol for symbol, _ in kinds),
        masses=tuple(mass for _, mass in kinds),
        index=np.array([place[pair] for pair in pairs], dtype=np.int64),
    )


def write_data(
    atoms: Atoms,
    path: str | os.PathLike[str],
    units: str = "metal",
    types: AtomTypes | None = None,
    box: LammpsBox | None = None,
    velocities: bool = False,
) -> LammpsBox:
    """Write a data file for ``atom_style atomic`` and return its box; atom IDs are ASE's indices plus one.

    Args:
        atoms: structure; atoms may lie outside the cell.
        path: file to write.
        units: ``metal`` or ``real``.
        types: atom types, by default ``atom_types(atoms)``.
        box: by default ``make_box(atoms)``.
        velocities: write the velocities the structure has.

    Raises:
        LammpsError: if LAMMPS cannot hold the structure.
        NonFiniteError: if velocities are NaN or infinite.
    """
    style = lammps_units(units)
    types = types or atom_types(atoms)
    box = box or make_box(atoms)
    high = box.origin + np.diag(box.cell)
    lines = ["written by mlcalc", "", f"{len(atoms)} atoms", f"{len(types.elements)} atom types", ""]
    for k, axis in enumerate("xyz"):
        lines.append(f"{box.origin[k]:.17g} {high[k]:.17g} {axis}lo {axis}hi")
    tilts = (box.cell[1, 0], box.cell[2, 0], box.cell[2, 1])
    if any(tilts):
        lines.append(" ".join(f"{tilt:.17g}" for tilt in tilts) + " xy xz yz")
    lines += ["", "Masses", ""]
    lines += [
        f"{k + 1} {mass:.17g} # {symbol}"
        for k, (mass, symbol) in enumerate(zip(types.masses, types.elements, strict=True))
    ]
    if len(atoms):
        lines += ["", "Atoms # atomic", ""]
        rows = box.vectors_to_lammps(atoms.get_positions())
        lines += [f"{k + 1} {types.index[k]} {x:.17g} {y:.17g} {z:.17g}" for k, (x, y, z) in enumerate(rows)]
    if velocities and len(atoms):
        rows = box.vectors_to_lammps(atoms.get_velocities()) * (ase_units.fs * style.velocity)
        if not np.isfinite(rows).all():
            raise NonFiniteError("velocities are NaN or infinite")
        lines += ["", "Velocities", ""]
        lines += [f"{k + 1} {x:.17g} {y:.17g} {z:.17g}" for k, (x, y, z) in enumerate(rows)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return box


def setup_lines(
    box: LammpsBox, data_file: str | os.PathLike[str], units: str = "metal", processors: str = ""
) -> list[str]:
    """Return the input lines up to and including ``read_data``.

    Axes without periodicity are shrink-wrapped but never smaller than in the data file.
    """
    boundary = " ".join("p" if periodic else "m" for periodic in box.pbc)
    lines = [f"units {lammps_units(units).name}", "atom_style atomic", "newton on", f"boundary {boundary}"]
    if processors:
        lines.append(f"processors {processors}")
    return [*lines, "box tilt large", f'read_data "{data_file}"']


def model_lines(model: ModelFiles, types: AtomTypes, options: str = "") -> list[str]:
    """Return the ``pair_style`` and ``pair_coeff`` lines for a model file, or the files of a committee."""
    names = " ".join(f'"{file}"' for file in file_list(model))
    return [f"pair_style mlcalc {options}".rstrip(), f"pair_coeff * * {names} {' '.join(types.elements)}"]


def file_list(model: ModelFiles) -> list[Path]:
    """Return one model file, or several, as a list."""
    return [Path(model)] if isinstance(model, str | os.PathLike) else [Path(file) for file in model]
