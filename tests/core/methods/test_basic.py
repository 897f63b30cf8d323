"""The methods against the papers' formulas, written out here by hand, and the proposition they rest on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.core.coupling import IndependentNoise
from limbeck.core.divergence import kl, kl_monte_carlo
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError
from limbeck.models import LadderVAE
from limbeck.models.gaussians import gaussian, precision_weighted
from tests.zoo import (
    BRANCH,
    BY_NAME,
    CHAIN,
    Bits,
    LinearGaussian,
    Mixed,
    exact_bits_surrogate,
    exact_gap,
    exact_surrogate,
    gaussian_kl,
    inputs,
)

DOUBLE = torch.float64


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kl_normal(m1: Tensor, s1: Tensor, m2: Tensor, s2: Tensor) -> Tensor:
    """KL(N(m1, s1^2) || N(m2, s2^2)), elementwise, as every textbook has it."""
    return torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


def kl_bits(logits1: Tensor, logits2: Tensor) -> Tensor:
    p, q = torch.sigmoid(logits1), torch.sigmoid(logits2)
    return p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))


def kl_classes(logits1: Tensor, logits2: Tensor) -> Tensor:
    p, q = torch.softmax(logits1, -1), torch.softmax(logits2, -1)
    return (p * torch.log(p / q)).sum(-1)


# ------------------------------------------------------------------------------------------------------ the ladder VAE


def ladder_conditional(model, level: int, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of p(z_level | z_{level + 1}): softplus(raw) / ln 2 + 1e-6 ([U] F.1)."""
    mean, raw = model.top_down[level](z).chunk(2, 1)
    return mean, torch.log1p(torch.exp(raw)) / math.log(2.0) + 1e-6


@pytest.mark.parametrize("seed", [0, 1])
def test_surrogate_of_the_ladder_vae_by_hand(seed: int) -> None:
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


def test_local_of_the_ladder_vae_by_hand() -> None:
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


# ------------------------------------------------------------------------------------- the mixed graph: bits and reals


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
def test_mixed_graph_by_hand(method: str) -> None:
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


# ------------------------------------------------------------------------------------------------- local distillation


def engine(objective: Objective, teacher, student, *, batches: int = 20, rows: int = 4096) -> tuple[float, float]:
    """The loss estimated by the engine, and its standard error."""
    generator = seeded(11)
    with torch.no_grad():
        losses = torch.stack(
            [objective(teacher, student, batch_size=rows, generator=generator).total for _ in range(batches)]
        )
    return losses.mean().item(), losses.std().item() / math.sqrt(batches)


def linear_pair(nodes: list, seed: int) -> tuple[LinearGaussian, LinearGaussian]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LinearGaussian(nodes).double(), LinearGaussian(nodes).double()


@pytest.mark.parametrize("nodes", [CHAIN, BRANCH], ids=["chain", "branch"])
def test_local_is_the_kl_of_the_joint(nodes: list) -> None:
    teacher, student = linear_pair(nodes, 0)
    exact = gaussian_kl(teacher.joint("latent", "target"), student.joint("latent", "target"))
    mean, error = engine(methods.local(), teacher, student)
    assert 0 < error < 0.02 * exact
    assert abs(mean - exact) < 5 * error


@pytest.mark.parametrize("name", ["mixed", "loop", "laplace", "classifier"])
def test_local_agrees_with_a_monte_carlo_estimate_of_the_kl_of_the_joint(name: str) -> None:
    entry = BY_NAME[name]
    teacher, student = entry.pair(0, DOUBLE)
    student.eval()
    rows = 20_000
    with torch.no_grad():
        loss = methods.local()(teacher, student, **entry.rows(rows, DOUBLE), generator=seeded()).total.item()
        taught = teacher.trace(**entry.rows(rows, DOUBLE), generator=seeded())
        learned = student.trace(x=entry.rows(rows, DOUBLE).get("x"), values=taught.values)
        ratio = taught.log_prob() - learned.log_prob()
    error = ratio.std().item() / math.sqrt(rows)
    assert error < 0.1 * loss
    assert abs(ratio.mean().item() - loss) < 5 * error


