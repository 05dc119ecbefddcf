"""Another scale: published formation energies, and the correction per element that takes a potential there."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.formula import Formula

from mlcalc.crystals.charges import electronegativity
from mlcalc.discovery.hull import Hull, Phase
from mlcalc.discovery.identity import EnergyScale
from mlcalc.errors import WorkflowError
from mlcalc.records import Record

#: Formation energies of the Materials Project, with corrections for anions and for GGA+U (Wang et al., Sci. Rep. 11,
#: 15496 (2021)).
MATERIALS_PROJECT = EnergyScale("formation energies, PBE and PBE+U with MP2020 corrections", "Materials Project")

# Elements that MP2020 corrects as anions, and metals with +U in oxides and fluorides (Wang et al., table 1).
_ANIONS = frozenset({"O", "S", "F", "Cl", "Br", "I", "N", "Se", "Si", "Sb", "Te", "H"})
_METALS_WITH_U = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "W", "Mo"})
_ROUNDS = 50
_ROUNDING = 1e-9

# An element is determined if the compounds fix it to this part of itself.
_DETERMINED = 1e-6


@dataclass(frozen=True)
class Published(Record):
    """Published formation energies of a chemical system.

    Attributes:
        phases: one an entry, eV per atom; elements are zero by definition and added.
        hull: their hull.
        largest_disagreement_ev_per_atom: between energies above this hull and those that the entries state of
            themselves; zero if the file holds every phase of the hull, None if it states none. More says what phases
            are missing cost.
    """

    phases: tuple[Phase, ...]
    hull: Hull
    largest_disagreement_ev_per_atom: float | None


@dataclass(frozen=True)
class PublishedEntry(Record):
    """One line of a file of formation energies; energies in eV per atom, ``e_above_hull`` None where not stated."""

    name: str
    formula: str
    formation_energy_ev_per_atom: float
    e_above_hull_ev_per_atom: float | None


def read_published(path: str | Path) -> list[PublishedEntry]:
    """Read JSON lines with ``formula``, ``formation_energy_per_atom`` and, if known, ``e_above_hull`` and ``id``.

    Args:
        path: ``.jsonl`` or ``.jsonl.gz``.

    Raises:
        WorkflowError: no such file, or a line that cannot be read (named).
    """
    path = Path(path)
    if not path.is_file():
        raise WorkflowError(f"no file {path} of formation energies")
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = []
    for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            Formula(row["formula"])
            above = row.get("e_above_hull")
            energy = float(row["formation_energy_per_atom"])
            name = str(row.get("id", number))
            found.append(PublishedEntry(name, row["formula"], energy, None if above is None else float(above)))
        except (KeyError, TypeError, ValueError) as error:
            raise WorkflowError(f"{path}, line {number}: {type(error).__name__}: {error}") from error
    return found


def read_formation_energies(
    path: str | Path, elements: Sequence[str], scale: EnergyScale = MATERIALS_PROJECT
) -> Published:
    """Read the entries of a chemical system, see ``read_published``, and make their hull.

    Args:
        path: ``.jsonl`` or ``.jsonl.gz``.
        elements: of the chemical system; entries with others are left out.
        scale: what the energies are.

    Raises:
        WorkflowError: no such file, or a line that cannot be read (named).
    """
    rows = [row for row in read_published(path) if set(Formula(row.formula).count()) <= set(elements)]
    phases = [Phase(row.name, row.formula, row.formation_energy_ev_per_atom) for row in rows]
    hull = Hull([*(Phase(e, e, 0.0) for e in elements), *phases], scale)
    differences = [
        abs(above - row.e_above_hull_ev_per_atom)
        for row in rows
        if row.e_above_hull_ev_per_atom is not None
        and (above := hull.energy_above_hull(row.formula, row.formation_energy_ev_per_atom, scale)) is not None
    ]
    return Published(tuple(phases), hull, max(differences, default=None))


@dataclass(frozen=True)
class ElementCorrections(Record):
    """One number an element, or a kind of element, that takes a potential's energies to published formation energies.

    Attributes:
        ev_per_atom: element or kind (``mp2020_kinds``) → what is subtracted for each of its atoms, eV.
        undetermined: those that the compounds do not fix; of compounds with them nothing is known.
        rms_residual_ev_per_atom: over all compounds, outliers too; what the corrected numbers are worth at best.
        robust_residual_ev_per_atom: 1.4826 × median of the residuals' sizes: of most compounds.
        largest_residual_ev_per_atom: over all compounds.
        compounds: that were given.
        outliers: of them, left out of the fit.
        kinds: whether kinds of elements were told apart.
        own_scale: of the potential.
        scale: that is reached.
    """

    ev_per_atom: dict[str, float]
    undetermined: tuple[str, ...]
    rms_residual_ev_per_atom: float
    robust_residual_ev_per_atom: float
    largest_residual_ev_per_atom: float
    compounds: int
    outliers: int
    kinds: bool
    own_scale: EnergyScale
    scale: EnergyScale

    def formation_energy(self, atoms: Atoms | str, energy_ev_per_atom: float, scale: EnergyScale) -> float | None:
        """Return the corrected formation energy, eV per atom; None with an element that is not determined.

        Raises:
            WorkflowError: the energy is not of the potential that was fitted.
        """
        if scale != self.own_scale:
            raise WorkflowError(f"corrections for {self.own_scale} do not fit energies of {scale}")
        counts = _columns(atoms.symbols.formula if isinstance(atoms, Atoms) else Formula(atoms), self.kinds)
        if not set(counts) <= set(self.ev_per_atom):
            return None
        shift = sum(n * self.ev_per_atom[element] for element, n in counts.items())
        return energy_ev_per_atom - shift / sum(counts.values())


def fit_corrections(
    compounds: Sequence[Phase],
    published_ev_per_atom: Sequence[float],
    own_scale: EnergyScale,
    scale: EnergyScale = MATERIALS_PROJECT,
    *,
    kinds: bool = False,
    outlier: float | None = None,
) -> ElementCorrections:
    """Fit E_i − Σ_e x_ie μ_e = E_f,i by least squares, x_ie being the share of element e in compound i.

    Args:
        compounds: with the potential's energies, eV per atom; elements among them have formation energy zero.
        published_ev_per_atom: formation energies of the same compounds, eV per atom.
        own_scale: of the potential's energies.
        scale: of the published ones.
        kinds: tell anions and the metals of GGA+U apart, see ``mp2020_kinds``.
        outlier: compounds with a residual of more than so many robust standard deviations are left out, and the fit
            is made again until none are; None keeps all.

    Raises:
        WorkflowError: no compounds, enthalpies at a pressure, or lists of different lengths.
    """
    if own_scale.pressure_gpa or scale.pressure_gpa:
        raise WorkflowError("published formation energies are at zero pressure; make a hull of the potential's own")
    if not compounds or len(compounds) != len(published_ev_per_atom):
        raise WorkflowError("corrections need compounds with energies, and a published formation energy of each")
    counts: list[Mapping[str, int]] = [_columns(Formula(phase.formula), kinds) for phase in compounds]
    elements = sorted({element for c in counts for element in c})
    shares = np.array([[c.get(e, 0) / sum(c.values()) for e in elements] for c in counts])
    target = np.array([phase.energy_ev_per_atom for phase in compounds]) - np.array(published_ev_per_atom, dtype=float)
    if not np.isfinite(target).all():
        raise WorkflowError("corrections cannot be fitted to energies that are not finite")
    kept = np.ones(len(target), dtype=bool)
    for _ in range(_ROUNDS):
        values, _, rank, _ = np.linalg.lstsq(shares[kept], target[kept], rcond=None)
        residual = np.abs(shares @ values - target)
        # Far-off compounds must not decide how far is far; a perfect fit has none.
        before, deviation = kept, 1.4826 * float(np.median(residual))
        kept = residual <= max((outlier or np.inf) * deviation, _ROUNDING)
        if (kept == before).all():
            break
    # An element is fixed where its unit vector lies in the row space of the compositions.
    _, _, rows = np.linalg.svd(shares[before], full_matrices=False)
    fixed = np.linalg.norm(rows[:rank], axis=0) ** 2 > 1.0 - _DETERMINED
    return ElementCorrections(
        ev_per_atom={e: float(v) for e, v, ok in zip(elements, values, fixed, strict=True) if ok},
        undetermined=tuple(e for e, ok in zip(elements, fixed, strict=True) if not ok),
        rms_residual_ev_per_atom=float(np.sqrt((residual**2).mean())),
        robust_residual_ev_per_atom=deviation,
        largest_residual_ev_per_atom=float(residual.max()),
        compounds=len(compounds),
        outliers=int((~before).sum()),
        kinds=kinds,
        own_scale=own_scale,
        scale=scale,
    )


def mp2020_kinds(formula: str) -> dict[str, int]:
    """Return the atoms of a formula by the kinds that the Materials Project's corrections tell apart.

    An element that is corrected as an anion is one where it is the most electronegative of a compound (``"O anion"``);
    V, Cr, Mn, Fe, Co, Ni, Mo and W have a +U in oxides and fluorides (``"Fe +U"``). Peroxides and superoxides count as
    oxides.
    """
    return _columns(Formula(formula), True)


def _columns(formula: Formula, kinds: bool) -> dict[str, int]:
    counts: dict[str, int] = formula.count()
    if not kinds or len(counts) == 1:
        return counts
    most = max(counts, key=lambda e: (np.nan_to_num(electronegativity(e), nan=-1.0), e))

    def kind(element: str) -> str:
        if element == most and element in _ANIONS:
            return f"{element} anion"
        return f"{element} +U" if most in ("O", "F") and element in _METALS_WITH_U else element

    return {kind(element): n for element, n in counts.items()}
