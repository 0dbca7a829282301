"""The recipes of prep/README.md, as far as they can be tried without a Slurm cluster or Kubernetes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from prep.__main__ import app
from tests.support.places import ROOT

README = (ROOT / "prep" / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_slurm_recipe_asks_for_one_worker_a_gpu() -> None:
    (recipe,) = blocks("python")
    made, _ = recipe.split("cluster.adapt")
    scope: dict[str, Any] = {}
    exec(made.replace("8786", "0").replace(":8787", ":0"), scope)
    try:
        script = scope["cluster"].job_script()
    finally:
        scope["cluster"].close()
    assert "#SBATCH --gres=gpu:1" in script
    assert "#SBATCH --cpus-per-task=8" in script
    assert re.search(r"dask_worker tcp://\S+ .*--nthreads 3 .*--resources GPU=1", script)


def test_the_kubernetes_recipe_fits_together() -> None:
    (recipe,) = blocks("yaml")
    service, scheduler, workers, build = yaml.safe_load_all(recipe)
    port = service["spec"]["ports"][0]["port"]
    assert service["spec"]["selector"] == scheduler["spec"]["template"]["metadata"]["labels"]
    address = f"tcp://{service['metadata']['name']}:{port}"
    (worker,) = workers["spec"]["template"]["spec"]["containers"]
    (builder,) = build["spec"]["template"]["spec"]["containers"]
    assert address in worker["command"]
    assert address in builder["command"]
    for container, pod in ((worker, workers), (builder, build)):
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["template"]["spec"]["volumes"]}
    assert {container["image"] for container in (worker, builder)} == {"registry.example/magstain"}


@pytest.mark.parametrize("options", re.findall(r"python -m prep build (--.*?)(?:\s+#.*)?$", README, re.MULTILINE))
def test_options_that_are_shown_exist(options: str) -> None:
    known = CliRunner().invoke(app, ["build", "--help"], env={"COLUMNS": "200"}).output
    assert all(option in known for option in re.findall(r"--[a-z-]+", options))
