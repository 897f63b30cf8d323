"""Cached teachers: outputs of a classifier for rows that repeat, which are computed once and then looked up."""
