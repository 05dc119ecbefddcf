"""Settings of a campaign."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mlcalc.discovery._ranking import RANKINGS
from mlcalc.discovery.funnel import FunnelSettings
from mlcalc.discovery.references import ReferenceSettings
from mlcalc.errors import WorkflowError


@dataclass(frozen=True)
class CampaignSettings:
    """What decides over a candidate, stage by stage.

    Attributes:
        relaxation: distances, relaxation, trust, symmetry, and when two crystals are the same.
        rank: what chooses candidates before relaxation: ``"energy"`` (the potential's energy above the hull of the cell
            as it is), ``"likelihood"`` (of the generator, per atom) or ``"stability"`` (a learned score); None relaxes
            all.
        relax_best: candidates that are relaxed then: a share below 1, or a number; None means a third.
        reference_atoms: of the primitive cell of a prototype among the references; larger ones are left out.
        rattle_ang: standard deviation of the random displacements that begin the relaxation without symmetry, Å.
        above_hull_ev_per_atom: crystals at most this far above the hull of the references go on to phonons.
        phonons: most crystals that do, lowest first.
        mesh_phonons: most crystals that get phonons on a mesh, lowest first; 0 leaves that stage out.
        mesh_length_ang: shortest height of its supercell, Å; shorter waves than twice that are interpolated.
        dynamics: most crystals that go on to dynamics, lowest first.
        imaginary_tolerance_thz: modes below minus this are imaginary.
        mode_amplitude_ang: largest displacement when an imaginary mode is followed, Å.
        temperature_k: of the dynamics, K.
        md_steps: steps of the dynamics.
        timestep_fs: of the dynamics, fs.
        md_length_ang: shortest height of its cell, Å.
        largest_displacement: root mean square displacement in dynamics, in units of the shortest distance between
            atoms, above which a crystal did not hold (Lindemann's criterion of melting is about 0.1 to 0.15).
        md_engine: ``"ase"``, or ``"lammps"`` for potentials of mlcalc.
        free_energy_k: temperature of quasi-harmonic free energies, K, of those without imaginary modes on the mesh;
            None: no such.
        shard: candidates that a worker takes at once, and relaxes together where the calculator can.
        seed: of random displacements and dynamics.

    Raises:
        WorkflowError: settings that do not fit.
    """

    relaxation: FunnelSettings = field(default_factory=FunnelSettings)
    rank: str | None = None
    relax_best: float | None = None
    reference_atoms: int = 8
    rattle_ang: float = 0.02
    above_hull_ev_per_atom: float = 0.1
    phonons: int = 20
    mesh_phonons: int = 3
    mesh_length_ang: float = 9.0
    dynamics: int = 3
    imaginary_tolerance_thz: float = 0.3
    mode_amplitude_ang: float = 0.1
    temperature_k: float = 600.0
    md_steps: int = 1000
    timestep_fs: float = 1.0
    md_length_ang: float = 8.0
    largest_displacement: float = 0.2
    md_engine: str = "ase"
    free_energy_k: float | None = None
    shard: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank not in RANKINGS:
            raise WorkflowError(f"rank {self.rank!r}: candidates are ranked by {', '.join(RANKINGS)}")
        if self.rank is None and self.relax_best is not None:
            raise WorkflowError(f"relax_best needs rank, what the best are by: {', '.join(RANKINGS)}")
        best = self.relax_best
        if best is not None and not (0 < best < 1 or (best >= 1 and float(best).is_integer())):
            raise WorkflowError(f"relax_best {self.relax_best!r}: give a share between 0 and 1, or a whole number")
        if self.md_engine not in ("ase", "lammps"):
            raise WorkflowError(f"md_engine {self.md_engine!r}: dynamics run in ase or lammps")
        if self.free_energy_k is not None and not 0 < self.free_energy_k < 10000:
            raise WorkflowError(f"free_energy_k {self.free_energy_k!r}: give a temperature above 0 K")
        if self.free_energy_k is not None and self.mesh_phonons == 0:
            raise WorkflowError("free_energy_k needs mesh_phonons above 0: only crystals stable on the mesh have one")

    def references(self) -> ReferenceSettings:
        """Return how references are relaxed: as candidates are."""
        given = asdict(self.relaxation)
        same = {name: given[name] for name in ReferenceSettings.__dataclass_fields__ if name in given}
        return ReferenceSettings(max_atoms=self.reference_atoms, **same)

    @property
    def best(self) -> float:
        """Share or number of candidates that are relaxed where they are ranked."""
        return 1 / 3 if self.relax_best is None else self.relax_best

    def flat(self) -> dict[str, Any]:
        """Return all options by name, as the records of a folder keep them."""
        values = asdict(self)
        return {**values.pop("relaxation"), **values}
