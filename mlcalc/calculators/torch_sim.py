"""Potentials as models of torch-sim, for its own optimisers, integrators and batchers.

torch-sim: https://github.com/TorchSim/torch-sim, ``pip install 'mlcalc[torch-sim]'``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.calculators._batch import Entrant
from mlcalc.calculators._members import Source
from mlcalc.calculators.batched import BatchedCalculator
from mlcalc.errors import SettingsError

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise SettingsError(
        f"models for torch-sim need torch-sim, which is not here ({error}): pip install 'mlcalc[torch-sim]'"
    ) from error


class TorchSimModel(ModelInterface):
    """A potential, or a committee, as torch-sim's ``ModelInterface``.

    ``torch_sim.optimize(structures, TorchSimModel("mlearn"), optimizer=…)`` and everything else of torch-sim that takes
    a model. Energies, forces and stresses are those of ``BatchedCalculator``; stress is zero where not all axes are
    periodic. Neighbour lists are kept from call to call while the structures are the same ones.

    Args:
        potential: as for ``MLCalculator``.
        dtype: ``"float64"`` or ``"float32"``, also of torch-sim's states.
        device: where the potential runs.
        skin: of the Verlet lists, Å.
        max_edges: most edges in one evaluation; None finds a good number.

    Raises:
        ModelFileError: the potential cannot be found or loaded.
        SettingsError: unknown dtype, or a potential that reads inputs, for which torch-sim's states have no place.
    """

    def __init__(
        self,
        potential: Source | Sequence[Source],
        dtype: str | torch.dtype = "float64",
        device: str | torch.device = "cpu",
        skin: float = 1.0,
        *,
        max_edges: int | None = None,
    ) -> None:
        super().__init__()
        self.calculator = BatchedCalculator(potential, dtype, device, skin, max_edges=max_edges)
        if self.calculator.info.inputs:
            raise SettingsError(
                f"the potential reads {', '.join(self.calculator.info.inputs)}, which states of torch-sim do not hold: "
                "use BatchedCalculator"
            )
        self._device = torch.device(device)
        self._dtype = self.calculator.potentials[0].dtype
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"
        self._batch = self.calculator.new_batch()
        self._present: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return ``energy`` (B,) in eV, ``forces`` (N, 3) in eV/Å and ``stress`` (B, 3, 3) in eV/Å³ of a state.

        Args:
            state: torch-sim's ``SimState``, or a mapping with the same names; cell vectors are columns.
            kwargs: ignored.

        Raises:
            MlcalcError: something is wrong with a structure (its number and the reason are given).
        """

        def read(name: str) -> Any:
            return state[name] if isinstance(state, Mapping) else getattr(state, name)

        given: Tensor = read("positions")
        positions, numbers, system = (
            item.detach().cpu().numpy() for item in (given, read("atomic_numbers"), read("system_idx"))
        )
        cells = np.swapaxes(read("cell").detach().cpu().numpy(), 1, 2).astype(np.float64)
        periodic = read("pbc")
        pbc = np.array(
            np.broadcast_to(periodic.cpu().numpy() if isinstance(periodic, Tensor) else periodic, (3,)), bool
        )
        self._follow(numbers.astype(np.int64), system, len(cells), pbc)
        values = self._batch.evaluate(np.ascontiguousarray(positions, dtype=np.float64), cells)
        for place, error in sorted(values.errors.items()):
            raise type(error)(f"structure {place}: {error}") from error
        stress = np.zeros_like(cells)
        if pbc.all():
            stress = (
                0.5 * (values.strain + np.swapaxes(values.strain, 1, 2)) / np.abs(np.linalg.det(cells))[:, None, None]
            )

        def put(array: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(array).to(device=given.device, dtype=given.dtype)

        return {"energy": put(values.energies), "forces": put(values.forces), "stress": put(stress)}

    def _follow(
        self, numbers: NDArray[np.int64], system: NDArray[np.int64], count: int, pbc: NDArray[np.bool_]
    ) -> None:
        """Keep the lists of structures that are still there; a wrong guess costs a search and no more."""
        bounds = np.searchsorted(system, np.arange(count + 1))
        now = [(numbers[bounds[k] : bounds[k + 1]], pbc) for k in range(count)]
        keep: list[int] = []
        old = 0
        for item in now:
            while old < len(self._present) and not _same(self._present[old], item):
                old += 1
            if old == len(self._present):
                break
            keep.append(old)
            old += 1
        if len(keep) < max(len(now), len(self._present)):
            new: list[Entrant] = [self._batch.admit_numbers(*item, {}) for item in now[len(keep) :]]
            self._batch.replace(keep, new)
            self._present = now


def _same(a: tuple[NDArray[np.int64], NDArray[np.bool_]], b: tuple[NDArray[np.int64], NDArray[np.bool_]]) -> bool:
    return np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
