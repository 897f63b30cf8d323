"""Methods for samplers of many steps: their losses by hand, and what they leave alone."""

import copy

import pytest
import torch

from limbeck import methods
from limbeck.core.coupling import SharedValues
from limbeck.core.loss import Batch
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.errors import MatchError
from limbeck.models import DDIM
from tests.core.methods.diffusion.small_samplers import TEACHER, TINY, path, shared, squared, student
from tests.small_models import LinearGaussian


@pytest.mark.parametrize("first", ["network", "residual"])
def test_denoising_student_is_equation_11_and_the_surrogate(first):
    learner = student([999], first=first)
    loss, noise = shared(methods.denoising_student(), TEACHER, learner)
    expected = 0.5 * squared(path(TEACHER, noise)["x_0"], path(learner, noise)["x_0"])
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-9)
    assert shared(methods.surrogate(latent_weight=0), TEACHER, learner)[0].total.item() == loss.total.item()


def test_first_order_is_the_sum_of_absolute_differences_of_pixels():
    learner = student([999])
    loss, noise = shared(methods.denoising_student(order=1), TEACHER, learner)
    difference = (path(TEACHER, noise)["x_0"] - path(learner, noise)["x_0"]).abs().flatten(1).sum(1).mean()
    assert loss.total.item() == pytest.approx(difference.item() / 2, rel=1e-9)


def test_few_step_adds_the_states_that_both_have():
    learner = student([999, 499, 250])  # the teacher has 499, not 250
    loss, noise = shared(methods.few_step(state_weight=0.7), TEACHER, learner)
    theirs, own = path(TEACHER, noise), path(learner, noise)
    assert loss.terms["x_0"].item() == pytest.approx(0.5 * squared(theirs["x_0"], own["x_0"]).item(), rel=1e-9)
    state = loss.terms["x[499]"].item()
    assert state == pytest.approx(0.35 * squared(theirs["x[499]"], own["x[499]"]).item(), rel=1e-9)
    assert set(loss.terms) == {"x_0", "x[499]"}


def test_first_order_holds_of_the_states_too():
    learner = student([999, 499])
    loss, noise = shared(methods.few_step(order=1), TEACHER, learner)
    difference = path(TEACHER, noise)["x[499]"] - path(learner, noise)["x[499]"]
    assert loss.terms["x[499]"].item() == pytest.approx(difference.abs().flatten(1).sum(1).mean().item() / 2, rel=1e-9)


def test_from_states_compares_each_step_alone():
    learner = student([999, 499])
    loss, noise = shared(methods.few_step(from_states=True), TEACHER, learner)
    theirs = path(TEACHER, noise)
    told = learner.unet(theirs["x[499]"], 499).sample
    signal, scale = learner.schedule.at(499, noise)
    image = signal * theirs["x[499]"] - scale * told
    assert loss.terms["x_0"].item() == pytest.approx(0.5 * squared(theirs["x_0"], image).item(), rel=1e-9)
    own = path(learner, noise)["x[499]"]
    assert loss.terms["x[499]"].item() == pytest.approx(0.5 * squared(theirs["x[499]"], own).item(), rel=1e-9)


def test_a_partial_match_looks_at_each_new_student():
    objective = methods.few_step()
    assert "x[499]" in shared(objective, TEACHER, student([999, 499]))[0].terms
    assert set(shared(objective, TEACHER, student([999]))[0].terms) == {"x_0"}
    assert "x[199]" in shared(objective, TEACHER, student([999, 199]))[0].terms


def test_a_full_match_still_asks_for_every_site():
    objective = Objective([Match("x[*]", kind=Kind.DETERMINISTIC)], SharedValues(deterministic=True))
    with pytest.raises(MatchError, match=r"x\[899\]"):
        objective(TEACHER, student([999, 499]), batch_size=2)


def test_a_deep_student_of_itself_has_no_loss():
    for objective in (methods.few_step(), methods.few_step(from_states=True)):
        assert shared(objective, TEACHER, copy.deepcopy(TEACHER))[0].total.item() == pytest.approx(0, abs=1e-12)


