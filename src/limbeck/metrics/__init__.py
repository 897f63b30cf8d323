"""Measures of models and the records that hold them. Heavy libraries are imported only when a measure is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.metrics.results import Measure, ModelResult, PictureKind, RunResults
from limbeck.metrics.statistics import Summary, gap_closed, summarize
from limbeck.names import lazy_names

if TYPE_CHECKING:
    from limbeck.metrics.calibration import Reliability, accuracy, calibration_error, mean_nll, reliability
    from limbeck.metrics.chain_marginals import chain_marginal, density_kl, integer_grid, interval_grid
    from limbeck.metrics.cost import parameter_count, throughput
    from limbeck.metrics.density_ratio import KLEstimate, kl_density_ratio
    from limbeck.metrics.distances import frechet_distance, kernel_distance
    from limbeck.metrics.drawing_predictor import StrokePredictor
    from limbeck.metrics.drawing_shape import (
        DRAWING_FEATURES,
        drawing_features,
        drawing_lengths,
        standardised,
    )
    from limbeck.metrics.features import ClassifierFeatures, FeatureExtractor, TorchScriptFeatures, extract
    from limbeck.metrics.histogram import histogram_kl
    from limbeck.metrics.inception import inception_score
    from limbeck.metrics.interpolation import interpolate_latents, spherical_interpolation
    from limbeck.metrics.likelihood import RowSummary, bits_per_dimension, summarize_rows
    from limbeck.metrics.neighbours import Closeness, closeness, nearest
    from limbeck.metrics.quadrature import Grid, kl_on_grid
    from limbeck.metrics.similarity import similarity_window, structural_similarity
    from limbeck.metrics.two_sample import energy_distance, maximum_mean_discrepancy, median_distance

__getattr__ = lazy_names(
    __name__,
    {
        "ClassifierFeatures": "limbeck.metrics.features",
        "Closeness": "limbeck.metrics.neighbours",
        "DRAWING_FEATURES": "limbeck.metrics.drawing_shape",
        "FeatureExtractor": "limbeck.metrics.features",
        "Grid": "limbeck.metrics.quadrature",
        "KLEstimate": "limbeck.metrics.density_ratio",
        "Reliability": "limbeck.metrics.calibration",
        "RowSummary": "limbeck.metrics.likelihood",
        "StrokePredictor": "limbeck.metrics.drawing_predictor",
        "TorchScriptFeatures": "limbeck.metrics.features",
        "accuracy": "limbeck.metrics.calibration",
        "bits_per_dimension": "limbeck.metrics.likelihood",
        "calibration_error": "limbeck.metrics.calibration",
        "chain_marginal": "limbeck.metrics.chain_marginals",
        "closeness": "limbeck.metrics.neighbours",
        "density_kl": "limbeck.metrics.chain_marginals",
        "drawing_features": "limbeck.metrics.drawing_shape",
        "drawing_lengths": "limbeck.metrics.drawing_shape",
        "energy_distance": "limbeck.metrics.two_sample",
        "extract": "limbeck.metrics.features",
        "frechet_distance": "limbeck.metrics.distances",
        "histogram_kl": "limbeck.metrics.histogram",
        "inception_score": "limbeck.metrics.inception",
        "integer_grid": "limbeck.metrics.chain_marginals",
        "interpolate_latents": "limbeck.metrics.interpolation",
        "interval_grid": "limbeck.metrics.chain_marginals",
        "kernel_distance": "limbeck.metrics.distances",
        "kl_density_ratio": "limbeck.metrics.density_ratio",
        "kl_on_grid": "limbeck.metrics.quadrature",
        "maximum_mean_discrepancy": "limbeck.metrics.two_sample",
        "mean_nll": "limbeck.metrics.calibration",
        "median_distance": "limbeck.metrics.two_sample",
        "nearest": "limbeck.metrics.neighbours",
        "parameter_count": "limbeck.metrics.cost",
        "reliability": "limbeck.metrics.calibration",
        "similarity_window": "limbeck.metrics.similarity",
        "spherical_interpolation": "limbeck.metrics.interpolation",
        "standardised": "limbeck.metrics.drawing_shape",
        "structural_similarity": "limbeck.metrics.similarity",
        "summarize_rows": "limbeck.metrics.likelihood",
        "throughput": "limbeck.metrics.cost",
    },
)

__all__ = [
    "DRAWING_FEATURES",
    "ClassifierFeatures",
    "Closeness",
    "FeatureExtractor",
    "Grid",
    "KLEstimate",
    "Measure",
    "ModelResult",
    "PictureKind",
    "Reliability",
    "RowSummary",
    "RunResults",
    "StrokePredictor",
    "Summary",
    "TorchScriptFeatures",
    "accuracy",
    "bits_per_dimension",
    "calibration_error",
    "chain_marginal",
    "closeness",
    "density_kl",
    "drawing_features",
    "drawing_lengths",
    "energy_distance",
    "extract",
    "frechet_distance",
    "gap_closed",
    "histogram_kl",
    "inception_score",
    "integer_grid",
    "interpolate_latents",
    "interval_grid",
    "kernel_distance",
    "kl_density_ratio",
    "kl_on_grid",
    "maximum_mean_discrepancy",
    "mean_nll",
    "median_distance",
    "nearest",
    "parameter_count",
    "reliability",
    "similarity_window",
    "spherical_interpolation",
    "standardised",
    "structural_similarity",
    "summarize",
    "summarize_rows",
    "throughput",
]
