"""How a command runs in another place: a fixed script that asks who the place is and sees that the command ends.

The script is the same for every connector and every command. What varies reaches it as positional parameters, so
nothing a person typed is ever read as shell code.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable

from catalog.exceptions import CatalogError
from operations.commands import Command, Result

WRONG_HOST = 121
NO_FOLDER = 122
# Seconds that the far end allows on top: the limit here comes first and has the better sentence.
SLACK_S = 10
_SAID_HOST = re.compile(r"^opsportal: this is (.*)$", re.MULTILINE)

# $1 expected host name or empty, $2 seconds, $3 “group” or “child”, $4 folder or empty, $5 number of NAME=VALUE words,
# then those, then the argument vector. The command reads the session's own standard input, hence the detour over
# descriptor 3: a shell gives what it starts in the background an empty one. A second process ends the command when the
# time is over or when the session's parent is gone, as it is after a dropped connection.
#
# Nothing that is started here may be left to the first process of a container: where that is a PostgreSQL server, it
# takes the death of a child it does not know for a crash and restarts everything. So every process is waited for, and
# in a container only the command itself is ended, by the shell that waits for it. An engine that asks that shell to end
# kills it ten seconds later; it has to be done by then.
SCRIPT = r"""
name=$(uname -n)
[ -z "$1" ] || [ "$name" = "$1" ] || { printf 'opsportal: this is %s\n' "$name" >&2; exit 121; }
limit=$2 scope=$3
[ -z "$4" ] || cd -- "$4" || exit 122
count=$5
shift 5
while [ "$count" -gt 0 ]; do export "$1"; shift; count=$((count - 1)); done
parent=$PPID
exec 3<&0
"$@" <&3 3<&- &
child=$!
exec 3<&-
(
  nap=
  past=0
  trap '[ -z "$nap" ] || { kill "$nap"; wait "$nap"; }; exit 0' TERM
  trap '[ -z "$nap" ] || { kill "$nap"; wait "$nap"; }; past=$limit' USR1
  while [ "$past" -lt "$limit" ]; do
    if [ -r "/proc/$$/stat" ]; then
      read -r stat < "/proc/$$/stat" || break
      set -- ${stat##*)}
      [ "$2" = "$parent" ] || break
    fi
    sleep 1 &
    nap=$!
    wait "$nap"
    nap=
    past=$((past + 1))
  done
  trap '' TERM USR1
  if [ "$scope" = group ]; then kill -TERM 0; sleep 5; kill -KILL 0; fi
  kill -TERM "$child"
  for _ in 1 2 3 4 5; do sleep 1; kill -0 "$child" || exit 0; done
  kill -KILL "$child"
) </dev/null >/dev/null 2>&1 &
watch=$!
trap 'kill -USR1 "$watch"' TERM HUP INT
wait "$child"
code=$?
while [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
kill "$watch" 2>/dev/null
wait "$watch" 2>/dev/null
exit "$code"
"""


def far_vector(command: Command, expected_hostname: str, scope: str) -> tuple[str, ...]:
    """The argument vector to start at the far end. `scope`: its “group” or only the “child” is ended with a command.

    Raises CatalogError for what cannot be handed over.
    """
    if command.secret_files:
        raise CatalogError(
            f"{command.program} needs a secret as a file, which cannot be handed over to another machine. "
            "Reach the service through its port there instead."
        )
    folder = str(command.cwd) if command.cwd else ""
    env = [f"{name}={value}" for name, value in command.env.items()]
    limit = str(int(command.timeout_s) + SLACK_S)
    return (
        "sh",
        "-c",
        SCRIPT,
        "opsportal",
        expected_hostname,
        limit,
        scope,
        folder,
        str(len(env)),
        *env,
        *command.argv,
    )


def carried(
    command: Command, argv: tuple[str, ...], place: str, expected_hostname: str, explain: Callable[[Result], str]
) -> Command:
    """The command to start here: `argv` leads there, and its end is put into words."""

    def explained(result: Result) -> str:
        if result.code == WRONG_HOST and (said := _SAID_HOST.search(result.stderr)):
            return (
                f"{place} calls itself {said[1]}, expected is {expected_hostname}. Nothing was started there. "
                "Correct the address or the expected host name in the catalog."
            )
        if result.code == NO_FOLDER and command.cwd:
            return f"{place} has no folder {command.cwd}. Create it or correct the setting."
        return (command.explain(result) if command.explain else "") or explain(result)

    return dataclasses.replace(
        command, argv=argv, env={}, cwd=None, secret_files={}, timeout_s=command.timeout_s, explain=explained
    )


def shell_line(argv: tuple[str, ...]) -> str:
    """One line for a POSIX shell that starts exactly this argument vector."""
    if any("\0" in word for word in argv):
        raise CatalogError("A text with a zero byte in it cannot be handed over. Correct the value it comes from.")
    return shlex.join(argv)
