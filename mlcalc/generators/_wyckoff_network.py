"""The Wyckoff transformer: one causal network over conditions, space group, sites, and geometry.

The sequence of a crystal is [conditions][space group][site 1]…[site n][geometry of site i]…, where geometry tokens
exist for sites with free coordinates only; the conditions are added to all other tokens as well. The hidden state of
the last site also predicts the lattice. Sites come in canonical order, so that no code of positions is needed. Ideas:
WyFormer (Kazeev et al., arXiv:2503.02407) for tokens, CrystalFormer (Cao et al., arXiv:2403.15734) for mixtures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlcalc.generators._wyckoff_vocabulary import (
    ELEMENT_FEATURES,
    GROUPS,
    LETTERS,
    SITE_FEATURES,
    SYSTEMS,
    element_features,
    site_tables,
)

#: Keys and values of what a layer has seen.
Cache = list[tuple[Tensor, Tensor]]
#: Embedded elements and Wyckoff positions.
Vectors = tuple[Tensor, Tensor]
#: Largest concentration of a von Mises component: a spread of about 0.0016 of a cell vector.
_MAX_LOG_KAPPA = math.log(1e4)
_PROPERTIES = 3


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the network.

    Attributes:
        width: of the hidden states.
        layers: number of transformer layers.
        heads: attention heads.
        feedforward: width inside the feed-forward blocks.
        dropout: share of activations left out in training.
        coordinate_components: von Mises components of the free coordinates of a site.
        lattice_components: Gaussian components of the lattice.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    feedforward: int = 256
    dropout: float = 0.1
    coordinate_components: int = 16
    lattice_components: int = 8


class _Layer(nn.Module):
    def __init__(self, s: NetworkSettings) -> None:
        super().__init__()
        self.heads = s.heads
        self.norm1, self.norm2 = nn.LayerNorm(s.width), nn.LayerNorm(s.width)
        self.qkv, self.out = nn.Linear(s.width, 3 * s.width), nn.Linear(s.width, s.width)
        self.up, self.down = nn.Linear(s.width, s.feedforward), nn.Linear(s.feedforward, s.width)
        self.dropout = s.dropout

    def forward(self, x: Tensor, mask: Tensor, seen: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        b, n, w = x.shape
        q, k, v = (
            part.view(b, n, self.heads, w // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(w, dim=2)
        )
        if seen is not None:
            k, v = torch.cat([seen[0], k], dim=2), torch.cat([seen[1], v], dim=2)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
        x = x + self._drop(self.out(attended.transpose(1, 2).reshape(b, n, w)))
        x = x + self._drop(self.down(functional.gelu(self.up(self.norm2(x)))))
        return x, k, v

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class WyckoffNetwork(nn.Module):
    """The network; see the head of the file.

    Args:
        elements: in the order of the vocabulary.
        settings: size.
    """

    features: Tensor
    shape: Tensor
    systems: Tensor
    element_features: Tensor

    def __init__(self, elements: tuple[str, ...], settings: NetworkSettings) -> None:
        super().__init__()
        self.elements, self.settings = elements, settings
        w, n = settings.width, len(elements)
        features, _, _, shape = site_tables()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("shape", shape, persistent=False)
        self.register_buffer("element_features", element_features(elements), persistent=False)
        systems = torch.tensor([_system(g) for g in range(GROUPS)])
        self.register_buffer("systems", systems, persistent=False)
        # Conditions: elements present, shares of elements, properties; each with a flag that says whether it is given.
        self.condition = nn.Sequential(nn.Linear(2 * n + 2 + 2 * _PROPERTIES, w), nn.GELU(), nn.Linear(w, w))
        self.group, self.system = nn.Embedding(GROUPS, w), nn.Embedding(len(SYSTEMS), w)
        self.element, self.element_linear = nn.Embedding(n, w), nn.Linear(ELEMENT_FEATURES, w)
        self.letter = nn.Embedding(LETTERS, w)
        self.site = nn.Sequential(nn.Linear(SITE_FEATURES, w), nn.GELU(), nn.Linear(w, w))
        self.amount = nn.Linear(2, w)
        self.place_token, self.seen_coordinates, self.cell = nn.Linear(w, w), nn.Linear(9, w), nn.Linear(6, w)
        self.layers = nn.ModuleList(_Layer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(w)
        self.group_head, self.element_head = nn.Linear(w, GROUPS), nn.Linear(w, n + 1)
        self.letter_query = nn.Sequential(nn.Linear(2 * w, w), nn.GELU(), nn.Linear(w, w))
        self.lattice_head = nn.Sequential(nn.Linear(w, w), nn.GELU(), nn.Linear(w, settings.lattice_components * 13))
        self.coordinate_head = nn.Sequential(
            nn.Linear(w, w), nn.GELU(), nn.Linear(w, settings.coordinate_components * 10)
        )
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and "embedding" not in name:
                nn.init.normal_(parameter, std=0.02 if "head" in name else parameter.shape[1] ** -0.5)

    def vectors(self) -> Vectors:
        """Embed all elements (elements, width) and all Wyckoff positions (230, 27, width)."""
        return (
            self.element.weight + self.element_linear(self.element_features),
            self.site(self.features) + self.letter.weight,
        )

    def group_token(self, group: Tensor) -> Tensor:
        """Embed space groups (B,), numbered from 0."""
        return self.group(group) + self.system(self.systems[group])

    def site_tokens(self, vectors: Vectors, group: Tensor, element: Tensor, letter: Tensor, so_far: Tensor) -> Tensor:
        """Embed sites (B, S): element, position, and the atoms in the cell up to and with each."""
        amounts = torch.stack([so_far / 10, torch.log(so_far.clamp(min=1))], dim=-1)
        return vectors[0][element] + vectors[1][group[:, None], letter] + self.amount(amounts)

    def geometry_tokens(self, sites: Tensor, previous: Tensor, known: Tensor, shape: Tensor) -> Tensor:
        """Embed what is to be placed: site (B, F, width), coordinates placed before (B, F, 3), lattice (B, 6)."""
        turn = 2 * math.pi * previous
        waves = torch.cat([torch.cos(turn) * known, torch.sin(turn) * known, known], dim=-1)
        return self.place_token(sites) + self.seen_coordinates(waves) + self.cell(shape)[:, None]

    def body(self, x: Tensor, mask: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Run the layers on new tokens.

        Args:
            x: (B, n, width) new tokens.
            mask: (B, n, m + n) true where a new token may look, m tokens being in the cache.
            cache: from earlier calls.
        """
        new: Cache = []
        for k, layer in enumerate(self.layers):
            x, keys, values = layer(x, mask, cache[k] if cache else None)
            new.append((keys, values))
        return self.norm(x), new

    def letter_logits(self, vectors: Vectors, hidden: Tensor, group: Tensor, element: Tensor) -> Tensor:
        """Return (B, S, 27) logits of letters from hidden states (B, S, width) and elements (B, S)."""
        query = self.letter_query(torch.cat([hidden, vectors[0][element]], dim=-1))
        return torch.einsum("bsw,blw->bsl", query, vectors[1][group]) / math.sqrt(self.settings.width)

    def lattice_mixture(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights (B, K), means (B, K, 6) and log widths (B, K, 6) of Gaussians of the shape."""
        out = self.lattice_head(hidden).unflatten(-1, (self.settings.lattice_components, 13))
        means = out[..., 1:7] + torch.tensor([3.0, 0, 0, 0, 0, 0], dtype=out.dtype)
        return torch.log_softmax(out[..., 0], dim=-1), means, (out[..., 7:] - 1).clamp(-6.0, 2.0)

    def coordinate_mixture(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights (…, K), centres (…, K, 3) in turns and log concentrations (…, K, 3) of von Mises."""
        out = self.coordinate_head(hidden).unflatten(-1, (self.settings.coordinate_components, 10))
        # Centres spread evenly at the start, so that components do not begin alike.
        k = self.settings.coordinate_components
        start = (torch.arange(k, dtype=out.dtype)[:, None] * torch.tensor([1.0, 5.0, 7.0]) + 0.5) / k
        turn = 2 * math.pi * start
        across, up = out[..., 1:4] + torch.cos(turn), out[..., 4:7] + torch.sin(turn)
        centres = torch.atan2(up, across) / (2 * math.pi)
        return torch.log_softmax(out[..., 0], dim=-1), centres, (out[..., 7:] + 1).clamp(-3.0, _MAX_LOG_KAPPA)


def _system(index: int) -> int:
    from mlcalc.crystals.description import crystal_system

    return SYSTEMS.index(crystal_system(index + 1))


def lattice_log_density(mixture: tuple[Tensor, Tensor, Tensor], shape: Tensor, free: Tensor) -> Tensor:
    """Return (B,) log density of the shape (B, 6) in its free parameters (B, 6)."""
    weights, means, widths = mixture
    z = (shape[:, None] - means) * torch.exp(-widths)
    each = -0.5 * z.square() - widths - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(weights + (each * free[:, None]).sum(dim=-1), dim=-1)


def coordinate_log_density(mixture: tuple[Tensor, Tensor, Tensor], value: Tensor, free: Tensor) -> Tensor:
    """Return (…) log density of coordinates (…, 3) in [0, 1) in those that are free (…, 3)."""
    weights, centres, log_kappa = mixture
    kappa = torch.exp(log_kappa)
    # 1 - cos as a square, which keeps its digits where kappa is large.
    each = -2 * kappa * torch.sin(math.pi * (value[..., None, :] - centres)).square() - torch.log(
        torch.special.i0e(kappa)
    )
    return torch.logsumexp(weights + (each * free[..., None, :]).sum(dim=-1), dim=-1)
