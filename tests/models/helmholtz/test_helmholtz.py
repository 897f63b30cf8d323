"""The Helmholtz machine against its published sizes, enumeration of all its bits, and its losses written by hand."""

from __future__ import annotations

import copy
import math
from itertools import combinations, product

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
from limbeck.models.helmholtz.graph import inverse

TREE = {"z3": [], "y2": ["z3"], "z2": ["z3", "y2"], "z1": ["z3"], "y1": ["z1", "z2", "y2"], "y3": []}


def machine(seed: int = 0, **arguments: object) -> HelmholtzMachine:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = HelmholtzMachine(**{"hidden": 3, **arguments}).double()
        with torch.no_grad():  # laws that differ from their parents' states
            for parameter in built.parameters():
                parameter *= 2.0
    return built


def rows(count: int = 6, columns: int = 2) -> Tensor:
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def enumerated(model: HelmholtzMachine, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """log p(y, z) for every state of all bits, shape (states, rows), and the states, each (states, bits)."""
    names = [name for name in model.graph if name not in model.target_names]
    bits = torch.tensor(list(product((0.0, 1.0), repeat=model.latent_size * len(names))), dtype=torch.float64)
    states = dict(zip(names, bits.split(model.latent_size, dim=1)))
    joint = []
    for i in range(len(bits)):
        values = {name: state[i].expand(len(y), -1) for name, state in states.items()}
        joint.append(model.trace(len(y), values={**values, **model.columns(y)}, noise={}).log_prob())
    return torch.stack(joint), states


@pytest.mark.parametrize(("hidden", "published", "generative"), [(8, 354, 186), (2, 102, 54)])
def test_published_sizes(hidden: int, published: int, generative: int) -> None:
    model = HelmholtzMachine(hidden=hidden)
    assert sum(p.numel() for p in model.parameters()) == published
    assert sum(p.numel() for p in model.generative_parameters()) == generative


def test_the_graph_of_the_paper() -> None:
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


def test_what_the_data_s_rows_are_needed_for() -> None:
    """A bound on the exact likelihood, and methods that draw latents from the recogniser."""
    torch.manual_seed(0)
    model, y = HelmholtzMachine(hidden=3).double(), rows()
    bound = importance_weighted_bound(model, y, samples=500)
    torch.testing.assert_close(bound, model.log_likelihood(y), atol=0.2, rtol=0.0)
    for objective in (methods.own_bound(), methods.surrogate(latent_weight=1.0, posterior_weight=1.0)):
        assert torch.isfinite(objective(machine(1), model, batch_size=4).total)


@pytest.mark.parametrize("graph", [None, TREE])
def test_the_recogniser_has_the_true_posterior_s_structure(graph: dict | None) -> None:
    """Given its parents in the recogniser, a latent is independent of all that is known; given fewer, it is not."""
    targets = ["y1", "y2"] + (["y3"] if graph else [])
    model = machine(graph=graph, targets=targets, latent_size=1)
    y = rows(1, len(targets))
    joint, states = enumerated(model, y)
    weights = torch.softmax(joint[:, 0], 0)
    before: list[str] = []
    for latent, parents in model.backward_graph.items():
        # The targets are fixed here, so only latents can be left out; which targets matter is checked below.
        full = conditional(weights, states, latent, before)
        assert torch.allclose(full, conditional(weights, states, latent, [n for n in parents if n in before]))
        before.append(latent)
    flat = {name: list(parents) for name, parents in model.backward_graph.items()}
    if graph is None:
        assert flat == {"z1": ["y2", "y1"], "z2": ["y2", "z1"], "z3": ["y2"], "z4": ["z3"]}
    else:
        assert flat == {"z1": ["y2", "y1"], "z2": ["y2", "z1", "y1"], "z3": ["y2", "z2", "z1"]}


def conditional(weights: Tensor, states: dict[str, Tensor], latent: str, given: list[str]) -> Tensor:
    """P(latent = 1 | given) in every joint state."""
    result = torch.zeros(len(weights), dtype=torch.float64)
    for i in range(len(weights)):
        same = torch.ones(len(weights), dtype=torch.bool)
        for name in given:
            same &= (states[name] == states[name][i]).all(1)
        ones = same & (states[latent][:, 0] == 1.0)
        result[i] = weights[ones].sum() / weights[same].sum()
    return result


def test_the_recogniser_leaves_nothing_out_that_matters() -> None:
    graph = inverse({"z4": [], "z3": ["z4"], "y2": ["z3"], "z2": ["y2"], "z1": ["z2"], "y1": ["z1"]}, ["y1", "y2"])
    # y1 tells of z1 directly and y2 through z2, which is not drawn yet; once z1 is drawn, y1 adds nothing to z2.
    assert graph["z1"] == ["y2", "y1"]
    assert graph["z2"] == ["y2", "z1"]
    # A common child makes its parents dependent.
    assert inverse({"a": [], "b": [], "y": ["a", "b"]}, ["y"]) == {"b": ["y"], "a": ["b", "y"]}


@pytest.mark.parametrize(
    ("graph", "targets", "size"), [(None, None, 2), (TREE, ["y1", "y2", "y3"], 2), (TREE, ["y3", "y1"], 1)]
)
def test_likelihood_is_that_of_enumeration(graph: dict | None, targets: list[str] | None, size: int) -> None:
    model = machine(graph=graph, targets=targets, latent_size=size)
    y = 2.0 * rows(5, len(model.target_names))
    found = model.log_likelihood(y)
    assert found.dtype == torch.float64
    assert torch.allclose(found, torch.logsumexp(enumerated(model, y)[0], 0), rtol=1e-12)


def test_likelihood_is_float64_also_for_a_float32_model_and_far_from_all_mass() -> None:
    model = machine().float()
    y = torch.tensor([[0.3, -0.2], [400.0, -400.0]])
    found = model.log_likelihood(y)
    assert torch.allclose(found, copy.deepcopy(model).double().log_likelihood(y.double()), rtol=1e-12)
    assert bool(torch.isfinite(found).all())
    assert found[1] < -1e5


def test_likelihood_has_the_right_gradient() -> None:
    model, y = machine(), rows()
    model.log_likelihood(y).sum().backward()
    found = [p.grad.clone() for p in model.generative_parameters()]
    model.zero_grad()
    torch.logsumexp(enumerated(model, y)[0], 0).sum().backward()
    assert all(torch.allclose(a, p.grad, rtol=1e-8) for a, p in zip(found, model.generative_parameters()))
    assert all(p.grad is None for p in model.inference_parameters())


def test_density_integrates_to_one_and_quadrature_has_converged() -> None:
    teacher, student = machine(0), machine(1)
    with torch.no_grad():
        results = [
            kl_on_grid(teacher.log_likelihood, student.log_likelihood, Grid.over([-12.0] * 2, [12.0] * 2, steps))
            for steps in (101, 201)
        ]
    assert results[1][1] == pytest.approx(1.0, abs=1e-9)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-7)
    assert results[1][0] > 0.01