# ------------------------------------------------------------------------------------------------- Proposition 3.1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nodes", [CHAIN, BRANCH], ids=["chain", "branch"])
def test_surrogate_exceeds_the_marginal_kl_by_the_kl_of_the_noise_given_the_targets(nodes: list, seed: int) -> None:
    teacher, student = linear_pair(nodes, seed)
    surrogate = exact_surrogate(teacher, student)
    marginal = gaussian_kl(teacher.joint("target"), student.joint("target"))
    gap = exact_gap(teacher, student)
    assert gap > 1e-3
    assert surrogate >= marginal
    assert surrogate - marginal == pytest.approx(gap, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("nodes", [CHAIN, BRANCH], ids=["chain", "branch"])
def test_the_engine_estimates_the_exact_surrogate(nodes: list) -> None:
    teacher, student = linear_pair(nodes, 1)
    exact = exact_surrogate(teacher, student)
    mean, error = engine(methods.surrogate(latent_weight=0.0), teacher, student)
    assert 0 < error < 0.02 * exact
    assert abs(mean - exact) < 5 * error


def bits_pair(seed: int) -> tuple[Bits, Bits]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Bits().double(), Bits().double()


@pytest.mark.parametrize("seed", range(5))
def test_a_discrete_graph_enumerated(seed: int) -> None:
    teacher, student = bits_pair(seed)
    with torch.no_grad():
        p, q = teacher.marginal(), student.marginal()
        assert p.sum().item() == pytest.approx(1.0, abs=1e-12)
        marginal = (p * (p / q).log()).sum().item()
        surrogate = exact_bits_surrogate(teacher, student)
    assert surrogate >= marginal
    assert surrogate - marginal > 1e-4


def test_the_engine_estimates_the_enumerated_surrogate() -> None:
    teacher, student = bits_pair(0)
    exact = exact_bits_surrogate(teacher, student)
    mean, error = engine(methods.surrogate(latent_weight=0.0), teacher, student)
    assert 0 < error < 0.05 * exact
    assert abs(mean - exact) < 5 * error


# ------------------------------------------------------------------------------------------- marginalised distillation


def test_marginalized_is_the_kl_of_averaged_class_probabilities() -> None:
    teacher, student = BY_NAME["classifier"].pair(0, DOUBLE)
    student.eval()
    rows, draws, x = 5, 7, inputs(5, DOUBLE)
    loss = methods.marginalized(draws)(teacher, student, x=x, generator=seeded())

    generator, averaged = seeded(), []
    for model in (teacher, student):  # [U] Eq. 11: each side with its own noise
        eps = torch.randn(rows * draws, 3, generator=generator, dtype=DOUBLE)
        torch.empty(rows * draws, 4, dtype=DOUBLE).exponential_(generator=generator)  # its targets' own noise
        with torch.no_grad():
            mean, raw = model.encoder(x).chunk(2, 1)
            scale = F.softplus(raw) + 0.1
            total = torch.zeros(rows, 4, dtype=DOUBLE)
            for n in range(draws):
                total += torch.softmax(model.decoder(mean + scale * eps[n::draws]), -1)
        averaged.append(total / draws)
    p, q = averaged
    assert loss.total.item() == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-10)


def test_marginalized_with_many_draws_is_the_marginal_kl() -> None:
    teacher, student = bits_pair(3)
    with torch.no_grad():
        p, q = teacher.marginal(), student.marginal()
        loss = methods.marginalized(40_000)(teacher, student, batch_size=1, generator=seeded()).total.item()
    assert loss == pytest.approx((p * (p / q).log()).sum().item(), abs=0.01)


def test_marginalized_of_a_gaussian_target_by_monte_carlo() -> None:
    teacher, student = linear_pair(CHAIN, 0)
    exact = gaussian_kl(teacher.joint("target"), student.joint("target"))
    objective = methods.marginalized(1024, target=lambda p, q: kl_monte_carlo(p, q, samples=8))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        losses = torch.stack([objective(teacher, student, batch_size=64).total for _ in range(8)])
    assert abs(losses.mean().item() - exact) < 0.15 * exact + 4 * losses.std().item() / math.sqrt(8)


@pytest.mark.parametrize("name", ["mixed", "branch", "loop"])
def test_marginalized_needs_a_single_target(name: str) -> None:
    entry = BY_NAME[name]
    teacher, student = entry.pair()
    with pytest.raises(MatchError, match=r"single target"):
        methods.marginalized(2, target=kl_monte_carlo)(teacher, student, **entry.rows(2))


