"""Tables: reading and building them, noise for rounded columns, and sets of numbers that are published as tables."""
