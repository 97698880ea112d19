"""The command runner against real processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.commands import Command, run, run_checked
from operations.exceptions import CommandFailed
from operations.masking import MASK, Masker, mask

ROOT = Path(__file__).resolve().parents[2]


def marked(marker: str) -> list[psutil.Process]:
    """Living processes that have the marker on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(
            marker in word for word in process.info["cmdline"] or ()
        ):
            found.append(process)
    return found


def wait_until(condition, timeout_s: float = 10.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


# A family of four: a shell, its child, a grandchild, and a grandchild in a session of its own that ignores SIGTERM.
FAMILY = """
sh -c "sleep 300.{mark} & sh -c 'trap : TERM; sleep 301.{mark}' & wait" &
setsid sh -c "trap '' TERM; sleep 302.{mark}" &
wait
"""


def start_worker(mark: str) -> subprocess.Popen[bytes]:
    """A process that stands for a worker and runs the family through the runner, in a thread as a second trap."""
    code = textwrap.dedent(
        f"""
        import threading
        from operations.commands import Command, run
        thread = threading.Thread(target=lambda: run(Command(("sh", "-c", {FAMILY.format(mark=mark)!r}))))
        thread.start(); thread.join()
        """
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


class TestNothingSurvives:
    def test_a_killed_worker_takes_grandchildren_along_within_a_second(self):
        mark = f"{os.getpid()}1"
        worker = start_worker(mark)
        try:
            assert wait_until(lambda: sum("sleep" in p.name() for p in marked(mark)) >= 3), "the family never started"
            family = marked(mark)
        finally:
            worker.kill()
        worker.wait()
        assert wait_until(lambda: not marked(mark), timeout_s=1.0), marked(mark)
        assert len(family) >= 5

    def test_a_killed_guard_is_noticed_and_its_group_ended(self):
        mark = f"{os.getpid()}2"
        results = []
        thread = threading.Thread(target=lambda: results.append(run(Command(("sh", "-c", f"sleep 300.{mark} & wait")))))
        thread.start()
        assert wait_until(lambda: [p for p in marked(mark) if p.name() == "sleep"])
        next(p for p in marked(mark) if "guard.py" in " ".join(p.cmdline())).kill()
        thread.join(5)
        assert results and results[0].code == 128 + signal.SIGKILL
        assert wait_until(lambda: not marked(mark), timeout_s=1.0)

    def test_an_exception_in_a_callback_ends_the_command(self):
        mark = f"{os.getpid()}3"

        def fail(stream, text):
            raise RuntimeError("the reader is broken")

        with pytest.raises(RuntimeError, match="reader is broken"):
            run(Command(("sh", "-c", f"echo one; sleep 300.{mark} & wait")), on_line=fail)
        assert not marked(mark)

    def test_a_stray_in_the_group_does_not_hold_up_the_end(self):
        mark = f"{os.getpid()}4"
        result = run(Command(("sh", "-c", f"sleep 300.{mark} & echo done")))
        assert (result.code, result.stdout) == (0, b"done\n")
        assert result.seconds < 5
        assert not marked(mark)

    def test_a_service_in_its_own_session_may_stay(self):
        mark = f"{os.getpid()}5"
        result = run(Command(("sh", "-c", f"setsid sleep 300.{mark} & sleep 0.2; echo started")))
        assert result.code == 0
        assert result.seconds < 5, "its open standard output must not hold up the runner"
        stayed = marked(mark)
        assert [process.name() for process in stayed] == ["sleep"]
        stayed[0].kill()


class TestEnds:
    @pytest.mark.parametrize("code", [0, 1, 3, 125, 127, 255])
    def test_exit_codes_are_passed_on(self, code):
        assert run(Command(("sh", "-c", f"exit {code}"))).code == code

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE])
    def test_signals_are_passed_on(self, number):
        assert run(Command(("sh", "-c", f"kill -{int(number)} $$"))).code == 128 + number

    def test_timeout(self):
        result = run(Command(("sleep", "60"), timeout_s=0.3))
        assert result.timed_out and not result.cancelled
        assert result.seconds < 3
        with pytest.raises(CommandFailed, match="still running after 0.3 seconds"):
            run_checked(Command(("sleep", "60"), timeout_s=0.3))

    def test_stopping_asks_first(self):
        """The command gets SIGTERM and may finish what it has in hand."""
        lines = []
        script = "trap 'echo tidy; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        result = run(
            Command(("sh", "-c", script)),
            on_line=lambda stream, text: lines.append(text) if stream == "stdout" else None,
            should_stop=lambda: "cancelled by Olga" if lines else None,
        )
        assert lines == ["ready", "tidy"]
        assert (result.code, result.cancelled, result.stop_reason) == (7, True, "cancelled by Olga")

    def test_what_ignores_the_request_is_killed(self, monkeypatch):
        monkeypatch.setattr("operations.commands.GRACE_S", 0.5)
        mark = f"{os.getpid()}6"
        result = run(
            Command(("sh", "-c", f"trap '' TERM; setsid sh -c \"trap '' TERM; sleep 300.{mark}\" & sleep 301.{mark}")),
            should_stop=lambda: "stop",
        )
        assert result.code == 128 + signal.SIGKILL and result.cancelled
        assert not marked(mark)

    def test_a_missing_program_gives_a_sentence(self):
        with pytest.raises(CommandFailed, match="no-such-program was not found on the PATH .* Install it") as caught:
            run(Command(("no-such-program", "x")))
        assert caught.value.result.code == 127

    def test_a_program_that_cannot_be_executed_gives_a_sentence(self, tmp_path):
        broken = tmp_path / "broken"
        broken.write_bytes(b"\x7fELF nonsense")
        broken.chmod(0o755)
        with pytest.raises(CommandFailed, match="could not be started: Exec format error"):
            run(Command((str(broken),)))

    def test_a_missing_folder_gives_a_sentence(self, tmp_path):
        with pytest.raises(CommandFailed, match="does not exist. Create it"):
            run(Command(("true",), cwd=tmp_path / "absent"))

    def test_checked_says_the_last_words(self):
        with pytest.raises(CommandFailed, match=r"sh failed \(exit code 4\). It said: disk on fire"):
            run_checked(Command(("sh", "-c", "echo disk on fire >&2; exit 4")))


