"""Position schemes on texts four times as long as those they were learnt from.

python chapter_07_attention/compare_positions.py
python chapter_07_attention/compare_positions.py --data tinyshakespeare.txt
"""

from __future__ import annotations

import numpy as np

from chapter_02_text_generation import log_softmax
from chapter_03_neural_nets import predict
from chapter_07_attention import GPT, GPTConfig, fit, in_blocks, plot_losses_by_place, text_corpus
from chapter_07_attention.config import POSITIONS
from utils import manual_seed
from utils.commandline import beginning, number, parse, parser, script, whole_number, write_metrics
from utils.data import known_names, load_text, split_text
from utils.plotting import save_figure

LONGER = 4  # times as long


def arguments(argv):
    flags = parser("compare_positions", "How position schemes bear texts longer than learnt from.")
    known = ", ".join(known_names("text"))
    flags.add_argument("--data", metavar="NAME|FILE", help=f"{known}, or a text; else the built-in")
    flags.add_argument("--positions", choices=POSITIONS, nargs="+", default=list(POSITIONS),
                       help="which schemes")  # fmt: skip
    flags.add_argument("--steps", type=whole_number(1), default=500, help="training steps each")
    flags.add_argument("--context", type=whole_number(2), default=64, help="tokens learnt from")
    flags.add_argument("--batch", type=whole_number(1), default=16, help="texts a step")
    flags.add_argument("--width", type=whole_number(1), default=64, help="numbers a token")
    flags.add_argument("--layers", type=whole_number(1), default=3, help="how many layers")
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="the highest learning rate")
    return parse(flags, argv)


def losses_by_place(model: GPT, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The mean loss at each place of blocks (N, T), all of them full: (T,)."""
    shares = log_softmax(predict(model, inputs, batch_size=16))
    return -np.take_along_axis(shares, targets[..., None], axis=-1)[..., 0].mean(axis=0)


@script
def main(argv=None) -> None:
    args = arguments(argv)
    text = beginning(args, load_text(args.data))
    if args.quick:
        args.steps, args.width, args.context = min(args.steps, 3), 16, 16
    corpus = text_corpus(text, args.context)
    longest = LONGER * args.context
    ids = corpus.tokenizer.encode(split_text(text)[1])
    inputs, targets = (part[:-1] for part in in_blocks(ids, longest))  # the last is not full
    if len(inputs) == 0:
        raise ValueError(f"the last tenth of the text is shorter than {longest} tokens")
    sizes = (corpus.tokenizer.vocab_size, longest, args.layers, 4, args.width)
    # Made before the first is learnt from: what does not fit is refused at once.
    configs = {name: GPTConfig(*sizes, positions=name) for name in args.positions}
    print(f"Learnt from {args.context} tokens at a time, judged on {longest}; {args.steps} steps\n")
    print(f"  {'nats a token':14}{f'to {args.context}':>10}{f'{args.context} to {longest}':>14}")
    metrics, losses = {"steps": args.steps}, {}
    for name, config in configs.items():
        manual_seed(args.seed)
        model = GPT(config)
        fit(model, corpus, args.steps, args.batch, args.lr, judged=1, description=name)
        losses[name] = losses_by_place(model, inputs, targets)
        near, far = (float(part.mean()) for part in np.split(losses[name], [args.context]))
        print(f"  {name:14}{near:10.4f}{far:14.4f}")
        metrics.update({f"loss_{name}": near, f"loss_{name}_beyond": far})
    save_figure(plot_losses_by_place(losses, args.context), args.out / "positions.png")
    write_metrics(args.out, metrics)
    print(f"\nThe loss at each place is drawn in {args.out}/")


if __name__ == "__main__":
    main()
