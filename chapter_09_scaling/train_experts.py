"""A small GPT with one perceptron a layer, and one with many of which each token asks one.

python chapter_09_scaling/train_experts.py
python chapter_09_scaling/train_experts.py --data tinyshakespeare.txt --ranks 2
mpiexec -n 2 python -m mpi4py chapter_09_scaling/train_experts.py --backend mpi
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from chapter_03_neural_nets import (
    Batches,
    History,
    count_parameters,
    evaluate,
    evaluating,
    rise_and_fall,
    train,
)
from chapter_03_neural_nets.losses import IGNORED
from chapter_05_gradient_mastery import AdamW
from chapter_07_attention import GPT, Corpus, TransformerEncoderLayer
from chapter_09_scaling import Communicator, SingleProcess, run
from chapter_09_scaling.attention_figures import plot_trainings
from chapter_09_scaling.expert_figures import plot_characters, plot_usage
from chapter_09_scaling.expert_parallel import (
    expert_data_parallel,
    expert_parallel_layer,
    gather_state,
)
from chapter_09_scaling.mixture_of_experts import ExpertLayer, recorded_routing, with_balance
from chapter_09_scaling.parallel_state import shard_state
from chapter_09_scaling.rank_scripts import (
    add_text_flag,
    add_training_flags,
    config_of,
    corpus_of,
    settings_of,
)
from chapter_09_scaling.shared_batches import SharedBatches, shared
from chapter_09_scaling.traffic import expert_parallel_bytes
from utils.blas import blas_threads
from utils.commandline import number, parse, parser, script, whole_number, write_metrics
from utils.plotting import save_figure

JUDGED_AT_ONCE = 64  # blocks
IDLE = 0.001  # an expert with a smaller share is not in use


class Trainee:
    """A model, all of it or a rank's part, and what it learns from and by."""

    def __init__(
        self,
        comm: Communicator,
        corpus: Corpus,
        settings: dict[str, Any],
        balance: float | None,
        dtype: Any = np.float32,
    ) -> None:
        """`balance` is the weight of the balance loss; None makes the dense model."""
        rng = np.random.default_rng(settings["seed"])
        self.comm, self.steps = comm, settings["steps"]
        self.config = config_of(settings, corpus.tokenizer.vocab_size)
        sizes = {"experts": settings["experts"], "top_k": settings["top_k"]}
        layer = TransformerEncoderLayer
        if balance is not None:
            layer = functools.partial(ExpertLayer, **sizes)
        self.whole = GPT(self.config, layer=layer, rng=rng).astype(dtype)
        self.model, self.before_step = self.whole, []
        if comm.size > 1:
            layer = expert_parallel_layer(comm, **sizes)
            self.model = GPT(self.config, layer=layer, rng=rng).astype(dtype)
            self.model.load_state_dict(shard_state(self.model, self.whole.state_dict()))
            self.before_step = [expert_data_parallel(comm, self.model).synchronize]
        schedule = rise_and_fall(settings["lr"], self.steps)
        self.optimizer = AdamW(
            self.model.parameters(), schedule, betas=(0.9, 0.99), weight_decay=0.1
        )
        batch = min(settings["batch"], len(corpus.train[0]))
        # A generator of its own: how often the other one was asked depends on the rank.
        rng = np.random.default_rng(settings["seed"])
        batches = Batches(*corpus.train, batch_size=batch, rng=rng)
        self.batches = SharedBatches(batches, comm)
        self.loss = shared() if balance is None else with_balance(shared(), balance)

    def train(self, steps: int, description: str) -> tuple[History, float]:
        """What happened, and the seconds of a step."""
        start = time.perf_counter()
        with blas_threads(1):  # an expert's products are too small to be shared by two
            history = train(self.model, self.optimizer, self.batches, steps, loss=self.loss,
                            before_step=self.before_step, description=description)  # fmt: skip
        return history, (time.perf_counter() - start) / steps

    def gathered(self) -> GPT:
        """The whole model, on every rank."""
        if self.comm.size > 1:
            self.whole.load_state_dict(gather_state(self.model, self.comm))
        return self.whole


