"""The engine's records."""

from operations.models.operations import LogLine, Operation, OperationLock, OperationStep
from operations.models.schedules import Schedule, Slot
from operations.models.workers import WorkerNode

__all__ = ["LogLine", "Operation", "OperationLock", "OperationStep", "Schedule", "Slot", "WorkerNode"]
