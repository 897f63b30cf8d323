"""zuko's flows: the same numbers and weights as without us."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import zuko
from safetensors.torch import load_file, save_file
from torch.distributions import Normal, Uniform

from limbeck.errors import ModelError, StorageError
from limbeck.models import Flow, ZukoFlow
from tests.models.flows.zuko_flows import SMALL, rows

FLOWS = {
    "MAF": {"transforms": 2, **SMALL},
    "NSF": {"transforms": 2, "bins": 4, **SMALL},
    "NCSF": {"transforms": 2, "bins": 4, **SMALL},
    "NICE": {"transforms": 2, **SMALL},
    "RealNVP": {"transforms": 2, **SMALL},
    "NAF": {"transforms": 2, "signal": 2, "network": {"hidden_features": [4]}, **SMALL},
    "UNAF": {"transforms": 2, "signal": 2, "network": {"hidden_features": [4], "activation": "ELU"}, **SMALL},
    "SOSPF": {"transforms": 2, **SMALL},
    "BPF": {"transforms": 2, "degree": 4, **SMALL},
    "GF": {"transforms": 2, "components": 3},
    "CNF": {"activation": "Tanh", **SMALL},
}
TABLE_2 = {6: (5.0, 10.1), 8: (5.6, 11.2), 21: (9.4, 18.9), 43: (15.9, 31.8), 63: (21.8, 43.6)}


@pytest.mark.parametrize("name", FLOWS)
def test_densities_are_zukos_to_the_bit(name: str) -> None:
    flow = ZukoFlow(name, 3, **FLOWS[name])
    y = rows()
    assert torch.equal(flow.log_prob(y), flow.flow().log_prob(y))
    site = flow.trace_inference(y)["log_prob"].value
    torch.testing.assert_close(site, flow.log_prob(y), atol=1e-5, rtol=1e-6)
    if name in ("MAF", "NSF", "NICE", "RealNVP", "CNF"):
        assert torch.equal(site, flow.log_prob(y))
    assert flow.step_counts == ((1,) if name == "CNF" else (2,))


@pytest.mark.parametrize("name", FLOWS)
def test_samples_are_zukos(name: str) -> None:
    flow = ZukoFlow(name, 3, **FLOWS[name])
    trace = flow.trace(8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(trace.targets["y"], flow.flow().transform.inv(trace["u[0]"].value))
    expected = Uniform if name == "NCSF" else Normal
    assert type(trace["u[0]"].distribution) is expected
    base = flow.flow.base(None)
    torch.testing.assert_close(trace["u[0]"].distribution.log_prob(trace["u[0]"].value).sum(1),
                               base.log_prob(trace["u[0]"].value))  # fmt: skip


def test_conditions_reach_zuko() -> None:
    flow = ZukoFlow("NSF", 3, context=2, transforms=2, **SMALL)
    y, x = rows(), torch.randn(16, 2)
    assert torch.equal(flow.log_prob(y, x), flow.flow(x).log_prob(y))
    drawn = flow.sample(x=x)["y"]
    assert drawn.shape == (16, 3)
    torch.testing.assert_close(flow.decode(flow.encode(y, x), x), y, atol=1e-5, rtol=0.0)


def test_a_base_of_ones_own_is_used() -> None:
    """A mixture as the base law: its latents are scored by it, although they cannot be drawn from shared noise."""
    bare = zuko.flows.MAF(2, transforms=2, **SMALL)
    bare.base = zuko.flows.GMM(2, components=3)
    flow = ZukoFlow.wrap(bare)
    y = rows(features=2)
    assert torch.equal(flow.log_prob(y), bare().log_prob(y))
    torch.testing.assert_close(flow.trace_inference(y)["log_prob"].value, bare().log_prob(y))


@pytest.mark.parametrize("columns", TABLE_2)
def test_sizes_are_those_of_table_2(columns: int) -> None:
    sizes = [ZukoFlow("MAF", columns, transforms=depth, hidden_features=[32, 32]) for depth in (3, 6)]
    counts = [sum(parameter.numel() for parameter in flow.parameters()) for flow in sizes]
    assert tuple(round(count / 1000, 1) for count in counts) == TABLE_2[columns]


def test_weights_have_zukos_names_and_are_held_once() -> None:
    flow = ZukoFlow("NAF", 3, **FLOWS["NAF"])
    own = {name.removeprefix("flow."): tensor for name, tensor in flow.state_dict().items() if name.startswith("flow.")}
    theirs = flow.flow.state_dict()
    assert own.keys() == theirs.keys()
    assert len(list(flow.parameters())) == len(list(flow.flow.parameters()))
    flow.double()
    assert {parameter.dtype for parameter in flow.levels[0].steps.parameters()} == {torch.float64}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["MAF", "NAF", "GF", "CNF"])
def test_plain_zuko_weights_are_read_and_written(name: str, dtype: torch.dtype, tmp_path) -> None:
    settings = {key: value for key, value in FLOWS[name].items() if key not in ("network", "activation")}
    bare = getattr(zuko.flows, name)(3, **settings).to(dtype)
    save_file(bare.state_dict(), tmp_path / "theirs.safetensors")
    flow = ZukoFlow.from_weights(tmp_path / "theirs.safetensors", name, 3, **settings)
    y = rows().to(dtype)
    assert torch.equal(flow.log_prob(y), bare().log_prob(y))
    assert not flow.training
    flow.save_zuko(tmp_path / "ours.safetensors")
    again = getattr(zuko.flows, name)(3, **settings).to(dtype)
    again.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    assert torch.equal(again().log_prob(y), bare().log_prob(y))


def test_random_orders_travel_with_the_weights(tmp_path) -> None:
    torch.manual_seed(3)
    bare = zuko.flows.MAF(5, transforms=3, randperm=True, **SMALL)
    save_file(bare.state_dict(), tmp_path / "flow.safetensors")
    flow = ZukoFlow.from_weights(tmp_path / "flow.safetensors", "MAF", 5, transforms=3, **SMALL)
    y = rows(features=5)
    assert torch.equal(flow.log_prob(y), bare().log_prob(y))
    torch.testing.assert_close(flow.decode(flow.encode(y)), y, atol=1e-5, rtol=0.0)


def test_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    path = tmp_path / "flow.safetensors"
    with pytest.raises(ModelError, match="is missing"):
        ZukoFlow.from_weights(path, "MAF", 3)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match="not a readable file of weights"):
        ZukoFlow.from_weights(path, "MAF", 3)
    save_file(zuko.flows.MAF(3, transforms=2, **SMALL).state_dict(), path)
    with pytest.raises(ModelError, match=r"'transform.transforms.2.*' is missing, and \d+ more names"):
        ZukoFlow.from_weights(path, "MAF", 3, transforms=3, **SMALL)
    with pytest.raises(ModelError, match=r"'transform.transforms.1.*' is not part of it"):
        ZukoFlow.from_weights(path, "MAF", 3, transforms=1, **SMALL)
    with pytest.raises(ModelError, match=r"has shape \(3,\) in the file and \(4,\) in the flow"):
        ZukoFlow.from_weights(path, "MAF", 4, transforms=2, **SMALL)


def test_a_flow_that_was_built_outside_is_wrapped(tmp_path) -> None:
    bare = zuko.flows.NICE(3, transforms=2, **SMALL)
    flow = ZukoFlow.wrap(bare, standardize=True)
    assert flow.flow is bare
    assert flow.latent_shapes == ((3,),)
    with pytest.raises(ModelError, match="built outside"):
        flow.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="standardize=False"):
        flow.save_zuko(tmp_path / "flow.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        ZukoFlow.wrap(bare).save_zuko(tmp_path / "file" / "flow.safetensors")
    with pytest.raises(ModelError, match="no flow of zuko's"):
        ZukoFlow.wrap(torch.nn.Linear(2, 2))


class Told(zuko.lazy.LazyDistribution):
    """A base law that depends on the conditioning input."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.distributions.Distribution:
        return zuko.distributions.DiagNormal(self.mean(x), torch.ones(len(x), 3))


