"""Features, classes and settings that a divergence cannot compare: what is said of them."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Distribution, Normal

from limbeck.core.delta import Delta
from limbeck.core.joint import Joint
from limbeck.core.methods.knowledge_transfer import NAMED
from limbeck.divergence import CRD, VID, Learned, LwF, Regressor, decoupled_kl, nll, solution_flow, standardized_kl
from limbeck.errors import DivergenceError
from tests.features import CASES, Case


def delta(*shape: int) -> Delta:
    return Delta(torch.zeros(*shape))


def refusal(name: str, p: Distribution, q: Distribution) -> str:
    divergence = NAMED[name].divergence()
    with pytest.raises(DivergenceError) as caught:
        (divergence.fitted if isinstance(divergence, Learned) else divergence)(p, q)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["vid", "fitnet", "at", "nst", "crd", "fsp", "logits", "standardized-kd", "dkd", "lwf"]
)
def test_random_sites_are_refused(name: str) -> None:
    law = Normal(torch.zeros(4, 3, 2, 2), 1.0)
    assert "Normal of shape (4, 3, 2, 2)" in refusal(name, law, law)


@pytest.mark.parametrize("teacher", [(4, 3, 2, 2), (4, 3)])
@pytest.mark.parametrize("name", ["at", "nst"])
def test_maps_alone_have_attention(name: str, teacher: tuple[int, ...]) -> None:
    told = refusal(name, delta(*teacher), delta(4, 5))
    assert str(teacher) in told
    assert "(4, 5)" in told
    assert "vid or fitnet" in told


def test_a_flow_of_solution_is_between_two_maps() -> None:
    maps, vectors = Joint([delta(4, 3, 2, 2), delta(4, 5, 2, 2)]), Joint([delta(4, 3), delta(4, 5)])
    for one, other in ((delta(4, 3, 2, 2), maps), (maps, delta(4, 3, 2, 2))):
        assert "two maps a side" in refusal("fsp", one, other)
    for one, other in ((vectors, maps), (maps, vectors)):
        assert "(4, 3)" in refusal("fsp", one, other)
    assert "Normal" in refusal("fsp", Joint([maps.laws[0], Normal(torch.zeros(4, 5, 2, 2), 1.0)]), maps)


@pytest.mark.parametrize("name", ["vid", "fitnet"])
def test_shapes_that_no_network_connects_are_refused(name: str) -> None:
    told = refusal(name, delta(4, 3, 8), delta(4, 5, 2, 2))
    assert "(3, 8)" in told
    assert "(5, 2, 2)" in told
    assert "maps" in told


def test_batches_must_agree() -> None:
    told = refusal("vid", delta(4, 3), delta(5, 3))
    assert "(4, 3)" in told
    assert "(5, 3)" in told


@pytest.mark.parametrize("name", ["logits", "standardized-kd"])
def test_other_classes_are_refused_with_the_mend(name: str) -> None:
    told = refusal(name, delta(4, 10), delta(4, 7))
    assert "10 classes" in told
    assert "7" in told
    assert "vid-lp" in told


def test_other_classes_are_refused_in_distillation_too() -> None:
    for name in ("kd", "dkd"):
        case = CASES[name]
        with pytest.raises(DivergenceError, match=r"10.*\(4, 10\).*7.*\(4, 7\).*lwf"):
            case.make()(case.teacher_law([torch.zeros(4, 10)]), case.student_law([torch.zeros(4, 7)]))


def test_labels_are_needed() -> None:
    case = CASES["kd"]
    assert "y&y|data" in refusal("dkd", *case.pair())
    assert "h[0]&h[1]" in refusal("fsp", delta(4, 3, 2, 2), delta(4, 3, 2, 2))
    for shapes in (((4, 3, 2, 2), (4, 3)), ((4, 3), (4, 3, 2, 2))):
        assert "penultimate" in refusal("crd", *(delta(*shape) for shape in shapes))
    assert "penultimate" in refusal("lwf", delta(4, 3), delta(4, 3, 2, 2))
    for law in (Bernoulli(torch.full((4, 3), 0.5)), Delta(torch.ones(4, 3, dtype=torch.int64)), delta(4, 3, 2)):
        assert f"{type(law).__name__} of shape {tuple(law.batch_shape)}" in refusal("logits", law, delta(4, 3))
    for law in (Normal(torch.zeros(4, 3), 1.0), delta(4, 3, 2)):
        assert "learns from logits" in refusal("lwf", law, delta(4, 3))


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        ([0, 1, 2, 3], 3, "label 3 is none of the student's 3 classes, 0 to 2"),
        ([0, 1, -1, 2], 3, "label -1"),
        ([0, 1], 3, r"one label a row, 4, not .*\(2,\)"),
        ([0, 0, 0, 0], 1, "one class only"),
    ],
)
def test_labels_are_classes(labels: list[int], classes: int, told: str) -> None:
    law, data = Categorical(logits=torch.zeros(4, classes)), Delta(torch.tensor(labels))
    with pytest.raises(DivergenceError, match=told):
        decoupled_kl()(Joint([law, data]), law)
    if len(labels) == 4 and classes > 1:
        with pytest.raises(DivergenceError, match=told):
            nll(data, law)


def test_flows_need_equal_channels() -> None:
    case, other = (
        CASES["fsp"],
        Case(CASES["fsp"].make, ((2, 4, 4), (5, 4, 4)), ((2, 4, 4), (5, 4, 4)), CASES["fsp"].laws),
    )
    with pytest.raises(DivergenceError, match=r"\(3, 5\).*\(2, 5\).*unequal width"):
        solution_flow(case.pair()[0], other.pair()[1])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: VID(law="cauchy"), "gaussian, student-t, mixture"),
        (lambda: VID(layers=0), "layers"),
        (lambda: VID(hidden=0.0), "hidden"),
        (lambda: VID(positions=0), "positions"),
        (lambda: VID(initial_variance=0.0), "initial variance"),
        (lambda: VID(minimum_variance=0.0), "minimum"),
        (lambda: VID(initial_degrees=2.0), "degrees"),
        (lambda: CRD(negatives=0), "negatives"),
        (lambda: CRD(temperature=0.0), "temperature"),
        (lambda: CRD(constant=0.0), "constant"),
        (lambda: LwF("hinge"), "cross-entropy or squared"),
        (lambda: LwF(temperature=-1.0), "temperature"),
        (lambda: Regressor(student=3), "both models"),
        (lambda: decoupled_kl(0.0), "temperature"),
        (lambda: standardized_kl(-1.0), "temperature"),
    ],
)
def test_settings_out_of_range_are_refused(make, told: str) -> None:
    with pytest.raises(DivergenceError, match=told):
        make()
