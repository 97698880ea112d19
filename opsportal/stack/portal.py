"""`run`: the whole portal, in order, until told to stop. `status`: what of it runs."""

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from opsportal.stack import StackError
from opsportal.stack.environment import Wishes, portal_environment
from opsportal.stack.erp import Erp
from opsportal.stack.folders import CHECKOUT, DataLock, Folders, is_held, make_data_dir, read_lock
from opsportal.stack.identity import Account
from opsportal.stack.process import Process, Service, describe_exit, recorded
from opsportal.stack.servers import Servers
from opsportal.stack.supervisor import Stopped, Supervisor

Say = Callable[[str], None]
SERVERS_LIMIT_S = 60
READY_LIMIT_S = 60
_DEMO_COMMAND = CHECKOUT / "opsportal" / "management" / "commands" / "demo.py"


def run(say: Say) -> int:
    """Start everything, print the address, keep it running. Exit code 0 after Ctrl-C or SIGTERM."""
    begun = time.monotonic()
    wishes = Wishes.read(os.environ)
    account = Account.current()
    try:
        make_data_dir(wishes.data, account)
        lock = DataLock(wishes.data, wishes.address)
    except OSError as error:
        raise StackError(
            f"{wishes.data} cannot be used for the portal's data ({error.strerror}); "
            "choose another with DATA_DIR=... make run."
        ) from error
    try:
        folders = Folders.prepare(wishes.data, account)
        with Supervisor(logs=folders.logs, register=folders.register, say=say) as supervisor:
            _check_port(supervisor, wishes)
            erp = Erp.prepare(folders, wishes.port) if wishes.demo else None
            _bring_up(supervisor, wishes, folders, erp, say)
            say(welcome(wishes, folders, time.monotonic() - begun, erp))
            while True:
                supervisor.check_stop()
                supervisor.tend()
                supervisor.sleep(1)
    except Stopped:
        say("Stopped.")
        return 0
    finally:
        lock.release()


def _check_port(supervisor: Supervisor, wishes: Wishes) -> None:
    """Raise StackError while somebody else has the port; what a crash left behind may have it a moment longer."""
    deadline = time.monotonic() + (5 if supervisor.found_leftovers else 0)
    while True:
        try:
            return wishes.check_port()
        except StackError:
            if time.monotonic() > deadline:
                raise
        supervisor.check_stop()
        supervisor.sleep(0.2)


def status(say: Say) -> int:
    """Print what runs on DATA_DIR; exit code 0 when a portal does, else 3."""
    data = Wishes.read(os.environ).data
    if not is_held(data):
        say(f"No portal runs on {data}.")
        return 3
    holder = read_lock(data)
    say(f"The portal on {data}: {holder.get('address')} (process {holder.get('pid')})")
    for name, pid in recorded(data / "processes.json").items():
        say(f"  {name:<18} process {pid}, log {data / 'logs' / f'{name}.log'}")
    return 0


def _bring_up(supervisor: Supervisor, wishes: Wishes, folders: Folders, erp: Erp | None, say: Say) -> None:
    """Servers, schema, web and workers side by side, demo; returns when the portal is ready."""
    servers = Servers.describe(folders, portal=wishes.own_database, demo=wishes.demo, redis=wishes.own_redis)
    env = portal_environment(wishes, folders, servers, os.environ)
    if folders.servers.parent != folders.data:
        say(f"The databases live in {folders.servers}: the account that runs them cannot reach {folders.data}.")
    say("Starting the databases ...")
    servers.create()
    supervisor.start(*servers.services())
    supervisor.wait_ready(servers.services(), limit_s=SERVERS_LIMIT_S)

    say("Preparing the schema and the static files ...")
    migrate = _manage(supervisor, env, "migrate", "--noinput")
    static = _manage(supervisor, env, "collectstatic", "--noinput", "--clear") if _static_is_old(env) else None
    _must_succeed(supervisor, migrate, "The schema could not be brought up to date")

    if static:
        _must_succeed(supervisor, static, "The static files could not be collected")
    say("Starting web and workers ...")
    web, *others = _portal_services(wishes, env)
    supervisor.start(web, *others)
    demo = _manage(supervisor, env, "demo") if wishes.demo and _DEMO_COMMAND.exists() else None
    _wait_healthy(supervisor, wishes, web, say)
    if demo and demo.poll() is None:
        say(f"{wishes.address} answers; the demo is still being loaded ...")
    if demo and (code := supervisor.end_task(demo)) != 0:
        lines = "".join(f"\n    {line}" for line in demo.last_lines())
        say(
            f"The demo could not be loaded ({describe_exit(code)}); the portal runs without. The next start retries."
            f"{lines}\n  Log: {demo.log}"
        )
    if erp is not None:
        supervisor.start(*erp.services())


