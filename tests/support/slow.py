"""Which tests are slow: they repeat on whole runs, builds and processes what faster tests cover.

`make test-fast` skips them. The table is the one place of the marker `slow`; `tests/test_architecture.py` checks that
its names exist.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

SLOW: dict[str, tuple[str, ...]] = {  # file, or start of file::test; and parts of parameters that are fast all the same
    "tests/test_contributing.py": (),
    "tests/test_odd_names.py": (),
    "tests/attack/test_attack.py": ("every_attack",),
    "tests/prep/test_build_kills.py": (),
    "tests/prep/test_registration.py::test_known_shifts": ("256-32-20",),
    "tests/prep/test_public_sets.py::test_the_command": ("[HER2]", "[BCI_dataset]", "[HER2match]", "[HEMIT]"),
    "tests/test_gpu_bench.py::test_a_dry_run": (),
    "tests/train/test_blank_pairs.py::test_pictures_of_extreme": (),
    "tests/train/test_blank_pairs.py::test_blank_pairs": ("pix2pix-bf16",),
    "tests/train/test_captured.py::test_a_run": (),
    "tests/train/test_captured.py::test_each": (),
    "tests/train/test_captured.py::test_replayed": ("[asp]", "[cyclegan]"),
    "tests/train/test_compiling.py": (),
    "tests/train/kernels/test_kernels_compile.py": (),
    "tests/train/kernels/test_norms.py": (),
    "tests/train/kernels/test_spectral.py::test_a_pass_writes": (),
    "tests/train/kernels/test_spectral.py::test_passes_before": (),
    "tests/train/test_distributed.py": (),
    "tests/train/test_long_runs.py::test_a_model_card": (),
    "tests/train/test_long_runs.py::test_a_generator_file": (),
    "tests/train/test_long_runs.py::test_a_picture_that_is_damaged": (),
    "tests/train/test_long_runs.py::test_a_reader_that_dies": (),
    "tests/train/test_long_runs.py::test_a_run": (),
    "tests/train/test_long_runs.py::test_a_store_that_becomes": (),
    "tests/train/test_long_runs.py::test_accumulated": (),
    "tests/train/test_long_runs.py::test_checkpoints": (),
    "tests/train/test_long_runs.py::test_events": (),
    "tests/train/test_long_runs.py::test_kill_9": (),
    "tests/train/test_long_runs.py::test_the_ema": (),
    "tests/train/test_long_runs.py::test_val_is_scored": (),
    "tests/train/test_long_runs.py::test_what_was_reported": (),
    "tests/train/test_method_runs.py::test_a_run_ends_in_pictures": ("pix2pix",),
    "tests/train/test_skipped_steps.py::test_a_broken_step": ("pix2pix",),
    "tests/train/test_threads.py::test_threads": (),
    "tests/train/test_unpaired_store.py::test_a_run_is": ("[cut]",),
    "tests/train/test_unpaired_store.py::test_workers": (),
    "tests/train/test_launch.py::test_a_signal": (),
    "tests/train/test_launch.py::test_two_processes": (),
    "tests/train/test_full_disk.py": ("event_files",),
    "tests/train/test_run_damage.py": ("generator.safetensors-cut", "metrics.jsonl-cut", "settings.toml-flipped"),
    "tests/train/test_fit.py::test_a_run_on_this_device": (),
    "tests/train/test_forged_checkpoints.py::test_a_run_says_so": (),
    "tests/train/test_fit.py::test_a_run_that_was_killed": (),
    "tests/train/test_fit.py::test_a_run_that_was_stopped": (),
    "tests/train/test_fit.py::test_a_term_that_is_not_finite": (),
    "tests/train/test_fit.py::test_a_time_limit": (),
    "tests/train/test_fit.py::test_how_often": (),
    "tests/train/test_cli.py::test_a_run_that_is_terminated": (),
    "tests/train/test_cli.py::test_describe_counts": (),
    "tests/train/test_attention_maps.py::test_a_generator_without": (),
    "tests/train/test_contrastive.py::test_a_step_that_shares_passes": ("attention_gan-0]",),
    "tests/train/test_contrastive.py::test_every_second_picture": (),
    "tests/train/test_curves.py::test_a_run_that_learns_otherwise": (),
    "tests/train/test_curves.py::test_the_loss_curve": ("attention_gan", "pix2pix"),
    "tests/train/test_describe.py::test_a_step_of_asp": (),
    "tests/train/test_describe.py::test_attention_makes": (),
    "tests/train/test_describe.py::test_describe_says_parameters": (),
    "tests/train/test_describe.py::test_every_method": (),
    "tests/train/test_describe.py::test_the_memory": ("asp",),
    "tests/train/test_transport.py::test_in_a_shared": (),
    "tests/train/test_memory.py::test_a_run_says": ("step", "place"),
    "tests/train/test_picture_set.py::test_a_kill_at_any_call": (),
    "tests/train/test_picture_set.py::test_another_store": (),
    "tests/train/test_predict_speed.py::test_a_translation_imports": (),
    "tests/train/test_settings.py::test_the_weights_that_a_method_reads": (),
    "tests/evaluate/test_command_line.py::test_the_command_line_scores": (),
    "tests/evaluate/test_command_line.py::test_what_takes_seconds": (),
    "tests/evaluate/test_standing.py::test_processes_measure": (),
    "tests/evaluate/test_standing.py::test_scores_of_several": (),
    "tests/evaluate/test_statistics.py::test_the_interval_of_a_mean_covers": (),
    "tests/evaluate/test_winograd.py::test_only_large": (),
    "tests/evaluate/test_winograd.py::test_scores_do_not_change": (),
    "tests/prep/test_blocks.py::test_a_slice_of_a_batch": (),
    "tests/prep/test_blocks.py::test_a_way_that_computes": ("compiled",),
    "tests/prep/test_blocks.py::test_each_way_computes": ("compiled",),
    "tests/prep/test_bsrgan.py::test_a_store_is_built": (),
    "tests/prep/test_bsrgan.py::test_bf16_of_a_trained": (),
    "tests/prep/test_dense_kernels_compile.py": (),
    "tests/prep/test_bsrgan.py::test_the_same_batch": ("fp32",),
    "tests/prep/test_bsrgan.py::test_triton_enlarges": (),
    "tests/prep/test_build.py::test_a_bad_pair_stops": ("spoil_name",),
    "tests/prep/test_build.py::test_a_build_cut_off": (),
    "tests/prep/test_build.py::test_a_terminated_build": (),
    "tests/prep/test_build.py::test_settings_that_do_not_fit": ("options0",),
    "tests/prep/test_build_repair.py::test_a_dry_run": (),
    "tests/prep/test_build_repair.py::test_a_lost_root": (),
    "tests/prep/test_cli.py::test_a_preset_is_named": (),
    "tests/prep/test_upscale.py::test_planning_and_lanczos": (),
    "tests/store/test_damage.py::test_a_flipped_byte_of_every_file": (),
    "tests/store/test_damage.py::test_a_hundred_flipped_bytes": (),
    "tests/store/test_doctor.py::test_the_whole_page": (),
    "tests/store/test_hostile_stores.py::test_numbers_words": (),
    "tests/store/test_repair_interrupted.py::test_a_killed_repair": (),
    "tests/store/test_repair_interrupted.py::test_building_and_sealing": (),
    "tests/store/test_repair_interrupted.py::test_a_repair_interrupted": (),
    "tests/store/test_second_build.py::test_a_second": (),
    "tests/store/test_unfinished.py": ("flipped-",),
    "tests/store/test_s3.py::test_a_build_interrupted": (),
    "tests/store/test_s3.py::test_a_killed_build": (),
    "tests/store/test_s3.py::test_an_interrupted_layout": (),
    "tests/store/test_s3.py::test_another_store_is_refused": (),
    "tests/store/test_s3.py::test_of_two_builds": (),
    "tests/store/test_writer.py::test_a_killed_build": (),
    "tests/store/test_s3_faults.py": ("too_short",),
    "tests/prep/test_cluster.py": ("test_workers_share",),
    "tests/test_bucket_use.py": ("test_bare_zarr",),
    "tests/store/test_repair.py::test_the_store_is_as_it_was": ("units1-",),
    "tests/store/test_s3.py::test_a_damaged_store_in_a_bucket": (),
    "tests/store/test_s3.py::test_a_store_in_a_bucket": (),
    "tests/store/test_s3.py::test_a_server_without": (),
    "tests/store/test_writer.py::test_a_store_interrupted": (),
    "tests/evaluate/test_extract.py": ("equal_picture", "order_of_pictures", "windows_show"),
    "tests/evaluate/test_features.py::test_batches_and_order": (),
    "tests/evaluate/test_features.py::test_features_are_those_of_the_cpu": (),
    "tests/evaluate/test_features.py::test_lpips_is_the_packages": (),
    "tests/evaluate/test_features.py::test_a_network_with_one_parameter": (),
    "tests/evaluate/test_features.py::test_parameters_of_another": (),
    "tests/evaluate/test_features.py::test_phv_is_a_plain_loop": (),
    "tests/evaluate/test_features.py::test_the_inception_of_kid": (),
    "tests/evaluate/test_features.py::test_the_published_phv": (),
    "tests/evaluate/test_comparable.py::test_a_page_refuses": (),
    "tests/evaluate/test_html_page.py::test_a_browser_shows": (),
    "tests/evaluate/test_html_page.py::test_the_proxy_sees": (),
    "tests/evaluate/test_score.py::test_a_view_of_several": (),
    "tests/evaluate/test_score.py::test_shuffling_which_he": (),
    "tests/evaluate/test_scores_file.py::test_scores_of_format_2": (),
    "tests/evaluate/test_scored_set.py::test_a_changed_bit": (),
    "tests/evaluate/test_scored_set.py::test_predictions_of_another": (),
    "tests/evaluate/test_scored_set.py::test_scores_name": (),
    "tests/evaluate/test_scored_set.py::test_scores_of_an_earlier": (),
    "tests/prep/test_bsrgan.py::test_a_file_is_refused_for_the_other": (),
    "tests/prep/test_bsrgan.py::test_a_full_size_file": (),
    "tests/prep/test_bsrgan.py::test_basicsrs_own_network": (),
    "tests/prep/test_build_repair.py::test_damage_is_built": (),
    "tests/prep/test_build_repair.py::test_the_command_that": (),
    "tests/prep/test_build.py::test_a_disk_that": (),
    "tests/prep/test_build.py::test_no_tiles": (),
    "tests/prep/test_demo.py::test_dab_": (),
    "tests/prep/test_demo.py::test_neighbouring": (),
    "tests/prep/test_demo.py::test_the_stains_are": (),
    "tests/train/test_block_sampling.py::test_batches_are": (),
    "tests/train/test_block_sampling.py::test_shuffled_each": (),
    "tests/train/test_contrastive.py::test_the_plain_order": ("attention_gan",),
    "tests/train/test_describe.py::test_describe_says_every": (),
    "tests/train/test_fit.py::test_a_damaged_checkpoint": (),
    "tests/train/test_fit.py::test_a_finished_run": (),
    "tests/train/test_fit.py::test_a_run_whose": (),
    "tests/train/test_loader.py::test_shuffled_reads": (),
    "tests/train/test_loader.py::test_unpaired": (),
    "tests/train/test_loader.py::test_views_are_drawn": (),
    "tests/train/test_loader.py::test_workers_and": (),
    "tests/train/test_long_runs.py::test_decoding": (),
    "tests/train/test_reports.py::test_a_run_starts": (),
    "tests/train/test_reports.py::test_an_adapted_run": (),
    "tests/train/test_reports.py::test_without_event_files": (),
    "tests/test_compatibility.py::test_a_run_resumes": (),
    "tests/test_compatibility.py::test_pictures_of_another_view": (),
    "tests/test_compatibility.py::test_predictions": (),
    "tests/test_compatibility.py::test_scores": (),
    "tests/test_wheel.py": (),
}


def is_slow(nodeid: str, table: Iterable[tuple[str, tuple[str, ...]]] = SLOW.items()) -> bool:
    """Whether the test of this id is slow.

    >>> is_slow("tests/train/test_curves.py::test_the_loss_curve_is_the_recorded_one[cut]")
    True
    >>> is_slow("tests/train/test_curves.py::test_the_loss_curve_is_the_recorded_one[pix2pix]")
    False
    """
    return any(nodeid.startswith(start) and not any(part in nodeid for part in fast) for start, fast in table)


def mark_slow(items: list[pytest.Item]) -> None:
    """Give the slow tests their marker."""
    for item in items:
        if is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)


def slow_modules_first(items: list[pytest.Item]) -> None:
    """Bring the modules of the table to the front, in its order, so that no worker starts a long one at the end."""
    modules = [*dict.fromkeys(start.partition("::")[0] for start in SLOW)]
    order = {module: place for place, module in enumerate(modules)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))
