"""The rules of docs/architecture.md: arrows between rooms run one way, and documents name files that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUND = {"checkpoints", "compiler", "configs", "environment", "errors", "figures", "files", "native", "records"}
LINE = re.compile(r"^\| `mlcalc/(\w+)/` \| ([\w, –]+) \|", re.MULTILINE)
FILE = re.compile(r"[`(](?:\.\./)*((?:mlcalc|lammps_plugin|tests|benchmarks|examples|docs)/[\w./-]*\w/?)[`)]")


def rooms() -> dict[str, set[str]]:
    """Return what each room may import, directly or through others, as the page says."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {room: set(re.findall(r"\w+", others)) for room, others in LINE.findall(page)}
    named = {room: set(named) - {room} if others == {"all"} else others for room, others in named.items()}

    def reach(room: str) -> set[str]:
        return named[room].union(*(reach(other) for other in named[room]))

    return {room: reach(room) for room in named}


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        # `import mlcalc` is for mlcalc.load, which is the zoo's.
        found |= {[*module.split("."), "zoo"][1] for module in modules if module.split(".")[0] == "mlcalc"}
    return found


def test_every_room_is_on_the_page() -> None:
    folders = {path.parent.name for path in (ROOT / "mlcalc").glob("*/__init__.py")}
    assert set(rooms()) == folders


def test_arrows_run_one_way() -> None:
    allowed = rooms()
    wrong = [
        f"{file.relative_to(ROOT)} imports {other}"
        for room in allowed
        for file in sorted((ROOT / "mlcalc" / room).rglob("*.py"))
        for other in sorted(imported(file) - allowed[room] - GROUND - {room})
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    names = set(FILE.findall(page.read_text(encoding="utf-8")))
    assert not [name for name in sorted(names) if not (ROOT / name).exists()]
