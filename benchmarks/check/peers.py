"""Check published potentials, each in an environment of its own, and print the tables of docs/check.md.

python benchmarks/check/peers.py FOLDER        # environments (about 2 GB) and results go into FOLDER

Needs pip and a package index. mlcalc is taken from this checkout, with the light part of its requirements.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What `mlcalc check` imports, without LAMMPS and generators.
LIGHT = ("ase>=3.29,<3.30", "e3nn", "matplotlib", "phonopy>=4.8,<5", "pymatgen", "pyyaml", "rich", "safetensors")
LIGHT += ("scipy", "seekpath", "spglib", "typer", "vesin")
SHOWN = "import importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in ('PACKAGE', 'torch', 'ase')))"


@dataclass(frozen=True)
class Peer:
    """A package that brings its weights, and its ASE calculator."""

    package: str
    calculator: str


PEERS = {
    "chgnet": Peer("chgnet==0.4.2", "chgnet.model.dynamics:CHGNetCalculator"),
    "sevenn": Peer("sevenn==0.13.0", "sevenn.calculator:SevenNetCalculator"),
}


def environment(peer: Peer, folder: Path) -> Path:
    """Return the Python of an environment with the package; made if need be."""
    python = folder / "bin" / "python"
    if not (folder / ".made").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "torch==2.13.0"], check=True)
        subprocess.run([*install, peer.package, *LIGHT], check=True)
        (folder / ".made").touch()
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", nargs="+", choices=sorted(PEERS), default=sorted(PEERS))
    parser.add_argument("--elements", nargs="+", default=["Si", "Na,Cl"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "COLUMNS": "118"}
    for name in arguments.peers:
        peer = PEERS[name]
        python = environment(peer, arguments.folder / f"venv-{name}")
        shown = subprocess.check_output([str(python), "-c", SHOWN.replace("PACKAGE", name)], text=True).strip()
        for elements in arguments.elements:
            out = arguments.folder / f"{name}-{elements.replace(',', '')}"
            command = ["check", "--calculator", peer.calculator, "--elements", elements, "--out", str(out)]
            done = subprocess.run(
                [str(python), "-c", "from mlcalc.cli import main; main()", *command],
                env=variables,
                text=True,
                capture_output=True,
                check=False,
            )
            if " check " not in f" {done.stdout}":
                raise SystemExit(f"{name} {elements}: {done.stderr[-2000:]}")
            print(f"$ mlcalc {' '.join(command[:-2])}    # {shown}", flush=True)
            # Packages print what they like before the table; where the files lie is of no use in a document.
            lines = done.stdout.splitlines()
            start = next(k for k, line in enumerate(lines) if line.split()[:2] == ["check", "status"])
            print("\n".join(line.split(f"; {out}")[0].rstrip() for line in lines[start:]), "\n", flush=True)


if __name__ == "__main__":
    main()
