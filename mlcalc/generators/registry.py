"""Generators by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlcalc.errors import GeneratorError
from mlcalc.generators.base import Generator


def _random(**options: Any) -> Generator:
    from mlcalc.generators.random import RandomGenerator

    return RandomGenerator(**options)


def _wyckoff(**options: Any) -> Generator:
    from mlcalc.generators.wyckoff import WyckoffGenerator

    return WyckoffGenerator(**options)


def _substitution(**options: Any) -> Generator:
    from mlcalc.generators.substitution import SubstitutionGenerator

    return SubstitutionGenerator(**options)


def _flow(**options: Any) -> Generator:
    from mlcalc.generators.flow import FlowGenerator

    return FlowGenerator(**options)


def _gan(**options: Any) -> Generator:
    from mlcalc.generators.gan import GanGenerator

    return GanGenerator(**options)


def _vae(**options: Any) -> Generator:
    from mlcalc.generators.vae import VaeGenerator

    return VaeGenerator(**options)


#: A new generator is one file and one line here.
GENERATORS: dict[str, Callable[..., Generator]] = {
    "flow": _flow,
    "gan": _gan,
    "random": _random,
    "substitution": _substitution,
    "vae": _vae,
    "wyckoff": _wyckoff,
}


def make_generator(name: str, **options: Any) -> Generator:
    """Build a generator by name.

    Raises:
        GeneratorError: unknown name.
    """
    if name not in GENERATORS:
        raise GeneratorError(f"unknown generator {name!r}; there are: {', '.join(sorted(GENERATORS))}")
    return GENERATORS[name](**options)
