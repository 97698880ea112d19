"""The way back from nothing, as it lies beside the backups and inside each of them."""

NAME = "RECOVERY.md"

# Written for `sh`. The suite runs these commands as they stand here, with other paths.
EMBEDDED = """\
age --decrypt --identity /safe/portal-backup-key.txt --output portal.tar /second/place/portal-DATE.tar.age
mkdir -m 711 var && tar --extract --file portal.tar --directory var --no-same-owner
make with-database RUN='pg_restore --no-owner --exit-on-error --dbname=opsportal var/portal.dump \
&& psql -qf survival/after_recovery.sql opsportal'
rm portal.tar var/portal.dump
DEMO=false make run
"""

PRODUCTION = """\
age --decrypt --identity /safe/portal-backup-key.txt --output portal.tar /second/place/portal-DATE.tar.age
mkdir -m 700 /tmp/portal && tar --extract --file portal.tar --directory /tmp/portal --no-same-owner
createdb --template=template0 --encoding=UTF8 opsportal
pg_restore --no-owner --exit-on-error --dbname=opsportal /tmp/portal/portal.dump \
&& psql -qf survival/after_recovery.sql opsportal
.venv/bin/python manage.py migrate --noinput
"""

WITHOUT_AGE = """\
.venv/bin/python -c 'import sys, pyrage; key = [l for l in open(sys.argv[1]) if l.startswith("AGE-")][0].strip(); \
pyrage.decrypt_file(sys.argv[2], sys.argv[3], [pyrage.x25519.Identity.from_str(key)])' \
/safe/portal-backup-key.txt /second/place/portal-DATE.tar.age portal.tar
"""


def text() -> str:
    """RECOVERY.md."""
    return f"""\
# The portal, back from nothing

You need a checkout of the portal, the newest `portal-….tar.age` of this folder, and the key, which is kept elsewhere.
Everything is made new; never restore into the database of a portal that runs.

## The portal with its own servers (`make run`)

In the folder of the checkout, which has no `var` yet:

```sh
{EMBEDDED}```

## The portal with your own PostgreSQL

After these, put `/tmp/portal/secrets/django-secret-key` where `SECRET_KEY_FILE` points to and
`/tmp/portal/target-secrets` into the new `DATA_DIR`, start web and workers, remove `portal.tar` and `/tmp/portal`:

```sh
{PRODUCTION}```

## Where `age` is not installed

Instead of the first command, once `make run` or `pip install pyrage` has made `.venv`:

```sh
{WITHOUT_AGE}```

## What is inside

`portal.dump` (pg_dump's custom format, without sessions), `secrets/` and `target-secrets/` (as in `DATA_DIR`),
`manifest.json` (versions, every file with its SHA-256, what was left out and why). Variables that you set yourself in
the environment of the portal are not in it.

Backups of your databases are not inside either. They lie where their storages are, and describe themselves.
"""
