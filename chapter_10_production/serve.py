"""Serve a language model over HTTP, in the way of OpenAI's API.

python chapter_10_production/serve.py
python chapter_10_production/serve.py runs/train_gpt/model --port 8000 --api-key-file key.txt
curl http://127.0.0.1:8000/v1/completions -H "Content-Type: application/json" \\
     -d '{"prompt": "The ", "max_tokens": 40}'
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import ipaddress
import json
import logging
import os
import socket
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from chapter_02_text_generation import Tokenizer
from chapter_07_attention import needed_tokenizer, save_pretrained
from chapter_07_attention.small_model import small_model
from chapter_10_production.decoder import Decoder
from chapter_10_production.engine import Engine
from chapter_10_production.engine_thread import EngineThread
from chapter_10_production.limits import BACKLOG, LimitBodies, LogRequests
from chapter_10_production.quantized_files import load_decoder
from chapter_10_production.sampling_parameters import SamplingParameters
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.data import cache_folder
from utils.memory import keep_memory

CONTEXT = 128  # tokens, of the model that is trained where none is given
OTHER_FILES = 64  # that the process holds open besides connections
KEY = "DLFP_API_KEY"
LONGEST_KEY = 4096  # characters of its file


def arguments(argv):
    flags = parser("serve", "Serve a language model over HTTP, in the way of OpenAI's API.")
    add = flags.add_argument
    add("folder", nargs="?", type=Path, metavar="MODEL_FOLDER",
        help="a model; without it, a small one is trained once and kept")  # fmt: skip
    add("--name", help="the model's name for clients; that of its folder")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=whole_number(0, 65535), default=8000, help="0 takes a free one")
    keys = flags.add_mutually_exclusive_group()
    keys.add_argument("--api-key-file", type=Path, metavar="FILE",
                      help=f"holds the key that clients must send (or set {KEY})")  # fmt: skip
    keys.add_argument("--api-key", metavar="KEY", help="the key itself, for all here to see")
    add("--most-running", type=whole_number(1), default=32, help="texts written at once")
    add("--most-waiting", type=whole_number(0), default=64, help="texts that wait for it")
    add("--most-connections", type=whole_number(1), default=256, help="served at once")
    add("--cached-tokens", type=whole_number(1), metavar="N",
        help="room in the cache; enough for all that run")  # fmt: skip
    add("--draft", type=Path, metavar="FOLDER",
        help="a smaller model with the same tokens, which proposes some")  # fmt: skip
    add("--deadline", type=number(above=0), default=120.0, metavar="SECONDS",
        help="after which a text ends, finished or not")  # fmt: skip
    add("--grace", type=number(least=0), default=30.0, metavar="SECONDS",
        help="for texts to be finished in when the server is told to end")  # fmt: skip
    args = parse(flags, argv)
    if not args.host.strip():
        flags.error("--host is an address of this machine, such as 127.0.0.1")
    if args.name is not None and not (args.name.strip() and args.name.isprintable()):
        flags.error(f"--name is one line of letters, not {args.name!r}")
    if args.quick:
        args.port = 0
    return args


def api_key(args) -> str | None:
    """The key that clients must send; the file's, the argument's, or the environment's."""
    if args.api_key_file is not None:
        try:
            with open(args.api_key_file, encoding="utf-8") as file:
                text = file.read(LONGEST_KEY + 1)
        except UnicodeDecodeError:
            raise ValueError(f"{args.api_key_file} is not a text: a key is one") from None
        if len(text) > LONGEST_KEY:
            raise ValueError(f"{args.api_key_file} is too long for a key")
        return text.strip()
    return args.api_key if args.api_key is not None else os.environ.get(KEY)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; OSError, with what to do, where that cannot be."""
    listener = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # A second server is to fail here, though this one has no model to answer with yet.
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter for names that no host can have
        if listener is not None:
            listener.close()
        advice = {
            errno.EADDRINUSE: "another program listens there; give another --port",
            errno.EACCES: "ports below 1024 need a permission; give another --port",
        }.get(getattr(error, "errno", None), getattr(error, "strerror", None) or str(error))
        raise OSError(f"cannot listen on {host}, port {port}: {advice}") from None
    return listener


def model_folder(args) -> Path:
    """Where the model is; the small one is trained for half a minute, the first time."""
    if args.folder is not None:
        return args.folder
    folder = cache_folder() / "small_model"
    if not folder.exists():
        print("No folder was given: a small model learns from Python's language reference first.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, and whoever was faster keeps the place.
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            model, tokenizer = small_model(CONTEXT, steps=1000, batch=4)
            made = save_pretrained(model, Path(beside) / "model", tokenizer)
            with contextlib.suppress(OSError):
                made.rename(folder)
    return folder


def load(args) -> tuple[Decoder, Tokenizer, str]:
    """The model, its tokenizer and its name; ValueError where they do not fit one another."""
    if args.quick and args.folder is None:
        model, tokenizer = small_model(32, steps=2, batch=2, characters=20_000)
        return Decoder.from_model(model), tokenizer, args.name or "small_model"
    folder = model_folder(args)
    try:
        model = load_decoder(folder)
        tokenizer = needed_tokenizer(folder, model.config.vocab_size)
    except (OSError, ValueError) as error:
        if args.folder is None:
            raise ValueError(f"{error} (remove {folder}, and it is made anew)") from None
        raise
    known, needed = tokenizer.vocab_size, model.config.vocab_size
    if known != needed:
        raise ValueError(f"{folder}: the model has {needed} tokens and the tokenizer {known}")
    return model, tokenizer, args.name or folder.resolve().name


def make_engine(args, model: Decoder, tokenizer: Tokenizer) -> Engine:
    """The engine, after a token by which it has shown that it works."""
    try:
        engine = Engine(
            model,
            tokenizer,
            end=next(iter(tokenizer.special_tokens.values()), None),
            cached_tokens=args.cached_tokens,
            most_running=args.most_running,
            draft=None if args.draft is None else load_decoder(args.draft),
        )
    except MemoryError:
        raise ValueError("the cache does not fit into memory: give fewer --cached-tokens") from None
    tried = engine.generate([[0]], SamplingParameters(max_tokens=1, temperature=0))[0]
    if tried.finish_reason == "error":
        raise ValueError("the model's first token is not a number: its weights are damaged")
    engine.written = 0  # of what it serves
    return engine


def most_connections(wanted: int) -> int:
    """As many as wanted, or as the system's limit on open files has room for."""
    try:
        import resource
    except ImportError:  # Windows
        return wanted
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return wanted
    # As many again get an answer of why not, and BACKLOG more may be accepted at once.
    return max(1, min(wanted, (files - OTHER_FILES - BACKLOG) // 2))


def address_of(listener: socket.socket, host: str) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def warn_if_open(listener: socket.socket, key: str | None) -> None:
    here = listener.getsockname()[0].partition("%")[0]
    if key is None and not ipaddress.ip_address(here).is_loopback:
        warnings.warn(
            "everybody who can reach this machine can use the model: set a key, or listen on "
            "127.0.0.1",
            stacklevel=2,
        )


def ask(address: str, key: str | None, name: str) -> dict[str, Any]:
    """Ask the server for its health and for a completion, as a client would."""
    host = address.partition("//")[2]
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body = {"model": name, "prompt": [0], "max_tokens": 8, "temperature": 0}
    begin = time.monotonic()
    connection = http.client.HTTPConnection(host, timeout=5)
    found = {}
    for method, path, data in [
        ("GET", "/health", None),
        ("POST", "/v1/completions", json.dumps(body)),
    ]:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        found[path] = json.loads(response.read())
        if response.status != 200:
            raise ValueError(f"the server answered {path} with {response.status}: {found[path]}")
    connection.close()
    answer = found["/v1/completions"]
    return {
        "health": found["/health"]["status"],
        "text": answer["choices"][0]["text"],
        "tokens": answer["usage"]["completion_tokens"],
        "answer_seconds": time.monotonic() - begin,
    }


@script
def main(argv=None) -> None:
    args = arguments(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    keep_memory()
    key = api_key(args)
    with listen(args.host, args.port) as listener:
        serve(args, listener, key)


def serve(args, listener: socket.socket, key: str | None) -> None:
    # Not above: where the extra is missing, these say so, and the script says it in one line.
    from chapter_10_production.app import Settings, make_app
    from chapter_10_production.attention_view import attention_route
    from chapter_10_production.graceful_server import GracefulServer
    from chapter_10_production.metrics import Metrics
    from chapter_10_production.protocol import WireLimits

    settings = Settings(api_key=key, deadline=args.deadline)
    warn_if_open(listener, key)
    model, tokenizer, name = load(args)
    engine = make_engine(args, model, tokenizer)
    thread = EngineThread(engine, args.most_waiting, Metrics())
    routes = [attention_route(model, tokenizer)]
    app = LogRequests(make_app(thread, tokenizer, name, settings, routes, [LimitBodies]))
    address, asked = address_of(listener, args.host), {}

    def ready() -> None:
        print(f"Serving {name} at {address} (to end, press Ctrl-C)", flush=True)
        if args.quick:
            threading.Thread(target=try_out, daemon=True).start()

    def try_out() -> None:
        try:
            asked.update(ask(address, key, name))
        except Exception as error:
            asked["error"] = str(error)
        finally:
            server.end()

    limits = WireLimits(most_connections=most_connections(args.most_connections))
    server = GracefulServer(app, thread, args.grace, limits, ready)
    thread.start()
    begin = time.monotonic()
    asyncio.run(server.serve_until_asked(listener))
    thread.stop(1)
    if "error" in asked:
        raise ValueError(f"the server did not answer itself: {asked['error']}")
    report = {"model": name, "weights_bytes": model.nbytes, **asked}
    if args.quick:
        print(f"It is {asked['health']}, and continues its first token with {asked['text']!r}.")
    else:
        print(f"It wrote {engine.written:,} tokens in {time.monotonic() - begin:.0f} s.")
        report.update(tokens=engine.written, served_seconds=time.monotonic() - begin)
    write_metrics(args.out, report)


if __name__ == "__main__":
    main()
