"""Training, resuming and measuring. Names are loaded when first used, since Lightning takes seconds to import.

Its rooms, each of which may use those before it: ``stages``, ``settings``, ``teachers``, ``pairs`` and ``caching``,
``training``, ``evaluations`` (and the rooms within), ``experiments``, ``sweeps``. :mod:`~limbeck.engine.distill` stands
beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.names import lazy_names

if TYPE_CHECKING:
    from limbeck.engine.caching.cached_teacher import CachedTeacher
    from limbeck.engine.caching.filling import cached
    from limbeck.engine.caching.teacher_cache import TeacherCache
    from limbeck.engine.distill import Distilled, distill
    from limbeck.engine.evaluations.chain_evaluation import ChainEvaluation
    from limbeck.engine.evaluations.classifiers.classifier_evaluation import ClassifierEvaluation
    from limbeck.engine.evaluations.classifiers.predictive import predict
    from limbeck.engine.evaluations.density_evaluation import DensityEvaluation
    from limbeck.engine.evaluations.diffusion.diffusion_evaluation import DiffusionEvaluation
    from limbeck.engine.evaluations.evaluation import Evaluation, Judge, Subject
    from limbeck.engine.evaluations.flows.flow_evaluation import FlowTableEvaluation
    from limbeck.engine.evaluations.flows.flow_image_evaluation import FlowImageEvaluation
    from limbeck.engine.evaluations.images.continual_evaluation import ContinualEvaluation
    from limbeck.engine.evaluations.images.image_evaluation import ImageEvaluation
    from limbeck.engine.evaluations.sequence_evaluation import SequenceEvaluation
    from limbeck.engine.evaluations.strokes.stroke_evaluation import StrokeEvaluation
    from limbeck.engine.experiments.recipe import Recipe, rows_of
    from limbeck.engine.pairs.pair_options import Pairs
    from limbeck.engine.pairs.record import record
    from limbeck.engine.pairs.recorded_teacher import RecordedTeacher
    from limbeck.engine.settings.options import TrainerOptions, Training
    from limbeck.engine.teachers.prepare import prepare
    from limbeck.engine.training.fit import fit

__getattr__ = lazy_names(
    __name__,
    {
        "CachedTeacher": "limbeck.engine.caching.cached_teacher",
        "ChainEvaluation": "limbeck.engine.evaluations.chain_evaluation",
        "ClassifierEvaluation": "limbeck.engine.evaluations.classifiers.classifier_evaluation",
        "ContinualEvaluation": "limbeck.engine.evaluations.images.continual_evaluation",
        "DensityEvaluation": "limbeck.engine.evaluations.density_evaluation",
        "DiffusionEvaluation": "limbeck.engine.evaluations.diffusion.diffusion_evaluation",
        "Distilled": "limbeck.engine.distill",
        "Evaluation": "limbeck.engine.evaluations.evaluation",
        "FlowImageEvaluation": "limbeck.engine.evaluations.flows.flow_image_evaluation",
        "FlowTableEvaluation": "limbeck.engine.evaluations.flows.flow_evaluation",
        "ImageEvaluation": "limbeck.engine.evaluations.images.image_evaluation",
        "Judge": "limbeck.engine.evaluations.evaluation",
        "Pairs": "limbeck.engine.pairs.pair_options",
        "Recipe": "limbeck.engine.experiments.recipe",
        "RecordedTeacher": "limbeck.engine.pairs.recorded_teacher",
        "SequenceEvaluation": "limbeck.engine.evaluations.sequence_evaluation",
        "StrokeEvaluation": "limbeck.engine.evaluations.strokes.stroke_evaluation",
        "Subject": "limbeck.engine.evaluations.evaluation",
        "TeacherCache": "limbeck.engine.caching.teacher_cache",
        "TrainerOptions": "limbeck.engine.settings.options",
        "Training": "limbeck.engine.settings.options",
        "cached": "limbeck.engine.caching.filling",
        "distill": "limbeck.engine.distill",
        "fit": "limbeck.engine.training.fit",
        "predict": "limbeck.engine.evaluations.classifiers.predictive",
        "prepare": "limbeck.engine.teachers.prepare",
        "record": "limbeck.engine.pairs.record",
        "rows_of": "limbeck.engine.experiments.recipe",
    },
)

__all__ = ["CachedTeacher", "ChainEvaluation", "ClassifierEvaluation", "ContinualEvaluation", "DensityEvaluation",
           "DiffusionEvaluation", "Distilled", "Evaluation", "FlowImageEvaluation", "FlowTableEvaluation",
           "ImageEvaluation", "Judge", "Pairs", "Recipe", "RecordedTeacher", "SequenceEvaluation", "StrokeEvaluation",
           "Subject", "TeacherCache", "TrainerOptions", "Training", "cached", "distill", "fit", "predict", "prepare",
           "record", "rows_of"]  # fmt: skip