def test_a_wrapped_flow_whose_base_is_conditional_needs_its_columns() -> None:
    bare = zuko.flows.Flow(zuko.flows.MAF(3, 2, transforms=1, **SMALL).transform, Told())
    with pytest.raises(ModelError, match=r"depends on the conditioning input, .* features=NUMBER"):
        ZukoFlow.wrap(bare)
    y, x = rows(), torch.randn(len(rows()), 2)
    assert torch.equal(ZukoFlow.wrap(bare, features=3).log_prob(y, x), bare(x).log_prob(y))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow": "Glow"}, "no flow 'Glow'; there are: MAF"),
        ({"flow": "Flow"}, "no flow 'Flow'"),
        ({"flow": "GMM"}, "no flow 'GMM'"),
        ({"features": 0}, "features must be positive"),
        ({"transforms": 0}, "transforms must be positive"),
        ({"hidden_features": [8, -1]}, "hidden_features must be positive, not -1"),
        ({"context": -1}, "context must be at least 0, not -1"),
        ({"depth": 3}, "does not take these settings.*depth"),
        ({"activation": "Elu"}, "such as 'ELU', not 'Elu'"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ZukoFlow(**{"flow": "MAF", "features": 3, **settings})


def test_a_recipe_can_name_the_usual_settings() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Flow, "model")
    chosen = {
        "class_path": "limbeck.models.ZukoFlow",
        "init_args": {"flow": "NSF", "features": 3, "transforms": 2, "hidden_features": [8], "context": 1},
        "dict_kwargs": {"bins": 4},
    }
    flow = parser.instantiate(parser.parse_object({"model": chosen})).model
    assert flow.step_counts == (2,)
    assert flow.log_prob(rows(), torch.zeros(16, 1)).shape == (16,)
    assert flow.config["bins"] == 4


def test_zuko_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ModelError, match=r"limbeck\[flows\]"):
        ZukoFlow("MAF", 3)


def test_zuko_is_imported_only_when_it_is_used() -> None:
    code = "import sys, limbeck.models; sys.exit('zuko' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
