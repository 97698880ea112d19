"""What a machine says of itself: its disk, a SQLite file on it, any command."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from django import forms

from catalog.probes.base import Finding, PathField, PlainField, Probe, State, Surroundings, bounded
from catalog.validators import validate_argument_vector
from operations.commands import Command
from operations.exceptions import CommandFailed

# Opens read-only by URI, so that a wrong path never makes an empty database that looks healthy.
SQLITE_SCRIPT = """
import json, sqlite3, sys, urllib.parse
path, tables = sys.argv[1], sys.argv[2:]
found = {}
try:
    con = sqlite3.connect("file:" + urllib.parse.quote(path) + "?mode=ro", uri=True, timeout=5)
    rows = [row[0] for row in con.execute("PRAGMA integrity_check(5)")]
    names = {row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    found = {"integrity": rows, "tables": len(names), "missing": [t for t in tables if t not in names]}
except sqlite3.Error as error:
    found = {"error": str(error)}
print(json.dumps(found))
"""


class DiskForm(forms.Form):
    path = PathField(max_length=500, help_text="Any folder of the file system.")
    warn_percent = forms.IntegerField(label="Warn above (% used)", initial=80, min_value=1, max_value=100)
    bad_percent = forms.IntegerField(label="Bad above (% used)", initial=90, min_value=1, max_value=100)

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("warn_percent", 0) > values.get("bad_percent", 100):
            self.add_error("warn_percent", "Warn before it is bad: this must not be above the other figure.")
        return values


class SqliteForm(forms.Form):
    path = PathField(max_length=500)
    tables = PlainField(
        label="Expected tables", required=False, max_length=500, help_text="Names with commas: users, orders."
    )


class CommandForm(forms.Form):
    argv = forms.CharField(
        label="Command",
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocapitalize": "none"}),
        help_text="One argument a line, the program first. No shell, no terminal; it must end by itself.",
    )
    code = forms.IntegerField(label="Expected exit code", initial=0, min_value=0, max_value=255)
    text = PlainField(label="Expected text", required=False, max_length=200, help_text="Must occur in its output.")
    limit_s = forms.FloatField(label="Warn above (seconds)", required=False, min_value=0.001, max_value=300)

    def clean_argv(self) -> list[str]:
        argv = [line.strip() for line in self.cleaned_data["argv"].splitlines() if line.strip()]
        validate_argument_vector(argv)
        return argv


class DiskProbe(Probe):
    """How full a file system is."""

    kind = "disk"
    label = "Disk"
    form = DiskForm

    def shown(self) -> str:
        return str(self.parameters["path"])

    def ask(self, around: Surroundings) -> Finding:
        command = Command(("df", "-Pk", "--", self.parameters["path"]), timeout_s=around.timeout_s)
        lines = around.run(around.connector.wrap(command)).stdout.decode("utf-8", "replace").splitlines()
        try:
            total, used, free = (int(field) * 1024 for field in lines[-1].split()[1:4])
            percent = 100 * used / ((used + free) or 1)
        except (ValueError, IndexError):
            return Finding(State.UNKNOWN, "df answered in a form that is not known.")
        figures = {"used_percent": round(percent, 1), "free_bytes": float(free), "total_bytes": float(total)}
        sentence = f"{percent:.0f} % of the disk is used, {free / 1e9:.1f} GB are free."
        state = State.OK
        if percent > self.parameters.get("bad_percent", 90):
            state, sentence = State.BAD, f"{sentence} Free some space now."
        elif percent > self.parameters.get("warn_percent", 80):
            state, sentence = State.WARN, f"{sentence} Free some space soon."
        return Finding(state, sentence, figures=figures)


class SqliteProbe(Probe):
    """A SQLite file is a database, whole, and has the tables it should have."""

    kind = "sqlite"
    label = "SQLite integrity"
    form = SqliteForm

    def shown(self) -> str:
        return str(self.parameters["path"])

    def ask(self, around: Surroundings) -> Finding:
        tables = [name.strip() for name in self.parameters.get("tables", "").split(",") if name.strip()]
        argv = ("python3", "-I", "-c", SQLITE_SCRIPT, self.parameters["path"], *tables)
        began = time.monotonic()
        answer = around.run(around.connector.wrap(Command(argv, timeout_s=around.timeout_s))).stdout
        seconds = time.monotonic() - began
        found = json.loads(answer.decode("utf-8", "replace").strip().splitlines()[-1])
        if "error" in found:
            return Finding(State.BAD, f"{self.parameters['path']}: {found['error']}.", seconds)
        if found["integrity"] != ["ok"]:
            return Finding(State.BAD, f"The integrity check found: {'; '.join(found['integrity'])[:300]}.", seconds)
        if found["missing"]:
            return Finding(State.BAD, f"Missing tables: {', '.join(found['missing'])}. Is it the right file?", seconds)
        if not found["tables"]:
            return Finding(State.BAD, "The file is whole but has no table. Is it the right file?", seconds)
        return Finding(State.OK, f"Whole, {found['tables']} tables.", seconds, {"tables": float(found["tables"])})


class CommandProbe(Probe):
    """A command ends with the expected code and says the expected thing."""

    kind = "command"
    label = "Command"
    form = CommandForm

    def shown(self) -> str:
        return shlex.join(self.parameters["argv"])

    def ask(self, around: Surroundings) -> Finding:
        command = around.connector.wrap(Command(tuple(self.parameters["argv"]), timeout_s=around.timeout_s))
        began = time.monotonic()
        try:
            result = around.run(command)
        except CommandFailed as error:
            result = error.result
            if result.cancelled or result.timed_out or (command.explain and command.explain(result)):
                raise  # it was not reached, or did not end: that is not the command's own answer
        seconds = time.monotonic() - began
        said = (result.stderr or result.stdout.decode("utf-8", "replace")).strip().splitlines()
        last = f" It said: {said[-1][:200]}" if said else ""
        if result.code != (expected := self.parameters.get("code", 0)):
            return Finding(State.BAD, f"Ended with {result.code}, expected is {expected}.{last}", seconds)
        text = self.parameters.get("text")
        if text and text not in result.stdout.decode("utf-8", "replace") and text not in result.stderr:
            return Finding(State.BAD, f"Its output does not contain “{text}”.{last}", seconds)
        return bounded(Finding(State.OK, f"Ended with {result.code}.{last}", seconds), self.parameters.get("limit_s"))
