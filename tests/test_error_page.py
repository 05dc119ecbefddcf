"""Every message on docs/errors.md is one that the source still has, and every error class is on the page."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path

from mlcalc import errors

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "errors.md"
OTHERS = "## Of other programs"
ROW = re.compile(r"^\| `(.+?)` \|", re.MULTILINE)
VALUE = "…"
CXX_STRING = r'"((?:[^"\\\n]|\\.)*)"'
CXX_STRINGS = re.compile(rf"{CXX_STRING}(?:\s*{CXX_STRING})*")


def python_messages(source: str) -> list[str]:
    """Return all strings of a module but docstrings, with ``…`` for what an f-string fills in."""
    tree = ast.parse(source)
    skipped = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
            found.append("".join(str(p.value) if isinstance(p, ast.Constant) else VALUE for p in node.values))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            found.append(node.value)
    return found


def cxx_messages(source: str) -> list[str]:
    """Return all strings of a C++ file, neighbours joined, with ``…`` for what fmt fills in."""
    texts = ["".join(re.findall(CXX_STRING, match.group())) for match in CXX_STRINGS.finditer(source)]
    return [re.sub(r"\{[^}]*\}", VALUE, text) for text in texts]


@cache
def messages() -> str:
    python = [python_messages(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "mlcalc").rglob("*.py"))]
    plugin = [cxx_messages(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "lammps_plugin").glob("*.cpp"))]
    assert any(python)
    assert any(plugin)
    return re.sub(f"{VALUE}+", VALUE, "\n".join(text for group in [*python, *plugin] for text in group))


def quoted(page: str) -> list[str]:
    """Return the messages on the page; classes have a table of their own, other programs a section."""
    ours = page[page.index("## ") : page.index(OTHERS)]
    return ROW.findall(ours)


def missing(quotes: list[str]) -> list[str]:
    return [quote for quote in quotes if quote.strip(f" {VALUE}") not in messages()]


def test_every_message_on_the_page_is_in_the_source() -> None:
    quotes = quoted(PAGE.read_text(encoding="utf-8"))
    assert len(quotes) > 80
    assert len(set(quotes)) == len(quotes)
    assert not missing(quotes)


def test_what_the_source_does_not_say_is_found() -> None:
    assert not missing(["unknown setting …; known here: …", "works with units metal and real, not …"])
    invented = ["unknown setting …; known there: …", "works with units metal and lj", str(errors.MlcalcError.__doc__)]
    assert missing(invented) == invented


def test_every_error_class_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    classes = [name for name, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, Exception)]
    assert len(classes) > 10
    assert not [name for name in classes if f"`{name}`" not in page]
