"""The lists of backups, and what every page costs."""

from __future__ import annotations

import csv
import io

from tests.factories import ArchiveFactory
from tests.furnished import crowd
from tests.pages import counted, page_of


class TestLists:
    def test_csv_has_the_filtered_rows(self, plan, manager):
        for number in range(3):
            ArchiveFactory(plan=plan, name=f"backup_{number}")
        ArchiveFactory(plan=plan, failed=True)
        response = manager.get("/backups/archive/export/?state__exact=available")
        rows = list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))
        assert response["Content-Type"].startswith("text/csv")
        assert {row["Name"] for row in rows} == {"backup_0", "backup_1", "backup_2"}
        assert {row["State"] for row in rows} == {"Verified"} and {row["Target"] for row in rows} == {str(plan.target)}
        for name in ("plan", "restore", "storage"):
            assert manager.get(f"/backups/{name}/export/").status_code == 200

    def test_searching_and_filtering(self, plan, manager):
        ArchiveFactory(plan=plan, name="needle")
        ArchiveFactory(plan=plan, name="hay")
        for query in ("q=needle", f"plan__id__exact={plan.pk}&q=needle", "state__exact=available&o=2&q=needle"):
            text = page_of(manager.get(f"/backups/archive/?{query}")).text
            assert "needle" in text and "hay" not in text, query
        assert "Nothing matches" in page_of(manager.get("/backups/archive/?q=nobody-wrote-this")).text


# The committed cost of a page in queries, with 60 rows in every table. More needs a reason.
BASELINE = {
    "home": 33,
    "plans": 7,
    "archives": 7,
    "restores": 6,
    "storages": 6,
    "operations": 6,
    "schedules": 6,
    "slots": 7,
    "workers": 8,
    "wizard": 5,
    "wizard with a database": 6,
    "plan": 7,
    "archive": 9,
    "archive live": 8,
    "restore": 6,
    "restore live": 6,
    "storage": 8,
    "operation": 11,
    "operation live": 9,
    "schedule": 8,
    "slot": 7,
    "worker": 5,
    "plan form": 7,
    "clean up": 9,
    "csv of archives": 7,
}


def test_what_pages_cost(administrator):
    """No page reads row by row, and each costs what it did when its number was committed."""
    addresses = crowd()
    administrator.get("/")  # content types and the like are read once a process
    found, seen = {}, {}
    for name, address in addresses.items():
        with counted() as queries:
            response = administrator.get(address)
            if response.streaming:
                b"".join(response.streaming_content)
        assert response.status_code in (200, 286), name
        found[name], seen[name] = len(queries), "\n".join(query["sql"][:300] for query in queries)
    more = {name: (count, BASELINE[name]) for name, count in found.items() if count != BASELINE[name]}
    assert found == BASELINE, "\n\n".join(f"{name} {counts}\n{seen[name]}" for name, counts in more.items())
