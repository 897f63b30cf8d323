"""Measuring classifiers: predictive distributions, accuracy, likelihood, calibration."""
