"""Settings for every test."""

import os

# Small tensors, and other work on the same cores: threads that wait for each other made the tests ten times slower.
# It must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
