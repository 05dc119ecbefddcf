"""Model files from AOTInductor: energies and their derivative compiled ahead of time into machine code."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from torch import Tensor

import mlcalc.ops  # noqa: F401  (the program calls mlcalc::exchange)
from mlcalc.deploy import _document, _instruction_set
from mlcalc.deploy._operators import register
from mlcalc.errors import SettingsError
from mlcalc.files import write_atomic
from mlcalc.potentials.base import Potential

# torch.export treats sizes 0 and 1 as constants. Programs are therefore made for, and always given, at least this many
# owned atoms, one ghost more than there are, and this many edges. Edges beyond the cutoff have no weight.
_LEAST = 2


class CompiledPotential(Potential):
    """A loaded AOTInductor file on the potential contract.

    The program gives ∂E/∂r together with the energies, so that an energy alone costs as much as both, and only the sum
    of all energies can be differentiated, once. Copies share the program.

    Args:
        path: the archive; it may vanish afterwards.
        document: the file's JSON document.

    Attributes:
        document: the same.
        exchange_width: most numbers per atom in one exchange between layers, 0 if none.
    """

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document
        self.info = _document.read_info(document, path)
        self.config = dict(document.get("config", {}))
        self.exchange_width = int(document["exchange_width"])
        self._dtype = _document.DTYPES[document["dtype"]]
        self._archive = path.read_bytes()
        with _quiet():
            self._run = torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
        self.train(False)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the program."""
        return self._dtype

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, extra: Optional[Dict[str, Tensor]] = None
    ) -> Tensor:
        """Return (N,) energies in eV; see ``Potential.forward``.

        Raises:
            RuntimeError: tensors of another dtype or device than the program's.
        """
        if edge_vectors.dtype != self._dtype or edge_vectors.device.type != "cpu":
            raise RuntimeError(f"compiled for {self.document['dtype']} on the CPU, not {edge_vectors.dtype}")
        inputs = [extra[name].to(self._dtype) for name in self.info.inputs] if extra is not None else []
        if any(value.numel() != 1 for value in inputs):
            raise RuntimeError("a compiled potential with inputs takes one structure at a time")
        n = species.shape[0] if extra is None or "owned" not in extra else extra["owned"].shape[0]
        with torch.no_grad():
            padded = _pad(species, edge_index, edge_vectors.detach(), n, self.info.cutoff)
            if self.document.get("counted", False):
                inputs = [edge_vectors.new_ones(padded[-1].shape[0]), *inputs]
            energies, gradients, *others = self._run(*padded, *inputs)
            energies, gradients = energies[:n], gradients[: edge_vectors.shape[0]]
        for name, values in zip(self.info.outputs, others, strict=True):
            if extra is not None and name in extra:
                extra[name] = values[:n]
        return _Derivative.apply(energies, gradients, edge_vectors)

    def save(self, path: Path) -> Path:
        """Write the file it came from to ``path``, and return that."""
        write_atomic(path, self._archive)
        return path

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledPotential:
        return self

    def __reduce__(self) -> tuple[Callable[..., CompiledPotential], tuple[bytes, dict[str, Any]]]:
        return _revive, (self._archive, self.document)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CompiledPotential:
        probe = fn(torch.zeros(1, dtype=self._dtype))
        if probe.dtype != self._dtype or probe.device.type != "cpu":
            raise SettingsError(
                f"{self.info.name or 'the potential'} is compiled for {self.document['dtype']} on the CPU and cannot "
                "change; export it anew: mlcalc export POTENTIAL FILE.pt2 --format aotinductor --dtype DTYPE"
            )
        return self


class _Derivative(torch.autograd.Function):
    """Hands out a derivative that is known already."""

    @staticmethod
    def forward(context: Any, energies: Tensor, gradients: Tensor, vectors: Tensor) -> Tensor:
        context.save_for_backward(gradients)
        return energies.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, *seeds: Tensor) -> tuple[None, None, Tensor]:
        (gradients,) = context.saved_tensors
        (seed,) = seeds
        if seed.numel() and not bool((seed == seed[0]).all()):
            raise RuntimeError("a compiled potential knows the derivative of the total energy only")
        return None, None, gradients * (seed[0] if seed.numel() else 1.0)


