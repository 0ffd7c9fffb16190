"""The script: what it refuses to start with, what it says, and what it keeps."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")

from api_server import Api, command, script_served  # noqa: E402
from live_server import JSON, PATIENCE, ask, head, post  # noqa: E402
from small_engines import CONTEXT, small_tokenizer  # noqa: E402

from chapter_02_text_generation import CharacterTokenizer  # noqa: E402
from chapter_07_attention import GPT, GPTConfig, save_pretrained  # noqa: E402
from chapter_10_production import serve  # noqa: E402
from utils.seeding import manual_seed  # noqa: E402
from utils.weights import load_weights, save_weights  # noqa: E402

KEY = "correct horse battery staple"
WEIGHTS, TOKENIZER = "model.safetensors", "book_tokenizer.json"


def save_small(folder, n_layer=1, tokenizer=None):
    manual_seed(0)
    config = GPTConfig(28, CONTEXT, n_layer=n_layer, n_head=2, n_embd=16)
    return save_pretrained(GPT(config), folder, tokenizer or small_tokenizer())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp("model") / "small")


def refused(tmp_path, *flags, **environment) -> str:
    """The one line with which the script ends at once."""
    done = subprocess.run(
        command("--port", 0, *flags), cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 2, done
    assert done.stdout == "", "nothing may be served"
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("serve.py: error: ")
    return done.stderr


def test_quick_asks_itself_once(tmp_path):
    begin = time.monotonic()
    done = subprocess.run(command("--quick"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 60, "under 5 s on an idle machine"
    metrics = json.loads((tmp_path / "runs" / "serve" / "metrics.json").read_text())
    assert metrics["health"] == "ok" and metrics["tokens"] == 8
    assert repr(metrics["text"]) in done.stdout
    assert os.listdir(tmp_path) == ["runs"]


def test_it_serves_a_folder_and_logs_no_secrets(folder, tmp_path):
    (tmp_path / "key").write_text(f"{KEY}\n")
    with script_served(tmp_path, folder, "--api-key-file", "key") as served:
        assert served.said == f"Serving small at http://127.0.0.1:{served.port} " \
            "(to end, press Ctrl-C)\n"  # fmt: skip
        assert served.get("/health").status == 200
        assert served.complete().status == 401
        with_key = f"{JSON}Authorization: Bearer {KEY}\r\n"
        found = served.complete(with_key, prompt="abc")
        assert found.status == 200
        assert len(json.loads(found.body)["choices"][0]["text"]) == 3
        names = json.loads(ask(served.port, head(path="/v1/models", more=with_key)).body)
        assert [model["id"] for model in names["data"]] == ["small"]
        assert ask(served.port, post(b"x" * (2 << 20), with_key, "/v1/completions")).status == 413
        assert ask(served.port, head(path="/nothing?key=correct")).status in (401, 404)
        assert served.end() == 0
        lines = served.log.splitlines()
        assert len(lines) == 6, "one line a request"
        assert all(" 127.0.0.1 " in line for line in lines)
        assert "POST /v1/completions 200" in lines[2]
        assert "correct" not in served.log and "abc" not in served.log
    assert json.loads((tmp_path / "runs/serve/metrics.json").read_text())["tokens"] >= 3


def test_draft_name_and_key_of_the_environment(folder, tmp_path):
    flags = folder, "--draft", folder, "--name", "mine", "--cached-tokens", "200"
    with script_served(tmp_path, *flags, DLFP_API_KEY=KEY) as served:
        found = served.complete(f"{JSON}Authorization: Bearer {KEY}\r\n", model="mine")
        assert found.status == 200 and json.loads(found.body)["model"] == "mine"
        assert served.complete(model="mine").status == 401


def test_it_warns_of_an_open_door(folder, tmp_path):
    with script_served(tmp_path, folder, "--host", "0.0.0.0") as served:
        assert Api(served.port).get("/health").status == 200
        assert "serve.py: warning: everybody who can reach this machine" in served.log
    with script_served(tmp_path, folder, "--host", "0.0.0.0", "--api-key", KEY) as served:
        assert "warning" not in served.log


def damage(name):
    def change(folder):
        path = folder / (TOKENIZER if "tokenizer" in name else WEIGHTS)
        content = path.read_bytes()
        if name == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif name in ("empty", "empty tokenizer"):
            path.write_bytes(b"")
        elif name in ("garbage", "garbage tokenizer"):
            path.write_bytes(os.urandom(5000))
        elif name in ("missing", "missing tokenizer"):
            path.unlink()
        elif name == "not a number":
            arrays = load_weights(path)
            for array in arrays.values():
                array[:] = float("nan")
            save_weights(path, arrays)
        elif name == "other shape":
            settings = json.loads((folder / "config.json").read_text())
            width = next(key for key in settings if key in ("n_embd", "hidden_size"))
            (folder / "config.json").write_text(json.dumps({**settings, width: 32}))
        elif name == "tokenizer of fewer tokens":
            CharacterTokenizer.train("abc").save(path)

    return change


DAMAGES = ["cut", "empty", "garbage", "missing", "not a number", "other shape", "empty tokenizer",
           "garbage tokenizer", "missing tokenizer", "tokenizer of fewer tokens"]  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_model_is_not_served(folder, tmp_path, name, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    damage(name)(damaged)
    with pytest.raises(SystemExit) as caught:
        serve.main([str(damaged), "--port", "0"])
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith("serve.py: error: ")


def test_the_same_of_the_script(folder, tmp_path):
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    damage("cut")(damaged)
    refused(tmp_path, damaged)
    assert "nowhere" in refused(tmp_path, "nowhere")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "prometheus_client"])
def test_what_is_not_installed_is_said_in_one_line(missing, folder, tmp_path):
    run = f"import sys; sys.modules[{missing!r}] = None; " \
          "from chapter_10_production import serve; serve.main(sys.argv[1:])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", run, "--port", "0", str(folder)], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "pip install starlette uvicorn prometheus-client (the extra 'serve')" in done.stderr


def test_other_things_it_does_not_start_with(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "long").write_text("k" * 5000)
    save_small(tmp_path / "draft", tokenizer=small_tokenizer())
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for said, flags in {
            "another --port": [folder, "--port", taken],
            "cannot listen on 203.0.113.1": [folder, "--host", "203.0.113.1", "--port", 0],
            "cannot listen on nobody.invalid": [folder, "--host", "nobody.invalid", "--port", 0],
            "empty API key": [folder, "--port", 0, "--api-key-file", "empty"],
            "no key": [folder, "--port", 0, "--api-key-file", "no key"],
            "too long for a key": [folder, "--port", 0, "--api-key-file", "long"],
            "no draft": [folder, "--port", 0, "--draft", "no draft"],
        }.items():
            with pytest.raises(SystemExit) as caught:
                serve.main([str(flag) for flag in flags])
            assert caught.value.code == 2
            assert said in capsys.readouterr().err


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may take any port")
def test_a_port_without_permission():
    with pytest.raises(OSError, match="need a permission"):
        serve.listen("127.0.0.1", 80)


def test_a_port_without_permission_as_the_system_says_it(monkeypatch):
    class Forbidden(socket.socket):
        def bind(self, address):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(serve.socket, "socket", Forbidden)
    with pytest.raises(OSError, match="port 80: ports below 1024 need a permission"):
        serve.listen("127.0.0.1", 80)


@pytest.mark.parametrize(
    "flags", [["--port", "70000"], ["--deadline", "nan"], ["--most-running", "0"],
              ["--api-key", "a", "--api-key-file", "b"], ["--host", ""], ["--name", "a\nb"]],
)  # fmt: skip
def test_bad_flags(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        serve.main(flags)
    assert caught.value.code == 2


def test_the_small_model_is_trained_once(tmp_path, monkeypatch, capsys):
    trained = []

    def small(*how, **more):
        trained.append(how)
        return GPT(GPTConfig(28, 8, n_layer=1, n_head=1, n_embd=4)), small_tokenizer()

    monkeypatch.setenv("DLFP_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(serve, "small_model", small)
    args = argparse.Namespace(folder=None)
    first, second = serve.model_folder(args), serve.model_folder(args)
    assert first == second and first.parent == tmp_path / "cache"
    assert len(trained) == 1
    assert os.listdir(tmp_path / "cache") == ["small_model"], "nothing else is left there"
    serve.load_decoder(first)


def test_a_damaged_small_model_can_be_made_anew(tmp_path, monkeypatch, capsys):
    folder = save_small(tmp_path / "small_model")
    (folder / WEIGHTS).write_bytes(b"damaged")
    monkeypatch.setenv("DLFP_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        serve.main(["--port", "0", "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert f"(remove {folder}, and it is made anew)" in capsys.readouterr().err


def test_connections_leave_room_for_files(monkeypatch):
    resource = pytest.importorskip("resource", reason="needs the system's limits")
    for files, most in ((1024, 256), (300, 54), (60, 1), (resource.RLIM_INFINITY, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, files=files: (files, files))
        assert serve.most_connections(256) == most
