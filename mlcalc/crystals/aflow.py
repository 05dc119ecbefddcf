"""The AFLOW library of crystallographic prototypes, as pymatgen carries it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ase import Atoms

from mlcalc.errors import CrystalError


@dataclass(frozen=True)
class AflowPrototype:
    """One prototype.

    Attributes:
        label: AFLOW's.
        mineral: None without one.
        strukturbericht: None without one.
        atoms: primitive cell; copy it before changing it.
    """

    label: str
    mineral: str | None
    strukturbericht: str | None
    atoms: Atoms


@lru_cache(maxsize=1)
def aflow_prototypes() -> tuple[AflowPrototype, ...]:
    """Return the 288 prototypes of AFLOW's library (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)) in pymatgen.

    The file is read as JSON: importing pymatgen's matcher takes far longer.

    Raises:
        CrystalError: this version of pymatgen keeps the file somewhere else.
    """
    return tuple(_read())


def _read() -> Iterator[AflowPrototype]:
    for row in json.loads(gzip.decompress(_file().read_bytes())):
        sites, tags = row["snl"]["sites"], row["tags"]
        mineral, strukturbericht = (
            None if tags.get(key) in (None, "None", "") else str(tags[key]) for key in ("mineral", "strukturbericht")
        )
        atoms = Atoms(
            [site["species"][0]["element"] for site in sites],
            cell=row["snl"]["lattice"]["matrix"],
            scaled_positions=[site["abc"] for site in sites],
            pbc=True,
        )
        yield AflowPrototype(str(tags["aflow"]), mineral, strukturbericht, atoms)


def _file() -> Path:
    spec = find_spec("pymatgen.analysis")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "prototypes" / "aflow_prototypes.json.gz"
        if path.is_file():
            return path
    raise CrystalError(
        "the installed pymatgen does not hold AFLOW's prototypes where they are looked for; "
        "give structures of your own (--prototypes FILE)"
    )
