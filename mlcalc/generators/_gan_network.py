"""Generator and critics of images, convolutional over whatever axes a codec's arrays have.

A codec's array is (channels, *axes); with one, two or three axes the convolutions have as many dimensions, so that the
same network draws coordinate images, bond images and voxels. Two critics judge apart: one sees the whole image, one
only how many atoms of each element there are; the latter exists where a codec has a channel an element, that is for
coordinate images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlcalc.crystals.codec import Codec
from mlcalc.crystals.coordinate_image import GEOMETRY, CoordinateImage
from mlcalc.generators._image_conditions import Conditions

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
#: Axes longer than this are halved until they are not.
_COARSE = 8


@dataclass(frozen=True)
class GanSettings:
    """Size of the networks.

    Attributes:
        width: channels of the hidden layers.
        blocks: residual blocks at each resolution.
        noise: dimensions of what images are made of.
    """

    width: int = 64
    blocks: int = 2
    noise: int = 32


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int, axes: int) -> None:
        super().__init__()
        convolution = _CONVOLUTIONS[axes]
        self.first = convolution(width, width, 3, padding=1)
        self.second = convolution(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(functional.leaky_relu(x, 0.2))
        return x + self.second(functional.leaky_relu(inner, 0.2)) * math.sqrt(0.5)


def _halvings(axes: tuple[int, ...]) -> int:
    """How often all axes can be halved until the longest is coarse enough."""
    count = 0
    while all(n % 2 == 0 for n in axes) and max(axes) > _COARSE:
        axes, count = tuple(n // 2 for n in axes), count + 1
    return count


class GanNetwork(nn.Module):
    """What makes images of noise and conditions.

    Args:
        codec: of the images.
        conditions: what may be asked for.
        settings: size.
    """

    def __init__(self, codec: Codec, conditions: Conditions, settings: GanSettings) -> None:
        super().__init__()
        self.codec, self.conditions, self.settings = codec, conditions, settings
        channels, axes = codec.shape[0], codec.shape[1:]
        self.halvings = _halvings(axes)
        self.coarse = tuple(n // 2**self.halvings for n in axes)
        w, dimensions = settings.width, len(axes)
        self.start = nn.Sequential(
            nn.Linear(settings.noise + conditions.width, 4 * w),
            nn.LeakyReLU(0.2),
            nn.Linear(4 * w, w * math.prod(self.coarse)),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(w, dimensions) for _ in range(settings.blocks))) for _ in range(self.halvings + 1)
        )
        self.end = _CONVOLUTIONS[dimensions](w, channels, 1)

    def forward(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Return (B, *shape) raw images; ``finished`` makes of them what a codec's arrays look like."""
        hidden = self.start(torch.cat([noise, conditions], dim=1)).view(-1, self.settings.width, *self.coarse)
        for k, stage in enumerate(self.stages):
            if k:
                hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = stage(hidden)
        raw: Tensor = self.end(functional.leaky_relu(hidden, 0.2))
        return raw

    def finished(self, raw: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images as the codec writes them, differentiable.

        In coordinate images cosines and sines are brought onto the circle, and each column gets one element: the
        likeliest, or one drawn if Gumbel noise is given. Backwards, elements pass the gradient of the softmax (Jang et
        al., ICLR 2017). Images of other codecs stay as they are.

        Args:
            raw: (B, *shape) of ``forward``.
            noise: (B, 1 + elements, columns) Gumbel noise.
        """
        if not isinstance(self.codec, CoordinateImage):
            return raw
        lattice, places = raw[:, :GEOMETRY, :1], raw[:, :GEOMETRY, 1:]
        logits = raw[:, GEOMETRY:, 1:]
        soft = (logits if noise is None else logits + noise).softmax(dim=1)
        hard = functional.one_hot(soft.argmax(dim=1), soft.shape[1]).movedim(2, 1).to(soft.dtype)
        kinds = hard + soft - soft.detach()
        circle = functional.normalize(places.unflatten(1, (3, 2)), dim=2, eps=1e-6).flatten(1, 2)
        atoms = torch.cat([circle * (1 - kinds[:, :1]), kinds], dim=1)
        first = torch.cat([lattice, torch.zeros_like(logits[:, :, :1])], dim=1)
        return torch.cat([first, atoms], dim=2)


class StructureCritic(nn.Module):
    """Judges whole images, given what they were made for."""

    def __init__(self, codec: Codec, conditions: Conditions, settings: GanSettings) -> None:
        super().__init__()
        channels, axes = codec.shape[0], codec.shape[1:]
        w, dimensions = settings.width, len(axes)
        convolution = _CONVOLUTIONS[dimensions]
        halvings = _halvings(axes)
        layers: list[nn.Module] = [convolution(channels, w, 1), _Block(w, dimensions)]
        for _ in range(halvings):
            layers += [nn.LeakyReLU(0.2), convolution(w, w, 4, stride=2, padding=1), _Block(w, dimensions)]
        self.body = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Flatten())
        size = w * math.prod(n // 2**halvings for n in axes)
        self.end = nn.Sequential(nn.Linear(size + conditions.width, 4 * w), nn.LeakyReLU(0.2), nn.Linear(4 * w, 1))

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Return (B,) verdicts; high is real."""
        verdict: Tensor = self.end(torch.cat([self.body(images), conditions], dim=1))[:, 0]
        return verdict


class CompositionCritic(nn.Module):
    """Judges how many atoms of each element a coordinate image holds, given what it was made for."""

    def __init__(self, codec: CoordinateImage, conditions: Conditions, settings: GanSettings) -> None:
        super().__init__()
        w = settings.width
        self.body = nn.Sequential(
            nn.Linear(1 + len(codec.elements) + conditions.width, 4 * w),
            nn.LeakyReLU(0.2),
            nn.Linear(4 * w, 2 * w),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * w, 1),
        )

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Return (B,) verdicts; high is real."""
        amounts = images[:, GEOMETRY:, 1:].sum(dim=2)
        verdict: Tensor = self.body(torch.cat([amounts, conditions], dim=1))[:, 0]
        return verdict


def critics_for(codec: Codec, conditions: Conditions, settings: GanSettings) -> nn.ModuleDict:
    """Return the critics that suit a codec, by name."""
    critics: dict[str, nn.Module] = {"structure": StructureCritic(codec, conditions, settings)}
    if isinstance(codec, CoordinateImage):
        critics["composition"] = CompositionCritic(codec, conditions, settings)
    return nn.ModuleDict(critics)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, conditions: Tensor, at: Tensor) -> Tensor:
    """Return the mean of (|gradient| - 1)² of a critic on lines between real and made images.

    Gulrajani et al., NeurIPS 2017, eq. 3, without its factor.

    Args:
        critic: takes images and conditions.
        real: (B, *shape).
        fake: likewise.
        conditions: (B, conditions).
        at: (B,) places on the lines, 0 the made image and 1 the real one.
    """
    place = at.view(-1, *[1] * (real.dim() - 1))
    between = (place * real + (1 - place) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between, conditions).sum(), between, create_graph=True)
    # The square root of zero has no gradient.
    norm = (gradient.flatten(1).square().sum(dim=1) + 1e-12).sqrt()
    return ((norm - 1) ** 2).mean()
