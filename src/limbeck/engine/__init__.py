"""Training, resuming and measuring. Names are loaded when first used, since Lightning takes seconds to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.lazy import lazy_names

if TYPE_CHECKING:
    from limbeck.engine.cache_options import TeacherCache
    from limbeck.engine.caching import cached
    from limbeck.engine.chain_evaluation import ChainEvaluation
    from limbeck.engine.classifier_evaluation import ClassifierEvaluation
    from limbeck.engine.continual_evaluation import ContinualEvaluation
    from limbeck.engine.density_evaluation import DensityEvaluation
    from limbeck.engine.diffusion_evaluation import DiffusionEvaluation
    from limbeck.engine.distill import Distilled, distill
    from limbeck.engine.evaluation import Evaluation, Judge, Subject
    from limbeck.engine.flow_evaluation import FlowTableEvaluation
    from limbeck.engine.flow_image_evaluation import FlowImageEvaluation
    from limbeck.engine.image_evaluation import ImageEvaluation
    from limbeck.engine.options import TrainerOptions, Training
    from limbeck.engine.pair_options import Pairs
    from limbeck.engine.predictive import predict
    from limbeck.engine.prepare import prepare
    from limbeck.engine.recipe import Recipe
    from limbeck.engine.recorded import RecordedTeacher
    from limbeck.engine.recording import record
    from limbeck.engine.sequence_evaluation import SequenceEvaluation
    from limbeck.engine.stroke_evaluation import StrokeEvaluation
    from limbeck.engine.teacher_cache import CachedTeacher

__getattr__ = lazy_names(
    __name__,
    {
        "CachedTeacher": "limbeck.engine.teacher_cache",
        "ChainEvaluation": "limbeck.engine.chain_evaluation",
        "ClassifierEvaluation": "limbeck.engine.classifier_evaluation",
        "ContinualEvaluation": "limbeck.engine.continual_evaluation",
        "DensityEvaluation": "limbeck.engine.density_evaluation",
        "DiffusionEvaluation": "limbeck.engine.diffusion_evaluation",
        "Distilled": "limbeck.engine.distill",
        "Evaluation": "limbeck.engine.evaluation",
        "FlowImageEvaluation": "limbeck.engine.flow_image_evaluation",
        "FlowTableEvaluation": "limbeck.engine.flow_evaluation",
        "ImageEvaluation": "limbeck.engine.image_evaluation",
        "Judge": "limbeck.engine.evaluation",
        "Pairs": "limbeck.engine.pair_options",
        "Recipe": "limbeck.engine.recipe",
        "RecordedTeacher": "limbeck.engine.recorded",
        "SequenceEvaluation": "limbeck.engine.sequence_evaluation",
        "StrokeEvaluation": "limbeck.engine.stroke_evaluation",
        "Subject": "limbeck.engine.evaluation",
        "TeacherCache": "limbeck.engine.cache_options",
        "TrainerOptions": "limbeck.engine.options",
        "Training": "limbeck.engine.options",
        "cached": "limbeck.engine.caching",
        "distill": "limbeck.engine.distill",
        "predict": "limbeck.engine.predictive",
        "prepare": "limbeck.engine.prepare",
        "record": "limbeck.engine.recording",
    },
)

__all__ = ["CachedTeacher", "ChainEvaluation", "ClassifierEvaluation", "ContinualEvaluation", "DensityEvaluation",
           "DiffusionEvaluation", "Distilled", "Evaluation", "FlowImageEvaluation", "FlowTableEvaluation",
           "ImageEvaluation", "Judge", "Pairs", "Recipe", "RecordedTeacher", "SequenceEvaluation", "StrokeEvaluation",
           "Subject", "TeacherCache", "TrainerOptions", "Training", "cached", "distill", "predict", "prepare",
           "record"]  # fmt: skip
