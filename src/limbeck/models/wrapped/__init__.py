"""Networks of any kind as directed models: how one is built by name, and how its activations are looked at."""