def judged(model: GPT, corpus: Corpus) -> float:
    return evaluate(model, *corpus.validation, batch_size=JUDGED_AT_ONCE)["loss"]


def work(comm: Communicator, settings: dict[str, Any]) -> dict[str, Any]:
    """What a rank does: some steps beside one process in float64, then the training in float32."""
    corpus, balance = corpus_of(settings), settings["balance"]
    steps = min(settings["steps"], 20)
    together = Trainee(comm, corpus, settings, balance, np.float64)
    sent = comm.sent_bytes
    together.train(steps, f"rank {comm.rank}, float64")
    sent = (comm.sent_bytes - sent) / steps
    found, difference = together.gathered(), 0.0
    if comm.rank == 0:
        alone = Trainee(SingleProcess(), corpus, settings, balance, np.float64)
        alone.train(steps, "alone, float64")
        pairs = zip(found.parameters(), alone.model.parameters())
        difference = max(float(np.abs(p.data - q.data).max()) for p, q in pairs)
    trainee = Trainee(comm, corpus, settings, balance)
    _, seconds = trainee.train(settings["steps"], f"rank {comm.rank}")
    whole = trainee.gathered()
    loss = judged(whole, corpus) if comm.rank == 0 else None
    return {"steps": steps, "difference": difference, "sent": sent, "seconds": seconds,
            "val_nll": loss, "parameters": count_parameters(trainee.model)}  # fmt: skip


def questions(model: GPT, corpus: Corpus) -> np.ndarray:
    """How often each token of the validation text asks each expert: (layers, tokens, experts)."""
    ids, targets = corpus.validation
    vocab_size, counts = corpus.tokenizer.vocab_size, 0
    with evaluating(model):
        for start in range(0, len(ids), JUDGED_AT_ONCE):
            rows = slice(start, start + JUDGED_AT_ONCE)
            with recorded_routing() as found:
                model(ids[rows])
            real = np.flatnonzero(targets[rows] != IGNORED)
            experts = found[0].probabilities.shape[1]
            pairs = [ids[rows].reshape(-1, 1)[real] * experts + r.chosen[real] for r in found]
            tables = [np.bincount(p.ravel(), minlength=vocab_size * experts) for p in pairs]
            counts = counts + np.reshape(tables, (len(found), vocab_size, experts))
    return counts


def arguments(argv):
    flags = parser("train_experts", "Train a dense GPT, and one with a mixture of experts.")
    add_training_flags(flags, ranks=1, steps=800, batch=12, layers=2, heads=4, width=64, context=64)
    add_text_flag(flags)
    flags.add_argument("--experts", type=whole_number(1, 256), default=8,
                       help="perceptrons a layer")  # fmt: skip
    flags.add_argument("--top-k", type=whole_number(1), default=1, help="experts a token asks")
    flags.add_argument("--balance", type=number(least=0), default=1e-2, help="its loss's weight")
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="AdamW's learning rate")
    args = parse(flags, argv)
    if args.top_k > args.experts:
        flags.error(f"argument --top-k: a token cannot ask {args.top_k} of {args.experts} experts")
    if args.ranks > args.experts:
        flags.error(f"argument --ranks: {args.experts} experts cannot be cut among {args.ranks}")
    if args.quick:
        args.steps, args.width, args.context, args.heads = 3, 16, 16, 2
    return args


