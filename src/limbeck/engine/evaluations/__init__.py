"""How trained models are measured; families with several files of their own have a room of their own here."""