class TestWhatAProgramSees:
    def test_only_the_allow_list_of_the_environment(self, monkeypatch):
        monkeypatch.setenv("CANARY", "sings")
        monkeypatch.setenv("PGPASSWORD", "leak")
        text = run(Command(("env",), env={"MINE": "yes"})).stdout.decode()
        names = {line.split("=")[0] for line in text.splitlines()}
        assert "CANARY" not in names and "PGPASSWORD" not in names
        assert "MINE=yes" in text and "LC_ALL=C.UTF-8" in text and "TZ=UTC" in text
        assert names <= {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "MINE", "LC_CTYPE"}

    def test_no_terminal_no_privileges_private_files_no_stray_descriptors(self):
        leaked = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        try:
            script = (
                "import os; print(os.isatty(0), oct(os.umask(0)), sorted(map(int, os.listdir('/proc/self/fd')))[:-1]);"
                "print([l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1]);"
                "print(os.getsid(0) == os.getppid());"
                "\ntry: open('/dev/tty')\nexcept OSError: print('no tty')"
            )
            lines = run(Command((sys.executable, "-c", script))).stdout.decode().splitlines()
        finally:
            os.close(leaked)
        assert lines == ["False 0o77 [0, 1, 2]", "1", "True", "no tty"]

    def test_hostile_arguments_stay_data(self, tmp_path):
        hostile = ("; touch pwned", "$(touch pwned)", "`touch pwned`", "--", "-rf", "a\nb", "'\"", "*", "näh", "")
        script = "import sys, json; print(json.dumps(sys.argv[1:]))"
        result = run(Command((sys.executable, "-c", script, *hostile), cwd=tmp_path))
        assert __import__("json").loads(result.stdout) == list(hostile)
        assert not list(tmp_path.iterdir())

    def test_a_zero_byte_is_refused_with_a_sentence(self):
        with pytest.raises(CommandFailed, match="zero byte"):
            run(Command(("echo", "a\0b")))

    def test_a_secret_file_is_a_private_regular_file_that_leaves_no_trace(self):
        command = Command(
            ("sh", "-c", 'stat -L -c "%a %F" "$PGPASSFILE"; cat "$PGPASSFILE"'), secret_files={"PGPASSFILE": "s3cret"}
        )
        before = os.listdir("/proc/self/fd")
        assert run(command).stdout == b"600 regular file\ns3cret"
        assert os.listdir("/proc/self/fd") == before
        assert "s3cret" not in command.shown() and "PGPASSFILE" in command.shown()

    def test_a_secret_is_not_on_any_command_line(self):
        mark = f"hush{os.getpid()}"
        command = Command(("sh", "-c", "sleep 0.5"), secret_files={"F": mark}, secrets=(mark,))
        thread = threading.Thread(target=run, args=(command,))
        thread.start()
        time.sleep(0.25)
        assert not marked(mark)
        thread.join()

    def test_standard_input_from_a_file_and_from_memory(self, tmp_path):
        (tmp_path / "in").write_bytes(b"from a file")
        with (tmp_path / "in").open("rb") as file:
            assert run(Command(("cat",)), stdin=file).stdout == b"from a file"
        data = os.urandom(3_000_000)
        received = bytearray()
        run(Command(("cat",)), stdin=io.BytesIO(data), on_stdout=received.extend)
        assert received == data
        assert run(Command(("true",)), stdin=io.BytesIO(data)).code == 0


