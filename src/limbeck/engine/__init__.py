"""Training, resuming and measuring. Names are loaded when first used, since Lightning takes seconds to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.lazy import lazy_names

if TYPE_CHECKING:
    from limbeck.engine.distill import Distilled, distill
    from limbeck.engine.evaluation import Evaluation, Judge, Subject
    from limbeck.engine.image_evaluation import ImageEvaluation
    from limbeck.engine.options import TrainerOptions, Training
    from limbeck.engine.prepare import prepare
    from limbeck.engine.recipe import Recipe

__getattr__ = lazy_names(
    __name__,
    {
        "Distilled": "limbeck.engine.distill",
        "Evaluation": "limbeck.engine.evaluation",
        "ImageEvaluation": "limbeck.engine.image_evaluation",
        "Judge": "limbeck.engine.evaluation",
        "Recipe": "limbeck.engine.recipe",
        "Subject": "limbeck.engine.evaluation",
        "TrainerOptions": "limbeck.engine.options",
        "Training": "limbeck.engine.options",
        "distill": "limbeck.engine.distill",
        "prepare": "limbeck.engine.prepare",
    },
)

__all__ = ["Distilled", "Evaluation", "ImageEvaluation", "Judge", "Recipe", "Subject", "TrainerOptions", "Training",
           "distill", "prepare"]  # fmt: skip
