"""Release v1.6.0."""
