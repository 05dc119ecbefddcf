"""Building the C++ operators of ``mlcalc/ops`` for the installed torch, once, into a cache."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mlcalc import compiler
from mlcalc.errors import CompilerError

LIBRARY = "libmlcalcops.so"
_SOURCES = Path(__file__).resolve().parent / "ops" / "csrc"
_TORCH_SIDE = ("convolution.cpp", "density.cpp", "gaunt.cpp", "mix.cpp")
_KERNELS = ("convolution_kernels.cpp", "density_kernels.cpp", "gaunt_kernels.cpp", "mix_kernels.cpp")
_FLAGS = ("-std=c++20", "-fPIC", "-fvisibility=hidden")
# Sums may be contracted to fused multiply-adds, but never reordered: results do not depend on the number of threads.
_KERNEL_FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno")


def enabled() -> bool:
    """Return whether native operators are wanted: ``MLCALC_OPS=0`` means plain torch everywhere."""
    return os.environ.get("MLCALC_OPS", "1") != "0"


def _levels() -> dict[str, tuple[str, ...]]:
    """Return the processors kernels are compiled for: namespace to flags; which of them runs is decided at run time.

    The plainest comes first: of functions that several objects hold, such as those of std::vector, the linker keeps the
    first copy, and that one must run everywhere.
    """
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return {
            "v1": ("-march=x86-64", "-DBYTES=16"),
            "v3": ("-march=x86-64-v3", "-DBYTES=32"),
            "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512", "-DBYTES=64"),
        }
    return {"v1": ("-DBYTES=16",)}


@dataclass(frozen=True)
class _Recipe:
    """Everything a build depends on. The compiler is no part of it: nodes without one take what another has built."""

    torch: Path

    @classmethod
    def here(cls) -> _Recipe:
        torch = compiler.find_package("torch")
        if torch is None:
            raise CompilerError("torch is not installed")
        return cls(torch)

    def key(self) -> str:
        flags = [*_FLAGS, *_KERNEL_FLAGS, *(flag for level in _levels().values() for flag in level)]
        names = [compiler.version("torch"), str(self.torch), platform.machine()]
        return compiler.digest([*names, *flags], sorted(_SOURCES.iterdir()))

    def commands(self, folder: Path) -> dict[Path, list[str]]:
        """Return, for each object file, the arguments that make it; the slow ones first."""
        made: dict[Path, list[str]] = {}
        for name in _TORCH_SIDE:
            headers = self.torch / "include"
            where = [f"-isystem{path}" for path in (headers, headers / "torch/csrc/api/include")]
            made[folder / f"{name}.o"] = [
                *_FLAGS,
                "-O2",
                "-D_GLIBCXX_USE_CXX11_ABI=1",
                *where,
                "-c",
                str(_SOURCES / name),
            ]
        for level, flags in _levels().items():
            for name in _KERNELS:
                arguments = [*_FLAGS, *_KERNEL_FLAGS, *flags, f"-DLEVEL={level}", "-c", str(_SOURCES / name)]
                made[folder / f"{name}.{level}.o"] = arguments
        return {target: [*arguments, "-o", str(target)] for target, arguments in made.items()}

    def link(self, objects: list[Path], target: Path) -> list[str]:
        libraries = self.torch / "lib"
        more = [f"-L{libraries}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{libraries}"]
        if sys.platform.startswith("linux"):
            more += ["-Wl,-z,nodelete", f"-Wl,-soname,{LIBRARY}"]  # libtorch keeps pointers to registered operators
        return ["-shared", *map(str, objects), "-o", str(target), *more]


def operators_path() -> Path:
    """Return where the library of operators for this installation is or would be.

    Raises:
        CompilerError: no torch.
    """
    return compiler.cache_root() / "ops" / _Recipe.here().key() / LIBRARY


def operators_library(announce: bool = True) -> Path:
    """Return the library of operators for this installation, compiling it if there is none yet.

    Several processes may call this at once: one compiles, the others wait.

    Args:
        announce: say on standard error that a compilation has begun.

    Raises:
        CompilerError: no compiler, it failed, or the cache cannot be written.
    """
    library = operators_path()
    if library.is_file():
        return library
    recipe, folder, name = _Recipe.here(), library.parent, compiler.find_compiler()
    compiler.make_folder(folder)
    with compiler.locked(folder / "lock"):
        if library.is_file():
            return library
        if announce:
            print("mlcalc: compiling operators, once for this torch (two minutes)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch, ThreadPoolExecutor(max_workers=2) as pool:
            commands = recipe.commands(Path(scratch))
            what = "the operators of mlcalc"
            list(pool.map(lambda arguments: compiler.run_compiler(name, arguments, what), commands.values()))
            finished = Path(scratch) / LIBRARY
            compiler.run_compiler(name, recipe.link(list(commands), finished), what)
            finished.replace(library)
    return library
