"""The distillation of flows: the losses of the paper written by hand, and densities against closed forms."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from limbeck import methods
from limbeck.core.coupling.depth import step_name
from limbeck.core.delta import Delta
from limbeck.core.divergence import log_ratio, lp
from limbeck.core.loss import Batch
from limbeck.core.schedule import Ramp
from limbeck.errors import DivergenceError, MatchError, SiteError
from limbeck.models import Flow, Glow, HelmholtzMachine, StepFlow, TableGlow
from tests.flows import ONE

FLOWS = ["table glow", "told glow", "glow", "maf", "told maf", "nice", "bent"]


def pair(name: str) -> tuple[Flow, Flow, Batch]:
    kind = ONE[name]
    return kind.flow(depth=5), kind.flow(depth=3, seed=7), Batch(*kind.rows(6))


def along(flow: Flow, batch: Batch) -> dict[str, Tensor]:
    """The row after every step and the latents, computed without sites."""
    h, found = batch.y, {}
    for index, level in enumerate(flow.levels):
        for entry in level.entry:
            h, _ = entry(h, batch.x)
        for count, step in enumerate(level.steps, 1):
            h, _ = step(h, batch.x)
            found[step_name(index, count)] = h
        if level.split is not None:
            h, found[f"u[{index}]"], _ = level.split(h, batch.x)
    found[f"u[{len(flow.levels) - 1}]"] = h
    found.pop(step_name(len(flow.levels) - 1, len(flow.levels[-1].steps)))
    return found


def apart(left: Tensor, right: Tensor) -> Tensor:
    """The L1 norm of [F] Eq. 12, averaged over rows."""
    return (left - right).abs().flatten(1).sum(1).mean()


def behind(teacher: Flow, student: Flow, batch: Batch) -> Tensor:
    """The negative log-likelihood of [F], but for the teacher's, which is a constant."""
    return (teacher.log_prob(batch.y, batch.x) - student.log_prob(batch.y, batch.x)).mean()


def latents(teacher: Flow, student: Flow, batch: Batch) -> Tensor:
    left, right = along(teacher, batch), along(student, batch)
    return sum(apart(left[name], right[name]) for name in left if name.startswith("u"))


def intermediate(teacher: Flow, student: Flow, batch: Batch, steps: list[tuple[int, int]]) -> Tensor:
    """The sum of [F] Eq. 13, the latents included."""
    left, right = along(teacher, batch), along(student, batch)
    total = latents(teacher, student, batch)
    for level in range(len(teacher.levels)):
        for i, j in steps:
            if step_name(level, i) in left and step_name(level, j) in right:
                total = total + apart(left[step_name(level, i)], right[step_name(level, j)])
    return total


EVENLY = [(2, 1), (3, 2), (5, 3)]


def close(loss: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-9)


@pytest.mark.parametrize("name", FLOWS)
def test_latent_distillation_is_equation_12(name: str) -> None:
    teacher, student, batch = pair(name)
    loss = methods.lkd(0.3, 0.7)(teacher, student, batch=batch)
    close(loss.total, 0.7 * behind(teacher, student, batch) + 0.3 * latents(teacher, student, batch))


@pytest.mark.parametrize("name", FLOWS)
def test_intermediate_distillation_is_equation_13(name: str) -> None:
    teacher, student, batch = pair(name)
    loss = methods.ilkd(0.3, 0.7)(teacher, student, batch=batch)
    close(loss.total, 0.7 * behind(teacher, student, batch) + 0.3 * intermediate(teacher, student, batch, EVENLY))
    loss = methods.ilkd(0.3, 0.0, depth="levels")(teacher, student, batch=batch)
    close(loss.total, 0.3 * intermediate(teacher, student, batch, [(5, 3)]))
    loss = methods.ilkd(0.3, 0.0, depth=[(1, 1), (4, 2)])(teacher, student, batch=batch)
    close(loss.total, 0.3 * intermediate(teacher, student, batch, [(1, 1), (4, 2)]))


@pytest.mark.parametrize("name", FLOWS)
def test_synthesized_distillation_is_equations_14_and_15(name: str) -> None:
    teacher, student, batch = pair(name)
    loss = methods.skd(0.2, 0.3, 0.5)(teacher, student, batch=batch, generator=torch.Generator().manual_seed(4))
    on_data = 0.5 * behind(teacher, student, batch) + 0.3 * intermediate(teacher, student, batch, EVENLY)
    noise = teacher.trace(6, batch.x, generator=torch.Generator().manual_seed(4)).noise
    z = [noise[f"u[{level}]"] for level in range(len(teacher.levels))]
    close(loss.total, on_data + 0.2 * apart(teacher.decode(z, batch.x), student.decode(z, batch.x)))


