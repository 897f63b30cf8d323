"""Measuring models of images, and the small classifiers whose features such measures compare."""
