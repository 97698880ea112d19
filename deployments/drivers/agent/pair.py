"""Blue-green on the host: two slots, and one file that says to the proxy which of them is live."""

import time

from deployments.drivers.agent.common import check, demand_version, port_check, present, seen
from deployments.drivers.agent.files import Trouble
from deployments.drivers.agent.place import PROBE_S, Place

SLOTS = ("blue", "green")
SLICE_S = 0.8
PAUSE_S = 0.1


class Pair(Place):
    """Two slots. The file that the proxy reads alone says which of them is live."""

    def __init__(self, wish):
        super().__init__(wish, SLOTS, {slot: wish.get(slot) for slot in SLOTS})
        self.file = wish.get("file") or self.path("active.sock" if self.by_socket else "active_port")

    def live(self):
        """The slot that the proxy's file names; None: it names none of them."""
        said = self.named_in(self.file)
        return next((slot for slot in SLOTS if said == str(self.address(slot))), None)

    def idle(self):
        live = self.live()
        return next(slot for slot in SLOTS if slot != live)

    def slot_with(self, version):
        """The slot that runs this version: one that waits for traffic before the live one."""
        live = self.live()
        mine = [slot for slot in SLOTS if self.state(slot).get("version") == version and self.runs(slot)]
        return next((slot for slot in mine if slot != live), mine[0] if mine else None)

    def point(self, slot):
        """The proxy goes there from now on."""
        self.name_in(self.file, self.address(slot))

    def needed(self):
        """Versions that run or are to run."""
        live = self.live()
        return {self.state(slot).get("version") for slot in SLOTS if slot == live or self.runs(slot)}

    def port_checks(self):
        idle = self.idle()
        sentence = f"The {idle} slot, {self.shown(idle)}, is free for the new version."
        return [check("port", True, sentence) if self.runs(idle) else port_check(self, idle, sentence)]


def look(place, wish):
    """Both slots, what is live, what could be made live. Changes nothing but logs that are too long."""
    live = place.live()
    slots = [seen(place, slot, slot == live) for slot in SLOTS]
    version, sentence = "", "Nothing is live."
    if live is not None:
        mine = next(each for each in slots if each["name"] == live)
        version = mine["version"] if mine["running"] else ""
        sentence = f"Traffic goes to the {live} slot, {mine['address']}, which runs {mine['version']}."
        if not mine["running"]:
            sentence = f"Traffic goes to the {live} slot, {mine['address']}, and nothing runs there."
    return {"live": version, "slot": live, "slots": slots, "present": present(place), "sentence": sentence}


def prepare(place, wish):
    """The version runs in the slot that is not live. One that runs there already, from this artefact, is kept warm."""
    artefact = wish["artefact"]
    version = demand_version(artefact["version"])
    with place.changing():
        idle = place.idle()
        known = place.state(idle)
        same = known.get("version") == version and artefact.get("checksum", "") in ("", known.get("checksum"))
        if same and place.runs(idle) and not wish.get("anew") and place.ask(idle)[0]:
            return {"slot": idle, "warm": True}
        folder = place.bring(artefact)
        place.stop(idle)
        place.assert_port_free(idle)
        place.start(idle, version, folder)
        return {"slot": idle, "warm": False}


def ready(place, wish):
    """Ask for less than a second; the caller asks again. A program that has ended is an answer at once."""
    version, until, wrong = wish["artefact"]["version"], time.monotonic() + SLICE_S, ""
    while True:
        slot = place.slot_with(version)
        if slot is None:
            mine = [each for each in SLOTS if place.state(each).get("version") == version]
            lines = place.last_lines(mine[0], 5) if mine else []
            raise Trouble(f"{version} has ended. Its last words: {' / '.join(lines) or 'none'}", "not_ready")
        good, ms, wrong = place.ask(slot, min(PROBE_S, max(0.1, until - time.monotonic() + 0.2)))
        if good:
            return {"ready": True, "slot": slot, "ms": ms}
        if time.monotonic() > until:
            return {"ready": False, "slot": slot, "note": wrong, "lines": place.last_lines(slot, 5)}
        time.sleep(0.03)


def switch(place, wish):
    """Point the proxy at the slot with this version, after a last look at it. The fence is asked under the lock."""
    version = demand_version(wish["artefact"]["version"])
    with place.changing():
        slot = place.slot_with(version)
        if slot is None:
            raise Trouble(f"{version} does not run here, so no traffic goes to it.")
        good, _, wrong = place.ask(slot)
        if not good:
            raise Trouble(f"{version} is not ready: {wrong}. No traffic goes to it.", "not_ready")
        if slot != place.live():
            place.point(slot)
        return {"slot": slot}


def drain(place, wish):
    """How many connections the slots that are not live still serve. Waits for less than a second; the caller asks
    again."""
    until = time.monotonic() + min(SLICE_S, wish["within_s"])
    while True:
        live = place.live()
        left = sum(place.in_flight(slot) for slot in SLOTS if slot != live and place.runs(slot))
        if not left or time.monotonic() > until:
            return {"left": left}
        time.sleep(PAUSE_S)


def discard(place, wish):
    """Stop the version in the slot that is not live."""
    version = wish["artefact"]["version"]
    with place.changing():
        live = place.live()
        for slot in SLOTS:
            if slot != live and place.state(slot).get("version") == version:
                place.stop(slot)
    return {}


def start(place, wish):
    """What is live runs, if it did not."""
    with place.changing():
        live = place.live()
        known = place.state(live) if live else {}
        version = known.get("version") or wish.get("version", "")
        if live is None or not version:
            raise Trouble("Nothing is live here. Deploy a release first.")
        if not place.runs(live):
            place.stop(live)
            place.assert_port_free(live)
            place.start(live, version, place.bring({"version": demand_version(version)}))
            place.point(live)
    return {"version": version}


def stop(place, wish):
    """Stop what is live. What it was stays written down, so that it can be started again."""
    with place.changing():
        live = place.live()
        if live is not None:
            place.put_down(live)
    return {}
