"""Operators where others registered them before, where there are none, in new processes, on lesser processors."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mlcalc.native import operators_library
from mlcalc.potentials import PotentialInfo, build

TRY = """
import torch
from mlcalc.ops import fused
from mlcalc.ops.convolution import coupling
one, edges = torch.ones(1, 1), torch.tensor([[0], [1]])
call = (torch.ones(2, 1), one, one, edges, 2, [1], 0, coupling(0, 0, 0).float())
"""


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("first", ["load()\nassert not fused()", "assert not fused()\nload()"])
def test_plain_and_compiled_ones_in_one_process(first: str) -> None:
    """LAMMPS inside Python brings the compiled operators, whatever ``MLCALC_OPS`` says."""
    load = f"def load():\n    torch.ops.load_library({str(operators_library())!r})\n"
    done = run(f"{TRY}{load}{first}\nprint(torch.ops.mlcalc.convolve(*call).tolist())", MLCALC_OPS="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1.0, 0.0]"


@pytest.mark.parametrize("broken", ["no folder", "no library"])
def test_a_warning_where_they_cannot_be_had(broken: str, tmp_path: Path) -> None:
    if broken == "no folder":
        (tmp_path / "cache").write_text("a file")
    else:
        library = operators_library()
        folder = tmp_path / "cache" / "ops" / library.parent.name
        folder.mkdir(parents=True)
        (folder / library.name).write_bytes(b"no library at all")
    code = f"{TRY}\nassert not fused()\nprint(torch.ops.mlcalc.convolve(*call).tolist())"
    done = run(code, MLCALC_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1.0, 0.0]"
    assert "plain torch instead of compiled operators" in done.stderr


@pytest.mark.parametrize("switch", ["1", "0"])
@pytest.mark.parametrize("architecture", ["nequip", "equivariant"])
def test_pickled_potentials_in_a_new_process(architecture: str, switch: str, tmp_path: Path) -> None:
    network = {"layers": 2, "channels": [4, 2] if architecture == "nequip" else 4}
    info = PotentialInfo(elements=("Si",), cutoff=3.0, layers=2, name="quick")
    potential = build({"architecture": architecture, "network": network}, info, torch.float64)
    arguments = (
        torch.tensor([0, 0]),
        torch.tensor([[0, 1], [1, 0]]),
        torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]]).double(),
    )
    (tmp_path / "all.pickle").write_bytes(pickle.dumps((potential, arguments)))
    code = (
        "import pickle, sys; from pathlib import Path\n"
        "potential, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "print(*potential(*arguments).tolist())"
    )
    done = run(code, str(tmp_path / "all.pickle"), MLCALC_OPS=switch)
    assert done.returncode == 0, done.stderr
    got = torch.tensor([float(word) for word in done.stdout.split()], dtype=torch.float64)
    assert (got - potential(*arguments)).abs().max() < 1e-12


@pytest.mark.parametrize("level", ["v3", "v1"])
def test_kernels_of_lesser_processors(level: str) -> None:
    folder = Path(__file__).parent
    files = [str(folder / name) for name in ("test_convolution.py", "test_density_gaunt_mix.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    environment = {**os.environ, "MLCALC_LEVEL": level}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
