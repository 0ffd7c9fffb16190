"""The journey visits every chapter once, tells what each shows, and goes on past what fails."""

from __future__ import annotations

import json

import pytest

from utils import journey
from utils.exercises import chapters
from utils.journey import STOPS, WITHOUT_SERVER, Stop, main, route, visit

GOOD = """
import json, sys
out = sys.argv[sys.argv.index("--out") + 1]
assert "--quick" in sys.argv and sys.argv[sys.argv.index("--seed") + 1] == "7"
json.dump({"loss": 0.25, "names": {"best": 3}}, open(out + "/metrics.json", "w"))
print("a report")
"""


@pytest.fixture
def two_chapters(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one/good.py").write_text(GOOD)
    (tmp_path / "two/bad.py").write_text("import sys; sys.exit('bad.py: error: no luck')")
    good = Stop("one/good.py", "{loss:.2f} nats, {names[best]} names")
    monkeypatch.setattr(journey, "ROOT", tmp_path)
    monkeypatch.setattr(journey, "route", lambda: [Stop("two/bad.py", "{luck}"), good])
    return tmp_path


def test_every_chapter_has_one_stop():
    assert [stop.chapter for stop in STOPS] == [folder.name for folder in chapters().values()]
    for stop in (*STOPS, WITHOUT_SERVER):
        assert (journey.ROOT / stop.file).is_file(), stop.file


def test_without_the_extra_the_last_stop_needs_no_server(monkeypatch):
    monkeypatch.setattr(journey.importlib.util, "find_spec", lambda name: None)
    assert route() == [*STOPS[:-1], WITHOUT_SERVER]


def test_what_fails_is_marked_and_the_rest_is_visited(two_chapters, capsys):
    out = two_chapters / "out"
    with pytest.raises(SystemExit) as ended:
        main(["--seed", "7", "--out", str(out)])
    assert ended.value.code == 1, "a journey on which something failed must not end with 0"
    bad, good, *_ = capsys.readouterr().out.splitlines()
    assert bad.startswith("! two") and bad.endswith("bad.py: error: no luck")
    assert good.startswith("  one") and good.endswith("0.25 nats, 3 names")
    found = json.loads((out / "metrics.json").read_text())["chapters"]
    assert [found[name]["succeeded"] for name in ("two", "one")] == [False, True]
    assert (out / "one/report.txt").read_text() == "a report\n"


def test_what_takes_for_ever_is_ended(two_chapters, capsys, monkeypatch):
    (two_chapters / "two/bad.py").write_text("print('begun', flush=True)\nwhile True: pass")
    monkeypatch.setattr(journey, "PATIENCE", 0.5)
    with pytest.raises(SystemExit):
        main(["--seed", "7", "--out", str(two_chapters / "out")])
    assert "not done after 0.5 s" in capsys.readouterr().out


@pytest.mark.parametrize("left", ["pass", "open(out, 'w').write('{\"loss\": null}')"])
def test_what_leaves_no_figures_is_marked(two_chapters, left):
    bad = f"import sys; out = sys.argv[sys.argv.index('--out') + 1] + '/metrics.json'; {left}"
    (two_chapters / "two/bad.py").write_text(bad)
    out = two_chapters / "out"
    out.mkdir()
    (out / "metrics.json").write_text('{"loss": 1}')
    arrival = visit(Stop("two/bad.py", "{loss:.2f}"), out, 0)
    assert not arrival.succeeded and arrival.said.startswith("metrics.json: "), arrival


@pytest.mark.slow
def test_the_whole_journey(tmp_path, capsys):
    main(["--out", str(tmp_path)])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[: len(STOPS)]] == [stop.chapter for stop in STOPS]
    assert json.loads((tmp_path / "metrics.json").read_text())["seconds"] > 0
    arrival = visit(WITHOUT_SERVER, tmp_path / "without", 0)
    assert arrival.succeeded, arrival.said
