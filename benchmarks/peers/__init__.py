"""Training steps of others, written by us after their architecture, as processes that take turns."""
