"""Export a model: a folder for Hugging Face's transformers, and an ONNX file, each tried at once.

python chapter_10_production/export.py
python chapter_10_production/export.py runs/train_gpt/model --data tinyshakespeare.txt
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np

from chapter_02_text_generation import BPETokenizer, Tokenizer
from chapter_03_neural_nets import predict
from chapter_07_attention import GPT, from_pretrained, load_tokenizer
from chapter_07_attention.small_model import small_model
from chapter_10_production.card_facts import Data, HeldOut, judged_on_names, judged_on_text
from chapter_10_production.hugging_face_export import (
    check_replaceable,
    export_pretrained,
    known_to_transformers,
    transformers_model,
    transformers_tokenizer,
)
from chapter_10_production.model_card import model_card, parameter_count
from chapter_10_production.onnx_export import load_onnx, onnxruntime_model, save_onnx
from utils.commandline import (
    QUICK_CHARACTERS,
    beginning,
    parse,
    parser,
    script,
    whole_number,
    write_metrics,
)
from utils.data import (
    kind_of,
    known_names,
    load_names,
    load_text,
    looks_like_names,
    split_names,
    split_text,
)

FOLDER, FILE = "huggingface", "model.onnx"
TOLERANCE = 1e-4  # of the largest logit, or of 1: more than rounding explains


def arguments(argv):
    flags = parser("export", "Export a model to Hugging Face's files and to ONNX, and try both.")
    flags.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                       help="a model; without it, a small one is trained first")  # fmt: skip
    known = ", ".join(known_names("text") + known_names("names"))
    flags.add_argument("--data", metavar="NAME|FILE",
                       help=f"what the model learnt from: {known}, or a file")  # fmt: skip
    flags.add_argument("--name", help="the model's name in its card; that of its folder")
    flags.add_argument("--license", help="under which it may be used, such as mit")
    flags.add_argument("--trained-by", metavar="COMMAND", help="the command that trained it")
    flags.add_argument("--steps", type=whole_number(1), default=300, help="of the small model")
    args = parse(flags, argv)
    if args.folder is None and (args.data or args.trained_by):
        flags.error("--data and --trained-by tell about the model of a FOLDER, which was not given")
    if args.quick:
        args.steps = min(args.steps, 4)
    return args


def check_places(args) -> None:
    """ValueError where an export would be written over the model it is made of, or over others."""
    target = (args.out / FOLDER).resolve()
    if args.folder is not None:
        source = args.folder.resolve()
        if source in (args.out.resolve(), target) or target in source.parents:
            raise ValueError(f"{args.folder} would be written over: give another --out")
    check_replaceable(target)


def trained(args) -> tuple[GPT, Tokenizer, Data, HeldOut]:
    """The small model, what it has read, and how well it guesses the last tenth of it."""
    print("No folder was given: a small model learns from Python's language reference first.\n")
    characters = QUICK_CHARACTERS if args.quick else None
    model, tokenizer = small_model(steps=args.steps, characters=characters)
    text = load_text()[:characters]
    python = ".".join(map(str, sys.version_info[:2]))
    data = Data.of(f"the language reference of Python {python}", text)
    args.trained_by = f"python chapter_10_production/export.py --steps {args.steps} --seed "
    args.trained_by += f"{args.seed}" + " --quick" * args.quick
    return model, tokenizer, data, judged_on_text(model, tokenizer, split_text(text)[1])


def held_out(args, model: GPT, tokenizer: Tokenizer | None) -> tuple[Data, HeldOut]:
    """What the model is said to have read, and how well it guesses the part that was held out."""
    if tokenizer is None:
        raise ValueError(f"{args.folder} holds no tokenizer, without which no text can be judged")
    kind = kind_of(args.data, "text")
    if kind == "images":
        raise ValueError(f"{args.data} holds pictures: a model of text has not learnt from them")
    text = "\n".join(load_names(args.data)) if kind == "names" else load_text(args.data)
    data = Data.of(Path(args.data).name, text)
    if looks_like_names(text):
        names = beginning(args, split_names(load_names(args.data))[1])
        return data, judged_on_names(model, tokenizer, names)
    return data, judged_on_text(model, tokenizer, beginning(args, split_text(text)[1]))


def difference(args, model: GPT, path: Path, theirs: Callable[[np.ndarray], np.ndarray]) -> float:
    """How far their logits are from ours, for a token, a few texts, and a full one.

    Raises ArithmeticError where that is more than rounding explains.
    """
    rng, longest, largest = np.random.default_rng(args.seed), model.config.block_size, 0.0
    for shape in [(1, 1), (3, (longest + 1) // 2), (1, longest)]:
        ids = rng.integers(model.config.vocab_size, size=shape)
        ours = predict(model, ids)
        apart = float(np.abs(theirs(ids) - ours).max())
        if not apart <= TOLERANCE * max(float(np.abs(ours).max()), 1.0):
            raise ArithmeticError(f"do not use {path}: its logits are {apart:.1e} from ours, for "
                                  f"ids of shape {shape}")  # fmt: skip
        largest = max(largest, apart)
    return largest


def check_tokens(tokenizer: Tokenizer, theirs: Any) -> None:
    """ValueError where transformers makes other tokens of a text that holds each of ours."""
    text = tokenizer.decode(range(tokenizer.vocab_size))
    # What reads like a special token always is one to transformers.
    special = {"allow_special": True} if isinstance(tokenizer, BPETokenizer) else {}
    if theirs.encode(text) != tokenizer.encode(text, **special):
        raise ValueError("transformers makes other tokens of a text than our tokenizer")


def try_folder(args, model: GPT, tokenizer: Tokenizer | None) -> float | None:
    """Open the folder in transformers: how far its logits are from ours, None if it cannot say."""
    folder = args.out / FOLDER
    if not known_to_transformers(model.config):
        print("  transformers has no such architecture; chapter 7's from_pretrained opens it")
    elif args.quick:
        print("  not tried in a quick run, which is over before transformers has started")
    else:
        apart = difference(args, model, folder, transformers_model(folder))
        print(f"  in transformers, logits differ from ours by {apart:.1e} at most")
        if tokenizer is not None:
            check_tokens(tokenizer, transformers_tokenizer(folder))
            print("  and a text that holds every token has the same tokens")
        return apart
    return None


def try_file(args, model: GPT) -> float:
    """Run the ONNX file in onnxruntime: how far its logits are from ours."""
    file = args.out / FILE
    apart = difference(args, model, file, onnxruntime_model(file))
    print(f"  in onnxruntime, logits differ from ours by {apart:.1e} at most")
    return apart


def tried(attempt: Callable[..., float | None], *given: Any) -> float | None:
    """What a runtime says, or None where it is not installed, with what to do."""
    try:
        return attempt(*given)
    except ImportError as error:
        print(f"  not tried: {error}")
        return None


def has_onnx() -> bool:
    try:
        load_onnx()
    except ImportError as error:
        print(f"No ONNX file is written: {error}\n")
        return False
    return True


@script
def main(argv=None) -> None:
    args = arguments(argv)
    check_places(args)
    data = judgement = None
    if args.folder is None:
        model, tokenizer, data, judgement = trained(args)
    else:
        model = from_pretrained(args.folder)
        tokenizer = load_tokenizer(args.folder, model.config.vocab_size)
        if args.data is not None:
            data, judgement = held_out(args, model, tokenizer)
    name = args.name or ("small_model" if args.folder is None else args.folder.resolve().name)
    with_onnx = has_onnx()
    card = model_card(model.config, name, tokenizer, data, judgement, args.trained_by,
                      args.license, f"../{FILE}" if with_onnx else None)  # fmt: skip
    metrics: dict[str, Any] = {"parameters": parameter_count(model.config)}
    print(f"{name}: {metrics['parameters']:,} parameters")
    if judgement is not None:
        metrics["held_out"] = {
            "loss": judgement.loss,
            "perplexity": judgement.perplexity,
            "bits_per_character": judgement.bits_per_character,
            "characters": judgement.characters,
        }
        print(f"  held out: {judgement.characters:,} characters, {judgement.loss:.4f} nats a "
              f"token, perplexity {judgement.perplexity:.2f}, "
              f"{judgement.bits_per_character:.4f} bits a character")  # fmt: skip

    folder = export_pretrained(model, args.out / FOLDER, card, tokenizer)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"\n{folder}/: {size:,} bytes")
    metrics["huggingface"] = {
        "bytes": size,
        "largest_difference": tried(try_folder, args, model, tokenizer),
    }
    if with_onnx:
        size = save_onnx(model, args.out / FILE, {"name": name}).stat().st_size
        print(f"\n{args.out / FILE}: {size:,} bytes")
        metrics["onnx"] = {"bytes": size, "largest_difference": tried(try_file, args, model)}
    write_metrics(args.out, metrics)
    print(f"\nWhat its users should know is in {folder}/README.md: read it over.")


if __name__ == "__main__":
    main()
