"""The backup of the portal itself.

It lives on the highest floor below the roof: it needs the engine of `operations` and PostgreSQL's programs as `backups`
drives them, and nothing below may depend on it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from backups.engines.base import Connection
from backups.engines.postgresql.connect import Clients, conninfo
from core.models import User
from core.version import version
from operations.commands import Command
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import PlannedStep, Procedure, Step, register
from survival import actions, contents, keys, recovery
from survival.exceptions import CopyDamaged, SurvivalError
from survival.models import PortalBackup, SecondPlace
from survival.place import Place, write_whole

# Rows without which a portal comes back: sessions end, and whoever was signed in signs in again.
WITHOUT_DATA = ("django_session",)
A_TABLE = "operations_operation"
READ_BYTES = 1024 * 1024


def own_connection(application_name: str) -> Connection:
    """The portal's own database as PostgreSQL's programs reach it."""
    values = settings.DATABASES["default"]
    options = values.get("OPTIONS", {})
    return Connection(
        host=str(options.get("host") or values.get("HOST") or ""),
        port=int(values.get("PORT") or options.get("port") or 5432),
        database=str(connection.settings_dict["NAME"]),
        user=str(values.get("USER") or ""),
        password=str(values.get("PASSWORD") or ""),
        sslmode=str(options.get("sslmode") or "prefer"),
        application_name=application_name,
    )


def dump_command(conn: Connection, target: Path) -> Command:
    """pg_dump in the custom format; the password travels in a memory file."""
    left_out = [f"--exclude-table-data={table}" for table in WITHOUT_DATA]
    arguments = (
        "--format=custom",
        "--no-password",
        f"--file={target}",
        *left_out,
        f"--dbname={conninfo(conn.database)}",
    )
    return Clients(settings.PG_BIN).command(conn, "pg_dump", *arguments)


def current_key() -> tuple[keys.Key, str]:
    """The key of the settings or of the second place, with the identity where it is at hand; and where its file is."""
    if settings.PORTAL_BACKUP_KEY:
        return keys.read_key(settings.PORTAL_BACKUP_KEY), ""
    place = SecondPlace.objects.filter(pk=1).first()
    if place is None or not place.recipient:
        key, path = keys.make_identity(Path(settings.PORTAL_KEY_DIR), datetime.now(UTC))
        return key, str(path)
    return with_identity(place), place.identity_path


def with_identity(place: SecondPlace) -> keys.Key:
    """The key of the second place; with the identity while its file is still where the portal wrote it."""
    try:
        found = keys.read_key(Path(place.identity_path).read_text()) if place.identity_path else None
    except (OSError, SurvivalError):
        found = None
    return found if found is not None and found.recipient == place.recipient else keys.Key(place.recipient)


def check_places() -> None:
    """Raise SurvivalError when one disaster would take the portal, its backups and their key together."""
    data, second = Path(settings.DATA_DIR).resolve(), Path(settings.PORTAL_BACKUP_DIR).resolve()
    key = Path(settings.PORTAL_KEY_DIR).resolve()
    if second.is_relative_to(data):
        raise SurvivalError(f"The second place {second} lies in DATA_DIR. Set PORTAL_BACKUP_DIR to another disk.")
    if not settings.PORTAL_BACKUP_KEY and (key.is_relative_to(second) or key.is_relative_to(data)):
        raise SurvivalError(f"The key would lie in {key}, beside what it opens. Set PORTAL_KEY_DIR to another folder.")


@register
class BackUpSelf(Procedure):
    """Dump the portal's database, seal it with the portal's secrets, put it into the second place, read it back."""

    name = actions.BACKUP
    title = "Backup of the portal"
    permission = "survival.back_up_portal"
    steps = (
        Step("check", "Second place, key and space"),
        Step("dump", "Dump the portal's own database", undo="remove_work"),
        Step("seal", "Seal it with the secrets and put it into the second place", undo="discard", by_hand=False),
        Step("verify", "Read the backup back", by_hand=False),
        Step("prune", "Let old backups of the portal go", by_hand=False),
    )

    @property
    def place(self) -> Place:
        return Place(Path(settings.PORTAL_BACKUP_DIR))

    @property
    def subject(self) -> PortalBackup | None:
        return PortalBackup.objects.filter(operation=self.operation).first()

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        shown = dump_command(own_connection("opsportal"), Path(settings.DATA_DIR) / "work" / contents.DUMP).shown()
        return {"dump": [shown], "seal": [f"write {settings.PORTAL_BACKUP_DIR}/portal-….tar.age"]}

    # -- steps ----------------------------------------------------------------------------------------------------

    def check(self, ctx: StepContext) -> None:
        check_places()
        default = Path(settings.DATA_DIR).parent / f"{Path(settings.DATA_DIR).name}-portal-backup"
        self.place.prepare(make=self.place.folder == default)
        key, path = current_key()
        place = actions.use_key(key, path)
        ctx.log(f"Backups are sealed to {place.recipient}.")
        if place.identity_path and Path(place.identity_path).exists():
            ctx.log(f"The key that opens them lies in {place.identity_path}. Move it to a place of its own.")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            (size,) = cursor.fetchone()
        if (free := self.place.free_bytes()) < size:
            raise SurvivalError(
                f"The second place has {free:,} bytes free, up to {size:,} are needed. Free some there."
            )
        ctx.remember(database_bytes=size)
        self._adopt_strangers(ctx, place.recipient)

    def _adopt_strangers(self, ctx: StepContext, recipient: str) -> None:
        """Backups of an earlier life of this portal, sealed to the same key, are listed and kept like its own."""
        known = set(PortalBackup.objects.filter(folder=str(self.place.folder)).values_list("name", flat=True))
        for label in self.place.labels():
            if label.name in known or label.recipient != recipient:
                continue
            with ctx.fenced():
                PortalBackup.objects.create(
                    folder=str(self.place.folder),
                    name=label.name,
                    made_at=label.moment,
                    size_bytes=label.size_bytes,
                    sha256=label.sha256,
                    recipient=label.recipient,
                    portal_version=label.portal_version,
                )
            ctx.log(f"Found {label.name}, made in an earlier life of this portal.")

    def dump(self, ctx: StepContext) -> None:
        target = ctx.work_dir() / contents.DUMP
        target.unlink(missing_ok=True)
        ctx.remember(made_at=timezone.now().isoformat(timespec="seconds"))
        conn = own_connection(f"opsportal/self/op{self.operation.pk}/a{ctx.attempt}")
        ctx.run(dump_command(conn, target))
        ctx.log(f"The dump has {target.stat().st_size:,} bytes.")

    def seal(self, ctx: StepContext) -> None:
        if PortalBackup.objects.filter(operation=self.operation).exists():
            return
        work = ctx.work_dir()
        if not (work / contents.DUMP).exists():
            self.dump(ctx)  # another attempt made it, and its folder is gone
        made_at = datetime.fromisoformat(ctx.data["made_at"])
        found = contents.gather()
        for line in found.left_out:
            ctx.log(f"Left out: {line}")
        recipient = SecondPlace.objects.get(pk=1).recipient
        partial = self.place.partial(self.operation.pk, ctx.attempt)
        with (work / "portal.tar").open("w+b") as tar:
            contents.write(tar, work / contents.DUMP, found, self._facts(), made_at)
            tar.seek(0)
            ctx.check()
            with partial.open("xb") as sealed:
                keys.seal(tar, sealed, recipient)
                sealed.flush()
        self._publish(ctx, partial, made_at, recipient)
        write_whole(self.place.folder / recovery.NAME, recovery.text().encode(), mode=0o644)

    def _publish(self, ctx: StepContext, partial: Path, made_at: datetime, recipient: str) -> None:
        with ctx.fenced():
            label = self.place.publish(partial, made_at, recipient, version())
            PortalBackup.objects.create(
                operation=self.operation,
                folder=str(self.place.folder),
                name=label.name,
                made_at=made_at,
                size_bytes=label.size_bytes,
                sha256=label.sha256,
                recipient=recipient,
                portal_version=label.portal_version,
            )
        ctx.log(f"{label.name} has {label.size_bytes:,} bytes, SHA-256 {label.sha256}.")

    def _facts(self) -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            (server,) = cursor.fetchone()
        client = Clients(settings.PG_BIN).version("pg_dump")[1]
        return {"portal_version": version(), "server_version": server, "client_version": client}

    def verify(self, ctx: StepContext) -> None:
        backup = PortalBackup.objects.get(operation=self.operation)
        try:
            verdict, message = self._read_back(ctx, backup)
        except CopyDamaged as error:
            self._record(ctx, backup, PortalBackup.Verification.DAMAGED, error.message)
            raise
        finally:
            ctx.remove_work_dirs()
        self._record(ctx, backup, verdict, message)
        ctx.conclude(f"{backup.name} is in {backup.folder}. {message}", bytes=backup.size_bytes)

    def _read_back(self, ctx: StepContext, backup: PortalBackup) -> tuple[PortalBackup.Verification, str]:
        path = self.place.check(backup.name, backup.size_bytes, backup.sha256)
        key = current_key()[0]
        if key.identity is None or key.recipient != backup.recipient:
            with path.open("rb") as file:
                if not keys.looks_sealed(file.read(len(keys.HEADER))):
                    raise CopyDamaged(f"{path} does not begin like an age file. Back up the portal again.")
            return PortalBackup.Verification.CHECKED, "Its checksum is right; the key that opens it is kept apart."
        work = ctx.work_dir()
        with path.open("rb") as sealed, (work / "opened.tar").open("w+b") as tar:
            keys.open_sealed(sealed, tar, key.identity)
            tar.seek(0)
            manifest = contents.read_through(tar, work / contents.DUMP, ctx.check)
        return PortalBackup.Verification.READ, self._read_dump(ctx, work / contents.DUMP, len(manifest["files"]))

    def _read_dump(self, ctx: StepContext, dump: Path, files: int) -> str:
        """Decode the whole dump, and count the rows of one table on the way."""
        counted = _RowCounter(A_TABLE)
        program = Clients(settings.PG_BIN).path("pg_restore")
        ctx.run(Command((program, "--file=-", str(dump)), timeout_s=3600), on_stdout=counted.take)
        if counted.rows < 1:
            raise CopyDamaged("The dump holds no operation, not even this backup. Look at the database, back up again.")
        return f"It was opened with the key, {files} files and every byte of the dump were read."

    def _record(self, ctx: StepContext, backup: PortalBackup, verdict: PortalBackup.Verification, message: str) -> None:
        with ctx.fenced():
            backup.verification, backup.verified_at, backup.message = verdict, timezone.now(), message
            backup.save(update_fields=["verification", "verified_at", "message"])

    def prune(self, ctx: StepContext) -> None:
        self._notice_missing(ctx)
        self._check_one_again(ctx)
        for backup in going():
            with ctx.fenced():
                backup.state, backup.removed_at = PortalBackup.State.PRUNED, timezone.now()
                backup.save(update_fields=["state", "removed_at"])
            Place(Path(backup.folder)).remove(backup.name)
            ctx.log(f"Let {backup.name} go.")

    def _notice_missing(self, ctx: StepContext) -> None:
        """A backup that is not where it should be keeps no other from staying."""
        for backup in PortalBackup.objects.there():
            if not Path(backup.path).is_file():
                with ctx.fenced():
                    backup.state = PortalBackup.State.MISSING
                    backup.save(update_fields=["state"])
                ctx.log(f"{backup.path} is gone.")

    def _check_one_again(self, ctx: StepContext) -> None:
        """Disks rot: each run compares one earlier backup with its checksum, the one that was not looked at longest."""
        earlier = PortalBackup.objects.there().exclude(operation=self.operation)
        backup = earlier.exclude(verification=PortalBackup.Verification.DAMAGED).order_by("verified_at", "pk").first()
        if backup is None:
            return
        try:
            Place(Path(backup.folder)).check(backup.name, backup.size_bytes, backup.sha256)
        except CopyDamaged as error:
            self._record(ctx, backup, PortalBackup.Verification.DAMAGED, error.message)
            ctx.log(error.message)
            return
        found = PortalBackup.Verification(backup.verification)
        if found == PortalBackup.Verification.UNVERIFIED:
            found = PortalBackup.Verification.CHECKED
        self._record(ctx, backup, found, backup.message or "Its checksum is right.")

    # -- undo -----------------------------------------------------------------------------------------------------

    def remove_work(self, ctx: StepContext) -> None:
        ctx.remove_work_dirs()

    def discard(self, ctx: StepContext) -> None:
        """What is whole stays: a backup that could not be read back says so on its page."""
        self.place.discard(self.operation.pk)

    def abandon(self, ctx: StepContext) -> None:
        (self.place.folder / f".partial-op{self.operation.pk}-a{ctx.attempt}").unlink(missing_ok=True)

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_backup(by=by, reason=reason, key=key or None, retry_of=self.operation)


def going() -> list[PortalBackup]:
    """What retention lets go: neither young nor among the last ones, and never the newest good one."""
    there = list(PortalBackup.objects.there().newest_first())
    newest_good = next((backup for backup in there if backup.verification in PortalBackup.GOOD), None)
    if newest_good is None:
        return []
    since = timezone.now() - timedelta(days=settings.PORTAL_BACKUP_KEEP_DAYS)
    good = [backup for backup in there if backup.verification in PortalBackup.GOOD]
    kept = {backup.pk for backup in good[: max(1, settings.PORTAL_BACKUP_KEEP_LAST)]}
    return [
        backup
        for backup in there
        if backup.pk not in kept and backup.made_at < since and backup.made_at < newest_good.made_at
    ]


class _RowCounter:
    """Counts the rows that pg_restore prints for one table, from pieces of any size."""

    def __init__(self, table: str) -> None:
        self.rows = 0
        self._begin = f"COPY public.{table} ".encode()
        self._inside = False
        self._rest = b""

    def take(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if self._inside and line == b"\\.":
                self._inside = False
            elif self._inside:
                self.rows += 1
            elif line.startswith(self._begin):
                self._inside = True
