"""What follows from a stiffness tensor: averages, stability, Young's modulus along directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcalc.records import Record
from mlcalc.workflows._elastic_tensors import NAMES, tensor_of, to_mandel, vector_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ElasticModuli(Record):
    """Moduli of a polycrystal without texture (Hill, Proc. Phys. Soc. A 65, 349 (1952)).

    Attributes:
        bulk_voigt_gpa: uniform strain, upper bound.
        bulk_reuss_gpa: uniform stress, lower bound.
        bulk_hill_gpa: mean of the two.
        shear_voigt_gpa: uniform strain, upper bound.
        shear_reuss_gpa: uniform stress, lower bound.
        shear_hill_gpa: mean of the two.
        young_gpa: 9KG/(3K + G) of the Hill averages.
        poisson: (3K − 2G)/(6K + 2G) of the Hill averages.
        universal_anisotropy: 5 G_V/G_R + K_V/K_R − 6, zero for isotropic crystals (Ranganathan and Ostoja-Starzewski,
            Phys. Rev. Lett. 101, 055504 (2008)).
    """

    bulk_voigt_gpa: float
    bulk_reuss_gpa: float
    bulk_hill_gpa: float
    shear_voigt_gpa: float
    shear_reuss_gpa: float
    shear_hill_gpa: float
    young_gpa: float
    poisson: float
    universal_anisotropy: float


def elastic_moduli(stiffness_gpa: ArrayLike) -> ElasticModuli:
    """Return averages of a stiffness tensor (6, 6; Voigt, GPa). They mean little where it is not positive definite."""
    from pymatgen.analysis.elasticity import ElasticTensor

    tensor = ElasticTensor.from_voigt(np.asarray(stiffness_gpa, dtype=np.float64))
    bulk, shear = float(tensor.k_vrh), float(tensor.g_vrh)
    return ElasticModuli(
        bulk_voigt_gpa=float(tensor.k_voigt),
        bulk_reuss_gpa=float(tensor.k_reuss),
        bulk_hill_gpa=bulk,
        shear_voigt_gpa=float(tensor.g_voigt),
        shear_reuss_gpa=float(tensor.g_reuss),
        shear_hill_gpa=shear,
        # pymatgen's y_mod is in Pa.
        young_gpa=9 * bulk * shear / (3 * bulk + shear),
        poisson=float(tensor.homogeneous_poisson),
        universal_anisotropy=float(tensor.universal_anisotropy),
    )


@dataclass(frozen=True)
class StrainMode(Record):
    """An eigenvector of the stiffness tensor.

    Attributes:
        stiffness_gpa: eigenvalue of Mandel's (Kelvin's) matrix, which no rotation changes; negative: the crystal is
            unstable against this strain.
        strain: (3, 3) tensor of unit Frobenius norm.
    """

    stiffness_gpa: float
    strain: Array

    def describe(self) -> str:
        """Return the strain in words, e.g. ``"xx +0.71, yy -0.71"``; shear as tensor components."""
        components = [self.strain[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
        return ", ".join(f"{name} {x:+.2f}" for name, x in zip(NAMES, components, strict=True) if abs(x) > 0.05)


def strain_modes(stiffness_gpa: ArrayLike) -> tuple[StrainMode, ...]:
    """Return the six modes of a stiffness tensor (6, 6; Voigt), softest first.

    All positive is Born's criterion for any symmetry (Mouhat and Coudert, Phys. Rev. B 90, 224104 (2014)); under
    pressure it holds for stress–strain coefficients (Wang et al., Phys. Rev. Lett. 71, 4182 (1993)).
    """
    values, vectors = np.linalg.eigh(to_mandel(np.asarray(stiffness_gpa)))
    return tuple(StrainMode(float(value), tensor_of(vector)) for value, vector in zip(values, vectors.T, strict=True))


def directional_young(stiffness_gpa: ArrayLike, directions: ArrayLike) -> Array:
    """Return Young's modulus (D,), GPa, for pulling along directions (D, 3): 1/E = S_ijkl n_i n_j n_k n_l."""
    compliance = np.linalg.inv(to_mandel(np.asarray(stiffness_gpa)))
    n = np.asarray(directions, dtype=np.float64)
    n = n / np.linalg.norm(n, axis=1, keepdims=True)
    pulls = np.array([vector_of(np.outer(unit, unit)) for unit in n])
    return np.asarray(1.0 / np.einsum("da,ab,db->d", pulls, compliance, pulls))
