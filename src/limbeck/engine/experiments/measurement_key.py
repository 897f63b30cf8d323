"""Fingerprint of everything that the numbers of a measured model depend on, the code that measures included."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from limbeck.core.graph import DGM
from limbeck.data import Dataset
from limbeck.engine.evaluations.evaluation import Evaluation, Judge
from limbeck.engine.stages.fingerprints import fingerprint
from limbeck.engine.stages.model_description import model_key
from limbeck.engine.stages.script_code import SCRIPT, sources_behind
from limbeck.engine.stages.source_code import code_hash, is_own, parent_packages
from limbeck.names import public_name

__all__ = ["measurement_key", "measuring_code"]

_MEASURES = ("limbeck.engine.evaluations.", "limbeck.metrics.")


def measurement_key(
    evaluation: Evaluation,
    judge: Judge,
    history: Sequence[DGM],
    dataset: Dataset | None,
    variant: str | None = None,
) -> str:
    """Fingerprint of everything that the numbers of a measured model depend on.

    Args:
        evaluation: how models are measured.
        judge: what the evaluation made to measure them.
        history: the model after each task; the last of them is measured.
        dataset: what it is measured on, if there are data.
        variant: label of the row, for one of :meth:`Judge.variants`.
    """
    return fingerprint(
        models=[model_key(model) for model in history], settings=dict(vars(evaluation)),
        data=dataset.fingerprint if dataset else None, kind=public_name(type(evaluation)),
        code=measuring_code(type(evaluation), type(judge)), seed=judge.seed, reference=judge.reference_key,
        **({} if variant is None else {"variant": variant}),
    )  # fmt: skip


def measuring_code(*kinds: type) -> str:
    """Hash of the code of evaluations and judges: of their modules, of their bases', and of the measures they use."""
    bases = [base for kind in kinds for base in kind.__mro__]
    libraries = {kind.__module__.partition(".")[0] for kind in kinds} | {"limbeck"}
    modules = {base.__module__ for base in bases if base.__module__ in sys.modules and base.__module__ != SCRIPT}
    counted = {name for name in modules if is_own(name) or name.partition(".")[0] in libraries}
    return code_hash(sources_behind(bases, counted, _room, libraries))


def _room(module: str) -> str:
    """Evaluations and measures of this library belong together; other modules to their packages."""
    return "measures" if module.startswith(_MEASURES) else parent_packages(module)
