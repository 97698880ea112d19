"""Rows of incidents as they stand in the database; what an action would have written along is not there."""

from __future__ import annotations

from datetime import timedelta

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from incidents.models import (
    ActionItem,
    CauseRule,
    Incident,
    IncidentProfile,
    Maintenance,
    MessageTemplate,
    PublicComponent,
    Review,
    Stage,
    Workflow,
)
from tests.contacts.factories import SeverityFactory
from tests.factories import ComponentFactory, PersonFactory


class IncidentFactory(DjangoModelFactory):
    """Open, with a severity of its service."""

    class Meta:
        model = Incident

    number = factory.Sequence(lambda n: f"INC-2026-01-01-{n + 1:03}")
    title = "Orders cannot be saved"
    severity = factory.SubFactory(SeverityFactory)
    service = factory.LazyAttribute(lambda incident: incident.severity.service if incident.severity else None)
    rank = factory.LazyAttribute(lambda incident: incident.severity.rank if incident.severity else None)
    declared_by = factory.SubFactory(PersonFactory)
    started_at = factory.LazyFunction(timezone.now)

    class Params:
        resolved = factory.Trait(
            state="resolved", resolved_at=factory.LazyFunction(lambda: timezone.now() + timedelta(minutes=30))
        )


class WorkflowFactory(DjangoModelFactory):
    class Meta:
        model = Workflow

    name = factory.Sequence(lambda n: f"Workflow {n}")


class StageFactory(DjangoModelFactory):
    class Meta:
        model = Stage

    workflow = factory.SubFactory(WorkflowFactory)
    order = factory.Sequence(lambda n: n % 1000)
    name = "Detection"
    limit = timedelta(minutes=2)


class ProfileFactory(DjangoModelFactory):
    """For all services that have none of their own."""

    class Meta:
        model = IncidentProfile


class TemplateFactory(DjangoModelFactory):
    class Meta:
        model = MessageTemplate

    name = factory.Sequence(lambda n: f"Template {n}")
    body = "{service}: {title}. Status: {status}."


class PublicComponentFactory(DjangoModelFactory):
    class Meta:
        model = PublicComponent

    component = factory.SubFactory(ComponentFactory)
    name = factory.Sequence(lambda n: f"Orders {n}")


class MaintenanceFactory(DjangoModelFactory):
    class Meta:
        model = Maintenance

    title = "New network cards"
    starts_at = factory.LazyFunction(timezone.now)
    ends_at = factory.LazyFunction(lambda: timezone.now() + timedelta(hours=2))


class CauseRuleFactory(DjangoModelFactory):
    class Meta:
        model = CauseRule

    cause = "backup-failed"


class ReviewFactory(DjangoModelFactory):
    class Meta:
        model = Review

    incident = factory.SubFactory(IncidentFactory, resolved=True)
    title = "Post-Incident Review"


class ActionItemFactory(DjangoModelFactory):
    class Meta:
        model = ActionItem

    incident = factory.SubFactory(IncidentFactory)
    text = "Watch the free space"
