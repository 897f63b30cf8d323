"""Distillation of sequences against the formulas of Kim and Rush, and against enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.errors import MatchError
from tests.core.methods.drawn_models import EXACT, conditionals, normal, writers
from tests.core.methods.formulas import DOUBLE
from tests.small_models import seeded


@torch.no_grad()
def test_sequence_level_is_equation_3() -> None:
    teacher, student = writers()
    x = normal(6, 2)
    loss = methods.sequence_level()(teacher, student, x=x, generator=seeded())

    generator = seeded()
    gumbel = [-torch.empty(6, 4, dtype=DOUBLE).exponential_(generator=generator).log() for _ in range(3)]
    total, drawn = 0.0, set()
    for row in range(6):
        tokens: list[int] = []
        for step in range(3):  # y_<j is a sample of the teacher
            law = conditionals(teacher, x[row], [*tokens, 0])[step]
            tokens.append(int((law.log() + gumbel[step][row]).argmax()))
        drawn.add(tuple(tokens))
        for p, q in zip(conditionals(teacher, x[row], tokens), conditionals(student, x[row], tokens), strict=True):
            total += (p * (p / q).log()).sum().item()
    assert len(drawn) > 2
    assert loss.total.item() == pytest.approx(total / 6, **EXACT)
    assert list(loss.terms) == ["y[*]"]


@torch.no_grad()
def test_sequence_level_estimates_the_kl_of_whole_sequences() -> None:
    teacher, student = writers()
    x = normal(1, 2)
    exact = 0.0
    for tokens in itertools.product(range(4), repeat=3):
        p, q = (
            math.prod(law[token].item() for law, token in zip(conditionals(m, x[0], list(tokens)), tokens))
            for m in (teacher, student)
        )
        exact += p * math.log(p / q)
    generator, objective = seeded(), methods.sequence_level()
    repeated = x.expand(2000, 2)
    losses = torch.stack([objective(teacher, student, x=repeated, generator=generator).total for _ in range(20)])
    error = losses.std().item() / math.sqrt(20)
    assert 0 < error < 0.02 * exact
    assert abs(losses.mean().item() - exact) < 5 * error


@torch.no_grad()
def test_sequence_mode_is_the_likelihood_of_the_most_probable_sequence() -> None:
    teacher, student = writers()
    x = normal(5, 2)
    loss = methods.sequence_mode(beam_size=64)(teacher, student, x=x)  # as many as there are sequences: exact
    total = 0.0
    for row in range(5):
        every = list(itertools.product(range(4), repeat=3))
        probability = [
            math.prod(law[token].item() for law, token in zip(conditionals(teacher, x[row], list(tokens)), tokens))
            for tokens in every
        ]
        mode = list(every[max(range(len(every)), key=probability.__getitem__)])
        laws = conditionals(student, x[row], mode)
        total -= sum(math.log(law[token].item()) for law, token in zip(laws, mode, strict=True))
    assert loss.total.item() == pytest.approx(total / 5, **EXACT)


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (2.0, 1.0)])
def test_word_level_is_the_formula_of_kim_and_rush(temperature: float, alpha: float) -> None:
    teacher, student = writers()
    y, x = torch.tensor([[0, 1, 2], [3, 3, 0], [2, 0, 1]]), normal(3, 2)
    loss = methods.word_level(temperature, alpha)(teacher, student, batch=Batch(y, x))
    soft = hard = 0.0
    for row in range(3):
        taught, learned = (conditionals(model, x[row], y[row].tolist()) for model in (teacher, student))
        for p, q, token in zip(taught, learned, y[row].tolist(), strict=True):
            hard -= q[token].log().item() / 3
            p, q = ((law.log() / temperature).softmax(0) for law in (p, q))
            soft += temperature**2 * (p * (p / q).log()).sum().item() / 3
    assert loss.total.item() == pytest.approx(alpha * soft + (1 - alpha) * hard, **EXACT)


def test_word_level_needs_sequences() -> None:
    teacher, student = writers()
    with pytest.raises(MatchError, match=r"rows of data, but there are none"):
        methods.word_level(alpha=1.0)(teacher, student, x=normal(3, 2))
    with pytest.raises(MatchError, match=r"one column a target.*\(3,\)"):
        methods.word_level(alpha=1.0)(teacher, student, batch=Batch(torch.zeros(3, dtype=torch.int64), normal(3, 2)))
