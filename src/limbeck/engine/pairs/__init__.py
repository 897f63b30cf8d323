"""Recorded pairs: what a slow teacher makes of noise, written once by several processes, then replayed in its place."""
