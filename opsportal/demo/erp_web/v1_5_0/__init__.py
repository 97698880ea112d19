"""Release v1.5.0."""
