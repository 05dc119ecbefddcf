"""What a campaign found: crystals in order, and what became of every candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ase.io.jsonio
from ase import Atoms

from mlcalc.discovery._campaign_settings import CampaignSettings
from mlcalc.discovery.funnel import Stage
from mlcalc.discovery.references import References
from mlcalc.records import Record, jsonable


@dataclass(frozen=True)
class Gathered:
    """Candidates, and all records by stage and candidate."""

    pool: list[Atoms]
    records: dict[str, dict[int, dict[str, Any]]]

    def of(self, stage: str) -> dict[int, dict[str, Any]]:
        """Return the records of a stage by candidate."""
        return self.records.get(stage, {})

    def reached(self, index: int) -> tuple[str, dict[str, Any]]:
        """Return the last stage with a record of this candidate, and the record."""
        stages = ("dynamics", "phonons on a mesh", "phonons", "relaxation", "ranking", "uniqueness", "distances")
        for stage in stages:
            if index in self.of(stage):
                return stage, self.of(stage)[index]
        return "candidates", {"status": "ok"}

    def last(self, index: int) -> dict[str, Any]:
        """Return the record with a candidate's final structure and energy."""
        vibrated = self.of("phonons").get(index, {})
        return vibrated if "energy_ev" in vibrated else self.of("relaxation")[index]

    def final(self, index: int) -> Atoms:
        """Return a relaxed candidate, after modes were followed."""
        atoms = ase.io.jsonio.decode(self.last(index)["atoms"])
        assert isinstance(atoms, Atoms)
        return atoms


@dataclass(frozen=True)
class RankedCrystal(Record):
    """A distinct crystal of a campaign.

    Attributes:
        rank: 1 is the lowest above the hull; crystals without a place on the hull come last.
        index: of the candidate that stands for it.
        members: all candidates that ended there.
        formula: reduced.
        n_atoms: in the cell.
        energy_ev_per_atom: eV per atom, or enthalpy at the campaign's pressure.
        formation_energy_ev_per_atom: relative to the elements' references; None if one is missing.
        energy_above_hull_ev_per_atom: relative to the references alone, negative: below all of them; None if unknown.
        on_hull: still on the hull when all candidates are on it too; None if unknown.
        known_as: names of references that are the same crystal; empty: not among the references given.
        space_group: number, and ``space_group_symbol``.
        charge_balanced: see ``is_charge_balanced``; one in five known crystals is not.
        followed_mode: an imaginary mode at Γ was followed to here.
        dynamically_stable: no imaginary modes at Γ; None without phonons.
        min_frequency_thz: at Γ.
        dynamically_stable_mesh: no imaginary modes in a supercell; None where that was not tried.
        min_frequency_mesh_thz: on the mesh and the path of bands.
        imaginary_qpoint: of the worst imaginary mode, in reciprocal vectors of the primitive cell; it is not followed.
        held_in_dynamics: None without dynamics.
        free_energy_ev_per_atom: quasi-harmonic Gibbs energy at the settings' temperature and pressure; None without.
        free_energy_above_lowest_ev_per_atom: above the lowest of the same composition.
        free_energy_refused: why there is none, though it was asked for.
        atoms: the relaxed structure.
    """

    rank: int
    index: int
    members: tuple[int, ...]
    formula: str
    n_atoms: int
    energy_ev_per_atom: float
    formation_energy_ev_per_atom: float | None
    energy_above_hull_ev_per_atom: float | None
    on_hull: bool | None
    known_as: tuple[str, ...]
    space_group: int | None
    space_group_symbol: str | None
    charge_balanced: bool
    followed_mode: bool
    dynamically_stable: bool | None
    min_frequency_thz: float | None
    dynamically_stable_mesh: bool | None
    min_frequency_mesh_thz: float | None
    imaginary_qpoint: tuple[float, float, float] | None
    held_in_dynamics: bool | None
    free_energy_ev_per_atom: float | None
    free_energy_above_lowest_ev_per_atom: float | None
    free_energy_refused: str | None
    atoms: Atoms


@dataclass(frozen=True)
class CampaignResult(Record):
    """What a campaign found.

    Attributes:
        candidates: how many there were; every one is counted below.
        unreadable: files that were to be candidates and could not be read, with reasons.
        stages: entered, passed, and who was stopped why; ``not tried`` counts those beyond the numbers of the settings.
        ranked: distinct crystals, lowest above the hull first.
        references: what the hull is made of.
        cost: by stage, seconds, optimiser steps and candidates.
        settings: what decided.
    """

    candidates: int
    unreadable: tuple[str, ...]
    stages: tuple[Stage, ...]
    ranked: tuple[RankedCrystal, ...]
    references: References
    cost: dict[str, dict[str, float]]
    settings: CampaignSettings

    def rows(self) -> list[dict[str, Any]]:
        """Return the ranked crystals as plain dictionaries."""
        return [crystal.to_dict() for crystal in self.ranked]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            **super().to_dict(),
            "stages": [jsonable(vars(stage)) for stage in self.stages],
            "settings": self.settings.flat(),
            "hull": self.references.hull().to_dict(),
        }
