"""From force constants to what people look at: bands, density of states, thermal properties, imaginary modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seekpath
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.physical_units import get_physical_units

from mlcalc.records import Record

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bands(Record):
    """Phonon bands along seekpath's path (Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)).

    Attributes:
        labels: (start, end) of each segment, e.g. ``("Γ", "X")``.
        distances_inv_ang: per segment (Q,) length along the path without 2π, 1/Å; runs on from segment to segment.
        qpoints: per segment (Q, 3) in reciprocal vectors of the primitive cell.
        frequencies_thz: per segment (Q, 3n); imaginary frequencies are negative.
    """

    labels: tuple[tuple[str, str], ...]
    distances_inv_ang: tuple[Array, ...]
    qpoints: tuple[Array, ...]
    frequencies_thz: tuple[Array, ...]


@dataclass(frozen=True)
class PhononDOS(Record):
    """Density of states by the tetrahedron method; integrates to 3n modes of the primitive cell.

    Attributes:
        frequency_thz: (B,) THz.
        states_per_thz: (B,) 1/THz.
    """

    frequency_thz: Array
    states_per_thz: Array


@dataclass(frozen=True)
class ThermalProperties(Record):
    """Harmonic thermal properties per primitive cell; imaginary and Γ-acoustic modes are left out.

    Attributes:
        temperature_k: (T,) K.
        free_energy_ev: (T,) vibrational Helmholtz energy, eV.
        entropy_ev_per_k: (T,) eV/K.
        heat_capacity_ev_per_k: (T,) at constant volume, eV/K.
        modes_left_out: fraction of all modes on the mesh that do not enter.
    """

    temperature_k: Array
    free_energy_ev: Array
    entropy_ev_per_k: Array
    heat_capacity_ev_per_k: Array
    modes_left_out: float


@dataclass(frozen=True)
class ImaginaryMode(Record):
    """One unstable mode.

    Attributes:
        qpoint: in reciprocal vectors of the primitive cell.
        band: index from the lowest.
        frequency_thz: negative.
        found_on: ``"mesh"`` or ``"path"``.
    """

    qpoint: tuple[float, float, float]
    band: int
    frequency_thz: float
    found_on: str


@dataclass(frozen=True)
class PhononAnalysis(Record):
    """Everything derived from one set of force constants; see ``analyse_phonons``.

    Attributes:
        primitive: cell that q-points and per-cell numbers refer to.
        bands: along seekpath's path.
        dos: density of states.
        thermal: thermal properties.
        imaginary: unstable modes, worst first.
        min_frequency_thz: lowest on mesh and path.
        max_frequency_thz: highest on the mesh.
        gamma_acoustic_thz: largest |frequency| of the three acoustic modes at Γ.
    """

    primitive: Atoms
    bands: Bands
    dos: PhononDOS
    thermal: ThermalProperties
    imaginary: tuple[ImaginaryMode, ...]
    min_frequency_thz: float
    max_frequency_thz: float
    gamma_acoustic_thz: float


def analyse_phonons(
    phonon: Phonopy,
    *,
    mesh: float | Sequence[int] = 100.0,
    gamma_centered: bool = True,
    temperatures: tuple[float, float, float] = (0.0, 1000.0, 10.0),
    imaginary_tolerance_thz: float = 0.1,
    path_points: int = 101,
) -> PhononAnalysis:
    """Evaluate a Phonopy object that has force constants (and perhaps Born charges).

    Args:
        phonon: from ``phonopy.load`` or from the ``phonons`` workflow.
        mesh: q-points along each axis, or phonopy's length measure in Å.
        gamma_centered: put Γ on the mesh; phonopy's own default shifts even meshes off it.
        temperatures: (first, last, step), K.
        imaginary_tolerance_thz: modes below minus this are called imaginary.
        path_points: q-points of the longest segment of the path.
    """
    grid = phonon.run_mesh(mesh, is_gamma_center=gamma_centered)
    frequencies = np.array(grid.frequencies)
    total = phonon.run_total_dos()
    thermal = phonon.run_thermal_properties(
        t_min=temperatures[0], t_max=temperatures[1], t_step=temperatures[2], exclude_gamma_acoustic=True
    )
    bands = band_structure(phonon, path_points)
    gamma = np.array(phonon.run_qpoints([[0.0, 0.0, 0.0]]).frequencies)[0]

    imaginary = [
        *_imaginary(np.array(grid.qpoints), frequencies, "mesh", imaginary_tolerance_thz),
        *(
            mode
            for qpoints, values in zip(bands.qpoints, bands.frequencies_thz, strict=True)
            for mode in _imaginary(qpoints, values, "path", imaginary_tolerance_thz)
        ),
    ]
    units = get_physical_units()
    per_kelvin = 1.0 / (1000.0 * units.EvTokJmol)
    return PhononAnalysis(
        primitive=Atoms(
            phonon.primitive.symbols,
            scaled_positions=phonon.primitive.scaled_positions,
            cell=phonon.primitive.cell,
            pbc=True,
        ),
        bands=bands,
        dos=PhononDOS(np.array(total.frequency_points), np.array(total.dos)),
        thermal=ThermalProperties(
            temperature_k=np.array(thermal.temperatures),
            free_energy_ev=np.array(thermal.free_energy) / units.EvTokJmol,
            entropy_ev_per_k=np.array(thermal.entropy) * per_kelvin,
            heat_capacity_ev_per_k=np.array(thermal.heat_capacity) * per_kelvin,
            modes_left_out=1.0 - float(thermal.number_of_integrated_modes) / float(thermal.number_of_modes),
        ),
        imaginary=tuple(sorted(imaginary, key=lambda mode: mode.frequency_thz)),
        min_frequency_thz=float(min(frequencies.min(), *(values.min() for values in bands.frequencies_thz))),
        max_frequency_thz=float(frequencies.max()),
        gamma_acoustic_thz=float(np.sort(np.abs(gamma))[:3].max()),
    )


def band_structure(phonon: Phonopy, points: int) -> Bands:
    """Return bands along seekpath's path for the primitive cell as it lies, not for seekpath's standard one.

    The path is asked for in the basis of this very cell (``get_path_orig_cell``): labels stay right for any choice of
    primitive vectors.
    """
    cell = phonon.primitive
    path = seekpath.get_path_orig_cell(
        (cell.cell, cell.scaled_positions, cell.numbers), symprec=max(phonon.symmetry.tolerance, 1e-5)
    )
    coordinates = {name: np.array(point) for name, point in path["point_coords"].items()}
    reciprocal = np.linalg.inv(np.array(cell.cell)).T
    lengths = [np.linalg.norm((coordinates[b] - coordinates[a]) @ reciprocal) for a, b in path["path"]]
    segments = [
        np.linspace(coordinates[a], coordinates[b], max(round(points * length / max(lengths)), 2))
        for (a, b), length in zip(path["path"], lengths, strict=True)
    ]
    result = phonon.run_band_structure(segments)
    return Bands(
        labels=tuple((_pretty(a), _pretty(b)) for a, b in path["path"]),
        distances_inv_ang=tuple(np.array(item) for item in result.distances),
        qpoints=tuple(np.array(item) for item in result.qpoints),
        frequencies_thz=tuple(np.array(item) for item in result.frequencies),
    )


def _pretty(label: str) -> str:
    return {"GAMMA": "Γ", "SIGMA": "Σ", "DELTA": "Δ", "LAMBDA": "Λ"}.get(label, label)


def _imaginary(qpoints: Array, frequencies: Array, found_on: str, tolerance: float) -> list[ImaginaryMode]:
    return [
        ImaginaryMode(
            qpoint=(float(qpoints[q][0]), float(qpoints[q][1]), float(qpoints[q][2])),
            band=int(band),
            frequency_thz=float(frequencies[q, band]),
            found_on=found_on,
        )
        for q, band in np.argwhere(frequencies < -tolerance)
    ]
