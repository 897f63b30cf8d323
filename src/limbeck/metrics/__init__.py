"""Measures of models and the records that hold them. Heavy libraries are imported only when a measure is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.lazy import lazy_names
from limbeck.metrics.results import Measure, ModelResult, RunResults
from limbeck.metrics.statistics import Summary, gap_closed, summarize

if TYPE_CHECKING:
    from limbeck.metrics.distances import frechet_distance, kernel_distance
    from limbeck.metrics.features import ClassifierFeatures, FeatureExtractor, TorchScriptFeatures, extract
    from limbeck.metrics.speed import parameter_count, throughput

__getattr__ = lazy_names(
    __name__,
    {
        "ClassifierFeatures": "limbeck.metrics.features",
        "FeatureExtractor": "limbeck.metrics.features",
        "TorchScriptFeatures": "limbeck.metrics.features",
        "extract": "limbeck.metrics.features",
        "frechet_distance": "limbeck.metrics.distances",
        "kernel_distance": "limbeck.metrics.distances",
        "parameter_count": "limbeck.metrics.speed",
        "throughput": "limbeck.metrics.speed",
    },
)

__all__ = [
    "ClassifierFeatures",
    "FeatureExtractor",
    "Measure",
    "ModelResult",
    "RunResults",
    "Summary",
    "TorchScriptFeatures",
    "extract",
    "frechet_distance",
    "gap_closed",
    "kernel_distance",
    "parameter_count",
    "summarize",
    "throughput",
]
