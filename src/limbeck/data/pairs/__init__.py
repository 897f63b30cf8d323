"""Recorded pairs on disk: how they are laid out, written once by several processes, and read."""
