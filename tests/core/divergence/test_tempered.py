"""The tempered KL is the KL at that temperature, and a recipe can name it."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from limbeck.cli.parsing import instantiate, new_parser, parse
from limbeck.core.delta import Delta
from limbeck.core.objective import Divergence
from limbeck.divergence import kl, tempered_kl
from limbeck.errors import DivergenceError


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_against_the_formula(temperature: float) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 3, dtype=torch.float64)
    p, q = torch.softmax(a / temperature, 1), torch.softmax(b / temperature, 1)
    expected = temperature**2 * (p * (p / q).log()).sum(1)
    torch.testing.assert_close(tempered_kl(temperature)(Categorical(logits=a), Categorical(logits=b)), expected)
    p, q = (torch.sigmoid(side[:, 0] / temperature) for side in (a, b))
    expected = temperature**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    torch.testing.assert_close(tempered_kl(temperature)(Bernoulli(logits=a[:, 0]), Bernoulli(logits=b[:, 0])), expected)


def test_deterministic_sites_are_logits() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 3, dtype=torch.float64)
    expected = tempered_kl(4.0)(Categorical(logits=a), Categorical(logits=b))
    torch.testing.assert_close(tempered_kl(4.0)(Delta(a), Delta(b)), expected)
    torch.testing.assert_close(tempered_kl(4.0)(Categorical(logits=a), Delta(b)), expected)
    torch.testing.assert_close(tempered_kl(4.0)(Delta(a), Categorical(logits=b)), expected)
    with pytest.raises(DivergenceError, match=r"3 classes.*2.*lwf"):
        tempered_kl(4.0)(Delta(a), Delta(b[:, :2]))


def test_a_recipe_can_name_it(tmp_path) -> None:
    (tmp_path / "part.yaml").write_text(
        "target: {class_path: limbeck.divergence.tempered_kl, init_args: {temperature: 3.0}}"
    )
    parser = new_parser("test", "")
    parser.add_argument("--config", action="config")
    parser.add_argument("--target", type=Divergence, default=kl)
    built = instantiate(parser, parse(parser, ["--config", str(tmp_path / "part.yaml")])).target
    p, q = Categorical(logits=torch.tensor([[1.0, 0.0]])), Categorical(logits=torch.tensor([[0.0, 2.0]]))
    assert built(p, q).item() == pytest.approx(kl(p, q, temperature=3.0).item())


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperatures_are_positive(temperature: float) -> None:
    with pytest.raises(DivergenceError, match="must be positive"):
        tempered_kl(temperature)


def test_other_laws_have_no_temperature() -> None:
    law = Normal(torch.zeros(2), 1.0)
    with pytest.raises(DivergenceError, match="temperature"):
        tempered_kl(2.0)(law, law)
