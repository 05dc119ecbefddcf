"""Commands given again: pair_style and pair_coeff mean what they say, and one that fails changes nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lammps_structures import ELEMENTS, structures

from mlcalc.errors import LammpsError
from mlcalc.lammps.box import make_box
from mlcalc.lammps.data import atom_types, setup_lines, write_data
from mlcalc.lammps.run import open_library, run_library

KNOWN = " ".join(ELEMENTS)


def setup(folder: Path) -> list[str]:
    atoms = structures()["bulk"]
    box = make_box(atoms)
    write_data(atoms, folder / "structure.data", types=atom_types(atoms, ELEMENTS), box=box)
    return setup_lines(box, folder / "structure.data")


@pytest.fixture
def lmp(tmp_path: Path) -> Iterator[Any]:
    """LAMMPS in this process, which goes on after an error."""
    library = open_library()
    library.commands_list(setup(tmp_path))
    yield library
    library.close()


def energy(lmp: Any, *commands: str) -> float:
    lmp.commands_list([*commands, "run 0 post no"])
    return float(lmp.get_thermo("pe"))


def test_options_left_out_are_not_those_of_before(lmp: Any, model_files: dict[str, Path]) -> None:
    committee = f"pair_coeff * * {model_files['equivariant']} {model_files['schnet']} {KNOWN}"
    with pytest.raises(Exception, match="above deviation_stop"):
        energy(lmp, "pair_style mlcalc deviation_stop 1e-9", committee)
    energy(lmp, "pair_style mlcalc")


def test_options_that_come_after_the_model_are_checked(lmp: Any, equivariant_file: Path) -> None:
    wanted = energy(lmp, "pair_style mlcalc", f"pair_coeff * * {equivariant_file} {KNOWN}")
    for options, message in (
        ("deviation_stop 1", "deviation_stop compare several models"),
        ("grade_stop 2", "has no extrapolation grades"),
        ("input charge 1", "takes no input 'charge'"),
    ):
        with pytest.raises(Exception, match=message):
            energy(lmp, f"pair_style mlcalc {options}")
    assert energy(lmp, "pair_style mlcalc") == wanted


def test_no_threshold_demands_nothing(lmp: Any, equivariant_file: Path) -> None:
    for options in ("deviation_warn no deviation_stop no", "grade_warn no grade_stop no", "grade_warn 2 grade_warn no"):
        energy(lmp, f"pair_style mlcalc {options}", f"pair_coeff * * {equivariant_file} {KNOWN}")


def test_a_pair_coeff_that_fails_changes_nothing(lmp: Any, model_files: dict[str, Path]) -> None:
    file = model_files["equivariant"]
    wanted = energy(lmp, "pair_style mlcalc", f"pair_coeff * * {file} {KNOWN}")
    for arguments, message in (
        (f"nowhere.pt {KNOWN}", "cannot open model file nowhere.pt"),
        (f"{model_files['schnet']} Mo Xx", "element Xx of type 2 is not in"),
        (f"{model_files['schnet']} NULL NULL", "no atom type has an element"),
    ):
        with pytest.raises(Exception, match=message):
            lmp.command(f"pair_coeff * * {arguments}")
        assert energy(lmp) == wanted
    assert abs(energy(lmp, f"pair_coeff * * {file} Mo Si") - wanted) > 1.0


def test_the_summary_is_that_of_the_model_at_hand(lmp: Any, model_files: dict[str, Path]) -> None:
    one, two = model_files["equivariant"], model_files["schnet"]
    energy(lmp, "pair_style mlcalc", f"pair_coeff * * {one} {two} {KNOWN}", "compute trust all pair mlcalc")
    lmp.command("variable largest equal c_trust[2]")
    lmp.command("thermo_style custom step pe c_trust[2]")
    energy(lmp)
    assert lmp.extract_variable("largest") > 1e-3
    energy(lmp, f"pair_coeff * * {one} {KNOWN}")
    assert lmp.extract_variable("largest") == 0.0


def test_settings_of_another_version_are_refused(equivariant_file: Path, tmp_path: Path) -> None:
    """Files from before there was a version begin with the mode: 2 is 'exchange'."""
    pair = ["pair_style mlcalc exchange", f"pair_coeff * * {equivariant_file} {KNOWN}"]
    run_library("\n".join([*setup(tmp_path), *pair, f"write_restart {tmp_path}/now"]))
    content = (tmp_path / "now").read_bytes()
    start = content.index(b"mlcalc\0") + len(b"mlcalc\0")
    for form in (struct.unpack_from("i", content, start)[0] + 1, 2):
        (tmp_path / "other").write_bytes(content[:start] + struct.pack("i", form) + content[start + 4 :])
        message = rf"written by another version of mlcalc \(its settings are in form {form}"
        with pytest.raises(LammpsError, match=message):
            run_library(f"read_restart {tmp_path}/other")
