"""The month in figures: how many, how fast, how well, what comes back, what is still to be done.

Eleven queries, most over one month by the index of the declaration, whatever the number of incidents. An incident that
was merged into another is counted there. Confidential ones are counted, and named to those who may see them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import (
    Aggregate,
    BooleanField,
    Case,
    Count,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
    Window,
)
from django.db.models.functions import Coalesce, Greatest, Lower, Trim, TruncMonth
from django.utils import timezone

from backups.models import Restore
from catalog.models import Service
from core.models import User
from incidents import measures
from incidents.models import ActionItem, Cause, Incident

TREND_MONTHS = 12
LISTED = 50
FEW = 10
ZERO = timedelta(0)


class Percentile(Aggregate):
    """PostgreSQL's PERCENTILE_CONT of an interval."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(%(fraction)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = DurationField()

    def __init__(self, expression: Any, fraction: float) -> None:
        super().__init__(expression, fraction=fraction)


@dataclass(frozen=True)
class Month:
    """A calendar month in a time zone."""

    first: date
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> Month:
        """`2026-01`; anything else is the month of now."""
        try:
            first = datetime.strptime(text, "%Y-%m").date()
        except ValueError:
            first = timezone.now().astimezone(zone).date()
        return cls(first.replace(day=1), zone)

    def moved(self, months: int) -> Month:
        number = self.first.year * 12 + self.first.month - 1 + months
        number = min(max(number, 12), 9998 * 12)
        return Month(date(number // 12, number % 12 + 1, 1), self.zone)

    @property
    def start(self) -> datetime:
        return datetime(self.first.year, self.first.month, 1, tzinfo=self.zone)

    @property
    def end(self) -> datetime:
        return self.moved(1).start

    @property
    def key(self) -> str:
        return f"{self.first:%Y-%m}"

    def __str__(self) -> str:
        return f"{self.first:%B %Y}"


@dataclass
class Counts:
    """How many, and how many were answered in time."""

    total: int = 0
    met: int = 0
    late: int = 0
    running: int = 0
    unset: int = 0

    def add(self, row: dict[str, Any]) -> None:
        for name in ("total", "met", "late", "running", "unset"):
            setattr(self, name, getattr(self, name) + row[name])

    @property
    def share(self) -> int | None:
        """Of those with a response time that is over, the percentage that was met."""
        over = self.met + self.late
        return round(100 * self.met / over) if over else None


@dataclass(frozen=True)
class Times:
    """Median, nine of ten, worst."""

    median: timedelta | None
    p90: timedelta | None
    worst: timedelta | None


@dataclass(frozen=True)
class Speed:
    """How fast incidents of a rank were answered and over. `rank` is None for those without a severity."""

    rank: int | None
    acknowledge: Times
    recover: Times


@dataclass
class Report:
    """The whole month."""

    month: Month
    service: Service | None
    counts: Counts = field(default_factory=Counts)
    by_rank: dict[int | None, Counts] = field(default_factory=dict)
    by_service: dict[str, dict[int | None, int]] = field(default_factory=dict)
    overall: Speed | None = None
    speeds: list[Speed] = field(default_factory=list)
    trend: list[tuple[str, dict[int | None, int]]] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    root_causes: list[tuple[str, int]] = field(default_factory=list)
    items: list[ActionItem] = field(default_factory=list)
    open_items: int = 0
    overdue_items: int = 0
    updates_kept: int = 0
    updates_late: int = 0
    restores: dict[str, int] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)

    @property
    def ranks(self) -> list[int | None]:
        return sorted(self.by_rank, key=lambda rank: (rank is None, rank or 0))

    @property
    def updates_share(self) -> int | None:
        total = self.updates_kept + self.updates_late
        return round(100 * self.updates_kept / total) if total else None

    @property
    def hidden(self) -> int:
        """How many incidents the list leaves out."""
        return max(0, self.counts.total - len(self.incidents))


def build(month: Month, service: Service | None, user: User) -> Report:
    """The report as this person may read it."""
    report = Report(month, service)
    now = timezone.now()
    _count(report, now)
    _time(report)
    _look_back(report)
    _repeat(report, user)
    _to_do(report, user)
    _cadence(report, now)
    _restore(report)
    _list(report, user)
    return report


def _list(report: Report, user: User) -> None:
    """The gravest of the month. Which ones is asked first: whether they may be read is asked of those alone."""
    worst_first = (F("rank").asc(nulls_last=True), "pk")
    found = in_month(report.month, report.service).order_by(*worst_first).values_list("pk", flat=True)[:LISTED]
    report.incidents = list(seen_by(Incident.objects.filter(pk__in=list(found)), user).order_by(*worst_first))


def in_month(month: Month, service: Service | None, months: int = 1) -> QuerySet[Incident]:
    """Declared in the month, or in so many months up to its end."""
    start = month.moved(1 - months).start
    rows = Incident.objects.filter(declared_at__gte=start, declared_at__lt=month.end, merged_into=None)
    return rows.filter(service=service) if service else rows


def seen_by(rows: QuerySet[Incident], user: User) -> QuerySet[Incident]:
    """With names, and `seen`: whether this person may read what it is about."""
    visible = Incident.objects.visible_to(user).filter(pk=OuterRef("pk"))
    plain = When(confidential=False, then=Value(True))
    return (
        rows.select_related("service", "severity")
        .defer("search", "description", "root_cause", "resolution", "workaround", "impact_words")
        .annotate(seen=Case(plain, default=Exists(visible), output_field=BooleanField()))
    )


def _answered() -> Coalesce:
    return Coalesce("acknowledged_at", "mitigated_at", "resolved_at")


def _count(report: Report, now: datetime) -> None:
    """As measures.response_met judges each one."""
    due = Q(response_due_at__isnull=False)
    rows = (
        in_month(report.month, report.service)
        .annotate(answered=_answered())
        .values("rank", "service__name")
        .annotate(
            total=Count("pk"),
            met=Count("pk", filter=due & Q(answered__lte=F("response_due_at"))),
            late=Count(
                "pk",
                filter=due & (Q(answered__gt=F("response_due_at")) | Q(answered__isnull=True, response_due_at__lt=now)),
            ),
            running=Count("pk", filter=Q(answered__isnull=True, response_due_at__gte=now)),
            unset=Count("pk", filter=~due),
        )
        .order_by("service__name")
    )
    found: list[Any] = list(rows)
    for row in found:
        rank, name = row["rank"], row["service__name"] or "No service"
        report.counts.add(row)
        report.by_rank.setdefault(rank, Counts()).add(row)
        of_service = report.by_service.setdefault(name, {})
        of_service[rank] = of_service.get(rank, 0) + row["total"]


def _time(report: Report) -> None:
    figures = {
        f"{name}_{word}": kind
        for name, end in (("acknowledge", "acknowledged_at"), ("recover", "resolved_at"))
        for word, kind in _kinds(_since_declared(end))
    }
    rows = in_month(report.month, report.service)
    report.overall = _speed(None, rows.aggregate(**figures))
    by_rank: Any = rows.values("rank").annotate(**figures).order_by(F("rank").asc(nulls_last=True))
    report.speeds = [_speed(row["rank"], row) for row in by_rank]


def _since_declared(end: str) -> Case:
    """Never negative: what was over before it was declared took no time."""
    span = ExpressionWrapper(Greatest(F(end), F("declared_at")) - F("declared_at"), output_field=DurationField())
    # Of two values PostgreSQL takes the one that is there: what is not over yet has no span.
    return Case(When(**{f"{end}__isnull": False}, then=span), output_field=DurationField())


def _kinds(span: Case) -> list[tuple[str, Aggregate]]:
    return [("median", Percentile(span, 0.5)), ("p90", Percentile(span, 0.9)), ("worst", Max(span))]


def _speed(rank: int | None, row: dict[str, Any]) -> Speed:
    times = {
        name: Times(*(row[f"{name}_{word}"] for word in ("median", "p90", "worst")))
        for name in ("acknowledge", "recover")
    }
    return Speed(rank, times["acknowledge"], times["recover"])


def _look_back(report: Report) -> None:
    month = report.month
    rows = (
        in_month(month, report.service, TREND_MONTHS)
        .annotate(month=TruncMonth("declared_at", tzinfo=month.zone))
        .values("month", "rank")
        .annotate(total=Count("pk"))
        .order_by("month", "rank")
    )
    found: dict[str, dict[int | None, int]] = {}
    for row in rows:
        found.setdefault(f"{row['month']:%Y-%m}", {})[row["rank"]] = row["total"]
    months = [month.moved(back) for back in range(1 - TREND_MONTHS, 1)]
    report.trend = [(f"{each.first:%b %y}", found.get(each.key, {})) for each in months]


def _repeat(report: Report, user: User) -> None:
    """What a rule saw again and again this month, and root causes that were written down more than once in a year."""
    month, service = report.month, report.service
    causes = Cause.objects.filter(last_at__gte=month.start, last_at__lt=month.end, seen__gt=1)
    causes = causes.filter(incident__service=service) if service else causes
    visible = Q(incident=None) | Q(incident__in=Incident.objects.visible_to(user))
    report.causes = list(causes.filter(visible).select_related("incident", "rule").order_by("-seen")[:FEW])
    rows = (
        in_month(month, service, TREND_MONTHS)
        .filter(confidential=False)
        .exclude(root_cause="")
        .annotate(words=Lower(Trim("root_cause")))
        .values("words")
        .annotate(times=Count("pk"), now=Count("pk", filter=Q(declared_at__gte=month.start)), text=Max("root_cause"))
        .filter(times__gt=1, now__gt=0)
        .order_by("-times", "words")[:FEW]
    )
    report.root_causes = [(row["text"], row["times"]) for row in rows]


def _to_do(report: Report, user: User) -> None:
    """Open action items as of today, the longest overdue first."""
    today = timezone.localdate()
    rows = ActionItem.objects.filter(done_at=None, incident__in=Incident.objects.visible_to(user))
    rows = rows.filter(incident__service=report.service) if report.service else rows
    listed = (
        rows.select_related("owner", "incident")
        .annotate(
            all_open=Window(Count("pk")),
            all_overdue=Window(Count(Case(When(due_on__lt=today, then=Value(1))))),
        )
        .order_by(F("due_on").asc(nulls_last=True), "pk")[:FEW]
    )
    report.items = list(listed)
    if report.items:
        first: Any = report.items[0]
        report.open_items, report.overdue_items = first.all_open, first.all_overdue


def _cadence(report: Report, now: datetime) -> None:
    """Whether each update came within the time that the severity sets, counted from the one before. The last stretch
    counts when it grew too long without one."""
    rows = (
        in_month(report.month, report.service)
        .filter(severity__update_every__gt=ZERO)
        .annotate(told=ArrayAgg("updates__at", filter=Q(updates__isnull=False), default=Value([])))
        .values_list("declared_at", "resolved_at", "severity__update_every", "told")
    )
    for declared, resolved, every, told in rows:
        end = resolved or now
        moments = [declared, *sorted(at for at in told if at <= end)]
        gaps = [after - before for before, after in pairwise(moments)]
        report.updates_kept += sum(gap <= every for gap in gaps)
        report.updates_late += sum(gap > every for gap in gaps) + (end - moments[-1] > every)


def _restore(report: Report) -> None:
    """Restores of the month against their RTO."""
    month = report.month
    rows = Restore.objects.filter(requested_at__gte=month.start, requested_at__lt=month.end)
    if report.service:
        rows = rows.filter(target__component__environment__service=report.service)
    measured = Q(measured__isnull=False)
    report.restores = rows.aggregate(
        total=Count("pk"),
        met=Count("pk", filter=measured & Q(rto__isnull=False, measured__lte=F("rto"))),
        missed=Count("pk", filter=measured & Q(rto__isnull=False, measured__gt=F("rto"))),
        unset=Count("pk", filter=measured & Q(rto__isnull=True)),
    )


def csv_rows(month: Month, service: Service | None, user: User) -> Iterator[list[Any]]:
    """A line for each incident of the month, the head first. Times are ISO 8601 in UTC, spans are seconds."""
    yield [
        *("Number", "Title", "Service", "Severity", "Rank", "State", "Confidential", "Declared", "Acknowledged"),
        *("Resolved", "Time to acknowledge (s)", "Time to recover (s)", "Response due", "Response met"),
        *("State code", "Severity code"),
    ]
    for row in seen_by(in_month(month, service), user).order_by("pk").iterator(chunk_size=500):
        met = measures.response_met(row)
        yield [
            row.number,
            row.title if row.seen else row.shown_title,  # type: ignore[attr-defined]  # annotated
            row.service or "",
            row.severity or "not set",
            row.rank,
            row.state_word,
            "yes" if row.confidential else "no",
            row.declared_at,
            row.acknowledged_at,
            row.resolved_at,
            measures.time_to_acknowledge(row),
            measures.time_to_resolve(row),
            row.response_due_at,
            "not set" if row.response_due_at is None else {True: "yes", False: "no", None: "open"}[met],
            row.state,
            row.severity.code if row.severity else "",
        ]
