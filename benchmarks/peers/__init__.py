"""Training steps of other programs, written by us after their architecture."""
