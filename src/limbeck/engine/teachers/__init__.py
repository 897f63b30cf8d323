"""A frozen teacher: prepared for inference, and the base of what takes its place."""
