"""What is operated: services, where they run, what they consist of, and how far back and how fast they must come back.

The inventory is written by administrators and read by everybody. Values a team has not set stay NULL and read
"not set". Models do no I/O: secrets are in `catalog.secrets`, connections in `catalog.targets`.
"""

from catalog.models.control import ServiceControlCommands
from catalog.models.databases import DatabaseTarget
from catalog.models.hosts import Host
from catalog.models.hours import BusinessHours, Holiday, OpeningHours
from catalog.models.inventory import Component, Environment, Service
from catalog.models.probes import Probe, ProbeResult
from catalog.models.severities import Severity

__all__ = [
    "BusinessHours",
    "Component",
    "DatabaseTarget",
    "Environment",
    "Holiday",
    "Host",
    "OpeningHours",
    "Probe",
    "ProbeResult",
    "Service",
    "ServiceControlCommands",
    "Severity",
]
