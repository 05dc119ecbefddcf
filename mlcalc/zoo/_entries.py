"""What is in the zoo's folder, read from the files themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase.data import atomic_numbers

from mlcalc.deploy.weights import read_weights_info
from mlcalc.potentials.base import PotentialInfo

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ZooEntry:
    """One name: a weights file, or a family of them with an element each.

    Attributes:
        name: what ``load`` takes.
        files: weights files in alphabetical order.
        card: the model card, or None where the name has none of its own.
    """

    name: str
    files: tuple[Path, ...]
    card: Path | None

    @property
    def size(self) -> int:
        """Bytes of all weights files."""
        return sum(file.stat().st_size for file in self.files)

    def infos(self) -> tuple[PotentialInfo, ...]:
        """Return what each file declares, without loading its weights."""
        return tuple(read_weights_info(file) for file in self.files)


def find_entries(folder: Path) -> dict[str, ZooEntry]:
    """Return the entries by name: ``NAME.safetensors``, or ``NAME-Xx.safetensors`` for each element Xx."""
    groups: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        stem, _, suffix = file.stem.rpartition("-")
        groups.setdefault(stem if stem and suffix in atomic_numbers else file.stem, []).append(file)
    entries = {}
    for name, files in groups.items():
        card = folder / f"{name}.md"
        entries[name] = ZooEntry(name, tuple(files), card if card.is_file() else None)
    return entries