@pytest.mark.parametrize("name", FLOWS)
def test_the_stable_form_compares_latents_of_the_teachers_samples(name: str) -> None:
    teacher, student, batch = pair(name)
    loss = methods.skd(0.2, 0.3, 0.5, inverse=False)(
        teacher, student, batch=batch, generator=torch.Generator().manual_seed(4)
    )
    on_data = 0.5 * behind(teacher, student, batch) + 0.3 * intermediate(teacher, student, batch, EVENLY)
    drawn = teacher.sample(6, batch.x, generator=torch.Generator().manual_seed(4))["y"]
    close(loss.total, on_data + 0.2 * intermediate(teacher, student, Batch(drawn, batch.x), EVENLY))


@pytest.mark.parametrize("name", FLOWS)
def test_the_gradient_is_that_of_the_likelihood(name: str) -> None:
    """The teacher's density in the first term changes its value, not what it teaches."""
    teacher, student, batch = pair(name)
    names, parameters = zip(*student.named_parameters())
    own = torch.autograd.grad(-student.log_prob(batch.y, batch.x).mean(), parameters)
    ours = torch.autograd.grad(methods.lkd(0.0, 1.0)(teacher, student, batch=batch).total, parameters)
    for parameter, left, right in zip(names, own, ours):
        torch.testing.assert_close(left, right, atol=1e-10, rtol=1e-9, msg=parameter)


def test_dequantisation_noise_is_shared() -> None:
    teacher, student = Glow(4, 1, 1, 2, 2, quantization=4), Glow(4, 1, 1, 2, 2, quantization=4)
    student.load_state_dict(teacher.state_dict())
    y = torch.randint(4, (8, 1, 4, 4)) / 3.0
    assert methods.ilkd(1.0, 0.0)(teacher, student, batch=Batch(y)).total == 0.0


def test_guidance_fades() -> None:
    teacher, student, batch = pair("table glow")
    objective = methods.guided(0.4, until=0.5, share=0.0)
    begun, middle, late = (objective(teacher, student, batch=batch, progress=p).total for p in (0.0, 0.25, 0.7))
    own, path = behind(teacher, student, batch), intermediate(teacher, student, batch, EVENLY)
    close(begun, 0.6 * own + 0.4 * path)
    close(middle, 0.8 * own + 0.2 * path)
    close(late, own)
    mixed = methods.guided(0.4, share=0.5)
    loss = mixed(teacher, student, batch=batch, progress=0.0, generator=torch.Generator().manual_seed(0)).total
    drawn = teacher.sample(3, generator=torch.Generator().manual_seed(0))["y"]
    both = Batch(torch.cat([batch.y[:3], drawn]))
    close(loss, 0.6 * behind(teacher, student, both) + 0.4 * intermediate(teacher, student, both, EVENLY))


@pytest.mark.parametrize(
    "made",
    [
        lambda settings: methods.ilkd(**settings),
        lambda settings: methods.guided(share=0.0, **settings),
        lambda settings: methods.guided(pool=0, **settings),
        lambda settings: methods.density(0.1, **settings),
        lambda settings: methods.skd(**settings).objectives["data"],
        lambda settings: methods.skd(inverse=False, **settings).objectives["samples"],
    ],
    ids=["ilkd", "guided by data", "guided", "density", "skd, data", "skd, samples"],
)
def test_settings_reach_the_coupling_and_the_matches(made) -> None:
    coupling = made({"depth": "levels", "align": False}).coupling
    assert (coupling.depth, coupling.align) == ("levels", False)
    farther = partial(lp, order=2.0)
    assert farther in [match.divergence for match in made({"distance": farther}).matches]


# --------------------------------------------------------------------------------------------- densities, closed form


