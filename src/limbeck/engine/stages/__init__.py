"""Work that is done once, whoever asks and whatever interrupts it, and what it reports meanwhile.

Stages and their locks, the fingerprints that tell them apart, seeds, progress; nothing here knows what is trained.
"""
