"""The door: one request in, one answer out."""

import json
import sys

from deployments.drivers.agent import common, pair, rolling
from deployments.drivers.agent.files import Trouble

SHARED = (
    common.preflight,
    common.leftovers,
    common.cleanup,
    common.logs,
    common.sample,
    common.holders,
    common.end_holder,
)
PAIR = (pair.look, pair.prepare, pair.ready, pair.switch, pair.drain, pair.discard, pair.start, pair.stop)
ROLLING = (rolling.look, rolling.begin, rolling.advance, rolling.discard, rolling.rest, rolling.stop)
PLACES = {"blue_green": (pair.Pair, PAIR + SHARED), "rolling": (rolling.Instances, ROLLING + SHARED)}


def main(wish):
    """`kind` says which way to deploy, `do` what is asked; the answer goes to standard output."""
    place, requests = PLACES[wish["kind"]]
    try:
        answer = {request.__name__: request for request in requests}[wish["do"]](place(wish), wish)
    except Trouble as trouble:
        answer = {"trouble": trouble.kind, "sentence": trouble.sentence}
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        answer = {"trouble": "refused", "sentence": f"{error.strerror or error}{where}."}
    sys.stdout.write(json.dumps(answer))
