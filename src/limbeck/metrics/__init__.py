"""Measures of models and the records that hold them. Heavy libraries are imported only when a measure is taken."""

from limbeck.metrics.distances import frechet_distance, kernel_distance
from limbeck.metrics.features import ClassifierFeatures, FeatureExtractor, TorchScriptFeatures, extract
from limbeck.metrics.results import Measure, ModelResult, RunResults
from limbeck.metrics.speed import parameter_count, throughput
from limbeck.metrics.statistics import Summary, gap_closed, summarize

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
