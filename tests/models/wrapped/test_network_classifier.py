"""Any network as a graph: what its sites are, how it is trained, prepared and saved, and what cannot be built."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import limbeck
from limbeck import methods
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Kind
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.training.fit import fit
from limbeck.errors import ModelError
from limbeck.models import NetworkClassifier
from tests.models.wrapped.wrapped_networks import WRN, Small, assert_close, hooks, images, numbers, rows, small, wide


def test_sites_are_the_activations() -> None:
    model, x = wide(), images()
    trace = model.trace(x=x)
    kinds = {name: site.kind for name, site in trace.items()}
    assert kinds.pop("y") is Kind.TARGET
    assert list(kinds) == ["h[0]", "h[1]", "h[2]", "h[3]", "penultimate", "logits"]
    assert set(kinds.values()) == {Kind.DETERMINISTIC}
    net = model.network
    h = [net.first(x)]
    for group in net.groups:
        h.append(group(h[-1]))
    for index, expected in enumerate(h):
        assert torch.equal(trace[f"h[{index}]"].value, expected)
    penultimate = F.relu(net.norm(h[-1])).mean((2, 3))
    assert torch.equal(trace["penultimate"].value, penultimate)
    assert torch.equal(trace["logits"].value, net.head(penultimate))
    assert torch.equal(trace["logits"].value, net(x))
    torch.testing.assert_close(trace["y"].distribution.logits, net(x).log_softmax(1))


def test_loss_is_the_cross_entropy() -> None:
    model, x, y = wide(), images(), torch.tensor([0, 1, 2, 3, 0])
    loss = model.loss(Batch(y, x))
    assert list(loss.terms) == ["y"]
    assert torch.equal(loss.total, F.cross_entropy(model.network(x), y))


def test_features_are_called_by_their_paths_or_as_one_likes() -> None:
    by_path = small(["first", "blocks.1"]).trace(x=images())
    named = small({"early": "first", "late": "blocks.1"}).trace(x=images())
    assert list(by_path) == ["first", "blocks.1", "penultimate", "logits", "y"]
    assert torch.equal(by_path["blocks.1"].value, named["late"].value)
    assert list(NetworkClassifier.wrap(Small(), penultimate=None).trace(x=images())) == ["logits", "y"]


def test_a_given_feature_takes_the_place_of_the_module_s_own() -> None:
    model, x = wide(), images()
    given = torch.randn(5, 64, 4, 4, generator=torch.Generator().manual_seed(1))
    trace = model.trace(x=x, values={"h[2]": given})
    assert torch.equal(trace["h[3]"].value, model.network.groups[2](given))
    assert torch.equal(trace["h[2]"].distribution.value, model.trace(x=x)["h[2]"].value)


def test_the_network_is_shared_and_its_own_hooks_are_kept() -> None:
    network, seen = Small(), []
    handle = network.first.register_forward_hook(lambda module, given, output: seen.append(output))
    model = NetworkClassifier.wrap(network, ["first"])
    value = model.trace(x=images())["first"].value
    assert model.network is network
    assert seen == [value]
    assert hooks(network) == 1
    handle.remove()


def test_standardisation_is_that_of_the_training_rows_and_is_saved(tmp_path: Path) -> None:
    settings = {"hidden": 8, "image_size": 4, "channels": 2, "classes": 3}
    model = NetworkClassifier("MLP", settings, normalize=True)
    x = torch.rand(50, 2, 4, 4) * torch.tensor([1.0, 5.0]).view(2, 1, 1) + 3.0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.adapt(Batch(torch.zeros(50, dtype=torch.long), x))
    plain = NetworkClassifier("MLP", settings).eval()
    plain.network.load_state_dict(model.network.state_dict())
    standard = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(numbers(model.eval(), x)["y"], numbers(plain, standard)["y"])
    model.adapt(Batch(torch.zeros(9, dtype=torch.long), torch.rand(9, 2, 4, 4)))  # adapted already: stays as it is
    model.save_pretrained(tmp_path)
    assert torch.equal(numbers(DGM.from_pretrained(tmp_path), x)["y"], numbers(model, x)["y"])
    assert torch.equal(before["mean"], torch.zeros(()))


@pytest.mark.parametrize("shape", [(6, 3), (1, 3), (6, 3, 4, 4)], ids=["vectors", "one vector", "images"])
def test_constant_channels_are_only_centred(shape: tuple[int, ...]) -> None:
    model = NetworkClassifier.wrap(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), [], normalize=True)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 0.1
    model.adapt(Batch(torch.zeros(len(x), dtype=torch.long), x))
    assert model.deviation[1] == 1.0
    x[:, 1] = 0.6
    seen = []
    model.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    model.trace(x=x)
    torch.testing.assert_close(seen[0][:, 1], torch.full_like(x[:, 1], 0.5))
    assert seen[0].abs().max() < 5.0


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4, 4)], ids=["vectors", "images"])
def test_given_constants_are_those_of_channels(shape: tuple[int, ...]) -> None:
    model = NetworkClassifier.wrap(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), [], normalize=True).double()
    model.trace(x=torch.zeros(shape, dtype=torch.float64))
    x, plain = torch.rand(shape, dtype=torch.float64), NetworkClassifier.wrap(model.network, [])
    model.standardize([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    over = (1, 3, *[1] * (len(shape) - 2))
    mean, deviation = (torch.tensor(values).double().view(over) for values in ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]))
    expected = numbers(plain, (x - mean) / deviation)["logits"]
    torch.testing.assert_close(numbers(model, x)["logits"], expected)


def test_constants_are_read_in_the_model_s_precision() -> None:
    settings = {"hidden": 8, "image_size": 4, "channels": 3, "classes": 2}
    source, model = (NetworkClassifier("MLP", settings, normalize=True) for _ in range(2))
    model.double().load_state_dict(source.standardize([0.5] * 3, [2.0] * 3).state_dict())
    assert model.mean.dtype == torch.float64
    assert model.mean.tolist() == [0.5] * 3


def test_autocast_gives_low_precision_features_and_trains() -> None:
    model = wide()
    with torch.autocast("cpu", torch.bfloat16):
        trace = model.trace(x=images())
    assert trace["h[0]"].value.dtype == torch.bfloat16
    assert trace["y"].distribution.logits.dtype == torch.float32
    torch.testing.assert_close(trace["h[3]"].value.float(), model.trace(x=images())["h[3]"].value, rtol=0.1, atol=0.1)

    student = wide(1, width=1)
    before = [parameter.clone() for parameter in student.parameters()]
    objective = methods.transfer(["h[*]:vid", "y:kd"])
    options, trainer = Training(steps=3, batch_size=8), TrainerOptions(accelerator="cpu", precision="bf16-mixed")
    history = fit(student, objective, options, teacher=model, data=rows(), trainer=trainer).history
    assert all(torch.isfinite(parameter).all() for parameter in student.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, student.parameters()))
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}
    assert history.rows


TWO = """
import sys, torch
from limbeck import methods
from limbeck.engine.training.fit import fit
from limbeck.engine.settings.options import TrainerOptions, Training
from tests.models.wrapped.wrapped_networks import rows, wide

