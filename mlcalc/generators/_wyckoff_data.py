"""Crystals as tensors for the Wyckoff transformer: reading and batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals import WyckoffCrystal
from mlcalc.errors import GeneratorError
from mlcalc.generators._wyckoff_lattice import to_shape
from mlcalc.generators._wyckoff_vocabulary import LETTERS, letter_names, site_tables

#: Labels the network can be asked for, as named in data files, and the numbers that bring them to order one.
PROPERTIES = ("formation_energy_per_atom", "e_above_hull", "band_gap")
_SCALES = ((-1.0, 1.0), (0.05, 0.1), (1.0, 1.5))


@dataclass(frozen=True)
class Encoded:
    """One crystal as indices and numbers.

    Attributes:
        group: space group, from 0.
        elements: (n,) indices into the vocabulary.
        letters: (n,) indices of Wyckoff letters.
        coordinates: (n, 3) by axis, 0 where fixed.
        shape: (6,) of the lattice.
        atoms: in the primitive cell.
        properties: (3,), NaN where unknown.
    """

    group: int
    elements: np.ndarray
    letters: np.ndarray
    coordinates: np.ndarray
    shape: np.ndarray
    atoms: int
    properties: np.ndarray


def encode_crystal(crystal: WyckoffCrystal, vocabulary: Sequence[str], labels: dict[str, float]) -> Encoded:
    """Turn a description into indices.

    Raises:
        GeneratorError: an element is not in the vocabulary.
    """
    names, group = letter_names(crystal.space_group), crystal.space_group - 1
    index = {symbol: k for k, symbol in enumerate(vocabulary)}
    unknown = [o.element for o in crystal.orbits if o.element not in index]
    if unknown:
        raise GeneratorError(f"{unknown[0]} is none of the elements the model knows: {' '.join(vocabulary)}")
    letters = np.array([names.index(o.letter) for o in crystal.orbits])
    free = site_tables()[2][group].numpy()[letters]
    coordinates = np.zeros((len(letters), 3))
    coordinates[free] = np.concatenate([o.free for o in crystal.orbits]) % 1.0
    atoms = sum(crystal.multiplicities())
    return Encoded(
        group,
        np.array([index[o.element] for o in crystal.orbits]),
        letters,
        coordinates,
        to_shape(crystal.space_group, crystal.lattice, atoms),
        atoms,
        np.array([labels.get(name, np.nan) for name in PROPERTIES]),
    )


@dataclass(frozen=True)
class Batch:
    """Padded crystals.

    Attributes:
        group: (B,).
        element, letter: (B, S).
        so_far: (B, S) atoms up to and with each site.
        site: (B, S) true where there is a site.
        placed: (B, F) index of the site of each geometry token, and ``geometry`` (B, F) true where there is one.
        coordinates: (B, F, 3) of those sites, ``free`` (B, F, 3) true where they are free.
        shape: (B, 6) of the lattice.
        element_ok: (B, S + 1, elements + 1) what may follow in canonical order; the last one is the end.
        letter_ok: (B, S, 27).
        atoms: (B,).
        properties: (B, 3), NaN where unknown.
    """

    group: Tensor
    element: Tensor
    letter: Tensor
    so_far: Tensor
    site: Tensor
    placed: Tensor
    geometry: Tensor
    coordinates: Tensor
    free: Tensor
    shape: Tensor
    element_ok: Tensor
    letter_ok: Tensor
    atoms: Tensor
    properties: Tensor


def collate(items: Sequence[Encoded], n_elements: int) -> Batch:
    """Pad crystals into one batch."""
    _, multiplicity, free_axes, _ = (t.numpy() for t in site_tables())
    frees = [free_axes[i.group][i.letters] for i in items]
    b, s = len(items), max(len(i.letters) for i in items)
    f = max(1, *(int(x.any(axis=1).sum()) for x in frees))
    element, letter = np.zeros((b, s), np.int64), np.zeros((b, s), np.int64)
    so_far, site = np.zeros((b, s), np.float32), np.zeros((b, s), bool)
    placed, geometry = np.zeros((b, f), np.int64), np.zeros((b, f), bool)
    coordinates, free = np.zeros((b, f, 3), np.float32), np.zeros((b, f, 3), bool)
    element_ok, letter_ok = np.ones((b, s + 1, n_elements + 1), bool), np.ones((b, s, LETTERS), bool)
    for k, (item, mine) in enumerate(zip(items, frees, strict=True)):
        n = len(item.letters)
        element[k, :n], letter[k, :n], site[k, :n] = item.elements, item.letters, True
        so_far[k, :n] = np.cumsum(multiplicity[item.group, item.letters])
        where = np.flatnonzero(mine.any(axis=1))
        placed[k, : len(where)], geometry[k, : len(where)] = where, True
        coordinates[k, : len(where)], free[k, : len(where)] = item.coordinates[where], mine[where]
        _fill_order(item, multiplicity, free_axes, element_ok[k], letter_ok[k])
    arrays = (
        np.array([i.group for i in items]),
        element,
        letter,
        so_far,
        site,
        placed,
        geometry,
        coordinates,
        free,
        np.stack([i.shape for i in items]).astype(np.float32),
        element_ok,
        letter_ok,
        np.array([i.atoms for i in items]),
        np.stack([i.properties for i in items]).astype(np.float32),
    )
    return Batch(*(torch.from_numpy(a) for a in arrays))


def letters_in_order(
    exists: np.ndarray, has_freedom: np.ndarray, used: np.ndarray, same_element: bool, last: int
) -> np.ndarray:
    """Say which letters may come next in canonical order.

    Args:
        exists: (27,) letters of the group.
        has_freedom: (27,) letters with free coordinates.
        used: (27,) letters that have been occupied.
        same_element: whether the element is that of the last site.
        last: letter of the last site.
    """
    allowed = exists & (has_freedom | ~used)
    if same_element:
        allowed[: last + (0 if has_freedom[last] else 1)] = False
    return allowed


def _fill_order(
    item: Encoded, multiplicity: np.ndarray, free_axes: np.ndarray, element_ok: np.ndarray, letter_ok: np.ndarray
) -> None:
    exists, freedom = multiplicity[item.group] > 0, free_axes[item.group].any(axis=1)
    used = np.zeros(LETTERS, bool)
    element_ok[0, -1] = False
    for t, (e, l) in enumerate(zip(item.elements, item.letters, strict=True)):
        same = t > 0 and e == item.elements[t - 1]
        letter_ok[t] = letters_in_order(exists, freedom, used, same, int(item.letters[t - 1]))
        used[l] = True
        element_ok[t + 1, :e] = False


def batches(items: Sequence[Encoded], size: int, n_elements: int, order: np.ndarray | None = None) -> Iterator[Batch]:
    """Yield batches of crystals of similar length; with an order, in an order that depends on it alone."""
    indices = np.arange(len(items)) if order is None else order
    lengths = np.array([len(items[k].letters) for k in indices.tolist()])
    pools = [range(start, min(start + 16 * size, len(indices))) for start in range(0, len(indices), 16 * size)]
    chunks: list[list[int]] = []
    for pool in pools:
        mine = indices[list(pool)][np.argsort(lengths[list(pool)], kind="stable")].tolist()
        chunks += [mine[k : k + size] for k in range(0, len(mine), size)]
    if order is not None:
        chunks = [chunks[k] for k in np.random.default_rng(int(order[0])).permutation(len(chunks)).tolist()]
    for chunk in chunks:
        yield collate([items[k] for k in chunk], n_elements)


def conditions(
    n_elements: int,
    system: Tensor | None,
    shares: Tensor | None,
    properties: Tensor | None,
    size: int,
) -> Tensor:
    """Return the (B, 2 elements + 8) vector of conditions; what is None or NaN is not given.

    Args:
        n_elements: size of the vocabulary.
        system: (B, elements) 1 for elements present; a row of NaN is not given.
        shares: (B, elements) shares of atoms; likewise.
        properties: (B, 3) in the units of the data.
        size: B.
    """
    parts = []
    for values, width in ((system, n_elements), (shares, n_elements)):
        values = torch.full((size, width), torch.nan) if values is None else values
        parts += [torch.nan_to_num(values), (~values.isnan()[:, :1]).float()]
    values = torch.full((size, len(PROPERTIES)), torch.nan) if properties is None else properties
    middle, scale = torch.tensor(_SCALES).T
    parts += [torch.nan_to_num(((values - middle) / scale).clamp(-5, 5)), (~values.isnan()).float()]
    return torch.cat(parts, dim=1)


def composition(batch: Batch, n_elements: int) -> tuple[Tensor, Tensor]:
    """Return (B, elements) which elements occur, and their shares of the atoms."""
    before = torch.cat([torch.zeros_like(batch.so_far[:, :1]), batch.so_far[:, :-1]], dim=1)
    amounts = (batch.so_far - before) * batch.site
    shares = torch.zeros(len(batch.group), n_elements).scatter_add_(1, batch.element, amounts)
    shares = shares / shares.sum(dim=1, keepdim=True)
    return (shares > 0).float(), shares
