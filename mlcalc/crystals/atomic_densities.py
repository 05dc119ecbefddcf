"""Electron densities of free atoms, superposed in a periodic cell, by their X-ray form factors."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms

from mlcalc.errors import CodecError

#: Smearing of the electron density, Å: that of thermal motion with B = 8π²·0.25² = 4.9 Å².
SMEARING = 0.25
#: sin θ/λ in 1/Å up to which the tables hold for all elements.
_END = 1.0


@cache
def _parameters(symbol: str) -> np.ndarray:
    from pymatgen.analysis.diffraction.xrd import ATOMIC_SCATTERING_PARAMS  # takes a second and matplotlib

    if symbol not in ATOMIC_SCATTERING_PARAMS:
        raise CodecError(f"{symbol}: no electron density of the free atom is tabulated")
    return np.array(ATOMIC_SCATTERING_PARAMS[symbol])


def form_factor(symbol: str, number: int, s: np.ndarray) -> np.ndarray:
    """Return the Fourier transform of an atom's electron density, in electrons.

    From tabulated electron scattering factors (L.-M. Peng et al., Acta Cryst. A52, 257 (1996), in pymatgen) by the
    Mott–Bethe formula: f = Z − 8π²a₀ s² Σ aᵢ exp(−bᵢ s²). Beyond 1/Å, where the tables end for light elements, it
    falls off with s⁻⁴.

    Args:
        symbol: element.
        number: its atomic number Z.
        s: sin θ/λ = |G|/4π, 1/Å.

    Raises:
        CodecError: an element without table.
    """
    within = np.minimum(s, _END)
    a, b = _parameters(symbol).T
    gaussians = sum(x * np.exp(-y * within**2) for x, y in zip(a, b, strict=True))
    found: np.ndarray = (number - 41.78214 * within**2 * gaussians) * (_END / np.maximum(s, _END)) ** 4
    return found


def superposed_density(atoms: Atoms, points: tuple[int, int, int], blur_voxels: float = 0.0) -> np.ndarray:
    """Return the sum of the electron densities of free atoms, smeared, on a grid that begins at the cell's corner.

    The sum is taken in reciprocal space: all periodic images are in it, and it integrates to the number of electrons.

    Args:
        atoms: a crystal.
        points: of the grid along each cell vector.
        blur_voxels: standard deviation of a further Gaussian along each cell vector, in voxels.

    Returns:
        ``points`` array, electrons per Å³.

    Raises:
        CodecError: an element without tabulated density.
    """
    waves = [np.fft.fftfreq(points[0], 1 / points[0]), np.fft.fftfreq(points[1], 1 / points[1])]
    waves.append(np.fft.rfftfreq(points[2], 1 / points[2]))
    mesh = np.stack(np.meshgrid(*waves, indexing="ij"), axis=-1)
    length = 2 * np.pi * np.linalg.norm(mesh @ atoms.cell.reciprocal(), axis=-1)
    scaled = atoms.get_scaled_positions()
    phases = [np.exp(-2j * np.pi * np.outer(scaled[:, k], waves[k])) for k in range(3)]
    total = np.zeros(length.shape, dtype=complex)
    for symbol in sorted(set(atoms.get_chemical_symbols())):
        own = np.array(atoms.symbols) == symbol
        structure = np.einsum("ja,jb,jc->abc", *(phase[own] for phase in phases), optimize=True)
        total += form_factor(symbol, int(atoms.numbers[own][0]), length / (4 * np.pi)) * structure
    blur = np.exp(-0.5 * (2 * np.pi * blur_voxels * mesh / np.array(points)) ** 2).prod(axis=-1)
    total *= np.exp(-0.5 * (SMEARING * length) ** 2) * blur
    density: np.ndarray = np.fft.irfftn(total, s=points, axes=(0, 1, 2)) * (np.prod(points) / atoms.get_volume())
    return density
