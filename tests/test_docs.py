"""Code in README and docs runs; the rule is in CONTRIBUTING.md, "Code in documentation"."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DATA = "MLCALC_DATA"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
SHOWN_ONLY = {"text", "console", "bibtex", "mermaid"}
RUN_LIMIT_S = 900
FENCE = re.compile(r"^( *)(`{3,}|~{3,})[ ]*(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, file name after it (may be empty), text, first line in the page."""

    language: str
    name: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    k = 0
    while k < len(lines):
        opening = FENCE.match(lines[k])
        k += 1
        if not opening:
            continue
        indent, fence, info = opening.groups()
        start = k
        while k < len(lines) and lines[k].strip() != fence:
            k += 1
        assert k < len(lines), f"{page.name}:{start}: fence never closed"
        words = info.split()
        body = "\n".join(line.removeprefix(indent) for line in lines[start:k]) + "\n"
        found.append(Block(words[0] if words else "", words[1] if len(words) > 1 else "", body, start))
        k += 1
    return found


def run(command: list[str], where: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_LIMIT_S
    )
    assert done.returncode == 0, f"{where} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    found = blocks(page) if page.exists() else []
    if any(DATA in block.text for block in found if block.language not in SHOWN_ONLY):
        monkeypatch.setenv(DATA, str(request.getfixturevalue("data_folder")))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__docs__"}
    for block in found:
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.name:
            Path(block.name).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            # Line numbers in tracebacks are those of the page.
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        elif block.language == "bash":
            run(["bash", "-euo", "pipefail", "-c", block.text], where)
        elif block.language == "lammps":
            script = Path(block.name or f"in.line{block.line}")
            script.write_text(block.text, encoding="utf-8")
            run(["lmp", "-in", str(script), "-log", "none"], where)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language in SHOWN_ONLY, f"{where}: unknown kind of block {block.language!r}"


def test_a_broken_block_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nvalue = 1\n```\n\n- item\n\n  ```bash\n  false\n  ```\n", encoding="utf-8")
    assert [(b.language, b.text) for b in blocks(page)] == [("python", "value = 1\n"), ("bash", "false\n")]
    with pytest.raises(AssertionError, match="ended with 1"):
        run(["bash", "-euo", "pipefail", "-c", blocks(page)[1].text], "page.md:9")


def test_pages_exist() -> None:
    assert ROOT / "README.md" in PAGES
    assert all(page.exists() for page in PAGES)