def _portal_services(wishes: Wishes, env: Mapping[str, str]) -> list[Service]:
    """Web, workers and beat. The higher the stage, the earlier it is stopped."""
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "opsportal"]
    quiet = ["--without-mingle", "--without-gossip", "--loglevel", "INFO"]
    web = [python, "-m", "gunicorn", "opsportal.wsgi:application", "--bind", wishes.bind, "--preload"]
    web += ["--workers", "2", "--worker-class", "gthread", "--threads", "4", "--graceful-timeout", "8"]
    web += ["--no-control-socket"]  # it would open a second door, in the home folder

    def service(name: str, title: str, argv: list[str], stage: int, limit_s: float, **more: object) -> Service:
        return Service(name, title, argv, env, cwd=CHECKOUT, stage=stage, stop_limit_s=limit_s, **more)  # type: ignore[arg-type]

    control = [*celery, "worker", "-Q", "control", "--pool", "solo", "-n", "control@%h", *quiet]
    operations = [*celery, "worker", "-Q", "operations,host-local", "--pool", "prefork", "-c", "2"]
    operations += ["-n", "operations@%h", *quiet]
    beat = [*celery, "beat", "--pidfile=", "--loglevel", "INFO"]
    return [
        service("web", "web server", web, 3, 10, orphan_signal=signal.SIGQUIT),
        service("worker-control", "control worker", control, 2, 15),
        service("worker-operations", "operations worker", operations, 2, 15),
        service("beat", "beat", beat, 4, 5),
    ]


def _manage(supervisor: Supervisor, env: Mapping[str, str], command: str, *options: str) -> Process:
    argv = [sys.executable, str(CHECKOUT / "manage.py"), command, *options]
    return supervisor.begin_task(command, argv, env=env, cwd=CHECKOUT)


def _must_succeed(supervisor: Supervisor, task: Process, what: str) -> None:
    code = supervisor.end_task(task)
    if code != 0:
        lines = "".join(f"\n    {line}" for line in task.last_lines(12))
        raise StackError(f"{what} ({describe_exit(code)}).{lines}\nLog: {task.log}")


def _static_is_old(env: Mapping[str, str]) -> bool:
    """Whether a static file, or the set of packages, is newer than what collectstatic made."""
    root = Path(env.get("STATIC_ROOT") or Path(env["DATA_DIR"]) / "static")
    try:
        made = (root / "staticfiles.json").stat().st_mtime
    except OSError:
        return True
    return any(path.stat().st_mtime > made for path in _static_sources())


def _static_sources() -> Iterable[Path]:
    yield CHECKOUT / "requirements.txt"
    yield Path(sys.prefix) / "pyvenv.cfg"
    for folder in [CHECKOUT / "static", *CHECKOUT.glob("*/static")]:
        if folder.is_dir():
            yield folder
            yield from folder.rglob("*")  # folders too: a removed file changes its folder's time


def _wait_healthy(supervisor: Supervisor, wishes: Wishes, web: Service, say: Say) -> None:
    """Wait until the portal says it is ready; when it takes long say what it waits for, and go on waiting."""
    deadline = time.monotonic() + READY_LIMIT_S
    while (reason := _why_not_ready(wishes)) is not None:
        supervisor.check_stop()
        supervisor.tend()
        supervisor.sleep(0.1)
        if time.monotonic() > deadline:
            deadline = time.monotonic() + READY_LIMIT_S
            say(f"Not ready yet: {reason} Log: {supervisor.logs / f'{web.name}.log'}")


def _why_not_ready(wishes: Wishes) -> str | None:
    """None once /health/ready answers 200, else what it says."""
    connection = http.client.HTTPConnection(wishes.here, wishes.port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read(10_000)
        if answer.status == 200:
            return None
        try:
            return str(json.loads(body)["reason"])
        except (ValueError, LookupError, TypeError):
            return f"/health/ready answers {answer.status}."
    except (OSError, http.client.HTTPException):
        return "the web server does not answer."
    finally:
        connection.close()


def welcome(wishes: Wishes, folders: Folders, seconds: float, erp: Erp | None = None) -> str:
    """What a person needs once the portal is up: where it is, and as whom to sign in."""
    lines = ["", f"The ops portal is ready after {seconds:.0f} s: {wishes.address}", ""]
    sign_ins = folders.data / "demo-sign-ins.txt"
    if wishes.demo and sign_ins.exists():
        rows = [line.split("\t") for line in sign_ins.read_text().splitlines() if line.count("\t") == 2]
        lines += [
            f"  {role:<15} {user:<15} {password}" for role, user, password in [("Role", "User", "Password"), *rows]
        ]
        lines.append("")
    if erp is not None:
        lines.append(f"The demo's ERP: {erp.address} (staging: {erp.staging_address})")
    if not wishes.is_local:
        lines.append(f"It speaks plain HTTP on {wishes.bind}: put a proxy with TLS in front before others use it.")
    lines.append(f"Data: {folders.data}   Logs: {folders.logs}   Ctrl-C stops everything.")
    return "\n".join(lines)
