"""Let a model write: one that train_gpt.py left, or a folder from Hugging Face.

python chapter_07_attention/generate.py runs/train_gpt/model --prompt "The "
python chapter_07_attention/generate.py gpt2/ --prompt "Deep learning is" --top-k 40
"""

from __future__ import annotations

import sys
from pathlib import Path

from chapter_07_attention import from_pretrained, load_tokenizer, pieces, save_pretrained, stream
from chapter_07_attention.small_model import small_model
from utils.commandline import number, parse, parser, script, whole_number, write_metrics


def arguments(argv):
    flags = parser("generate", "Write with a trained or pretrained model, token by token.")
    flags.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                       help="a model; without it, a small one is trained first")  # fmt: skip
    prompt = flags.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", help="the text to continue")
    prompt.add_argument("--ids", type=whole_number(0), nargs="+", metavar="ID",
                        help="the same as token ids")  # fmt: skip
    flags.add_argument("--tokens", type=whole_number(1), default=300, help="how many at most")
    flags.add_argument("--samples", type=whole_number(1), default=1, help="how many texts")
    flags.add_argument("--temperature", type=number(least=0), default=0.8, help="0: the likeliest")
    flags.add_argument("--top-k", type=whole_number(1), help="of the likeliest so many")
    flags.add_argument("--top-p", type=number(above=0, most=1), help="of the likeliest this share")
    flags.add_argument(
        "--min-p", type=number(least=0, most=1), help="at least so likely as the best"
    )
    return parse(flags, argv)


def kept_model(args) -> Path:
    """Where a model trained for half a minute on the built-in text is kept from now on."""
    folder = args.out / ("quick_model" if args.quick else "model")
    if not (folder / "config.json").exists():
        print("No folder was given: a small model learns from Python's language reference first.\n")
        model, tokenizer = small_model(steps=4 if args.quick else 1500)
        save_pretrained(model, folder, tokenizer)
    return folder


def first_ids(args, tokenizer, vocab_size: int) -> list[int]:
    """What to continue, as ids; ValueError where there is nothing, or no such token."""
    if args.ids is not None:
        ids = args.ids
    elif tokenizer is None:
        raise ValueError(f"{args.folder} holds no tokenizer: give the prompt as --ids 1 2 3")
    elif args.prompt is not None:
        ids = tokenizer.encode(args.prompt)
    else:
        ids = []
    if not ids and tokenizer is not None:
        ids = [next(iter(tokenizer.special_tokens.values()), 0)]
    if max(ids) >= vocab_size:
        raise ValueError(
            f"the prompt holds token {max(ids)}; the model knows 0 to {vocab_size - 1}"
        )
    return ids


def prompt_of(args, tokenizer) -> str:
    """What was given to be continued, as it is shown; nothing where nothing was given."""
    if args.ids is None:
        return args.prompt or ""
    return " ".join(map(str, args.ids)) if tokenizer is None else tokenizer.decode(args.ids)


@script
def main(argv=None) -> None:
    args = arguments(argv)
    folder = args.folder or kept_model(args)
    model, tokenizer = from_pretrained(folder), load_tokenizer(folder)
    ids = first_ids(args, tokenizer, model.config.vocab_size)
    # Whatever is special ends a document, and so does what began this one.
    end = None if tokenizer is None else next(iter(tokenizer.special_tokens.values()), None)
    how = {name: getattr(args, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    texts = []
    for _ in range(args.samples):
        tokens = stream(model, ids, min(args.tokens, 20) if args.quick else args.tokens, end, **how)
        written = (f" {i}" for i in tokens) if tokenizer is None else pieces(tokenizer, tokens)
        texts.append(show(prompt_of(args, tokenizer), written))
    write_metrics(args.out, {"texts": texts, "parameters": sum(p.size for p in model.parameters())})


def show(begin: str, written) -> str:
    """Print what comes as it comes; returns all of it."""
    # First a piece, then the prompt: if either is refused, nothing was printed.
    text = begin + next(written, "")
    sys.stdout.write(text)
    for piece in written:
        sys.stdout.write(piece)
        sys.stdout.flush()
        text += piece
    sys.stdout.write("\n")
    return text


if __name__ == "__main__":
    main()
