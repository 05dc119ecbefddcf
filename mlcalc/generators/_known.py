"""Crystals that are known already, as digests of their fingerprints: small enough to travel with weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from ase import Atoms
from torch import Tensor

from mlcalc.crystals.fingerprints import fingerprint


class KnownFingerprints:
    """A set of fingerprints (``mlcalc.crystals.fingerprint``), 64 bits of each.

    Args:
        fingerprints: as ``fingerprint`` writes them.
        symprec: tolerance that they were made with, Å.
    """

    def __init__(self, fingerprints: Iterable[str] = (), symprec: float = 0.1) -> None:
        self.symprec = symprec
        self._whole = {_digest(text) for text in fingerprints}

    def __len__(self) -> int:
        return len(self._whole)

    def copy(self) -> KnownFingerprints:
        """Return a set to which more can be added."""
        made = KnownFingerprints(symprec=self.symprec)
        made._whole = set(self._whole)
        return made

    def add(self, atoms: Atoms) -> bool:
        """Add the fingerprint of a crystal, and return whether it is new."""
        whole = _digest(fingerprint(atoms, self.symprec))
        new = whole not in self._whole
        self._whole.add(whole)
        return new

    def to_tensor(self) -> Tensor:
        """Return the digests, (n,) int64, sorted."""
        return torch.tensor(sorted(self._whole), dtype=torch.int64)

    @classmethod
    def from_tensor(cls, digests: Tensor | None, symprec: float = 0.1) -> KnownFingerprints:
        """Build from ``to_tensor`` output; nothing is known without."""
        made = cls(symprec=symprec)
        made._whole = set() if digests is None else set(digests.tolist())
        return made


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
