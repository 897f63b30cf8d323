"""What holds of every divergence: shapes, gradients, how rows are counted, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as D

from limbeck.core import divergence
from limbeck.core.delta import Delta
from limbeck.core.divergence import cross_entropy, kl, kl_monte_carlo, latent_default, wasserstein2
from limbeck.errors import DivergenceError
from tests.core.divergence.families import FAMILIES, by_rows, normal, tensors


def test_independent_makes_no_difference():
    p, q = normal(0), normal(1)
    expected = kl(p, q)
    for left, right in [
        (D.Independent(p, 1), D.Independent(q, 1)),
        (D.Independent(p, 1), q),
        (D.Independent(p, 2), D.Independent(D.Independent(q, 1), 1)),
    ]:
        for f in (kl, wasserstein2, latent_default):
            torch.testing.assert_close(f(left, right), f(p, q))
        torch.testing.assert_close(cross_entropy(left, right), expected + by_rows(p.entropy()))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
    st.floats(0.3, 5),
)
def test_kl_is_never_negative(a, b, temperature):
    p, q = torch.tensor([a]).double(), torch.tensor([b]).double()
    assert kl(D.Categorical(logits=p), D.Categorical(logits=q), temperature=temperature).item() >= -1e-9
    assert kl(D.Bernoulli(logits=p), D.Bernoulli(logits=q), temperature=temperature).item() >= -1e-9
    left, right = D.Normal(p, (p / 10).exp()), D.Normal(q, (q / 10).exp())
    assert kl(left, right).item() >= -1e-9
    assert wasserstein2(left, right).item() >= 0


def test_latent_default_chooses_by_the_kind_of_latent():
    """[U] App. F."""
    p, q = normal(0), normal(1)
    torch.testing.assert_close(latent_default(p, q), wasserstein2(p, q) / 3)
    p, q = FAMILIES["Bernoulli"](0), FAMILIES["Bernoulli"](1)
    torch.testing.assert_close(latent_default(p, q), kl(p, q))
    a, b = tensors(0, 2)
    torch.testing.assert_close(latent_default(Delta(a), Delta(b)), (a - b).square().mean(1))
    torch.testing.assert_close(latent_default(normal(0), normal(1), continuous=kl), kl(normal(0), normal(1)))
    with pytest.raises(DivergenceError, match="discrete"):
        latent_default(normal(0), p)


BINARY = {"kl": kl, "kl_monte_carlo": kl_monte_carlo, "wasserstein2": wasserstein2, "cross_entropy": cross_entropy}


@pytest.mark.parametrize("name", BINARY)
def test_gradients_reach_both_sides(name):
    function = BINARY[name]
    parameters = [t.requires_grad_() for t in tensors(0, 4)]

    def f(a, b, c, d):
        p, q = D.Normal(a, b.exp()), D.Normal(c, d.exp())
        if name == "kl_monte_carlo":
            return function(p, q, generator=torch.Generator().manual_seed(0))
        return function(p, q)

    assert torch.autograd.gradcheck(f, parameters)


MODULES = {"CRD", "FeatureDistance", "Learned", "LwF", "ObservationModel", "Regressor", "Trimmed", "VID"}
MAKERS = MODULES | {"decoupled_kl", "standardized_kl", "tempered_kl"}  # called with settings, they return a divergence


@pytest.mark.parametrize("name", sorted(set(divergence.__all__) - MAKERS))
def test_shape_errors_name_both_shapes(name):
    function = getattr(divergence, name)
    p, q = Delta(torch.zeros(4, 3)), D.Normal(torch.zeros(4, 2), 1.0)
    with pytest.raises(DivergenceError, match=r"Delta.*\(4, 3\).*Normal.*\(4, 2\)"):
        function(p, q)
    with pytest.raises(DivergenceError, match="no batch dimension"):
        function(D.Normal(0.0, 1.0), D.Normal(0.0, 1.0))


def test_a_batch_hidden_in_a_multivariate_event_is_refused():
    p = D.MultivariateNormal(torch.zeros(3), torch.eye(3))
    with pytest.raises(DivergenceError, match="batch dimension"):
        kl(p, p)


def test_normalize_counts_all_dimensions_but_the_batch():
    a, b = tensors(0, 2, (4, 3, 8, 8))
    p, q = D.Normal(a, torch.ones_like(a)), D.Normal(b, torch.ones_like(b))
    for f in (kl, wasserstein2, cross_entropy):
        torch.testing.assert_close(f(p, q, normalize=True), f(p, q) / 192)
        torch.testing.assert_close(f(D.Independent(p, 3), D.Independent(q, 3), normalize=True), f(p, q) / 192)


def test_one_number_per_row_needs_no_other_dimension():
    p, q = D.Normal(torch.zeros(4), 1.0), D.Normal(torch.ones(4), 1.0)
    torch.testing.assert_close(kl(p, q, normalize=True), torch.full((4,), 0.5))
