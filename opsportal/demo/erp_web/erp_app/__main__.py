"""`python -m erp_app --port 8001 [--ends-with FILE]`, in the folder of a release.

Environment: ERP_DATABASE (how the database is reached), ERP_DATABASE_PASSWORD, ERP_TEST_PASSWORD (of the account
“test”), ERP_COOKIE_KEY, OPS_SLOT. SIGTERM lets the requests that have begun come to their end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from pathlib import Path

from psycopg.conninfo import make_conninfo

from .pool import Pool
from .server import Application, Server
from .signing import Accounts

LOOK_S = 0.5
FINISH_S = 10.0
TEST_ACCOUNT = "test"


def main() -> None:
    options = argparse.ArgumentParser(description="The ERP's web application.")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--ends-with", type=Path, help="file that names a process (pid): we end when it has ended")
    given = options.parse_args()
    env = os.environ
    conninfo = make_conninfo(
        env["ERP_DATABASE"], password=env["ERP_DATABASE_PASSWORD"], application_name=f"erp {env.get('OPS_SLOT', '')}"
    )
    app = Application(
        version=Path("VERSION").read_text().strip(),
        slot=env.get("OPS_SLOT", ""),
        pool=Pool(conninfo),
        accounts=Accounts(TEST_ACCOUNT, env.get("ERP_TEST_PASSWORD", ""), env.get("ERP_COOKIE_KEY", "")),
    )
    server = Server(given.port, app)
    server.daemon_threads = True

    def end(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if given.ends_with is not None:
        threading.Thread(target=watch, args=(given.ends_with,), daemon=True).start()
    print(f"ERP {app.version} listens on 127.0.0.1:{given.port}", flush=True)
    server.serve_forever(0.1)
    server.socket.close()
    give_up = time.monotonic() + FINISH_S
    while server.under_way and time.monotonic() < give_up:
        time.sleep(0.02)
    app.pool.close()
    print(f"ERP {app.version} has ended", flush=True)


def watch(file: Path) -> None:
    """End this process when the one that the file names has ended. No such process: go on."""
    try:
        pid = int(json.loads(file.read_text())["pid"])
    except (OSError, ValueError, LookupError, TypeError):
        return
    begun = start_time(pid)
    while begun is not None:
        time.sleep(LOOK_S)
        if start_time(pid) != begun:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def start_time(pid: int) -> int | None:
    """When a living process began, in the kernel's ticks; None when it is gone. With the pid it names a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


if __name__ == "__main__":
    main()
