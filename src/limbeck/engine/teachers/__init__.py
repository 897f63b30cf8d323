"""A frozen teacher, prepared for inference."""
