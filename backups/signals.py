"""The clocks of plans follow the catalog: a schedule is read in the time zone of the service it protects."""

from __future__ import annotations

import logging
from typing import Any

from django.db.models import Model
from django.db.models.signals import post_save

from backups.models import Plan
from catalog.models import Component, DatabaseTarget, Environment, Service
from operations import actions as operations
from operations.exceptions import Refused
from operations.models import Schedule

logger = logging.getLogger(__name__)

# Where the zone comes from, or what may be moved to another service; and how a plan leads there.
PATHS: dict[type[Model], str] = {
    Service: "target__component__environment__service",
    Environment: "target__component__environment",
    Component: "target__component",
    DatabaseTarget: "target",
}


def connect() -> None:
    """Called once at start."""
    for model in PATHS:
        post_save.connect(follow_zone, sender=model, dispatch_uid=f"backups.follow_zone.{model.__name__}")


def follow_zone(sender: type[Model], instance: Model, raw: bool = False, created: bool = False, **_: Any) -> None:
    """Re-zone the schedules of the plans below `instance`. Their slots are decided anew from now on."""
    if raw or created:
        return
    for plan in Plan.objects.with_place().filter(**{PATHS[sender]: instance}, schedule__isnull=False):
        assert plan.schedule is not None
        if str(plan.schedule.crontab.timezone) != plan.time_zone:
            _rezone(plan.schedule, plan.time_zone)


def _rezone(schedule: Schedule, time_zone: str) -> None:
    crontab = schedule.crontab
    fields = (crontab.minute, crontab.hour, crontab.day_of_month, crontab.month_of_year, crontab.day_of_week)
    try:
        operations.set_schedule(
            schedule,
            handler=schedule.handler,
            name=schedule.name,
            cron=" ".join(fields),
            time_zone=time_zone,
            enabled=schedule.enabled,
            misfire=schedule.misfire,
        )
    except Refused as error:
        # Such a row starts nothing in any zone, and must not keep a service from being edited.
        logger.warning("Schedule %s keeps its time zone: %s", schedule, error.message)
