"""What the portal looks at in itself."""

from __future__ import annotations

import itertools
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import celery
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Max
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError as BrokerUnavailable
from redis import RedisError

from backups.models import Storage
from core.templatetags.portal import human_duration
from operations import work_queues
from operations.dispatch import FAIL_FAST
from operations.models import Operation, Schedule, WorkerNode
from operations.slots import slots_between
from operations.worker import CONTROL_QUEUE
from survival.actions import BACKUP
from survival.health import BAD, OK, WARN, Finding, item
from survival.models import CardCopy, Heartbeat, PortalBackup, SecondPlace

# The loop comes round every second and is written down every five.
LOOP_LATE = timedelta(seconds=30)
BEAT_LATE = timedelta(seconds=60)
# A new portal has this long to make its first backup and card.
FIRST_TIME = timedelta(minutes=30)


def age_s(moment: datetime) -> float:
    return round((timezone.now() - moment).total_seconds(), 1)


@item("database", title="Database and migrations", unit="missing migrations")
def database() -> Finding:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    if missing:
        return Finding(BAD, missing, f"The database lacks {missing} migrations: run manage.py migrate.")
    return Finding(OK, 0, "The database answers, and every migration is applied.")


@item("workers", title="Workers", unit="live")
def workers() -> Finding:
    live = list(WorkerNode.objects.live())
    serving = [node for node in live if set(node.queues) - {CONTROL_QUEUE}]
    if not serving:
        return Finding(
            BAD, len(live), "No worker for operations is live. Start one, or nothing that is asked for runs."
        )
    silent = WorkerNode.objects.filter(stopping=False).exclude(pk__in=[node.pk for node in live]).count()
    if silent:
        return Finding(WARN, len(live), f"{len(live)} workers are live, {silent} fell silent in the last day.")
    return Finding(OK, len(live), f"{len(live)} workers are live.")


@item("queues", title="Queues", unit="waiting operations")
def queues() -> Finding:
    alone = work_queues.unserved()
    if not alone:
        return Finding(OK, 0, "Every queue in which operations wait is served.")
    waiting = sum(queue.waiting for queue in alone)
    names = ", ".join(f"“{queue.name}”" for queue in alone)
    return Finding(BAD, waiting, f"{waiting} operations wait in {names}, which no live worker serves. Start one.")


@item("control-loop", title="Control loop", unit="seconds")
def control_loop() -> Finding:
    latest = WorkerNode.objects.aggregate(latest=Max("looped_at"))["latest"]
    if latest is None:
        return Finding(BAD, None, "No control loop has reported. Start the control worker (-Q control).")
    if timezone.now() - latest > LOOP_LATE:
        return Finding(BAD, age_s(latest), "The control loop stands still. Start the control worker, read its log.")
    return Finding(OK, age_s(latest), f"It came round {human_duration(age_s(latest))} ago.")


@item("beat", title="Beat", unit="seconds")
def beat() -> Finding:
    latest = PeriodicTask.objects.filter(task="operations.tick").aggregate(latest=Max("last_run_at"))["latest"]
    # The control loop looks by itself, so a missing beat costs nothing yet.
    if latest is None:
        return Finding(WARN, None, "Beat has not run yet. Start it when convenient; the control loop does its work.")
    if timezone.now() - latest > BEAT_LATE:
        return Finding(WARN, age_s(latest), "Beat is silent. Start it when convenient; the control loop does its work.")
    return Finding(OK, age_s(latest), f"It ticked {human_duration(age_s(latest))} ago.")


@item("redis", title="Redis")
def redis() -> Finding:
    app: Any = celery.current_app
    try:
        with app.connection_for_write(transport_options=FAIL_FAST) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            broker.default_channel.client.ping()
    except (BrokerUnavailable, RedisError, OSError):
        return Finding(BAD, None, "Redis does not answer. What is asked for waits until it is back. Start it.")
    return Finding(OK, None, "It answers.")


@item("disk", title="Disk of DATA_DIR", unit="percent free")
def disk() -> Finding:
    return _room(str(settings.DATA_DIR), "The disk of DATA_DIR")


@item("storages", title="Disks of storages", unit="percent free")
def storages() -> Finding:
    """The fullest of those that this machine can see; one on another host is its worker's to measure."""
    found = [
        _room(place.root, f"The disk of “{place.name}”")
        for place in Storage.objects.filter(kind=Storage.Kind.LOCAL)
        if Path(place.root).is_dir()
    ]
    if not found:
        return Finding(OK, None, "No storage is a folder on this machine.")
    return min(found, key=lambda finding: finding.figure or 0)


def _room(path: str, what: str) -> Finding:
    usage = shutil.disk_usage(path)
    percent = round(100 * usage.free / usage.total, 1)
    state = OK if percent > 20 else WARN if percent > 5 else BAD
    advice = "" if state == OK else " Free some."
    return Finding(state, percent, f"{what} has {percent:g} % free.{advice}")


