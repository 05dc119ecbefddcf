"""Draw real and generated crystals in each representation, and put the pictures on a page.

python benchmarks/crystals/gallery.py --candidates wyckoff=wyckoff.extxyz --candidates vae=vae.extxyz
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ase import Atoms
from ase.build import bulk

from mlcalc.crystals import pictures
from mlcalc.crystals.io import read_crystals
from mlcalc.figures import palette_png
from mlcalc.files import write_atomic

#: Real crystals that are shown, by formula; the first of the file that has it.
KNOWN = {"mp_crystals_train": ("NaCl", "ZnO"), "perov_5_train": ("SrTiO3", "BaTiO3")}
REAL = "real crystals"
BEGIN, END = "<!-- written by benchmarks/crystals/gallery.py: begin -->", "<!-- end -->"


def real_crystals(folder: Path, count: int) -> list[Atoms]:
    """Return well-known crystals of the data, as far as it has them."""
    found = []
    for file, formulas in KNOWN.items():
        by_formula: dict[str, Atoms] = {}
        for item in read_crystals(folder / f"{file}.jsonl.gz"):
            by_formula.setdefault(str(item.atoms.symbols.formula.reduce()[0].format("metal")), item.atoms)
        found += [by_formula[formula] for formula in formulas if formula in by_formula]
    return found[:count]


def section(name: str, crystals: list[Atoms], images: Path, page: Path) -> str:
    """Draw one source of crystals and return its part of the page."""
    titled = [(f"{pictures.title_of(atoms)}, {pictures.symbol_of(atoms, 0.1)}", atoms) for atoms in crystals]
    file = images / f"gallery-{name.replace(' ', '-')}.png"
    write_atomic(file, palette_png(pictures.gallery(titled)))
    names = ", ".join(title for title, _ in titled)
    title = "Real crystals" if name == REAL else f"The generator {name}"
    return f"## {title}\n\n![{names}]({os.path.relpath(file, page.parent)})\n"


def draw_codecs(images: Path) -> None:
    """Draw rock salt and a perovskite in each representation, for the page on codecs."""
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    shown = [bulk("NaCl", "rocksalt", a=5.64), Atoms("SrTiO3", cell=[3.905] * 3, scaled_positions=sites, pbc=True)]
    for kind in pictures.representations():
        titled = [(pictures.title_of(atoms), atoms) for atoms in shown]
        write_atomic(images / f"codec-{kind}.png", palette_png(pictures.show(titled, kind)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MLCALC_DATA", "../shared/data")) / "crystals")
    parser.add_argument("--candidates", action="append", default=[], metavar="NAME=FILE", help="of a generator")
    parser.add_argument("-n", type=int, default=4, help="crystals of each source")
    parser.add_argument("--page", type=Path, default=Path("docs/gallery.md"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    given = parser.parse_args(arguments)
    draw_codecs(given.images)
    sources = {REAL: real_crystals(given.data, given.n)}
    for text in given.candidates:
        name, _, file = text.partition("=")
        if not file:
            parser.error(f"--candidates {text}: give NAME=FILE")
        taken: list[Atoms] = []
        # The first ones, whatever they look like: a gallery of the best would flatter.
        for item in read_crystals(file):
            if len(taken) == given.n:
                break
            if why := pictures.why_not(item.atoms):
                print(f"left out: {why}")
            else:
                taken.append(item.atoms)
        sources[name] = taken
    parts = [section(name, crystals, given.images, given.page) for name, crystals in sources.items() if crystals]
    before, rest = given.page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    write_atomic(given.page, f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")
    print(f"{len(parts)} pictures in {given.images}")


if __name__ == "__main__":
    main()
