"""Potentials: the contract, the architectures that keep it, and what follows from one derivative."""

from mlcalc.potentials.base import Potential, PotentialInfo
from mlcalc.potentials.neural import NeuralPotential
from mlcalc.potentials.per_element import PerElement
from mlcalc.potentials.registry import architectures, build, register
from mlcalc.potentials.zbl import ZBL

__all__ = ["ZBL", "NeuralPotential", "PerElement", "Potential", "PotentialInfo", "architectures", "build", "register"]
