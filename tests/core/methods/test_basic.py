"""Surrogate, local, joint and scratch against the papers' formulas, written out here by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.core.divergence import kl
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError
from tests.core.methods.formulas import DOUBLE, engine, kl_bits, kl_classes, kl_normal, linear_pair, two_levels
from tests.exact import gaussian_kl
from tests.small_models import Mixed, seeded
from tests.zoo import BY_NAME, inputs


def ladder_conditional(model, level: int, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of p(z_level | z_{level + 1}): softplus(raw) / ln 2 + 1e-6 ([U] F.1)."""
    mean, raw = model.top_down[level](z).chunk(2, 1)
    return mean, torch.log1p(torch.exp(raw)) / math.log(2.0) + 1e-6


@pytest.mark.parametrize("seed", [0, 1])
def test_surrogate_of_the_ladder_vae_is_algorithm_1(seed: int) -> None:
    teacher, student = BY_NAME["ladder"].pair(seed, DOUBLE)
    student.eval()
    rows, weight, scale = 6, 0.3, teacher.output_scale
    loss = methods.surrogate(latent_weight=weight)(teacher, student, batch_size=rows, generator=seeded())

    generator = seeded()  # Algorithm 1, with the root's prior the same on both sides
    with torch.no_grad():
        z_t = z_s = torch.randn(rows, 2, 1, 1, generator=generator, dtype=DOUBLE)
        latent = {"z3": torch.zeros((), dtype=DOUBLE)}
        for level, size in ((2, 2), (1, 4)):
            (m_t, s_t), (m_s, s_s) = ladder_conditional(teacher, level, z_t), ladder_conditional(student, level, z_s)
            squared = (m_t - m_s) ** 2 + (s_t - s_s) ** 2  # squared 2-Wasserstein of Gaussians on the line
            latent[f"z{level}"] = weight * squared.reshape(rows, -1).sum(1).mean() / (2 * size * size)  # line 9
            eps = torch.randn(rows, 2, size, size, generator=generator, dtype=DOUBLE)  # line 10
            z_t, z_s = m_t + s_t * eps, m_s + s_s * eps  # lines 11, 12
        squared = (teacher.top_down[0](z_t) - student.top_down[0](z_s)) ** 2
        target = (squared / (2 * scale**2)).reshape(rows, -1).sum(1).mean()  # line 14

    for name, term in latent.items():
        assert loss.terms[name].item() == pytest.approx(term.item(), rel=1e-10, abs=1e-15)
    assert loss.terms["y"].item() == pytest.approx(target.item(), rel=1e-10)
    assert loss.total.item() == pytest.approx((target + sum(latent.values())).item(), rel=1e-10)


def test_local_of_the_ladder_vae_is_the_sum_of_its_divergences() -> None:
    teacher, student = BY_NAME["ladder"].pair(0, DOUBLE)
    student.eval()
    loss = methods.local()(teacher, student, batch_size=6, generator=seeded())
    generator = seeded()
    with torch.no_grad():
        z = torch.randn(6, 2, 1, 1, generator=generator, dtype=DOUBLE)
        total = 0.0
        for level, size in ((2, 2), (1, 4)):
            (m_t, s_t), (m_s, s_s) = ladder_conditional(teacher, level, z), ladder_conditional(student, level, z)
            total += kl_normal(m_t, s_t, m_s, s_s).sum().item() / 6
            z = m_t + s_t * torch.randn(6, 2, size, size, generator=generator, dtype=DOUBLE)
        squared = (teacher.top_down[0](z) - student.top_down[0](z)) ** 2
        total += (squared / (2 * teacher.output_scale**2)).sum().item() / 6
    assert loss.total.item() == pytest.approx(total, rel=1e-10)


def mixed_conditionals(model: Mixed, z2: Tensor) -> tuple[Tensor, Tensor]:
    mean, raw = model.z1(z2).chunk(2, 1)
    return mean, F.softplus(raw) + 0.1


