"""The generator `substitution`: known crystals with other elements in the same places.

A prototype and new elements for it are drawn, no two the same, with the probabilities of Hautier et al., Inorg. Chem.
50, 656 (2011); then the cell is scaled by ionic radii, or to the volume that bond lengths known from other crystals
suggest (Chu et al., Comput. Mater. Sci. 146, 184 (2018), in pymatgen). Space group, stoichiometry and atoms in the cell
are the prototype's, so that constraints on them decide which prototypes and which elements are drawn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from mlcalc.crystals.charges import is_charge_balanced
from mlcalc.crystals.distances import closest_pair
from mlcalc.crystals.fingerprints import fingerprint
from mlcalc.crystals.io import read_crystals
from mlcalc.crystals.symmetry import find_space_group
from mlcalc.errors import GeneratorError
from mlcalc.generators._prototypes import Library, aflow_sources, user_sources
from mlcalc.generators._substitution_choices import Choice, Choices
from mlcalc.generators._substitution_volume import predicted_volume, scale, spheres
from mlcalc.generators.base import Candidate, Constraints, Generator, Provenance

#: Larger volumes, in units of the covalent spheres', are molecules in which no molecule is left.
_LOOSE = 8.0


@dataclass
class _Run:
    """One run of sampling: what is drawn from, and what became of it so far.

    Attributes:
        built: atoms and fingerprint of a choice, or why there are none.
        seen: fingerprints of the candidates so far.
    """

    constraints: Constraints
    seed: int
    choices: Choices
    built: dict[tuple[int, tuple[str, ...], bool], tuple[Atoms, str] | str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


class SubstitutionGenerator(Generator):
    """Known prototypes with chemically likely replacements.

    Where the constraints name elements or a formula, these are placed, and prototypes in which they are likely are
    drawn more often. Where they name none, every prototype is as likely as another, each of its elements is replaced by
    one that occurs in prototypes and in the table of probabilities, and the prototype itself is never proposed.

    Crystals with the fingerprint of one that was drawn before in the run are drawn again, until nothing new is found in
    ``attempts`` draws; after that, repeats have volumes up to 10 % off and say so (``details["repeat"]``).

    Args:
        prototypes: structures to start from: a list of Atoms, or a file of them (JSON lines or anything ASE reads);
            None takes AFLOW's 288 prototypes as pymatgen carries them.
        charge_balance: draw again where the prototype's elements can be neutral ions and the new ones cannot
            (``is_charge_balanced``), unless a formula is given; half of the attempts insist on it.
        min_distance: smallest allowed distance in units of the sum of covalent radii, self images included.
        symprec: tolerance of the symmetry that prototypes are idealised to, Å.
        attempts: draws for one candidate before giving up.
    """

    name = "substitution"
    option_names = ("charge_balance", "min_distance", "attempts")

    def __init__(
        self,
        prototypes: str | Path | Sequence[Atoms] | None = None,
        charge_balance: bool = True,
        min_distance: float = 0.7,
        symprec: float = 0.01,
        attempts: int = 200,
    ):
        if attempts < 1:
            raise GeneratorError(f"attempts ({attempts}) must be at least 1")
        if isinstance(prototypes, str | Path):
            prototypes = _read(Path(prototypes))
        sources = aflow_sources() if prototypes is None else user_sources(prototypes)
        self._library = Library(sources, symprec)
        self._hash = self._library.digest()
        self.charge_balance, self.min_distance, self.attempts = charge_balance, min_distance, attempts

    @property
    def model_hash(self) -> str:
        """Hash of prototypes and tolerance."""
        return self._hash

    def sample(self, n: int, constraints: Constraints, seed: int) -> Iterator[Candidate]:
        """Yield ``n`` candidates; see ``Generator.sample``."""
        if n < 0 or seed < 0:
            raise GeneratorError(f"the number of candidates ({n}) and the seed ({seed}) must not be negative")
        if constraints.targets():
            raise GeneratorError(
                f"the generator {self.name!r} knows nothing of {', '.join(constraints.targets())}; "
                "leave the target out or take a generator that has learnt it (wyckoff)"
            )
        if constraints.species():
            constraints.compositions()  # says what is wrong with elements, formula and number of atoms
        fitting = self._library.fitting(constraints)
        if not fitting:
            raise GeneratorError(
                f"none of {len(self._library.sources)} prototypes fits {_describe(constraints)}; "
                "widen n_atoms, allow other space groups, or give more prototypes (--prototypes FILE)"
            )
        return self._sample(n, _Run(constraints, seed, Choices(fitting, constraints, self._library.elements)))

    def _sample(self, n: int, run: _Run) -> Iterator[Candidate]:
        for index in range(n):
            yield self._one(index, run, np.random.default_rng([run.seed, index]))

    def _one(self, index: int, run: _Run, rng: np.random.Generator) -> Candidate:
        failed: Counter[str] = Counter()
        spare: tuple[Choice, Atoms] | None = None
        for attempt in range(self.attempts):
            choice = run.choices.draw(rng)
            insist = self.charge_balance and not run.constraints.formula and 2 * attempt < self.attempts
            key = (choice.prototype.number, tuple(choice.new.values()), insist)
            if key not in run.built:
                run.built[key] = self._build(choice, run.constraints, insist)
            built = run.built[key]
            if isinstance(built, str):
                failed[built] += 1
                continue
            atoms, label = built
            if label not in run.seen:
                run.seen.add(label)
                return self._candidate(index, run, choice, atoms, failed)
            failed["drawn before"] += 1
            spare = spare or (choice, atoms)
        if spare is None:
            raise GeneratorError(
                f"candidate {index} (seed {run.seed}): no crystal of {_describe(run.constraints)} in {self.attempts} "
                f"attempts ({', '.join(f'{reason}: {count}' for reason, count in failed.most_common())}); "
                "allow a larger volume per atom, other space groups, or give more prototypes"
            )
        choice, atoms = spare
        candidate = self._candidate(index, run, choice, self._strained(atoms, run.constraints, rng), failed)
        candidate.provenance.details["repeat"] = True
        return candidate

    def _candidate(self, index: int, run: _Run, choice: Choice, atoms: Atoms, failed: Counter[str]) -> Candidate:
        found = find_space_group(atoms)
        details = {
            "prototype": choice.prototype.source.name,
            "prototype_formula": choice.prototype.source.atoms.get_chemical_formula(empirical=True),
            "replaced": choice.new,
            "oxidation_states": choice.prototype.states,
            "log_probability_of_replacement": choice.log_probability,
            "rejected": sum(failed.values()),
            "options": self.options(),
        }
        provenance = Provenance(
            generator=self.name,
            seed=run.seed,
            index=index,
            model_hash=self.model_hash,
            requested_space_group=choice.prototype.space_group,
            found_space_group=found.number if found else None,
            details=details,
        )
        return Candidate(atoms.copy(), provenance)

    def _build(self, choice: Choice, constraints: Constraints, insist: bool) -> tuple[Atoms, str] | str:
        """Return the prototype with its elements replaced and its volume adapted, and its fingerprint, or a reason."""
        old = choice.prototype.atoms
        same = all(a == b for a, b in choice.new.items())
        if same and not constraints.species():
            return "is the prototype itself"
        atoms = old.copy()
        atoms.symbols = [choice.new[symbol] for symbol in old.symbols]
        if insist and choice.prototype.states is not None and not is_charge_balanced(atoms):
            return "charges out of balance"
        volume = old.get_volume() if same else predicted_volume(old, atoms, choice.prototype.states)
        volume = _clip(volume, len(atoms), constraints)
        if not same and volume > _LOOSE * spheres(atoms):
            return "atoms too far apart"
        scale(atoms, volume)
        atoms.set_cell(minkowski_reduce(atoms.cell)[0])  # the same crystal, in a cell that is good to relax
        atoms.wrap()
        if closest_pair(atoms, self.min_distance) is not None:
            return "atoms too close"
        return atoms, fingerprint(atoms)

    def _strained(self, atoms: Atoms, constraints: Constraints, rng: np.random.Generator) -> Atoms:
        """Return the crystal scaled by up to 10 %, as it is where that brings atoms too close."""
        scaled = atoms.copy()
        scale(scaled, _clip(atoms.get_volume() * float(rng.uniform(0.9, 1.1)), len(atoms), constraints))
        return atoms if closest_pair(scaled, self.min_distance) else scaled


def _read(path: Path) -> list[Atoms]:
    """Read prototypes; how the file names them goes along."""
    found = []
    for crystal in read_crystals(path):
        atoms = crystal.atoms.copy()
        atoms.info = {"name": f"{path.name}:{crystal.name}"}
        found.append(atoms)
    return found


def _clip(volume: float, n: int, constraints: Constraints) -> float:
    """Return the volume of n atoms that is allowed and closest."""
    low, high = constraints.volume_per_atom or (0.0, np.inf)
    return float(np.clip(volume, low * n, high * n))


def _describe(constraints: Constraints) -> str:
    """Name what was asked for."""
    what = constraints.formula or "-".join(constraints.species()) or "any elements"
    groups = f", space groups {', '.join(map(str, constraints.space_groups))}" if constraints.space_groups else ""
    volume = constraints.volume_per_atom
    limits = f", {volume[0]:g} to {volume[1]:g} Å³ per atom" if volume else ""
    return (
        f"{what} with {constraints.n_atoms[0]} to {constraints.n_atoms[1]} atoms in the primitive cell{groups}{limits}"
    )
