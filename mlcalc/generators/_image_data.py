"""Crystals as images for training: read, brought to one setting, encoded, split by formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlcalc.crystals.codec import Codec
from mlcalc.crystals.io import LabelledCrystal
from mlcalc.errors import CodecError
from mlcalc.generators._image_conditions import Conditions, conditions_of
from mlcalc.generators._image_setting import standard_setting


@dataclass(frozen=True)
class Images:
    """Encoded crystals.

    Attributes:
        arrays: (n, *shape of the codec) float32.
        shares: (n, elements) of the atoms.
        properties: (n, properties) in the units of the labels, NaN where unknown.
    """

    arrays: Tensor
    shares: Tensor
    properties: Tensor

    def __len__(self) -> int:
        return len(self.arrays)

    def take(self, rows: Sequence[int] | np.ndarray) -> Images:
        """Return some of them."""
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        return Images(self.arrays[index], self.shares[index], self.properties[index])


@dataclass(frozen=True)
class EncodedSet:
    """What became of a set of crystals.

    Attributes:
        images: those that the codec holds.
        conditions: layout of what a network is told of them.
        compositions: atoms of each element.
        refused: how many the codec did not take, by reason.
    """

    images: Images
    conditions: Conditions
    compositions: list[Counter[str]]
    refused: Counter[str]


def encode_set(
    crystals: Sequence[LabelledCrystal],
    codec: Codec,
    elements: tuple[str, ...],
    conditions: Conditions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> EncodedSet:
    """Encode crystals, leaving out and counting those that the codec refuses.

    Args:
        crystals: with their labels.
        codec: what makes images of them.
        elements: in the order of the conditions.
        conditions: layout, with the scales of another set; None makes one of this set.
        progress: called with what is being done, how far, and out of how many.

    Raises:
        CodecError: the codec takes none of them.
    """
    arrays, compositions, labels, refused = [], [], [], Counter[str]()
    for k, item in enumerate(crystals):
        try:
            arrays.append(codec.encode(standard_setting(item.atoms)))
            compositions.append(Counter(item.atoms.get_chemical_symbols()))
            labels.append(item.labels)
        except CodecError as error:
            refused[str(error)] += 1
        if progress:
            progress("images", k + 1, len(crystals))
    if not arrays:
        raise CodecError(
            f"the codec {codec.name!r} takes none of {len(crystals)} crystals: {refused.most_common(1)[0][0]}"
            if refused
            else "no crystals"
        )
    names = conditions.properties if conditions else tuple(sorted({name for row in labels for name in row}))
    values = np.array([[row.get(name, np.nan) for name in names] for row in labels]).reshape(len(labels), len(names))
    if conditions is None:
        conditions = conditions_of(elements, names, values)
        values = values[:, [names.index(name) for name in conditions.properties]]
    shares = np.zeros((len(arrays), len(elements)), dtype=np.float32)
    for row, composition in zip(shares, compositions, strict=True):
        for symbol, count in composition.items():
            row[elements.index(symbol)] = count / composition.total()
    images = Images(
        torch.from_numpy(np.stack(arrays)), torch.from_numpy(shares), torch.from_numpy(values.astype(np.float32))
    )
    return EncodedSet(images, conditions, compositions, refused)
