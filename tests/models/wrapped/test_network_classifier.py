"""Any network as a graph: what its sites are, that nothing stays on it, and which networks do not fit."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck
from limbeck import methods
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.trace import KEEP_DISTRIBUTION, KEEP_NOTHING, Kind, keep_only
from limbeck.engine.settings.options import TrainerOptions, Training
from limbeck.engine.training.fit import fit
from limbeck.errors import ModelError
from limbeck.models import NetworkClassifier
from limbeck.models.wrapped.module_paths import penultimate_path

WRN = {"depth": 10, "width": 2, "channels": 1, "classes": 4}


class Small(nn.Module):
    """A network of a user's: an activation that is used twice, a list of blocks, a head that is not the last module."""

    def __init__(self, width: int = 3, inplace: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 4)
        self.first = nn.Conv2d(1, width, 3)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.relu = nn.ReLU(inplace=inplace)
        self.projection = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = self.relu(block(h))
        return self.fc(h.mean((2, 3)))


class Pair(Small):
    """One that returns, and has inside, what is not one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(3, 3, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h, _ = self.memory(self.first(x).flatten(2).transpose(1, 2))
        return {"logits": self.fc(h.mean(1))}


def images(rows: int = 5, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)


def wide(seed: int = 0, **settings: int) -> NetworkClassifier:
    """A network whose batch norms have seen something."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = NetworkClassifier("WideResNet", {**WRN, **settings})
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def narrow() -> NetworkClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NetworkClassifier("ConvNet", {"widths": [3, 4, 5], "channels": 1, "classes": 4}).eval()


def small(features: object = ("first",), **settings: object) -> NetworkClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NetworkClassifier.wrap(Small(**settings), features).eval()


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def numbers(model: NetworkClassifier, x: Tensor) -> dict[str, Tensor]:
    laws = {name: site.distribution for name, site in model.trace(x=x).items()}
    return {name: law.logits if name == "y" else law.value for name, law in laws.items()}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5, msg=name)


# --------------------------------------------------------------------------------------------------------- the graph


