"""What `mkdocs.yml` cannot say: which files are the site, and how this project's Markdown becomes mkdocs'.

Pages keep their paths in the repository, wherever they lie, so that a relative link is right in both places.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
# Pages, and what they link to or show.
SITE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "docs/**/*.md",
    "docs/**/*.png",
    "examples/*",
    "benchmarks/README.md",
    "benchmarks/speed/results/*.png",
    "lammps_plugin/README.md",
    "mlcalc/zoo/weights/*.md",
    "mlcalc/generators/weights/*.md",
    "mlcalc/discovery/weights/*.md",
)
API = (
    "mlcalc",
    "mlcalc.calculators",
    "mlcalc.workflows",
    "mlcalc.zoo",
    "mlcalc.deploy",
    "mlcalc.lammps",
    "mlcalc.crystals",
    "mlcalc.generators",
    "mlcalc.generators.wyckoff",
    "mlcalc.generators.training",
    "mlcalc.potentials",
    "mlcalc.training",
    "mlcalc.errors",
)
# Packages that export nothing have the modules that scripts import.
MODULES = {"mlcalc.training": ("settings", "run", "dataset", "metrics")}
NAMED_FENCE = re.compile(r"^( *`{3,})(\w+) +([\w./-]+)$", re.MULTILINE)


def public_names(package: str) -> list[str]:
    """Return the full names that the page of a package shows: those in ``__all__``, functions first, then classes."""
    if package in MODULES:
        return [f"{package}.{module}" for module in MODULES[package]]
    file = ROOT.joinpath(*package.split(".")) / "__init__.py"
    if not file.exists():
        return [package]
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
            return [f"{package}.{name}" for name in sorted(names, key=lambda n: (n[0].isupper(), n.lower()))]
    raise ValueError(f"{package} has no __all__: name its modules in MODULES of {Path(__file__).name}")


def api_page(package: str) -> str:
    """Return the Markdown of an API page; mkdocstrings fills it from docstrings."""
    first = ast.get_docstring(ast.parse(_source(package).read_text(encoding="utf-8"))) or ""
    return "\n\n".join([f"# {package}", first, *(f"::: {name}" for name in public_names(package))]) + "\n"


def _source(package: str) -> Path:
    path = ROOT.joinpath(*package.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the API pages into the navigation."""
    for entry in config.nav or []:
        if "API" in entry:
            entry["API"] = [{package: f"api/{package}.md"} for package in API]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Replace what lies in docs/ by the pages of the whole repository, with the paths they have there."""
    for file in list(files.documentation_pages()) + list(files.media_files()):
        files.remove(file)
    for path in sorted({path for pattern in SITE for path in ROOT.glob(pattern) if path.is_file()}):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for package in API:
        files.append(File.generated(config, f"api/{package}.md", content=api_page(package)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn the file name of a block (```yaml config.yaml) into its title."""
    return NAMED_FENCE.sub(r'\1\2 title="\3"', markdown)
