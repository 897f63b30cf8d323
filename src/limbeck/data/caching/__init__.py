"""A teacher's outputs for rows, on disk, found again by the content of the rows."""
