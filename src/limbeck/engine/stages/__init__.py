"""Work that is done once and continues after interruptions, and the reports of its progress.

Stages and their locks, the fingerprints that identify them, seeds, progress; nothing here knows what is trained.
"""
