"""Knowledge transfer as matches: labels as a site, joined sites, divergences that are sized by what they compare."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F

from limbeck import DGM, Match, Objective
from limbeck.core.coupling import WithData
from limbeck.core.delta import Delta
from limbeck.core.divergence import kl, lp, nll, tempered_kl
from limbeck.core.divergence.learned import Learned
from limbeck.core.joint import Joint
from limbeck.core.loss import Batch
from limbeck.core.methods import transfer
from limbeck.core.methods.knowledge_transfer import matched
from limbeck.engine.settings.options import Training
from limbeck.engine.stages.objective_description import describe_objective
from limbeck.engine.training.fit import fit
from limbeck.errors import DivergenceError, MatchError
from limbeck.models import VIB, MLPClassifier

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


class Affine(Learned):
    """The teacher's vector regressed on the student's, for tests."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def extra_repr(self) -> str:
        return f"scale={self.scale}"

    def size(self, p, q) -> None:
        if p.value.ndim != q.value.ndim:
            raise DivergenceError(f"{tuple(p.value.shape)} against {tuple(q.value.shape)}")
        self.linear = nn.Linear(q.value.shape[1], p.value.shape[1])
        self.spread = nn.Parameter(torch.ones(()))

    def undecayed(self):
        return [self.spread] if self.sized else []

    def forward(self, p, q):
        self.check_sized()
        found = (p.value - self.linear(q.value)).square().sum(1)
        self.observed = {"error": found.mean().detach()}
        return self.scale * found + (self.spread - 2.0).square()


def pair(teacher=(8, 6), student=(3, 2), classes=3) -> tuple[DGM, DGM]:
    torch.manual_seed(0)
    return MLPClassifier(4, classes, [*teacher]).eval(), MLPClassifier(4, 3, [*student])


def test_labels_are_a_site_and_the_student_runs_once() -> None:
    teacher, student = pair()
    calls = []
    student.head.register_forward_hook(lambda *_: calls.append(1))
    loss = transfer(["y:kd@2"], task_weight=0.5)(teacher, student, batch=Batch(Y, X))
    assert len(calls) == 1
    own, theirs = student.trace(x=X)["y"].distribution.logits, teacher.trace(x=X)["y"].distribution.logits
    softened = F.kl_div((own / 4).log_softmax(1), (theirs / 4).softmax(1), reduction="batchmean") * 16
    torch.testing.assert_close(loss.terms["task/y|data"], 0.5 * F.cross_entropy(own, Y))
    torch.testing.assert_close(loss.terms["kd/y"], 2 * softened)
    torch.testing.assert_close(loss.total, sum(loss.terms.values()))


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(MatchError, match="nothing to learn from"):
        transfer([], task_weight=0.0)


def test_without_labels() -> None:
    teacher, student = pair()
    objective = transfer(["y:kd"], task_weight=0.0)
    assert not objective.needs_data
    assert set(objective(teacher, student, x=X).terms) == {"kd/y"}


def test_labels_beside_latents() -> None:
    torch.manual_seed(0)
    teacher, student = (VIB(image_size=2, hidden=h, latent_size=3, classes=3) for h in (8, 4))
    images = torch.rand(6, 1, 2, 2)
    objective = transfer([Match("z", divergence=kl, weight=0.1)])
    assert set(objective(teacher, student, batch=Batch(Y, images)).terms) == {"task/y|data", "z"}


def test_joined_sites_reach_the_divergence_together() -> None:
    teacher, student = pair()
    seen = []

    def look(p, q):
        seen.append((p, q))
        return q.logits.sum(1) if isinstance(q, Categorical) else q.laws[0].value.sum(1)

    both = [Match("y&y|data", "y", look), Match("h[0]&h[1]", None, look), Match("y|data", "y", nll)]
    Objective(both, WithData())(teacher, student, batch=Batch(Y, X))
    layers, labelled = sorted(seen, key=lambda found: isinstance(found[1], Categorical))
    assert isinstance(labelled[0], Joint)
    assert torch.equal(labelled[0].laws[1].value, Y)
    assert [law.value.shape[1] for law in layers[0].laws] == [8, 6]
    assert [law.value.shape[1] for law in layers[1].laws] == [3, 2]


