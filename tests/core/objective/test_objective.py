"""An objective: which sites are compared, what it needs, and what is said when models do not fit."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from limbeck.core import methods
from limbeck.core.coupling import SharedNoise
from limbeck.core.divergence import kl, lp, wasserstein2
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch, Loss
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError, SiteError
from tests.core.objective.gaussian_sites import Gaussians, shifted
from tests.small_models import Loop
from tests.zoo import BY_NAME


def test_sites_are_compared_by_kind() -> None:
    kinds = {"z": "latent", "h": "deterministic", "y": "target"}
    teacher, student = shifted(0.0, **kinds), shifted(1.0, **kinds)
    for kind, name, divergence in ((Kind.LATENT, "z", kl), (Kind.DETERMINISTIC, "h", lp), (Kind.TARGET, "y", kl)):
        loss = Objective([Match(kind=kind, divergence=divergence)])(teacher, student, batch_size=3)
        assert list(loss.terms) == [name]
        assert loss.total.item() == pytest.approx(2.0 if divergence is lp else 1.0)


def test_indexed_sites_of_a_loop_share_a_term() -> None:
    teacher, student = BY_NAME["loop"].pair()
    loss = Objective([Match("z[*]", divergence=wasserstein2), Match("y[*]")])(teacher, student, batch_size=4)
    assert sorted(loss.terms) == ["y[*]", "z[*]"]
    one = Objective([Match("y[2]")])(teacher, student, batch_size=4)
    assert list(one.terms) == ["y[2]"]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda objective: pickle.loads(pickle.dumps(objective))])
def test_an_objective_that_has_seen_models_can_be_copied_and_saved(again) -> None:
    teacher, student = BY_NAME["features"].pair()
    rows = BY_NAME["features"].rows(4)
    objective = Objective([Match("h", "absent", partial=True, required=False), Match("y")])
    total = objective(teacher, student, **rows).total
    assert again(objective)(teacher, student, **rows).total == total


class Scaled(nn.Module):
    """A divergence with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(()))

    def forward(self, p, q) -> Tensor:
        return self.log_weight.exp() * kl(p, q)


def test_parameters_of_a_divergence_belong_to_the_objective() -> None:
    objective = Objective([Match("y", divergence=Scaled())])
    assert len(list(objective.parameters())) == 1
    objective(shifted(0.0, y="target"), shifted(1.0, y="target"), batch_size=2).backward()
    assert next(objective.parameters()).grad.item() == pytest.approx(1.0)


def test_an_objective_serves_several_pairs() -> None:
    objective = methods.surrogate(0.1)
    for name in ("chain", "mixed", "chain", "bits"):
        teacher, student = BY_NAME[name].pair()
        terms = objective(teacher, student, batch_size=4).terms
        assert set(terms) == {"chain": {"z2", "z1", "y"}, "mixed": {"z2", "z1", "y1", "y2"},
                              "bits": {"z2", "z1", "y"}}[name]  # fmt: skip


@pytest.mark.parametrize("method", [methods.surrogate, methods.local])
def test_latents_of_different_shape_are_refused(method) -> None:
    teacher, student = Gaussians(z="latent", y="target"), Gaussians(z="latent", y="target")
    student.shapes["z"] = (5,)
    with pytest.raises(SiteError, match=r"site 'z'.*\(3, 2\).*\(3, 5\)"):
        method()(teacher, student, batch_size=3)


def test_targets_of_different_shape_are_refused() -> None:
    teacher, student = Gaussians(y="target"), Gaussians(y="target")
    student.shapes["y"] = (2, 2)
    with pytest.raises(SiteError, match=r"site 'y'.*\(3, 2\).*\(3, 2, 2\)"):
        methods.surrogate()(teacher, student, batch_size=3)


