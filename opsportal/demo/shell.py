"""A way into the demo's databases for a person: DATA_DIR/demo/psql."""

from __future__ import annotations

import shlex
from pathlib import Path

from django.conf import settings

from opsportal.demo import catalog
from opsportal.demo.server import DATABASES, ERP, DemoServer

SCRIPT = """\
#!/bin/sh
# Opens a database of the demo as its owner: psql [DATABASE] [psql's own options]
database=${{1:-{default}}}
test $# -eq 0 || shift
case $database in
{cases}
*) echo "The demo has the databases {names}." >&2; exit 2 ;;
esac
export PGHOST={host} PGPORT={port} PGUSER PGPASSWORD
exec {psql} --dbname="$database" "$@"
"""


def write(server: DemoServer) -> Path:
    """Write the script anew; it holds no password but reads the file that does. Returns its path."""
    files = {database: shlex.quote(str(catalog.secret_path(database))) for database in DATABASES}
    cases = [f"{one.name}) PGUSER={one.owner} PGPASSWORD=$(cat {file}) ;;" for one, file in files.items()]
    text = SCRIPT.format(
        default=ERP.name,
        cases="\n".join(cases),
        names=", ".join(database.name for database in DATABASES),
        host=shlex.quote(server.host),
        port=server.port,
        psql=shlex.quote(str(Path(settings.PG_BIN, "psql")) if settings.PG_BIN else "psql"),
    )
    path = Path(settings.DATA_DIR) / "demo" / "psql"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o700)
    return path
