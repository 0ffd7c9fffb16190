"""A trained GPT learns another kind of text three ways: by all weights, by LoRA, by its last layer.

python chapter_09_scaling/fine_tune.py
python chapter_09_scaling/fine_tune.py --base tinyshakespeare.txt --data names.txt
python chapter_09_scaling/fine_tune.py --model runs/train_gpt/model --data names.txt
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Sequence

import numpy as np

from chapter_02_text_generation import CharacterTokenizer, Tokenizer
from chapter_03_neural_nets import Batches, Parameter, evaluate, train
from chapter_05_gradient_mastery import AdamW, cross_entropy, in_threads
from chapter_07_attention import (
    GPT,
    Corpus,
    GPTConfig,
    fit,
    from_pretrained,
    needed_tokenizer,
    save_pretrained,
    text_corpus,
    written_by,
)
from chapter_08_optimization import linear
from chapter_09_scaling.attention_figures import plot_adaptations
from chapter_09_scaling.lora import add_lora, lora_parameters, lora_state_dict, merge_lora
from utils import manual_seed
from utils.commandline import beginning, number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_names, load_text, split_names
from utils.plotting import save_figure
from utils.weights import save_weights

JUDGED = 100  # blocks of a text


class Way(NamedTuple):
    """What is trained: the parameters, which may be made for it, and the highest rate."""

    trained: Callable[[GPT, object], Sequence[Parameter]]
    lr: float


def all_weights(model: GPT, args) -> Sequence[Parameter]:
    return list(model.parameters())


def adapters_only(model: GPT, args) -> Sequence[Parameter]:
    return lora_parameters(add_lora(model, args.rank, args.alpha))


def last_layer(model: GPT, args) -> Sequence[Parameter]:
    """What comes after the other layers, but for a head that is the embedding as well."""
    model.requires_grad_(False)
    for part in (model.layers[-1], model.norm, *([] if model.config.tied else [model.head])):
        part.requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]


WAYS = {
    "all weights": Way(all_weights, 1e-3),
    "LoRA": Way(adapters_only, 1e-2),
    "last layer": Way(last_layer, 3e-3),
}


def arguments(argv):
    flags = parser("fine_tune", "Adapt a trained GPT to another kind of text, and see what it "
                   "forgets.")  # fmt: skip
    known = ", ".join(known_names("text"))
    flags.add_argument("--model", metavar="FOLDER", help="a saved model; else one is trained here")
    flags.add_argument("--base", metavar="NAME|FILE",
                       help=f"learnt first: {known}, or a text; else the built-in")  # fmt: skip
    flags.add_argument("--data", metavar="NAME|FILE", help="the new text; else names of colours")
    flags.add_argument("--base-steps", type=whole_number(1), default=400, help="of the first text")
    flags.add_argument("--steps", type=whole_number(1), default=200, help="of the new one, each")
    flags.add_argument("--batch", type=whole_number(1, 65_536), default=12, help="texts a step")
    flags.add_argument("--rank", type=whole_number(1, 4096), default=4, help="of LoRA's matrices")
    flags.add_argument("--alpha", type=number(above=0), default=8, help="LoRA's scale times rank")
    flags.add_argument("--lr-factor", type=number(above=0), default=1, help="times all rates")
    flags.add_argument("--threads", type=whole_number(1, 64), default=2,
                       help="parts of every batch")  # fmt: skip
    args = parse(flags, argv)
    args.sizes = (64, 2, 4, 64)  # context, layers, heads, width
    if args.quick:
        args.sizes = (16, 2, 2, 16)
        args.base_steps, args.steps = min(args.base_steps, 3), min(args.steps, 3)
    return args


def load_texts(args) -> tuple[str, str]:
    """The text learnt first, and the new one."""
    texts = [load_text(args.base), load_text(args.data) if args.data else colour_names()]
    return tuple(beginning(args, text) for text in texts)


def colour_names() -> str:
    return "\n".join(name for part in split_names(load_names()) for name in part) + "\n"


def corpus_of(text: str, tokenizer: Tokenizer, block_size: int) -> Corpus:
    """Chapter 7's `text_corpus`, of which no more than the beginning is judged."""
    corpus = text_corpus(text, block_size, tokenizer=tokenizer)
    return corpus._replace(validation=tuple(part[:JUDGED] for part in corpus.validation))


