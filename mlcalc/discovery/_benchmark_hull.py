"""The hull that a benchmark judges by: published formation energies, or references relaxed with the same potential."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.formula import Formula

from mlcalc.crystals.io import LabelledCrystal
from mlcalc.discovery._single_points import single_points
from mlcalc.discovery.formation import (
    MATERIALS_PROJECT,
    ElementCorrections,
    PublishedEntry,
    fit_corrections,
    read_published,
)
from mlcalc.discovery.hull import Hulls, Phase
from mlcalc.discovery.identity import energy_scale
from mlcalc.errors import WorkflowError
from mlcalc.records import Record

# Compounds further off than so many robust standard deviations do not take part in a fit.
_OUTLIER = 4.0
# Published entries, drawn at random, whose stated energy above the hull is compared with that above the file's.
_COMPARED = 500


@dataclass(frozen=True)
class HullFacts(Record):
    """What energies above the hull are worth.

    Attributes:
        source: where the references are from.
        phases: references.
        corrections: that take the potential's energies to the references' scale; None if that is the potential's own.
        failed: crystals that the calculator could not evaluate or relax, and are not among these.
        mean_disagreement_ev_per_atom: between energies above a hull of the published entries alone and those that
            they state of themselves; what phases that the file lacks cost at most, since the hull also passes through
            every point that an entry states. NaN where none are stated.
    """

    source: str
    phases: int
    corrections: ElementCorrections | None
    failed: int
    mean_disagreement_ev_per_atom: float

    def sentence(self) -> str:
        """Say it in words."""
        if self.corrections is None:
            return (
                f"Energies above a hull of {self.phases} references relaxed with the same potential ({self.source}); "
                f"{self.failed} more could not be relaxed."
            )
        fit = self.corrections
        text = (
            f"Energies above a hull of {self.phases} published formation energies ({self.source}). One number for each "
            f"of {len(fit.ev_per_atom)} kinds of elements takes the potential's energies there, fitted to "
            f"{fit.compounds} crystals as published, not relaxed ({fit.outliers} outliers left out, {self.failed} "
            "without an energy): residual "
            f"{1000 * fit.robust_residual_ev_per_atom:.0f} meV/atom (robust standard deviation), "
            f"{1000 * fit.rms_residual_ev_per_atom:.0f} meV/atom (root mean square, outliers too)."
        )
        if isfinite(self.mean_disagreement_ev_per_atom):
            text += (
                " The hull passes through the points that entries state (their own energy less that above the hull); "
                "without that, for want of phases, energies above it would differ from what is stated by "
                f"{1000 * self.mean_disagreement_ev_per_atom:.0f} meV/atom on average."
            )
        return text


@dataclass(frozen=True)
class JudgingHull:
    """Energies above a hull, and what they are worth.

    Attributes:
        above: structure and its total energy, eV → eV per atom above the hull, None if unknown.
        covers: whether the hull holds a phase of exactly a structure's elements.
        facts: where it is from.
    """

    above: Callable[[Atoms, float], float | None]
    covers: Callable[[Atoms], bool]
    facts: HullFacts

    def __call__(self, atoms: Atoms, energy_ev: float) -> float | None:
        """Return ``above``."""
        return self.above(atoms, energy_ev)


def published_hulls(entries: Sequence[PublishedEntry]) -> tuple[Hulls, list[Phase]]:
    """Return hulls of published entries and elements, through every point that an entry states; and the phases alone.

    The whole hull is known at every composition that states how far above it an entry lies.
    """
    elements = sorted({e for entry in entries for e in Formula(entry.formula).count()})
    phases = [Phase(e, e, 0.0) for e in elements]
    phases += [Phase(x.name, x.formula, x.formation_energy_ev_per_atom) for x in entries]
    points = [
        Phase(f"hull at {x.name}", x.formula, x.formation_energy_ev_per_atom - x.e_above_hull_ev_per_atom)
        for x in entries
        if x.e_above_hull_ev_per_atom
    ]
    return Hulls([*phases, *points], MATERIALS_PROJECT), phases


def published_hull(
    path: str | Path, crystals: Sequence[LabelledCrystal], calculator: Any, number: int = 2000, seed: int = 0
) -> JudgingHull:
    """Return the hull of published formation energies, with corrections fitted for a calculator.

    Args:
        path: see ``read_published``.
        crystals: structures that the file names by the same id; a random part is evaluated as it is.
        calculator: the one that is judged by the hull.
        number: crystals for the fit.
        seed: which.

    Raises:
        WorkflowError: a file that cannot be read, or none of its entries is among the crystals.
    """
    entries = {entry.name: entry for entry in read_published(path)}
    rng = np.random.default_rng(seed)
    fitted = [c for c in crystals if c.name in entries]
    fitted = [fitted[k] for k in rng.permutation(len(fitted))[:number]]
    energies = [point.energy_ev for point in single_points([c.atoms for c in fitted], calculator)]
    good = [(c, e) for c, e in zip(fitted, energies, strict=True) if isfinite(e)]
    if not good:
        raise WorkflowError(
            f"no crystal of the training set has the id of an entry of {path} and an energy: nothing takes the "
            "potential's energies to the file's; give --hull-references, structures to relax"
        )
    corrections = fit_corrections(
        [Phase(c.name, c.atoms.get_chemical_formula(), e / len(c.atoms)) for c, e in good],
        [entries[c.name].formation_energy_ev_per_atom for c, _ in good],
        energy_scale(calculator),
        kinds=True,
        outlier=_OUTLIER,
    )
    hulls, phases = published_hulls(list(entries.values()))

    def above(atoms: Atoms, energy_ev: float) -> float | None:
        formation = corrections.formation_energy(atoms, energy_ev / len(atoms), corrections.own_scale)
        return None if formation is None else hulls.above(atoms, formation)

    compared = [list(entries.values())[k] for k in rng.permutation(len(entries))[:_COMPARED]]
    facts = HullFacts(
        Path(path).name,
        len(phases),
        corrections,
        len(fitted) - len(good),
        _disagreement(Hulls(phases, MATERIALS_PROJECT), compared),
    )
    return JudgingHull(above, hulls.covers, facts)


def reference_hull(crystals: Sequence[LabelledCrystal], source: str, calculator: Any, max_steps: int) -> JudgingHull:
    """Return the hull of references relaxed with the calculator that is judged by it; what fails is left out.

    Relaxed references of a potential are kept in mlcalc's cache.

    Args:
        crystals: the references, elements among them.
        source: what to call it.
        calculator: the one that is judged by the hull.
        max_steps: of one relaxation.
    """
    from mlcalc.discovery._reference_cache import ReferenceCache, relax_cached
    from mlcalc.discovery.references import ReferenceSettings

    settings = ReferenceSettings(max_steps=max_steps)
    cache = ReferenceCache.of(calculator, settings, None)
    records = relax_cached([c.atoms for c in crystals], calculator, vars(settings), cache, None)
    phases = [
        Phase(c.name, c.atoms.get_chemical_formula(), record["energy_ev"] / len(c.atoms))
        for c, record in zip(crystals, records, strict=True)
        if record["status"] == "ok"
    ]
    hulls = Hulls(phases, energy_scale(calculator))

    def above(atoms: Atoms, energy_ev: float) -> float | None:
        return hulls.above(atoms, energy_ev / len(atoms))

    return JudgingHull(
        above, hulls.covers, HullFacts(source, len(phases), None, len(crystals) - len(phases), float("nan"))
    )


def _disagreement(hulls: Hulls, entries: Sequence[PublishedEntry]) -> float:
    found = []
    for entry in entries:
        above = hulls.above(entry.formula, entry.formation_energy_ev_per_atom)
        if above is not None and entry.e_above_hull_ev_per_atom is not None:
            found.append(abs(above - entry.e_above_hull_ev_per_atom))
    return float(np.mean(found)) if found else float("nan")
