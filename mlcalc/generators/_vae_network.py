"""The variational autoencoder of coordinate images.

Encoder and decoder are transformers over the columns of the image. q(z|x) is a Gaussian; p(x|z) is a product over the
lattice (Gaussian), the element or emptiness of each column (categorical), and the coordinates (von Mises). What is
wanted of a crystal enters by the prior alone: p(z|conditions) is a mixture of Gaussians whose parameters a small
network gives (Kingma and Welling, arXiv:1312.6114; Sohn et al., NeurIPS 2015, for conditional priors). So one latent
vector is one crystal, whatever was asked for, and the latent space can be searched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor, nn
from torch.nn import functional

from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage
from mlcalc.generators._image_conditions import Conditions
from mlcalc.generators._wyckoff_vocabulary import ELEMENT_FEATURES, element_features

# Narrower than this nothing is gained, and much of the latent space would be spent on the last digits.
_MIN_LOG_SIGMA = math.log(0.005)
_MAX_LOG_KAPPA = math.log(1000.0)  # a spread of 0.005 of a cell vector
_PROPERTY_WIDTH = 128
_ELEMENT_WIDTH = 16
_CHEMISTRY = 3


@dataclass(frozen=True)
class VaeSettings:
    """Size of the network.

    Attributes:
        width: of the hidden states.
        layers: of encoder and decoder, each.
        heads: attention heads.
        feedforward: width inside the feed-forward blocks.
        latent: dimensions of the latent space.
        mixture: Gaussians of the prior.
        dropout: share of activations of encoder and decoder left out in training.
        property_dropout: likewise of the property head, which has fewer crystals to learn from.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    feedforward: int = 192
    latent: int = 24
    mixture: int = 32
    dropout: float = 0.0
    property_dropout: float = 0.1


@dataclass(frozen=True)
class Decoded:
    """What the decoder says of a batch.

    Attributes:
        lattice: (B, 6) means and ``log_sigma`` (B, 6), as the lattice column has them.
        kinds: (B, columns, 1 + elements) log probabilities; the first one is that of no atom.
        directions: (B, columns, 3, 2) cosines and sines; ``log_kappa`` (B, columns, 3) how sure.
    """

    lattice: Tensor
    log_sigma: Tensor
    kinds: Tensor
    directions: Tensor
    log_kappa: Tensor


class VaeNetwork(nn.Module):
    """Encoder, decoder, prior and property head; see the head of the file.

    Args:
        codec: of the images.
        conditions: what may be asked for.
        settings: size.
    """

    features: Tensor
    chemistry: Tensor

    def __init__(self, codec: CoordinateImage, conditions: Conditions, settings: VaeSettings) -> None:
        super().__init__()
        self.codec, self.conditions, self.settings = codec, conditions, settings
        s, w, n, columns = settings, settings.width, len(codec.elements), codec.max_atoms
        # No atom is one more kind, without features.
        features = torch.cat([torch.zeros(1, ELEMENT_FEATURES), element_features(codec.elements)])
        self.register_buffer("features", features, persistent=False)
        self.kind, self.kind_linear = nn.Parameter(torch.randn(1 + n, w) * 0.3), nn.Linear(ELEMENT_FEATURES, w)
        self.lattice_in, self.coordinates_in = nn.Linear(GEOMETRY, w), nn.Linear(GEOMETRY, w)
        self.place_in = nn.Parameter(torch.randn(1 + columns, w) * 0.3)
        self.place_out = nn.Parameter(torch.randn(1 + columns, w) * 0.3)
        self.encoder, self.decoder = _transformer(s), _transformer(s)
        self.to_latent = nn.Sequential(
            nn.Linear((1 + columns) * w, 2 * w), nn.GELU(), nn.Linear(2 * w, 2 * settings.latent)
        )
        self.from_latent = nn.Sequential(nn.Linear(s.latent, 4 * w), nn.GELU(), nn.Linear(4 * w, (1 + columns) * w))
        self.lattice_out, self.coordinates_out = nn.Linear(w, 12), nn.Linear(w, 9)
        self.kind_out = nn.Sequential(nn.Linear(w, 2 * w), nn.GELU(), nn.Linear(2 * w, 1 + n))
        self.prior_network = nn.Sequential(
            nn.Linear(conditions.width, 2 * w),
            nn.GELU(),
            nn.Linear(2 * w, 2 * w),
            nn.GELU(),
            nn.Linear(2 * w, s.mixture * (1 + 2 * s.latent)),
        )
        self.prior_place = nn.Parameter(torch.randn(s.mixture, s.latent))
        chemistry = torch.cat([torch.zeros(1, _CHEMISTRY), _chemistry(codec.elements)])
        self.register_buffer("chemistry", torch.cat([features, chemistry], dim=1), persistent=False)
        self.element_of_property = nn.Linear(self.chemistry.shape[1] + 1 + n, _ELEMENT_WIDTH)
        self.property_head = nn.Sequential(
            nn.Dropout(s.property_dropout),
            nn.Linear(GEOMETRY + _ELEMENT_WIDTH + columns * (_ELEMENT_WIDTH + GEOMETRY), _PROPERTY_WIDTH),
            nn.GELU(),
            nn.Dropout(s.property_dropout),
            nn.Linear(_PROPERTY_WIDTH, _PROPERTY_WIDTH),
            nn.GELU(),
            nn.Dropout(s.property_dropout),
            nn.Linear(_PROPERTY_WIDTH, len(conditions.properties)),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, latent) means and logarithms of standard deviations of q(z|x) for (B, channels, columns)."""
        kinds = images[:, GEOMETRY:, 1:].transpose(1, 2)
        tokens = self.coordinates_in(images[:, :GEOMETRY, 1:].transpose(1, 2))
        tokens = tokens + kinds @ (self.kind + self.kind_linear(self.features))
        tokens = torch.cat([self.lattice_in(images[:, :GEOMETRY, 0])[:, None], tokens], dim=1) + self.place_in
        mean, log_width = self.to_latent(self.encoder(tokens).flatten(1)).chunk(2, dim=1)
        return mean, log_width.clamp(-7.0, 3.0)

    def decode(self, z: Tensor) -> Decoded:
        """Return p(x|z) for (B, latent)."""
        tokens = self.from_latent(z).view(len(z), -1, self.settings.width) + self.place_out
        hidden = self.decoder(tokens)
        lattice, log_sigma = self.lattice_out(hidden[:, 0]).chunk(2, dim=1)
        coordinates = self.coordinates_out(hidden[:, 1:])
        directions = functional.normalize(coordinates[..., :6].unflatten(2, (3, 2)), dim=3, eps=1e-6)
        return Decoded(
            lattice,
            log_sigma.clamp(_MIN_LOG_SIGMA, 2.0),
            self.kind_out(hidden[:, 1:]).log_softmax(dim=2),
            directions,
            # A soft end, so that the gradient does not die there.
            _MAX_LOG_KAPPA - functional.softplus(_MAX_LOG_KAPPA - coordinates[..., 6:]),
        )

    def prior(self, conditions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights (B, M), means and log widths (B, M, latent) of p(z|conditions)."""
        s = self.settings
        raw = self.prior_network(conditions).view(len(conditions), s.mixture, 1 + 2 * s.latent)
        weights, means, widths = raw[..., 0], raw[..., 1 : 1 + s.latent], raw[..., 1 + s.latent :]
        return weights.log_softmax(dim=1), means + self.prior_place, widths.clamp(-5.0, 2.0)

    def properties(self, decoded: Decoded) -> Tensor:
        """Return (B, properties), standardised, of what latent vectors decode to: lattice, elements, coordinates."""
        kinds = decoded.kinds.exp()
        atoms = self.element_of_property(torch.cat([kinds @ self.chemistry, kinds], dim=2))
        there = (1 - kinds[..., :1])[..., None]
        places = (decoded.directions * there).flatten(2)
        parts = [decoded.lattice, atoms.sum(dim=1), atoms.flatten(1), places.flatten(1)]
        standardised: Tensor = self.property_head(torch.cat(parts, dim=1))
        return standardised