def mixed_noise(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise in the order in which the program draws it."""
    generator = seeded()
    u = torch.rand(rows, 3, generator=generator, dtype=DOUBLE)
    eps = torch.randn(rows, 2, generator=generator, dtype=DOUBLE)
    gumbel = -torch.log(torch.empty(rows, 4, dtype=DOUBLE).exponential_(generator=generator))
    return u, eps, gumbel


@pytest.mark.parametrize("method", ["surrogate", "local"])
def test_both_methods_of_the_mixed_graph_are_their_formulas(method: str) -> None:
    teacher, student = BY_NAME["mixed"].pair(0, DOUBLE)
    rows, weight = 32, 0.7
    objective = methods.surrogate(latent_weight=weight) if method == "surrogate" else methods.local()
    loss = objective(teacher, student, batch_size=rows, generator=seeded())

    u, eps, gumbel = mixed_noise(rows)
    with torch.no_grad():
        terms = {"z2": kl_bits(teacher.logits, student.logits).sum()}
        z2_t, z2_s = ((u < torch.sigmoid(m.logits)).to(DOUBLE) for m in (teacher, student))
        if method == "surrogate":
            assert not torch.equal(z2_t, z2_s)  # else the test would not see which one is fed to whom
        else:
            z2_s = z2_t
        (m_t, s_t), (m_s, s_s) = mixed_conditionals(teacher, z2_t), mixed_conditionals(student, z2_s)
        z1_t, z1_s = m_t + s_t * eps, m_s + s_s * eps
        if method == "surrogate":
            terms["z1"] = ((m_t - m_s) ** 2 + (s_t - s_s) ** 2).mean(1).mean()
            terms = {name: weight * term for name, term in terms.items()}
        else:
            terms["z1"] = kl_normal(m_t, s_t, m_s, s_s).sum(1).mean()
            z1_s = z1_t
        terms["y1"] = kl_classes(teacher.y1(z1_t), student.y1(z1_s)).mean()
        y1 = F.one_hot((torch.log_softmax(teacher.y1(z1_t), -1) + gumbel).argmax(1), 4).to(DOUBLE)  # the teacher's
        means = [m.y2(torch.cat([z, y1], 1)) for m, z in ((teacher, z1_t), (student, z1_s))]
        terms["y2"] = kl_normal(means[0], teacher.y2_scale.exp(), means[1], student.y2_scale.exp()).sum(1).mean()

    assert loss.terms.keys() == terms.keys()
    for name, term in terms.items():
        assert loss.terms[name].item() == pytest.approx(term.item(), rel=1e-10), name
    assert loss.total.item() == pytest.approx(sum(terms.values()).item(), rel=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("name", ["classifier", "ladder"])
def test_joint_is_the_weighted_sum(name: str, alpha: float) -> None:
    entry = BY_NAME[name]
    teacher, student = entry.pair()
    student.eval()  # a loss in train mode would move the batch norm between the two
    batch = entry.data(8)

    def our() -> Tensor:
        return methods.surrogate(0.1)(teacher, student, batch_size=8, x=batch.x, generator=seeded()).total

    torch.manual_seed(0)
    loss = methods.joint(alpha, methods.surrogate(0.1))(teacher, student, batch=batch, progress=0.4,
                                                        generator=seeded())  # fmt: skip
    torch.manual_seed(0)
    expected = (1 - alpha) * student.loss(batch, progress=0.4).total + alpha * our()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert any(term.startswith("train/") for term in loss.terms) is (alpha < 1)


def test_joint_keeps_the_weight_of_the_objective_it_is_given() -> None:
    teacher, student = BY_NAME["classifier"].pair()
    student.eval()
    batch = BY_NAME["classifier"].data(8)
    terms = []
    for weight in (1.0, 3.0):
        inner = Objective([Match(kind=Kind.TARGET)], weight=weight)
        terms.append(methods.joint(0.5, inner)(teacher, student, batch=batch, generator=seeded()).terms["y"])
    assert terms[1].item() == pytest.approx(3 * terms[0].item(), rel=1e-6)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(MatchError, match=r"\[0, 1\]"):
        methods.joint(alpha)


def test_joint_refuses_an_objective_that_trains_on_data_already() -> None:
    objective = methods.scratch()
    for _ in range(3):  # on its own, in a sum, in a sum of sums
        with pytest.raises(MatchError, match="loss on data itself"):
            methods.joint(0.5, objective)
        objective = methods.combined({"one": methods.surrogate(), "more": objective})


def test_scratch_is_the_students_own_loss() -> None:
    student = BY_NAME["ladder"].pair()[1].eval()
    batch = BY_NAME["ladder"].data(4)
    torch.manual_seed(0)
    expected = student.loss(batch, progress=0.2)
    torch.manual_seed(0)
    loss = methods.scratch()(None, student, batch=batch, progress=0.2)
    assert torch.equal(loss.total, expected.total)
    assert loss.terms.keys() == expected.terms.keys()


def test_scratch_needs_a_batch() -> None:
    student = BY_NAME["ladder"].pair()[1]
    with pytest.raises(MatchError, match="batch"):
        methods.scratch()(None, student, batch_size=4)


def test_without_latents_the_surrogate_is_vanilla_distillation() -> None:
    teacher, student = BY_NAME["features"].pair(0, DOUBLE)
    student.eval()
    x = inputs(9, DOUBLE)
    loss = methods.surrogate()(teacher, student, x=x)
    with torch.no_grad():
        expected = kl_classes(*(m.head(m.body(x)) for m in (teacher, student))).mean()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-10)
    assert list(loss.terms) == ["y"]


def test_a_fully_visible_model_gives_sequence_level_distillation() -> None:
    """[U] Eq. 3: sum over steps of KL(p_T(y_t | y_<t) || p_S(y_t | y_<t)), both on the teacher's prefix."""
    nodes = [["a", "target", 1, []], ["b", "target", 1, ["a"]], ["c", "target", 1, ["a", "b"]]]
    teacher, student = linear_pair(nodes, 2)
    exact = gaussian_kl(teacher.joint("target"), student.joint("target"))
    mean, error = engine(methods.surrogate(), teacher, student)
    assert abs(mean - exact) < 5 * error
    assert error < 0.05 * exact


def test_a_temperature_comes_in_through_the_divergence() -> None:
    teacher, student = BY_NAME["features"].pair(0, DOUBLE)
    student.eval()
    x = inputs(9, DOUBLE)
    loss = methods.surrogate(target=lambda p, q: kl(p, q, temperature=2.0))(teacher, student, x=x)
    with torch.no_grad():
        expected = 4 * kl_classes(*(m.head(m.body(x)) / 2 for m in (teacher, student))).mean()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-10)


