"""Whether a deployment may go on, and what keeps it: its checklist, approvals, freezes, promotion, other rooms.

Asked when its page is shown, when it starts, and again at the moment of the switch. What keeps it is always a sentence
that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from catalog.exceptions import CatalogError
from catalog.models import Probe
from catalog.secrets import SecretReference
from core import gates as port
from deployments.feasibility import FRESH_FOR, SEEN_FOR, fresh_backup_of, live_of, way_back_to
from deployments.models import Deployment, FreezeWindow, Gate, LiveState, Release, Scan
from deployments.models.settings import GateKind
from deployments.reach import plain_settings

Verdict = tuple[bool, str]
GRAVEST = 1
NOT_CONFIRMED = "nobody has confirmed it yet. Confirm it with evidence."


def obstacles(deployment: Deployment, now: datetime) -> list[str]:
    """What keeps this deployment from going on now, in sentences; empty: it may. Writes nothing.

    A rollback is never kept. An emergency is kept only by what would make it another release than the one asked for.
    """
    if deployment.is_rollback:
        return []
    found = _of_the_release(deployment) + overtaken(deployment)
    if deployment.emergency:
        return found
    found += [f"{gate.text}: {gate.evidence or NOT_CONFIRMED}" for gate in checked(deployment, now) if gate.blocks]
    found += _approvals_missing(deployment, now)
    found += _freezes(deployment, now)
    found += _promotion(deployment)
    found += [answer.sentence for answer in port.ask(question_of(deployment)) if not answer.good]
    return found


def question_of(deployment: Deployment) -> port.Question:
    return port.Question(
        environment=deployment.environment_id,
        service=deployment.environment.service_id,
        incident=deployment.incident,
        limit=deployment.frozen.get("freezes_on_rank") or GRAVEST,
    )


# -- the release -------------------------------------------------------------------------------------------------------


def _of_the_release(deployment: Deployment) -> list[str]:
    release = Release.objects.get(pk=deployment.release_id)
    found = []
    if release.withdrawn_at is not None:
        found.append(
            f"{release} was withdrawn: {release.withdrawn_reason or 'no reason given'}. Deploy another release."
        )
    if release.fingerprint != deployment.fingerprint:
        found.append(
            f"The checksum of {release} is not the one that was asked for and approved. Ask for the deployment again."
        )
    return found


def overtaken(deployment: Deployment) -> list[str]:
    """Why it would put an older release over a newer one that went live after it was asked for; empty: it does not.

    Nobody who asked then could know of it, so it is decided again by asking again.
    """
    live = LiveState.objects.select_related("release").filter(environment=deployment.environment_id).first()
    if live is None or live.release is None or live.since is None or deployment.switched_at is not None:
        return []
    newer = live.release.created_at > deployment.release.created_at
    if live.since <= deployment.requested_at or not newer:
        return []
    return [
        f"{live.release.version}, a newer release, went live at {live.since:%Y-%m-%d %H:%M} UTC, after "
        f"{deployment.release.version} was asked for. Ask for it again if it is still wanted."
    ]


def _promotion(deployment: Deployment) -> list[str]:
    source = deployment.frozen.get("promotes_from")
    if source is None or Release.objects.filter(pk=deployment.release_id).verified_in(source).exists():
        return []
    from catalog.models import Environment

    where = Environment.objects.filter(pk=source).first()
    return [
        f"{deployment.release.version} was not verified in {where.name if where else 'the environment before'}. "
        "Deploy it there first, or ask for an emergency deployment with a reason."
    ]


def _freezes(deployment: Deployment, now: datetime) -> list[str]:
    windows = FreezeWindow.objects.at(now).for_environment(deployment.environment)
    return [f"Nothing is deployed until {window.ends_at:%Y-%m-%d %H:%M} UTC: {window.reason}." for window in windows]


# -- approvals ---------------------------------------------------------------------------------------------------------


def _approvals_missing(deployment: Deployment, now: datetime) -> list[str]:
    needed = deployment.approvals_needed
    given = list(deployment.approvals.select_related("by"))
    for each in given:
        each.deployment = deployment
    found = [f"{each.by} refused: {each.note}" for each in given if not each.granted]
    counting = [each for each in given if each.counts(now) and each.by_id != deployment.requested_by_id]
    if needed and len(counting) < needed:
        late = [str(each.by) for each in given if each.granted and each.expires_at and each.expires_at <= now]
        expired = f" Expired: {', '.join(late)}; ask again." if late else ""
        found.append(f"{len(counting)} of {needed} approvals are given.{expired}")
    return found


# -- the checklist -----------------------------------------------------------------------------------------------------


def checked(deployment: Deployment, now: datetime) -> list[Gate]:
    """Its gates, the automatic ones as they are now. Nothing is written: `keep` does that."""
    gates = list(deployment.gates.select_related("by"))
    for gate in gates:
        if not gate.is_manual:
            good, sentence = _LOOKS[GateKind(gate.kind)](deployment, now)
            gate.state = Gate.State.PASSED if good else Gate.State.FAILED
            gate.evidence, gate.looked_at = sentence, now
    return gates


def keep(deployment: Deployment, now: datetime) -> None:
    """Write down how its automatic gates are now."""
    gates = [gate for gate in checked(deployment, now) if not gate.is_manual]
    Gate.objects.bulk_update(gates, ["state", "evidence", "looked_at"])


def _ci(deployment: Deployment, now: datetime) -> Verdict:
    release = deployment.release
    link = f" {release.ci_url}" if release.ci_url else ""
    if release.ci == Release.Ci.PASSED:
        return True, f"CI passed.{link}"
    return False, f"CI: {release.get_ci_display().lower()}. Let it pass and report it.{link}"


def _newest_scans(release: Release) -> list[Scan]:
    newest: dict[tuple[str, str], Scan] = {}
    for scan in release.scans.all():
        newest.setdefault((scan.kind, scan.tool), scan)
    return list(newest.values())


def _scans(deployment: Deployment, now: datetime) -> Verdict:
    scans = [each for each in _newest_scans(deployment.release) if each.kind != Scan.Kind.SBOM]
    if not scans:
        return False, "No scan is attached to this release. Attach what the scanner found."
    bad = [f"{each.tool} found {each.critical} critical and {each.high} high" for each in scans if not each.is_clean]
    if bad:
        return False, f"{'; '.join(bad)}. Mend them in another release."
    return True, f"Nothing critical or high: {', '.join(each.tool for each in scans)}."


def _sbom(deployment: Deployment, now: datetime) -> Verdict:
    found = [each for each in _newest_scans(deployment.release) if each.kind == Scan.Kind.SBOM]
    if not found:
        return False, "No bill of materials is attached to this release. Attach one."
    return True, f"By {found[0].tool}."


def _migrations(deployment: Deployment, now: datetime) -> Verdict:
    release = deployment.release
    if not release.changes_schema:
        return True, "This release changes no schema."
    if release.migrations_tested:
        return True, release.migrations_tested
    return False, "This release changes the schema and nobody has said where its migration was tested."


def _variables(deployment: Deployment, now: datetime) -> Verdict:
    secrets: dict[str, str] = deployment.frozen.get("secrets", {})
    known = set(secrets) | set(plain_settings(deployment.environment))
    missing = sorted(set(deployment.release.variables) - known)
    for name, reference in secrets.items():
        try:
            SecretReference.parse(reference).resolve()
        except CatalogError as error:
            return False, f"{name}: {error.message}"
    if missing:
        return False, f"Not set for this environment: {', '.join(missing)}. Set them on its page."
    return True, f"{len(known)} variables are set, none that this release needs is missing."


def _backup(deployment: Deployment, now: datetime) -> Verdict:
    plan, limit_s = deployment.frozen.get("backup_plan"), deployment.frozen.get("backup_fresh_for_s")
    if plan is None:
        return False, "No backup plan is set for this environment. An administrator sets it."
    archive, sentence = fresh_backup_of(plan, timedelta(seconds=limit_s) if limit_s else FRESH_FOR, now)
    return archive is not None, sentence


def _rollback(deployment: Deployment, now: datetime) -> Verdict:
    live = live_of(deployment.environment)
    if live is None or live.release is None:
        return True, "Nothing is live yet, so there is nothing to go back to."
    way = way_back_to(live.release, live, now)
    if deployment.release.changes_schema:
        good, sentence = _backup(deployment, now)
        if not good:
            return False, f"This release changes the schema, so the way back needs a backup. {sentence}"
    return way.possible, way.sentence


def _ready(deployment: Deployment, now: datetime) -> Verdict:
    bad = Probe.objects.filter(environment=deployment.environment, use=Probe.Use.READY, state="bad").first()
    if bad is not None:
        return False, f"{bad.name}: {bad.sentence}"
    live = LiveState.objects.filter(environment=deployment.environment).first()
    if live is None or live.release_id is None:
        return True, "Nothing is live yet."
    if live.seen_at is None or now - live.seen_at > SEEN_FOR:
        return False, "The running version was not looked at lately. Look now on the environment's page."
    for each in live.seen.get("instances", ()):
        if each["live"]:
            word = "answers its health check" if each["ready"] else "does not answer its health check"
            return bool(each["ready"]), f"{each['version']} {word}."
    return False, "No running version was seen. Look at the environment's page."


_LOOKS: dict[GateKind, Callable[[Deployment, datetime], Verdict]] = {
    GateKind.CI: _ci,
    GateKind.SCANS: _scans,
    GateKind.SBOM: _sbom,
    GateKind.MIGRATIONS: _migrations,
    GateKind.VARIABLES: _variables,
    GateKind.BACKUP: _backup,
    GateKind.ROLLBACK: _rollback,
    GateKind.READY: _ready,
}
