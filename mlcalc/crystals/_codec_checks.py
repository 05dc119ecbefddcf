"""What codecs refuse: elements they have no channel for, and atoms that clash."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list

from mlcalc.errors import CodecError

#: Atoms closer than this are no crystal, Å.
CLASH = 0.5


def known_elements(elements: Sequence[str]) -> tuple[str, ...]:
    """Return the elements of a codec as a tuple.

    Raises:
        CodecError: none, repeated ones, or what is no element.
    """
    wrong = [e for e in elements if atomic_numbers.get(e, 0) < 1]
    if wrong or not elements or len(set(elements)) < len(elements):
        raise CodecError(f"a codec needs chemical elements, each once, not {list(elements)}")
    return tuple(elements)


def refuse_unknown(atoms: Atoms, elements: Sequence[str]) -> None:
    """Make sure that a codec knows all elements of a crystal.

    Raises:
        CodecError: it does not (named).
    """
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements))
    if unknown:
        raise CodecError(f"{' '.join(unknown)}: not among the codec's elements {' '.join(elements)}")


def refuse_clash(atoms: Atoms, least: float = CLASH) -> None:
    """Make sure that no atom comes closer than ``least`` Å to another or to an own image.

    Raises:
        CodecError: one does (named).
    """
    i, j, distance = neighbor_list("ijd", atoms, least, self_interaction=False)
    if len(distance):
        k = int(distance.argmin())
        raise CodecError(
            f"atoms {i[k]} ({atoms.symbols[i[k]]}) and {j[k]} ({atoms.symbols[j[k]]}) clash: {distance[k]:.3f} Å"
        )
