"""docs/capabilities.md tells the truth: every test it names exists and runs, every requirement id stands there once.

`python3 tests/test_capabilities.py` prints the named tests, for `make test PYTEST_ARGS="$(...)"`.
"""

import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "capabilities.md"
KNOWN_IDS = ROOT / "docs" / "requirement-ids.txt"
SECURITY = ROOT / "docs" / "security.md"
OPEN_HEADING = "## Not covered yet"
ID = re.compile(r"S[0-4]-[A-Z]\d+|F\d\d|N-\d\d|X-\d\d")
NODE = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)+)`")
ROW = re.compile(r"^\| (?!Capability|---)(.+?) \| (.*?) \| (.+?) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    capability: str
    ids: list[str]
    tests: list[str]


def rows() -> list[Row]:
    """The table of what is covered."""
    covered = PAGE.read_text().partition(OPEN_HEADING)[0]
    return [Row(text, ids.split(), NODE.findall(tests)) for text, ids, tests in ROW.findall(covered)]


def open_ids() -> list[str]:
    """The ids that the page names as not covered."""
    return ID.findall(PAGE.read_text().partition(OPEN_HEADING)[2])


def known_ids() -> list[str]:
    """Every requirement there is."""
    return KNOWN_IDS.read_text().split()


def test_the_table_is_read_at_all():
    assert len(rows()) > 20
    assert len(known_ids()) > 300


def test_every_line_names_a_capability_and_its_tests():
    wrong = [row for row in rows() if not row.capability.strip() or not row.tests]
    assert not wrong, "a line without a test proves nothing"
    twice = [row for row in rows() if len(set(row.tests)) != len(row.tests) or len(set(row.ids)) != len(row.ids)]
    assert not twice, "a test or an id stands twice in one line"


def test_ids_have_the_right_form_and_are_known():
    named = [one for row in rows() for one in row.ids]
    assert not [one for one in named if not ID.fullmatch(one)]
    assert not set(named + open_ids()) - set(known_ids())


def test_every_id_is_covered_or_open_and_only_once():
    covered = Counter(one for row in rows() for one in row.ids)
    still_open = Counter(open_ids())
    assert not covered.keys() & still_open.keys(), "both covered and open"
    expected = [one for one in known_ids() if one not in covered]
    assert [one for one in known_ids() if one in still_open] == expected, f"the open ids are: {' '.join(expected)}"
    assert not [one for one, times in (covered + still_open).items() if times > 1]
    assert len(set(known_ids())) == len(known_ids())


def test_every_named_test_is_one_that_pytest_runs(request):
    nodes = {node for row in rows() for node in row.tests}
    # A run of the whole suite has found all tests already; a run of a part of it has to look for the others.
    others = sorted(nodes - {re.split(r"[\[@]", item.nodeid)[0] for item in request.session.items})
    if not others:
        return
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *others]
    done = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True, timeout=240)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR")]
    assert done.returncode == 0, "\n".join(said)
    found = {line.partition("[")[0] for line in done.stdout.splitlines() if line.startswith("tests/")}
    assert not set(others) - found, "these are classes or files, not single tests"


def test_the_roles_on_the_security_page_are_those_of_the_code():
    from core.roles import EDIT_DIRECTORY, Role, codes_of, declared_codes

    lines = [line.strip("| ").split(" | ") for line in SECURITY.read_text().splitlines() if line.startswith("| ")]
    head = next(cells for cells in lines if cells[0] == "Permission")
    assert head[1:] == [role.value for role in Role]
    shown = {}
    for cells in lines:
        if code := re.match(r"`([a-z]+\.\w+)`", cells[0]):
            shown[code[1]] = [cell == "yes" for cell in cells[1:]]
    known = declared_codes()
    allowed = {role: codes_of(role, known) for role in Role}
    assert shown == {code: [code in allowed[role] for role in Role] for code in shown}
    special = {code for code in allowed[Role.OPERATOR] if not code.partition(".")[2].startswith("view_")}
    special -= set(EDIT_DIRECTORY) - {"contacts.change_contact"}  # one line of the page stands for its kind
    assert special <= shown.keys(), "an operator may do what the page does not tell"


if __name__ == "__main__":
    print(*sorted({node for row in rows() for node in row.tests}))
