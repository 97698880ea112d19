"""The news of contacts and escalations that other rooms may listen to."""

from operations import events

ESCALATION_STARTED = events.declare("escalation.started", "Somebody must be told of something: an escalation began")
ESCALATION_STEP = events.declare(
    "escalation.step", "A step of an escalation was taken: people were told, or nobody was"
)
ESCALATION_ACKNOWLEDGED = events.declare("escalation.acknowledged", "Somebody answered an escalation")
ESCALATION_STOPPED = events.declare("escalation.stopped", "An escalation is over: resolved, given away or withdrawn")
ESCALATION_EXHAUSTED = events.declare("escalation.exhausted", "A ladder ended and nobody had answered")
NOTIFICATION_FAILED = events.declare("notification.failed", "A message was given up: no way to its reader worked")
ONCALL_GAP = events.declare("oncall.gap", "Nobody is on call, or will be within a day")
