"""What holds for every divergence between features: one number a row, gradients, moving, saving, settings told."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from limbeck.core.loss import Batch
from limbeck.core.methods import transfer
from limbeck.core.methods.knowledge_transfer import NAMED
from limbeck.divergence import CRD, VID, Learned, LwF, decoupled_kl, standardized_kl
from limbeck.errors import DivergenceError
from limbeck.models import NetworkClassifier
from tests.features import BATCH, CASES, Case, categorical

LEARNED = {name: case for name, case in CASES.items() if isinstance(case.make(), Learned)}
every = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
learned = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in LEARNED.items()])


def evaluated(divergence):
    return divergence.eval() if isinstance(divergence, nn.Module) else divergence


def parameters(divergence) -> list[nn.Parameter]:
    return list(divergence.parameters()) if isinstance(divergence, nn.Module) else []


def moved(divergence: Learned, seed: int = 1) -> Learned:
    """With parameters and buffers that no initialisation gives."""
    divergence = copy.deepcopy(divergence)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*divergence.parameters(), *divergence.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    return divergence


def test_every_short_name_is_tested() -> None:
    assert set(NAMED) <= set(CASES)


@every
def test_one_number_a_row(case: Case) -> None:
    divergence = evaluated(case.sized())
    rows = divergence(*case.pair())
    assert rows.shape == (BATCH,)
    assert rows.dtype is torch.float64
    assert rows.isfinite().all()
    if not isinstance(divergence, CRD):  # whose first batch decides a constant
        theirs, own = case.values()
        alone = divergence(case.teacher_law([v[:1] for v in theirs]), case.student_law([v[:1] for v in own]))
        torch.testing.assert_close(rows[:1], alone, rtol=1e-10, atol=1e-12)


@every
def test_features_of_half_precision_are_compared_in_single(case: Case) -> None:
    """Features as autocast leaves them: no squares that overflow, no sums that are rounded at every step."""
    theirs, own = ([(300.0 * v).half() for v in side] for side in case.values())
    divergence = evaluated(case.sized())
    if isinstance(divergence, nn.Module):
        divergence.float()
    with torch.autocast("cpu", torch.bfloat16):
        rows = divergence(case.teacher_law(theirs), case.student_law([v.requires_grad_() for v in own]))
    assert rows.dtype is torch.float32 or case.laws is categorical
    assert rows.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(1e-6 * rows.sum(), own))


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_of_half_precision_have_finite_gradients_of_their_own(case: Case, dtype: torch.dtype) -> None:
    """Parameters and features of one precision, as the trainers' bf16-true and 16-true leave them."""
    divergence = case.sized()
    if isinstance(divergence, nn.Module):
        divergence.train().to(dtype)
    for seed in range(2):
        theirs, own = ([v.to(dtype) for v in side] for side in case.values(seed))
        inputs = [*(v.requires_grad_() for v in own), *parameters(divergence)]
        rows = divergence(case.teacher_law(theirs), case.student_law(own))
        assert rows.isfinite().all()
        gradients = torch.autograd.grad(rows.sum(), inputs)
        assert all(gradient.isfinite().all() and gradient.dtype is dtype for gradient in gradients)


@every
def test_gradients_are_right(case: Case) -> None:
    divergence = evaluated(case.sized())
    theirs, own = case.values(batch=3)
    if isinstance(divergence, CRD):
        divergence.log_constants.zero_()
    inputs = [value.requires_grad_() for value in own]

    def rows(*values):
        return divergence(case.teacher_law(theirs), case.student_law(list(values[: len(own)])))

    # Parameters are changed in place by gradcheck, so that they need not be passed on.
    assert torch.autograd.gradcheck(rows, (*inputs, *parameters(divergence)), atol=1e-6, fast_mode=True)


@learned
def test_every_parameter_learns_in_training(case: Case) -> None:
    divergence = case.sized()
    before = {name: value.detach().clone() for name, value in divergence.named_parameters()}
    assert before
    optimizer = torch.optim.SGD(divergence.parameters(), 0.1)
    divergence(*case.pair()).mean().backward()
    for name, parameter in divergence.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0.0, name
    optimizer.step()
    assert not any(torch.equal(value, before[name]) for name, value in divergence.named_parameters())


@learned
def test_a_template_has_no_parameters_and_says_so(case: Case) -> None:
    template = case.make()
    if template.sized:
        return
    assert not list(template.parameters())
    with pytest.raises(DivergenceError, match="prepare"):
        template(*case.pair())
    first, second = template.fitted(*case.pair()), template.fitted(*case.pair())
    assert not list(template.parameters())
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert not list(template.undecayed())


