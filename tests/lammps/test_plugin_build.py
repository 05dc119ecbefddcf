"""The plugin is built once, for what is installed, by whoever comes first, and says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlcalc.errors import PluginError
from mlcalc.lammps import build
from mlcalc.lammps.build import build_plugin, plugin_folder, plugin_status
from mlcalc.native import operators_library


@pytest.fixture
def small_sources(tmp_path: Path) -> Path:
    """Real C++ with the file names of the plugin, quick to compile."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in build.SOURCES:
        (folder / name).write_text(f"int number_{Path(name).stem}() {{ return 1; }}\n")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    operators = operators_library().parent
    (folder / "ops").mkdir(parents=True)
    (folder / "ops" / operators.name).symlink_to(operators)  # these take a minute to compile
    monkeypatch.setenv("MLCALC_CACHE", str(folder))
    return folder


def test_a_change_of_source_or_version_is_a_new_build(
    small_sources: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_plugin(sources=small_sources)
    stamp = first.stat().st_mtime_ns
    assert build_plugin(sources=small_sources) == first
    assert first.stat().st_mtime_ns == stamp
    build_plugin(sources=small_sources, force=True)
    assert first.stat().st_mtime_ns > stamp
    (small_sources / "model.cpp").write_text("int number_model() { return 2; }\n")
    second = build_plugin(sources=small_sources)
    assert second != first
    installed = build.version
    monkeypatch.setattr(build, "version", lambda name: "99.0" if name == "torch" else installed(name))
    assert build_plugin(sources=small_sources) not in (first, second)


def test_many_processes_build_once(small_sources: Path, cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mlcalc.lammps.build import build_plugin; "
        "print(build_plugin(sources=Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(small_sources)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=120) for process in running]
    assert all(process.returncode == 0 for process in running), outputs
    assert len({out for out, _ in outputs}) == 1
    assert sum("compiling the LAMMPS plugin" in err for _, err in outputs) == 1
    assert Path(outputs[0][0].strip()).is_file()


def test_errors_of_the_compiler_are_passed_on(small_sources: Path, cache: Path) -> None:
    (small_sources / "exchange.cpp").write_text("int broken( { return; }\n")
    with pytest.raises(PluginError, match=r"(?s)C\+\+20.*exchange.cpp:1"):
        build_plugin(sources=small_sources)
    assert not list((cache / "lammps").rglob("*.so"))


def test_without_a_compiler_lammps_still_starts(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PluginError, match=r"no C\+\+ compiler found.*mlcalc lammps build"):
        build_plugin()
    folder = Path(plugin_folder())
    assert "pair_style mlcalc is not available: no C++ compiler" in capsys.readouterr().err
    assert folder.is_dir()
    assert not list(folder.glob("*plugin.so"))
    assert "no C++ compiler" in plugin_status().problem
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(PluginError, match="named by CXX, no-such-compiler"):
        build_plugin()


def test_unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLCALC_CACHE", str(tmp_path / "file"))
    with pytest.raises(PluginError, match="set MLCALC_CACHE"):
        build_plugin()


def plain_lmp(potential: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher of the wheel, nothing set up by hand."""
    text = f"""
units metal
lattice diamond 5.43
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 28.0855
pair_style mlcalc
pair_coeff * * {potential} Si
run 0
"""
    (folder / "in.si").write_text(text)
    environment = {k: v for k, v in os.environ.items() if k not in ("LAMMPS_PLUGIN_PATH", "LD_LIBRARY_PATH")}
    lmp = Path(sys.executable).parent / "lmp"
    command = [str(lmp), "-in", "in.si"]
    return subprocess.run(
        command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True, timeout=300, check=False
    )


def test_plain_lmp_knows_the_pair_style(equivariant_file: Path, tmp_path: Path) -> None:
    done = plain_lmp(equivariant_file, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Total wall time" in done.stdout


def test_libtorch_keeps_its_own_matrix_product(equivariant_file: Path, tmp_path: Path) -> None:
    """LAMMPS exports a dgemm_ too, several times slower; the dynamic linker says whose libtorch got."""
    done = plain_lmp(equivariant_file, tmp_path, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(tmp_path / "linker"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [x for file in tmp_path.glob("linker.*") for x in file.read_text(errors="replace").splitlines()]
    bound = [x for x in lines if "binding file" in x and x.endswith("symbol `dgemm_'") and "libtorch_cpu" in x]
    assert bound
    assert all(x.count("libtorch_cpu.so") == 2 for x in bound), bound


def test_entry_point_imports_neither_torch_nor_lammps() -> None:
    code = "import sys, mlcalc.lammps.build; print('torch' in sys.modules, 'lammps' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "False"]
