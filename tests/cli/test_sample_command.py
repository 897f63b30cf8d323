"""``limbeck sample``: pictures and tensors of a saved model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from limbeck.models import VRNN, HelmholtzMachine, LadderVAE, MLPClassifier
from tests.tiny import call

pytestmark = pytest.mark.usefixtures("quick")


class TestSample:
    def test_samples_stand_in_rows_of_a_picture(self, dry: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("sample", dry / "teacher", "--n=6", "--columns=3", "--out=a.png") == 0
        assert "6 samples: a.png" in capsys.readouterr().out
        wide = Image.open("a.png")
        assert call("sample", dry / "teacher", "--n=6", "--columns=2", "--out=b.png") == 0
        assert wide.size[0] > wide.size[1]
        assert Image.open("b.png").size[0] < Image.open("b.png").size[1]

    def test_samples_may_be_tensors(self, dry: Path) -> None:
        assert call("sample", dry / "teacher", "--n=5", "--out=a.safetensors") == 0
        assert {name: tuple(value.shape) for name, value in load_file("a.safetensors").items()} == {"y": (5, 1, 8, 8)}

    @pytest.mark.parametrize("ending", ["png", "safetensors"])
    def test_seed_fixes_the_file(self, dry: Path, ending: str) -> None:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            assert call("sample", dry / "teacher", "--n=4", f"--seed={seed}", f"--out={name}.{ending}") == 0
        found = [Path(f"{name}.{ending}").read_bytes() for name in "abc"]
        assert found[0] == found[1] != found[2]

    def test_temperature_zero_leaves_no_spread(self, dry: Path) -> None:
        for name, temperature in (("cold", 0), ("warm", 1)):
            words = ["sample", dry / "teacher", "--n=8", f"--temperature={temperature}", f"--out={name}.safetensors"]
            assert call(*words) == 0
        spread = {name: load_file(f"{name}.safetensors")["y"].std(0).mean().item() for name in ("cold", "warm")}
        assert spread["cold"] < 1e-6 < spread["warm"]

    def test_samples_spread_more_than_means(self, dry: Path) -> None:
        for output in ("mean", "sample"):
            assert call("sample", dry / "teacher", "--n=50", f"--output={output}", f"--out={output}.safetensors") == 0
        mean, sample = (load_file(f"{output}.safetensors")["y"].std().item() for output in ("mean", "sample"))
        assert sample > mean


def test_targets_that_are_columns_of_one_table() -> None:
    """In the order of the data, which is not that in which they are drawn; also those of a model in bfloat16."""
    HelmholtzMachine().to(torch.bfloat16).save_pretrained("machine")
    assert call("sample", "machine", "--n=5") == 0
    assert call("sample", "machine", "--n=5", "--out=apart.safetensors") == 0
    columns = load_file("apart.safetensors")
    rows = np.loadtxt("samples.csv", delimiter=",", skiprows=1)
    expected = torch.cat([columns["y1"], columns["y2"]], dim=1).float()
    assert np.array_equal(rows.astype(np.float32), expected.numpy())


def test_inputs_take_the_precision_of_the_model() -> None:
    MLPClassifier(4, 3, [2]).save_pretrained("classifier")
    save_file({"x": torch.rand(2, 4, dtype=torch.float64)}, "x.safetensors")
    assert call("sample", "classifier", "--n=2", "--x=x.safetensors") == 0


def test_pictures_show_what_the_model_draws(dry: Path) -> None:
    assert call("sample", dry / "teacher", "--n=1", "--columns=1", "--out=one.png") == 0
    assert call("sample", dry / "teacher", "--n=1", "--out=one.safetensors") == 0
    picture = np.asarray(Image.open("one.png").convert("L"), dtype=float) / 255
    expected = load_file("one.safetensors")["y"].clamp(0, 1).mean().item()
    assert abs(picture.min() - load_file("one.safetensors")["y"].clamp(0, 1).min().item()) < 0.02
    assert 0 <= expected <= 1


class TestSamplesOfOtherKinds:
    def test_drawings_are_lines_of_colour(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        VRNN(steps=6, width=4, features=3, latent_size=2).save_pretrained(tmp_path / "writer")
        assert call("sample", tmp_path / "writer", "--n=4", f"--out={tmp_path / 'grid.png'}") == 0
        with Image.open(tmp_path / "grid.png") as picture:
            assert picture.size[0] > 300
            assert len(picture.convert("RGB").getcolors(1 << 16)) > 2  # lines of colour, not frames alone

    def test_one_of_several_domains_must_be_chosen(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sizes = {"image_size": 8, "image_channels": 1, "levels": 2, "latent_channels": 2, "width": 3}
        LadderVAE(**sizes, domains=2, batch_statistics=True).save_pretrained(tmp_path / "two")
        LadderVAE(**sizes).save_pretrained(tmp_path / "one")
        for domain in (0, 1):
            out = tmp_path / f"{domain}.safetensors"
            assert call("sample", tmp_path / "two", "--n=4", f"--domain={domain}", f"--out={out}") == 0
        assert (tmp_path / "0.safetensors").read_bytes() != (tmp_path / "1.safetensors").read_bytes()
        for words in ((), ("--domain=2",), ("--domain=-1",)):
            assert call("sample", tmp_path / "two", "--n=4", *words) == 2
            assert "give one from 0 to 1" in capsys.readouterr().err
        assert call("sample", tmp_path / "one", "--n=4", "--domain=0") == 2
        assert "has no domains" in capsys.readouterr().err
