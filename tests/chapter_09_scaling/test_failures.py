"""A rank that fails, in whatever way: all others end soon, say who it was, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rank_start
import rank_work

from chapter_09_scaling import RankError, launch
from chapter_09_scaling.launch import place_of, start

AT_MOST = 10.0  # seconds; the design says 5, on a machine that does nothing else
HOW = {  # what is said of rank 1
    "SIGKILL": "rank 1 was ended by SIGKILL",
    "SIGSTOP": "rank 1 was stopped by a signal",
    "raise": "rank 1 has failed: ValueError: 'a planted error' is not in list",
    "sys.exit(0)": "rank 1 has left with exit status 0 before its work was done",
    "os._exit(0)": "rank 1 has left with exit status 0 before its work was done",
    "os._exit(3)": "rank 1 has left with exit status 3 before its work was done",
}
QUICK = {
    ("SIGKILL", "in", "all_reduce"),
    ("SIGKILL", "before", "NumPy"),
    ("SIGSTOP", "in", "all_reduce"),
    ("raise", "before", "Python"),
    ("raise", "in", "all_reduce"),
    ("sys.exit(0)", "after", "all_reduce"),
    ("os._exit(3)", "before", "all_reduce"),
}
# Others that compute are only told of it: one exit is to them like another, so sys.exit will do.
EVERY = [(way, moment, others) for way in HOW
         for moment, others in [("before", "all_reduce"), ("in", "all_reduce"),
                                ("after", "all_reduce"), ("before", "Python"),
                                ("before", "NumPy")]
         if others == "all_reduce" or not way.startswith("os._exit")]  # fmt: skip
FAILURES = [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow, id=", ".join(case))
            for case in EVERY]  # fmt: skip


@pytest.fixture(scope="module")
def of(request, tmp_path_factory):
    """What came of a failure: those that are asked for run side by side, as most only wait."""
    asked = [tuple(item.callspec.params[name] for name in ("way", "moment", "others"))
             for item in request.session.items
             if "moment" in getattr(getattr(item, "callspec", None), "params", {})]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        runs = {case: pool.submit(rank_start.outcome, tmp_path_factory.mktemp("ranks"),
                                  rank_work.failing, 3, *case) for case in asked}  # fmt: skip
        yield lambda *case: runs[case].result(timeout=120)


@pytest.mark.parametrize(("way", "moment", "others"), FAILURES)
def test_all_others_end_and_say_who_failed(way, moment, others, of):
    found = of(way, moment, others)
    assert found.error == HOW[way], "launch must say who failed, and how"
    assert found.seconds < AT_MOST
    for rank in (0, 2):
        assert any(
            HOW[way] in line for line in found.lines(rank)
        ), f"rank {rank} must say on its standard error who failed, yours: {found.said[rank]!r}"
    assert not found.left, "processes are left"
    if way == "raise":
        assert "Traceback" in found.said[1] and '.index("a planted error")' in found.said[1]


def test_a_rank_that_is_killed_at_once_while_others_are_in_a_long_call(tmp_path):
    found = rank_start.outcome(tmp_path, rank_work.killed_while_starting, 2)
    assert found.error == HOW["SIGKILL"] and found.seconds < AT_MOST
    assert any(HOW["SIGKILL"] in line for line in found.lines(0)), found.said[0]


def test_what_a_killed_rank_has_started_keeps_nobody(tmp_path):
    """Programs that a rank starts must not inherit its sockets, or its end goes unseen."""
    found = rank_start.outcome(tmp_path, rank_work.killed_with_a_child, 2)
    assert found.error == HOW["SIGKILL"]
    assert found.seconds < AT_MOST, "seen only when the program that it had started ended"


def launcher(folder: Path, others: str) -> subprocess.Popen:
    """A script that has launched two ranks, which are at work."""
    with open(folder / "launcher", "wb") as file:
        process = subprocess.Popen(
            rank_start.command("local", 2, "working", str(folder), others), stdout=file,
            stderr=file, stdin=subprocess.DEVNULL, env=rank_start.environment(),
        )  # fmt: skip
    waited = time.monotonic() + 60
    while not all((folder / f"ready {rank}").exists() for rank in range(2)):
        assert process.poll() is None and time.monotonic() < waited, "the ranks do not start"
        time.sleep(0.05)
    time.sleep(0.3)
    return process


@pytest.mark.parametrize("others", ["all_reduce", "NumPy",
                                    pytest.param("Python", marks=pytest.mark.slow)])  # fmt: skip
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_ranks_end_when_whoever_started_them_is_gone(number, others, tmp_path):
    process = launcher(tmp_path, others)
    process.send_signal(number)
    begin = time.monotonic()
    try:
        while rank_start.survivors(str(tmp_path)):
            assert time.monotonic() - begin < AT_MOST, "ranks live on without a launcher"
            time.sleep(0.05)
        process.wait(AT_MOST)
    finally:
        process.kill()
    for rank in range(2):
        said = (tmp_path / f"rank {rank}").read_text()
        assert f"rank {rank}: whoever started the ranks " in said, f"rank {rank} said {said!r}"


def test_nothing_stays_open_in_the_launcher(tmp_path):
    launch(rank_work.slow_one, 2, 0.0)
    before = rank_start.descriptors()
    launch(rank_work.slow_one, 2, 0.0)
    with pytest.raises(RankError):
        launch(rank_work.failing, 2, str(tmp_path), "SIGKILL", "before", "all_reduce")
    assert rank_start.descriptors() == before


@pytest.mark.slow
def test_ten_launches_leave_nothing_open():
    launch(rank_work.slow_one, 2, 0.0)
    before = rank_start.descriptors()
    for _ in range(10):
        assert launch(rank_work.slow_one, 2, 0.0) == [2.0, 2.0]
    assert rank_start.descriptors() == before
    assert not children(), "processes are left, or not waited for"


def children() -> list:
    """The ranks among the processes that this one has started, also those that have ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and "python" in (folder / "comm").read_text():
                found.append(folder.name)
        except OSError:
            continue  # it has just ended
    return found


