"""Every collective on every size, dtype and root, beside NumPy on the stacked inputs of all ranks.

One launch runs the whole table and reports on each case; the tests look at the report.
"""

from __future__ import annotations

import hashlib

import numpy as np

DTYPES = ["float32", "float64", "int32", "int64"]
OPS = {op.__name__: op for op in (np.add, np.maximum, np.minimum, np.multiply)}
ALGORITHMS = ("ring", "tree", "naive")
LAYOUTS = [((), "C"), ((3, 5), "C"), ((3, 5), "transposed"), ((4, 6), "strided"), ((2, 0, 3), "C")]


def inputs(ranks: int, shape: tuple, dtype: str, op: str = "add", layout: str = "C") -> list:
    """What each rank gives; nothing overflows, and products of floats stay near 1."""
    rng = np.random.default_rng(sum(shape) + ranks)
    given = []
    for _ in range(ranks):
        if dtype.startswith("float"):
            whole = rng.uniform(0.5, 1.5, size=shape) * rng.choice([-1, 1], size=shape)
        else:
            most = 4 if op == "multiply" else 10**6
            whole = rng.integers(-most, most, size=shape)
        array = np.array(whole).astype(dtype)
        if layout == "transposed":
            array = np.ascontiguousarray(array.T).T
        elif layout == "strided":
            array = np.repeat(array, 2, axis=-1)[..., ::2]
        given.append(array)
    return given


def sizes(ranks: int) -> list:
    return sorted({0, 1, ranks - 1, ranks, ranks + 1, 997})


