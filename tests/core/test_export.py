"""Exported programs give what the model gives, for any number of rows, and tell what they want."""

import json

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Distribution, Normal

import limbeck
from limbeck.core.export import export
from limbeck.core.exported import DESCRIPTION, Input
from limbeck.core.graph import DGM
from limbeck.errors import ModelError, StorageError
from tests.zoo import BY_NAME, ZOO, Entry

QUICK = ("chain", "wrapped", "autoregressive flow")
REFUSED = {"drawings": "bool\\(alive.any", "binomial chain": "numpy"}


class Program(DGM):
    """A unit latent and a target that the test chooses."""

    def __init__(self, target) -> None:
        super().__init__()
        self.target = target
        self.layer = nn.Linear(2, 2)

    def generate(self, sites, x=None):
        z = sites.latent("z", sites.standard_normal(2))
        self.target(self, sites, z if x is None else z + x)


class Wanting(DGM):
    """Fails, in words of its own, without an input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def generate(self, sites, x=None):
        sites.target("y", Normal(self.layer(x), 1.0))


def load(path):
    return torch.export.load(str(path)).module()


def speeds() -> list:
    """Every model of the zoo; those that take long are marked."""
    entries = [entry for entry in ZOO if entry.name not in REFUSED]
    return [pytest.param(e, id=e.name, marks=[] if e.name in QUICK else pytest.mark.slow) for e in entries]


@pytest.mark.parametrize("entry", speeds())
@pytest.mark.parametrize("output", ["mean", "sample"])
def test_gives_the_models_numbers_for_any_number_of_rows(entry: Entry, output: str, tmp_path) -> None:
    model, _ = entry.pair()
    told = export(model, tmp_path / "model.pt2", output=output, x=entry.rows(3).get("x"))
    program = load(tmp_path / "model.pt2")
    for rows in (1, 5):
        arguments = entry.rows(rows)
        trace = model.trace(**arguments)
        x = arguments.get("x")
        found = program({name: trace[name].noise for name in told.noise}, x)
        wanted = trace.targets if output == "sample" else model(trace.noise, x)
        assert found.keys() == wanted.keys() == told.outputs.keys()
        for name, value in wanted.items():
            assert torch.allclose(found[name].double(), value.double(), atol=1e-6), name
            assert told.outputs[name] == value.shape[1:]


@pytest.mark.parametrize("name", ["autoregressive flow", pytest.param("images' flow", marks=pytest.mark.slow)])
def test_densities(name: str, tmp_path) -> None:
    model, _ = BY_NAME[name].pair()
    told = export(model, tmp_path / "model.pt2", output="log_prob")
    y = model.sample(7)["y"]
    assert told.y == Input(tuple(y.shape[1:]), "float32")
    assert told.noise == {}
    assert torch.allclose(load(tmp_path / "model.pt2")(y, None)["log_prob"], model.log_prob(y), atol=1e-5)


def test_the_file_tells_its_inputs(tmp_path) -> None:
    def target(model, sites, z):
        flip = sites.latent("flip", Bernoulli(torch.sigmoid(z)))
        sites.target("y", Normal(model.layer(z + flip), 1.0))

    model = Program(target)
    told = export(model, tmp_path / "model.pt2")
    assert told.noise == {"z": Input((2,), "float32", "normal"), "flip": Input((2,), "float32", "uniform")}
    files = {DESCRIPTION: ""}
    torch.export.load(str(tmp_path / "model.pt2"), extra_files=files)
    text = json.loads(files[DESCRIPTION])
    assert text["noise"]["flip"] == {"shape": [2], "dtype": "float32", "law": "uniform"}
    assert text["output"] == "mean"
    assert text["outputs"] == {"y": [2]}
    assert text["max_rows"] is None


def test_noise_without_effect_is_no_input(tmp_path) -> None:
    def target(model, sites, z):
        sites.latent("unused", sites.standard_normal(3))
        sites.target("y", Normal(model.layer(z), 1.0))

    model = Program(target)
    assert export(model, tmp_path / "mean.pt2").noise.keys() == {"z"}
    assert export(model, tmp_path / "sample.pt2", output="sample").noise.keys() == {"z", "y"}


def test_leaves_the_model_and_torch_as_they_were(tmp_path) -> None:
    _, student = BY_NAME["ladder"].pair()
    student.train()
    checks = Distribution._validate_args
    state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    export(student, tmp_path / "model.pt2")
    assert student.training
    assert all(module.training for module in student.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in student.state_dict().items())
    assert Distribution._validate_args == checks
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("name", REFUSED)
def test_programs_that_read_values_are_refused_with_the_reason(name: str, tmp_path) -> None:
    model, _ = BY_NAME[name].pair()
    with pytest.raises(ModelError, match=REFUSED[name]):
        export(model, tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()


def test_sizes_that_depend_on_values_are_refused(tmp_path) -> None:
    def target(model, sites, z):
        columns = (model.layer.bias < torch.inf).nonzero().squeeze(-1)
        sites.target("y", Normal(model.layer(z.index_copy(1, columns, z[:, columns])), 1.0))

    with pytest.raises(ModelError, match=r"has sizes that depend on values, by aten.nonzero"):
        export(Program(target), tmp_path / "model.pt2")


def test_a_constant_number_of_rows_is_refused(tmp_path) -> None:
    def target(model, sites, z):
        sites.target("y", Normal(model.layer(z).reshape(len(z), 2), 1.0))

    with pytest.raises(ModelError, match=r"x.shape\[0\] in place of len\(x\)"):
        export(Program(target), tmp_path / "model.pt2")


def test_bad_requests_are_named(tmp_path) -> None:
    plain = Program(lambda model, sites, z: sites.target("y", Normal(model.layer(z), 1.0)))
    with pytest.raises(ModelError, match="mean, sample or log_prob, not 'median'"):
        export(plain, tmp_path / "model.pt2", output="median")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no log_prob"):
        export(plain, tmp_path / "model.pt2", output="log_prob")
    with pytest.raises(ModelError, match="give x"):
        export(BY_NAME["wrapped"].pair()[0], tmp_path / "model.pt2")
    with pytest.raises(ModelError, match="does not depend on an input x"):
        export(BY_NAME["chain"].pair()[0], tmp_path / "model.pt2", x=torch.zeros(1, 2))
    needs = Wanting()
    with pytest.raises(ModelError, match="without an input x"):
        export(needs, tmp_path / "model.pt2")
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StorageError):
        export(plain, tmp_path / "file" / "model.pt2")


def test_is_a_public_name() -> None:
    assert limbeck.export is export
