"""zuko's flows: the same numbers and weights as without us, and students that can be compared with their teachers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import zuko
from safetensors.torch import load_file, save_file
from torch.distributions import Normal, Uniform
from zuko.flows import UnconditionalTransform
from zuko.transforms import PermutationTransform

from limbeck import methods
from limbeck.core.loss import Batch
from limbeck.errors import MatchError, ModelError, StorageError
from limbeck.models import Flow, ZukoFlow
from tests.flows import Bent

SMALL = {"hidden_features": [8]}
FLOWS = {
    "MAF": {"transforms": 2, **SMALL},
    "NSF": {"transforms": 2, "bins": 4, **SMALL},
    "NCSF": {"transforms": 2, "bins": 4, **SMALL},
    "NICE": {"transforms": 2, **SMALL},
    "RealNVP": {"transforms": 2, **SMALL},
    "NAF": {"transforms": 2, "signal": 2, "network": {"hidden_features": [4]}, **SMALL},
    "UNAF": {"transforms": 2, "signal": 2, "network": {"hidden_features": [4], "activation": "ELU"}, **SMALL},
    "SOSPF": {"transforms": 2, **SMALL},
    "BPF": {"transforms": 2, "degree": 4, **SMALL},
    "GF": {"transforms": 2, "components": 3},
    "CNF": {"activation": "Tanh", **SMALL},
}
TABLE_2 = {6: (5.0, 10.1), 8: (5.6, 11.2), 21: (9.4, 18.9), 43: (15.9, 31.8), 63: (21.8, 43.6)}


def rows(count: int = 16, features: int = 3) -> torch.Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(0)).clamp(-3.0, 3.0)


def maf(**changes) -> ZukoFlow:
    return ZukoFlow("MAF", **{"features": 5, "transforms": 4, **SMALL, **changes})


@pytest.mark.parametrize("name", FLOWS)
def test_densities_are_zukos_to_the_bit(name: str) -> None:
    flow = ZukoFlow(name, 3, **FLOWS[name])
    y = rows()
    assert torch.equal(flow.log_prob(y), flow.flow().log_prob(y))
    site = flow.trace_inference(y)["log_prob"].value
    torch.testing.assert_close(site, flow.log_prob(y), atol=1e-5, rtol=1e-6)
    if name in ("MAF", "NSF", "NICE", "RealNVP", "CNF"):
        assert torch.equal(site, flow.log_prob(y))
    assert flow.step_counts == ((1,) if name == "CNF" else (2,))


@pytest.mark.parametrize("name", FLOWS)
def test_samples_are_zukos(name: str) -> None:
    flow = ZukoFlow(name, 3, **FLOWS[name])
    trace = flow.trace(8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(trace.targets["y"], flow.flow().transform.inv(trace["u[0]"].value))
    expected = Uniform if name == "NCSF" else Normal
    assert type(trace["u[0]"].distribution) is expected
    base = flow.flow.base(None)
    torch.testing.assert_close(trace["u[0]"].distribution.log_prob(trace["u[0]"].value).sum(1),
                               base.log_prob(trace["u[0]"].value))  # fmt: skip


def test_conditions_reach_zuko() -> None:
    flow = ZukoFlow("NSF", 3, context=2, transforms=2, **SMALL)
    y, x = rows(), torch.randn(16, 2)
    assert torch.equal(flow.log_prob(y, x), flow.flow(x).log_prob(y))
    drawn = flow.sample(x=x)["y"]
    assert drawn.shape == (16, 3)
    torch.testing.assert_close(flow.decode(flow.encode(y, x), x), y, atol=1e-5, rtol=0.0)


def test_a_base_of_ones_own() -> None:
    """A mixture as the base law: its latents are scored by it, although they cannot be drawn from shared noise."""
    bare = zuko.flows.MAF(2, transforms=2, **SMALL)
    bare.base = zuko.flows.GMM(2, components=3)
    flow = ZukoFlow.wrap(bare)
    y = rows(features=2)
    assert torch.equal(flow.log_prob(y), bare().log_prob(y))
    torch.testing.assert_close(flow.trace_inference(y)["log_prob"].value, bare().log_prob(y))


@pytest.mark.parametrize("columns", TABLE_2)
def test_sizes_are_those_of_table_2(columns: int) -> None:
    sizes = [ZukoFlow("MAF", columns, transforms=depth, hidden_features=[32, 32]) for depth in (3, 6)]
    counts = [sum(parameter.numel() for parameter in flow.parameters()) for flow in sizes]
    assert tuple(round(count / 1000, 1) for count in counts) == TABLE_2[columns]


def test_weights_have_zukos_names_and_are_held_once() -> None:
    flow = ZukoFlow("NAF", 3, **FLOWS["NAF"])
    own = {name.removeprefix("flow."): tensor for name, tensor in flow.state_dict().items() if name.startswith("flow.")}
    theirs = flow.flow.state_dict()
    assert own.keys() == theirs.keys()
    assert len(list(flow.parameters())) == len(list(flow.flow.parameters()))
    flow.double()
    assert {parameter.dtype for parameter in flow.levels[0].steps.parameters()} == {torch.float64}


# ---------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["MAF", "NAF", "GF", "CNF"])
def test_plain_zuko_weights_there_and_back(name: str, dtype: torch.dtype, tmp_path) -> None:
    settings = {key: value for key, value in FLOWS[name].items() if key not in ("network", "activation")}
    bare = getattr(zuko.flows, name)(3, **settings).to(dtype)
    save_file(bare.state_dict(), tmp_path / "theirs.safetensors")
    flow = ZukoFlow.from_weights(tmp_path / "theirs.safetensors", name, 3, **settings)
    y = rows().to(dtype)
    assert torch.equal(flow.log_prob(y), bare().log_prob(y))
    assert not flow.training
    flow.save_zuko(tmp_path / "ours.safetensors")
    again = getattr(zuko.flows, name)(3, **settings).to(dtype)
    again.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    assert torch.equal(again().log_prob(y), bare().log_prob(y))


def test_random_orders_travel_with_the_weights(tmp_path) -> None:
    torch.manual_seed(3)
    bare = zuko.flows.MAF(5, transforms=3, randperm=True, **SMALL)
    save_file(bare.state_dict(), tmp_path / "flow.safetensors")
    flow = ZukoFlow.from_weights(tmp_path / "flow.safetensors", "MAF", 5, transforms=3, **SMALL)
    y = rows(features=5)
    assert torch.equal(flow.log_prob(y), bare().log_prob(y))
    torch.testing.assert_close(flow.decode(flow.encode(y)), y, atol=1e-5, rtol=0.0)


def test_weights_that_do_not_fit_are_refused(tmp_path) -> None:
    path = tmp_path / "flow.safetensors"
    with pytest.raises(ModelError, match="is missing"):
        ZukoFlow.from_weights(path, "MAF", 3)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match="not a readable file of weights"):
        ZukoFlow.from_weights(path, "MAF", 3)
    save_file(zuko.flows.MAF(3, transforms=2, **SMALL).state_dict(), path)
    with pytest.raises(ModelError, match=r"'transform.transforms.2.*' is missing, and \d+ more names"):
        ZukoFlow.from_weights(path, "MAF", 3, transforms=3, **SMALL)
    with pytest.raises(ModelError, match=r"'transform.transforms.1.*' is not part of it"):
        ZukoFlow.from_weights(path, "MAF", 3, transforms=1, **SMALL)
    with pytest.raises(ModelError, match=r"has shape \(3,\) in the file and \(4,\) in the flow"):
        ZukoFlow.from_weights(path, "MAF", 4, transforms=2, **SMALL)


def test_a_flow_that_was_built_outside(tmp_path) -> None:
    bare = zuko.flows.NICE(3, transforms=2, **SMALL)
    flow = ZukoFlow.wrap(bare, standardize=True)
    assert flow.flow is bare
    assert flow.latent_shapes == ((3,),)
    with pytest.raises(ModelError, match="built outside"):
        flow.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="standardize=False"):
        flow.save_zuko(tmp_path / "flow.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        ZukoFlow.wrap(bare).save_zuko(tmp_path / "file" / "flow.safetensors")
    with pytest.raises(ModelError, match="no flow of zuko's"):
        ZukoFlow.wrap(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow": "Glow"}, "no flow 'Glow'; there are: MAF"),
        ({"flow": "Flow"}, "no flow 'Flow'"),
        ({"flow": "GMM"}, "no flow 'GMM'"),
        ({"features": 0}, "features must be positive"),
        ({"transforms": 0}, "transforms must be positive"),
        ({"context": -1}, "context must be at least 0, not -1"),
        ({"depth": 3}, "does not take these settings.*depth"),
        ({"activation": "Elu"}, "such as 'ELU', not 'Elu'"),
    ],
)
def test_bad_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ZukoFlow(**{"flow": "MAF", "features": 3, **settings})


def test_a_recipe_can_name_the_usual_settings() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Flow, "model")
    chosen = {
        "class_path": "limbeck.models.ZukoFlow",
        "init_args": {"flow": "NSF", "features": 3, "transforms": 2, "hidden_features": [8], "context": 1},
        "dict_kwargs": {"bins": 4},
    }
    flow = parser.instantiate(parser.parse_object({"model": chosen})).model
    assert flow.step_counts == (2,)
    assert flow.log_prob(rows(), torch.zeros(16, 1)).shape == (16,)
    assert flow.config["bins"] == 4


def test_zuko_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ModelError, match=r"limbeck\[flows\]"):
        ZukoFlow("MAF", 3)


def test_zuko_is_imported_only_when_it_is_used() -> None:
    code = "import sys, limbeck.models; sys.exit('zuko' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -------------------------------------------------------------------------------------------------------- alignment


def layouts(flow: ZukoFlow, name: str = "order") -> list[list[int]]:
    return [getattr(step.transforms[0], name).int().tolist() for step in flow.levels[0].steps]


def is_autoregressive(flow: ZukoFlow) -> bool:
    """Each step's Jacobian is triangular in the order that the step states."""
    for step in flow.levels[0].steps:
        order = step.transforms[0].order
        y = torch.randn(flow.features)
        jacobian = torch.autograd.functional.jacobian(lambda h: step(h[None])[0][0], y)  # noqa: B023
        sees = order[:, None] > order
        if (jacobian[~sees & ~torch.eye(len(order), dtype=torch.bool)] != 0).any():
            return False
        if (jacobian[sees] == 0).all():
            return False
    return True


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("context", [0, 2])
def test_random_orders_are_taken_over(residual: bool, context: int) -> None:
    torch.manual_seed(1)
    settings = {"features": 5, "context": context, "hidden_features": [8, 8], "residual": residual}
    teacher = ZukoFlow("NSF", transforms=4, randperm=True, **settings)
    for randperm in (False, True):
        student = ZukoFlow("NSF", transforms=2, randperm=randperm, **settings)
        student.align_with(teacher)
        assert layouts(student) == layouts(teacher)[1::2]
        if not context:
            assert is_autoregressive(student)
        y = rows(6, 5)
        x = torch.randn(6, context) if context else None
        torch.testing.assert_close(student.decode(student.encode(y, x), x), y, atol=1e-5, rtol=0.0)