student = wide(1, width=1)
trainer = TrainerOptions(accelerator="cpu", devices=int(sys.argv[1]), strategy=sys.argv[2])
options = Training(steps=3, batch_size=8, optimizer="sgd", learning_rate=0.01)
# Both processes' batch norms would see other rows than one process's: in eval mode they see none.
student.train = lambda mode=True: student
found = fit(student, methods.transfer(["h[*]:at", "y:kd"]), options, teacher=wide(), data=rows(), trainer=trainer)
if torch.distributed.is_initialized() and torch.distributed.get_rank():
    sys.exit()
torch.save(student.state_dict(), sys.argv[3])
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    (tmp_path / "train.py").write_text(TWO)
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    for count, strategy in ((1, "auto"), (2, "ddp")):
        words = [sys.executable, "train.py", str(count), strategy, f"{count}.pt"]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2))
    start = wide(1, width=1).state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-4, atol=1e-5, msg=name)
    assert not torch.equal(one["network.first.weight"], start["network.first.weight"])


class TestPrepared:
    @pytest.mark.parametrize("width", [1, 2])
    def test_features_are_those_of_the_teacher(self, width: int) -> None:
        """At width 2 the first convolution, a feature, is all that a batch norm reads."""
        model, x = wide(width=width), images()
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        for example in (x, None):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                prepared = limbeck.prepare(model, example)
            assert sum(isinstance(module, nn.BatchNorm2d) for module in prepared.modules()) <= norms - 3
            assert_close(numbers(model, x), numbers(prepared, x))
        assert hooks(prepared) == 0

    def test_a_norm_whose_convolution_is_no_feature_is_folded(self) -> None:
        torch.manual_seed(0)
        model = NetworkClassifier("ConvNet", {"widths": [3, 4], "channels": 1, "classes": 4}).eval()
        inside = NetworkClassifier.wrap(copy.deepcopy(model.network), ["blocks.0.conv"]).eval()
        count = [
            sum(isinstance(module, nn.BatchNorm2d) for module in limbeck.prepare(one, images()).modules())
            for one in (model, inside)
        ]
        assert count == [0, 1]
        assert_close(numbers(inside, images()), numbers(limbeck.prepare(inside, images()), images()))


def test_saving_needs_to_know_how_it_was_built(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Small was built outside, .* network='package\.module:name'"):
        small().save_pretrained(tmp_path)
    told = NetworkClassifier.wrap(
        Small(5), {"h": "first"}, network=f"{Small.__module__}:Small", settings={"width": 5}
    ).eval()
    told.save_pretrained(tmp_path)
    for cls in (DGM, NetworkClassifier):
        assert_close(numbers(told, images()), numbers(cls.from_pretrained(tmp_path), images()))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: small(["frist"]), r"Small has no module 'frist'; near: first"),
        (lambda: small(["blocks.2"]), r"no module 'blocks.2'; near: blocks.\d, blocks.\d"),
        (lambda: small([""]), r"no module ''; it has: fc, first, blocks"),
        (lambda: NetworkClassifier.wrap(Small(), penultimate="fx"), "no module 'fx'; near: fc"),
        (lambda: NetworkClassifier("WideResNet", WRN, features=["groups.3"]), "near: groups"),
        (lambda: small({"y": "first"}), r"cannot be called 'y'.* features=\{'h': 'first'\}"),
        (lambda: small({"logits": "first"}), "cannot be called 'logits'"),
        (lambda: NetworkClassifier("WideResnet", {}), "no network 'WideResnet'; .*WideResNet"),
        (lambda: NetworkClassifier("WideResNet", {"width": 1}), "does not take these settings: .*depth"),
    ],
)
def test_what_cannot_be_built_is_refused(build, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build()


def test_something_to_classify_is_needed() -> None:
    with pytest.raises(ModelError, match="needs something to classify"):
        small().trace(3)


def test_sites_that_are_not_kept_are_declared() -> None:
    trace = wide().trace(x=images(), keep=lambda name, kind: KEEP_DISTRIBUTION if name == "y" else KEEP_NOTHING)
    assert list(trace) == ["y"]
    assert list(trace.declared) == ["h[0]", "h[1]", "h[2]", "h[3]", "penultimate", "logits", "y"]