class ByKeyword(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(input=self.first(input=x).mean((2, 3)))


def test_layers_that_are_called_by_keyword() -> None:
    model = NetworkClassifier.wrap(ByKeyword(), ["first"]).eval()
    x = torch.randn(2, 1, 6, 6)
    trace = model.trace(x=x)
    torch.testing.assert_close(trace["penultimate"].value, trace["first"].value.mean((2, 3)))
    given = torch.ones(2, 3)
    assert torch.equal(model.trace(x=x, values={"penultimate": given})["y"].distribution.logits,
                       torch.log_softmax(model.network.fc(given), 1))  # fmt: skip


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


# ------------------------------------------------------------------------------------------------- nothing stays on it


class TestHooks:
    def test_gone_after_a_run(self) -> None:
        model = wide()
        model.trace(x=images())
        assert hooks(model) == 0

    @pytest.mark.parametrize("channels", [2, 1])
    def test_gone_after_an_exception(self, channels: int) -> None:
        model = small(["first", "relu"])  # with one channel, the second run of its ReLU is the error
        with pytest.raises((RuntimeError, ModelError)):
            model.trace(x=torch.zeros(2, channels, 8, 8))
        assert hooks(model) == 0

    def test_gone_if_they_cannot_be_put_on(self) -> None:
        model = small(["first", "blocks.1"])
        model.network.blocks = nn.ModuleList(model.network.blocks[:1])
        with pytest.raises(AttributeError):
            model.trace(x=images())
        assert hooks(model) == 0

    def test_there_are_none_while_only_the_loss_is_computed(self) -> None:
        model = small()
        found: list[int] = []
        model.network.fc.register_forward_hook(lambda module, given, output: found.append(hooks(model)))
        model.loss(Batch(torch.zeros(5, dtype=torch.long), images()))
        assert found == [1]

    def test_what_is_not_kept_is_not_held(self) -> None:
        model = wide()
        refs: list[weakref.ref] = []
        handle = model.network.groups[0].register_forward_hook(lambda m, given, out: refs.append(weakref.ref(out)))
        with torch.no_grad():
            trace = model.trace(x=images(), keep=keep_only("y"))
            kept = model.trace(x=images(), keep=keep_only("h[1]"))
        handle.remove()
        assert list(trace) == ["y"]
        assert [ref() is not None for ref in refs] == [False, True]
        assert torch.equal(kept["h[1]"].distribution.value, refs[1]())


class TestCompiled:
    """With torch's tracer, but without its code generator, which would take most of a minute."""

    @pytest.fixture(autouse=True)
    def fresh(self) -> None:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()

    def check(self, plain: NetworkClassifier, compiled: NetworkClassifier) -> None:
        for seed in range(3):
            assert_close(numbers(plain, images(seed=seed)), numbers(compiled, images(seed=seed)))
        for keep in (keep_only("y"), keep_only("h[2]")):  # and once more with everything kept
            one, other = (model.trace(x=images(), keep=keep) for model in (plain, compiled))
            assert list(one) == list(other)
            assert one.declared == other.declared
        assert_close(numbers(plain, images()), numbers(compiled, images()))
        torch.testing.assert_close(plain.network(images()), compiled.network(images()))
        assert hooks(compiled) == 0

    def test_network_in_place(self) -> None:
        plain, compiled = narrow(), narrow()
        compiled.network.compile(backend="aot_eager")
        self.check(plain, compiled)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1  # it was compiled at all

    def test_network_from_outside(self) -> None:
        plain = narrow()
        compiled = NetworkClassifier.wrap(torch.compile(copy.deepcopy(plain.network), backend="aot_eager"))
        self.check(plain, compiled)

    def test_one_graph_serves_all_runs(self) -> None:
        compiled = narrow()
        compiled.network.compile(backend="eager")
        for seed in range(12):
            compiled.trace(x=images(seed=seed))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1

    def test_function_around_a_run(self) -> None:
        model = narrow()
        compiled = torch.compile(lambda x: numbers(model, x), backend="aot_eager")
        for seed in (0, 1, 0):
            assert_close(numbers(model, images(seed=seed)), compiled(images(seed=seed)))
        assert hooks(model) == 0

    def test_gradients_of_features(self) -> None:
        models = [narrow().train(), narrow().train()]
        models[1].network.compile(backend="aot_eager")
        for model in models:
            trace = model.trace(x=images())
            (trace["h[1]"].value.square().mean() + trace["y"].distribution.logits.square().mean()).backward()
        for (name, one), other in zip(models[0].named_parameters(), models[1].parameters()):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6, msg=name)

    def test_nothing_is_held_after_a_run(self) -> None:
        model = narrow()
        model.network.compile(backend="eager")
        for seed in range(3):
            trace = model.trace(x=images(seed=seed))
        value = weakref.ref(trace["h[1]"].value)
        del trace
        gc.collect()
        assert value() is None


# ------------------------------------------------------------------------------------------------------------ training


def rows(count: int = 24) -> Batch:
    x = images(count)
    return Batch((4 * x[:, 0, 0, 0]).long(), x)


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
from tests.models.wrapped.test_network_classifier import rows, wide

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


# ----------------------------------------------------------------------------------------------------- a fast teacher


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


# --------------------------------------------------------------------------------------------------- saving, and names


