"""Measuring diffusion samplers: quality against steps, likeness to the teacher, pictures."""
