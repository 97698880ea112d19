"""Asking the probes: from a row to an answer, and what becomes of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

from django.utils import timezone

from catalog.connectors import Endpoint
from catalog.exceptions import CatalogError
from catalog.models import Environment, Host, Probe, ProbeResult
from catalog.probes import PROBES, Finding, State, Surroundings
from catalog.probes import Probe as Question
from catalog.probes.base import Run
from catalog.reach import connector_for, forwarded
from catalog.secrets import SecretReference
from core.addresses import parse_networks
from core.exceptions import PortalError
from core.outbound import Allowed, OutboundFailed, judge_from_afar
from operations.exceptions import CommandFailed
from operations.masking import mask

PAUSE_S = 0.5


def question_of(probe: Probe) -> Question:
    """The adapter with its parameters. Raises CatalogError for a kind that this version does not know."""
    try:
        return PROBES[probe.kind](**probe.parameters)
    except KeyError:
        raise CatalogError(f"No probe of the kind “{probe.kind}” exists in this version of the portal.") from None


def allowed_in(environment: Environment) -> Allowed:
    """What an environment lets its probes ask beside public addresses."""
    return Allowed(parse_networks([line for line in environment.allowed_networks.splitlines() if line.strip()]))


Note = Callable[[Probe, Finding], None]


def ask(probe: Probe, run: Run) -> Finding:
    """Ask, whatever comes of it. Writes nothing. What was sent as a secret is masked in what came back."""
    used: list[str] = []
    finding = _ask(probe, run, used)
    return replace(finding, sentence=mask(finding.sentence, tuple(used)))


def _ask(probe: Probe, run: Run, used: list[str]) -> Finding:
    try:
        return question_of(probe).ask(_surroundings(probe, run, used))
    except (OutboundFailed, CommandFailed) as error:
        return Finding(State.BAD, error.message)
    except PortalError as error:
        return Finding(State.UNKNOWN, error.message)
    except OSError as error:
        return Finding(State.BAD, f"The connection broke off: {error.strerror or error}.")


def _surroundings(probe: Probe, run: Run, used: list[str]) -> Surroundings:
    host, allow = probe.looks_from, allowed_in(probe.environment)

    def secret(reference: str) -> str:
        used.append(SecretReference.parse(reference).resolve())
        return used[-1]

    def forward(address: str, port: int) -> AbstractContextManager[Endpoint]:
        assert host is not None
        seen = address if address.startswith("/") else judge_from_afar(address, allow)
        return forwarded(host, seen, port, f"probe-{secrets.token_hex(6)}")

    return Surroundings(
        connector=connector_for(host),
        allow=allow,
        run=run,
        secret=secret,
        forward=forward if host is not None and host.kind != Host.Kind.LOCAL else None,
        timeout_s=probe.timeout_s,
    )


def record(probe: Probe, finding: Finding) -> None:
    """Keep the answer as the newest one, and the newest few of all."""
    probe.asked_at = timezone.now()
    probe.state, probe.sentence = finding.state.value, finding.sentence
    probe.latency_s, probe.figures = finding.latency_s, dict(finding.figures)
    probe.save(update_fields=["asked_at", "state", "sentence", "latency_s", "figures"])
    ProbeResult.objects.create(
        probe=probe, at=probe.asked_at, state=probe.state, sentence=probe.sentence, latency_s=probe.latency_s
    )
    kept = ProbeResult.objects.filter(probe=probe).values("pk")[: ProbeResult.KEPT]
    ProbeResult.objects.filter(probe=probe).exclude(pk__in=list(kept.values_list("pk", flat=True))).delete()


def wait_until_good(probes: Iterable[Probe], run: Run, limit_s: float, note: Note) -> str:
    """Ask until all are good; a sentence about the first that is not when the time is over, else an empty text.

    `note` is told the last answer of each.
    """
    waiting = list(probes)
    give_up = time.monotonic() + limit_s
    while waiting:
        finding = ask(waiting[0], run)
        if finding.is_good:
            note(waiting.pop(0), finding)
        elif time.monotonic() > give_up:
            note(waiting[0], finding)
            return f"{waiting[0].name}: {finding.sentence}"
        else:
            time.sleep(PAUSE_S)
    return ""
