"""A wrapped network that torch compiles gives the same numbers, and holds nothing afterwards."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch

from limbeck.core.trace import keep_only
from limbeck.models import NetworkClassifier
from tests.models.wrapped.wrapped_networks import assert_close, hooks, images, narrow, numbers


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

    def test_a_network_compiled_in_place_gives_the_same(self) -> None:
        plain, compiled = narrow(), narrow()
        compiled.network.compile(backend="aot_eager")
        self.check(plain, compiled)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1  # it was compiled at all

    def test_a_network_compiled_outside_gives_the_same(self) -> None:
        plain = narrow()
        compiled = NetworkClassifier.wrap(torch.compile(copy.deepcopy(plain.network), backend="aot_eager"))
        self.check(plain, compiled)

    def test_one_graph_serves_all_runs(self) -> None:
        compiled = narrow()
        compiled.network.compile(backend="eager")
        for seed in range(12):
            compiled.trace(x=images(seed=seed))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1

    def test_a_compiled_function_around_a_run_gives_the_same(self) -> None:
        model = narrow()
        compiled = torch.compile(lambda x: numbers(model, x), backend="aot_eager")
        for seed in (0, 1, 0):
            assert_close(numbers(model, images(seed=seed)), compiled(images(seed=seed)))
        assert hooks(model) == 0

    def test_gradients_of_features_are_the_same(self) -> None:
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
