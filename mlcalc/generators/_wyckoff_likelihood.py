"""Log-likelihood of crystals under the Wyckoff transformer, by parts."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcalc.generators._wyckoff_data import Batch
from mlcalc.generators._wyckoff_network import WyckoffNetwork, coordinate_log_density, lattice_log_density

PARTS = ("group", "elements", "letters", "lattice", "coordinates")


def look_mask(batch: Batch) -> Tensor:
    """Return (B, L, L) true where a token may look: back, and at tokens that exist; itself always."""
    ones = torch.ones(len(batch.group), 2, dtype=torch.bool)
    there = torch.cat([ones, batch.site, batch.geometry], dim=1)
    length = there.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return (causal & there[:, None]) | torch.eye(length, dtype=torch.bool)


def log_likelihood(network: WyckoffNetwork, batch: Batch, condition: Tensor) -> Tensor:
    """Return (B, 5) natural logarithms: space group, elements and end, letters, lattice, coordinates.

    The first three are probabilities, normalised over sites in canonical order; the last two densities, of the lattice
    per unit of (log volume per atom, log ratios, angles/30°) and of free coordinates per cell vector.
    """
    vectors = network.vectors()
    sites = network.site_tokens(vectors, batch.group, batch.element, batch.letter, batch.so_far)
    size, n, width = sites.shape
    index = batch.placed[..., None].expand(-1, -1, width)
    zero = torch.zeros(size, 1, 3)
    previous = torch.cat([zero, batch.coordinates[:, :-1]], dim=1)
    known = torch.cat([zero, batch.free[:, :-1].float()], dim=1)
    free_shape = network.shape[batch.group]
    geometry = network.geometry_tokens(sites.gather(1, index), previous, known, batch.shape * free_shape)
    start = network.condition(condition)[:, None]
    tokens = torch.cat([network.group_token(batch.group)[:, None], sites, geometry], dim=1)
    hidden, _ = network.body(torch.cat([start, tokens + start], dim=1), look_mask(batch))

    group = torch.log_softmax(network.group_head(hidden[:, 0]), dim=-1).gather(1, batch.group[:, None])[:, 0]
    end = torch.full_like(batch.element[:, :1], network.element_head.out_features - 1)
    lengths = batch.site.sum(dim=1)
    wanted = torch.cat([batch.element, end], dim=1)
    wanted = torch.where(torch.arange(n + 1) == lengths[:, None], end, wanted)
    logits = network.element_head(hidden[:, 1 : n + 2]).masked_fill(~batch.element_ok, -torch.inf)
    elements = torch.log_softmax(logits, dim=-1).gather(2, wanted[..., None])[..., 0]
    elements = torch.where(torch.arange(n + 1) <= lengths[:, None], elements, 0.0).sum(dim=1)

    logits = network.letter_logits(vectors, hidden[:, 1 : n + 1], batch.group, batch.element)
    letters = torch.log_softmax(logits.masked_fill(~batch.letter_ok, -torch.inf), dim=-1)
    letters = letters.gather(2, batch.letter[..., None])[..., 0]
    letters = torch.where(batch.site, letters, 0.0).sum(dim=1)

    last = hidden[torch.arange(size), lengths + 1]
    lattice = lattice_log_density(network.lattice_mixture(last), batch.shape, free_shape)
    mixture = network.coordinate_mixture(hidden[:, n + 2 :])
    coordinates = coordinate_log_density(mixture, batch.coordinates, batch.free)
    coordinates = torch.where(batch.geometry, coordinates, 0.0).sum(dim=1)
    return torch.stack([group, elements, letters, lattice, coordinates], dim=1)