@pytest.mark.parametrize("good", [0, 2])
def test_a_rank_that_cannot_be_started_leaves_nothing(good, monkeypatch):
    """The system may refuse one more process or file: what was made until then must go."""
    popen, made = subprocess.Popen, []

    def refuse(*arguments, **options):
        if len(made) == good:
            raise BlockingIOError("Resource temporarily unavailable")
        made.append(popen(*arguments, **options))
        return made[-1]

    before = rank_start.descriptors()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(OSError, match="unavailable"):
        launch(rank_work.slow_one, 3, 0.0)
    try:
        assert rank_start.descriptors() == before, "sockets or memory stay open"
        for process in made:
            assert process.poll() is not None, "a rank lives that nobody will ever speak to"
    finally:
        for process in made:
            process.kill()
            process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_names_and_nothing_that_listens(tmp_path):
    """Memory and sockets without names: nothing can be left, and no one else can connect."""
    for rank, (files, maps, sockets) in enumerate(launch(rank_work.open_files, 2)):
        assert any("memfd" in line for line in maps), "the memory of a link is mapped"
        named = [line for line in maps + files if "/dev/shm" in line or "/tmp" in line]
        assert not named, f"rank {rank} has named memory or files: {named}"
        assert len(sockets) == 2, "one to the other rank, one to the watcher"
        for kind, line in sockets:
            assert kind == "unix", f"rank {rank} has a socket of {kind}: {line}"
            assert "/" not in line and "@" not in line, f"a socket with a name: {line}"
            flags = int(line.split()[3], 16)
            assert not flags & 0x10000, f"a socket that listens: {line}"


def test_starting_gives_each_pair_its_own_link():
    started = []
    try:
        start(started, *place_of(rank_work.slow_one), 3, b"[0.0]")
        assert [rank.number for rank in started] == [0, 1, 2]
        sessions = {os.getsid(rank.process.pid) for rank in started}
        assert sessions == {rank.process.pid for rank in started}, "a keyboard interrupt is ours"
    finally:
        for rank in started:
            rank.process.kill()
            rank.process.wait()
            rank.line.close()
