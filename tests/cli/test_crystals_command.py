from __future__ import annotations

from pathlib import Path

from ase.build import bulk
from ase.io import write


def test_show_writes_a_picture(mlcalc, tmp_path: Path) -> None:
    write(tmp_path / "two.extxyz", [bulk("NaCl", "rocksalt", a=5.64), bulk("Cu")])
    for kind in ("bond", "density", "gallery"):
        out = tmp_path / f"{kind}.png"
        status, stdout, _ = mlcalc("crystals", "show", tmp_path / "two.extxyz", "--as", kind, "--out", out)
        assert status == 0
        assert "2 crystals in" in stdout
        assert out.read_bytes().startswith(b"\x89PNG")
    status, stdout, _ = mlcalc(
        "crystals", "show", tmp_path / "two.extxyz", "--as", "bond", "--out", tmp_path / "one.svg", "--most", 1
    )
    assert status == 0
    assert "1 more are left out" in stdout
    assert (tmp_path / "one.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_show_says_what_is_wrong(mlcalc, tmp_path: Path) -> None:
    write(tmp_path / "cu.extxyz", bulk("Cu"))
    status, _, stderr = mlcalc("crystals", "show", tmp_path / "cu.extxyz", "--as", "photo")
    assert status == 1
    assert "unknown representation 'photo'" in stderr
    status, _, stderr = mlcalc("crystals", "show", tmp_path / "missing.cif", "--as", "bond")
    assert status == 1
    assert "no file" in stderr
    slab = bulk("Cu")
    slab.pbc = (True, True, False)
    write(tmp_path / "slab.extxyz", slab)
    status, _, stderr = mlcalc("crystals", "show", tmp_path / "slab.extxyz", "--as", "bond")
    assert status == 1
    assert "periodic along three axes" in stderr