class Choice(DGM):
    """One categorical latent."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(shape))

    def generate(self, sites, x=None):
        sites.latent("z", Categorical(logits=self.logits.expand(sites.batch_size, *self.logits.shape)))
        sites.target("y", sites.standard_normal(1))


@pytest.mark.parametrize(("shape", "other"), [((4,), (3,)), ((1, 3), (5, 3)), ((1,), (3,))])
def test_categorical_latents_of_different_shape_are_refused(shape: tuple, other: tuple) -> None:
    """Noise of another shape must not be broadcast to several variables."""
    expected = rf"site 'z'.*{re.escape(str((2, *shape)))}.*{re.escape(str((2, *other)))}"
    with pytest.raises(SiteError, match=expected):
        methods.surrogate()(Choice(*shape), Choice(*other), batch_size=2)


def test_models_of_unequal_precision_are_named() -> None:
    teacher, student = BY_NAME["chain"].pair()
    objective = methods.surrogate()
    with pytest.raises(MatchError, match=r"teacher is of torch\.float64 .*student of torch\.float32; .*teacher\.to"):
        objective(teacher.double(), student.float(), batch_size=2)


def test_a_lack_of_memory_is_not_taken_for_unequal_precision() -> None:
    teacher, student = BY_NAME["chain"].pair()

    def lacking(*_: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with pytest.raises(RuntimeError, match=r"^\[enforce fail\] DefaultCPUAllocator"):
        Objective([Match("y")], lacking)(teacher.double(), student.float(), batch_size=2)


def test_a_teacher_is_needed_and_terms_are_needed() -> None:
    student = Gaussians(y="target")
    with pytest.raises(MatchError, match="teacher"):
        methods.surrogate()(None, student, batch_size=2)
    with pytest.raises(MatchError, match="no terms"):
        Objective([])(student, student, batch_size=2)


def test_the_number_of_rows_must_be_told_and_at_least_one() -> None:
    with pytest.raises(SiteError, match="batch_size"):
        methods.surrogate()(Gaussians(y="target"), Gaussians(y="target"))
    for none in ({"batch_size": 0}, {"batch_size": -1}, {"x": torch.zeros(0, 2)}, {"batch": Batch(torch.zeros(0, 2))}):
        for objective in (methods.surrogate(), methods.scratch()):
            with pytest.raises(MatchError, match="at least one"):
                objective(Gaussians(y="target"), Gaussians(y="target"), **none)


def test_what_a_models_own_loss_observes_is_passed_on() -> None:
    class Watching(Gaussians):
        def loss(self, batch, *, progress=1.0):
            return Loss.of({"own": batch.y.mean()}, {"seen": batch.y.std()})

    model, batch = Watching(y="target"), Batch(torch.randn(5, 2))
    assert methods.scratch()(None, model, batch=batch).observed == {"seen": batch.y.std()}
    objective = Objective([Match("y")], train_weight=0.5, replay_weight=0.5)
    assert objective(model, model, batch=batch).observed.keys() == {"replay/seen", "train/seen"}


def test_an_objective_tells_what_it_needs() -> None:
    assert methods.surrogate().needs_teacher
    assert not methods.surrogate().needs_data
    assert methods.scratch().needs_data
    assert not methods.scratch().needs_teacher
    assert methods.joint(0.5).needs_data
    assert methods.joint(0.5).needs_teacher
    assert not methods.joint(1.0).needs_data


def test_shares_show_every_term() -> None:
    teacher, student = BY_NAME["loop"].pair()
    loss = methods.surrogate(1e-3)(teacher, student, batch_size=8)
    assert isinstance(student, Loop)
    shares = loss.shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) == {"z[*]", "pen[*]", "y[*]"}


def test_a_coupling_is_told_how_far_training_is_and_what_the_data_are() -> None:
    seen = []

    class Watching:
        def __call__(self, teacher, student, request):
            seen.append((request.progress, request.y))
            return SharedNoise()(teacher, student, request)

    batch = Batch(y=torch.zeros(4, 2))
    objective = Objective([Match("y")], Watching())
    model = Gaussians(z="latent", y="target")
    objective(model, model, batch=batch, progress=0.25)
    objective(model, model, batch_size=4)
    assert [progress for progress, _ in seen] == [0.25, 1.0]
    assert seen[0][1] is batch.y
    assert seen[1][1] is None