def test_samples_have_the_density_that_is_told() -> None:
    model = machine()
    drawn = model.sample(4000, generator=torch.Generator().manual_seed(0))
    points = torch.cat([drawn["y1"], drawn["y2"]], 1)
    with torch.no_grad():
        entropy, _ = kl_on_grid(
            model.log_likelihood, lambda x: torch.zeros(len(x), dtype=x.dtype), Grid.over([-12.0] * 2, [12.0] * 2, 101)
        )
        told = model.log_likelihood(points)
    assert told.mean().item() == pytest.approx(entropy, abs=4.0 * told.std().item() / math.sqrt(4000))


def test_too_many_latents_are_refused_and_long_chains_are_not() -> None:
    fan = {**{f"z{i}": [] for i in range(6)}, "y": [f"z{i}" for i in range(6)]}
    with pytest.raises(ModelError, match=r"6 latents of 3 bits each, 2 to the 18 .* bound"):
        machine(graph=fan, targets=["y"], latent_size=3).log_likelihood(rows(2, 1))
    chain = {"z0": [], **{f"z{i}": [f"z{i - 1}"] for i in range(1, 30)}, "y": ["z29"]}
    assert torch.isfinite(machine(graph=chain, targets=["y"]).log_likelihood(rows(2, 1))).all()


def test_many_rows_are_worked_through_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    model, y = machine(), rows(20)
    whole = model.log_likelihood(y)
    monkeypatch.setattr("limbeck.models.helmholtz.exact._ENTRIES", 48)
    assert torch.allclose(model.log_likelihood(y), whole, rtol=1e-14)


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


def data_fit(model: HelmholtzMachine, data: Tensor) -> float:
    return model.log_likelihood(data).mean().item()


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
