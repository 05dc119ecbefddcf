"""What every network on the contract must do, whatever it computes."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlcalc.graphs import Graph, build_graph

EMPTY = [Atoms(), Atoms("Na"), Atoms("NaCl", [(0, 0, 0), (9, 0, 0)])]


def graph(cutoff: float = 4.0) -> Graph:
    atoms = bulk("NaCl", "rocksalt", a=5.1, cubic=True)
    atoms.rattle(0.15, seed=1)
    return build_graph(atoms, ("Na", "Cl"), cutoff)


def check_edge_gradients(net: torch.nn.Module) -> None:
    """Against central differences of three components."""
    g = graph()
    vectors = g.edge_vectors.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(g.species, g.edge_index, vectors).sum(), vectors)
    h = 1e-5
    for edge, axis in ((0, 0), (7, 1), (23, 2)):
        step = torch.zeros_like(g.edge_vectors)
        step[edge, axis] = h
        plus = net(g.species, g.edge_index, g.edge_vectors + step).sum()
        minus = net(g.species, g.edge_index, g.edge_vectors - step).sum()
        assert float((plus - minus) / (2 * h)) == pytest.approx(float(gradient[edge, axis]), abs=1e-8)


def check_few_atoms(net: torch.nn.Module, atoms: Atoms) -> None:
    """No atoms, one atom, no edges are inputs like others."""
    g = build_graph(atoms, ("Na", "Cl"), 4.0)
    energies = net(g.species, g.edge_index, g.edge_vectors.requires_grad_(True))
    assert energies.shape == (len(atoms),)
    assert torch.isfinite(energies).all()


def check_script(net: torch.nn.Module) -> None:
    """TorchScript gives the same, also once it has optimised itself."""
    g, scripted = graph(), torch.jit.script(net)
    plain = net(g.species, g.edge_index, g.edge_vectors)
    for _ in range(3):
        difference = scripted(g.species, g.edge_index, g.edge_vectors) - plain
        assert difference.abs().max() < 1e-13 * max(1.0, float(plain.abs().max()))


def check_owned(net: torch.nn.Module) -> None:
    """One layer needs no exchange: energies of the first atoms do not need edges of the others."""
    g = graph()
    keep = g.edge_index[0] < 3
    part = net(g.species, g.edge_index[:, keep], g.edge_vectors[keep], {"owned": torch.arange(3)})
    assert part.shape == (3,)
    assert (part - net(g.species, g.edge_index, g.edge_vectors)[:3]).abs().max() < 1e-14
