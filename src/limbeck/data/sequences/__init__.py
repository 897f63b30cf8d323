"""Sequences: of letters, and of the pen's moves in a drawing."""
