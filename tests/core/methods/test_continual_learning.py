"""The objectives of continual learning against their formulas, written out by hand on the ladder VAE's networks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck import methods
from limbeck.core.coupling.posterior import Share
from limbeck.core.divergence import kl_monte_carlo, wasserstein2
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError
from limbeck.models import LadderVAE
from tests.core.methods.ladder_formulas import (
    DOUBLE,
    SIZES,
    bound,
    evidence,
    generated,
    kl,
    noise,
    posterior,
    prior,
    relative,
    squared,
)
from tests.zoo import BY_NAME, domain_ladder, pictures

ROWS, NEW = 6, 5  # asked of the old model, rows of new data
EXACT = {"rel": 1e-10, "abs": 1e-12}


def pair(batch_statistics: bool = True) -> tuple[LadderVAE, LadderVAE]:
    """An old model and one that has moved away from it, of one architecture."""
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(domain_ladder(5, batch_statistics).double())
    return models[0].eval(), models[1].eval()


def old() -> Tensor:
    """Two old domains."""
    return torch.eye(3, dtype=DOUBLE)[[0, 1, 0, 0, 1, 1]]


def new() -> Batch:
    return Batch(pictures(NEW).y.double(), torch.eye(3, dtype=DOUBLE)[[2] * NEW])


def run(objective: Objective, teacher: LadderVAE, student: LadderVAE, progress: float = 1.0) -> Loss:
    torch.manual_seed(3)  # what the model's own loss draws
    generator = torch.Generator().manual_seed(5)  # what the coupling draws
    return objective(teacher, student, x=old(), batch=new(), progress=progress, generator=generator)


@pytest.mark.parametrize("batch_statistics", [True, False])
@pytest.mark.parametrize(("alpha", "weight"), [(0.5, 0.1), (0.3, 2.0)])
@torch.no_grad()
def test_continual_is_equation_17(alpha: float, weight: float, batch_statistics: bool) -> None:
    teacher, student = pair(batch_statistics)
    loss = run(methods.continual(alpha, weight), teacher, student)
    generator = torch.Generator().manual_seed(5)
    ours, taught, learned = torch.zeros((), dtype=DOUBLE), None, None
    for level in (3, 2, 1):  # [U] Alg. 1; the root has a latent term too
        p, q = prior(teacher, level, taught, old()), prior(student, level, learned, old())
        distance = (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2
        ours = ours + weight * distance.flatten(1).mean(1).mean()
        eps = noise(ROWS, level, generator)
        taught, learned = p[0] + p[1] * eps, q[0] + q[1] * eps
    scale = teacher.output_scale
    ours = ours + squared(teacher.top_down[0](taught, old()), student.top_down[0](learned, old()), scale)
    torch.manual_seed(3)
    own = bound(student, new().y, new().x)
    assert ours > 0.1
    assert loss.total.item() == pytest.approx((alpha * ours + (1 - alpha) * own).item(), **EXACT)
    parts = {name: term for name, term in loss.terms.items() if not name.startswith("train/")}
    assert sum(parts.values()).item() == pytest.approx((alpha * ours).item(), **EXACT)
    assert set(parts) == {"z3", "z2", "z1", "y"}


@torch.no_grad()
def test_continual_local_by_hand() -> None:
    teacher, student = pair()
    loss = run(methods.continual_local(0.4), teacher, student)
    latents, mean, _ = generated(teacher, old(), torch.Generator().manual_seed(5))
    above = {3: None, 2: latents[3], 1: latents[2]}
    local = sum(kl(prior(teacher, i, z, old()), prior(student, i, z, old())) for i, z in above.items())
    local = local + squared(mean, student.top_down[0](latents[1], old()), teacher.output_scale)
    torch.manual_seed(3)
    own = bound(student, new().y, new().x)
    assert loss.total.item() == pytest.approx((0.4 * local + 0.6 * own).item(), **EXACT)


@pytest.mark.parametrize("output", ["sample", "mean"])
@torch.no_grad()
def test_replay_by_hand(output: str) -> None:
    teacher, student = pair()
    loss = run(methods.replay(0.4, output=output), teacher, student)
    _, mean, sample = generated(teacher, old(), torch.Generator().manual_seed(5))
    torch.manual_seed(3)
    again = bound(student, mean if output == "mean" else sample, old())
    own = bound(student, new().y, new().x)
    assert loss.total.item() == pytest.approx((0.4 * again + 0.6 * own).item(), **EXACT)


@torch.no_grad()
def test_replay_warms_up_as_the_models_own_loss_does() -> None:
    teacher, student = pair()
    loss = run(methods.replay(0.4), teacher, student, progress=0.125)
    _, _, sample = generated(teacher, old(), torch.Generator().manual_seed(5))
    torch.manual_seed(3)
    expected = 0.4 * bound(student, sample, old(), 0.25) + 0.6 * bound(student, new().y, new().x, 0.25)
    assert loss.total.item() == pytest.approx(expected.item(), **EXACT)


@pytest.mark.parametrize("share", ["noise", "values"])
@torch.no_grad()
def test_replay_with_consistent_posteriors_by_hand(share: Share) -> None:
    teacher, student = pair()
    loss = run(methods.replay_consistent(0.4, 3.0, share=share), teacher, student)
    generator = torch.Generator().manual_seed(5)
    _, _, sample = generated(teacher, old(), generator)
    taught, learned = evidence(teacher, sample, old()), evidence(student, sample, old())
    consistency, z, own_z = torch.zeros((), dtype=DOUBLE), None, None
    for level in (3, 2, 1):
        p, q = posterior(teacher, level, z, taught, old()), posterior(student, level, own_z, learned, old())
        unit, own_unit = prior(teacher, level, z, old()), prior(student, level, own_z, old())
        z = p[0] + p[1] * noise(ROWS, level, generator)
        if share == "noise":
            own_z = own_unit[0] + own_unit[1] * (z - unit[0]) / unit[1]
            p, q = relative(p, unit), relative(q, own_unit)
        else:
            own_z = z
        consistency = consistency + kl(p, q)
    torch.manual_seed(3)
    again = bound(student, sample, old())
    own = bound(student, new().y, new().x)
    assert consistency > 0.1
    assert loss.total.item() == pytest.approx((0.4 * (again + 3.0 * consistency) + 0.6 * own).item(), **EXACT)


@torch.no_grad()
def test_a_latent_that_says_nothing_has_nothing_to_keep() -> None:
    """Its posterior is its prior, however narrow; in values a prior elsewhere would cost any price."""
    teacher, student = pair()
    for model, mean in ((teacher, 0.0), (student, 1.0)):
        model.top_down[1] = _Narrow(mean)
        model.bottom_up[0] = _Silent(model.bottom_up[0])
    costs = {}
    for share in ("noise", "values"):
        costs[share] = run(methods.replay_consistent(share=share), teacher, student).terms["z1|y"].item()
    assert costs["noise"] < 1e-6
    assert costs["values"] > 1e4


class _Narrow(torch.nn.Module):
    """The prior N(mean, 0.001) of the lowest latents, whatever is above."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, above: Tensor, x: Tensor) -> Tensor:
        raw = math.log(math.expm1(0.001 * math.log(2.0)))
        shape = (len(above), 2, SIZES[1], SIZES[1])
        return torch.cat([torch.full(shape, self.mean, dtype=DOUBLE), torch.full(shape, raw, dtype=DOUBLE)], 1)


