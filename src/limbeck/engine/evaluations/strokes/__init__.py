"""Measuring models of pen drawings."""
