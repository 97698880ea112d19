"""`python run_migration.py RELEASE --password-file FILE`: what a release changes in its database, before it starts.

ERP_DATABASE says how the database is reached. A release without a migration is no error.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path

import psycopg


def main() -> int:
    options = argparse.ArgumentParser(description="Change the schema for a release.")
    options.add_argument("release", type=Path)
    options.add_argument("--password-file", type=Path, required=True)
    given = options.parse_args()
    script = given.release / "erp_app" / "migrate.py"
    if not script.exists():
        print(f"{given.release.name} changes no schema.")
        return 0
    migrate = runpy.run_path(str(script))["migrate"]
    password = given.password_file.read_text().strip()
    try:
        with psycopg.connect(
            os.environ["ERP_DATABASE"], password=password, application_name="erp migration"
        ) as session:
            said = migrate(session)
    except psycopg.Error as error:
        print(f"The migration of {given.release.name} failed: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
