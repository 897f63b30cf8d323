"""A training step stays on the models' device, and no number of it is read back, which would stall a GPU.

Torch's device ``meta`` has shapes but no numbers: arithmetic with a tensor that was left on the CPU is an error there,
and so is reading a number back. So these tests need no GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from limbeck import methods
from limbeck.core.divergence import kl_monte_carlo
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.models import ZukoFlow
from tests.zoo import BY_NAME, ZOO, Entry

META = torch.device("meta")
READS_BACK = {
    "drawings": "a program whose length depends on what it draws must ask whether all have ended",
    "binomial chain": "its quantiles are computed on the CPU",
}
"""Models of the zoo that cannot stay on a device, and why."""


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's checks of distributions, which read numbers back, are on; ``meta`` knows no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    before = Distribution._validate_args
    Distribution.set_default_validate_args(True)
    yield
    Distribution.set_default_validate_args(before)


def pair(entry: Entry) -> tuple[DGM, DGM]:
    """Teacher and student; without torch's checks for models of the tests, which ask for them, and of zuko.

    Zuko switches them off for the process when it is imported.
    """
    teacher, student = entry.pair()
    if isinstance(teacher, ZukoFlow) or not type(teacher).__module__.startswith("limbeck."):
        Distribution.set_default_validate_args(False)
    return teacher, student


def moved(value: Any) -> Any:
    """Tensors and batches on ``meta``; all else as it is."""
    if isinstance(value, Batch):
        return Batch(value.y.to(META), None if value.x is None else value.x.to(META))
    return value.to(META) if isinstance(value, Tensor) else value


def check_step(entry: Entry, objective: Objective, *, on_data: bool) -> None:
    """One step on ``meta``; what is prepared once, before a training, may look at numbers."""
    teacher, student = pair(entry)
    asked: dict[str, Any] = entry.rows(4)
    if on_data:
        assert entry.data is not None
        asked = {"batch": entry.data(4)}
    x = asked["batch"].x if on_data else asked.get("x")
    objective.prepare(teacher, student, x)
    for module in (teacher, student, objective):
        module.to(META)
    loss = objective(teacher, student, progress=0.3, **{name: moved(value) for name, value in asked.items()})
    loss.total.backward()
    assert all(value.device == META for value in (loss.total, *loss.terms.values(), *loss.observed.values()))
    gradients = [p.grad for module in (student, objective) for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.device == META for gradient in gradients)


@pytest.mark.parametrize("entry", [e for e in ZOO if e.name not in READS_BACK], ids=lambda entry: entry.name)
@pytest.mark.parametrize("method", [methods.surrogate, methods.local])
def test_a_step_of_every_model_stays_on_its_device(entry: Entry, method: Callable[..., Objective]) -> None:
    # A normal and a Laplace have no closed form, whatever the device.
    latent = {"latent": kl_monte_carlo} if entry.name == "normal to laplace" else {}
    check_step(entry, method(target=entry.target, **latent), on_data=False)


@pytest.mark.parametrize("entry", [e for e in ZOO if e.marginal], ids=lambda entry: entry.name)
def test_a_step_of_several_draws_stays_on_its_device(entry: Entry) -> None:
    target = {"target": kl_monte_carlo} if entry.marginal == "monte carlo" else {}
    check_step(entry, methods.marginalized(2, **target), on_data=False)


@dataclass(frozen=True)
class Case:
    """A method on a model of the zoo, on data or without."""

    entry: str
    objective: Callable[[], Objective]
    on_data: bool = True

    @property
    def model(self) -> Entry:
        return BY_NAME[self.entry]


FEATURES = ["h[*]:vid", "h[*]:vid-student-t", "h[*]:vid-mixture", "h[*]:fitnet", "h[*]:at", "h[*]:nst",
            "penultimate:crd", "logits:lwf", "logits:logits", "y:kd", "y:dkd", "y:standardized-kd"]  # fmt: skip
FLOWS = ("flow", "images' flow", "autoregressive flow")
CASES = {
    **{f"transfer {match}": Case("wrapped", lambda match=match: methods.transfer([match])) for match in FEATURES},
    **{f"lkd, {flow}": Case(flow, methods.lkd) for flow in FLOWS},
    **{f"ilkd, {flow}": Case(flow, methods.ilkd) for flow in FLOWS},
    **{f"skd, {flow}": Case(flow, lambda: methods.skd(trim=0.3)) for flow in FLOWS},
    **{f"skd, stable, {flow}": Case(flow, lambda: methods.skd(inverse=False, pool=16)) for flow in FLOWS},
    **{f"guided, {flow}": Case(flow, lambda: methods.guided(pool=16)) for flow in FLOWS},
    **{f"density, {flow}": Case(flow, lambda: methods.density(pool=16), False) for flow in FLOWS},
    **{f"reverse density, {flow}": Case(flow, methods.reverse_density, False) for flow in FLOWS},
    "denoising student": Case("diffusion", methods.denoising_student, False),
    "few step": Case("diffusion", methods.few_step, False),
    "sharpened": Case("diffusion", methods.sharpened, False),
    "consistency": Case("diffusion", methods.consistency, False),
    "distribution matching": Case("diffusion", methods.distribution_matching, False),
    "noise by position": Case("ladder", lambda: methods.mapped("position"), False),
    "noise by a random map": Case("ladder", lambda: methods.mapped("random"), False),
    "noise by a learned map": Case("ladder", lambda: methods.mapped("learned"), False),
    "own bound": Case("ladder", lambda: methods.own_bound(temperature=1.3), False),
    "posteriors and reconstructions": Case(
        "ladder", lambda: methods.surrogate(posterior_weight=1.0, reconstruction_weight=1.0), False
    ),
    "straight-through": Case("helmholtz", lambda: methods.surrogate(discrete_gradient="straight-through"), False),
    "relaxed": Case("helmholtz", lambda: methods.surrogate(discrete_gradient="relaxed"), False),
    "continual": Case("domains", lambda: methods.continual(posterior_weight=1.0)),
    "continual, local": Case("domains", methods.continual_local),
    "replay": Case("domains", methods.replay),
    "consistent replay": Case("domains", methods.replay_consistent),
    "sequences": Case("sequence", methods.sequence_level, False),
    "words": Case("sequence", methods.word_level),
    "scratch": Case("ladder", methods.scratch),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_step_of_every_method_stays_on_its_device(case: Case) -> None:
    check_step(case.model, case.objective(), on_data=case.on_data)


@pytest.mark.parametrize("entry", [e for e in ZOO if e.data and e.name not in READS_BACK], ids=lambda e: e.name)
def test_a_models_own_loss_stays_on_its_device(entry: Entry) -> None:
    assert entry.data is not None
    model: DGM = pair(entry)[1].to(META)
    total = model.loss(moved(entry.data(4))).total
    total.backward()
    assert total.device == META


@pytest.mark.parametrize("entry", [e for e in ZOO if e.name not in READS_BACK], ids=lambda entry: entry.name)
def test_samples_are_drawn_on_the_models_device(entry: Entry) -> None:
    model: DGM = pair(entry)[0].to(META)
    drawn = model.sample(**{name: moved(value) for name, value in entry.rows(4).items()})
    assert all(value.device == META for value in drawn.values())


@pytest.mark.parametrize("name", READS_BACK)
def test_the_exceptions_are_still_exceptions(name: str) -> None:
    model = pair(BY_NAME[name])[0].to(META)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        model.sample(4)
