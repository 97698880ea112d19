"""The agent: what blue-green and rolling do on the host itself. Nothing but Python 3.9 and its standard library.

The portal sends the rooms of this package, and a JSON request behind them, as the standard input of `python3 -I -`,
and reads a JSON answer (`deployments.drivers.slots`): neither a secret nor a version is ever an argument, nothing is
installed. A room imports only standard library and rooms that stand before it in `ROOMS`. All that stays is the folder
`root`:

    releases/<version>/        the artefact, brought there whole and checked; releases/<version>.json says with what
    slots/<slot>/              state.json (process id, its start time, version, where it listens), out.log
    lock                       held around every change
    fence.json                 the latest token that acted: an earlier one is refused

What the proxy reads is replaced by rename, and it alone says who gets traffic:

    active_port, active.sock   blue-green, with the slots blue and green
    upstreams/1, 2, …          rolling, with the slots 1, 2, …: the proxy's list, one line each; with .sock for nginx
    walk.json                  rolling: where the instances are being taken to

A process is known by its id and its start time, so that no stranger with a used-again id is ever signalled.
"""

ROOMS = ("files", "processes", "place", "common", "pair", "rolling", "requests")
