"""Which row of which matrix counts."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import OuterRef, QuerySet, Subquery

from catalog.models import Service, Severity
from contacts.models import EscalationPolicy, PolicyVersion, Rule

MOST_SUGGESTED = 60


def policy_for(service: Service | None) -> EscalationPolicy | None:
    """The matrix that counts for a service: its own once it was saved, else the one for all other services."""
    saved = EscalationPolicy.objects.filter(versions__isnull=False).distinct()
    own = saved.filter(service=service).first() if service is not None else None
    return own or saved.filter(service__isnull=True).first()


def version_for(service: Service | None) -> PolicyVersion | None:
    """The version in force of the matrix that counts for a service."""
    policy = policy_for(service)
    return policy.versions.select_related("policy__fallback").first() if policy is not None else None


def rule_for(service: Service | None, severity: Severity | None, situation: str = "") -> Rule | None:
    """The row that counts now; None when none fits."""
    version = version_for(service)
    return rule_of(version, severity, situation) if version is not None else None


def rule_of(version: PolicyVersion, severity: Severity | None, situation: str = "") -> Rule | None:
    """The row of a version that counts. See the docstring of Rule for the order."""
    return best(version.rules.all(), severity.pk if severity is not None else None, situation)


def best(rules: Iterable[Rule], severity_id: int | None, situation: str) -> Rule | None:
    """Of the rows that fit, the one that says most; of two that say as much, the upper one."""
    fitting = [rule for rule in rules if _fits(rule, severity_id, situation)]
    return max(fitting, key=lambda rule: (_says(rule), -rule.order), default=None)


def _fits(rule: Rule, severity_id: int | None, situation: str) -> bool:
    if rule.severity_id is None and rule.severity_words:
        return False  # its severity was removed from the catalog: that does not make it a row for any
    if rule.severity_id is not None and rule.severity_id != severity_id:
        return False
    return not rule.situation or same(rule.situation, situation)


def _says(rule: Rule) -> int:
    """Severity and situation before severity alone, before situation alone, before neither."""
    return 2 * (rule.severity_id is not None) + bool(rule.situation)


def same(one: str, other: str) -> bool:
    """Whether two situations are one: spaces and capitals do not count."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def rules_in_force() -> QuerySet[Rule]:
    """The rows of every matrix as it is now."""
    newest = PolicyVersion.objects.filter(policy=OuterRef("version__policy")).order_by("-number")
    return Rule.objects.filter(version=Subquery(newest.values("pk")[:1]))


def situations() -> list[str]:
    """Those that any matrix tells apart, for a suggestion before the service is known."""
    found = rules_in_force().exclude(situation="").order_by("situation").values_list("situation", flat=True)
    return list(found.distinct()[:MOST_SUGGESTED])


def situations_of(service: Service | None) -> list[str]:
    """The situations that the matrix of a service tells apart, in its order."""
    version = version_for(service)
    found: dict[str, str] = {}
    for rule in version.rules.all() if version is not None else ():
        if rule.situation:
            found.setdefault(rule.situation.casefold(), rule.situation)
    return list(found.values())
