"""The roof: settings, Celery application, URLs, home page, embedded stack. Wires the floors, owns no models."""