def test_every_site_of_a_pattern_gets_parameters_of_its_own() -> None:
    teacher, student = pair()
    objective = Objective([Match("h[*]", divergence=Affine(), name="affine")])
    assert not list(objective.parameters())
    with pytest.raises(DivergenceError, match=r"objective\.prepare"):
        objective(teacher, student, x=X)
    before = copy.deepcopy(student.state_dict())
    objective.prepare(teacher, student, X)
    assert {key: module.linear.weight.shape for key, module in objective.learned.items()} == {
        "0:h[0]": (8, 3),
        "0:h[1]": (6, 2),
    }
    assert "learned.0:h[0].linear.weight" in objective.state_dict()  # a checkpoint finds them under this name
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    kept = copy.deepcopy(objective.state_dict())
    objective.prepare(teacher, student, X)
    assert all(torch.equal(kept[name], value) for name, value in objective.state_dict().items())
    loss = objective(teacher, student, x=X)
    assert set(loss.observed) == {"error/h[0]", "error/h[1]"}
    torch.testing.assert_close(loss.total.detach(), sum(loss.observed.values()) + 2)
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.parameters())
    assert len(list(objective.undecayed())) == 2
    assert {p.dtype for p in objective.double().parameters()} == {torch.float64}


def test_the_engine_trains_saves_and_does_not_decay_them(tmp_path) -> None:
    teacher, student = pair()
    objective = transfer([Match("h[*]", divergence=Affine(), name="affine")])
    training = Training(steps=200, batch_size=6, learning_rate=1e-2, optimizer="sgd", weight_decay=0.5)
    fit(student, objective, training, teacher=teacher, data=Batch(Y, X), directory=tmp_path)
    for module in objective.learned.values():
        assert module.spread.item() == pytest.approx(2.0, abs=1e-3)  # the penalty would hold it lower


def test_what_cannot_be_compared_is_named() -> None:
    teacher, student = pair()
    with pytest.raises(DivergenceError, match="site 'kd/y'"):
        transfer(["y:kd"])(pair(classes=4)[0], student, batch=Batch(Y, X))
    with pytest.raises(MatchError, match="there are none"):
        transfer(["y:kd"])(teacher, student, x=X)
    with pytest.raises(MatchError, match=r"'h\[7\]'"):
        Objective([Match("h[0]&h[7]", None, lp)])(teacher, student, x=X)
    with pytest.raises(MatchError, match="has no site"):
        Objective([Match("h[0]", "g[0]", lp)])(teacher, student, x=X)
    with pytest.raises(MatchError, match="no pattern"):
        Match("h[*]&y")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("h[*]", "write TEACHER"),
        ("h[*]:kdd", "did you mean kd"),
        ("h[*]:kd@much", "'much' is not a number"),
        ("h[0]->:kd", "write TEACHER"),
        ("h:vid@nan", "finite number, not nan"),
        ("h:vid@1e999", "finite number, not inf"),
    ],
)
def test_texts_that_are_no_match(text: str, told: str) -> None:
    with pytest.raises(MatchError, match=told):
        matched(text)


def test_a_match_by_text() -> None:
    match = matched("layer1.0->layer2:kd@3.5")
    assert (match.teacher, match.student, match.weight, match.name) == ("layer1.0", "layer2", 3.5, "kd")


def test_what_tells_two_objectives_apart() -> None:
    one, two, again = (describe_objective(Objective([Match("h[*]", divergence=Affine(s))])) for s in (1.0, 2.0, 1.0))
    assert one == again
    assert one != two


def test_a_joint_law() -> None:
    joint = Joint([Delta(torch.zeros(4, 2)), Delta(torch.zeros(4, 5))])
    assert joint.batch_shape == (4,)
    assert "Delta" in repr(joint)


class TestSettingsInTexts:
    def test_they_are_those_of_the_divergence(self) -> None:
        match = matched("h[*]->g[*]:vid(layers=2, hidden=0.5, law='student-t')@10")
        assert (match.teacher, match.student, match.weight) == ("h[*]", "g[*]", 10.0)
        assert (match.divergence.layers, match.divergence.hidden, match.divergence.law) == (2, 0.5, "student-t")
        assert matched("h[0]:vid(law=mixture)").divergence.law == "mixture"
        logits = [Categorical(logits=torch.randn(3, 4, generator=torch.Generator().manual_seed(i))) for i in (0, 1)]
        torch.testing.assert_close(matched("y:kd(temperature=2)").divergence(*logits), tempered_kl(2.0)(*logits))
        assert not torch.allclose(matched("y:kd").divergence(*logits), tempered_kl(2.0)(*logits))

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("h[0]:vid(depth=2)", "vid does not take these settings"),
            ("h[0]:vid(layers=0)", "vid does not take these settings: VID: layers"),
            ("h[0]:at(power=2)", "at does not take these settings"),
            ("h[0]:vid(2)", "settings are written as in"),
            ("h[0]:vid(layers=)", "settings are written as in"),
            ("h[0]:vid(**{'layers': 2})", "settings are written as in"),
            ("h[0]:vid(layers=1, layers=2)", "settings are written as in"),
            ("h[0]:vid(layers=2", "is no match"),
        ],
    )
    def test_wrong_ones(self, text: str, told: str) -> None:
        with pytest.raises(MatchError, match=told):
            matched(text)
