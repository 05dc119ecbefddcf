"""Find the crystals of an element from nothing: symmetric random search, relaxation, duplicates, ranking.

Works with any ASE calculator; here EMT, which knows copper and a few other metals. Run it again after a kill: it goes
on where it stopped.
"""

from ase.calculators.emt import EMT

from mlcalc.discovery import FunnelSettings, run_funnel
from mlcalc.generators import Constraints, make_generator

NUMBER = 12


def candidates():
    constraints = Constraints(elements=("Cu",), n_atoms=(1, 4))
    return make_generator("random").sample(NUMBER, constraints, seed=1)


if __name__ == "__main__":  # worker processes import this file
    result = run_funnel(candidates, EMT, "search_copper", settings=FunnelSettings(fmax=0.01), workers=2)
    for stage in result.stages:
        print(f"{stage.name:30s} {stage.entered:4d} -> {stage.passed:4d}  {stage.failures or ''}")
    for crystal in result.ranked[:5]:
        best = crystal.best
        print(
            f"{crystal.rank:2d}  {best.space_group_symbol:10s} {1000 * crystal.above_best_ev_per_atom:8.1f} meV/atom  "
            f"{best.volume_ang3_per_atom:6.2f} Å³/atom  found {len(crystal.members)} times"
        )