def test_the_batch_tells_x_and_the_number_of_rows() -> None:
    teacher, student = BY_NAME["classifier"].pair()
    student.eval()
    x = inputs(6)
    given = methods.surrogate()(teacher, student, x=x, generator=seeded()).total
    told = methods.surrogate()(teacher, student, batch=Batch(y=torch.zeros(6), x=x), generator=seeded()).total
    assert torch.equal(given, told)


def seven(p: Distribution, q: Distribution) -> Tensor:
    return torch.full(p.batch_shape[:1], 7.0)


@pytest.mark.parametrize(
    ("objective", "wanted"),
    [
        (methods.surrogate(0.5, target=seven), {"y": 7.0}),
        (methods.surrogate(0.5, latent=seven), {"z1": 3.5, "z2": 3.5}),
        (methods.surrogate(0.5, posterior_weight=2.0, posterior=seven), {"z1|y": 14.0, "z2|y": 14.0}),
        (methods.surrogate(0.5, reconstruction_weight=2.0, target=seven), {"y": 7.0, "y|y": 14.0}),
        (methods.local(target=seven), {"y": 7.0}),
        (methods.local(latent=seven, latent_weight=0.5), {"z1": 3.5, "z2": 3.5}),
    ],
    ids=["target", "latent", "posterior", "reconstruction", "local target", "local latent"],
)
def test_each_divergence_compares_sites_of_its_kind(objective: Objective, wanted: dict[str, float]) -> None:
    terms = objective(two_levels(0), two_levels(1), batch_size=3).terms
    assert {name: term.item() for name, term in terms.items() if term.item() in (3.5, 7.0, 14.0)} == wanted
    assert {"y", "z1", "z2"} <= set(terms)


def test_own_bound_weight_adds_the_students_own_bound() -> None:
    teacher, student = (two_levels(seed) for seed in (0, 1))
    torch.manual_seed(3)
    loss = methods.surrogate(0.1, own_bound_weight=0.25)(teacher, student, batch_size=4)
    torch.manual_seed(3)
    plain = methods.surrogate(0.1)(teacher, student, batch_size=4)
    torch.manual_seed(3)
    y = teacher.trace(4).targets["y"].detach()
    for name, term in plain.terms.items():
        torch.testing.assert_close(loss.terms[name], term)
    assert set(loss.terms) - set(plain.terms) == {"replay/y", "replay/z1", "replay/z2"}
    own = [student.loss(Batch(y)).terms["y"].item() for _ in range(100)]  # the code is drawn anew
    assert min(own) < 4.0 * loss.terms["replay/y"].item() < max(own)
    half = methods.joint(0.5, methods.surrogate(0.1, own_bound_weight=0.25))
    assert half.replay_weight == 0.125
