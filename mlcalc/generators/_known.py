"""Crystals that are known already, as digests of their fingerprints: small enough to travel with weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from ase import Atoms
from torch import Tensor

from mlcalc.crystals.fingerprints import fingerprint


class KnownFingerprints:
    """A set of fingerprints (``mlcalc.crystals.fingerprint``), 64 bits of each, and of their formulas.

    Symmetry is only looked for where the formula is known.

    Args:
        fingerprints: as ``fingerprint`` writes them, formula first.
        symprec: tolerance that they were made with, Å.
    """

    def __init__(self, fingerprints: Iterable[str] = (), symprec: float = 0.1) -> None:
        texts = list(fingerprints)
        self.symprec = symprec
        self._whole = {_digest(text) for text in texts}
        self._formulas = {_digest(text.split(maxsplit=1)[0]) for text in texts}
        # The only crystal of a formula so far, whose fingerprint nobody has asked for.
        self._single: dict[int, Atoms] = {}

    def __len__(self) -> int:
        return len(self._whole)

    def copy(self) -> KnownFingerprints:
        """Return a set to which more can be added."""
        made = KnownFingerprints(symprec=self.symprec)
        made._whole, made._formulas, made._single = set(self._whole), set(self._formulas), dict(self._single)
        return made

    def update(self, other: KnownFingerprints) -> None:
        """Add what a set from a file holds."""
        self._whole |= other._whole
        self._formulas |= other._formulas

    def add(self, atoms: Atoms) -> bool:
        """Add the fingerprint of a crystal, and return whether it is new."""
        formula = _digest(atoms.symbols.formula.reduce()[0].format("hill"))
        if formula not in self._formulas:
            self._formulas.add(formula)
            self._single[formula] = atoms
            return True
        if formula in self._single:
            self._whole.add(_digest(fingerprint(self._single.pop(formula), self.symprec)))
        whole = _digest(fingerprint(atoms, self.symprec))
        new = whole not in self._whole
        self._whole.add(whole)
        return new

    def to_tensors(self) -> tuple[Tensor, Tensor]:
        """Return the digests of fingerprints and of formulas, int64, sorted."""
        whole, formulas = (torch.tensor(sorted(part), dtype=torch.int64) for part in (self._whole, self._formulas))
        return whole, formulas

    @classmethod
    def from_tensors(cls, whole: Tensor, formulas: Tensor, symprec: float = 0.1) -> KnownFingerprints:
        """Build from ``to_tensors`` output."""
        made = cls(symprec=symprec)
        made._whole, made._formulas = set(whole.tolist()), set(formulas.tolist())
        return made


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
