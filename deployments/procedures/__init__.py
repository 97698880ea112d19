"""What a worker does with deployments. Each module makes its procedure known."""

from deployments.procedures import control, deploy, rollback  # noqa: F401  they register themselves
