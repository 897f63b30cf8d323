"""``limbeck export`` writes a program and says what it asks for; what it cannot write is told in a line."""

import pytest
import torch
from safetensors.torch import save_file

from limbeck.cli.main import main
from limbeck.models import VIB, GaussianChain, MLPClassifier, ResidualBinomialChain, TableGlow

CLASSIFIER = {"image_size": 8, "hidden": 4, "latent_size": 2, "classes": 3}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def test_writes_a_program_and_tells_its_inputs(place, capsys) -> None:
    model = GaussianChain(layers=2)
    model.save_pretrained("chain")
    assert main(["export", "chain", "--out=chain.pt2"]) == 0
    told = capsys.readouterr().out
    assert "chain.pt2: mean of GaussianChain, for any number of rows" in told
    assert "in   z[1]: [1] float32, uniform noise" in told
    assert "in   z[2]: [1] float32, normal noise" in told
    assert "out  y: [1]" in told
    noise = {"z[1]": torch.rand(3, 1), "z[2]": torch.randn(3, 1)}
    found = torch.export.load("chain.pt2").module()(noise, None)["y"]
    assert torch.allclose(found, model(noise)["y"])


def test_densities_of_a_table(place, capsys) -> None:
    TableGlow(features=3, hidden=4).save_pretrained("flow")
    assert main(["export", "flow", "--output=log_prob"]) == 0
    assert "in   y: [3] float32" in capsys.readouterr().out
    assert torch.export.load("model.pt2").module()(torch.zeros(4, 3), None)["log_prob"].shape == (4,)


@pytest.mark.parametrize("told", ["--x_shape=[1,8,8]", "--x=rows.safetensors"])
def test_inputs_by_shape_or_file(told: str, place) -> None:
    save_file({"x": torch.zeros(2, 1, 8, 8)}, "rows.safetensors")
    VIB(**CLASSIFIER).save_pretrained("classifier")
    assert main(["export", "classifier", told]) == 0
    program = torch.export.load("model.pt2").module()
    assert program({"z": torch.zeros(5, 2)}, torch.zeros(5, 1, 8, 8))["y"].shape == (5, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chain", "--out=model.onnx"], "--out must end in .pt2"),
        (["chain", "--output=log_prob"], "no log_prob"),
        (["chain", "--x_shape=[2]"], "does not depend on an input x; leave it out"),
        (["classifier"], "needs"),
        (["classifier", "--x_shape=[3]", "--x=a.safetensors"], "leave one out"),
        (["classifier", "--x=a.png"], "must be a file that ends in .safetensors"),
        (["binomial"], "cannot follow the program of this ResidualBinomialChain"),
        (["nowhere"], "nowhere is not a directory"),
    ],
)
def test_mistakes_are_told(words: list[str], message: str, place, capsys) -> None:
    GaussianChain(layers=2).save_pretrained("chain")
    MLPClassifier(inputs=4, classes=2, widths=[3]).save_pretrained("classifier")
    ResidualBinomialChain(layers=2).save_pretrained("binomial")
    assert main(["export", *words]) in (1, 2)
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not list(place.glob("*.pt2"))
