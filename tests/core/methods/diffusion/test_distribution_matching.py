"""Distribution matching against its formula, and who learns what of it."""

import torch

from limbeck import methods
from tests.core.methods.diffusion.small_samplers import TEACHER, path, student


def test_distribution_matching_is_its_formula():
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
        signal, scale = TEACHER.schedule.at(t, noise)
        error = objective.critic.unet(state, t).sample - (signal * noise - scale * image)
    torch.testing.assert_close(loss.terms["critic"], error.square().mean())
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


def test_levels_may_lie_within_one_time():
    learner, objective = student([999]), methods.distribution_matching(0.0, 1e-4)
    objective.prepare(TEACHER, learner)
    assert objective(TEACHER, learner, batch_size=2).total.isfinite()
