"""What modules of a network return, taken on the way: nothing stays on it, and some networks do not fit."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn

from limbeck.core.loss import Batch
from limbeck.core.trace import keep_only
from limbeck.errors import ModelError
from limbeck.models import NetworkClassifier
from tests.models.wrapped.wrapped_networks import Pair, Small, hooks, images, small, wide


class ByKeyword(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(input=self.first(input=x).mean((2, 3)))


def test_layers_may_be_called_by_keyword() -> None:
    model = NetworkClassifier.wrap(ByKeyword(), ["first"]).eval()
    x = torch.randn(2, 1, 6, 6)
    trace = model.trace(x=x)
    torch.testing.assert_close(trace["penultimate"].value, trace["first"].value.mean((2, 3)))
    given = torch.ones(2, 3)
    again = model.trace(x=x, values={"penultimate": given})
    assert torch.equal(again["logits"].value, model.network.fc(given))
    torch.testing.assert_close(again["y"].distribution.logits, model.network.fc(given).log_softmax(1))


class TestHooks:
    def test_hooks_are_gone_after_a_run(self) -> None:
        model = wide()
        model.trace(x=images())
        assert hooks(model) == 0

    @pytest.mark.parametrize("channels", [2, 1])
    def test_hooks_are_gone_after_an_exception(self, channels: int) -> None:
        model = small(["first", "relu"])  # with one channel, the second run of its ReLU is the error
        with pytest.raises((RuntimeError, ModelError)):
            model.trace(x=torch.zeros(2, channels, 8, 8))
        assert hooks(model) == 0

    def test_hooks_are_gone_if_they_cannot_be_put_on(self) -> None:
        model = small(["first", "blocks.1"])
        model.network.blocks = nn.ModuleList(model.network.blocks[:1])
        with pytest.raises(AttributeError):
            model.trace(x=images())
        assert hooks(model) == 0

    def test_there_are_no_hooks_while_only_the_loss_is_computed(self) -> None:
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
def test_networks_that_do_not_fit_are_refused(model, words: str) -> None:
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


def test_a_module_under_two_names_is_one() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64))
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


class Odd(nn.Module):
    """Its last linear layer runs as often as it is told, and its logits come from something else."""

    def __init__(self, times: int, inplace: bool = False) -> None:
        super().__init__()
        self.times, self.inplace = times, inplace
        self.head = nn.Parameter(torch.randn(3, 64))
        self.block = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = 1.0 * x.flatten(1)
        for _ in range(self.times):
            x = x.add_(self.block(x)) if self.inplace else self.block(x)
        return x @ self.head.T


@pytest.mark.parametrize(("settings", "words"), [((0,), "did not run"), ((2,), "more than once"),
                                                 ((1, True), "the input of .* changed in place")])  # fmt: skip
def test_a_last_layer_that_nobody_named(settings: tuple[int, ...], words: str) -> None:
    """It is a site where it can be one, and no obstacle where not."""
    network = Odd(*settings)
    with torch.no_grad():
        trace = NetworkClassifier.wrap(network).trace(x=images())
        assert list(trace) == ["logits", "y"]
        assert torch.equal(trace["logits"].value, network(images()))
        with pytest.raises(ModelError, match=words):
            NetworkClassifier.wrap(network, penultimate="block").trace(x=images())
    assert list(NetworkClassifier.wrap(Odd(1)).trace(x=images())) == ["penultimate", "logits", "y"]


def test_a_network_that_is_one_linear_layer() -> None:
    model = NetworkClassifier.wrap(nn.Linear(64, 4))
    x = images().flatten(1)
    trace = model.trace(x=x)
    assert torch.equal(trace["penultimate"].value, x)
    other = NetworkClassifier.wrap(nn.Linear(64, 3))
    other.start_from(model)  # all but its last layer, which is all of it
    with pytest.raises(ModelError, match="cannot start from"):
        NetworkClassifier.wrap(nn.Linear(8, 3)).start_from(NetworkClassifier.wrap(nn.Sequential(nn.Linear(8, 3))))