@script
def main(argv=None) -> None:
    args = arguments(argv)
    settings = settings_of(args)
    corpus = corpus_of(settings)
    # What is wrong is said once, before any rank starts.
    config_of(settings, corpus.tokenizer.vocab_size)
    results = [None]
    if args.ranks > 1 or args.backend == "mpi":
        results = run(work, args.backend, args.ranks, settings, patience=args.patience)
        if results is None:
            return  # a rank of MPI that is not the first
    print(f"GPTs of {args.layers} layers of {args.width}, {args.steps} steps of {args.batch} texts "
          f"of {args.context} tokens\n")  # fmt: skip
    print(f"  {'':24}{'parameters':>12}{'a token passes':>16}{'validation':>12}{'ms a step':>11}")
    metrics: dict[str, Any] = {"experts": args.experts, "top_k": args.top_k}
    histories, tables = {}, {}
    for name, balance in {"dense": None, "balanced": args.balance, "not balanced": 0.0}.items():
        trainee = Trainee(SingleProcess(), corpus, settings, balance)
        histories[name], seconds = trainee.train(args.steps, name)
        total = count_parameters(trainee.model)
        passed = total if balance is None else total - unasked(trainee.model, args.top_k)
        loss = judged(trainee.model, corpus)
        label = "one perceptron a layer" if balance is None else f"{args.experts} experts, {name}"
        print(f"  {label:24}{total:12,}{passed:16,}{loss:12.4f}{1e3 * seconds:11.1f}")
        key = name.replace(" ", "_")
        metrics.update({f"parameters_{key}": total, f"active_parameters_{key}": passed,
                        f"val_nll_{key}": loss, f"step_seconds_{key}": seconds})  # fmt: skip
        if balance is not None:
            tables[name] = questions(trainee.model, corpus)
    gain = metrics["val_nll_dense"] - metrics["val_nll_balanced"]
    print(f"\nExperts, balanced, are {abs(gain):.4f} nats {'better' if gain > 0 else 'worse'} than "
          "one perceptron a layer")  # fmt: skip
    shares = {name: t.sum(axis=1) / t[0].sum() for name, t in tables.items()}
    print("\nThe busiest expert of each layer has so many times its even share:")
    for name, of_model in shares.items():
        busiest = (of_model.max(axis=1) * args.experts).tolist()
        metrics[f"busiest_times_even_{name.replace(' ', '_')}"] = busiest
        idle = int((of_model < IDLE).sum())
        metrics[f"idle_experts_{name.replace(' ', '_')}"] = idle
        said = f"   experts with less than {IDLE:.1%} of the tokens: {idle}"
        print(f"  {name:14}" + "".join(f"{times:7.2f}" for times in busiest) + said)
    if results[0] is not None:
        report_ranks(args, corpus, results, metrics)
    write_metrics(args.out, metrics)
    save_figure(plot_trainings(histories, "Experts beside one perceptron"), args.out / "losses.png")
    save_figure(plot_usage(shares), args.out / "usage.png")
    characters = [corpus.tokenizer.decode([i]) for i in range(corpus.tokenizer.vocab_size)]
    save_figure(plot_characters(tables["balanced"], characters), args.out / "characters.png")
    print(f"\nWho asks which expert is drawn in {args.out}/: usage.png, characters.png")


def unasked(model: GPT, top_k: int) -> int:
    """The parameters of those experts that a token does not ask."""
    experts = [list(layer.mixture.experts) for layer in model.layers]
    return sum(count_parameters(expert) for of_layer in experts for expert in of_layer[top_k:])


def report_ranks(args, corpus: Corpus, results: list, metrics: dict[str, Any]) -> None:
    """Print what the ranks found, beside the single process."""
    first, ranks = results[0], len(results)
    sent = float(np.mean([result["sent"] for result in results]))
    config = config_of(vars(args), corpus.tokenizer.vocab_size)
    even = args.layers * expert_parallel_bytes(
        config, args.batch, args.context, 8, ranks, args.top_k
    ) / ranks  # fmt: skip
    metrics.update(
        ranks=ranks,
        parameters_a_rank=[result["parameters"] for result in results],
        largest_difference_float64=first["difference"],
        val_nll_ranks=first["val_nll"],
        step_seconds_ranks=first["seconds"],
        bytes_sent_a_step_float64=sent,
        bytes_of_tokens_if_even_float64=even,
    )
    print(
        f"\nThe balanced one on {ranks} ranks, of which the first holds {first['parameters']:,} "
        f"parameters:\n  {first['steps']} steps in float64 give the parameters of one process "
        f"within {first['difference']:.1e};\n  {args.steps} in float32, where rounding decides "
        f"between experts that are nearly equal, give {first['val_nll']:.4f}\n  in validation; "
        f"{1e3 * first['seconds']:.1f} ms a step. A rank sends {sent:,.0f} bytes a step (float64): "
        f"tokens, which\n  would be {even:,.0f} if all experts were asked alike, and gradients of "
        "all the rest"
    )


if __name__ == "__main__":
    main()
