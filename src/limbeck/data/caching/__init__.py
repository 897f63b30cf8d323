"""What a teacher has said of rows, on disk, found again by the content of the rows."""
