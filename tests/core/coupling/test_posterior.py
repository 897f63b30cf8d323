"""Distilling inference and replaying samples: against formulas written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from limbeck.core import methods
from limbeck.core.coupling import SharedNoise, SharedValues, TeacherSamples, WithPosterior
from limbeck.core.divergence import kl
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError, ModelError, SiteError
from limbeck.models import LadderVAE
from limbeck.models.gaussians import gaussian, precision_weighted
from tests.core.methods.formulas import two_levels


class Line(DGM):
    """y = a z + b + s e, with the encoder q(z | y) = N(c y + d, t): the exact posterior for the right c, d and t."""

    def __init__(self, a: float = 1.0, b: float = 0.0, s: float = 0.5, latent: str = "z", exact: bool = True) -> None:
        super().__init__()
        self.a, self.b, self.log_s = (nn.Parameter(torch.tensor(v)) for v in (a, b, math.log(s)))
        precision = 1.0 + (a / s) ** 2
        given = a / s**2 / precision, -a * b / s**2 / precision, -0.5 * math.log(precision)
        self.c, self.d, self.log_t = (nn.Parameter(torch.tensor(v if exact else 0.3)) for v in given)
        self.latent = latent
        self.double()

    def generate(self, sites, x=None):
        z = sites.latent(self.latent, sites.standard_normal(1))
        sites.target("y", Normal(self.a * z + self.b, self.log_s.exp().expand_as(z)))

    def infer(self, sites, y, x=None):
        sites.latent(self.latent, Normal(self.c * y + self.d, self.log_t.exp().expand_as(y)))

    def inference_parameters(self):
        return [self.c, self.d, self.log_t]

    def loss(self, batch, *, progress=1.0):
        return Loss.of({"y": -Normal(self.b, 1.0).log_prob(batch.y).sum(1).mean()})


def posterior_term(teacher: Line, student: Line, y: torch.Tensor) -> torch.Tensor:
    """KL between the two encoders' Gaussians, written out."""
    p_mean, q_mean = teacher.c * y + teacher.d, student.c * y + student.d
    p_var, q_var = (2 * teacher.log_t).exp(), (2 * student.log_t).exp()
    return (0.5 * (p_var / q_var + (p_mean - q_mean) ** 2 / q_var - 1.0) + 0.5 * (q_var / p_var).log()).sum(1).mean()


@pytest.mark.parametrize("inner", [SharedNoise(), SharedValues(), TeacherSamples()], ids=lambda c: type(c).__name__)
def test_the_posteriors_on_the_teachers_samples(inner) -> None:
    teacher, student = Line(), Line(0.8, 0.1, 0.6, exact=False)
    objective = Objective([Match(kind=Kind.POSTERIOR)], WithPosterior(inner))
    torch.manual_seed(0)
    loss = objective(teacher, student, batch_size=5)
    torch.manual_seed(0)
    y = teacher.trace(5).targets["y"]
    assert list(loss.terms) == ["z|y"]
    torch.testing.assert_close(loss.total, posterior_term(teacher, student, y).detach(), rtol=1e-12, atol=0.0)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.inference_parameters())


def test_both_programs_at_once_and_each_kind_apart() -> None:
    teacher, student = Line(), Line(0.8, 0.1, 0.6, exact=False)
    objective = Objective(
        [Match(kind=Kind.TARGET), Match(kind=Kind.LATENT, weight=0.1), Match(kind=Kind.POSTERIOR, weight=2.0)],
        WithPosterior(),
    )
    torch.manual_seed(1)
    loss = objective(teacher, student, batch_size=6)
    torch.manual_seed(1)
    trace = teacher.trace(6)
    z, y = trace["z"].value, trace["y"].value
    laws = (Normal(model.a * z + model.b, model.log_s.exp().expand_as(z)) for model in (teacher, student))
    assert list(loss.terms) == ["z", "y", "z|y"]
    torch.testing.assert_close(loss.terms["y"], kl(*laws).mean())
    torch.testing.assert_close(loss.terms["z|y"], 2.0 * posterior_term(teacher, student, y))
    assert loss.terms["z"].item() == 0.0  # the roots agree


def test_what_both_decode_the_code_to() -> None:
    teacher, student = Line(), Line(0.8, 0.1, 0.6, exact=False)
    torch.manual_seed(4)
    loss = Objective([Match(kind=Kind.RECONSTRUCTION)], WithPosterior(TeacherSamples()))(teacher, student, batch_size=6)
    torch.manual_seed(4)
    y = teacher.trace(6).targets["y"]
    z = teacher.trace_inference(y)["z"].value
    laws = (Normal(model.a * z + model.b, model.log_s.exp().expand_as(z)) for model in (teacher, student))
    assert list(loss.terms) == ["y|y"]
    torch.testing.assert_close(loss.total, kl(*laws).mean())


