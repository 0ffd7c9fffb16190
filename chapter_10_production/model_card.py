"""A model's card: what somebody who finds its folder has to know before using it.

It is the README.md of the folder, in Markdown, with a head in YAML that Hugging Face's site reads.
Whoever made a card has checked what it says, or was told it. What nobody has said is not in it but
by name, among the things that are not known.
Source: Mitchell et al., 2019, Model Cards for Model Reporting, arXiv:1810.03993.
"""

from __future__ import annotations

import contextlib
import json
import math

from chapter_02_text_generation import BPETokenizer, CharacterTokenizer, Tokenizer
from chapter_07_attention import GPTConfig
from chapter_07_attention.config import shapes_of
from chapter_07_attention.hugging_face import family_of
from chapter_10_production.card_facts import Data, HeldOut
from chapter_10_production.hugging_face_export import TAG, known_to_transformers

FAMILIES = {
    "gpt2": "GPT-2's",
    "llama": "Llama's",
    "first-principles": "none that has a name",
}
NORMS = {"layer": "layer norm", "rms": "RMS norm"}


def model_card(
    config: GPTConfig,
    name: str,
    tokenizer: Tokenizer | None = None,
    data: Data | None = None,
    held_out: HeldOut | None = None,
    command: str | None = None,
    license: str | None = None,
    onnx_file: str | None = None,
) -> str:
    """The text of a card; `command` is the one that trained the model, `onnx_file` a path from it.

    Whatever is None is left out, and named as unknown where a reader would look for it.
    """
    name = one_line(name)
    parts = [
        head(config, name, data, held_out, license),
        f"# {name}\n\n{opening(config)}",
        section("The model", the_model(config, tokenizer)),
        section("What it learnt", what_it_learnt(data, held_out, command)),
        section("How well it guesses", how_well(config, held_out)),
        section("How to use it", how_to_use(config, tokenizer, onnx_file)),
        section("Limits", limits(config, tokenizer, data, held_out, command, license)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def head(
    config: GPTConfig,
    name: str,
    data: Data | None,
    held_out: HeldOut | None,
    license: str | None,
) -> str:
    """What the site reads; JSON's strings are YAML's too."""
    lines = ["---"]
    if license is not None:
        lines.append(f"license: {json.dumps(license)}")
    if known_to_transformers(config):
        lines.append("library_name: transformers")
    lines += ["pipeline_tag: text-generation", "tags:", f"- {TAG}"]
    if held_out is not None and data is not None:
        lines += [
            "model-index:",
            f"- name: {json.dumps(name)}",
            "  results:",
            "  - task:",
            "      type: text-generation",
            "    dataset:",
            f"      name: {json.dumps(one_line(data.name))}",
            "      type: text",
            "    metrics:",
            "    - type: perplexity",
            f"      value: {held_out.perplexity:.4f}",
        ]
    return "\n".join([*lines, "---"])


def opening(config: GPTConfig) -> str:
    return (
        f"A language model of {parameter_count(config):,} parameters. It reads at most "
        f"{config.block_size} tokens and says how likely each of its {config.vocab_size} tokens is "
        "to come next. It was exported by chapter 10 of *Deep Learning from First Principles*."
    )


def the_model(config: GPTConfig, tokenizer: Tokenizer | None) -> str:
    """Sizes and choices in a table."""
    shared = f", which share {config.n_kv_head} of keys and values"
    rows = {
        "family": FAMILIES[family_of(config)],
        "parameters": f"{parameter_count(config):,}",
        "layers": config.n_layer,
        "heads a layer": f"{config.n_head} of {config.head_dim} numbers"
        + (shared if config.n_kv_head < config.n_head else ""),
        "width": f"{config.n_embd}, and {config.hidden} in the perceptrons",
        "context": f"{config.block_size} tokens"
        + (f", each layer looking back {config.window}" if config.window else ""),
        "positions": config.positions,
        "norm, activation": f"{NORMS[config.norm]}, {config.activation}",
        "last matrix": "that of the embedding" if config.tied else "its own",
        "numbers": "float32",
    }
    if tokenizer is not None:
        rows["tokens"] = f"{tokenizer.vocab_size}: {tokens_of(tokenizer)}"
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def tokens_of(tokenizer: Tokenizer) -> str:
    kinds = {BPETokenizer: "byte pairs", CharacterTokenizer: "characters"}
    kind = kinds.get(type(tokenizer), "pieces of text")
    special = ", ".join(f"`{json.dumps(token)}`" for token in tokenizer.special_tokens)
    special = special.replace("|", "\\|")  # which would end the cell
    return f"{kind}, and special ones: {special}" if special else kind


def what_it_learnt(data: Data | None, held_out: HeldOut | None, command: str | None) -> str:
    parts = []
    if data is not None:
        but = "" if held_out is None else ", but for what was held out"
        parts.append(f"It learnt from {one_line(data.name)}{but}. The whole is "
                     f"{data.characters:,} characters, whose UTF-8 bytes have the SHA-256 "
                     f"`{data.sha256}`.")  # fmt: skip
    if command is not None:
        parts.append(f"It was trained by\n\n{fenced(command, 'sh')}")
    return "\n\n".join(parts)


def how_well(config: GPTConfig, held_out: HeldOut | None) -> str:
    if held_out is None:
        return ""
    return (
        f"On {held_out.characters:,} characters ({held_out.tokens:,} tokens) that were held out:\n"
        "\n| loss, nats a token | perplexity | bits a character |\n|---|---|---|\n"
        f"| {held_out.loss:.4f} | {held_out.perplexity:.2f} | "
        f"{held_out.bits_per_character:.4f} |\n\n"
        "Whoever thinks all tokens equally likely has a loss of "
        f"{math.log(config.vocab_size):.4f}. Models with other tokens are compared by bits a "
        "character alone."
    )


def how_to_use(config: GPTConfig, tokenizer: Tokenizer | None, onnx_file: str | None) -> str:
    """Commands and snippets, to be run in the card's folder."""
    commands = [
        "python chapter_07_attention/generate.py FOLDER",
        "python chapter_10_production/serve.py FOLDER",
    ]
    if tokenizer is None:
        commands = [f"{commands[0]} --ids 0"]
    parts = ["With the book's code, where FOLDER is this one:", fenced("\n".join(commands), "sh")]
    if known_to_transformers(config):
        parts += [
            "With transformers, in this folder:",
            fenced(in_transformers(tokenizer), "python"),
        ]
    if onnx_file is not None:
        parts += ["With onnxruntime, in this folder:", fenced(in_onnxruntime(onnx_file), "python")]
    return "\n\n".join(parts)


def in_transformers(tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return (
            "import torch\n"
            "from transformers import AutoModelForCausalLM\n\n"
            'model = AutoModelForCausalLM.from_pretrained(".")\n'
            "logits = model(torch.tensor([[0]])).logits  # of the token behind each"
        )
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        f'ids = tokenizer({json.dumps(beginning(tokenizer))}, return_tensors="pt")\n'
        "written = model.generate(**ids, max_new_tokens=8, do_sample=True)\n"
        "text = tokenizer.decode(written[0])"
    )


def beginning(tokenizer: Tokenizer) -> str:
    """A text that can be continued: "The ", or where it cannot be written, the first token's."""
    with contextlib.suppress(ValueError):
        tokenizer.encode("The ")
        return "The "
    return tokenizer.decode([0])


def in_onnxruntime(path: str) -> str:
    return (
        "import numpy as np\n"
        "import onnxruntime\n\n"
        f"session = onnxruntime.InferenceSession({json.dumps(path)})\n"
        "ids = np.array([[0]], np.int64)  # texts, tokens\n"
        '(logits,) = session.run(["logits"], {"ids": ids})  # of the token behind each'
    )


def limits(
    config: GPTConfig,
    tokenizer: Tokenizer | None,
    data: Data | None,
    held_out: HeldOut | None,
    command: str | None,
    license: str | None,
) -> str:
    """What to beware of, by what is known and by what is not."""
    unknown = {
        "what it learnt from": data,
        "how well it guesses": held_out,
        "how it was trained": command,
        "under which license it may be used": license,
        "which text its tokens stand for": tokenizer,
    }
    lines = [
        "Whether what it writes is true, fair or safe has not been measured for this card: it "
        "writes what is likely after a text, whatever that is.",
        f"Of a longer text, only the last {config.block_size} tokens can count.",
    ]
    if isinstance(tokenizer, CharacterTokenizer):
        lines.append("It knows the characters of its vocabulary only, and refuses all others.")
    if data is not None:
        lines.append("What it learnt from and how is what was stated when the card was made; the "
                     "weights cannot tell.")  # fmt: skip
    if not known_to_transformers(config):
        lines.append("transformers has no such architecture: the weights open in the book's code "
                     "alone.")  # fmt: skip
    missing = [what for what, fact in unknown.items() if fact is None]
    if missing:
        lines.append(f"This card was not told: {'; '.join(missing)}.")
    return "\n".join(f"- {line}" for line in lines)


def parameter_count(config: GPTConfig) -> int:
    """How many numbers are learnt, a matrix that is used twice counted once."""
    shapes = shapes_of(config)
    if config.tied:
        del shapes["head.weight"]
    return sum(math.prod(shape) for shape in shapes.values())


def section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def one_line(text: str) -> str:
    return " ".join(text.split())


def fenced(text: str, language: str) -> str:
    """A block of code, between fences longer than any in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
