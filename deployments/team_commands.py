"""The team's own commands, to migrate and to test: started in the application's place, with its environment.

Settings are environment variables of the command. Secrets come by standard input to a few lines of Python that put them
into the environment and become the command, so no argument, page, log or list of processes ever shows one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from io import BytesIO

from deployments.drivers.base import Driver
from operations.commands import Command, Result
from operations.context import StepContext

BECOME = """\
import json, os, sys
os.environ.update(json.loads({secrets!a}))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.stderr.write(f"{{sys.argv[1]}} could not be started: {{error.strerror}}.\\n")
    sys.exit(127)
"""
KUBECONFIG = "KUBECONFIG"


def filled(word: str, values: Mapping[str, str]) -> str:
    """The word with `{version}` and the like replaced, once each: what is put in is never read again."""
    return re.sub(r"\{[a-z]+\}", lambda found: values.get(found[0], found[0]), word)


def run(ctx: StepContext, driver: Driver, words: Sequence[str], values: Mapping[str, str], timeout_s: float) -> Result:
    """Run `words` in the driver's place, with `values` filled in. Raises CommandFailed."""
    around = driver.around
    secrets = dict(around.secrets)
    # kubectl reads it from a file and not from the environment.
    files = {KUBECONFIG: secrets.pop(KUBECONFIG)} if KUBECONFIG in secrets else {}
    argv = tuple(filled(word, values) for word in words)
    command = Command(
        (driver.settings.get("python") or "python3", "-I", "-", *argv) if secrets else argv,
        env=dict(around.environment),
        secrets=tuple(around.secrets.values()),
        secret_files=files,
        timeout_s=timeout_s,
    )
    program = BECOME.format(secrets=json.dumps(secrets)).encode()
    return ctx.run(around.connector.wrap(command), stdin=BytesIO(program) if secrets else None)
