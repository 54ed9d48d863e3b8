"""Scripts over the library, one per question: a config in, curves out."""