class Affine(nn.Module):
    """h -> M h + b with a lower triangular M: a Gaussian whatever the number of steps."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.lower = nn.Parameter(0.3 * torch.randn(size, size))
        self.shift = nn.Parameter(0.5 * torch.randn(size))

    @property
    def matrix(self) -> Tensor:
        return self.lower.tril(-1) + self.lower.diagonal().exp().diag()

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h @ self.matrix.T + self.shift, self.lower.diagonal().sum()

    def inverse(self, h: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.matrix, (h - self.shift).T, upper=False).T


def gaussian(seed: int, steps: int = 2, size: int = 3) -> StepFlow:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return StepFlow([Affine(size) for _ in range(steps)], size).double()


def law(flow: StepFlow) -> MultivariateNormal:
    """Its exact law: u = A y + b is standard normal."""
    matrix, shift = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for step in flow.levels[0].steps:
        affine = step.parts[0]
        matrix, shift = affine.matrix @ matrix, affine.matrix @ shift + affine.shift
    inverse = torch.linalg.inv(matrix)
    return MultivariateNormal(-inverse @ shift, inverse @ inverse.T)


def test_density_is_the_divergence_from_the_teacher() -> None:
    teacher, student = gaussian(0), gaussian(1)
    exact = kl_divergence(law(teacher), law(student)).item()
    torch.manual_seed(0)
    estimate = methods.density()(teacher, student, batch_size=200_000).total.item()
    assert exact > 0.5
    assert estimate == pytest.approx(exact, rel=0.02)


def test_reverse_density_is_the_divergence_from_the_student() -> None:
    teacher, student = gaussian(0), gaussian(1)
    exact = kl_divergence(law(student), law(teacher))
    torch.manual_seed(0)
    loss = methods.reverse_density()(teacher, student, batch_size=200_000)
    assert exact.item() > 0.5
    assert loss.total.item() == pytest.approx(exact.item(), rel=0.02)
    parameters = list(student.parameters())
    theirs = torch.autograd.grad(exact, parameters)
    for left, right in zip(torch.autograd.grad(loss.total, parameters), theirs):
        torch.testing.assert_close(left, right, atol=0.05, rtol=0.05)


def test_density_with_latents_adds_them() -> None:
    teacher, student = gaussian(0), gaussian(1)
    seeds = [torch.Generator().manual_seed(2) for _ in range(3)]
    plain = methods.density()(teacher, student, batch_size=64, generator=seeds[0]).total
    more = methods.density(0.25)(teacher, student, batch_size=64, generator=seeds[1])
    drawn = teacher.sample(64, generator=seeds[2])["y"]
    close(more.total, plain + 0.25 * intermediate(teacher, student, Batch(drawn), [(1, 1), (2, 2)]))


def test_log_ratio_can_be_clipped() -> None:
    left, right = Delta(torch.tensor([0.0, 0.0, 0.0])), Delta(torch.tensor([-1.0, -50.0, 2.0], requires_grad=True))
    ratio = log_ratio(left, right, clip=10.0)
    assert ratio.tolist() == [1.0, 10.0, -2.0]
    ratio.sum().backward()
    assert right.value.grad.tolist() == [-1.0, 0.0, -1.0]


def test_log_ratio_wants_one_number_a_row() -> None:
    one, law = Delta(torch.zeros(3)), Normal(torch.zeros(3), 1.0)
    for sides in ((Delta(torch.zeros(3, 2)), Delta(torch.zeros(3, 2))), (one, law), (law, one)):
        with pytest.raises(DivergenceError, match="match the site 'log_prob'"):
            log_ratio(*sides)


# ------------------------------------------------------------------------------------------------------------ errors


def test_what_makes_no_sense_is_refused() -> None:
    teacher, student, _ = pair("table glow")
    with pytest.raises(MatchError, match="there are none; pass data"):
        methods.lkd()(teacher, student, batch_size=4)
    with pytest.raises(MatchError, match="inverse=False"):
        methods.skd(pool=100)
    with pytest.raises(MatchError, match="must be one of data, teacher"):
        methods.ilkd(observed="dreams")
    with pytest.raises(MatchError, match="rows of 'data'"):
        methods.ilkd(pool=10)


def test_distances_can_be_chosen() -> None:
    teacher, student, batch = pair("maf")

    def squared(p: Delta, q: Delta) -> Tensor:
        return lp(p, q, order=2, root=False)

    loss = methods.lkd(1.0, 0.0, distance=squared)(teacher, student, batch=batch)
    left, right = along(teacher, batch)["u[0]"], along(student, batch)["u[0]"]
    close(loss.total, ((left - right) ** 2).sum(1).mean())


def test_weights_may_change_during_a_training() -> None:
    teacher, student, batch = pair("maf")
    objective = methods.lkd(Ramp(0.0, 2.0), Ramp(1.0, 0.0))
    begun, done = (objective(teacher, student, batch=batch, progress=progress).total for progress in (0.0, 1.0))
    close(begun, behind(teacher, student, batch))
    close(done, 2.0 * latents(teacher, student, batch))


def test_a_student_of_another_kind_of_model_has_no_such_sites() -> None:
    with pytest.raises(SiteError, match="must have the same latents"):
        methods.lkd()(TableGlow(2), HelmholtzMachine(hidden=2), batch=Batch(torch.randn(4, 2)))
