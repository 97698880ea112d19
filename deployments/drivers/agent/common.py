"""Requests that are the same for every way to deploy: what is there, what is needed, what was written."""

import contextlib
import json
import os
import re
import shutil
import socket
import stat

from deployments.drivers.agent.files import Trouble, checksum_of, read_json, size_of, write_whole
from deployments.drivers.agent.processes import alive, end, name_of, owner_of_port, portals_unit, stat_of

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
MARGIN_BYTES = 50 * 1024 * 1024
SAMPLE_BYTES = 8 * 1024 * 1024
COMBINED = re.compile(rb'" (\d{3}) ')


def demand_version(version):
    if not VERSION.fullmatch(version) or ".." in version:
        raise Trouble("A version has letters, digits, “.”, “_”, “+” and “-” only.")
    return version


def check(name, good, sentence, fix=""):
    return {"name": name, "good": good, "sentence": sentence, "fix": "" if good else fix}


def preflight(place, wish):
    """Everything that can be known before anything is changed."""
    folder = place.root
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    artefact, need = artefact_check(place, wish["artefact"])
    free = shutil.disk_usage(folder).free
    enough = free > need * 2 + MARGIN_BYTES
    disk = check("disk", enough, f"{free // 1048576} MiB are free in {folder}.", "Free some space there.")
    found = [life_check(), permissions_check(folder), artefact, disk, *place.port_checks()]
    if wish.get("proxy_address"):
        found.append(proxy_check(wish["proxy_address"]))
    if wish.get("access_log"):
        found.append(log_check(wish["access_log"]))
    return {"checks": found}


def life_check():
    """Whether what is started here goes on when the portal is started again."""
    unit = ""
    with contextlib.suppress(OSError), open("/proc/self/cgroup") as file:
        unit = portals_unit(file.read())
    sentence = f"The program would be part of {unit} and end with it." if unit else "The program outlives the portal."
    fix = "Choose a host for this environment that is reached over SSH, also where it is this one."
    return check("lifetime", not unit, sentence, fix)


def permissions_check(folder):
    who, info = f"user {os.geteuid()}", os.stat(folder)
    if os.access(folder, os.W_OK | os.X_OK):
        return check("permissions", True, f"{folder} can be written by {who}.")
    owner = f"it belongs to user {info.st_uid}, group {info.st_gid}, mode {stat.S_IMODE(info.st_mode):o}"
    sentence = f"{folder} cannot be written by {who}: {owner}."
    return check("permissions", False, sentence, "Give it to the user that deploys.")


def artefact_check(place, artefact):
    """The check, and how many bytes have to be brought."""
    source, version = artefact.get("source", ""), demand_version(artefact["version"])
    if place.release(version) and place.release(version).get("checksum") == artefact.get("checksum"):
        return check("artefact", True, f"{version} is here already."), 0
    if not source or not os.path.exists(source):
        sentence = f"There is nothing at {source or 'its source'} on this host."
        return check("artefact", False, sentence, "Bring the release there."), 0
    found = checksum_of(source)
    good = artefact.get("checksum") in (None, "", found)
    sentence = f"The checksum of {source} is {found}."
    return check("artefact", good, sentence, "It is another one than asked for."), size_of(source)


def port_check(place, slot, sentence):
    """Whether the slot's program could be started where it is to listen. `sentence`: it could."""
    try:
        place.assert_port_free(slot)
        return check("port", True, sentence)
    except Trouble as trouble:
        return check("port", False, trouble.sentence)


def proxy_check(proxy):
    host, _, port = proxy.rpartition(":")
    try:
        socket.create_connection((host or "127.0.0.1", int(port)), 2).close()
        return check("proxy", True, f"The proxy answers at {proxy}.")
    except (OSError, ValueError) as error:
        return check("proxy", False, f"The proxy does not answer at {proxy} ({error}).", "Start it first.")


def log_check(path):
    who = f"user {os.geteuid()}"
    try:
        with open(path, "rb"):
            return check("access log", True, f"{path} can be read by {who}.")
    except OSError as error:
        sentence = f"The access log {path} cannot be read by {who} ({error.strerror})."
        return check("access log", False, sentence, "Errors are counted in it: let that user read it, or name none.")


