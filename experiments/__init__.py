"""Scripts that use the library, one per question."""