@item("schedules", title="Schedules", unit="seconds late")
def schedules() -> Finding:
    late = {}
    now = timezone.now()
    for schedule in Schedule.objects.filter(enabled=True).select_related("crontab"):
        due = next(itertools.islice(slots_between(schedule.crontab, schedule.decided_until, now), 1), None)
        if due is not None:
            late[schedule.name] = (now - due).total_seconds()
    if not late:
        return Finding(OK, 0, "Every due slot is decided.")
    name, seconds = max(late.items(), key=lambda pair: pair[1])
    if seconds <= settings.SCHEDULE_LATE_AFTER_S:
        return Finding(OK, round(seconds), "Every slot is decided in time.")
    sentence = f"{len(late)} schedules are late, “{name}” by {human_duration(seconds)}. Start the control worker."
    return Finding(BAD, round(seconds), sentence)


@item("portal-backup", title="Backup of the portal", unit="seconds")
def portal_backup() -> Finding:
    if not settings.PORTAL_BACKUP_CRON.strip():
        return Finding(WARN, None, "The portal's own backup is switched off. Set PORTAL_BACKUP_CRON.")
    newest = PortalBackup.objects.good().newest_first().first()
    last = Operation.objects.ended().filter(procedure=BACKUP).order_by("-pk").first()
    failed = f" The last try: {last.message}" if last and last.state != Operation.State.SUCCEEDED else ""
    if newest is None:
        place = SecondPlace.objects.filter(pk=1).first()
        begun = place.created_at if place else timezone.now()
        young = not failed and timezone.now() - begun < FIRST_TIME
        return Finding(WARN if young else BAD, None, f"The portal has no backup of itself yet.{failed}")
    age = age_s(newest.made_at)
    if age > settings.PORTAL_BACKUP_MAX_AGE_H * 3600:
        return Finding(BAD, age, f"The newest backup of the portal is {human_duration(age)} old.{failed}")
    if failed:
        return Finding(WARN, age, f"The newest backup of the portal is {human_duration(age)} old.{failed}")
    return Finding(OK, age, f"The newest backup of the portal is {human_duration(age)} old.")


@item("portal-key", title="Key of the portal's backups")
def portal_key() -> Finding:
    place = SecondPlace.objects.filter(pk=1).first()
    if place is None or not place.recipient:
        return Finding(OK, None, "There is no backup yet, and so no key.")
    beside = f" It still lies in {place.identity_path}." if place.identity_path else ""
    if not place.key_is_apart:
        return Finding(WARN, None, f"Nobody has confirmed that the key is kept apart.{beside}")
    return Finding(OK, None, f"Kept apart: {place.key_kept_where}.")


@item("offline-card", title="Offline card", unit="seconds")
def offline_card() -> Finding:
    if not settings.OFFLINE_CARD_DIRS:
        return Finding(WARN, None, "No offline card is written. Set OFFLINE_CARD_DIR.")
    copies = {copy.place: copy for copy in CardCopy.objects.filter(place__in=settings.OFFLINE_CARD_DIRS)}
    if not copies:
        place = SecondPlace.objects.filter(pk=1).first()
        young = place is None or timezone.now() - place.created_at < FIRST_TIME
        if young:
            return Finding(WARN, None, "The offline card was not written yet. The control worker does it in a minute.")
        return Finding(BAD, None, "The offline card was never written. Start the control worker.")
    oldest: float = 0
    for name in settings.OFFLINE_CARD_DIRS:
        copy = copies.get(name)
        if copy is None or copy.written_at is None:
            why = copy.error if copy else "it waits for its turn."
            return Finding(BAD, None, f"The offline card could never be written to {name}: {why}")
        oldest = max(oldest, age_s(copy.written_at))
        if age_s(copy.written_at) > settings.OFFLINE_CARD_MAX_AGE_H * 3600:
            age = human_duration(age_s(copy.written_at))
            return Finding(
                BAD, age_s(copy.written_at), f"The offline card in {name} is {age} old. {copy.error}".strip()
            )
        if copy.error:
            return Finding(WARN, oldest, f"The offline card could not be written to {name} again: {copy.error}")
    return Finding(OK, oldest, f"Every copy is younger than {human_duration(oldest + 1)}.")


@item("heartbeat", title="Heartbeat to the outside", unit="seconds")
def heartbeat() -> Finding:
    if not settings.HEARTBEAT_URL:
        return Finding(OK, None, "No address outside is set (HEARTBEAT_URL).")
    row = Heartbeat.objects.filter(pk=1).first()
    if row is None or (row.sent_at is None and not row.trouble):
        return Finding(WARN, None, "No heartbeat was sent yet. The control worker sends it.")
    age = age_s(row.sent_at) if row.sent_at else None
    if row.trouble:
        return Finding(WARN, age, f"The heartbeat does not go out: {row.trouble}")
    if timezone.now() - row.tried_at > timedelta(seconds=3 * settings.HEARTBEAT_EVERY_S):
        return Finding(WARN, age, "The heartbeat has stopped. Start the control worker.")
    return Finding(OK, age, "It is sent while the portal keeps its promises.")
