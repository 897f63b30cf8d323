"""Objectives as plain values: every difference counts, and every process sees the same."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import torch

from limbeck import methods
from limbeck.core.coupling import IndependentNoise, SharedNoise, SharedValues
from limbeck.core.divergence import FeatureDistance, kl, kl_monte_carlo, wasserstein2
from limbeck.core.objective import Match, Objective
from limbeck.core.trace import Kind
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.objective_description import describe_objective
from tests.tiny import LearnedScale, rising

OBJECTIVES = {
    "surrogate": methods.surrogate(),
    "another weight": methods.surrogate(0.5),
    "another divergence": methods.surrogate(target=wasserstein2),
    "another divergence of latents": methods.surrogate(latent=kl),
    "no latents": methods.surrogate(0.0),
    "local": methods.local(),
    "marginalized": methods.marginalized(3),
    "more draws": methods.marginalized(4),
    "with posteriors": methods.surrogate(posterior_weight=1.0),
    "of means": methods.surrogate(posterior_weight=1.0, inferred_from="mean"),
    "of values": methods.surrogate(posterior_weight=1.0, share="values"),
    "with reconstructions": methods.surrogate(posterior_weight=1.0, reconstruction_weight=1.0),
    "own bound": methods.own_bound(),
    "own bound on means": methods.own_bound(replay="mean"),
    "beside its own bound": methods.surrogate(own_bound_weight=1.0),
    "mapped": methods.mapped(),
    "mapped at random": methods.mapped("random"),
    "by another seed": methods.mapped("random", seed=1),
    "learned map": methods.mapped("learned"),
    "continual": methods.continual(),
    "continual, local": methods.continual_local(),
    "replay": methods.replay(),
    "lgm": methods.replay_consistent(),
    "denoising student of order 1": methods.denoising_student(order=1),
    "few step": methods.few_step(),
    "few step from states": methods.few_step(from_states=True),
    "few step with features": methods.few_step(feature_weight=1.0),
    "with features of a layer": methods.few_step(feature_weight=1.0, features=FeatureDistance(layers=["blocks.0"])),
    "consistency": methods.consistency(),
    "progressive": methods.progressive(),
    "progressive from fewer steps": methods.progressive(most=8),
    "matching": methods.distribution_matching(),
    "matching other levels": methods.distribution_matching(low=0.1),
    "sharpened": methods.sharpened(),
    "sharpened at other levels": methods.sharpened(high=0.9),
    "scratch": methods.scratch(),
    "joint": methods.joint(0.5),
    "schedule": Objective([Match(weight=rising)]),
    "with arguments": Objective([Match(divergence=functools.partial(kl_monte_carlo, samples=3))]),
    "with other arguments": Objective([Match(divergence=functools.partial(kl_monte_carlo, samples=4))]),
    "learned": Objective([Match(divergence=LearnedScale(), kind=Kind.TARGET)]),
    "one site": Objective([Match("y")]),
    "renamed": Objective([Match("y", "x")]),
    "mapping": Objective([Match({"y": "y"})]),
    "kind": Objective([Match("y", kind=Kind.TARGET)]),
    "coupling": Objective([Match("y")], SharedValues()),
    "coupling with arguments": Objective([Match("y")], IndependentNoise(2)),
    "weight of all": Objective([Match("y")], SharedNoise(), weight=2.0),
}

_DESCRIBE = """
import json
from tests.engine.stages.test_objective_description import OBJECTIVES
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.objective_description import describe_objective
print(json.dumps({name: fingerprint(o=describe_objective(objective)) for name, objective in OBJECTIVES.items()}))
"""


def test_every_difference_counts() -> None:
    found = {fingerprint(objective=describe_objective(objective)) for objective in OBJECTIVES.values()}
    assert len(found) == len(OBJECTIVES)


def test_weights_of_a_learned_divergence_count() -> None:
    one, two = OBJECTIVES["learned"], Objective([Match(divergence=LearnedScale(), kind=Kind.TARGET)])
    assert describe_objective(one) == describe_objective(two)
    with torch.no_grad():
        two.divergences[0].raw += 1
    assert describe_objective(one) != describe_objective(two)


def test_lambdas_are_told_apart() -> None:
    one, two = (Objective([Match(weight=weight)]) for weight in (lambda p: p, lambda p: 1 - p))
    assert describe_objective(one) != describe_objective(two)


def test_closures_are_told_apart() -> None:
    def to(end: float):
        return lambda progress: end * progress

    one, two, same = (Objective([Match(weight=to(end))]) for end in (1.0, 2.0, 1.0))
    assert describe_objective(one) != describe_objective(two)
    assert describe_objective(one) == describe_objective(same)


def test_same_in_another_process() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", _DESCRIBE], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = {name: fingerprint(o=describe_objective(objective)) for name, objective in OBJECTIVES.items()}
    assert json.loads(done.stdout) == expected