def test_marginalized_compares_no_latents() -> None:
    teacher, student = BY_NAME["chain"].pair()
    with pytest.raises(MatchError, match=r"'z1'.*only targets"):
        Objective([Match("z1")], IndependentNoise(2))(teacher, student, batch_size=2)


def test_marginalized_needs_a_draw() -> None:
    with pytest.raises(MatchError, match=r"at least 1"):
        methods.marginalized(0)


# ---------------------------------------------------------------------------------------------------- joint and scratch


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


@pytest.mark.parametrize("share", ["noise", "values"])
@pytest.mark.parametrize("inferred_from", ["sample", "mean"])
def test_the_surrogate_with_inference_adds_the_kl_of_the_posteriors(share, inferred_from) -> None:
    teacher, student = (ladder(seed) for seed in (0, 1))
    torch.manual_seed(3)
    plain = methods.surrogate(0.1)(teacher, student, batch_size=4)
    torch.manual_seed(3)
    both = methods.surrogate(0.1, posterior_weight=0.5, share=share, inferred_from=inferred_from)
    loss = both(teacher, student, batch_size=4)
    assert set(loss.terms) - set(plain.terms) == {"z1|y", "z2|y"}
    for name, term in plain.terms.items():
        torch.testing.assert_close(loss.terms[name], term)
    expected = posterior_terms(teacher, student, share, inferred_from)
    for name in ("z1", "z2"):
        torch.testing.assert_close(loss.terms[f"{name}|y"].detach(), 0.5 * expected[name], rtol=1e-10, atol=0.0)
    loss.backward()
    assert all(parameter.grad is not None for parameter in student.inference_parameters())


def test_the_surrogate_beside_the_students_own_bound() -> None:
    teacher, student = (ladder(seed) for seed in (0, 1))
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


@torch.no_grad()
def posterior_terms(teacher: LadderVAE, student: LadderVAE, share: str, inferred_from: str) -> dict[str, Tensor]:
    """The KL between the posteriors of a two-level ladder, level by level, from the parts of the models alone."""
    torch.manual_seed(3)
    drawn = teacher.trace(4)["y"]
    y = drawn.value if inferred_from == "sample" else drawn.distribution.mean
    code = teacher.trace_inference(y)
    z2 = code["z2"].value
    below = gaussian(teacher.top_down[1](z2))  # p(z1 | z2)
    evidence = student._evidence(y, None)
    # The roots are standard, so that a code and its noise are one there.
    own_below = gaussian(student.top_down[1](z2))
    own = precision_weighted(own_below, evidence[0])
    laws = {"z2": (code["z2"].distribution, evidence[1]), "z1": (code["z1"].distribution, own)}
    if share == "noise":
        units = (below, own_below)
        laws["z1"] = tuple(
            Normal((law.loc - unit.loc) / unit.scale, law.scale / unit.scale)
            for law, unit in zip(laws["z1"], units, strict=True)
        )
    return {name: kl_divergence(*pair).flatten(1).sum(1).mean() for name, pair in laws.items()}


def test_a_students_posterior_is_that_of_its_teacher_in_noise_whatever_the_scale_of_its_latents() -> None:
    """A student whose z is twice the teacher's and whose decoder halves it: the same model, other values."""

    class Scaled(DGM):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor, dtype=torch.float64))

        def generate(self, sites, x=None):
            z = sites.latent("z", Normal(self.factor * sites.zeros(2), self.factor.expand(sites.batch_size, 2)))
            sites.target("y", Normal(z / self.factor, 0.5))

        def infer(self, sites, y, x=None):
            sites.latent("z", Normal(self.factor * 0.8 * y, (self.factor * 0.2**0.5).expand_as(y)))

    teacher, student = Scaled(1.0), Scaled(2.0)
    by_noise = methods.surrogate(0.0, posterior_weight=1.0)(teacher, student, batch_size=50)
    assert by_noise.total.item() == pytest.approx(0.0, abs=1e-12)
    by_values = methods.surrogate(0.0, posterior_weight=1.0, share="values")(teacher, student, batch_size=50)
    assert by_values.total.item() > 0.5


def ladder(seed: int) -> LadderVAE:
    torch.manual_seed(seed)
    return LadderVAE(image_size=8, image_channels=1, levels=2, latent_channels=2, width=3).double().eval()