class TestOutput:
    def test_lines_streams_and_odd_bytes(self):
        lines = []
        script = r"printf 'one\r\ntwo\n'; sleep 0.1; printf 'bad \377 \000 end' >&2"
        run(Command(("sh", "-c", script)), on_line=lambda *line: lines.append(line))
        assert lines == [("stdout", "one"), ("stdout", "two"), ("stderr", "bad \ufffd \ufffd end")]

    def test_only_the_tail_is_kept_and_the_rest_is_counted(self):
        result = run(Command(("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo end")))
        assert result.stdout.endswith(b"xend\n")
        assert len(result.stdout) + result.dropped_bytes == 300_004

    def test_two_hundred_megabytes_pass_in_constant_memory(self):
        process = psutil.Process()
        count, peak, before = 0, 0, process.memory_info().rss

        def take(data: bytes) -> None:
            nonlocal count, peak
            count += len(data)
            peak = max(peak, process.memory_info().rss)

        result = run(Command(("head", "-c", "200000000", "/dev/zero")), on_stdout=take)
        assert (result.code, count, result.stdout) == (0, 200_000_000, b"")
        assert peak - before < 8 * 2**20

    def test_a_secret_split_over_two_writes_is_masked(self):
        script = "import sys, time\nfor c in 'key=hunter2hunter2;': print(c, end='', flush=True); time.sleep(0.005)"
        lines = []
        command = Command((sys.executable, "-c", script, "hunter2hunter2"), secrets=("hunter2hunter2",))
        result = run(command, on_line=lambda stream, text: lines.append(text))
        assert lines == [f"key={MASK};"]
        assert result.stdout == f"key={MASK};".encode()
        assert "hunter2" not in command.shown() and MASK in command.shown()

    def test_the_shown_form_can_be_pasted(self):
        command = Command(("echo", "it's", "a b"), env={"LEVEL": "two words"})
        assert subprocess.run(command.shown(), shell=True, capture_output=True, text=True).stdout == "it's a b\n"

    @given(
        secrets=st.lists(st.text('ab\nÄ%"', min_size=1, max_size=6), min_size=1, max_size=4),
        text=st.text('abc\nÄ%"', max_size=60),
        cuts=st.lists(st.integers(1, 9), min_size=1),
    )
    def test_masking_does_not_depend_on_how_the_output_is_cut(self, secrets, text, cuts):
        masker, data, shown, turn = Masker(secrets), text.encode(), b"", 0
        while data:
            size = cuts[turn % len(cuts)]
            shown, data, turn = shown + masker.feed(data[:size]), data[size:], turn + 1
        shown += masker.flush()
        assert shown.decode() == mask(text, secrets)
        assert not any(secret in shown.decode() for secret in secrets)

    def test_secrets_in_urls_and_json_are_masked(self):
        assert mask('postgres://u:p%40ss%2F@h and {"p": "a\\nb"}', ("p@ss/", "a\nb")).count(MASK) == 2


def test_starting_costs_little():
    run(Command(("true",)))
    times = sorted(run(Command(("true",))).seconds for _ in range(9))
    assert times[4] < 0.25, "measured 35 ms on two quiet cores; far more means that the guard imports too much"