def test_orders_that_take_turns_stay() -> None:
    teacher, student = maf(transforms=6), maf(transforms=3)
    before = layouts(student)
    student.align_with(teacher)
    assert layouts(student) == before == [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]


def test_orders_of_other_groups_are_refused() -> None:
    teacher, student = maf(randperm=True), maf(transforms=2, passes=2)
    with pytest.raises(MatchError, match="give the student passes=5"):
        student.align_with(teacher)


def test_random_masks_are_taken_over() -> None:
    torch.manual_seed(0)
    teacher = ZukoFlow("NICE", 6, transforms=4, randmask=True, **SMALL)
    student = ZukoFlow("NICE", 6, transforms=2, **SMALL)
    student.align_with(teacher)
    assert layouts(student, "mask") == layouts(teacher, "mask")[1::2]
    y = rows(6, 6)
    torch.testing.assert_close(student.decode(student.encode(y)), y, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("flow", ["NICE", "RealNVP"])
def test_random_masks_of_another_size_are_refused(flow: str) -> None:
    """Of an odd number of columns the steps keep one more and one less in turn."""
    torch.manual_seed(0)
    settings = {"features": 5, "randmask": True, **SMALL}
    teacher = ZukoFlow(flow, transforms=4, **settings)
    with pytest.raises(MatchError, match="as many steps as the teacher has"):
        ZukoFlow(flow, transforms=2, **settings).align_with(teacher)
    student = ZukoFlow(flow, transforms=4, **settings)
    student.align_with(teacher)
    assert layouts(student, "mask") == layouts(teacher, "mask")


def test_masks_that_take_turns_stay() -> None:
    teacher, student = (ZukoFlow("NICE", 6, transforms=depth, **SMALL) for depth in (4, 2))
    before = layouts(student, "mask")
    student.align_with(teacher)
    assert layouts(student, "mask") == before


def test_rotations_are_copied_or_refused() -> None:
    teacher, same, shallow = (ZukoFlow("GF", 4, transforms=depth) for depth in (3, 3, 2))
    same.align_with(teacher)
    for own, theirs in zip(same.levels[0].steps, teacher.levels[0].steps):
        for left, right in zip(own.transforms[1:], theirs.transforms[1:]):
            assert all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters()))
    with pytest.raises(MatchError, match="same number of steps"):
        shallow.align_with(teacher)
    with pytest.raises(MatchError, match="align=False"):
        ZukoFlow("MAF", 4, **SMALL).align_with(teacher)
    with pytest.raises(MatchError, match="align=False"):
        shallow.align_with(Bent(4))


