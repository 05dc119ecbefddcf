from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from mlcalc.crystals import closest_pair
from mlcalc.generators import read_candidates


def mlcalc(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "mlcalc"), *arguments]
    # Wide and colourless, so that messages stay on their lines.
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_the_command_of_the_readme(tmp_path: Path) -> None:
    line = "generate random -n 20 --elements Si --out candidates.extxyz"
    first = mlcalc(*line.split(), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "20 candidates in candidates.extxyz" in first.stdout
    content = (tmp_path / "candidates.extxyz").read_bytes()
    assert len(ase.io.read(tmp_path / "candidates.extxyz", ":")) == 20
    mlcalc(*line.split(), cwd=tmp_path)
    assert (tmp_path / "candidates.extxyz").read_bytes() == content


def test_constraints_reach_the_generator(tmp_path: Path) -> None:
    where = ("--atoms", "2-4", "--space-groups", "225,221", "--volume", "8-12")
    done = mlcalc(
        "generate", "random", "-n", "3", "--formula", "MgO", *where, "--seed", "3", "--out", "cifs", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cifs").glob("*.cif"))) == 3
    for candidate in read_candidates(tmp_path / "cifs"):
        assert candidate.provenance.found_space_group in (225, 221)
        assert candidate.provenance.seed == 3
        counts = candidate.atoms.symbols.formula.count()
        assert counts["Mg"] == counts["O"]
        assert 8 <= candidate.atoms.get_volume() / len(candidate.atoms) <= 12.001


def test_wyckoff_with_constraints_and_targets(tmp_path: Path) -> None:
    line = "generate wyckoff -n 5 --elements O --chemical-system Li,Mn,O --atoms 2-10 --formation-energy=-3:-1"
    done = mlcalc(*line.split(), "--guidance", "1.5", "--min-distance", "0.75", "--out", "c.extxyz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = list(read_candidates(tmp_path / "c.extxyz"))
    assert len(found) == 5
    for candidate in found:
        assert "O" in candidate.atoms.symbols
        assert set(candidate.atoms.symbols) <= {"Li", "Mn", "O"}
        assert candidate.provenance.generator == "wyckoff"
        assert candidate.provenance.log_probability is not None
        assert -3 <= candidate.provenance.details["formation_energy_ev_per_atom"] <= -1
        assert closest_pair(candidate.atoms, 0.75) is None


def test_substitution_with_prototypes_of_a_file(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "mine.extxyz", bulk("NaCl", "rocksalt", a=5.64))
    line = "generate substitution -n 2 --formula KBr --prototypes mine.extxyz --out c.extxyz"
    done = mlcalc(*line.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = read_candidates(tmp_path / "c.extxyz")
    assert first.provenance.details["replaced"] == {"Na": "K", "Cl": "Br"}
    assert first.provenance.details["prototype"] == "mine.extxyz:0"
    assert second.provenance.details["repeat"] is True


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generate random -n 1 --elements Qq --out c.extxyz", "'Qq' is not a chemical element"),
        ("generate random -n 1 --out c.extxyz", "neither elements nor a formula"),
        ("generate dice -n 1 --elements Si --out c.extxyz", "there are: flow, gan, random, substitution, vae, wyckoff"),
        ("generate random -n 1 --elements Si --space-groups 227 --atoms 1 --out c.extxyz", "fits the Wyckoff"),
        ("generate random -n 1 --elements Si --atoms few --out c.extxyz", "give LOW-HIGH"),
        ("generate random -n 1 --elements Si --band-gap 1:2 --out c.extxyz", "knows nothing of band_gap_ev"),
        ("generate vae -n 1 --guidance 2 --out c.extxyz", "takes no guidance"),
        ("generate vae -n 1 --elements Xe --out c.extxyz", "Xe did not occur in the training"),
        ("design --target heat_all<-9 --out c.extxyz", "impossible target: heat_all below -9"),
        ("generate random -n 1 --elements Si --weights w.safetensors --out c.extxyz", "takes no weights"),
        ("generate random -n 1 --elements Si --prototypes p.cif --out c.extxyz", "takes no prototypes"),
        ("generate random -n 1 --elements Si --steps 9 --out c.extxyz", "takes no steps"),
        ("generate random -n 1 --elements Si --target heat=1:2 --out c.extxyz", "knows nothing of heat"),
        ("generate wyckoff -n 1 --target heat --out c.extxyz", "give NAME=LOW:HIGH"),
        ("generate flow -n 1 --weights no.safetensors --out c.extxyz", "no weights file no.safetensors"),
        ("generate wyckoff -n 1 --weights no.safetensors --out c.extxyz", "no weights file no.safetensors"),
        ("generate flow -n 1 --target dir_gap=1:inf --out c.extxyz", "a range to aim at has two ends, unlike dir_gap"),
        ("generate vae -n 1 --target band_gap=1:2 --out c.extxyz", "band_gap has a field of its own"),
        ("generate wyckoff -n 1 --formation-energy=-1:-2 --out c.extxyz", "impossible range of formation_energy"),
    ],
)
def test_bad_input_is_one_line(line: str, message: str, tmp_path: Path) -> None:
    done = mlcalc(*line.split(), cwd=tmp_path)
    assert done.returncode != 0
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "c.extxyz").exists()
