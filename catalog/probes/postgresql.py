"""A PostgreSQL server: ready, connections against a limit, replication lag."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import psycopg
from django import forms

from catalog.probes.base import Finding, PlainField, Probe, State, Surroundings, bounded
from catalog.secrets import validate_secret_reference
from catalog.validators import validate_database_host, validate_database_name, validate_role_name
from core.outbound import OutboundFailed, resolve

# Seconds that a standby is behind. Where the primary is idle, what was last replayed grows old without any lag, so the
# age counts only while something received is still to be replayed.
LAG = """
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL
                WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END::float8"""
CONNECTIONS = """
    SELECT count(*) FILTER (WHERE backend_type = 'client backend')::float8, current_setting('max_connections')::float8
    FROM pg_stat_activity"""


class PostgresqlForm(forms.Form):
    host = PlainField(max_length=253, validators=[validate_database_host])
    port = forms.IntegerField(initial=5432, min_value=1, max_value=65535)
    database = PlainField(initial="postgres", max_length=63, validators=[validate_database_name])
    user = PlainField(max_length=63, validators=[validate_role_name])
    password_ref = PlainField(
        label="Password reference", required=False, max_length=500, validators=[validate_secret_reference]
    )
    connections_percent = forms.IntegerField(
        label="Warn above (% of max_connections)", required=False, initial=80, min_value=1, max_value=100
    )
    lag_s = forms.FloatField(
        label="Replication lag, warn above (seconds)", required=False, min_value=0.1, help_text="Only for a standby."
    )
    limit_s = forms.FloatField(label="Warn above (seconds)", required=False, min_value=0.001, max_value=300)


class PostgresqlProbe(Probe):
    """Signs in and asks the server how it is."""

    kind = "postgresql"
    label = "PostgreSQL"
    form = PostgresqlForm

    def shown(self) -> str:
        return f"{self.parameters['host']}:{self.parameters['port']}/{self.parameters['database']}"

    def ask(self, around: Surroundings) -> Finding:
        reference = self.parameters.get("password_ref")
        password = around.secret(reference) if reference else None
        with ExitStack() as stack:
            values = self._place(around, stack)
            began = time.monotonic()
            try:
                session = stack.enter_context(
                    psycopg.connect(
                        **values,
                        dbname=self.parameters["database"],
                        user=self.parameters["user"],
                        password=password,
                        connect_timeout=max(2, int(around.timeout_s)),
                        application_name="opsportal/probe",
                        options=f"-c statement_timeout={int(around.timeout_s * 1000)}",
                        require_auth="!password",
                        autocommit=True,
                    )
                )
                used, limit = session.execute(CONNECTIONS).fetchone() or (0.0, 1.0)
                (lag,) = session.execute(LAG).fetchone() or (None,)
            except psycopg.Error as error:
                said = " ".join(str(error).replace(password or "\0", "********").split())[-300:]
                return Finding(State.BAD, f"Not ready: {said.rstrip('.')}.", time.monotonic() - began)
            return self._judge(used, limit, lag, time.monotonic() - began)

    def _place(self, around: Surroundings, stack: ExitStack) -> dict[str, Any]:
        """Where libpq connects to. A name is resolved here and only here, and judged like every other address."""
        host, port = self.parameters["host"], self.parameters["port"]
        if around.forward is not None:
            endpoint = stack.enter_context(around.forward(host, port))
            return {"host": endpoint.host, "port": endpoint.port}
        if host.startswith("/"):
            return {"host": host, "port": port}
        addresses = resolve(host, port, around.allow)
        if not addresses:
            raise OutboundFailed(f"The name {host} is not known here.")
        return {"host": host, "hostaddr": str(addresses[0]), "port": port}

    def _judge(self, used: float, limit: float, lag: float | None, seconds: float) -> Finding:
        percent = 100 * used / limit
        figures = {"connections": used, "max_connections": limit, "connections_percent": round(percent, 1)}
        sentence = f"Ready; {used:.0f} of {limit:.0f} connections are used."
        if lag is not None:
            figures["lag_s"] = round(lag, 3)
            sentence = f"{sentence} The standby is {lag:.1f} s behind."
        state = State.OK
        if (most := self.parameters.get("connections_percent")) and percent > most:
            state, sentence = State.WARN, f"{sentence} That is above {most} %."
        if (longest := self.parameters.get("lag_s")) and lag is not None and lag > longest:
            state, sentence = State.WARN, f"{sentence} The limit is {longest:g} s."
        return bounded(Finding(state, sentence, seconds, figures), self.parameters.get("limit_s"))