def seen(place, slot, live):
    """One slot as it is now. `live`: the proxy goes there."""
    place.cap_log(slot)
    known, runs = place.state(slot), place.runs(slot)
    good, ms, wrong = place.ask(slot) if runs else (False, None, "")
    return {
        "name": slot,
        "version": known.get("version", ""),
        "running": runs,
        "ready": good,
        "live": live,
        "address": place.shown(slot),
        "since": known.get("since"),
        "answer_ms": round(ms, 1) if ms is not None else None,
        "note": wrong if runs else ("It has ended." if known else ""),
    }


def present(place):
    """Versions whose artefact is there whole, the newest first."""
    with contextlib.suppress(OSError):
        names = [name[:-5] for name in os.listdir(place.path("releases")) if name.endswith(".json")]
        return sorted(
            (name for name in names if place.release(name)),
            key=lambda name: -os.path.getmtime(place.path("releases", f"{name}.json")),
        )
    return []


def leftovers(place, wish):
    """Versions and half-written folders that nothing needs."""
    keep = {*wish.get("keep", ()), *place.needed()}
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(place.path("releases"))):
            if os.path.isdir(place.path("releases", name)) and name not in keep:
                found.append({"name": name, "bytes": size_of(place.path("releases", name))})
    return {"found": found}


def cleanup(place, wish):
    with place.changing():
        found = leftovers(place, wish)["found"]
        for each in found:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place.path("releases", f"{each['name']}.json"))
            shutil.rmtree(place.path("releases", each["name"]))
    return {"found": found}


def holders(place, wish):
    """Programs of others that listen where the slots are to listen."""
    found, mine = [], place.mine()
    for slot in () if place.by_socket else place.slots:
        port = place.configured(slot)
        pid = owner_of_port(port) if port else None
        known = stat_of(pid) if pid and pid not in mine else None
        if known is not None:
            who = {"program": name_of(pid), "user": os.stat(f"/proc/{pid}").st_uid}
            found.append({"port": port, "pid": pid, "started": known[2], **who})
    return {"found": found}


def end_holder(place, wish):
    """End one of them: it is asked to, then made to. One that has gone meanwhile is no trouble."""
    holder = wish["holder"]
    with place.changing():
        if holder not in holders(place, wish)["found"]:
            if alive(holder["pid"], holder["started"]):
                raise Trouble(f"Process {holder['pid']} does not hold port {holder['port']} any more. Look again.")
            return {}
        left = end(lambda: [holder["pid"]] if alive(holder["pid"], holder["started"]) else [])
    if left:
        raise Trouble(f"{holder['program']} (process {holder['pid']}) does not end. End it by hand.")
    return {}


def logs(place, wish):
    """The last lines of every slot with this version; each has its share of them."""
    mine = [slot for slot in place.slots if place.state(slot).get("version") == wish["version"]]
    share = max(1, wish.get("lines", 40) // max(1, len(mine)))
    return {"lines": [line for slot in mine for line in place.last_lines(slot, share)]}


def sample(place, wish):
    """Requests and errors in the proxy's access log since the last look of the same operation."""
    path, memory = wish["access_log"], place.path("sample.json")
    try:
        info = os.stat(path)
    except OSError as error:
        raise Trouble(f"The access log {path} cannot be read ({error.strerror}).") from None
    known = read_json(memory)
    begin = [wish["token"][0], info.st_ino]
    offset = known.get("offset", 0) if known.get("of") == begin else None
    requests = errors = 0
    if offset is None or offset > info.st_size:
        offset = info.st_size if offset is None else 0
    with open(path, "rb") as file:
        file.seek(max(offset, info.st_size - SAMPLE_BYTES))
        text = file.read()
        whole = text.rfind(b"\n") + 1
        for line in text[:whole].splitlines():
            status = status_in(line)
            requests += status > 0
            errors += status >= 500
        offset = file.tell() - len(text) + whole
    place.make()
    write_whole(memory, json.dumps({"of": begin, "offset": offset}))
    return {"requests": requests, "errors": errors}


def status_in(line):
    """The status code in a line of Caddy's JSON or of nginx's combined log; 0 when there is none."""
    if line.startswith(b"{"):
        try:
            return int(json.loads(line).get("status", 0))
        except (ValueError, TypeError):
            return 0
    found = COMBINED.search(line)
    return int(found[1]) if found else 0
