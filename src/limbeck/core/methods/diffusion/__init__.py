"""Samplers of many steps: the methods, and objectives of their own that ask networks about noised images."""
