"""A method minimises: no weight of its terms may be negative."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from limbeck import methods
from limbeck.core.objective import Match, Objective
from limbeck.core.schedule import Ramp
from limbeck.errors import MatchError

NEGATIVE: dict[str, Callable[[], object]] = {
    **{
        f"surrogate, {name}": partial(methods.surrogate, **{name: -1})
        for name in ("latent_weight", "posterior_weight", "reconstruction_weight", "own_bound_weight")
    },
    "feature": lambda: methods.feature({"h": "h"}, weight=-1.0),
    "continual": lambda: methods.continual(latent_weight=-1.0),
    "consistency": lambda: methods.replay_consistent(consistency=-1.0),
    "local": lambda: methods.local(latent_weight=-1.0),
    "mapped": lambda: methods.mapped(own_bound_weight=-1.0),
    "task": lambda: methods.transfer(["y:kd"], -1.0),
    "match": lambda: methods.transfer(["y:kd@-1"]),
    "lkd": lambda: methods.lkd(-1.0),
    "lkd, density": lambda: methods.lkd(density_weight=-1.0),
    "ilkd": lambda: methods.ilkd(-1.0),
    "ilkd, density": lambda: methods.ilkd(density_weight=-1.0),
    "skd": lambda: methods.skd(-1.0),
    "skd, latents": lambda: methods.skd(latent_weight=-1.0),
    "guided": lambda: methods.guided(-1.0),
    "guided, own": lambda: methods.guided(2.0),
    "density": lambda: methods.density(-1.0),
}


@pytest.mark.parametrize("made", NEGATIVE.values(), ids=NEGATIVE)
def test_negative_weights_are_refused(made: Callable[[], object]) -> None:
    with pytest.raises(MatchError, match=r"must be 0 or more, not -\d"):
        made()


def test_other_weights_are_not() -> None:
    """Those of single matches are the user's own, and those that change are known only later."""
    methods.transfer([Match("y", weight=-1.0)])
    methods.lkd(Ramp(1.0, 0.0), 0)
    methods.reverse_density()


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (methods.lkd(), {"log_prob": 0.9, "u[*]": 0.1}),
        (methods.ilkd(), {"log_prob": 0.9, "u[*]": 0.1, "h[*][*]": 0.1}),
        (methods.skd().objectives["data"], {"log_prob": 0.85, "u[*]": 0.075, "h[*][*]": 0.075}),
        (methods.skd().objectives["samples"], {"*": 0.075}),
    ],
    ids=["lkd", "ilkd", "skd, data", "skd, samples"],
)
def test_weights_of_flows_are_those_of_the_paper(made: Objective, wanted: dict[str, float]) -> None:
    """[F] Sec. 4.2."""
    assert {str(match.teacher): match.weight for match in made.matches} == wanted
