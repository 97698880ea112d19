"""The data of the demo's databases. Made by the server itself, the same at every first start but for the dates."""

from __future__ import annotations

from datetime import datetime, timedelta

from opsportal.demo.server import CRM, Database, DemoServer, run_script

YEAR = timedelta(days=365)
STAGING_DAYS = timedelta(days=25)


def load(server: DemoServer, database: Database, *, since: datetime, until: datetime) -> None:
    """Fill an empty ERP database with the trade from `since` to `until`: about 235,000 rows a year."""
    with server.session(database.name, role=database.owner) as session:
        run_script(session, "erp_tables")
        run_script(session, "words")
        run_script(session, "erp_master", since=since)
        run_script(session, "erp_trade", since=since, until=until, minimum=0)
        run_script(session, "erp_keys")
        session.execute("ANALYZE")


def grow(server: DemoServer, database: Database, *, since: datetime, until: datetime, minimum: int = 0) -> None:
    """Go on trading from `since` to `until`; at least `minimum` orders come in."""
    with server.session(database.name, role=database.owner) as session:
        run_script(session, "words")
        run_script(session, "erp_trade", since=since, until=until, minimum=minimum)


def load_crm(server: DemoServer, *, until: datetime) -> None:
    """Fill the empty CRM database: a few thousand rows."""
    with server.session(CRM.name, role=CRM.owner) as session:
        run_script(session, "words")
        run_script(session, "crm", until=until)
        run_script(session, "crm_activities", until=until, first=1, number=4200)
        session.execute("ANALYZE")


def grow_crm(server: DemoServer, *, until: datetime) -> None:
    """Sales goes on writing down what it did: 40 activities up to `until`."""
    with server.session(CRM.name, role=CRM.owner) as session:
        run_script(session, "words")
        run_script(session, "crm_activities", until=until, first=1 + int(until.timestamp()), number=40)
