"""Crystals as padded tensors for the generator `flow`: reading, scales, batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcalc.errors import GeneratorError
from mlcalc.generators._flow_lattice import reduced, to_cells, to_shape


@dataclass(frozen=True)
class FlowCrystal:
    """One crystal as numbers.

    Attributes:
        species: (N,) indices into the elements, ascending: equal atoms stand together.
        coordinates: (N, 3) fractional, in Niggli's cell.
        shape: (6,) of the lattice (``_flow_lattice.py``).
        labels: (P,), NaN where unknown.
    """

    species: np.ndarray
    coordinates: np.ndarray
    shape: np.ndarray
    labels: np.ndarray


def to_numbers(
    atoms: Atoms, elements: Sequence[str], labels: dict[str, float] | None = None, properties: Sequence[str] = ()
) -> FlowCrystal:
    """Turn a crystal into numbers.

    Raises:
        GeneratorError: an element is not among ``elements``.
    """
    index = {symbol: k for k, symbol in enumerate(elements)}
    unknown = sorted(set(atoms.symbols) - set(index))
    if unknown:
        raise GeneratorError(f"{unknown[0]} is none of the elements the model knows: {' '.join(elements)}")
    copy = reduced(atoms)
    species = np.array([index[s] for s in copy.symbols])
    order = np.argsort(species, kind="stable")
    return FlowCrystal(
        species[order],
        copy.get_scaled_positions()[order],
        to_shape(copy.cell.array, len(copy)),
        np.array([(labels or {}).get(name, np.nan) for name in properties], dtype=float),
    )


@dataclass(frozen=True)
class Scales:
    """What the networks need to know of the data to see numbers of order one.

    Attributes:
        volumes: (K,) logarithms of volumes that elements add: their mean over the atoms is a first guess of
            log(volume per atom).
        middle, spread: (6,) of shapes, the first number less that guess.
        label_middle, label_spread: (P,) of the labels.
        sizes: share of crystals with 1, 2, … atoms.
    """

    volumes: tuple[float, ...]
    middle: tuple[float, ...]
    spread: tuple[float, ...]
    label_middle: tuple[float, ...]
    label_spread: tuple[float, ...]
    sizes: tuple[float, ...]

    @classmethod
    def of(cls, crystals: Sequence[FlowCrystal], n_elements: int) -> Scales:
        """Fit them to a training set."""
        shares = np.stack([np.bincount(c.species, minlength=n_elements) / len(c.species) for c in crystals])
        shapes = np.stack([c.shape for c in crystals])
        centre = shapes[:, 0].mean()
        ridge = shares.T @ shares + 0.5 * np.eye(n_elements)
        volumes = np.linalg.solve(ridge, shares.T @ (shapes[:, 0] - centre)) + centre
        shapes[:, 0] -= shares @ volumes
        labels = np.stack([c.labels for c in crystals])
        known = [column[~np.isnan(column)] for column in labels.T]
        sizes = np.bincount([len(c.species) for c in crystals])[1:] / len(crystals)
        return cls(
            tuple(map(float, volumes)),
            tuple(map(float, shapes.mean(axis=0))),
            # Where the data does not vary (cubic cells), noise that is small but not none keeps the flow well behaved.
            tuple(map(float, np.maximum(shapes.std(axis=0), 0.02))),
            tuple(float(k.mean()) if len(k) else 0.0 for k in known),
            tuple(float(max(k.std(), 1e-6)) if len(k) > 1 else 1.0 for k in known),
            tuple(map(float, sizes)),
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scales:
        """Build from ``to_dict`` output."""
        return cls(**{name: tuple(map(float, numbers)) for name, numbers in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    def _guess(self, species: Tensor, atom: Tensor) -> Tensor:
        volumes = torch.tensor(self.volumes)[species] * atom
        return volumes.sum(dim=1) / atom.sum(dim=1)

    def scaled(self, shape: Tensor, species: Tensor, atom: Tensor) -> Tensor:
        """Return lattices of order one, (B, 6)."""
        moved = torch.cat([shape[:, :1] - self._guess(species, atom)[:, None], shape[:, 1:]], dim=1)
        return (moved - torch.tensor(self.middle)) / torch.tensor(self.spread)

    def shape(self, scaled: Tensor, species: Tensor, atom: Tensor) -> Tensor:
        """Return shapes from lattices of order one, (B, 6)."""
        moved = scaled * torch.tensor(self.spread) + torch.tensor(self.middle)
        return torch.cat([moved[:, :1] + self._guess(species, atom)[:, None], moved[:, 1:]], dim=1)

    def told(self, labels: Tensor) -> Tensor:
        """Return what the networks are told of labels (B, P): values of order one, and which are known, (B, 2P)."""
        values = (labels - torch.tensor(self.label_middle)) / torch.tensor(self.label_spread)
        return torch.cat([torch.nan_to_num(values.clamp(-4, 4)), (~labels.isnan()).to(labels)], dim=1)


@dataclass(frozen=True)
class FlowBatch:
    """Padded crystals.

    Attributes:
        species: (B, N) indices, 0 where there is no atom.
        atom: (B, N) true where there is an atom.
        coordinates: (B, N, 3).
        shape: (B, 6).
        labels: (B, P).
    """

    species: Tensor
    atom: Tensor
    coordinates: Tensor
    shape: Tensor
    labels: Tensor


def collate(crystals: Sequence[FlowCrystal]) -> FlowBatch:
    """Pad crystals into one batch."""
    b, n = len(crystals), max(len(c.species) for c in crystals)
    species, atom = np.zeros((b, n), np.int64), np.zeros((b, n), bool)
    coordinates = np.zeros((b, n, 3), np.float32)
    for k, c in enumerate(crystals):
        m = len(c.species)
        species[k, :m], atom[k, :m], coordinates[k, :m] = c.species, True, c.coordinates
    return FlowBatch(
        torch.from_numpy(species),
        torch.from_numpy(atom),
        torch.from_numpy(coordinates),
        torch.from_numpy(np.stack([c.shape for c in crystals]).astype(np.float32)),
        torch.from_numpy(np.stack([c.labels for c in crystals]).astype(np.float32)),
    )


def chunks(sizes: Sequence[int], batch: int, order: np.ndarray, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield batches of indices, crystals of like size together, in an order that follows from the arguments alone.

    Args:
        sizes: atoms of each crystal.
        batch: crystals in one.
        order: of all crystals, shuffled.
        rng: shuffles the batches.
    """
    found: list[list[int]] = []
    pool = 16 * batch
    for start in range(0, len(order), pool):
        mine = order[start : start + pool]
        mine = mine[np.argsort(np.array(sizes)[mine], kind="stable")].tolist()
        found += [mine[k : k + batch] for k in range(0, len(mine), batch)]
    for k in rng.permutation(len(found)).tolist():
        yield found[k]


def to_atoms(species: np.ndarray, coordinates: np.ndarray, shape: np.ndarray, elements: Sequence[str]) -> Atoms:
    """Return the crystal of numbers, in Niggli's cell."""
    cell = to_cells(torch.from_numpy(shape[None]).double(), torch.tensor([len(species)]))[0].numpy()
    return reduced(Atoms([elements[k] for k in species], cell=cell, scaled_positions=coordinates, pbc=True))
