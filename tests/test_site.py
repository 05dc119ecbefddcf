"""`make docs` builds: no broken link or anchor, no page left out, and API pages with what is public."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlcalc.workflows

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.xdist_group("site")  # built once


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(folder),
    ]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 10
    assert not [p.name for p in pages if not (site / p.relative_to(ROOT).with_suffix(".html")).is_file()]
    assert (site / "index.html").is_file()
    assert (site / "docs/images/demo.png").read_bytes() == (ROOT / "docs/images/demo.png").read_bytes()


def test_api_pages_hold_all_public_names_with_their_text(site: Path) -> None:
    page = (site / "api/mlcalc.workflows.html").read_text(encoding="utf-8")
    missing = [name for name in mlcalc.workflows.__all__ if f'id="mlcalc.workflows.{name}"' not in page]
    assert not missing
    assert "tolerance of the symmetry search" in page.lower()  # an argument's line in a docstring


def test_blocks_with_a_file_name_stay_blocks(site: Path) -> None:
    page = (site / "docs/training.html").read_text(encoding="utf-8")
    assert '<span class="filename">config.yaml</span>' in page
    assert "```" not in re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    fetched = re.compile(r"<(?:script|link|img)[^>]*(?:src|href)=\"?https?://", re.IGNORECASE)
    found = [match.group() for page in pages for match in fetched.finditer(page.read_text(encoding="utf-8"))]
    assert not found


def test_broken_links_fail(tmp_path: Path) -> None:
    links = ["../training.md#no-such-heading", "no-such-page.md", "../../no-such-folder"]
    broken = " ".join(f"[broken]({link})" for link in links)
    hooks = tmp_path / "hooks.py"
    hooks.write_text(
        "def on_page_markdown(markdown, *, page, **_):\n"
        f"    return markdown + ({broken!r} if page.file.src_uri.endswith('own-data.md') else '')\n",
        encoding="utf-8",
    )
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\n"
        f"docs_dir: {ROOT / 'docs'}\n"
        "watch: []\n"
        f"hooks: [{ROOT / 'docs/site_hooks.py'}, {hooks}]\n",
        encoding="utf-8",
    )
    done = build(config, tmp_path / "site")
    assert done.returncode != 0
    assert "Aborted with 3 warnings" in done.stdout + done.stderr
    assert not [link for link in links if f"'{link}'" not in done.stderr]