def test_joint_adds_the_students_own_loss_to_one_that_its_matches_do_not_tell():
    learner, batch = student([999]), Batch(torch.rand(4, 1, 4, 4, dtype=torch.float64))

    def run(objective):
        torch.manual_seed(3)
        return objective(TEACHER, learner, batch=batch)

    found = run(methods.joint(0.25, methods.consistency()))
    assert found.terms["distillation/consistency"].item() == pytest.approx(
        0.25 * run(methods.consistency()).total.item(), rel=1e-12
    )
    assert set(found.terms) == {"distillation/consistency", "data/denoising"}


def test_what_they_need():
    for objective in (methods.consistency(), methods.progressive(), methods.distribution_matching()):
        assert objective.needs_teacher
        assert not objective.needs_data
        assert not objective.trains_inference


SHORT = {"prediction_type": "v_prediction", "num_train_timesteps": 10, "beta_end": 0.5}


@pytest.mark.parametrize(
    ("objective", "learner", "told"),
    [
        (methods.progressive(most=2), {"steps": 2}, r"trains .* at \[999, 499\], .* at \[500, 0\]; .*trailing"),
        (methods.progressive(most=8), {"timesteps": [9], "scheduler": SHORT}, r"16 steps, .* 10 times.*most <= 5"),
        (methods.progressive(most=4), {"timesteps": [9], "scheduler": SHORT}, r"10 times and the teacher's 1000"),
        (methods.consistency(), {"steps": 2}, r"from 999 to 99, .* \[500, 0\]; .*among the teacher's"),
        (methods.consistency(), {"timesteps": [899, 5]}, r"\[5\]"),
        *(
            (objective, {"timesteps": [999], "scheduler": {"beta_schedule": "squaredcos_cap_v2"}}, "scheduler")
            for objective in (methods.progressive(most=2), methods.consistency())
        ),
    ],
)
def test_a_student_is_trained_where_it_samples_or_refused(objective, learner, told):
    torch.manual_seed(1)
    learner = DDIM(TINY, **{"scheduler": {"prediction_type": "v_prediction"}, **learner}).double()

    def step():
        objective.prepare(TEACHER, learner)
        objective(TEACHER, learner, batch_size=2, progress=1.0)

    with pytest.raises(MatchError, match=told):
        step()


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("make", [methods.progressive, methods.consistency])
def test_a_student_may_tell_another_part_of_a_state(make, prediction):
    torch.manual_seed(1)
    learner = DDIM(TINY, steps=1, spacing="trailing", scheduler={"prediction_type": prediction}).double()
    objective = make()
    objective.prepare(TEACHER, learner)
    assert objective(TEACHER, learner, batch_size=2, progress=1.0).total.isfinite()


def test_errors_name_the_mend():
    learner = student([999])
    with pytest.raises(MatchError, match="prepare"):
        methods.distribution_matching()(TEACHER, learner, batch_size=2)
    other = LinearGaussian([["z", "latent", 2, []], ["y", "target", 3, ["z"]]])
    with pytest.raises(MatchError, match="diffusion models"):
        methods.consistency()(other, learner, batch_size=2)
    with pytest.raises(MatchError, match="diffusion models"):
        methods.distribution_matching().prepare(other, learner)
    for settings in ({"state_weight": -1.0}, {"order": 3}, {"state_weight": 0, "from_states": True}):
        with pytest.raises(MatchError):
            methods.few_step(**settings)
    with pytest.raises(MatchError, match="order"):
        methods.denoising_student(order=1.5)
    with pytest.raises(MatchError, match="prepare"):
        methods.progressive()(TEACHER, learner, batch_size=2, progress=0.0)
    with pytest.raises(MatchError, match="progress=step / steps"):
        methods.progressive()(TEACHER, learner, batch_size=2)
    for most, times in ((6, [999, 749, 499, 249]), (3, [999])):
        with pytest.raises(MatchError, match="power of 2"):
            methods.progressive(most=most).prepare(TEACHER, student(times))
    with pytest.raises(MatchError, match="most"):
        methods.progressive(most=0)
    for low in (0.9, 0.1):
        with pytest.raises(MatchError, match="low"):
            methods.distribution_matching(low=low, high=0.1)
