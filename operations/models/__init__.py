"""The engine's records."""

from operations.models.events import Event
from operations.models.operations import LogLine, Operation, OperationLock, OperationStep
from operations.models.schedules import Schedule, Slot
from operations.models.workers import WorkerNode

__all__ = ["Event", "LogLine", "Operation", "OperationLock", "OperationStep", "Schedule", "Slot", "WorkerNode"]
