"""Rolling on the host: several instances behind one proxy, replaced one at a time.

The proxy's list has a line for each instance: `upstreams/1` holds the port of instance 1, `upstreams/1.sock` is a link
to its socket. An instance is taken out of the list by letting its line name another one that serves, and put back by
letting it name the instance itself again. So the proxy is never reloaded, tries no address where nobody listens, and
repeats no request.

A walk takes all instances to one version. It is written down (`walk.json`) before it begins, and every step of it is
found by looking at what is there: whoever dies on the way, the next one goes on from there, or walks back.
"""

import contextlib
import json
import os
import time

from deployments.drivers.agent.common import check, demand_version, port_check, present, seen
from deployments.drivers.agent.files import Trouble, read_json, write_whole
from deployments.drivers.agent.place import Place, written

SLICE_S = 0.8
PAUSE_S = 0.03
QUIET_S = 0.5  # the proxy may have read the list just before it was changed, and connects only now
STILL_S = 30.0
BACK = "back"


class Instances(Place):
    """Several instances and the proxy's list of them."""

    def __init__(self, wish):
        slots = tuple(str(number) for number in range(1, int(wish["instances"]) + 1))
        ports = wish.get("ports") or [None] * len(slots)
        super().__init__(wish, slots, {slot: ports[int(slot) - 1] for slot in slots})

    def make(self):
        super().make()
        self.open_folder(self.path("upstreams"))

    def called(self, slot):
        return f"instance {slot}"

    def known(self):
        """All slots that there are: those of the settings, and others that still run since there were more."""
        names = set(self.slots)
        with contextlib.suppress(OSError):
            names |= {each for each in os.listdir(self.path("slots")) if each.isdigit() and self.runs(each)}
        return sorted(names, key=int)

    # -- the proxy's list ----------------------------------------------------------------------------------------------

    def line(self, slot):
        return self.path("upstreams", f"{slot}.sock" if self.by_socket else slot)

    def listed(self):
        """What each line of the list names: {line: slot}, None where it names nobody that is known."""
        where = {str(self.address(slot)): slot for slot in reversed(self.known())}
        names = set(self.known())
        with contextlib.suppress(OSError):
            found = (each.partition(".")[0] for each in os.listdir(self.path("upstreams")))
            names |= {each for each in found if each.isdigit()}
        return {name: where.get(self.named_in(self.line(name))) for name in sorted(names, key=int)}

    def serving(self):
        """Slots that run and get traffic."""
        named = set(self.listed().values())
        return [slot for slot in self.known() if slot in named and self.runs(slot)]

    def take_out(self, slot):
        """No new request goes to the slot: its lines name others that serve, or nobody where there are none."""
        heirs = [each for each in self.serving() if each != slot]
        known, now = self.state(slot), time.monotonic()
        write_whole(self.path("slots", slot, "out.json"), json.dumps({"pid": known.get("pid"), "since": now}))
        for line, named in self.listed().items():
            if named != slot:
                continue
            if heirs:
                heirs.append(heirs.pop(0))
                self.name_in(self.line(line), self.address(heirs[-1]))
            else:
                os.unlink(self.line(line))

    def put_in(self, slot):
        """The slot gets traffic: by its own line, and by those that name nobody who serves."""
        serving = self.serving()
        for line, named in self.listed().items():
            if line == slot or (line in self.slots and named not in serving):
                self.name_in(self.line(line), self.address(slot))

    def drained(self, slot):
        """Whether the slot, which was taken out, may be stopped; with how many requests that it has not finished."""
        file, now, pid = self.path("slots", slot, "out.json"), time.monotonic(), self.state(slot).get("pid")
        out = read_json(file)
        if out.get("pid") != pid or out.get("since", 0) > now:
            out = {"pid": pid, "since": now}
            write_whole(file, json.dumps(out))
        left = self.in_flight(slot)
        if left and now - out.get("busy", 0) > QUIET_S / 5:
            write_whole(file, json.dumps({**out, "busy": now}))
        if now - out["since"] > self.wish["drain_s"] + QUIET_S:
            return True, left
        return not left and now - max(out["since"], out.get("busy", 0)) >= QUIET_S, 0

    # -- versions ------------------------------------------------------------------------------------------------------

    def walk(self):
        return read_json(self.path("walk.json"))

    def live(self):
        """The version that most of the serving instances run; on a walk back the one where it goes. Empty: none."""
        serving, walk = self.serving(), self.walk()
        versions = [self.state(slot).get("version", "") for slot in serving]
        if walk.get("mode") == BACK and not walk.get("done") and walk["to"] in versions:
            return walk["to"]
        return max(versions, key=lambda each: (versions.count(each), each == walk.get("from"), each), default="")

    def resting(self):
        """The version to start where none is live."""
        walk = self.walk()
        versions = [self.state(slot).get("version", "") for slot in self.slots]
        return self.live() or (walk.get("to") if walk.get("done") else "") or max(versions, key=versions.count)

    def needed(self):
        walk = self.walk()
        return {self.state(slot).get("version") for slot in self.known()} | {walk.get("to"), walk.get("from")}

    def port_checks(self):
        found = []
        for slot in self.slots:
            moves = self.runs(slot) and self.address(slot) != self.configured(slot)
            shown = f"Instance {slot}, {written(self.configured(slot))}"
            if moves or not self.runs(slot):
                found.append(port_check(self, slot, f"{shown}, can be started."))
            else:
                found.append(check("port", True, f"{shown}, runs {self.state(slot).get('version')}."))
        for slot in ("blue", "green"):
            if self.runs(slot):
                sentence = f"{self.root} is a folder of blue-green: its {slot} slot runs."
                found.append(check("folder", False, sentence, "Give the rolling deployment a folder of its own."))
        return found


