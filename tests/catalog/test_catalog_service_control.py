"""Service control against real programs: a small service whose state is a file."""

import os
import sys
import time

import pytest

from catalog import service_control
from catalog.exceptions import CatalogError
from catalog.models import ServiceControlCommands
from catalog.service_control import ServiceControl, ServiceStatus, control_for
from operations.commands import Command, Result, run, run_checked

pytestmark = pytest.mark.django_db

# `service.py <state file> start|stop|status [seconds until ready]`: exits as systemctl does.
SERVICE = """
import sys, time
path, action = sys.argv[1], sys.argv[2]
if action == "start":
    open(path, "w").write(str(time.time() + float(sys.argv[3])))
    print("started")
elif action == "stop":
    open(path, "w").write("")
elif action == "status":
    ready_at = open(path).read()
    if not ready_at:
        print("inactive (dead)")
        sys.exit(3)
    if time.time() < float(ready_at):
        print("some warning", file=sys.stderr)
        print("still warming up.", file=sys.stderr)
        sys.exit(1)
    print("active (running)")
elif action == "fail":
    print("out of memory", file=sys.stderr)
    sys.exit(7)
elif action == "hang":
    time.sleep(60)
"""


@pytest.fixture
def service(tmp_path, environment):
    """`service(warm_up_s=0, **changes)`: the control of a service that is stopped."""
    program, state = tmp_path / "service.py", tmp_path / "state"
    program.write_text(SERVICE)
    state.write_text("")

    def argv(*words: str) -> list[str]:
        return [sys.executable, str(program), str(state), *words]

    def make(warm_up_s: float = 0, *, run=run, **changes) -> ServiceControl:
        values = {"start": argv("start", str(warm_up_s)), "stop": argv("stop"), "status": argv("status")}
        for name, value in changes.items():
            values[name] = argv(value) if isinstance(value, str) else value
        ServiceControlCommands.objects.create(environment=environment, **values)
        control = control_for(environment, run=run)
        assert control is not None
        return control

    return make


def test_nobody_has_said_how(environment):
    assert control_for(environment) is None


def test_start_status_stop(service):
    control = service()
    assert control.status() == ServiceStatus(running=False, ready=False, message="inactive (dead)")
    control.start()
    control.start()
    assert control.status() == ServiceStatus(running=True, ready=True, message="active (running)")
    control.stop()
    control.stop()
    assert control.status().running is False


def test_waiting_until_ready(service):
    control = service(warm_up_s=1.0)
    control.start()
    status = control.status()
    assert (status.running, status.ready) == (None, None)
    assert "code 1" in status.message and "still warming up" in status.message
    started = time.monotonic()
    assert control.wait_ready(20).ready
    assert 0.3 < time.monotonic() - started < 10


def test_waiting_ends(service):
    control = service(warm_up_s=60, ready_timeout_s=1)
    control.start()
    started = time.monotonic()
    with pytest.raises(CatalogError) as caught:
        control.wait_ready()
    assert time.monotonic() - started < 5
    assert "within 1 s" in caught.value.message
    assert "still warming up" in caught.value.message


def test_a_stopped_service_is_not_waited_for_as_ready(service):
    control = service()
    with pytest.raises(CatalogError, match="inactive"):
        control.wait_ready(0.3)


@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_command_that_fails_says_why(service, action):
    control = service(**{action: "fail"})
    with pytest.raises(CatalogError) as caught:
        getattr(control, action)()
    assert f"The {action} command ended with code 7: out of memory." in caught.value.message


def test_a_command_that_hangs_is_ended(service):
    control = service(start="hang", status="hang", timeout_s=1)
    started = time.monotonic()
    with pytest.raises(CatalogError, match="did not end within 1 s"):
        control.start()
    assert control.status() == ServiceStatus(None, None, "The status command did not answer within 1 s.")
    assert time.monotonic() - started < 10


def test_a_program_that_does_not_exist(service):
    control = service(start=["/does/not/exist"], status=["/does/not/exist"])
    with pytest.raises(CatalogError, match="/does/not/exist was not found"):
        control.start()
    status = control.status()
    assert status.running is None and "/does/not/exist" in status.message


def test_no_shell_reads_the_arguments(service, tmp_path):
    trap = tmp_path / "trap"
    control = service(start=["echo", f"$(touch {trap})", f"; touch {trap}", f"`touch {trap}`", f"> {trap}"])
    control.start()
    assert not trap.exists()


def test_no_secret_of_the_portal_reaches_a_command(service, tmp_path, monkeypatch):
    monkeypatch.setenv("OPS_SECRET_X", "s3cret-value")
    out = tmp_path / "env"
    script = f"import os; open({str(out)!r}, 'w').write(repr(dict(os.environ)))"
    service(start=[sys.executable, "-c", script]).start()
    assert "s3cret-value" not in out.read_text()
    assert "DATABASE_URL" in os.environ and "DATABASE_URL" not in out.read_text()


def test_the_caller_sees_every_command(service):
    """An operation passes a `run` that records, and that raises unless the command exits 0."""
    seen = []

    def recording(command: Command) -> Result:
        seen.append(command.shown())
        return run_checked(command)

    control = service(run=recording)
    assert control.status().running is False
    control.start()
    assert control.wait_ready(5).ready
    assert [line.split()[3] for line in seen] == ["status", "start", "status"]


def test_a_stopped_operation_stops_waiting(service):
    control = service(run=lambda command: run(command, should_stop=lambda: "cancelled by Eve"), status="hang")
    started = time.monotonic()
    with pytest.raises(CatalogError, match="cancelled by Eve"):
        control.wait_ready(60)
    assert time.monotonic() - started < 10


def test_a_dry_run_runs_nothing(service):
    def forbidden(command: Command) -> Result:
        raise AssertionError("a dry run ran something")

    commands = service(run=forbidden, timeout_s=9).commands()
    assert list(commands) == ["start", "stop", "status"]
    assert commands["stop"].argv[-1] == "stop"
    assert all(command.timeout_s == 9 for command in commands.values())
    assert commands["start"].shown().startswith(sys.executable)


class Driver(ServiceControl):
    """What a deployment driver would register."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def status(self) -> ServiceStatus:
        return ServiceStatus(True, True, "driver")


def test_another_room_may_control_what_it_knows(service, environment):
    control = service()
    service_control.register("driver", lambda env, run: Driver() if env == environment else None)
    try:
        assert isinstance(control_for(environment), Driver)
        assert dict(Driver().commands()) == {}
        service_control.register("driver", lambda env, run: None)
        assert type(control_for(environment)) is type(control)
    finally:
        service_control.unregister("driver")
