"""The kinds of probes. A new one is a module and a line here."""

from catalog.probes.base import Finding, Probe, State, Surroundings
from catalog.probes.http import HttpProbe
from catalog.probes.machine import CommandProbe, DiskProbe, SqliteProbe
from catalog.probes.network import PortFreeProbe, RedisProbe, TcpProbe
from catalog.probes.postgresql import PostgresqlProbe

PROBES: dict[str, type[Probe]] = {
    probe.kind: probe
    for probe in (
        HttpProbe,
        TcpProbe,
        PostgresqlProbe,
        RedisProbe,
        SqliteProbe,
        DiskProbe,
        PortFreeProbe,
        CommandProbe,
    )
}

__all__ = ["PROBES", "Finding", "Probe", "State", "Surroundings"]