@learned
@pytest.mark.parametrize(
    "device", ["meta", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_everything_moves(case: Case, device: str) -> None:
    divergence = case.sized()
    assert all(tensor.dtype is torch.float64 for tensor in divergence.parameters())
    single = copy.deepcopy(divergence).float()
    state = [*single.parameters(), *single.buffers()]
    assert all(tensor.dtype is torch.float32 for tensor in state if tensor.is_floating_point())
    assert all(tensor.device.type == device for tensor in divergence.to(device).state_dict().values())
    if device == "cuda":
        theirs, own = case.values()
        law, other = case.teacher_law([v.cuda() for v in theirs]), case.student_law([v.cuda() for v in own])
        assert divergence(law, other).device.type == "cuda"


@learned
def test_the_state_is_all_there_is(case: Case) -> None:
    trained = case.sized()
    for seed in range(3):
        trained(*case.pair(seed))
    trained = moved(trained)
    other = case.sized(seed=7)
    other.load_state_dict(trained.state_dict())
    pair = case.pair(5)
    assert torch.equal(trained.eval()(*pair), other.eval()(*pair))
    for name, value in trained.observed.items():
        assert torch.equal(value, other.observed[name])


@learned
def test_settings_are_told(case: Case) -> None:
    template = case.make()
    told = template.extra_repr()
    for name in inspect.signature(type(template)).parameters:
        wanted = {"student": "channels", "teacher": "channels"}.get(name, name)
        assert f"{wanted}=" in told, name


PAPERS = {
    LwF: {"temperature": 2.0},  # Li & Hoiem
    CRD: {"embedding": 128, "negatives": 16384, "temperature": 0.07},  # Tian et al.
    VID: {"layers": 3, "hidden": 2.0, "initial_variance": 5.0, "bias": True},  # [V] App. A.2
    decoupled_kl: {"temperature": 4.0, "alpha": 1.0, "beta": 8.0},  # Zhao et al.
    standardized_kl: {"temperature": 2.0},  # Sun et al.
}


@pytest.mark.parametrize(("make", "settings"), PAPERS.items())
def test_the_defaults_are_those_of_the_papers(make, settings: dict[str, float]) -> None:
    parameters = inspect.signature(make).parameters
    assert {name: parameters[name].default for name in settings} == settings


def test_variances_are_not_decayed() -> None:
    for name in ("vid", "vid-student-t", "vid-mixture"):
        divergence = CASES[name].sized()
        kept = {id(parameter) for parameter in divergence.undecayed()}
        names = {key for key, parameter in divergence.named_parameters() if id(parameter) in kept}
        assert names == {key for key in dict(divergence.named_parameters()) if key.startswith("observation.")}
        assert any("alpha" in key for key in names)


def test_a_teacher_that_is_the_student_costs_least() -> None:
    """Nothing to learn: no gradient for the student where the two are one, and no cost."""
    for name in ("at", "nst", "fsp", "logits", "kd", "standardized-kd", "dkd"):
        case = CASES[name]
        theirs, _ = case.values()
        own = [value.clone().requires_grad_() for value in theirs]
        rows = case.sized()(case.teacher_law(theirs), case.student_law(own))
        gradients = torch.autograd.grad(rows.sum(), own)
        assert rows.abs().max() < 1e-12, name
        assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-12, name


def networks() -> tuple[NetworkClassifier, NetworkClassifier, torch.Tensor, Batch]:
    torch.manual_seed(0)
    teacher = NetworkClassifier("ConvNet", {"widths": [6, 8], "classes": 4, "channels": 1, "halved": [1]})
    student = NetworkClassifier("ConvNet", {"widths": [3, 4], "classes": 4, "channels": 1, "halved": [1]})
    x = torch.rand(8, 1, 8, 8)
    return teacher, student, x, Batch(torch.arange(8) % 4, x)


TEXTS = [
    "h[*]:vid", "h[1]:vid-student-t", "h[1]:vid-mixture", "logits->penultimate:vid-lp", "logits->penultimate:lwf",
    "h[*]:fitnet", "h[0]->h[1]:fitnet", "penultimate:crd", "h[*]:at", "h[*]:nst", "y:kd", "y:dkd", "logits:dkd",
    "y:standardized-kd", "logits:logits",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_an_objective_trains_and_saves_them(text: str) -> None:
    teacher, student, x, batch = networks()
    objective = transfer([text])
    objective.prepare(teacher, student, x)
    loss = objective(teacher, student, batch=batch)
    loss.backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())
    torch.manual_seed(5)
    other = transfer([text])
    other.prepare(teacher, student, x)
    other.load_state_dict(objective.state_dict())
    values = []
    for each in (objective, other):
        torch.manual_seed(9)
        values.append(each(teacher, copy.deepcopy(student), batch=batch).total)
    assert torch.equal(*values)


def test_the_flow_of_solution_of_an_exact_copy_costs_nothing() -> None:
    teacher, _, _, batch = networks()
    objective = transfer(["h[0]&h[1]:fsp"])
    loss = objective(teacher, copy.deepcopy(teacher).eval(), batch=batch)
    assert loss.terms["fsp/h[0]&h[1]"].item() == pytest.approx(0.0, abs=1e-10)


def test_information_is_logged() -> None:
    teacher, student, x, batch = networks()
    objective = transfer(["h[*]:vid"])
    objective.prepare(teacher, student, x)
    observed = objective(teacher, student, batch=batch).observed
    assert set(observed) == {"information/h[0]", "information/h[1]"}
    assert all(value.shape == () and not value.requires_grad for value in observed.values())
