"""Cached teachers: the outputs of a classifier for rows that repeat, computed once, then looked up."""
