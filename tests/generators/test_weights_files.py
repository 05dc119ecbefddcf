"""Weights files of generators."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mlcalc.errors import ModelFileError
from mlcalc.generators import make_generator
from mlcalc.generators._weights import WEIGHTS, find_weights, owner_of, read_weights, save_weights, stamped


@pytest.mark.parametrize(
    "shipped", [find_weights(name) for name in ("vae", "gan", "wyckoff")], ids=lambda path: path.stem
)
def test_weights_that_were_overwritten_are_read_again(shipped: Path, tmp_path: Path) -> None:
    name, path = shipped.stem, tmp_path / "mine.safetensors"
    shutil.copy(shipped, path)
    before = make_generator(name, weights=path)
    assert make_generator(name, weights=str(path))._loaded is before._loaded
    document, state = read_weights(path, name)
    document.pop("format")
    changed = next(k for k, tensor in sorted(state.items()) if tensor.is_floating_point())
    save_weights(path, name, document, {**state, changed: state[changed] + 1})
    after = make_generator(name, weights=path)
    assert after.model_hash != before.model_hash


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_weights_that_ship_are_found_by_name(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = path.stem.split("-")[0]
    by_file = make_generator(generator, weights=path).model_hash
    for name in (path.stem, Path(path.stem)):
        assert make_generator(generator, weights=name).model_hash == by_file
    # A file of the user's goes before a name.
    monkeypatch.chdir(tmp_path)
    Path(path.stem).write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match=f"{path.stem} is damaged"):
        make_generator(generator, weights=path.stem)


def test_none_takes_the_weights_called_as_the_generator() -> None:
    assert [find_weights(name).stem for name in ("flow", "gan", "vae", "wyckoff")] == ["flow", "gan", "vae", "wyckoff"]


@pytest.mark.parametrize(
    ("generator", "ships"), [("flow", "flow, flow-perov"), ("gan", "gan"), ("vae", "vae"), ("wyckoff", "wyckoff")]
)
def test_names_that_are_not_known_or_anothers(generator: str, ships: str) -> None:
    with pytest.raises(ModelFileError, match=f"no weights file perov; .*`{generator}` that ship: {ships}$"):
        make_generator(generator, weights="perov")
    other = "vae" if generator == "gan" else "gan"
    with pytest.raises(
        ModelFileError, match=f"{other} are those of .* `{other}`; of `{generator}` there are: {ships}$"
    ):
        make_generator(generator, weights=other)


def test_weights_say_whose_they_are(tmp_path: Path) -> None:
    shutil.copy(find_weights("flow", "flow-perov"), tmp_path / "mine.safetensors")
    assert [owner_of(name) for name in ("flow-perov", tmp_path / "mine.safetensors", "vae")] == ["flow", "flow", "vae"]
    with pytest.raises(ModelFileError, match="no weights file perov; weights that ship: flow, flow-perov, gan, vae"):
        owner_of("perov")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="holds no weights of a generator"):
        owner_of(tmp_path / "other.safetensors")


def test_a_stamp_tells_versions_of_a_file_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert stamped(path) == (path, 0, 0)
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 7))
    assert stamped(str(path)) == (path, 7, 3)