def trained_model(args, texts: tuple[str, str]) -> tuple[GPT, Corpus, Corpus]:
    """A model that knows the first of two texts, and both as examples in its tokens."""
    if args.model:
        model = from_pretrained(args.model)
        tokenizer = needed_tokenizer(args.model, model.config.vocab_size)
        size = model.config.block_size
        return (model, *(corpus_of(text, tokenizer, size) for text in texts))
    tokenizer = CharacterTokenizer.train("".join(texts))
    config = GPTConfig(tokenizer.vocab_size, *args.sizes, tied=False)
    old, new = (corpus_of(text, tokenizer, config.block_size) for text in texts)
    model = GPT(config)
    fit(model, old, args.base_steps, args.batch, threads=args.threads, judged=1,
        description="the first text")  # fmt: skip
    return model, old, new


def adapt(way: Way, name: str, base: GPT, old: Corpus, new: Corpus, args):
    """A copy of the base that has learnt the new text, its optimiser, and how well on both."""
    manual_seed(args.seed)
    model = GPT(base.config)
    model.load_state_dict(base.state_dict())
    rate = linear(way.lr * args.lr_factor, args.steps)
    optimizer = AdamW(way.trained(model, args), rate, betas=(0.9, 0.99))

    def judge(model: GPT) -> dict[str, float]:
        losses = [evaluate(model, *corpus.validation)["loss"] for corpus in (new, old)]
        return dict(zip(("loss", "old"), losses))

    first = {"step": 0, **judge(model)}
    history = train(
        model,
        optimizer,
        Batches(*new.train, batch_size=min(args.batch, len(new.train[0]))),
        args.steps,
        loss=in_threads(lambda m, ids, targets: cross_entropy(m(ids), targets), args.threads),
        evaluate=judge,
        evaluate_every=max(args.steps // 8, 1),
        description=name,
    )
    return model, optimizer, [first, *history.evaluations]


def kilobytes_of_moments(optimizer: AdamW) -> float:
    state = optimizer.state_dict()
    return sum(a.nbytes for name, a in state.items() if "exp_avg" in name) / 1000


@script
def main(argv=None) -> None:
    args = arguments(argv)
    base, old, new = trained_model(args, load_texts(args))
    total = sum(p.size for p in base.parameters())
    print(f"A GPT of {total:,} parameters that has learnt one text learns another: {args.steps} "
          f"steps of {args.batch}\n")  # fmt: skip
    print(
        f"  {'':12}{'trained':>9}{'of all':>8}{'moments (kB)':>14}{'new text':>10}{'old text':>10}"
    )
    metrics, lines, adapted = {"parameters": total, "steps": args.steps}, {}, None
    for name, way in WAYS.items():
        model, optimizer, lines[name] = adapt(way, name, base, old, new, args)
        if not lines.keys() - {name}:
            before = lines[name][0]
            print(f"  {'before':12}{'':31}{before['loss']:10.4f}{before['old']:10.4f}")
            metrics.update(val_nll_before=before["loss"], old_nll_before=before["old"])
        trained = sum(p.size for p in optimizer.parameters())
        found = {
            "trained": trained,
            "share": trained / total,
            "moments_kb": kilobytes_of_moments(optimizer),
            "val_nll": lines[name][-1]["loss"],
            "old_nll": lines[name][-1]["old"],
        }
        print(f"  {name:12}{{trained:9,}}{{share:8.1%}}{{moments_kb:14,.1f}}{{val_nll:10.4f}}"
              "{old_nll:10.4f}".format(**found))  # fmt: skip
        metrics.update({f"{k}_{name.lower().replace(' ', '_')}": v for k, v in found.items()})
        adapted = model if name == "LoRA" else adapted
    save_weights(args.out / "adapter.safetensors", lora_state_dict(adapted))
    ids = new.validation[0][:1]
    with_adapters = adapted.eval()(ids).data
    merged = merge_lora(adapted)
    metrics["difference_after_merging"] = float(np.abs(merged(ids).data - with_adapters).max())
    metrics["sample"] = written_by(merged, new, 20 if args.quick else 200, temperature=0.8)
    print("\nWith LoRA it writes:\n\n    " + metrics["sample"].replace("\n", "\n    "))
    save_pretrained(merged, args.out / "model", new.tokenizer)
    write_metrics(args.out, metrics)
    names = (args.data or "names of colours", args.base or "Python's reference")
    save_figure(plot_adaptations(lines, names), args.out / "forgetting.png")
    print(f"\nMerged into the weights, the logits differ by "
          f"{metrics['difference_after_merging']:.1e}.\nThe merged model is in {args.out}/model/, "
          f"its adapters alone beside it;\nwhat each learns and forgets is drawn in "
          f"{args.out}/")  # fmt: skip


if __name__ == "__main__":
    main()