def test_saving_needs_to_know_how_it_was_built(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Small was built outside, .* network='package\.module:name'"):
        small().save_pretrained(tmp_path)
    told = NetworkClassifier.wrap(Small(5), {"h": "first"}, network=f"{__name__}:Small", settings={"width": 5}).eval()
    told.save_pretrained(tmp_path)
    for cls in (DGM, NetworkClassifier):
        assert_close(numbers(told, images()), numbers(cls.from_pretrained(tmp_path), images()))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"fc": nn.Linear(2, 2), "projection": nn.Linear(2, 2)}, "fc"),
        ({"features": nn.Linear(2, 2), "classifier": nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))},
         "classifier.2"),
        ({"head": nn.Linear(2, 2), "body": nn.Linear(2, 2)}, "head"),
        ({"heads": nn.ModuleDict({"head": nn.Linear(2, 2)}), "tail": nn.Linear(2, 2)}, "heads.head"),
        ({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}, "b"),
        ({"classifier": nn.Conv2d(2, 2, 1), "before": nn.Linear(2, 2)}, "before"),
        ({"headless": nn.Linear(2, 2), "last": nn.Linear(2, 2)}, "last"),
        ({"classifier": nn.Conv2d(2, 2, 1)}, None),
    ],
)  # fmt: skip
def test_where_the_logits_come_from(parts: dict[str, nn.Module], expected: str | None) -> None:
    network = nn.Module()
    for name, module in parts.items():
        network.add_module(name, module)
    assert penultimate_path(network) == expected


def test_where_the_logits_come_from_in_a_user_s_network() -> None:
    model = small()
    assert model.penultimate == "fc"
    assert torch.equal(model.network.fc(model.trace(x=images())["penultimate"].value), model.network(images()))


# ----------------------------------------------------------------------------------------------------- what cannot work


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
def test_what_cannot_be_built(build, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: small(["relu"]), "module 'relu' runs more than once .* Small"),
        (lambda: small(["blocks"]), "module 'blocks' did not run, .* not a list of modules"),
        (lambda: small(["projection"]), "module 'projection' did not run"),
        (
            lambda: NetworkClassifier.wrap(Small(), penultimate="projection"),
            "'projection' did not run, .* 'penultimate'",
        ),
        (lambda: small(["blocks.0"], inplace=True), "output of the module 'blocks.0' is changed in place"),
        (lambda: NetworkClassifier.wrap(Pair(), ["memory"]), "module 'memory' returns a tuple"),
        (lambda: NetworkClassifier.wrap(Pair()), "Pair must return logits .* not a dict"),
        (lambda: NetworkClassifier.wrap(nn.Conv2d(1, 2, 3)), r"must return logits .* not shape \(5, 2, 6, 6\)"),
    ],
)
def test_networks_that_do_not_fit(model, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        model().trace(x=images())


def test_an_activation_that_changes_its_input_is_itself_a_feature() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 4))
    with torch.no_grad():
        value = NetworkClassifier.wrap(network, ["1"]).trace(x=images())["1"].value
    torch.testing.assert_close(value, network[:2](images()))
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, pytest.raises(ModelError, match="'0' is changed in place"):
            NetworkClassifier.wrap(network, ["0"]).trace(x=images())
    with torch.inference_mode():
        NetworkClassifier.wrap(network, ["1"]).trace(x=images())


def test_one_module_under_two_names() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    network.add_module("same", network[1])
    with pytest.raises(ModelError, match="runs more than once"):
        NetworkClassifier.wrap(network, ["same"]).trace(x=images())

    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = self.other = nn.Linear(64, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.other(x.flatten(1)).relu()

    trace = NetworkClassifier.wrap(Once(), {"a": "one", "b": "other"}).trace(x=images())
    assert torch.equal(trace["a"].value, trace["b"].value)


def test_nothing_to_classify() -> None:
    with pytest.raises(ModelError, match="needs something to classify"):
        small().trace(3)


def test_keeping_nothing() -> None:
    trace = wide().trace(x=images(), keep=lambda name, kind: KEEP_DISTRIBUTION if name == "y" else KEEP_NOTHING)
    assert list(trace) == ["y"]
    assert list(trace.declared) == ["h[0]", "h[1]", "h[2]", "h[3]", "penultimate", "logits", "y"]
