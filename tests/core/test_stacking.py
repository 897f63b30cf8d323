"""Laws of several sites as one: nothing that a divergence says may change."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as D

from limbeck.core.delta import Delta
from limbeck.core.divergence import kl, kl_monte_carlo, lp, wasserstein2
from limbeck.core.objective.comparison import Pair, compare
from limbeck.core.stacking import _PLAIN, given_parameters, stack, stacking_key
from limbeck.errors import DivergenceError

ROWS = 4


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(ROWS, *shape, dtype=torch.float64)


def mixture() -> D.MixtureSameFamily:
    tril = torch.eye(2, dtype=torch.float64) * normal(3, 1, 1).exp()
    parts = D.MultivariateNormal(normal(3, 2), scale_tril=tril)
    return D.MixtureSameFamily(D.Categorical(logits=normal(3)), parts)


# One of each class that the table names; the tests below fail if one is forgotten.
OF_CLASS = {
    D.Bernoulli: lambda: D.Bernoulli(logits=normal(3)),
    D.Beta: lambda: D.Beta(normal(3).exp(), normal(3).exp()),
    D.Categorical: lambda: D.Categorical(logits=normal(3, 5)),
    D.Cauchy: lambda: D.Cauchy(normal(3), normal(3).exp()),
    D.Exponential: lambda: D.Exponential(normal(3).exp()),
    D.Gamma: lambda: D.Gamma(normal(3).exp(), normal(3).exp()),
    D.Geometric: lambda: D.Geometric(logits=normal(3)),
    D.Laplace: lambda: D.Laplace(normal(3), normal(3).exp()),
    D.MultivariateNormal: lambda: D.MultivariateNormal(normal(2), torch.eye(2, dtype=torch.float64)),
    D.Normal: lambda: D.Normal(normal(3), normal(3).exp()),
    D.OneHotCategorical: lambda: D.OneHotCategorical(logits=normal(3, 5)),
    D.Poisson: lambda: D.Poisson(normal(3).exp()),
    D.StudentT: lambda: D.StudentT(normal(3).exp(), normal(3), normal(3).exp()),
    D.Uniform: lambda: D.Uniform(normal(3), normal(3).exp() + 9.0),
}
LAWS = {
    **{kind.__name__: make for kind, make in OF_CLASS.items()},
    "one-hot rows": lambda: D.OneHotCategorical(probs=normal(5).softmax(-1)),
    "one-hot event": lambda: D.Independent(D.OneHotCategorical(logits=normal(3, 5)), 1),
    "class probabilities": lambda: D.Categorical(probs=normal(3, 5).softmax(-1)),
    "normal": lambda: D.Normal(normal(3), normal(3).exp()),
    "fixed scale": lambda: D.Normal(normal(3), 0.3),
    "event": lambda: D.Independent(D.Laplace(normal(3, 2), 1.0), 2),
    "probabilities": lambda: D.Bernoulli(probs=normal(3).sigmoid()),
    "logits": lambda: D.Bernoulli(logits=normal(3)),
    "categories": lambda: D.Categorical(logits=normal(3, 5)),
    "student": lambda: D.StudentT(torch.tensor(4.0, dtype=torch.float64), normal(2), normal(2).exp()),
    "full covariance": lambda: D.MultivariateNormal(
        normal(2), covariance_matrix=torch.eye(2, dtype=torch.float64) * normal(1, 1).exp()
    ),
    "mixture": mixture,
    "feature": lambda: Delta(normal(3, 2), event_dim=1),
}


@pytest.mark.parametrize("make", LAWS.values(), ids=LAWS)
def test_the_rows_of_a_stack_are_the_rows_of_its_parts(make) -> None:
    torch.manual_seed(0)
    laws = [make() for _ in range(3)]
    assert len({stacking_key(law) for law in laws}) == 1
    assert stacking_key(laws[0]) is not None
    whole = stack(laws)
    assert type(whole) is type(laws[0])
    assert whole.batch_shape == (3 * ROWS, *laws[0].batch_shape[1:])
    values = [law.sample() for law in laws]
    expected = torch.cat([law.log_prob(value) for law, value in zip(laws, values, strict=True)])
    torch.testing.assert_close(whole.log_prob(torch.cat(values)), expected, rtol=1e-12, atol=1e-12)


def test_every_plain_class_is_tested_above() -> None:
    assert set(OF_CLASS) == set(_PLAIN)
    for kind, make in OF_CLASS.items():
        assert given_parameters(make())
        assert type(make()) is kind


@pytest.mark.parametrize("of", [D.Categorical, D.OneHotCategorical])
def test_other_numbers_of_classes_are_another_shape(of) -> None:
    few, many = (of(logits=normal(classes)) for classes in (3, 7))
    assert stacking_key(few) != stacking_key(many)
    assert stacking_key(of(logits=torch.zeros(4, 20_000))) is None  # not worth copying
    torch.manual_seed(5)
    sites = [Pair(f"y[{i}]", kl, 1.0, *(of(logits=normal(2 + i)) for _ in range(2))) for i in range(3)]
    (term,) = compare(sites).values()
    torch.testing.assert_close(term, sum(kl(s.teacher, s.student).mean() for s in sites))


def test_what_was_looked_at_before_makes_no_difference() -> None:
    """Torch keeps the other form of a parameter when it is first asked for."""
    torch.manual_seed(0)
    for make in (LAWS["logits"], LAWS["probabilities"], LAWS["full covariance"]):
        laws = [make(), make()]
        for law in laws:
            _ = law.variance, getattr(law, "probs", None), getattr(law, "precision_matrix", None)
            _ = getattr(law, "logits", None)
        value = torch.cat([law.sample() for law in laws])
        expected = torch.cat([law.log_prob(part) for law, part in zip(laws, value.split(ROWS), strict=True)])
        torch.testing.assert_close(stack(laws).log_prob(value), expected)


def test_laws_that_do_not_stack() -> None:
    base = D.Normal(normal(3), 1.0)
    others = [D.Normal(normal(2), 1.0), D.Independent(base, 1), D.Laplace(normal(3), 1.0), Delta(normal(3))]
    keys = [stacking_key(law) for law in (base, *others)]
    assert len(set(keys)) == len(keys)
    assert stacking_key(D.LogNormal(normal(3), 1.0)) is None
    assert stacking_key(D.Normal(torch.zeros(64, 3, 32, 32), 1.0)) is None  # not worth copying
    for shared in (torch.ones(3), torch.ones(1, 3)):  # one row of weights for all of a site
        assert stacking_key(D.MixtureSameFamily(D.Categorical(shared), base)) is None


def pairs(divergence, names, make=LAWS["normal"], **options) -> list[Pair]:
    return [Pair(name, divergence, 0.5, make(), make(), **options) for name in names]


@pytest.mark.parametrize("divergence", [kl, wasserstein2], ids=["kl", "wasserstein2"])
def test_terms_are_what_one_call_a_site_gives(divergence) -> None:
    torch.manual_seed(1)
    sites = pairs(divergence, ["z[0]", "y", "z[1]", "w"]) + pairs(divergence, ["z[2]"], LAWS["fixed scale"])
    terms = compare(sites)
    assert list(terms) == ["z[*]", "y", "w"]
    for name, term in terms.items():
        own = [pair for pair in sites if pair.name.startswith(name[0])]
        expected = sum(0.5 * divergence(pair.teacher, pair.student).mean() for pair in own)
        torch.testing.assert_close(term, expected, rtol=1e-12, atol=0.0)


def test_one_call_for_all_sites_of_a_shape() -> None:
    calls = []

    def counting(p, q):
        calls.append(p.batch_shape[0])
        return kl(p, q)

    compare(pairs(counting, [f"z[{t}]" for t in range(5)]))
    assert calls == [5 * ROWS]


def test_a_module_is_called_once_a_site() -> None:
    class Learned(torch.nn.Module):
        calls = 0

        def forward(self, p, q):
            self.calls += 1
            return kl(p, q)

    learned = Learned()
    compare(pairs(learned, ["z[0]", "z[1]"]))
    assert learned.calls == 2


def test_masked_rows_count_for_nothing_even_where_they_are_infinite() -> None:
    torch.manual_seed(2)
    masks = [torch.tensor([True, True, False, False]), torch.tensor([True, False, False, False])]
    sites = [*pairs(kl, ["z[0]"], mask=masks[0]), *pairs(kl, ["z[1]"], mask=masks[1])]
    for site in sites:
        site.student.loc[3] = torch.inf
    for group in (sites, sites[:1]):
        expected = sum(
            0.5 * kl(pair.teacher, pair.student)[mask].sum() / ROWS for pair, mask in zip(group, masks, strict=False)
        )
        (term,) = compare(group).values()
        torch.testing.assert_close(term, expected, rtol=1e-12, atol=0.0)


def test_a_divergence_that_mixes_rows_is_told() -> None:
    with pytest.raises(DivergenceError, match=r"z\[\*\].*one number a row"):
        compare(pairs(lambda p, q: kl(p, q)[:ROWS], ["z[0]", "z[1]"]))
    with pytest.raises(DivergenceError, match=r"'y'.*one number a row"):
        compare(pairs(lambda p, q: kl(p, q).mean(), ["y"]))


def test_estimates_stack_too() -> None:
    torch.manual_seed(3)
    sites = pairs(kl_monte_carlo, ["z[0]", "z[1]"], mixture)
    (mean,) = compare(sites).values()
    estimate = torch.stack([compare(sites)["z[*]"] for _ in range(2000)])
    assert torch.isfinite(mean)
    single = torch.stack([sum(0.5 * kl_monte_carlo(s.teacher, s.student).mean() for s in sites) for _ in range(2000)])
    error = (estimate.var() + single.var()).div(2000).sqrt()
    assert abs(estimate.mean() - single.mean()) < 4 * error


def test_features_stack() -> None:
    torch.manual_seed(4)
    sites = pairs(lp, ["h[0]", "h[1]"], LAWS["feature"])
    (term,) = compare(sites).values()
    torch.testing.assert_close(term, sum(0.5 * lp(s.teacher, s.student).mean() for s in sites))
