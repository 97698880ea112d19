"""`with-database -- COMMAND`: the portal's own database server around one command, with the portal stopped.

This is how a portal comes back from nothing: `pg_restore` fills the new, empty database before the first start.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from opsportal.stack.environment import Wishes
from opsportal.stack.folders import DataLock, Folders, make_data_dir, write_private
from opsportal.stack.identity import Account
from opsportal.stack.postgres import USER
from opsportal.stack.programs import postgres_bin
from opsportal.stack.servers import DATABASE, Servers
from opsportal.stack.services import run_beside
from opsportal.stack.supervisor import Stopped, Supervisor

_LIMIT_S = 60


def run_with_database(command: Sequence[str], say: Callable[[str], None]) -> int:
    """Run a command with PGHOST, PGUSER, PGPASSFILE and PGDATABASE of the portal's database; its exit code.

    The lock of DATA_DIR is held meanwhile, so a running portal is refused.
    """
    wishes = Wishes.read(os.environ)
    account = Account.current()
    make_data_dir(wishes.data, account)
    lock = DataLock(wishes.data, "with-database")
    password_file = wishes.data / "secrets" / "pgpass"
    try:
        folders = Folders.prepare(wishes.data, account)
        servers = Servers.describe(folders, portal=True, demo=False, redis=False)
        assert servers.portal
        with Supervisor(logs=folders.logs, register=folders.register, say=say) as supervisor:
            servers.create()
            supervisor.start(*servers.services())
            supervisor.wait_ready(servers.services(), limit_s=_LIMIT_S)
            write_private(password_file, f"*:*:*:*:{servers.portal.password}\n")
            env = {
                **os.environ,
                "PATH": os.pathsep.join([str(postgres_bin(account)), os.environ.get("PATH", os.defpath)]),
                "PGHOST": str(servers.portal.sockets),
                "PGUSER": USER,
                "PGDATABASE": DATABASE,
                "PGPASSFILE": str(password_file),
            }
            return run_beside(command, env, supervisor)
    except Stopped:
        return 130
    finally:
        Path(password_file).unlink(missing_ok=True)
        lock.release()
