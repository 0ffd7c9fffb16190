"""Training and encoding by byte pairs: how long both take.

    python tests/benchmarks/byte_pairs.py --text tinyshakespeare.txt --gpt2 FOLDER
"""

from __future__ import annotations

import argparse
import time

from chapter_02_text_generation import BPETokenizer
from utils.data import load_text


def timed(job):
    start = time.perf_counter()
    result = job()
    return result, time.perf_counter() - start


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", help="a text file, or tinyshakespeare; else the built-in text")
    parser.add_argument("--gpt2", help="a folder with GPT-2's encoder.json and vocab.bpe")
    parser.add_argument("--vocab-size", type=int, default=1024)
    args = parser.parse_args(argv)
    text = load_text(args.text)
    trained, seconds = timed(lambda: BPETokenizer.train(text, args.vocab_size))
    print(f"{len(text):,} characters")
    print(f"  training {trained.vocab_size} tokens: {seconds:.2f} s")
    if args.gpt2:
        tokenizer = BPETokenizer.from_gpt2(args.gpt2)
        ids, seconds = timed(lambda: tokenizer.encode(text))
        print(f"  encoding into {len(ids):,} of GPT-2's tokens: {seconds:.2f} s")


if __name__ == "__main__":
    main()
