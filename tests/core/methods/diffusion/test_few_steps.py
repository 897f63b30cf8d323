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
from tests.zoo import LinearGaussian

TINY = {
    "sample_size": 4, "in_channels": 1, "out_channels": 1, "block_out_channels": [4], "layers_per_block": 1,
    "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "norm_num_groups": 2, "attention_head_dim": 4,
}  # fmt: skip


def ddim(seed: int = 0, **settings) -> DDIM:
    torch.manual_seed(seed)
    return DDIM(TINY, scheduler={"prediction_type": "v_prediction"}, **settings).double().eval()


TEACHER = ddim(steps=10, spacing="trailing")


def student(times: list[int], **settings) -> DDIM:
    return ddim(1, timesteps=times, **settings)


def path(model: DDIM, noise: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every state and the image, in the diffusion's units, by a loop of this test's own."""
    states, state = {}, noise
    for t, after in zip(model.timesteps, (*model.timesteps[1:], model.schedule.times), strict=True):
        states[f"x[{t}]"] = state
        told = model.unet(state, t).sample
        signal, scale = model.schedule.at(t, state)
        image = state - told if model.first == "residual" and state is noise else signal * state - scale * told
        signal_after, scale_after = model.schedule.at(after, state)
        state = signal_after * image + scale_after * (state - signal * image) / scale
    return {**states, "x_0": state}


def shared(objective, teacher, learner):
    """The loss, and the noise that the models shared."""
    torch.manual_seed(3)
    loss = objective(teacher, learner, batch_size=5)
    torch.manual_seed(3)
    return loss, torch.randn(5, 1, 4, 4, dtype=torch.float64)


def squared(a, b):
    return (a - b).square().flatten(1).sum(1).mean()


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


def test_consistency_by_hand():
    learner = student([999, 499])
    torch.manual_seed(3)
    loss = methods.consistency()(TEACHER, learner, batch_size=6).total
    torch.manual_seed(3)
    with torch.no_grad():
        image = path(TEACHER, torch.randn(6, 1, 4, 4, dtype=torch.float64))["x_0"]
    torch.randn(6, 1, 4, 4, dtype=torch.float64)  # of the target, whose mean is what counts
    place, noise = torch.randint(10, (6,)), torch.randn(6, 1, 4, 4, dtype=torch.float64)
    times = [*TEACHER.timesteps, 1000]
    total = 0.0
    for row in range(6):
        t, after = times[place[row]], times[place[row] + 1]
        (a, s), (b, r) = TEACHER.schedule.at(t, noise), TEACHER.schedule.at(after, noise)
        state = a * image[row] + s * noise[row]
        told = TEACHER.unet(state[None], t).sample[0]
        moved = b * (a * state - s * told) + r * (a * told + s * state)
        seen = a * state - s * learner.unet(state[None], t).sample[0]
        aim = moved if after == 1000 else b * moved - r * learner.unet(moved[None], after).sample[0]
        c = 0.00054 * 4
        total += ((seen - aim).square().sum() + c**2).sqrt() - c
    assert loss.item() == pytest.approx(total.item() / 6, rel=1e-9)


def test_consistency_passes_no_gradient_through_its_aim():
    learner = student([999])
    methods.consistency()(TEACHER, learner, batch_size=4).total.backward()
    assert all(p.grad is None for p in TEACHER.parameters())
    assert any(p.grad.abs().sum() > 0 for p in learner.parameters() if p.grad is not None)


def step(model, state, t: int, after: int):
    """One step of a sampler, and the image it saw, by hand."""
    told = model.unet(state[None], t).sample[0]
    (a, s), (b, r) = model.schedule.at(t, state), model.schedule.at(after, state)
    return b * (a * state - s * told) + r * (a * told + s * state), a * state - s * told


@pytest.mark.parametrize("progress", [0.0, 0.7])
def test_progressive_by_hand(progress):
    learner, objective = student([999]).train(), methods.progressive(most=2)
    objective.prepare(TEACHER, learner)
    before = copy.deepcopy(learner)
    torch.manual_seed(3)
    loss = objective(TEACHER, learner, batch_size=6, progress=progress).total
    guide, steps = (TEACHER, 2) if progress < 0.5 else (before, 1)
    torch.manual_seed(3)
    with torch.no_grad():
        image = path(TEACHER, torch.randn(6, 1, 4, 4, dtype=torch.float64))["x_0"]
    torch.randn(6, 1, 4, 4, dtype=torch.float64)  # of the target, whose mean is what counts
    place, noise = torch.randint(steps, (6,)), torch.randn(6, 1, 4, 4, dtype=torch.float64)
    times = [999, 749, 499, 249, 1000] if steps == 2 else [999, 499, 1000]
    total = 0.0
    for row in range(6):
        t, middle, end = times[2 * place[row] : 2 * place[row] + 3]
        (a, s), (b, r) = TEACHER.schedule.at(t, noise), TEACHER.schedule.at(end, noise)
        state = a * image[row] + s * noise[row]
        there = step(guide, step(guide, state, t, middle)[0], middle, end)[0]
        # What one step needs: b x + r (state - a x) / s = there, solved for the image x.
        aim = (there - r / s * state) / (b - r / s * a)
        total += 0.5 * max(a * a / s / s, 1) * (aim - step(learner, state, t, end)[1]).square().sum()
    assert loss.item() == pytest.approx(total.item() / 6, rel=1e-9)


def test_progressive_takes_the_student_as_guide_at_the_right_times():
    learner, objective = student([999]).train(), methods.progressive(most=4)
    objective.prepare(TEACHER, learner)
    first = copy.deepcopy(objective.guide.state_dict())

    def changed() -> bool:
        return any(not torch.equal(value, first[name]) for name, value in objective.guide.state_dict().items())

    for progress, part in ((0.0, 0), (0.3, 0), (0.34, 1), (0.6, 1), (0.7, 2), (0.99, 2)):
        with torch.no_grad():
            next(iter(learner.parameters())).add_(0.1)
        objective(TEACHER, learner, batch_size=2, progress=progress)
        assert int(objective.stage) == part
        assert changed() == (part > 0)
    kept = copy.deepcopy(objective.guide.state_dict())
    objective(TEACHER, learner.eval(), batch_size=2, progress=1.0)
    assert all(torch.equal(value, kept[name]) for name, value in objective.guide.state_dict().items())
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    resumed = methods.progressive(most=4)
    resumed.prepare(TEACHER, learner)
    resumed.load_state_dict(objective.state_dict())
    assert int(resumed.stage) == 2


def test_distribution_matching_by_hand():
    learner, objective = student([999]), methods.distribution_matching()
    objective.prepare(TEACHER, learner)
    with torch.no_grad():
        for parameter in objective.critic.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    torch.manual_seed(3)
    loss = objective(TEACHER, learner, batch_size=4)
    own = torch.autograd.grad(loss.terms["distribution"], list(learner.parameters()), allow_unused=True)
    torch.manual_seed(3)
    image = path(learner, torch.randn(4, 1, 4, 4, dtype=torch.float64))["x_0"]
    torch.randn(4, 1, 4, 4, dtype=torch.float64)  # of the target, whose mean is what counts
    t, noise = torch.randint(20, 980, (4,)), torch.randn(4, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        state = TEACHER.schedule.noised(image, noise, t)
        real, fake = TEACHER.denoise(state, t)[0], objective.critic.denoise(state, t)[0]
        pull = (fake - real) / (image - real).abs().mean((1, 2, 3), keepdim=True)
    by_hand = torch.autograd.grad((image * pull).sum() / 4, list(learner.parameters()), allow_unused=True)
    for a, b in zip(own, by_hand, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_each_network_of_distribution_matching_learns_its_own_loss():
    learner, objective = student([999]), methods.distribution_matching()
    objective.prepare(TEACHER, learner)
    loss = objective(TEACHER, learner, batch_size=4)
    critic = list(objective.critic.parameters())
    assert critic
    assert all(g is None for g in torch.autograd.grad(loss.terms["distribution"], critic, retain_graph=True,
                                                      allow_unused=True))  # fmt: skip
    assert all(g is None for g in torch.autograd.grad(loss.terms["critic"], list(learner.parameters()),
                                                      retain_graph=True, allow_unused=True))  # fmt: skip
    assert any(g is not None for g in torch.autograd.grad(loss.terms["critic"], critic, allow_unused=True))


def test_with_its_own_teacher_as_critic_distribution_matching_pulls_nowhere():
    learner, objective = student([999]), methods.distribution_matching()
    objective.prepare(TEACHER, learner)  # the critic starts as a copy of the teacher
    assert objective(TEACHER, learner, batch_size=4).terms["distribution"].item() == 0


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
    with pytest.raises(MatchError, match="power of 2"):
        methods.progressive(most=6).prepare(TEACHER, student([999, 749, 499, 249]))
    with pytest.raises(MatchError, match="most"):
        methods.progressive(most=0)
    with pytest.raises(MatchError, match="low"):
        methods.distribution_matching(low=0.9, high=0.1)
