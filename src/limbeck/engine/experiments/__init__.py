"""A recipe and its run: the teacher, every student of every method and seed, measurements, results."""