def test_permutations_are_found_in_flows_of_ones_own() -> None:
    def permuted(order: list[int]) -> ZukoFlow:
        parts = list(zuko.flows.MAF(4, transforms=2, **SMALL).transform.transforms)
        parts.insert(1, UnconditionalTransform(PermutationTransform, torch.tensor(order), buffer=True))
        return ZukoFlow.wrap(zuko.flows.Flow(parts, zuko.flows.MAF(4).base))

    teacher, student = permuted([1, 0, 3, 2]), permuted([3, 2, 1, 0])
    assert not teacher.keeps_columns
    assert teacher.step_counts == (2,)
    trained = permuted([3, 2, 1, 0])
    student.align_with(teacher)
    assert student.flow.transform.transforms[1](None).order.tolist() == [1, 0, 3, 2]
    for flow in (student, trained):
        flow.adapt(Batch(rows(6, 4)))
    student.align_with(teacher)
    with pytest.raises(MatchError, match="the student was trained with other permutations"):
        trained.align_with(teacher)
    with pytest.raises(MatchError, match="align=False"):
        ZukoFlow("MAF", 4, **SMALL).align_with(teacher)


def test_distilling_goes_through() -> None:
    torch.manual_seed(0)
    teacher, student = maf(transforms=4).eval(), maf(transforms=2)
    objective = methods.skd()
    objective.prepare(teacher, student)
    loss = objective(teacher, student, batch=Batch(rows(8, 5)), batch_size=8)
    assert loss.terms.keys() == {"data/h[0][1]", "data/u[0]", "data/log_prob", "samples/y"}
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
