"""`with-services -- COMMAND`: throwaway servers around one command, for tests and measurements."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from opsportal.stack import StackError
from opsportal.stack.folders import Folders
from opsportal.stack.identity import Account
from opsportal.stack.postgres import USER
from opsportal.stack.process import die_with_parent
from opsportal.stack.programs import postgres_bin
from opsportal.stack.redis import ADMIN
from opsportal.stack.servers import DATABASE, Servers
from opsportal.stack.supervisor import Stopped, Supervisor

_PATIENCE_S = 15  # for the command to end by itself after Ctrl-C or SIGTERM


def run_with_services(command: Sequence[str], say: Callable[[str], None]) -> int:
    """Run a command with DATABASE_URL, REDIS_URL and TARGET_* of fresh servers; its exit code.

    The servers lose their data at the end, and would in a power cut: fsync is off.
    """
    account = Account.current()
    data = _scratch_folder(account)
    try:
        folders = Folders.prepare(data, account)
        servers = Servers.describe(folders, portal=True, demo=True, redis=True, throwaway=True)
        # Not the register of `run`, which the command may start on the same DATA_DIR.
        register = data / "services.json"
        with Supervisor(logs=folders.logs, register=register, say=say) as supervisor:
            servers.create()
            services = servers.services()
            supervisor.start(*services)
            supervisor.wait_ready(services, limit_s=60)
            return run_beside(command, _environment(folders, servers), supervisor)
    except Stopped:
        return 130
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _environment(folders: Folders, servers: Servers) -> dict[str, str]:
    assert servers.portal and servers.demo and servers.redis
    given = {
        "DATABASE_URL": servers.portal.url(DATABASE),
        "REDIS_URL": servers.redis.url(),
        "REDIS_ADMIN_URL": servers.redis.url(ADMIN),
        "PG_BIN": str(postgres_bin(folders.account)),
        "SECRET_KEY": secrets.token_hex(32),
        "HTTPS": "false",
        "DATA_DIR": str(folders.data),
        "TARGET_SOCKET": str(servers.demo.sockets),
        "TARGET_USER": USER,
        "TARGET_PASSWORD": servers.demo.password,
        "SERVICE_PROCESSES": str(folders.data / "services.json"),  # name -> pid, for tests that kill a server
    }
    outer = {key: value for key, value in os.environ.items() if key.removesuffix("_FILE") not in given}
    # The command may be a bare name of a tool in our virtual environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**outer, **given, "PATH": path}


def run_beside(command: Sequence[str], env: Mapping[str, str], supervisor: Supervisor) -> int:
    """Run it in the foreground, so that the terminal's Ctrl-C reaches it, while looking after the servers."""
    try:
        child = subprocess.Popen(list(command), env=env, preexec_fn=die_with_parent(signal.SIGTERM))
    except OSError as error:
        raise StackError(f"{command[0]} cannot be started: {error}.") from error
    answered, asked_at = 0, 0.0
    while (code := child.poll()) is None:
        supervisor.tend()
        supervisor.sleep(0.5)
        if supervisor.stops_asked > answered:
            answered = supervisor.stops_asked
            asked_at = asked_at or time.monotonic()
            if supervisor.last_signal != signal.SIGINT:  # the terminal sent Ctrl-C to the command as well
                child.send_signal(signal.SIGTERM)
        if asked_at and time.monotonic() - asked_at > _PATIENCE_S:
            child.kill()
    return code if code >= 0 else 128 - code


def _scratch_folder(account: Account) -> Path:
    """A folder for throwaway data that the servers' account can reach."""
    for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):  # noqa: S108 - mkdtemp
        if Path(parent).is_dir() and account.can_enter(Path(parent)):
            folder = Path(tempfile.mkdtemp(prefix="opsportal-", dir=parent))
            folder.chmod(0o711 if account.dropped else 0o700)
            return folder
    raise StackError("Neither /tmp nor /var/tmp can be used for throwaway data; set TMPDIR to a folder open to all.")
