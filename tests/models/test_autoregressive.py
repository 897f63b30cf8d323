"""The recurrent language model: one law, computed step by step and all at once."""

from __future__ import annotations

import itertools

import pytest
import torch

from limbeck.core.loss import Batch
from limbeck.core.trace import Kind
from limbeck.engine.settings.options import Training
from limbeck.engine.training.fit import fit
from limbeck.errors import ModelError
from limbeck.methods import scratch
from limbeck.models import Autoregressive


def built(**arguments: int) -> Autoregressive:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoregressive(**arguments).double()


def data(rows: int, length: int, tokens: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(tokens, (rows, length), generator=generator)
    return y, torch.randn(rows, inputs, generator=generator, dtype=torch.float64) if inputs else None


@pytest.mark.parametrize("inputs", [0, 3])
def test_step_by_step_is_all_at_once(inputs: int) -> None:
    model = built(length=5, tokens=4, inputs=inputs, width=6, embedding=2)
    y, x = data(7, 5, 4, inputs)
    trace = model.trace(7, x, values={f"y[{t}]": y[:, t] for t in range(5)})
    drawn = model.trace(7, x, values={f"y[{t}]": y[:, t] for t in range(4)})  # the last is drawn: one step at a time
    for found in (trace, drawn):
        steps = torch.stack([found[f"y[{t}]"].distribution.logits for t in range(5)], dim=1)
        torch.testing.assert_close(steps, torch.log_softmax(model.logits(y, x), -1), rtol=0, atol=1e-12)
    assert model.loss(Batch(y, x)).total.item() == pytest.approx(-trace.log_prob(Kind.TARGET).mean().item(), rel=1e-12)


def test_given_tokens_take_one_call_of_the_recurrence() -> None:
    model, calls = built(length=5, tokens=4), []
    model.recurrence.register_forward_hook(lambda *_: calls.append(1))
    y, _ = data(7, 5, 4, 0)
    model.trace(7, values={f"y[{t}]": y[:, t] for t in range(5)})
    assert len(calls) == 1
    model.trace(7)
    assert len(calls) == 1 + 5


def test_probabilities_of_all_sequences_sum_to_one() -> None:
    model = built(length=3, tokens=3, width=4)
    y = torch.tensor(list(itertools.product(range(3), repeat=3)))
    log_p = torch.log_softmax(model.logits(y), -1).gather(2, y[:, :, None]).sum((1, 2))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert log_p.std() > 0.01


def test_a_token_sees_those_before_it_only() -> None:
    model = built(length=4, tokens=3, width=4)
    y = torch.zeros(1, 4, dtype=torch.int64)
    other = y.clone()
    other[0, 2] = 1
    changed = (model.logits(y) != model.logits(other)).any(-1)
    assert changed.tolist() == [[False, False, False, True]]


def test_it_learns_a_rule() -> None:
    """The sequence counts up from the input: nothing is left to chance, so the loss goes to 0."""
    torch.manual_seed(0)
    start = torch.arange(5)
    y = (start[:, None] + torch.arange(4)) % 5
    x = torch.nn.functional.one_hot(start, 5).float()
    model = Autoregressive(4, 5, inputs=5, width=16, embedding=4)
    fit(model, scratch(), Training(steps=150, batch_size=20, learning_rate=0.02), data=Batch(y, x))
    assert model.loss(Batch(y, x)).total.item() < 0.1
    drawn = model.sample(x=x)
    assert torch.equal(torch.stack(list(drawn.values()), 1), y)


def test_refusals() -> None:
    model = built(length=3, tokens=4, inputs=2)
    with pytest.raises(ModelError, match=r"built for 3 tokens.*\(1, 2\)"):
        model.logits(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2))
    with pytest.raises(ModelError, match=r"needs x"):
        model.trace(2)
    with pytest.raises(ModelError, match=r"5 values, not inputs=2"):
        model.trace(x=torch.zeros(1, 5))
    for wrong in ({"length": 0, "tokens": 3}, {"length": 3, "tokens": 0}, {"length": 3, "tokens": 3, "inputs": -1}):
        with pytest.raises(ModelError, match=r"must"):
            Autoregressive(**wrong)
