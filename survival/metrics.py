"""Figures in Prometheus' text format, read from the database at each scrape, so that any process answers alike."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Avg, Count, F, Max, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backups import board
from backups.models import Archive, Storage
from operations import work_queues
from operations.models import Operation, WorkerNode
from survival import health
from survival.models import CardCopy, PortalBackup

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATELY = timedelta(hours=24)


def text() -> bytes:
    """The whole answer to a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Portal())
    return generate_latest(registry)


class _Portal(Collector):
    def collect(self) -> Iterator[Metric]:
        yield from _operations()
        yield from _work()
        yield from _recovery()
        yield from _space()
        yield from _survival()

    def describe(self) -> list[Metric]:
        return []


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"opsportal_{name}", text, labels=labels)


def _operations() -> Iterator[Metric]:
    counts = _gauge("operations", "Operations on record, by procedure and state.", "procedure", "state")
    for row in Operation.objects.order_by().values("procedure", "state").annotate(count=Count("pk")):
        counts.add_metric([row["procedure"], row["state"]], row["count"])
    yield counts
    lately = Operation.objects.ended().filter(ended_at__gt=timezone.now() - LATELY, started_at__isnull=False)
    took = (
        lately.order_by()
        .values("procedure")
        .annotate(mean=Avg(F("ended_at") - F("started_at")), longest=Max(F("ended_at") - F("started_at")))
    )
    mean = _gauge("operation_seconds_mean", "Mean duration of operations that ended in 24 h.", "procedure")
    longest = _gauge("operation_seconds_max", "Longest duration of operations that ended in 24 h.", "procedure")
    for each in took:
        mean.add_metric([each["procedure"]], each["mean"].total_seconds())
        longest.add_metric([each["procedure"]], each["longest"].total_seconds())
    yield from (mean, longest)


def _work() -> Iterator[Metric]:
    waiting = _gauge("queue_waiting", "Operations that wait in a queue.", "queue")
    serving = _gauge("queue_workers", "Live workers that serve a queue.", "queue")
    for queue in work_queues.overview():
        waiting.add_metric([queue.name], queue.waiting)
        serving.add_metric([queue.name], queue.workers)
    up = _gauge("worker_up", "1 while a worker reports itself.", "worker", "host")
    for node in WorkerNode.objects.all():
        up.add_metric([node.name, node.host], int(node.is_live))
    yield from (waiting, serving, up)


def _recovery() -> Iterator[Metric]:
    labels = ("component", "database")
    age = _gauge("restore_point_age_seconds", "Age of the newest verified archive.", *labels)
    rpo = _gauge("rpo_seconds", "RPO of the component.", *labels)
    met = _gauge("rpo_met", "1 while the newest verified archive is younger than the RPO.", *labels)
    restored = _gauge("last_restore_seconds", "How long the last restore took.", *labels)
    rto = _gauge("rto_seconds", "RTO of the component.", *labels)
    for line in board.lines():
        names = [str(line.target.component), line.target.database]
        if line.age is not None:
            age.add_metric(names, line.age.total_seconds())
        if line.rpo is not None:
            rpo.add_metric(names, line.rpo.total_seconds())
            met.add_metric(names, int(line.rpo_status[0] == "ok"))
        if line.measured is not None:
            restored.add_metric(names, line.measured.total_seconds())
        if line.rto is not None:
            rto.add_metric(names, line.rto.total_seconds())
    yield from (age, rpo, met, restored, rto)


def _space() -> Iterator[Metric]:
    size = _gauge("archive_bytes", "Bytes of available archives.", "storage")
    rows = Archive.objects.available().order_by().values("storage__name").annotate(total=Sum("size_bytes"))
    for row in rows:
        size.add_metric([row["storage__name"]], row["total"] or 0)
    free = _gauge("disk_free_bytes", "Bytes free where this process can see them.", "place")
    places = {"DATA_DIR": str(settings.DATA_DIR), "second place": str(settings.PORTAL_BACKUP_DIR)}
    places |= {place.name: place.root for place in Storage.objects.filter(kind=Storage.Kind.LOCAL)}
    for name, path in places.items():
        try:
            free.add_metric([name], shutil.disk_usage(path).free)
        except OSError:
            continue
    yield from (size, free)


def _survival() -> Iterator[Metric]:
    state = _gauge("health", "1 for the state that an item is in.", "item", "state")
    figure = _gauge("health_figure", "The figure of an item, in its unit.", "item", "unit")
    for each in health.look():
        for word in health.WORDS:
            state.add_metric([each.name, word], int(word == each.finding.state))
        if each.finding.figure is not None:
            figure.add_metric([each.name, each.unit], each.finding.figure)
    yield from (state, figure)
    now = timezone.now()
    backup = _gauge("portal_backup_age_seconds", "Age of the newest good backup of the portal itself.")
    newest = PortalBackup.objects.good().newest_first().first()
    if newest is not None:
        backup.add_metric([], (now - newest.made_at).total_seconds())
    card = _gauge("offline_card_age_seconds", "Age of each copy of the offline card.", "place")
    for copy in CardCopy.objects.filter(written_at__isnull=False):
        card.add_metric([copy.place], (now - copy.written_at).total_seconds() if copy.written_at else 0)
    yield from (backup, card)
