"""Databases the portal backs up and restores. How to connect is in `catalog.targets`."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Lower

from catalog import querysets, validators
from catalog.constraints import not_empty
from catalog.models.hosts import Host
from catalog.models.inventory import Component
from catalog.secrets import validate_secret_reference
from core.environments import EnvironmentBand
from core.links import detail_url


class DatabaseTarget(models.Model):
    """A database the portal backs up and restores, and how to reach it.

    `system_identifier` is pinned at first contact: from then on a server that reports another one is another server,
    whatever its address says, and nothing is written to it.
    """

    class Engine(models.TextChoices):
        POSTGRESQL = "postgresql", "PostgreSQL"
        SQLITE = "sqlite", "SQLite"

    class SslMode(models.TextChoices):
        DISABLE = "disable", "disable: never encrypted"
        ALLOW = "allow", "allow: encrypted if the server insists"
        PREFER = "prefer", "prefer: encrypted if the server can"
        REQUIRE = "require", "require: always encrypted, server not checked"
        VERIFY_CA = "verify-ca", "verify-ca: encrypted, certificate checked"
        VERIFY_FULL = "verify-full", "verify-full: encrypted, certificate and name checked"

    component = models.ForeignKey(Component, on_delete=models.PROTECT, related_name="databases")
    name = models.CharField(max_length=80, validators=[validators.validate_printable])
    engine = models.CharField(max_length=16, choices=Engine, default=Engine.POSTGRESQL)
    via = models.ForeignKey(
        Host,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="databases",
        help_text="The host, container or pod from which the server is reached. Empty: directly.",
    )
    host = models.CharField(
        max_length=253,
        validators=[validators.validate_database_host],
        help_text="Host name, IP address or absolute socket directory, as seen from there. SQLite: the absolute folder "
        "of the file.",
    )
    port = models.PositiveIntegerField(default=5432, validators=[MinValueValidator(1), MaxValueValidator(65535)])
    database = models.CharField(
        max_length=63, validators=[validators.validate_database_name], help_text="SQLite: the name of the file."
    )
    user = models.CharField(
        max_length=63,
        blank=True,
        validators=[validators.validate_role_name],
        help_text="The account at the server. SQLite has none.",
    )
    password_ref = models.CharField(
        "password reference",
        max_length=500,
        blank=True,
        validators=[validate_secret_reference],
        help_text="Where the password is: env:OPS_SECRET_NAME or file:/run/secrets/name. Empty: no password is needed.",
    )
    sslmode = models.CharField("SSL mode", max_length=16, choices=SslMode, default=SslMode.PREFER)
    maintenance_database = models.CharField(
        max_length=63,
        default="postgres",
        validators=[validators.validate_database_name],
        help_text="Another database on the same server, from which this one is renamed during a restore.",
    )
    system_identifier = models.CharField(
        max_length=20,
        blank=True,
        validators=[validators.validate_system_identifier],
        help_text="Pinned at first contact. Empty it only after the server was replaced on purpose.",
    )
    server_version = models.CharField(max_length=120, blank=True, editable=False)
    smoke_test = models.TextField(
        blank=True,
        validators=[validators.validate_smoke_test],
        help_text="One reading query that returns true when the restored database is usable.",
    )

    objects = querysets.DatabaseTargetQuerySet.as_manager()

    class Meta:
        ordering = ("component__environment__service__name", "component__environment__name", "name")
        verbose_name = "database"
        permissions = [("check_databasetarget", "Can check the connection to a database")]
        constraints = [
            models.UniqueConstraint(
                fields=["component", "name"],
                name="databasetarget_name_unique",
                violation_error_message="This component has a database with this name already. Choose another.",
            ),
            # Host names do not differ by case; two rows for one database would get round its lock.
            models.UniqueConstraint(
                Coalesce("via", 0),
                Lower("host"),
                "port",
                "database",
                name="databasetarget_place_unique",
                violation_error_message="The catalog has this database on this host and port already. Use that entry.",
            ),
            models.CheckConstraint(
                condition=Q(engine__in=["postgresql", "sqlite"]), name="databasetarget_engine_known"
            ),
            models.CheckConstraint(
                condition=~Q(user="") | Q(engine="sqlite"),
                name="databasetarget_user_not_empty",
                violation_error_message="The user must not be empty.",
            ),
            models.CheckConstraint(
                condition=~Q(engine="sqlite")
                | (Q(host__startswith="/", user="", password_ref="") & Q(database__regex=r"^[^/]+$")),
                name="databasetarget_sqlite_is_file",
                violation_error_message=(
                    "A SQLite database has the absolute folder of its file as host, the file's name as database, and "
                    "neither user nor password."
                ),
            ),
            models.CheckConstraint(
                condition=Q(port__gte=1, port__lte=65535),
                name="databasetarget_port_range",
                violation_error_message="A port is a number from 1 to 65535.",
            ),
            models.CheckConstraint(
                condition=Q(host__regex=r"^[^-[:space:][:cntrl:]=,][^[:space:][:cntrl:]=,]*$"),
                name="databasetarget_host_plain",
                violation_error_message="The host must not contain spaces, commas or “=”, nor begin with “-”.",
            ),
            models.CheckConstraint(
                condition=Q(sslmode__in=["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
                name="databasetarget_sslmode_known",
            ),
            models.CheckConstraint(
                condition=~Q(maintenance_database=F("database")),
                name="databasetarget_maintenance_other",
                violation_error_message=(
                    "The maintenance database must be another one: a database cannot be renamed from inside."
                ),
            ),
            models.CheckConstraint(
                condition=Q(system_identifier__regex=r"^[0-9]*$"), name="databasetarget_system_identifier_number"
            ),
            not_empty("databasetarget", "name"),
            not_empty("databasetarget", "database"),
            not_empty("databasetarget", "maintenance_database"),
        ]

    def __str__(self) -> str:
        return f"{self.component.environment} · {self.name}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    def clean(self) -> None:
        if self.engine == self.Engine.POSTGRESQL and not self.user:
            raise ValidationError({"user": "Write the account that connects to the server."})
        if self.engine == self.Engine.SQLITE:
            wrong = {
                "host": "" if self.host.startswith("/") else "Write the absolute folder of the file, such as /srv/app.",
                "database": "Write the name of the file alone, without “/”." if "/" in self.database else "",
                "user": "A SQLite file has no user. Empty the field." if self.user else "",
                "password_ref": "A SQLite file has no password. Empty the field." if self.password_ref else "",
            }
            if errors := {field: sentence for field, sentence in wrong.items() if sentence}:
                raise ValidationError(errors)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this database says."""
        return self.component.environment.environment_band

    @property
    def address(self) -> str:
        """Where the database is, for a person: host, port and name, or the path of its file."""
        if self.engine == self.Engine.SQLITE:
            return f"{self.host.rstrip('/')}/{self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        via = f" via {self.via}" if self.via else ""
        return f"{host}:{self.port}/{self.database}{via}"
