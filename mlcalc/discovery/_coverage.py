"""The usual measures of crystals as generated: valid structures, valid compositions, coverage of held-out crystals.

Definitions are those of CDVAE (Xie et al., ICLR 2022) with its fingerprints: CrystalNN's order parameters ("ops") of
matminer, averaged over sites, and the Magpie statistics of the composition; and with SMACT's states of oxidation of
2014 and its test of electronegativities (Davies et al., Chem 1, 617 (2016)). Both packages are of the extra `metrics`.
Coverage saturates and a valid structure is one in which no two atoms of one cell lie within 0.5 Å, images of an atom
itself aside: these numbers are there to be compared with published ones. What this project counts by is stricter, see
``mlcalc.discovery.benchmark``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlcalc.crystals.structures import structure_of
from mlcalc.errors import SettingsError

#: Largest distances of fingerprints (structure, composition) at which a crystal counts as covered, by CDVAE.
CUTOFFS = {"perov_5": (0.2, 4.0), "carbon_24": (0.2, 4.0), "mp_20": (0.4, 10.0)}
_CLOSEST_ANG, _SMALLEST_ANG3 = 0.5, 0.1
_SITE, _MAGPIE = 61, 132


@dataclass(frozen=True)
class Fingerprints:
    """Two vectors a crystal.

    Attributes:
        structure: (n, 61) mean order parameters of the sites; a row of NaN where CrystalNN finds no neighbours.
        composition: (n, 132) statistics of elemental properties, not scaled.
    """

    structure: np.ndarray
    composition: np.ndarray


def structure_is_valid(atoms: Atoms) -> bool:
    """Return whether no two atoms lie closer than 0.5 Å and the cell is larger than 0.1 Å³, as CDVAE counts.

    Distances between an atom and its own images are not looked at, there as here.
    """
    if atoms.get_volume() < _SMALLEST_ANG3:
        return False
    distances = np.array(structure_of(atoms).distance_matrix)
    return bool((distances + np.diag(np.full(len(atoms), _CLOSEST_ANG + 1))).min() >= _CLOSEST_ANG)


def composition_is_valid(atoms: Atoms) -> bool:
    """Return whether SMACT finds states of oxidation (those of 2014) that make it neutral, or it is all metals.

    Raises:
        SettingsError: SMACT is not installed.
    """
    from ase.formula import Formula

    try:
        from smact.screening import smact_validity
    except ImportError as error:
        raise SettingsError("validity of compositions needs SMACT; pip install 'mlcalc[metrics]'") from error
    formula = Formula.from_list(atoms.get_chemical_symbols()).reduce()[0].format("hill")
    return bool(smact_validity(str(formula), oxidation_states_set="smact14"))


def fingerprints(crystals: Sequence[Atoms], progress: Callable[[int, int], None] | None = None) -> Fingerprints:
    """Return both fingerprints of crystals; about 0.02 s a site.

    Args:
        crystals: periodic along three axes.
        progress: called with how far and out of how many.

    Raises:
        SettingsError: matminer is not installed.
    """
    try:
        from matminer.featurizers.composition import ElementProperty
        from matminer.featurizers.site.fingerprint import CrystalNNFingerprint
    except ImportError as error:
        raise SettingsError("coverage needs matminer; pip install 'mlcalc[metrics]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of radii and electronegativities that some elements lack
        sites: Any = CrystalNNFingerprint.from_preset("ops")
        elements: Any = ElementProperty.from_preset("magpie")
        structure = np.full((len(crystals), _SITE), np.nan)
        composition = np.full((len(crystals), _MAGPIE), np.nan)
        for k, atoms in enumerate(crystals):
            crystal = structure_of(atoms)
            composition[k] = elements.featurize(crystal.composition)
            try:
                structure[k] = np.mean([sites.featurize(crystal, site) for site in range(len(crystal))], axis=0)
            except Exception:  # whatever CrystalNN stumbles on: the row stays NaN, and counts as not covered
                structure[k] = np.nan
            if progress:
                progress(k + 1, len(crystals))
    return Fingerprints(structure, composition)


def coverage(
    generated: Fingerprints,
    reference: Fingerprints,
    scale: np.ndarray,
    cutoffs: tuple[float, float] = CUTOFFS["perov_5"],
) -> tuple[np.ndarray, np.ndarray]:
    """Return which generated crystals are near some reference, and which references near some generated crystal.

    Near means: the closest structure is within the first cutoff and the closest composition within the second; the two
    need not be the same crystal, as in CDVAE. Rows without a fingerprint are near nothing.

    Args:
        generated: of what is judged.
        reference: of crystals that the generator has not seen.
        scale: (m, 132) compositions whose mean and standard deviation scale those of both.
        cutoffs: for structures and compositions.

    Returns:
        (n,) bool, whose mean is the precision, and (references,) bool, whose mean is the recall.
    """
    from scipy.spatial.distance import cdist

    middle, spread = scale.mean(axis=0), scale.std(axis=0)
    spread[spread == 0] = 1.0
    one, two = ((f.composition - middle) / spread for f in (generated, reference))
    near = []
    for a, b, cutoff in ((generated.structure, reference.structure, cutoffs[0]), (one, two, cutoffs[1])):
        distance = cdist(a, b)
        distance[np.isnan(distance)] = np.inf
        near.append((distance.min(axis=1, initial=np.inf) <= cutoff, distance.min(axis=0, initial=np.inf) <= cutoff))
    return near[0][0] & near[1][0], near[0][1] & near[1][1]