def _chemistry(elements: tuple[str, ...]) -> Tensor:
    """Return (elements, 3): highest and lowest common state of oxidation by 3, covalent radius (Å) less 1.3."""
    from pymatgen.core import Element

    rows = []
    for symbol in elements:
        states = Element(symbol).common_oxidation_states
        radius = float(covalent_radii[atomic_numbers[symbol]])
        rows.append([max(states, default=0) / 3, min(states, default=0) / 3, radius - 1.3])
    return torch.tensor(rows, dtype=torch.float32)


def _transformer(s: VaeSettings) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        s.width, s.heads, s.feedforward, s.dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, s.layers, norm=nn.LayerNorm(s.width), enable_nested_tensor=False)


def reconstruction(decoded: Decoded, images: Tensor) -> Tensor:
    """Return (B, 3) log p(x|z) by parts: lattice, elements, coordinates."""
    width = decoded.log_sigma.exp()
    lattice = -0.5 * ((images[:, :GEOMETRY, 0] - decoded.lattice) / width) ** 2 - decoded.log_sigma
    kinds = images[:, GEOMETRY:, 1:].transpose(1, 2)
    true = images[:, :GEOMETRY, 1:].transpose(1, 2).unflatten(2, (3, 2))
    kappa = decoded.log_kappa.exp()
    cosine = (true * decoded.directions).sum(dim=3)
    # log I0(k) = log(i0e(k)) + k
    angles = kappa * (cosine - 1) - torch.special.i0e(kappa).log() - math.log(2 * math.pi)
    there = 1 - kinds[..., 0]
    parts = (
        lattice.sum(dim=1) - 3 * math.log(2 * math.pi),
        (decoded.kinds * kinds).sum(dim=(1, 2)),
        (angles.sum(dim=2) * there).sum(dim=1),
    )
    return torch.stack(parts, dim=1)


def log_mixture(z: Tensor, prior: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return (B,) log p(z|conditions) of (B, latent)."""
    log_weights, means, log_widths = prior
    square = ((z[:, None] - means) * (-log_widths).exp()) ** 2
    each = -0.5 * square - log_widths - 0.5 * math.log(2 * math.pi)
    return (log_weights + each.sum(dim=2)).logsumexp(dim=1)


def divergence(mean: Tensor, log_width: Tensor, z: Tensor, prior: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return (B,) an unbiased estimate of KL(q(z|x) || p(z|conditions)) from one z drawn from q.

    The entropy of q is exact; the cross entropy is that of the sample.
    """
    entropy = (log_width + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=1)
    return -entropy - log_mixture(z, prior)