class Walk:
    """One walk, as far as it has come. `hold`: new instances are started and get no traffic yet."""

    def __init__(self, place, hold):
        self.place, self.hold = place, hold
        self.plan = place.walk()
        self.said = []

    def right(self, slot):
        """Whether the slot's program is what the walk wants there."""
        place, plan, known = self.place, self.plan, self.place.state(slot)
        wanted = (plan["to"], place.release(plan["to"]).get("checksum", ""))
        same = (known.get("version"), known.get("checksum")) == wanted
        there = slot in place.slots and place.address(slot) == place.configured(slot)
        return same and there and (not plan["anew"] or known.get("walk", 0) >= plan["number"])

    def step(self):
        """Do the next thing, under the lock. Says how far it is: moving, starting, ready (but held back), done."""
        place, serving = self.place, self.place.serving()
        out = [slot for slot in place.known() if slot not in serving]
        if [slot for slot in out if self.replace(slot)]:
            return self.moving()
        if out:
            return self.put_in(out)
        return self.go_on(serving)

    def moving(self):
        write_whole(self.place.path("walk.json"), json.dumps({**self.plan, "at": time.time()}))
        return {"state": "moving"}

    def replace(self, slot):
        """Stop what is wrong in a slot without traffic, once it has finished, and start what is right."""
        place, known, to = self.place, self.place.state(slot), self.plan["to"]
        if place.runs(slot) and self.right(slot):
            return False
        if place.runs(slot):
            drained, left = place.drained(slot)
            if not drained:
                return True
            if left:
                self.said.append(f"{left} requests of instance {slot} were still under way when their time was over.")
            place.stop(slot)
        elif known.get("pid") and known.get("walk") == self.plan["number"]:
            words = " / ".join(place.last_lines(slot, 5)) or "none"
            place.take_out(slot)
            raise Trouble(f"Instance {slot} with {to} has ended. Its last words: {words}", "not_ready")
        if slot in place.slots:
            place.take_out(slot)
            place.assert_port_free(slot)
            place.start(slot, to, place.path("releases", to), walk=self.plan["number"])
            self.said.append(f"Instance {slot} was started with {to}.")
        return True

    def put_in(self, out):
        """Those that are ready get traffic."""
        late = None
        for slot in out:
            good, ms, wrong = self.place.ask(slot)
            if not good:
                late = late or self.late(slot, wrong)
            elif not self.hold:
                self.place.put_in(slot)
                self.said.append(f"Instance {slot} is ready, {ms:.0f} ms, and in the proxy's list.")
        return late or (self.moving() if not self.hold else {"state": "ready"})

    def late(self, slot, wrong):
        known = self.place.state(slot)
        lines = self.place.last_lines(slot, 5)
        return {"state": "starting", "name": slot, "pid": known.get("pid"), "note": wrong, "lines": lines}

    def go_on(self, serving):
        """Everybody serves: take the next one out, one that does not answer before the others. None is left: done.

        One that answers goes out only while all others answer, so that never more than one is missing.
        """
        place = self.place
        wrong = [slot for slot in serving if not self.right(slot)]
        if not wrong:
            for slot in serving:
                place.put_in(slot)
            write_whole(place.path("walk.json"), json.dumps({**self.plan, "at": time.time(), "done": True}))
            return {"state": "done"}
        asked = {slot: place.ask(slot) for slot in serving}
        sick = [slot for slot in serving if not asked[slot][0]]
        chosen = next((slot for slot in sick if slot in wrong), wrong[0])
        if sick and chosen not in sick:
            return self.late(sick[0], asked[sick[0]][2])
        place.take_out(chosen)
        self.said.append(f"Instance {chosen} was taken out of the proxy's list.")
        return self.moving()


