"""The cases: who is struck at which point of which step of a deployment or rollback. No Django in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.cases import Blow
from tests.chaos.faults import AFTER, BEFORE, INSIDE, POINTS, UNDO, UNSAVED

DEPLOY, ROLLBACK, COLD = "deploy", "rollback", "cold rollback"
"""A cold rollback goes back to a version whose program has ended."""
STEPS: Mapping[str, Sequence[str]] = {
    DEPLOY: ("check", "back_up", "migrate", "prepare_new", "ready", "switch", "verify", "watch", "drain"),
    ROLLBACK: ("check", "prepare_old", "ready", "switch", "restore", "verify", "drain"),
}
"""Checked against the registry when the harness starts."""
PROXIES = ("caddy", "nginx")

LIVE, SUSPECT, BACK, FAILED, CANCELLED = "live", "suspect", "rolled_back", "failed", "cancelled"
AS_ASKED = frozenset({LIVE})
EITHER = frozenset({LIVE, FAILED})


@dataclass(frozen=True)
class Case:
    name: str
    subject: str
    blows: tuple[Blow, ...] = ()
    ends: frozenset[str] = AS_ASKED
    """Allowed end states of the deployment."""
    proxy: str = "caddy"
    backs_up: bool = False
    goes_back: bool = False
    """The profile says that the portal rolls back by itself."""
    is_control: bool = False

    @property
    def watch_for_s(self) -> float:
        """Three looks are needed to say that a version is silent."""
        return 3.5 if any((blow.what, blow.step) == ("kill live", "watch") for blow in self.blows) else 0.4

    @property
    def procedure(self) -> str:
        return f"deployments.{DEPLOY if self.subject == DEPLOY else ROLLBACK}"

    @property
    def hurts_users(self) -> bool:
        """Whether what is struck serves users at that moment: then requests may fail, until it is over."""
        return any(
            blow.what in (*PROXIES, "kill live") or (blow.what == "kill idle" and is_switched(self.subject, blow.step))
            for blow in self.blows
        )


def _case(subject: str, *blows: Blow, **values: object) -> Case:
    doing = " and ".join(f"{blow.what} {blow.point} {blow.step}" for blow in blows)
    also = [f"{blow.depth:.0%} in" for blow in blows if blow.depth != Blow.depth]
    also += [str(values["proxy"])] if "proxy" in values else []
    also += ["rolls back by itself"] if values.get("goes_back") else []
    values.setdefault("backs_up", any(blow.step == "back_up" for blow in blows))
    name = f"{subject}: {doing}" + (f" ({', '.join(also)})" if also else "")
    return Case(name=name, subject=subject, blows=blows, **values)  # type: ignore[arg-type]


def steps_of(subject: str) -> Sequence[str]:
    return STEPS[DEPLOY if subject == DEPLOY else ROLLBACK]


def is_switched(subject: str, step: str) -> bool:
    """Whether traffic is on the new version when this step begins."""
    steps = steps_of(subject)
    return steps.index(step) > steps.index("switch")


def after_death(subject: str, step: str, point: str) -> frozenset[str]:
    """Before the switch what was begun is taken back; with traffic on the new version it goes on."""
    steps = steps_of(subject)
    # The step that the next attempt finds unfinished.
    at = steps.index(step) + (point == AFTER)
    if at >= len(steps) or steps[at] in ("check", "back_up") or at > steps.index("switch"):
        return AS_ASKED
    inside = at == steps.index("switch") and point not in (BEFORE, AFTER)
    return EITHER if inside else frozenset({FAILED})


def deaths() -> list[Case]:
    """The worker dies before, inside and after every step, and before its books are written."""
    cases = []
    for subject, steps in STEPS.items():
        for step in steps:
            for point in POINTS:
                blow = Blow("kill worker", step, point)
                cases.append(_case(subject, blow, ends=after_death(subject, step, point)))
        for step in ("switch", "verify"):
            ends = after_death(subject, step, UNSAVED)
            cases.append(_case(subject, Blow("kill worker", step, UNSAVED), ends=ends))
    # Late: traffic is there, and the books do not say so.
    cases.append(_case(DEPLOY, Blow("kill worker", "switch", INSIDE, 0.8), ends=EITHER))
    cases += [
        _case(COLD, Blow("kill worker", step), ends=after_death(COLD, step, INSIDE))
        for step in ("prepare_old", "ready", "switch")
    ]
    return cases + [_case(DEPLOY, Blow("kill child", step), ends=EITHER) for step in ("prepare_new", "switch")]


def agents() -> list[Case]:
    """The program on the host dies, young and old. Nothing is known of what it did, so that is looked at.

    With traffic on the version that was asked for, a look that fails moves it nowhere.
    """
    cases = []
    for step, ends in (
        ("check", FAILED),
        ("prepare_new", FAILED),
        ("ready", FAILED),
        ("switch", FAILED),
        ("verify", SUSPECT),
        ("watch", LIVE),
        ("drain", LIVE),
    ):
        depths = (0.1, 0.5, 0.8) if step in ("prepare_new", "switch") else (0.5,)
        cases += [_case(DEPLOY, Blow("kill agent", step, INSIDE, depth), ends=frozenset({ends})) for depth in depths]
    for step in ("check", "prepare_old", "switch"):
        cases.append(_case(ROLLBACK, Blow("kill agent", step), ends=frozenset({FAILED})))
    for step, ends in (("verify", SUSPECT), ("drain", LIVE)):
        cases.append(_case(ROLLBACK, Blow("kill agent", step), ends=frozenset({ends})))
    cases.append(_case(COLD, Blow("kill agent", "prepare_old"), ends=frozenset({FAILED})))
    return cases


def proxies() -> list[Case]:
    """The proxy dies and is started again; then it goes where the record says."""
    cases = []
    for proxy in PROXIES:
        cases += [_case(DEPLOY, Blow(proxy, step), proxy=proxy) for step in ("prepare_new", "ready", "switch", "drain")]
        cases += [_case(DEPLOY, Blow(proxy, "switch", point), proxy=proxy) for point in (BEFORE, AFTER)]
        cases += [_case(ROLLBACK, Blow(proxy, step), proxy=proxy) for step in ("switch", "verify")]
    return cases


def programs() -> list[Case]:
    """The program of a slot dies: of the live one, of the one that waits for traffic or has had it."""
    gone = frozenset({FAILED})
    cases = []
    for proxy in PROXIES:
        cases += [
            _case(DEPLOY, Blow("kill live", "check", BEFORE), proxy=proxy),
            _case(DEPLOY, Blow("kill idle", "switch", BEFORE), proxy=proxy, ends=gone),
            _case(DEPLOY, Blow("kill live", "verify", BEFORE), proxy=proxy, ends=frozenset({SUSPECT})),
        ]
    cases += [_case(DEPLOY, Blow("kill live", step)) for step in ("migrate", "prepare_new", "ready")]
    cases += [
        _case(DEPLOY, Blow("kill live", "switch", BEFORE)),
        _case(DEPLOY, Blow("kill live", "drain", BEFORE)),
        _case(DEPLOY, Blow("kill live", "verify", BEFORE), ends=frozenset({BACK}), goes_back=True),
        _case(DEPLOY, Blow("kill agent", "verify"), ends=frozenset({BACK}), goes_back=True),
        _case(DEPLOY, Blow("kill live", "watch", BEFORE), ends=frozenset({SUSPECT})),
        _case(DEPLOY, Blow("kill idle", "ready", BEFORE), ends=gone),
        _case(DEPLOY, Blow("kill idle", "verify", BEFORE)),
        _case(DEPLOY, Blow("kill live", "prepare_new"), Blow("kill idle", "switch", BEFORE), ends=gone),
        _case(ROLLBACK, Blow("kill live", "check", BEFORE)),
        _case(ROLLBACK, Blow("kill idle", "check", BEFORE)),
        _case(ROLLBACK, Blow("kill idle", "ready", BEFORE), ends=gone),
        _case(ROLLBACK, Blow("kill idle", "switch", BEFORE), ends=gone),
        _case(ROLLBACK, Blow("kill live", "verify", BEFORE), ends=frozenset({SUSPECT})),
    ]
    return cases


def outages() -> list[Case]:
    """A server of the portal dies inside a step. Redis and the control worker only make it wait."""
    cases = []
    for subject, steps in STEPS.items():
        for step in steps:
            cases.append(_case(subject, Blow("portal", step), ends=after_death(subject, step, INSIDE) | AS_ASKED))
        for what in ("redis", "control"):
            cases += [_case(subject, Blow(what, step)) for step in ("check", "switch", "verify")]
    cases.append(_case(DEPLOY, Blow("redis", "back_up")))
    return [*cases, _case(DEPLOY, Blow("target", "back_up"), ends=EITHER)]


def freezes() -> list[Case]:
    """The worker stands still for longer than its lease, and goes on when its successor has finished."""
    cases = [
        _case(DEPLOY, Blow(what, step), ends=after_death(DEPLOY, step, INSIDE) | AS_ASKED)
        for what in ("freeze worker", "freeze all")
        for step in ("migrate", "prepare_new", "ready", "switch", "verify", "drain")
    ]
    return cases + [
        _case(ROLLBACK, Blow("freeze all", step), ends=after_death(ROLLBACK, step, INSIDE) | AS_ASKED)
        for step in ("prepare_old", "switch", "verify")
    ]


def orders() -> list[Case]:
    """A person cancels; a worker is stopped in good order."""
    ends = frozenset({CANCELLED, BACK, LIVE})
    cases = [_case(DEPLOY, Blow("cancel", step), ends=ends) for step in STEPS[DEPLOY]]
    cases += [_case(ROLLBACK, Blow("cancel", step), ends=ends) for step in ("check", "switch", "drain")]
    return cases + [_case(DEPLOY, Blow("stop worker", step), ends=EITHER) for step in ("prepare_new", "ready", "watch")]


def doubles() -> list[Case]:
    """A second death, while what the first one left is being taken back."""
    gone = frozenset({FAILED})
    return [
        _case(DEPLOY, Blow("kill worker", "ready"), Blow("kill worker", "prepare_new", UNDO), ends=gone),
        _case(DEPLOY, Blow("kill worker", "ready"), Blow("portal", "prepare_new", UNDO), ends=gone),
        _case(
            DEPLOY,
            Blow("kill live", "verify", BEFORE),
            Blow("kill worker", "switch", UNDO),
            ends=frozenset({BACK}),
            goes_back=True,
        ),
        _case(DEPLOY, Blow("kill worker", "verify"), Blow("kill worker", "drain")),
        _case(DEPLOY, Blow("kill worker", "switch", AFTER), Blow("caddy", "verify"), proxy="caddy"),
    ]


def nginx() -> list[Case]:
    """The worker and the agent, where the proxy follows a link."""
    cases = [
        _case(DEPLOY, Blow("kill worker", step, point), ends=after_death(DEPLOY, step, point), proxy="nginx")
        for step, point in (("prepare_new", INSIDE), ("switch", INSIDE), ("switch", AFTER), ("verify", INSIDE))
    ]
    cases.append(_case(DEPLOY, Blow("kill agent", "switch"), ends=frozenset({FAILED}), proxy="nginx"))
    return [*cases, _case(ROLLBACK, Blow("portal", "switch"), ends=EITHER, proxy="nginx")]


# The proof that the harness can fail: when all is over it starts a program that no record knows, and sends the proxy to
# the other slot. Both must be reported.
CONTROL = Case(name="control: an orphan, and the proxy reads the other slot", subject=DEPLOY, is_control=True)
CAUGHT = ("an orphan", "somebody changed it without the portal", "answer 1 says")


def every() -> list[Case]:
    groups = (deaths(), agents(), proxies(), programs(), outages(), freezes(), orders(), doubles(), nginx())
    return [*(case for group in groups for case in group), CONTROL]


def short() -> list[Case]:
    """A selection for the suite: well below a minute."""
    names = (
        "deploy: kill worker inside switch",
        "deploy: kill agent inside switch",
        "deploy: caddy inside switch (caddy)",
        CONTROL.name,
    )
    by_name = {case.name: case for case in every()}
    return [by_name[name] for name in names]
