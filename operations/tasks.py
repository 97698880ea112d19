"""Celery's doors into the engine."""

from celery import Task, shared_task

from operations import control, engine, worker


@shared_task(bind=True, name="operations.run", ignore_result=True)
def run_operation(self: Task, operation_id: int) -> None:
    engine.run(operation_id, worker=worker.current_name(self.request.hostname or ""))


@shared_task(name="operations.tick", ignore_result=True)
def tick() -> None:
    control.tick()
