"""The faults of the mutation run: what is changed in a copy of the sources, and which test has to notice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PARITY = "tests/lammps/test_lammps_parity.py::test_same_numbers_on_any_number_of_ranks"


@dataclass(frozen=True)
class Fault:
    """One fault: how it is made and which test must fail.

    Attributes:
        name: short name.
        test: pytest node id.
        make: changes the copied tree.
    """

    name: str
    test: str
    make: Callable[[Path], None]


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a fault that replaces text occurring exactly once, so that it cannot go stale unnoticed."""

    def make(root: Path) -> None:
        path = root / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise SystemExit(
                f"mutation: {file} holds {old!r} {text.count(old)} times, not once; update tests/faults.py"
            )
        path.write_text(text.replace(old, new), encoding="utf-8")

    return make


def environment(root: Path) -> dict[str, str]:
    """Return an environment in which the copy is what gets imported."""
    path = os.pathsep.join(p for p in (str(root), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, "MLCALC_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}


def change_weight(root: Path) -> None:
    """Change one weight of a shipped potential by 1e-3, in a file that is otherwise in order."""
    code = (
        "import torch\n"
        "from mlcalc.deploy import load_weights, save_weights\n"
        "path = 'mlcalc/zoo/weights/mlearn-Si.safetensors'\n"
        "potential = load_weights(path)\n"
        "with torch.no_grad():\n"
        "    next(p for p in potential.parameters() if p.ndim == 2).view(-1)[0] += 1e-3\n"
        "save_weights(potential, path)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environment(root), check=True)


PLUGIN = "lammps_plugin/pair_mlcalc.cpp"
TRUST = "lammps_plugin/pair_trust.cpp"
COMMITTEE = "tests/lammps/test_lammps_committee.py"
BLOCKS = "tests/lammps/test_lammps_blocks.py"
DEVIATION = "deviations.values[i] = energy_scale * std::sqrt(square)"
HALO = "tests/lammps/test_halo.py"
RANKING = "tests/discovery/test_campaign_ranking.py"
LIKELIHOOD = "tests/generators/test_wyckoff_likelihood.py"
PHASE_OF_ENERGY = "Phase(p.name, p.formula, p.energy_ev_per_atom)"
FAULTS = (
    Fault(
        "a copy taken off the hull by what a relaxation leaves",
        "tests/discovery/test_campaign.py::test_what_a_relaxation_leaves_takes_no_crystal_off_the_hull",
        replace("mlcalc/discovery/_campaign_summary.py", "min(copies), scale", "enthalpies[best], scale"),
    ),
    Fault(
        "hull of energies per atom taken for those of formula units",
        "tests/discovery/test_hull.py::test_distances_from_a_hull_worked_out_by_hand",
        replace(
            "mlcalc/discovery/hull.py", "phase.energy_ev_per_atom * composition.num_atoms", "phase.energy_ev_per_atom"
        ),
    ),
    Fault(
        "hull that mixes scales",
        "tests/discovery/test_hull.py::test_scales_never_mix",
        replace("mlcalc/discovery/hull.py", "if scale != self.scale:", "if False:"),
    ),
    Fault(
        "hull of energies at a pressure",
        "tests/discovery/test_reference_phases.py::test_at_a_pressure_the_hull_is_one_of_enthalpies",
        replace("mlcalc/discovery/references.py", "Phase(p.name, p.formula, p.enthalpy_ev_per_atom)", PHASE_OF_ENERGY),
    ),
    Fault(
        "worker that goes on for a campaign of the past",
        "tests/discovery/test_campaign_trouble.py::test_workers_that_outlive_their_campaign_stop",
        replace(
            "mlcalc/discovery/_shards.py", '(Path(folder) / OWNER).read_text(encoding="utf-8") != owner', "not folder"
        ),
    ),
    Fault(
        "candidates ranked by energy at a pressure",
        f"{RANKING}::test_at_a_pressure_candidates_are_ranked_by_enthalpy",
        replace("mlcalc/discovery/_campaign_stages.py", "point.energy_ev + work", "point.energy_ev"),
    ),
    Fault(
        "likelihood of whole cells, small ones first",
        f"{RANKING}::test_likelihood_counts_by_atom_and_wants_all_to_have_one",
        replace("mlcalc/discovery/_ranking.py", "-log_probability / n_atoms", "-log_probability"),
    ),
    Fault(
        "a last neighbour that counts, whichever of several it is",
        "tests/discovery/test_stability.py::test_only_the_crystal_matters",
        replace(
            "mlcalc/discovery/_stability_network.py", "1.0 - (distances / distances[:, -1:]) ** _POWER", "distances**0"
        ),
    ),
    Fault(
        "stability score: a neighbour that leaves keeps a thousandth of its weight",
        "tests/discovery/test_stability.py::test_a_neighbour_leaves_without_a_jump",
        replace(
            "mlcalc/discovery/_stability_network.py",
            "1.0 - (distances / distances[:, -1:])",
            "1.001 - (distances / distances[:, -1:])",
        ),
    ),
    Fault(
        "database replaced while another process writes to it",
        "tests/discovery/test_campaign_lock.py::test_a_locked_database_is_waited_for_then_named_and_nothing_is_lost",
        replace("mlcalc/discovery/_campaign_database.py", '"BEGIN IMMEDIATE"', '"SELECT 1"'),
    ),
    Fault(
        "bond image whose edges reach the same image from either end",
        "tests/crystals/test_bond_image.py::test_both_directions_of_an_edge_are_there",
        replace("mlcalc/crystals/bond_image.py", "array[26 - channel, j, i]", "array[channel, j, i]"),
    ),
    Fault(
        "peaks of a density sought without its periodic images",
        "tests/crystals/test_density_voxels.py::test_peaks_are_found_between_voxels_and_across_faces",
        replace("mlcalc/crystals/_voxel_peaks.py", 'size=3, mode="wrap"', 'size=3, mode="nearest"'),
    ),
    Fault(
        "equilibrium placement that forgets in which cell a neighbour lies",
        "tests/crystals/test_bond_string.py::test_angles_of_diamond_from_its_bonds",
        replace(
            "mlcalc/crystals/_net_embedding.py", "-matrix[:, :count].T @ weighted", "matrix[:, :count].T @ weighted"
        ),
    ),
    Fault(
        "generator shipped as it was after the last epoch, not the best",
        "tests/generators/test_fit.py::test_the_best_average_is_what_comes_out",
        replace("mlcalc/generators/_fit.py", "if row[self.criterion] < self.best_loss:", "if True:"),
    ),
    Fault(
        "density of free coordinates without its norm",
        f"{LIKELIHOOD}::test_coordinate_densities_integrate_to_one",
        replace("mlcalc/generators/_wyckoff_network.py", "torch.special.i0e(kappa)", "torch.special.i1e(kappa)"),
    ),
    Fault(
        "log-probability without the cut of the volume",
        f"{LIKELIHOOD}::test_a_range_of_volumes_cuts_the_density",
        replace(
            "mlcalc/generators/_wyckoff_sampling.py", "row.log_numbers -= float(np.logaddexp.reduce(weights))", "pass"
        ),
    ),
    Fault(
        "mask that forgets the elements that must come",
        f"{LIKELIHOOD}::test_masks_allow_exactly_what_can_be_completed",
        replace("mlcalc/generators/_wyckoff_rules.py", "least = max(missing, 0 if", "least = max(0, 0 if"),
    ),
    Fault(
        "flow that knows where the origin is",
        "tests/generators/test_flow_network.py::test_velocities_know_neither_origin_nor_order_nor_orientation",
        replace(
            "mlcalc/generators/_flow_network.py",
            "difference = coordinates[:, None, :] - coordinates[:, :, None]",
            "difference = coordinates[:, None, :] - 0.9 * coordinates[:, :, None]",
        ),
    ),
    Fault(
        "flow whose noise ends in atoms of another element",
        "tests/generators/test_flow_network.py::test_paths_end_in_the_crystal_and_are_short",
        replace("mlcalc/generators/_flow_paths.py", "np.flatnonzero(np.diff(crystal.species)) + 1", "np.zeros(0, int)"),
    ),
    Fault(
        "flow that draws elements outside the chemical system",
        "tests/generators/test_flow_generator.py::test_every_constraint_holds",
        replace(
            "mlcalc/generators/_flow_sampling.py",
            ".masked_fill(~torch.from_numpy(self.allowed), -torch.inf)",
            "",
        ),
    ),
    Fault(
        "mirror image taken for the same crystal",
        "tests/crystals/test_wyckoff_crystal.py::test_mirror_images_are_different_crystals",
        replace(
            "mlcalc/crystals/_tables.py",
            "if improper is None:\n                    continue",
            "if improper is None:\n                    proper.append(change)\n                    continue",
        ),
    ),
    Fault(
        "extrapolation grade without its unit",
        "tests/potentials/test_grade.py::test_distance_to_the_nearest_landmark_in_units_of_the_farthest_training_atom",
        replace("mlcalc/potentials/grade.py", " / self.radius[species]", ""),
    ),
    Fault(
        "compiled file of another torch",
        "tests/deploy/test_compiled_file.py::test_a_mismatch_is_refused_before_loading[torch]",
        replace("mlcalc/deploy/load.py", 'if document["torch_version"] != running:', "if False:"),
    ),
    Fault(
        "virial sign",
        "tests/potentials/test_derivatives.py::test_strain_derivative_is_the_slope_under_strain",
        replace(
            "mlcalc/potentials/derivatives.py",
            "    outer = graph.edge_vectors.unsqueeze(2) * gradients.unsqueeze(1)\n",
            "    outer = -graph.edge_vectors.unsqueeze(2) * gradients.unsqueeze(1)\n",
        ),
    ),
    Fault(
        "virial sign in LAMMPS",
        "tests/lammps/test_lammps_derivatives.py::test_pressure_is_minus_the_derivative_with_strain",
        replace(PLUGIN, "w[a][b] -= r[a] * g[b];", "w[a][b] += r[a] * g[b];"),
    ),
    Fault(
        "virial transpose",
        f"{PARITY}[1-ranks-equivariant-bulk]",
        replace(
            PLUGIN,
            f"r[0] * g[1], r[0] * g[2],\n{' ' * 27}r[1] * g[2], r[1] * g[0], r[2] * g[0], r[2] * g[1]}};",
            f"r[1] * g[0], r[2] * g[0],\n{' ' * 27}r[2] * g[1], r[0] * g[1], r[0] * g[2], r[1] * g[2]}};",
        ),
    ),
    Fault(
        "virial transpose in Python",
        f"{PARITY}[1-ranks-equivariant-bulk]",
        replace(
            "mlcalc/potentials/derivatives.py",
            "half = -0.5 * graph.edge_vectors.unsqueeze(2) * gradients.unsqueeze(1)",
            "half = -0.5 * graph.edge_vectors.unsqueeze(1) * gradients.unsqueeze(2)",
        ),
    ),
    Fault(
        "skipped forward exchange",
        f"{PARITY}[2-ranks-equivariant-bulk]",
        replace("lammps_plugin/atom_graph.cpp", "  comm->forward_comm(pair, width);\n", ""),
    ),
    Fault(
        "skipped reverse exchange",
        f"{PARITY}[2-ranks-equivariant-bulk]",
        replace("lammps_plugin/atom_graph.cpp", "  comm->reverse_comm(pair, width);\n", ""),
    ),
    Fault(
        "halo one hop too small",
        f"{HALO}::test_same_numbers_on_any_number_of_ranks[2-ranks-plain-3-long-auto]",
        replace("lammps_plugin/halo.cpp", "  hops = info.layers;\n", "  hops = info.layers - 1;\n"),
    ),
    Fault(
        "energies of ghosts count",
        f"{HALO}::test_same_numbers_on_any_number_of_ranks[2-ranks-plain-3-long-auto]",
        replace(
            "lammps_plugin/torchscript.cpp", ".narrow(0, 0, graph.n_owned);\n\n", ".narrow(0, 0, graph.n_centres);\n\n"
        ),
    ),
    Fault(
        "halo of any size",
        "tests/lammps/test_halo_memory.py::test_too_much_memory_is_refused_before_the_first_evaluation",
        replace("lammps_plugin/halo.cpp", "if (known && least.value < 0.0)", "if (false)"),
    ),
    Fault(
        "exchanges that nobody counts",
        "tests/deploy/test_exchanges.py::test_too_few_exchanges",
        replace("mlcalc/deploy/_exchanges.py", "if 0 < calls < info.layers - 1", "if 0 < calls < 0"),
    ),
    Fault(
        "energy unit factor",
        "tests/lammps/test_lammps_parity.py::test_same_numbers_inside_python[real-bulk]",
        replace(
            PLUGIN,
            "energy_scale = utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);",
            "energy_scale = 1.0;",
        ),
    ),
    Fault(
        "stale neighbour list under a cell change",
        "tests/graphs/test_verlet.py::test_verlet_list_sees_the_cell",
        replace("mlcalc/graphs/verlet.py", "if not np.array_equal(cell, self._cell)", "if False"),
    ),
    Fault(
        "batched lists blind to the cell",
        "tests/graphs/test_batched_verlet.py::test_shrinking_cells_are_seen",
        replace("mlcalc/graphs/batched_verlet.py", "if change.any():", "if False:"),
    ),
    Fault(
        "batched cells without pressure",
        "tests/workflows/test_relax_lists.py::test_cells_relax_as_under_frechet_cell_filter",
        replace("mlcalc/workflows/_batched_coordinates.py", "tensor + self.asked.pressure * _ONE", "tensor"),
    ),
    Fault(
        "batched L-BFGS that mixes histories",
        "tests/workflows/test_relax_lists.py::test_who_is_done_leaves_and_the_next_one_joins",
        replace("mlcalc/workflows/_batched_optimizers.py", "np.where(self.fresh, 0.0, 1.0 / rows", "(1.0 / rows"),
    ),
    Fault(
        "batched FIRE that forgets to slow down",
        "tests/workflows/test_relax_lists.py::test_fixed_cells_of_every_kind_in_one_batch[FIRE]",
        replace("mlcalc/workflows/_batched_optimizers.py", "np.where(bad, self.dt * self.shrink, self.dt)", "self.dt"),
    ),
    Fault(
        "check of forces that forgives one percent",
        "tests/workflows/test_conformance_faults.py::test_the_right_checks_fail[ScaledForces]",
        replace("mlcalc/workflows/_check_derivatives.py", "FLOOR, CEILING = 2e-5, 1e-2", "FLOOR, CEILING = 1e-2, 1e-2"),
    ),
    Fault(
        "check of smoothness that is blind to forces",
        "tests/workflows/test_conformance.py::test_force_jump_of_ases_lennard_jones",
        replace(
            "mlcalc/workflows/_check_smoothness.py",
            "return float(jump[0]), float(jump[1:].max())",
            "return float(jump[0]), 0.0",
        ),
    ),
    Fault(
        "one weight changed by 1e-3",
        "tests/zoo/test_mlearn.py::test_energies_and_forces_are_those_that_shipped",
        change_weight,
    ),
    Fault(
        "factor 2 in shear",
        "tests/workflows/test_elasticity.py::test_lennard_jones_fcc_is_the_lattice_sum",
        replace("mlcalc/workflows/_elastic_tensors.py", "*[np.sqrt(2.0)] * 3", "*[1.0] * 3"),
    ),
    Fault(
        "point group in the wrong axes",
        "tests/workflows/test_elasticity.py::test_a_turned_crystal_gives_the_turned_tensor[hcp]",
        replace("mlcalc/workflows/_elastic_tensors.py", "columns = atoms.cell.array.T", "columns = atoms.cell.array"),
    ),
    Fault(
        "clamped ions called relaxed",
        "tests/workflows/test_elasticity.py::test_stillinger_weber_silicon_has_the_published_constants",
        replace("mlcalc/workflows/elasticity.py", "_stress(relaxed.atoms, calculator", "_stress(atoms, calculator"),
    ),
    Fault(
        "pressure that pulls",
        "tests/workflows/test_quasi_harmonic.py::test_pressure_moves_the_minimum_of_the_gibbs_energy",
        replace("mlcalc/workflows/quasi_harmonic.py", "pressure=pressure_gpa,", "pressure=-pressure_gpa,"),
    ),
    Fault(
        "volume scaled as a length",
        "tests/workflows/test_equation_of_state.py::test_lennard_jones_fcc_is_the_lattice_sum",
        replace("mlcalc/workflows/_scaled_cells.py", "scales[index] ** (1 / 3)", "scales[index]"),
    ),
    Fault(
        "wrong type map",
        f"{PARITY}[1-ranks-equivariant-bulk]",
        replace(
            "lammps_plugin/pair_input.cpp",
            "species[k + 1] = static_cast<int>(found - info.elements.begin());",
            "species[k + 1] = static_cast<int>(info.elements.end() - found) - 1;",
        ),
    ),
    Fault(
        "force deviation as a sum over members",
        f"{COMMITTEE}::test_same_numbers_as_in_ase[1]",
        replace(TRUST, "deviations.values[i] = energy_scale * std::sqrt(square / members)", DEVIATION),
    ),
    Fault(
        "members' forces on ghosts left behind",
        f"{COMMITTEE}::test_same_numbers_as_in_ase[2]",
        replace(TRUST, "  if (comm->nprocs > 1) graph.reverse_images(this, force_excess.data(), width);\n", ""),
    ),
    Fault(
        "blocks of a model that looks farther",
        f"{BLOCKS}::test_models_of_several_layers_are_not_taken_apart",
        replace(
            "lammps_plugin/committee.cpp",
            "return member.model->info().layers == 1 && member.model->info().exchange_width == 0;",
            "return true;",
        ),
    ),
    Fault(
        "neighbours within the cutoff when the list was made",
        "tests/lammps/test_lammps_lists.py::test_energy_is_that_of_a_fresh_list[1]",
        replace("lammps_plugin/atom_graph.cpp", "cutoff + neighbor->skin", "cutoff"),
    ),
    Fault(
        "as many threads as cores on every rank",
        "tests/lammps/test_lammps_threads.py::test_ranks_share_the_cores_they_may_use",
        replace("lammps_plugin/cores.h", "cores / ranks", "cores"),
    ),
    Fault(
        "blocks in ASE of a network that looks farther",
        "tests/calculators/test_ase_blocks.py::test_same_numbers_for_any_block[3-5]",
        replace(
            "mlcalc/calculators/_blocks.py",
            'info.layers == 1 and not getattr(potential, "exchange_width", 0) and not info.needs',
            "not info.needs",
        ),
    ),
    Fault(
        "force deviation of a sample in Python",
        "tests/calculators/test_ase_committee.py::test_lennard_jones_of_three_depths",
        replace(
            "mlcalc/calculators/ase.py",
            "(differences**2).sum(axis=2).mean(axis=0)",
            "(differences**2).sum(axis=2).sum(axis=0) / (len(forces) - 1)",
        ),
    ),
    Fault(
        "ranks that see different files",
        f"{COMMITTEE}::test_ranks_that_see_different_files",
        replace("lammps_plugin/pair_input.cpp", "if (mine != first) {", "if (mine.empty()) {"),
    ),
    Fault(
        "no climbing image",
        "tests/workflows/test_neb.py::test_mueller_brown_saddle",
        replace("mlcalc/workflows/nudged_elastic_band.py", "chain.climb = climbing = True", "climbing = True"),
    ),
    Fault(
        "band goes the long way round",
        "tests/workflows/test_neb.py::test_vacancy_jump_meets_the_saddle_that_symmetry_gives",
        replace(
            "mlcalc/workflows/_neb_ends.py",
            "    return np.asarray(find_mic(last.positions - first.positions, first.cell, first.pbc)[0])\n",
            "    return last.positions - first.positions\n",
        ),
    ),
    Fault(
        "error bar of one block",
        "tests/workflows/test_diffusion.py::test_error_bars_cover_the_known_value",
        replace(
            "mlcalc/workflows/_diffusion_estimate.py",
            "float(slopes.std(ddof=1) / np.sqrt(blocks))",
            "float(slopes.std(ddof=1))",
        ),
    ),
    Fault(
        "drift counted as diffusion",
        "tests/workflows/test_diffusion.py::test_error_bars_cover_the_known_value",
        replace(
            "mlcalc/workflows/msd.py",
            "return positions - np.einsum",
            "return positions - 0 * np.einsum",
        ),
    ),
    Fault(
        "fixed atoms do not hold the frame",
        "tests/workflows/test_diffusion.py::test_fixed_atoms_hold_the_frame_and_do_not_count",
        replace("mlcalc/workflows/msd.py", "if atoms.constraints:", "if False:"),
    ),
    Fault(
        "moments left behind",
        "tests/workflows/test_moments.py::test_everything_is_as_strong_as_the_moments_say[False]",
        replace("mlcalc/workflows/_structures.py", "moved = atoms.copy()", "moved = Atoms(atoms.numbers, pbc=True)"),
    ),
    Fault(
        "mesh that changes with the volume",
        "tests/workflows/test_quasi_harmonic.py::test_a_mesh_given_as_a_length_is_the_same_at_all_volumes",
        replace("mlcalc/workflows/_phonons_at_volumes.py", 'options["mesh"] =', 'options["mesh"]; _ ='),
    ),
    Fault(
        "a second relaxation",
        "tests/cli/test_workflow_commands.py::test_relax_is_done_once_so_that_kept_forces_fit[phonons]",
        replace("mlcalc/cli/_relax_first.py", "if not steps.records:", "if steps.records.clear() is None:"),
    ),
    Fault(
        "Arrhenius points weigh alike",
        "tests/workflows/test_diffusion.py::test_arrhenius_law_comes_back",
        replace("mlcalc/workflows/_arrhenius.py", "weights = (d / sigma)[:, None]", "weights = np.ones((len(d), 1))"),
    ),
    Fault(
        "conductivity in another order",
        "tests/workflows/test_heat_conduction.py::test_the_tensor_turns_with_the_crystal",
        replace(
            "mlcalc/workflows/_heat_solver.py",
            "xx, yy, zz, yz, xz, xy = voigt.T",
            "xx, yy, zz, xy, xz, yz = voigt.T",
        ),
    ),
    Fault(
        "dispersion added twice",
        "tests/calculators/test_dispersion.py::test_results_are_sums_in_whatever_order_they_are_asked_for[order0]",
        replace(
            "mlcalc/calculators/dispersion.py",
            "self.results = {} if system_changes else self._bare",
            "self.results = {} if system_changes else self.results",
        ),
    ),
    Fault(
        "dispersion of a slab without its vacuum",
        "tests/calculators/test_dispersion.py::test_forces_and_stress_are_derivatives_of_the_energy[pbc1]",
        replace("mlcalc/calculators/dispersion.py", "if atoms.pbc.all() or not atoms.pbc.any():", "if True:"),
    ),
    Fault(
        "Wigner symbols of another e3nn than the checkpoint's",
        "tests/foundation/test_sevennet_parity.py::test_one_crystal[sevennet-0]",
        replace("mlcalc/foundation/sevennet.py", "signs += [sign] * count", "signs += [1.0] * count"),
    ),
    Fault(
        "left-handed cells decoded as their mirror images",
        "tests/crystals/test_coordinate_image.py::test_left_handed_cells_are_the_same_crystal",
        replace("mlcalc/crystals/coordinate_image.py", "(1.0 if atoms.cell.handedness > 0 else -1.0)", "1.0"),
    ),
    Fault(
        "divergence from the prior without the entropy of the posterior",
        "tests/generators/test_vae_generator.py::test_divergence_is_unbiased",
        replace("mlcalc/generators/_vae_network.py", "return -entropy - log_mixture", "return -log_mixture"),
    ),
    Fault(
        "gradient penalty that does not train the critic",
        "tests/generators/test_gan_generator.py::test_penalty_and_its_gradient_by_finite_differences",
        replace("mlcalc/generators/_gan_network.py", "norm = (gradient.flatten", "norm = (gradient.detach().flatten"),
    ),
    Fault(
        "elements that must be present chosen by their own column alone",
        "tests/generators/test_image_choice.py::test_choice_is_the_likeliest_that_obeys",
        replace("mlcalc/generators/_image_choice.py", "losses = gains[:n, None] - logs", "losses = -logs"),
    ),
    Fault(
        "messages of the centre instead of the neighbour",
        "tests/potentials/test_nequip.py::test_convolution_is_that_of_e3nn",
        replace("mlcalc/ops/convolution.py", "x.index_select(0, edge_index[1])", "x.index_select(0, edge_index[0])"),
    ),
    Fault(
        "sums of cuEquivariance with the paths to a degree in another order",
        "tests/ops/test_cuequivariance.py::test_values_first_and_second_gradients[odd channels-40-dtype0-cpu]",
        replace(
            "mlcalc/ops/cuequivariance.py", "m3 * (reached[l3] // size) + done[l3]", "m3 + done[l3] * (2 * l3 + 1)"
        ),
    ),
    Fault(
        "slope of a radial table with the wrong sign",
        "tests/ops/test_convolution.py::test_values_and_gradients[dtype0-15-from scalars]",
        replace("mlcalc/ops/csrc/convolution_kernels.cpp", "+ slope * unit;", "- slope * unit;"),
    ),
    Fault(
        "edges of CHGNet that do not find their bond",
        "tests/foundation/test_chgnet_parity.py::test_one_cell_with_short_and_long_bonds",
        replace("mlcalc/potentials/chgnet.py", "bond[reverse.index_select(0, one_way)] = numbers", "pass"),
    ),
    Fault(
        "core and gate of CHGNet exchanged",
        "tests/foundation/test_chgnet_parity.py::test_one_cell_with_short_and_long_bonds",
        replace("mlcalc/foundation/chgnet.py", '("mlp_core", "mlp_gate")]', '("mlp_gate", "mlp_core")]'),
    ),
    Fault(
        "known crystals proposed again",
        "tests/generators/test_wyckoff_generator.py::test_known_crystals_are_drawn_again_where_the_choice_is_free",
        replace("mlcalc/generators/wyckoff.py", "if known and attempt", "if known and False and attempt"),
    ),
    Fault(
        "wyckoff not told to aim at the hull",
        "tests/generators/test_wyckoff_generator.py::test_stable_crystals_are_the_aim_unless_told_otherwise",
        replace(
            "mlcalc/generators/wyckoff.py", "(aim := self.energy_above_hull) is not None", "(aim := None) is not None"
        ),
    ),
    Fault(
        "pbc lost on the way to another environment",
        "tests/calculators/test_remote.py::test_other_elements_and_pbc_reach_the_other_side[False]",
        replace("mlcalc/calculators/remote.py", '"pbc": atoms.pbc.tolist()', '"pbc": [True, True, True]'),
    ),
    Fault(
        "epoch of the lowest validation loss kept where the last was asked for",
        "tests/training/test_trainer.py::test_keep_last_takes_the_last_epoch",
        replace(
            "mlcalc/training/trainer.py", 'if score < self.best_loss or o.keep == "last":', "if score < self.best_loss:"
        ),
    ),
    Fault(
        "temperature of elements upside down",
        "tests/generators/test_flow_generator.py::test_cold_elements_are_the_likeliest",
        replace("mlcalc/generators/_flow_sampling.py", "logits / self.temperature", "logits * self.temperature"),
    ),
)
