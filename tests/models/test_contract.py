"""What every model and every method must do, whatever else they do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from limbeck.core import methods
from limbeck.core.divergence import kl, kl_monte_carlo
from limbeck.core.graph import DGM
from limbeck.core.loss import Batch
from limbeck.core.objective import Objective
from limbeck.core.trace import Kind
from tests.zoo import ZOO, Entry

DISTILLATIONS = ["surrogate", "local", "marginalized", "joint"]


def objective(name: str, entry: Entry) -> Objective:
    # Normal and Laplace latents have no closed-form transport distance, but a KL.
    latent = {"latent": kl} if entry.name == "normal to laplace" else {}
    surrogate = methods.surrogate(latent_weight=0.1, target=entry.target, **latent)
    if name == "surrogate":
        return surrogate
    if name == "joint":
        return methods.joint(0.5, surrogate)
    if name == "marginalized":
        return methods.marginalized(3, target=kl if entry.marginal == "kl" else kl_monte_carlo)
    return methods.local(target=entry.target) if name == "local" else methods.scratch()


def cases(*names: str) -> list:
    return [
        pytest.param(entry, name, id=f"{entry.name}-{name}")
        for entry in ZOO
        for name in names
        if (name not in ("joint", "scratch") or entry.data) and (name != "marginalized" or entry.marginal)
    ]


def arguments(entry: Entry, name: str, rows: int = 16, dtype: torch.dtype = torch.float32) -> dict:
    if name in ("joint", "scratch"):
        return {"batch": entry.data(rows)}
    return entry.rows(rows, dtype)


def snapshot(model: DGM) -> tuple[dict, dict]:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return state, {name: module.training for name, module in model.named_modules()}


def equal(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(("entry", "name"), cases(*DISTILLATIONS, "scratch"))
def test_every_parameter_within_reach_moves(entry: Entry, name: str) -> None:
    torch.manual_seed(1)
    teacher, student = entry.pair()
    student.train()
    reached = {n: p for n, p in student.named_parameters() if p.requires_grad}
    untouched = {}
    if name not in ("joint", "scratch"):
        inference = {id(p) for p in student.inference_parameters()}
        untouched = {n: p for n, p in reached.items() if id(p) in inference}
    if name == "marginalized":  # compares targets only, and no gradient passes a discrete latent
        untouched |= {n: p for n, p in reached.items() if entry.discrete and n.startswith(entry.discrete)}
    before = {n: p.detach().clone() for n, p in reached.items()}

    loss = objective(name, entry)(None if name == "scratch" else teacher, student, **arguments(entry, name))
    assert loss.total.shape == ()
    assert torch.isfinite(loss.total)
    assert loss.total.item() == pytest.approx(sum(t.item() for t in loss.terms.values()), rel=1e-5)
    loss.backward()
    torch.optim.Adam(reached.values(), lr=1e-2).step()

    for n, parameter in reached.items():
        if n in untouched:
            assert parameter.grad is None, n
            assert torch.equal(parameter, before[n]), n
            continue
        assert parameter.grad is not None, n
        assert torch.isfinite(parameter.grad).all(), n
        assert parameter.grad.abs().max() > 0, n
        assert not torch.equal(parameter, before[n]), n


@pytest.mark.parametrize("mode", ["eval", "train", "mixed"])
@pytest.mark.parametrize(("entry", "name"), cases(*DISTILLATIONS))
def test_teacher_is_untouched(entry: Entry, name: str, mode: str) -> None:
    teacher, student = entry.pair()
    teacher.train(mode == "train")
    if mode == "mixed":  # the flag of the whole says eval, but a part was left in train mode
        for child in teacher.children():
            child.train()
    state, training = snapshot(teacher)
    objective(name, entry)(teacher, student, **arguments(entry, name)).backward()
    state_after, training_after = snapshot(teacher)
    assert equal(state, state_after)
    assert training == training_after
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", ["surrogate", "local"])
def test_teacher_runs_in_eval_mode_whatever_it_was_left_in(name: str) -> None:
    entry = next(e for e in ZOO if e.name == "ladder")
    teacher, student = entry.pair()
    losses = []
    for training in (False, True):
        teacher.train(training)
        generator = torch.Generator().manual_seed(0)
        losses.append(objective(name, entry)(teacher, student, batch_size=8, generator=generator).total)
    assert torch.equal(*losses)


@pytest.mark.parametrize(("entry", "name"), cases(*DISTILLATIONS, "scratch"))
def test_one_seed_fixes_the_loss(entry: Entry, name: str) -> None:
    teacher, student = entry.pair()

    def loss(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = copy.deepcopy(student)
        return objective(name, entry)(teacher, model, **arguments(entry, name)).total.detach()

    assert torch.equal(loss(3), loss(3))
    if name not in entry.fixed:
        assert not torch.equal(loss(3), loss(4))


@pytest.mark.parametrize(("entry", "name"), cases("surrogate", "local"))
def test_a_generator_fixes_the_loss_and_leaves_the_global_one_alone(entry: Entry, name: str) -> None:
    teacher, student = entry.pair()
    student.eval()
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        generator = torch.Generator().manual_seed(7)
        losses.append(objective(name, entry)(teacher, student, **entry.rows(6), generator=generator).total)
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(*losses)


@pytest.mark.parametrize(("entry", "name"), cases("surrogate", "local", "marginalized"))
def test_float64_throughout(entry: Entry, name: str) -> None:
    teacher, student = entry.pair(dtype=torch.float64)
    loss = objective(name, entry)(teacher, student, **arguments(entry, name, dtype=torch.float64))
    assert loss.total.dtype == torch.float64
    loss.backward()
    trace = student.eval().trace(**entry.rows(3, torch.float64))
    for tensor in (*trace.noise.values(), *trace.values.values()):
        assert tensor.dtype in (torch.float64, torch.int64)


@pytest.mark.parametrize(("entry", "name"), cases("surrogate", "local"))
def test_an_exact_copy_is_a_stationary_point_with_loss_zero(entry: Entry, name: str) -> None:
    teacher, student = entry.copies(dtype=torch.float64)
    loss = objective(name, entry)(teacher, student, **entry.rows(16, torch.float64))
    assert abs(loss.total.item()) < 1e-12
    loss.backward()
    for n, parameter in student.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.abs().max() < 1e-10, n


@pytest.mark.parametrize(("entry", "name"), cases("surrogate", "local"))
def test_a_different_student_has_a_loss_above_zero(entry: Entry, name: str) -> None:
    teacher, student = entry.pair()
    loss = objective(name, entry)(teacher, student.eval(), **entry.rows(64))
    assert loss.total.item() > 1e-4
    assert all(term.item() > -1e-6 for term in loss.terms.values())


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_replay_with_its_own_noise_is_exact(entry: Entry) -> None:
    model, _ = entry.pair()
    first = model.trace(**entry.rows(5), generator=torch.Generator().manual_seed(2))
    x = entry.rows(5).get("x")
    again = model.trace(x=x, noise=first.noise)
    other = model.trace(**entry.rows(5), generator=torch.Generator().manual_seed(3))
    assert list(again) == list(first)
    for name, site in first.items():
        assert torch.equal(site.value, again[name].value), name
    assert any(not torch.equal(first[name].value, other[name].value) for name in first)


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_replay_with_its_own_values_has_the_same_density(entry: Entry) -> None:
    model, _ = entry.pair(dtype=torch.float64)
    first = model.trace(**entry.rows(5, torch.float64))
    again = model.trace(x=entry.rows(5, torch.float64).get("x"), values=first.values)
    assert again.noise == {}
    assert torch.equal(first.log_prob(), again.log_prob())
    assert first.log_prob().shape == (5,)
    split = first.log_prob(Kind.TARGET)
    if first.of_kind(Kind.LATENT):
        split = split + first.log_prob(Kind.LATENT)
    torch.testing.assert_close(split, first.log_prob())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_saving_and_loading(entry: Entry, dtype: torch.dtype, tmp_path) -> None:
    model, _ = entry.pair(dtype=dtype)
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    for path in tmp_path.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, MemoryError)):
            pickle.loads(path.read_bytes())
    for cls in (type(model), DGM):
        loaded = cls.from_pretrained(tmp_path)
        assert type(loaded) is type(model)
        assert not loaded.training
        assert loaded.config == model.config
        assert equal(loaded.state_dict(), model.state_dict())
        assert {p.dtype for p in loaded.parameters()} == {dtype}
        draws = [m.sample(**entry.rows(4, dtype), generator=torch.Generator().manual_seed(0)) for m in (model, loaded)]
        assert equal(*draws)


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_a_copy_keeps_its_arguments_and_shares_nothing(entry: Entry, tmp_path) -> None:
    model, _ = entry.pair()
    twin = copy.deepcopy(model)
    assert twin.config == model.config
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters()))
    twin.save_pretrained(tmp_path)
    assert equal(DGM.from_pretrained(tmp_path).state_dict(), twin.state_dict())


@pytest.mark.parametrize("entry", [e for e in ZOO if e.data], ids=lambda e: e.name)
def test_targets_form_one_y_and_come_apart_again(entry: Entry) -> None:
    model, _ = entry.pair()
    y = model.join_targets(model.trace(**entry.rows(4)).targets)
    assert torch.equal(model.join_targets(model.split_targets(y, entry.rows(4).get("x"))), y)
    assert torch.isfinite(model.loss(Batch(y, entry.rows(4).get("x"))).total)


@pytest.mark.parametrize("entry", [e for e in ZOO if e.data], ids=lambda e: e.name)
def test_a_validation_needs_no_gradients(entry: Entry) -> None:
    model, _ = entry.pair()
    losses = []
    for learning in (True, False):
        torch.manual_seed(0)
        with torch.set_grad_enabled(learning):
            losses.append(copy.deepcopy(model).loss(entry.data(8)).terms)
    assert not any(term.requires_grad for term in losses[1].values())
    for name, term in losses[0].items():
        torch.testing.assert_close(losses[1][name], term.detach(), msg=name)


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.name)
def test_a_model_is_a_pure_function_of_its_noise(entry: Entry) -> None:
    model, _ = entry.pair()
    noise = model.trace(**entry.rows(4)).noise
    x = entry.rows(4).get("x")
    first, again = model(noise, x), model(noise, x)
    assert equal(first, again)
    assert list(first) == [s.name for s in model.trace(x=x, noise=noise).of_kind(Kind.TARGET)]
    assert all(torch.isfinite(mean).all() for mean in first.values())
