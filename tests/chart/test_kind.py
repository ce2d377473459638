"""What `make kind` and the install page name is there, and they name the same. The cluster itself needs Docker: .github/workflows/kind.yaml."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "demo" / "kind.sh").read_text()
PAGE = (ROOT / "docs" / "howto" / "install.md").read_text()
IMAGES = {f"levada-{name}" for name in ("operator", "flow", "examples")}


def test_the_cluster_is_the_one_that_images_are_loaded_into():
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    assert (config["kind"], config["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    assert f"cluster={config['name']}\n" in SCRIPT
    assert f"kind load docker-image --name {config['name']} " in PAGE


def test_every_image_that_is_loaded_is_built():
    built = set(re.findall(r"--tag (levada-[a-z]+):\$\(VERSION\) ", (ROOT / "Makefile").read_text()))
    assert built == IMAGES
    for text in (SCRIPT, PAGE):
        (loaded,) = re.findall(r"kind load docker-image .*", text)
        assert set(re.findall(r"levada-[a-z]+(?=:)", loaded)) <= IMAGES
    assert {path.parent.name for path in (ROOT / "images").glob("*/Dockerfile")} == {"operator", "flow", "examples"}


def test_the_script_says_what_is_missing(tmp_path):
    for tool in ("bash", "dirname", "sed"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    script = ["bash", ROOT / "demo" / "kind.sh", "up"]
    ended = subprocess.run(script, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: docker is missing; docs/howto/images.md")


@pytest.mark.parametrize("target", ["kind", "kind-run", "kind-down"])
def test_the_targets_that_the_page_and_the_workflow_name(target):
    listed = subprocess.run(["make", "--no-print-directory", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip
    assert listed.stdout.startswith("demo/kind.sh ")
