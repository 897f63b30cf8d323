"""The KL between categorical laws, from their log-probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as D

from limbeck.core.divergence.categorical import categorical_kl
from limbeck.errors import DivergenceError


def test_is_that_of_torch() -> None:
    p, q = (torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(seed)).double() for seed in (0, 1))
    expected = D.kl_divergence(D.Categorical(logits=p), D.Categorical(logits=q))
    found = categorical_kl(p.log_softmax(-1), q.log_softmax(-1))
    torch.testing.assert_close(found, expected)
    assert torch.equal(categorical_kl(p.log_softmax(-1), q.log_softmax(-1), p.log_softmax(-1).exp()), found)


@pytest.mark.parametrize("impossible", [-torch.inf, -1000.0])
def test_impossible_categories_count_nothing_and_have_no_gradient(impossible: float) -> None:
    log_p = torch.tensor([[0.5, 0.5, 1.0]]).log() + torch.tensor([0.0, 0.0, impossible])
    log_q = torch.tensor([[0.25, 0.75, 0.0]]).log().requires_grad_()
    found = categorical_kl(log_p, log_q)
    torch.testing.assert_close(found, (0.5 * torch.tensor([2.0, 2 / 3]).log()).sum().reshape(1))
    found.backward()
    assert torch.equal(log_q.grad, torch.tensor([[-0.5, -0.5, 0.0]]))


def test_what_only_the_student_excludes_is_infinitely_wrong() -> None:
    assert categorical_kl(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]).log()).item() == torch.inf


def test_other_classes_are_refused() -> None:
    with pytest.raises(DivergenceError, match=r"3 categories .* the student 2"):
        categorical_kl(torch.zeros(4, 3), torch.zeros(4, 2))