class _Silent(torch.nn.Module):
    """A network whose evidence for the latents of its level is next to none."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h, parameters = self.network(y, x)
        mean, _ = parameters.chunk(2, 1)
        return h, torch.cat([torch.zeros_like(mean), torch.full_like(mean, 1e3)], 1)


BUILDERS = {
    "continual": methods.continual,
    "local": methods.continual_local,
    "replay": methods.replay,
    "consistent": methods.replay_consistent,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_all_need_a_teacher_and_data(name: str) -> None:
    objective = BUILDERS[name]()
    assert objective.needs_teacher
    assert objective.needs_data
    teacher, student = pair()
    with pytest.raises(MatchError, match="teacher"):
        objective(None, student, batch=new(), x=old())
    with pytest.raises(MatchError, match="batch"):
        objective(teacher, student, x=old())


@pytest.mark.parametrize("name", BUILDERS)
def test_every_parameter_learns_and_the_old_model_does_not(name: str) -> None:
    teacher, student = BY_NAME["domains"].pair()
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    x, batch = old().float(), Batch(new().y.float(), new().x.float())
    BUILDERS[name]()(teacher, student, x=x, batch=batch).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("name", ["continual", "local"])
def test_a_copy_of_the_old_model_has_nothing_to_lose(name: str) -> None:
    """Distillation starts at zero; replay does not, since its loss is not a distance."""
    teacher, _ = pair()
    loss = run(BUILDERS[name](), teacher, teacher)
    assert sum(abs(term.item()) for key, term in loss.terms.items() if not key.startswith("train/")) < 1e-12


@pytest.mark.parametrize("alpha", [-0.1, 1.5, math.nan])
@pytest.mark.parametrize("name", BUILDERS)
def test_alpha_is_a_share(name: str, alpha: float) -> None:
    with pytest.raises(MatchError, match=r"alpha must lie in \[0, 1\]"):
        BUILDERS[name](alpha)


@pytest.mark.parametrize("name", BUILDERS)
def test_without_a_share_for_the_old_it_is_fine_tuning(name: str) -> None:
    teacher, student = pair()
    loss = run(BUILDERS[name](0.0), teacher, student)
    torch.manual_seed(3)
    expected = methods.scratch()(None, student, batch=new()).total
    assert loss.total.item() == pytest.approx(expected.item(), **EXACT)


@pytest.mark.parametrize("made", [methods.continual, methods.continual_local])
def test_settings_reach_the_method_for_what_is_old(made) -> None:
    objective = made(target=kl_monte_carlo, latent=wasserstein2)
    found = {match.kind: match.divergence for match in objective.matches}
    assert found == {Kind.TARGET: kl_monte_carlo, Kind.LATENT: wasserstein2}


def test_what_is_replayed_can_be_chosen() -> None:
    for output in ("sample", "mean"):
        assert methods.replay(output=output).replay == methods.replay_consistent(output=output).replay == output
