"""The bond image as a line of text: elements, then who is bonded to whom through which image.

``Na Cl 0 1 -oo 0 1 o-o …`` names the atoms, numbered from 0, and then the bonds: atom 0 is bonded to the image of
atom 1 one cell back along the first axis, and so on. In the spirit of SLICES (H. Xiao et al., Nat. Commun. 14, 7027
(2023)).
"""

from __future__ import annotations

import re

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlcalc.crystals._codec_checks import refuse_clash
from mlcalc.crystals._net_embedding import embed
from mlcalc.crystals.periodic_net import PeriodicNet, bond_net, contact_net
from mlcalc.errors import CodecError

_SHIFT = {"-": -1, "o": 0, "+": 1}
_SIGN = {shift: sign for sign, shift in _SHIFT.items()}
_BOND = re.compile(r"([-o+]{3})(~?)(?:@(\d{1,3}(?:\.\d{1,9})?))?")
#: Lengths that do not fit together by more than this (root mean square, relative) are those of no crystal.
MISFIT, MISFIT_OF_GUESSES = 0.15, 0.35


def bond_string(crystal: Atoms | PeriodicNet, lengths: bool = False) -> str:
    """Write a crystal as a line of text.

    Args:
        crystal: atoms, or a net of them.
        lengths: write lengths too, as in ``0 1 -oo@2.815``, of all that is near (``contact_net``); they fix the
            crystal. Without, only bonds are written (``bond_net``), those that are only the shortest link between
            parts marked as ``0 1 -oo~``.

    Raises:
        CodecError: what is no crystal, or whose atoms lie too far apart; a net without lengths where they are wanted.
    """
    net = crystal
    if isinstance(net, Atoms):
        net = contact_net(net) if lengths else bond_net(net)
    if lengths and not np.isfinite(net.lengths).all():
        raise CodecError("this net has edges of unknown length; write it without lengths")
    words = list(net.symbols)
    for (i, j), shift, length, weak in zip(net.pairs, net.shifts, net.lengths, net.weak, strict=True):
        if np.abs(shift).max() > 1:
            raise CodecError(f"the edge from atom {i} to atom {j} reaches farther than to the next cell: {list(shift)}")
        text = "".join(_SIGN[int(s)] for s in shift) + ("~" if weak else "")
        words += [str(i), str(j), f"{text}@{length:.5f}" if lengths else text]
    return " ".join(words)


def parse_bond_string(text: str) -> PeriodicNet:
    """Read what ``bond_string`` writes.

    Args:
        text: elements, then for each bond two atoms, numbered from 0, and the image: a letter an axis (``-``, ``o``,
            ``+``), ``~`` if it is weak, ``@`` and a length in Å if it is known.

    Raises:
        CodecError: anything else; the message says at which character.
    """
    words = [(match.group(), match.start() + 1) for match in re.finditer(r"\S+", text)]
    count = next((k for k, (word, _) in enumerate(words) if atomic_numbers.get(word, 0) < 1), len(words))
    if count == 0:
        raise _wrong(words[0] if words else ("", 1), "begin with the elements of the atoms")
    symbols, bonds = tuple(word for word, _ in words[:count]), words[count:]
    pairs, shifts, lengths, weak, seen = [], [], [], [], set()
    for first in range(0, len(bonds), 3):
        bond = bonds[first : first + 3]
        atoms = [_atom(word, count) for word in bond[:2]]
        if len(bond) < 3:
            raise _wrong(("", len(text) + 1), "a bond is two atoms and an image; this one ends too early")
        match = _BOND.fullmatch(bond[2][0])
        if match is None:
            raise _wrong(bond[2], "expected an image: three of - o +, then perhaps ~, then perhaps @ and a length in Å")
        shift = tuple(_SHIFT[letter] for letter in match.group(1))
        if atoms[0] == atoms[1] and not any(shift):
            raise _wrong(bond[2], f"atom {atoms[0]} is bonded to itself")
        back = (atoms[1], atoms[0], *(-s for s in shift))
        if (*atoms, *shift) in seen or back in seen:
            raise _wrong(bond[0], "this bond has been written before")
        seen.add((*atoms, *shift))
        length = float(match.group(3)) if match.group(3) else np.nan
        if length == 0:
            raise _wrong(bond[2], "a bond cannot have the length 0")
        pairs.append(atoms)
        shifts.append(shift)
        lengths.append(length)
        weak.append(bool(match.group(2)))
    if not pairs:
        raise _wrong(("", len(text) + 1), "expected bonds after the elements")
    return PeriodicNet(symbols, np.array(pairs), np.array(shifts), np.array(lengths), np.array(weak))


def atoms_of_net(net: PeriodicNet) -> Atoms:
    """Return a crystal with the bonds of a net, by relaxing their lengths.

    Args:
        net: edges of unknown length get one from covalent radii.

    Raises:
        CodecError: the net is no crystal's: not connected along three directions, lengths that contradict each other,
            or atoms that clash.
    """
    found = embed(net)
    allowed = MISFIT if np.isfinite(net.lengths).all() else MISFIT_OF_GUESSES
    if not found.misfit <= allowed:
        raise CodecError(f"the bond lengths contradict each other: off by {100 * found.misfit:.0f} % on average")
    atoms = Atoms(net.symbols, positions=found.positions, cell=found.cell, pbc=True)
    if atoms.get_volume() / len(atoms) < 1.0:
        raise CodecError(f"the bonds make a flat cell of {atoms.get_volume():.2g} Å³ for {len(atoms)} atoms")
    atoms.wrap()
    refuse_clash(atoms)
    return atoms


def _atom(word: tuple[str, int], count: int) -> int:
    # isdigit alone would let through superscripts and other alphabets.
    if not (word[0].isascii() and word[0].isdigit() and len(word[0]) < 7):
        raise _wrong(word, "expected the number of an atom")
    if int(word[0]) >= count:
        raise _wrong(word, f"there are {count} atoms, numbered from 0")
    return int(word[0])


def _wrong(word: tuple[str, int], text: str) -> CodecError:
    shown = f" ({word[0][:20]!r})" if word[0] else ""
    return CodecError(f"bond string, character {word[1]}{shown}: {text}")