# -- requests ----------------------------------------------------------------------------------------------------------


def look(place, wish):
    """Every instance, and how whole it all is. Changes nothing but logs that are too long."""
    serving, live, listed = place.serving(), place.live(), set(place.listed().values())
    slots = [seen(place, slot, slot in listed) for slot in place.known()]
    for each in slots:
        if each["running"] and not each["live"]:
            each["note"] = f"Out of the proxy's list. {each['note']}".strip()
    sentence = f"{live} runs in all {len(serving)} instances." if live else "Nothing is live."
    whole = [each for each in slots if each["live"] and each["running"] and each["version"] == live]
    split = live and len(whole) != len(place.slots)
    if split:
        sentence = " ".join(told(each) for each in slots)
    walk = place.walk()
    still = walk.get("done") or time.time() - walk.get("at", 0) > STILL_S
    unsettled = f"{sentence} Deploy, roll back or restart to bring them to one version." if split and still else ""
    slots.sort(key=lambda each: (each["ready"], int(each["name"])))
    return {"live": live, "slots": slots, "present": present(place), "sentence": sentence, "unsettled": unsettled}


def told(each):
    """One instance in a sentence."""
    if not each["running"]:
        return f"Instance {each['name']} does not run."
    return f"Instance {each['name']} runs {each['version']}{'' if each['live'] else ' and gets no traffic'}."


def begin(place, wish):
    """Write down where a walk goes, and bring the artefact. One of the same operation that goes there already is kept.

    `mode`: deploy; back, to what was there before; start; restart, which starts every instance again.
    """
    artefact, mode = wish["artefact"], wish["mode"]
    version = demand_version(artefact["version"])
    with place.changing():
        place.bring(artefact)
        plan, live = place.walk(), place.live()
        mine = [plan.get("mode"), plan.get("to"), plan.get("operation")] == [mode, version, wish["token"][0]]
        if not (mine and mode == "deploy"):
            plan = {
                "number": plan.get("number", 0) + 1,
                "mode": mode,
                "to": version,
                "from": version if mode == BACK else live,
                "anew": mode == "restart" or (mode == "deploy" and live == version),
                "operation": wish["token"][0],
                "done": False,
            }
            write_whole(place.path("walk.json"), json.dumps({**plan, "at": time.time()}))
    return {"from": plan["from"]}


def advance(place, wish):
    """Walk on for less than a second; the caller asks again. Ends early where there is something to tell, or `enough`
    of it is done."""
    until = time.monotonic() + SLICE_S
    while True:
        with place.changing():
            walk = Walk(place, wish["hold"])
            try:
                found = walk.step()
            except Trouble as trouble:
                raise Trouble(" ".join([*walk.said, trouble.sentence]), trouble.kind) from None
        if walk.said or found["state"] in wish["enough"] or time.monotonic() > until:
            return {**found, "said": walk.said}
        time.sleep(PAUSE_S)


def discard(place, wish):
    """What has to be walked back to so that nothing of this version, or of the walk to it, is left; empty: nothing has.

    Where nothing gets traffic, what runs of it is stopped.
    """
    version = wish["artefact"]["version"]
    with place.changing():
        live, walk = place.live(), place.walk()
        mine = [slot for slot in place.known() if place.state(slot).get("version") == version]
        on_the_way = walk.get("to") == version and not walk.get("done")
        if not live:
            for slot in mine:
                place.stop(slot)
        return {"back": live if live != version and (mine or on_the_way) else ""}


def rest(place, wish):
    """The version that is live, or was when it was stopped."""
    version = place.resting()
    if not version:
        raise Trouble("Nothing is live here. Deploy a release first.")
    return {"version": version}


def stop(place, wish):
    """Take all instances out of the list and stop them. What they were stays written down."""
    with place.changing():
        plan, live = place.walk(), place.resting()
        for line in place.listed():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place.line(line))
        for slot in place.known():
            place.put_down(slot)
        if live:
            plan = {"number": 0, "anew": False, **plan, "mode": "start", "to": live, "from": live, "done": True}
            write_whole(place.path("walk.json"), json.dumps({**plan, "at": time.time()}))
    return {}
