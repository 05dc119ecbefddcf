"""Weights files of generators."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mlcalc.generators import gan, make_generator, vae, wyckoff
from mlcalc.generators._weights import read_weights, save_weights, stamped


@pytest.mark.parametrize("shipped", [vae.SHIPPED, gan.SHIPPED, wyckoff.SHIPPED], ids=lambda path: path.stem)
def test_weights_that_were_overwritten_are_read_again(shipped: Path, tmp_path: Path) -> None:
    name, path = shipped.stem, tmp_path / "mine.safetensors"
    shutil.copy(shipped, path)
    before = make_generator(name, weights=path)
    assert make_generator(name, weights=str(path))._loaded is before._loaded  # type: ignore[attr-defined]
    document, state = read_weights(path, name)
    document.pop("format")
    changed = next(k for k, tensor in sorted(state.items()) if tensor.is_floating_point())
    save_weights(path, name, document, {**state, changed: state[changed] + 1})
    after = make_generator(name, weights=path)
    assert after.model_hash != before.model_hash  # type: ignore[attr-defined]


def test_a_stamp_tells_versions_of_a_file_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert stamped(path) == (path, 0, 0)
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 7))
    assert stamped(str(path)) == (path, 7, 3)
