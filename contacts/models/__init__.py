"""Who is told when something is wrong: people and how to reach them, on-call, the matrix, escalations, messages."""

from contacts.models.people import (  # isort: skip  others refer to these
    Contact,
    Queue,
    QueueEntry,
    Role,
    RoleHolder,
    Team,
    TeamMember,
    Way,
)
from contacts.models.escalation import Escalation, StepRun
from contacts.models.notifications import Attempt, Channel, Notification, Provider
from contacts.models.oncall import (
    CalendarFeed,
    Layer,
    LayerMember,
    LayerWindow,
    Level,
    OnCallRecord,
    OnCallSchedule,
    Override,
)
from contacts.models.policy import EscalationPolicy, PolicyVersion, Rule, Step, Target

__all__ = [
    "Attempt",
    "CalendarFeed",
    "Channel",
    "Contact",
    "Escalation",
    "EscalationPolicy",
    "Layer",
    "LayerMember",
    "LayerWindow",
    "Level",
    "Notification",
    "OnCallRecord",
    "OnCallSchedule",
    "Override",
    "PolicyVersion",
    "Provider",
    "Queue",
    "QueueEntry",
    "Role",
    "RoleHolder",
    "Rule",
    "Step",
    "StepRun",
    "Target",
    "Team",
    "TeamMember",
    "Way",
]