def _pad(
    species: Tensor, edge_index: Tensor, vectors: Tensor, n: int, cutoff: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return species, edges, vectors and range of owned atoms with the least sizes that programs are made for."""
    extra = max(0, _LEAST - n)
    filler = species.new_zeros(extra)
    species = torch.cat([species[:n], filler, species[n:], species.new_zeros(1)])
    if extra:
        edge_index = torch.where(edge_index >= n, edge_index + extra, edge_index)
    lacking = max(0, _LEAST - vectors.shape[0])
    if lacking:
        edge_index = torch.cat([edge_index, edge_index.new_full((2, lacking), n + extra - 1)], dim=1)
        vectors = torch.cat([vectors, vectors.new_full((lacking, 3), 2.0 * cutoff)])
    return species, edge_index.contiguous(), vectors.contiguous(), torch.arange(n + extra)


def _revive(archive: bytes, document: dict[str, Any]) -> CompiledPotential:
    with tempfile.TemporaryDirectory(prefix="mlcalc-") as folder:
        path = Path(folder) / "model.pt2"
        path.write_bytes(archive)
        register(document)
        return CompiledPotential(path, document)


class _Program(torch.nn.Module):
    """What is compiled: energies (n,), ∂E/∂r (E, 3), further outputs.

    E is the sum of energies times ``counted`` (n,), 1 or 0: in LAMMPS' halo mode some centres belong to other ranks.
    Files of earlier versions lack this input.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor, owned: Tensor, counted: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        info = self.potential.info
        vectors = vectors.detach().requires_grad_(True)
        extra = {"owned": owned, "batch": torch.zeros_like(species), **dict(zip(info.inputs, inputs, strict=True))}
        extra.update({name: vectors.new_zeros(0) for name in info.outputs})
        with torch.enable_grad():
            energies = self.potential(species, edge_index, vectors, extra)
            (gradients,) = torch.autograd.grad((energies * counted).sum(), vectors)
        return energies.detach(), gradients.detach(), *(extra[name].detach() for name in info.outputs)


def refuse(potential: Potential) -> None:
    """Refuse what cannot be compiled, before any work on it.

    Raises:
        SettingsError: a family, a potential that needs index tables, or no C++ compiler.
    """
    info = potential.info
    if info.element_sets:
        sets = " | ".join(" ".join(group) for group in info.element_sets)
        raise SettingsError(
            "a family of potentials chooses its member at run time, which cannot be compiled; export one set of "
            f"elements alone, --elements one of: {sets}"
        )
    if info.needs:
        raise SettingsError(
            f"{info.name or 'the potential'} needs index tables ({', '.join(info.needs)}), which compiled files do not "
            "take; use --format torchscript"
        )
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise SettingsError("compiling needs a C++ compiler: install g++ or set CXX; or use --format torchscript")


def compile_files(potential: Potential, march: str) -> tuple[list[Any], dict[str, Any]]:
    """Compile a potential for the processor ``march``.

    Returns:
        the files that ``write`` packs, in a folder of torch's cache, and the record of the instruction set.

    Raises:
        SettingsError: if the potential cannot be compiled.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    arguments = _example(potential)
    sizes = torch.export.Dim.DYNAMIC
    shapes = ({0: sizes}, {1: sizes}, {0: sizes}, {0: sizes}, {0: sizes}, *(None for _ in potential.info.inputs))
    options: dict[str, Any] = {
        "aot_inductor.package": True,
        "cpp.march": march,
        "cpp.simdlen": _instruction_set.vector_width(march),
        "cpp.dynamic_threads": True,  # else for ever the number of threads of this process
        "reorder_for_peak_memory": False,  # torch 2.13: together with the reuse of buffers it gives wrong derivatives
        "cpp.weight_prepack": False,  # packs weights for the library and machine at hand
    }
    with _quiet():
        try:
            traced = make_fx(_Program(potential), tracing_mode="symbolic", _allow_non_fake_inputs=True)(*arguments)
            exported = torch.export.export(traced, arguments, dynamic_shapes=shapes)
            files: Any = torch._inductor.aot_compile(exported.module(check_guards=False), arguments, options=options)
        except Exception as error:  # torch's compiler has errors of many kinds
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise SettingsError(
                f"{type(potential).__name__} cannot be compiled by AOTInductor ({reason}); use --format torchscript"
            ) from error
    return files, _instruction_set.describe(march)


def _example(potential: Potential) -> tuple[Tensor, ...]:
    """Return inputs to trace with; no two sizes alike, so that none is taken for another."""
    owned, ghosts, edges = 5, 6, 37
    generator = torch.Generator().manual_seed(1)
    index = torch.stack(
        [
            torch.randint(owned, (edges,), generator=generator).sort()[0],
            torch.randint(owned + ghosts, (edges,), generator=generator),
        ]
    )
    vectors = torch.randn(edges, 3, generator=generator, dtype=torch.float64) * (0.3 * potential.info.cutoff)
    inputs = [torch.zeros(1, dtype=potential.dtype) for _ in potential.info.inputs]
    species = torch.arange(owned + ghosts) % len(potential.info.elements)
    counted = torch.ones(owned, dtype=potential.dtype)
    return species, index, vectors.to(potential.dtype), torch.arange(owned), counted, *inputs


def write(files: list[Any], document: dict[str, Any], path: Path) -> None:
    """Write the archive."""
    from torch.export.pt2_archive._package import package_pt2

    with path.open("wb") as stream, _quiet():
        package_pt2(stream, aoti_files=files, extra_files={_document.NAME: _document.dump(document)})


def read(path: Path, document: dict[str, Any]) -> CompiledPotential:
    """Load the archive; torch raises whatever it likes on damaged ones."""
    return CompiledPotential(path, document)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's remarks on its own internals from users."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._inductor", "torch._export")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
