"""What others have published for the mlearn sets.

Errors: RMSE on the official test split of mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020)), from the authors' own
potentials (github.com/materialsvirtuallab/mlearn), evaluated again. Properties: of the published MTPs there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """An element: its crystal, errors by potential, and the published MTP's properties.

    ``errors`` holds (meV/atom, eV/Å); lengths in Å, elastic constants in GPa, vacancy in eV.
    """

    crystal: str
    errors: dict[str, tuple[float, float]]
    lattice_constant_ang: float
    c11_gpa: float
    c12_gpa: float
    c44_gpa: float
    vacancy_ev: float


Pair = tuple[float, float]


def _errors(mtp: Pair, nnp: Pair, snap: Pair, qsnap: Pair) -> dict[str, Pair]:
    return {"MTP": mtp, "NNP": nnp, "SNAP": snap, "qSNAP": qsnap}


PUBLISHED = {
    "Ni": Reference(
        "fcc", _errors((0.75, 0.027), (2.25, 0.067), (1.17, 0.085), (1.04, 0.075)), 3.522, 285.0, 173.0, 127.0, 1.43
    ),
    "Li": Reference(
        "bcc", _errors((0.66, 0.0132), (0.98, 0.023), (1.31, 0.038), (0.85, 0.044)), 3.446, 14.0, 13.0, 11.0, 0.52
    ),
    "Mo": Reference(
        "bcc", _errors((3.98, 0.151), (5.43, 0.204), (9.25, 0.376), (4.04, 0.333)), 3.169, 472.0, 154.0, 103.0, 2.61
    ),
    "Si": Reference(
        "diamond", _errors((3.03, 0.088), (6.93, 0.170), (8.06, 0.205), (5.51, 0.177)), 5.464, 142.0, 72.0, 78.0, 3.11
    ),
}
