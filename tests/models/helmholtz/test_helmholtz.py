"""The Helmholtz machine: its published sizes, its losses written by hand, and what it learns."""

from __future__ import annotations

import copy
import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal
from torch.nn import functional as F

from limbeck.core import methods
from limbeck.core.bounds import importance_weighted_bound
from limbeck.core.loss import Batch
from limbeck.core.trace import Kind
from limbeck.data import Faithful
from limbeck.errors import ModelError
from limbeck.metrics import Grid, kl_on_grid
from limbeck.models import HelmholtzMachine
from tests.models.helmholtz.machines import TREE, data_fit, machine, rows


@pytest.mark.parametrize(("hidden", "published", "generative"), [(8, 354, 186), (2, 102, 54)])
def test_sizes_are_the_published_ones(hidden: int, published: int, generative: int) -> None:
    model = HelmholtzMachine(hidden=hidden)
    assert sum(p.numel() for p in model.parameters()) == published
    assert sum(p.numel() for p in model.generative_parameters()) == generative


def test_the_graph_is_that_of_the_paper() -> None:
    trace = machine().trace(5)
    kinds = {name: site.kind for name, site in trace.items()}
    assert list(kinds) == ["z4", "z3", "y2", "z2", "z1", "y1"]
    assert [name for name, kind in kinds.items() if kind is Kind.TARGET] == ["y2", "y1"]
    for name in ("z1", "z2", "z3", "z4"):
        law = trace[name].distribution
        assert isinstance(law, Bernoulli)
        assert law.batch_shape == (5, 2)
        assert set(trace[name].value.flatten().tolist()) <= {0.0, 1.0}
    for name in ("y1", "y2"):
        assert isinstance(trace[name].distribution, Normal)
        assert (trace[name].distribution.stddev == 0.5).all()
    assert torch.equal(trace["z4"].distribution.logits, machine().generator["z4"].bias.expand(5, 2))


def test_columns_of_the_data_are_the_targets_in_the_order_given() -> None:
    y = rows()
    assert torch.equal(machine().columns(y)["y2"], y[:, 1:])
    assert torch.equal(machine(targets=["y2", "y1"]).columns(y)["y2"], y[:, :1])


def test_bounds_and_methods_that_infer_take_rows() -> None:
    """A bound on the exact likelihood, and methods that draw latents from the recogniser."""
    torch.manual_seed(0)
    model, y = HelmholtzMachine(hidden=3).double(), rows()
    bound = importance_weighted_bound(model, y, samples=500)
    torch.testing.assert_close(bound, model.log_likelihood(y), atol=0.2, rtol=0.0)
    for objective in (methods.own_bound(), methods.surrogate(latent_weight=1.0, posterior_weight=1.0)):
        assert torch.isfinite(objective(machine(1), model, batch_size=4).total)


def by_hand(networks: torch.nn.ModuleDict, name: str, given: list[Tensor], value: Tensor) -> Tensor:
    """log p of one variable of the chain, written out."""
    layers = networks[name]
    output = layers.bias if not given else layers[2](torch.tanh(layers[0](torch.cat(given, 1))))
    if name.startswith("y"):
        return (-((value - output) ** 2) / (2 * 0.25) - math.log(0.5 * math.sqrt(2 * math.pi))).sum(1)
    return (value * F.logsigmoid(output) + (1 - value) * F.logsigmoid(-output)).sum(1)


def log_p(model: HelmholtzMachine, v: dict[str, Tensor]) -> Tensor:
    g = model.generator
    parents = {"z4": [], "z3": [v["z4"]], "y2": [v["z3"]], "z2": [v["y2"]], "z1": [v["z2"]], "y1": [v["z1"]]}
    return sum(by_hand(g, name, given, v[name]) for name, given in parents.items())


def log_q(model: HelmholtzMachine, v: dict[str, Tensor]) -> Tensor:
    r = model.recogniser
    parents = {"z1": [v["y2"], v["y1"]], "z2": [v["y2"], v["z1"]], "z3": [v["y2"]], "z4": [v["z3"]]}
    return sum(by_hand(r, name, given, v[name]) for name, given in parents.items())


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("training", ["wake-sleep", "reweighted-wake-sleep"])
def test_loss_is_the_published_one(training: str, samples: int) -> None:
    model, y = machine(training=training, samples=samples), rows()
    torch.manual_seed(3)
    loss = model.loss(Batch(y))
    torch.manual_seed(3)
    repeated = y.repeat_interleave(samples, 0)
    latents = model.trace_inference(repeated).values
    with torch.no_grad():
        dream = model.trace(len(y)).values
    seen = {**latents, "y1": repeated[:, :1], "y2": repeated[:, 1:]}
    p, q = log_p(model, seen), log_q(model, seen)
    if training == "wake-sleep":
        expected = {"wake": -p.mean()}
    else:
        w = (p - q).detach().reshape(len(y), samples).exp()
        w = (w / w.sum(1, keepdim=True)).flatten()
        expected = {"wake": -(w * p).sum() / len(y), "wake recogniser": -(w * q).sum() / len(y)}
    expected["sleep"] = -log_q(model, dream).mean()
    assert loss.terms.keys() == expected.keys()
    for name, term in loss.terms.items():
        assert term.item() == pytest.approx(expected[name].item(), rel=1e-12)
    gradients = torch.autograd.grad(loss.total, list(model.parameters()))
    expected_gradients = torch.autograd.grad(sum(expected.values()), list(model.parameters()))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(gradients, expected_gradients))