def cut(array: np.ndarray, parts: int) -> list:
    """The chunks of `reduce_scatter`: nearly equal, in order, and all."""
    ends = [array.size * i // parts for i in range(parts + 1)]
    return [array.reshape(-1)[a:b] for a, b in zip(ends, ends[1:])]


def folded(given: list, op: str = "add") -> np.ndarray:
    return OPS[op].reduce(np.stack(given), axis=0, dtype=given[0].dtype)


class Table:
    """The report of one rank: what was found in each case of each family."""

    def __init__(self, comm) -> None:
        self.comm, self.families = comm, {}

    def add(self, family, case, call, expected, given, same=True, sent=None) -> None:
        """Call twice, and note what a test wants to know; `same`: on all ranks the same bits."""
        copies, before = [np.array(array) for array in given], self.comm.sent_bytes
        found = call()
        sent_bytes = self.comm.sent_bytes - before
        again = call()
        scale = float(np.abs(expected).max(initial=0)) or 1.0
        fits = (found.shape, found.dtype) == (expected.shape, expected.dtype)
        self.families.setdefault(family, {})[case] = {
            "fits": fits,
            "got": f"{found.dtype} of {found.shape}, not {expected.dtype} of {expected.shape}",
            "error": float(np.abs(found - expected).max(initial=0)) / scale if fits else None,
            "digest": hashlib.sha256(found.tobytes()).hexdigest() if same else None,
            "again": found.tobytes() == again.tobytes(),
            "unchanged": all(a.tobytes() == b.tobytes() for a, b in zip(copies, given)),
            "shares": any(np.shares_memory(found, array) for array in given),
            "eps": float(np.finfo(found.dtype).eps) if found.dtype.kind == "f" else 0.0,
            "sent": sent_bytes,
            "theory": sent,
        }

    def all_reduce(self, algorithm, given, case, op="add") -> None:
        comm, own, sent = self.comm, given[self.comm.rank], None
        if algorithm == "ring" and own.size % comm.size == 0:
            sent = 2 * (comm.size - 1) * own.nbytes // comm.size
        self.add(f"all_reduce {algorithm}", f"{op}, {case}",
                 lambda: comm.all_reduce(own, OPS[op], algorithm), folded(given, op), [own],
                 sent=sent)  # fmt: skip

    def reduce_scatter(self, given, case, op="add") -> None:
        comm, own = self.comm, given[self.comm.rank]
        even = own.size % comm.size == 0
        self.add("reduce_scatter", f"{op}, {case}", lambda: comm.reduce_scatter(own, OPS[op]),
                 cut(folded(given, op), comm.size)[comm.rank], [own], same=False,
                 sent=(comm.size - 1) * own.nbytes // comm.size if even else None)  # fmt: skip

    def all_gather(self, given, case) -> None:
        comm, own = self.comm, given[self.comm.rank]
        self.add("all_gather", case, lambda: comm.all_gather(own),
                 np.concatenate([array.reshape(-1) for array in given]), [own],
                 sent=(comm.size - 1) * own.nbytes)  # fmt: skip
        flat = np.ascontiguousarray(given[0]).reshape(-1)
        chunk = cut(flat, comm.size)[comm.rank].copy()
        self.add("all_gather", f"of a length, {case}",
                 lambda: comm.all_gather(chunk, flat.size), flat, [chunk])  # fmt: skip

    def broadcast(self, given, case) -> None:
        comm, own = self.comm, given[self.comm.rank]
        for root in range(comm.size):
            self.add("broadcast", f"from {root}, {case}", lambda: comm.broadcast(own, root),  # noqa: B023
                     given[root], [own])  # fmt: skip

    def all_to_all(self, size, dtype) -> None:
        """Pieces of several lengths, some of none."""
        n, rank = self.comm.size, self.comm.rank
        pieces = [[inputs(n, ((size + i + 2 * j) % 5,), dtype)[i] for j in range(n)]
                  for i in range(n)]  # fmt: skip
        own, awaited = pieces[rank], [pieces[i][rank] for i in range(n)]

        def call():
            incoming = [np.full_like(piece, 9) for piece in awaited]
            return np.concatenate(self.comm.all_to_all(own, incoming))

        self.add("all_to_all", f"{size} {dtype}", call, np.concatenate(awaited), own, same=False,
                 sent=sum(piece.nbytes for j, piece in enumerate(own) if j != rank))  # fmt: skip

    def send_and_receive(self, given, case) -> None:
        own, left = given[self.comm.rank], given[self.comm.rank - 1]
        self.add("send and receive", case, lambda: around(self.comm, own), left, [own], same=False,
                 sent=own.nbytes)  # fmt: skip


def around(comm, own: np.ndarray) -> np.ndarray:
    """From left to right: rank 0 sends first, the others receive first."""
    out = np.empty(own.shape, own.dtype)
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    if comm.rank == 0:
        comm.send(own, right)
    comm.receive(out, left)
    if comm.rank:
        comm.send(own, right)
    return out


def table(comm) -> dict:
    rows, n = Table(comm), comm.size
    for dtype in DTYPES:
        for size in sizes(n):
            given, case = inputs(n, (size,), dtype), f"{size} {dtype}"
            rows.all_reduce("ring", given, case)
            if dtype != "float32" and size != 997:
                continue  # one by one, not all with all
            for algorithm in ("tree", "naive"):
                rows.all_reduce(algorithm, given, case)
            rows.reduce_scatter(given, case)
            rows.all_gather(given, case)
            rows.broadcast(given, case)
            rows.all_to_all(size, dtype)
            if n > 1:
                rows.send_and_receive(given, case)
    for op in ("maximum", "minimum", "multiply"):
        for dtype in ("float32", "int64"):
            given, case = inputs(n, (997,), dtype, op), f"997 {dtype}"
            for algorithm in ALGORITHMS:
                rows.all_reduce(algorithm, given, case, op)
            rows.reduce_scatter(given, case, op)
    for shape, layout in LAYOUTS:
        given, case = inputs(n, shape, "float64", layout=layout), f"{layout} {shape}"
        for algorithm in ALGORITHMS:
            rows.all_reduce(algorithm, given, case)
        rows.reduce_scatter(given, case)
        rows.all_gather(given, case)
        rows.broadcast(given, case)
        if n > 1 and shape:
            rows.send_and_receive(given, case)
    rows.all_reduce("ring", inputs(n, (1_000_000,), "float32"), "a million float32")
    comm.barrier()
    return rows.families


def beside_mpi(comm) -> dict:
    """Ours and MPI's own collectives on the same arrays: the largest differences, in units
    of what a dtype can tell apart; 1 for whole numbers that differ."""
    MPI, world, worst = comm.MPI, comm.comm, {}
    theirs = {"add": MPI.SUM, "maximum": MPI.MAX, "minimum": MPI.MIN, "multiply": MPI.PROD}
    n, rank = comm.size, comm.rank

    def note(name: str, ours: np.ndarray, other: np.ndarray) -> None:
        if other.dtype.kind == "i":
            wrong = float(not np.array_equal(ours, other))
        else:
            scale = float(np.abs(other).max(initial=0)) or 1.0
            wrong = (
                float(np.abs(ours - other).max(initial=0))
                / scale
                / float(np.finfo(other.dtype).eps)
            )
        worst[name] = max(worst.get(name, 0.0), wrong)

    for size in sizes(n):
        for dtype in DTYPES:
            for op in theirs if size == 997 else ["add"]:
                theirs_op = theirs[op]
                own = inputs(n, (size,), dtype, op)[rank]
                out = np.empty_like(own)
                world.Allreduce(own, out, theirs_op)
                for algorithm in ALGORITHMS:
                    note("Allreduce", comm.all_reduce(own, OPS[op], algorithm), out)
                counts = [part.size for part in cut(own, n)]
                out = np.empty(counts[rank], dtype)
                world.Reduce_scatter(own, out, counts, theirs_op)
                note("Reduce_scatter", comm.reduce_scatter(own, OPS[op]), out)
            own = inputs(n, (size,), dtype)[rank]
            out = np.empty(n * size, dtype)
            world.Allgather(own, out)
            note("Allgather", comm.all_gather(own), out)
            for root in range(n):
                out = own.copy()
                world.Bcast(out, root)
                note("Bcast", comm.broadcast(own, root), out)
            counts = [[(size + i + 2 * j) % 5 for j in range(n)] for i in range(n)]
            mine = np.arange(sum(counts[rank])).astype(dtype) + 100 * rank
            awaited = [counts[i][rank] for i in range(n)]
            out = np.empty(sum(awaited), dtype)
            world.Alltoallv([mine, counts[rank]], [out, awaited])
            pieces = np.split(mine, np.cumsum(counts[rank])[:-1])
            incoming = [np.empty(count, dtype) for count in awaited]
            note("Alltoallv", np.concatenate(comm.all_to_all(pieces, incoming)), out)
    return worst


def outs(comm) -> dict:
    """`out=`: another array, the given one, and those that do not fit."""
    own, expected = np.arange(6.0) + comm.rank, np.arange(6.0) * comm.size + sum(range(comm.size))
    out, last = np.empty(6), comm.size - 1
    found = {"another": comm.all_reduce(own, out=out) is out and bool((out == expected).all())}
    found["input unchanged"] = own[0] == comm.rank
    found["broadcast"] = comm.broadcast(own, last, out=out) is out and out[0] == last
    found["in place"] = comm.all_reduce(own, out=own) is own and bool((own == expected).all())
    found["refused"] = []
    for bad in (np.empty(5), np.empty((6, 1)), np.empty(6, np.float32), np.empty(12)[::2]):
        for call in (comm.all_reduce, comm.broadcast):
            found["refused"].append(message(lambda: call(own, out=bad)))  # noqa: B023
    return {name: said if name == "refused" else bool(said) for name, said in found.items()}


def message(call) -> str:
    """What a call that must fail says; nothing if it does not fail."""
    try:
        call()
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def refusals(comm) -> dict:
    """Arguments that are wrong on every rank: what each call says, and the group stays whole."""
    one, n = np.ones(3), comm.size
    said = {
        "algorithm": message(lambda: comm.all_reduce(one, algorithm="star")),
        "root": message(lambda: comm.broadcast(one, n)),
        "negative root": message(lambda: comm.broadcast(one, -1)),
        "to": message(lambda: comm.send(one, n)),
        "itself": message(lambda: comm.send(one, comm.rank)),
        "strings": message(lambda: comm.all_reduce(np.array(["a"]))),
        "objects": message(lambda: comm.broadcast(np.array([None]))),
        "few pieces": message(lambda: comm.all_to_all([one] * (n - 1), [one] * n)),
        "many pieces": message(lambda: comm.all_to_all([one] * n, [one] * (n + 1))),
        "chunk": message(lambda: comm.all_gather(np.ones(5), length=2)),
        "strided": message(lambda: comm.receive(np.ones(6)[::2], (comm.rank + 1) % n)),
    }
    comm.barrier()
    return said


def numbers(comm) -> list:
    """0-d arrays from left to right, and from all to all."""
    given = [np.array(10.0 * comm.rank + i) for i in range(comm.size)]
    found = around(comm, given[0])
    to_all = comm.all_to_all(given, [np.empty(()) for _ in given])
    return [found.item(), list(found.shape), [a.item() for a in to_all]]


def own_piece(comm) -> str:
    """all_to_all where what a rank has for itself does not fit what it is to fill."""
    incoming = [np.ones(3) for _ in range(comm.size)]
    outgoing = [np.ones(1 if i == comm.rank else 3) for i in range(comm.size)]
    return message(lambda: comm.all_to_all(outgoing, incoming))


def small_works(comm) -> dict:
    return {"outs": outs(comm), "refusals": refusals(comm), "own piece": own_piece(comm)}


def many_empty_sends(comm) -> int:
    """Both ranks send a thousand empty arrays before they take any: none waits for room."""
    empty = np.empty(0)
    for _ in range(1000):
        comm.send(empty, 1 - comm.rank)
    for _ in range(1000):
        comm.receive(empty, 1 - comm.rank)
    return comm.calls
