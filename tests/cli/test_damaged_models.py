"""Saved models that are damaged, or that a command cannot use: one message that names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.core.graph import DGM
from limbeck.core.sites import Sites
from limbeck.models import LadderVAE
from tests.cli.refusals import refused
from tests.small_models import Mixed
from tests.tiny import NotANumber, built, call, write_recipe

pytestmark = pytest.mark.usefixtures("here")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def rename_class(path: Path) -> None:
    path.write_text(path.read_text().replace("LadderVAE", "LadderVEA"))


def claim_code(path: Path) -> None:
    path.write_text(json.dumps({"class": "os.system", "config": {"command": "touch ran"}}))


def shrink(path: Path) -> None:
    path.write_text(path.read_text().replace('"width": 4', '"width": 3'))


DAMAGE: dict[str, tuple[str, Callable[[Path], Any], list[str]]] = {
    "half a file": ("model.safetensors", truncate, ["model.safetensors is corrupt"]),
    "noise": ("model.safetensors", lambda path: path.write_bytes(os.urandom(500)), ["model.safetensors is corrupt"]),
    "no weights": ("model.safetensors", Path.unlink, ["model.safetensors is missing"]),
    "other weights": ("config.json", shrink, ["does not fit"]),
    "no json": ("config.json", lambda path: path.write_text("{"), ["config.json", "not readable JSON"]),
    "other json": ("config.json", lambda path: path.write_text("[]"), ["config.json", "not a saved limbeck model"]),
    "unknown class": ("config.json", rename_class, ["LadderVEA"]),
    "code for a class": ("config.json", claim_code, ["os.system"]),
}


@pytest.mark.parametrize("command", ["sample", "distill"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_model_is_named_and_no_code_of_it_runs(
    name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, damage, told = DAMAGE[name]
    LadderVAE(image_size=8, image_channels=1, levels=2, width=4, latent_channels=2).save_pretrained("model")
    damage(Path("model") / file)
    refused(capsys, [command, "model" if command == "sample" else "--teacher=model"], *told)
    assert not Path("ran").exists()


def test_a_class_of_ones_own_needs_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    built(width=3).save_pretrained("model")
    config = Path("model/config.json")
    config.write_text(config.read_text().replace("tests.tiny", "my.module"))
    refused(capsys, ["sample", "model"], "my.module.Tiny", "--import=my.module")


class Lifted(DGM):
    """A row given a row, by a layer that says nothing of its own if there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def generate(self, sites: Sites, x: torch.Tensor | None = None) -> None:
        sites.target("y", torch.distributions.Normal(self.layer(x), 1.0))


def test_a_conditional_model_is_sampled_given_rows_of_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    """Its samples need an input, in the form that the model takes."""
    Lifted().save_pretrained("model")
    words: list[object] = ["sample", "model", "--n=5", "--out=a.safetensors"]
    refused(capsys, words, "the Lifted cannot be sampled without an input x", "--x=FILE.safetensors")
    refused(capsys, [*words, "--x=x.safetensors"], "x.safetensors does not exist")
    refused(capsys, [*words, "--x=x.csv"], "must be a file that ends in .safetensors")
    save_file({"x": torch.ones(2, 4)}, "x.safetensors")
    refused(capsys, [*words, "--x=x.safetensors"], "cannot be sampled given --x=x.safetensors, 4 each")
    refused(capsys, [*words, "--x=x.safetensors", "--class=1"], "leave out --domain and --class")
    save_file({"a": torch.ones(2, 3), "b": torch.ones(2)}, "x.safetensors")
    refused(capsys, [*words, "--x=x.safetensors"], "must hold one tensor", "['a', 'b']")
    save_file({"x": torch.randn(2, 3)}, "x.safetensors")
    assert call(*map(str, words), "--x=x.safetensors") == 0
    drawn = load_file("a.safetensors")["y"]
    assert drawn.shape == (5, 2)
    torch.testing.assert_close(drawn[0], drawn[2])  # the rows in turn


def test_a_run_of_another_directory_names_the_module_it_misses(capsys: pytest.CaptureFixture[str]) -> None:
    """Its recipe names classes that are not found here."""
    built(width=3).save_pretrained("run/teacher")
    write_recipe(Path("run"), "recipe", data={"class_path": "nowhere_here.Spots"})
    refused(capsys, ["evaluate", "run/teacher"], "module nowhere_here", "PYTHONPATH")


def test_a_model_without_a_picture_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Mixed(3).save_pretrained("model")
    refused(capsys, ["sample", "model"], "expected one target that is an image", "y1")


def test_pixels_that_are_not_finite_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    built(NotANumber, width=3).save_pretrained("model")
    refused(capsys, ["sample", "model"], "NaN or infinite pixels")