def test_a_copy_of_the_teacher_has_nothing_to_learn() -> None:
    teacher, student = Line(), Line()
    loss = Objective([Match()], WithPosterior())(teacher, student, batch_size=50)
    assert set(loss.terms) == {"z", "y", "z|y", "y|y"}
    assert loss.total.item() == pytest.approx(0.0, abs=1e-12)


def test_latents_of_other_names() -> None:
    teacher, student = Line(), Line(latent="w", exact=False)
    matches = [Match({"z": "w"}, kind=Kind.LATENT), Match({"z|y": "w|y"}, kind=Kind.POSTERIOR)]
    loss = Objective(matches, WithPosterior())(teacher, student, batch_size=4)
    assert list(loss.terms) == ["z", "z|y"]
    with pytest.raises(MatchError, match=r"'\|y' at its end"):
        Objective([matches[0], Match({"z|y": "w"}, kind=Kind.POSTERIOR)], WithPosterior())(
            teacher, student, batch_size=4
        )


def test_a_latent_that_the_teacher_does_not_infer_is_told() -> None:
    with pytest.raises(SiteError, match=r"'w'.*no noise was given"):
        Objective([Match(kind=Kind.POSTERIOR)], WithPosterior(TeacherSamples()))(Line(), Line(latent="w"), batch_size=4)


def test_a_model_without_inference_is_told() -> None:
    class Blind(Line):
        infer = DGM.infer

    with pytest.raises(ModelError, match="Blind has no inference program"):
        Objective([Match(kind=Kind.POSTERIOR)], WithPosterior())(Line(), Blind(), batch_size=4)


@pytest.mark.parametrize("replay", ["sample", "mean"])
def test_replay_is_the_students_own_loss_on_what_the_teacher_generates(replay) -> None:
    teacher, student = Line(), Line(0.8, 0.1, 0.6)
    objective = Objective([], TeacherSamples(), replay_weight=0.5, replay=replay)
    assert objective.needs_teacher
    assert not objective.needs_data
    torch.manual_seed(2)
    loss = objective(teacher, student, batch_size=7)
    torch.manual_seed(2)
    trace = teacher.trace(7)
    y = trace["y"].value if replay == "sample" else trace["y"].distribution.mean
    assert list(loss.terms) == ["replay/y"]
    torch.testing.assert_close(loss.total, 0.5 * student.loss(Batch(y.detach())).total)


def test_replay_beside_data_and_a_comparison() -> None:
    teacher, student = Line(), Line(0.8, 0.1, 0.6)
    batch = Batch(torch.ones(3, 1, dtype=torch.float64))
    loss = Objective([Match("y")], train_weight=0.25, replay_weight=0.5)(teacher, student, batch=batch)
    assert set(loss.terms) == {"y", "replay/y", "train/y"}
    torch.testing.assert_close(loss.terms["train/y"], 0.25 * student.loss(batch).total)


def test_what_a_code_can_share_and_be_inferred_from() -> None:
    with pytest.raises(MatchError, match="share must be noise or values, not 'z'"):
        WithPosterior(share="z")
    with pytest.raises(MatchError, match="inferred_from must be sample or mean, not 'y'"):
        WithPosterior(inferred_from="y")


def test_what_can_be_replayed() -> None:
    with pytest.raises(MatchError, match="sample or mean, not 'mode'"):
        Objective([], replay_weight=1.0, replay="mode")


def test_two_targets_need_a_way_to_form_one_y() -> None:
    class Two(Line):
        def generate(self, sites, x=None):
            super().generate(sites)
            sites.target("pen", sites.standard_normal(1))

    with pytest.raises(ModelError, match=r"Two has the targets y, pen; define join_targets"):
        Objective([], TeacherSamples(), replay_weight=1.0)(Two(), Line(), batch_size=2)
    with pytest.raises(ModelError, match=r"split_targets"):
        Two().split_targets(torch.zeros(2, 1))
    assert list(Line().split_targets(torch.zeros(2, 1))) == ["y"]


@pytest.mark.parametrize("share", ["noise", "values"])
@pytest.mark.parametrize("inferred_from", ["sample", "mean"])
def test_the_surrogate_with_inference_adds_the_kl_of_the_posteriors(share, inferred_from) -> None:
    teacher, student = (two_levels(seed) for seed in (0, 1))
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