def test_reweighted_wake_sleep_s_generator_gradient_tends_to_maximum_likelihood() -> None:
    y = rows(2)
    errors = []
    for samples in (1, 400):
        model = machine(training="reweighted-wake-sleep", samples=samples)
        parameters = model.generative_parameters()
        exact = torch.cat([g.flatten() for g in torch.autograd.grad(-model.log_likelihood(y).mean(), parameters)])
        torch.manual_seed(0)
        found = []
        for _ in range(20):
            wake = model.loss(Batch(y)).terms["wake"]
            found.append(torch.cat([g.flatten() for g in torch.autograd.grad(wake, parameters)]))
        errors.append(((torch.stack(found).mean(0) - exact).norm() / exact.norm()).item())
    assert errors[1] < 0.1
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("training", ["wake-sleep", "reweighted-wake-sleep"])
def test_training_on_data_raises_the_exact_likelihood(training: str) -> None:
    data = Faithful().load().train.values
    torch.manual_seed(0)
    model = HelmholtzMachine(hidden=4, training=training, samples=2)
    before = data_fit(model, data)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(Batch(data)).backward()
        optimizer.step()
    after = data_fit(model, data)
    assert before < -2.3
    assert after > -1.85  # one Gaussian reaches about -2.0, the best machines -1.68


def test_a_student_of_two_units_follows_its_teacher() -> None:
    data = Faithful().load().train.values
    torch.manual_seed(0)
    teacher, student = HelmholtzMachine(hidden=4), HelmholtzMachine(hidden=2)
    optimizer = torch.optim.Adam(teacher.generative_parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        (-teacher.log_likelihood(data).mean()).backward()
        optimizer.step()
    objective = methods.surrogate(latent_weight=1.0)
    optimizer = torch.optim.Adam(student.generative_parameters(), 0.1)
    for _ in range(250):
        optimizer.zero_grad()
        objective(teacher, student, batch_size=128).backward()
        optimizer.step()
    grid = Grid.over([-5.0, -5.0], [5.0, 5.0], 61)
    with torch.no_grad():
        assert data_fit(teacher, data) > -1.8
        assert kl_on_grid(teacher.log_likelihood, student.log_likelihood, grid)[0] < 0.05


def test_surrogate_and_local_agree_where_the_student_is_the_teacher() -> None:
    teacher = machine()
    for objective in (methods.surrogate(1.0), methods.local()):
        assert objective(teacher, copy.deepcopy(teacher), batch_size=50).total.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "hidden must be positive, not 0"),
        ({"samples": 0}, "samples must be positive"),
        ({"target_scale": -1.0}, "target_scale must be positive"),
        ({"activation": "step"}, "activation must be one of relu, leaky-relu, tanh, not 'step'"),
        ({"training": "sleep"}, "training must be wake-sleep or reweighted-wake-sleep, not 'sleep'"),
        ({"graph": {"y": ["z"], "z": []}, "targets": ["y"]}, "'y' has the parent 'z', which does not stand before it"),
        ({"graph": {"z": [], "y": ["z", "z"]}, "targets": ["y"]}, "'y' names a parent twice"),
        ({"graph": {"z.1": [], "y": []}, "targets": ["y"]}, "cannot be named 'z.1'"),
        ({"graph": {"z": [], "y": ["z"]}}, "targets must name at least one variable .* none"),
        ({"targets": ["y1", "y1"]}, "each once"),
        ({"targets": ["y7"]}, "y7"),
        ({"graph": {"y": []}, "targets": ["y"]}, "there must be a latent"),
    ],
)
def test_errors_name_what_is_wrong(arguments: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        HelmholtzMachine(**arguments)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"targets y1, y2, one a column, .* shape \(3,\)"):
        machine().loss(Batch(rows(4, 3)))


def test_all_pairs_of_activations_share_one_graph() -> None:
    for first, second in combinations(("relu", "leaky-relu", "tanh"), 2):
        teacher, student = machine(activation=first), machine(1, activation=second)
        assert torch.isfinite(methods.surrogate(1.0)(teacher, student, batch_size=4).total)


def test_a_saved_machine_has_its_own_graph(tmp_path) -> None:
    model = machine(graph=TREE, targets=["y1", "y2"], latent_size=1).float()
    model.save_pretrained(tmp_path)
    again = HelmholtzMachine.from_pretrained(tmp_path)
    assert again.graph == model.graph
    assert torch.equal(again.log_likelihood(rows()), model.log_likelihood(rows()))
