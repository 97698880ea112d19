"""What a restore would take away: rows per table now against rows in the archive."""

from __future__ import annotations

from typing import Any

from backups.manifest import table_key
from backups.models import Archive
from backups.reach import connected, engine_for
from core.exceptions import PortalError


def preview(archive: Archive) -> dict[str, Any]:
    """Plain values for the wizard and the record.

    `{"readable": True, "tables": [{"table", "live", "archived", "difference", "estimated"}], "lost_rows": n}`, or
    `{"readable": False, "why": sentence}` when the live database cannot be read.
    """
    target = archive.target
    try:
        with connected(target, "opsportal/preview") as conn:
            live = engine_for(target).live_rows(conn)
    except PortalError as error:
        return {"readable": False, "why": error.message}
    described = (archive.manifest or {})["tables"]
    archived = {table_key(table["schema"], table["name"]): table["rows"] for table in described}
    tables = [
        {
            "table": name,
            "live": live.rows.get(name),
            "archived": archived.get(name),
            "difference": archived.get(name, 0) - live.rows.get(name, 0),
        }
        for name in sorted(live.rows.keys() | archived.keys())
    ]
    tables.sort(key=lambda row: -abs(row["difference"]))
    return {
        "readable": True,
        "estimated": live.estimated,
        "tables": tables,
        "lost_rows": sum(-row["difference"] for row in tables if row["difference"] < 0),
        "returned_rows": sum(row["difference"] for row in tables if row["difference"] > 0),
    }
