"""Writing with a GPT of 4 layers of width 128: our engine beside PyTorch's eager mode with a cache.

python tests/benchmarks/decoding.py               one stream, then 8 streams at once
python tests/benchmarks/decoding.py --streams 32  one stream, then 32

Each job continues prompts of 16 tokens by 112, greedily. PyTorch's twin is written as one would:
fused attention over a cache that is allocated once, in inference mode.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from interleaved import compare, need

from chapter_07_attention import GPT, GPTConfig
from chapter_10_production import Decoder, Engine, SamplingParameters
from utils.memory import keep_memory

CONFIG = GPTConfig(vocab_size=65, block_size=128, n_layer=4, n_head=4, n_embd=128)
PROMPT, TOKENS = 16, 112


def our_job(model: GPT, prompts: np.ndarray):
    engine = Engine(Decoder.from_model(model), share_prefixes=False)
    how = SamplingParameters(max_tokens=TOKENS, temperature=0)
    return lambda: [c.tokens for c in engine.generate(prompts.tolist(), how)]


def torch_job(torch, state: dict, prompts: np.ndarray):
    """The same model with the same weights."""
    F = torch.nn.functional
    state = {name: torch.tensor(array) for name, array in state.items()}
    heads, size, batch = CONFIG.n_head, CONFIG.n_embd, len(prompts)
    layers = [
        {n[len(f"layers.{i}.") :]: w for n, w in state.items() if n.startswith(f"layers.{i}.")}
        for i in range(CONFIG.n_layer)
    ]
    norm = lambda x, at, name: F.layer_norm(x, (size,), at[f"{name}.weight"], at[f"{name}.bias"])

    @torch.inference_mode()
    def write():
        shape = (CONFIG.n_layer, 2, batch, heads, CONFIG.block_size, size // heads)
        cache, ids, found, start = torch.empty(shape), torch.tensor(prompts), [], 0
        for _ in range(TOKENS):
            stop = start + ids.shape[1]
            x = state["embedding.weight"][ids] + state["positions.weight"][start:stop]
            for (keys, values), w in zip(cache, layers):
                packed = F.linear(
                    norm(x, w, "norm1"), w["self_attn.in_proj_weight"], w["self_attn.in_proj_bias"]
                )
                q, k, v = packed.view(batch, -1, 3, heads, size // heads).permute(2, 0, 3, 1, 4)
                keys[:, :, start:stop], values[:, :, start:stop] = k, v
                y = F.scaled_dot_product_attention(
                    q, keys[:, :, :stop], values[:, :, :stop], is_causal=start == 0
                )
                y = y.transpose(1, 2).reshape(batch, -1, size)
                x = x + F.linear(y, w["self_attn.out_proj.weight"], w["self_attn.out_proj.bias"])
                hidden = F.linear(norm(x, w, "norm2"), w["linear1.weight"], w["linear1.bias"])
                hidden = F.gelu(hidden, approximate="tanh")
                x = x + F.linear(hidden, w["linear2.weight"], w["linear2.bias"])
            logits = F.linear(norm(x[:, -1:], state, "norm"), state["embedding.weight"])
            ids, start = logits.argmax(dim=-1), stop
            found.append(ids[:, 0].tolist())
        return [list(tokens) for tokens in zip(*found)]

    return write


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's; for NumPy's set "
                        "OPENBLAS_NUM_THREADS to the same")  # fmt: skip
    args = parser.parse_args(argv)
    torch = need("torch")
    torch.set_num_threads(args.threads)
    keep_memory()
    model = GPT(CONFIG, rng=np.random.default_rng(0)).eval()
    for p in model.parameters():
        p.data[...] *= 3  # so that likeliest tokens are clear
    prompts = np.random.default_rng(1).integers(CONFIG.vocab_size, size=(args.streams, PROMPT))
    state = model.state_dict()
    jobs = {}
    for streams in (1, args.streams):
        some = prompts[:streams]
        pair = {
            f"ours, {streams} streams": our_job(model, some),
            f"PyTorch, {streams} streams": torch_job(torch, state, some),
        }
        ours, theirs = (job() for job in pair.values())
        if ours != theirs:
            sys.exit(f"they disagree: {ours[0]} and {theirs[0]}")
        jobs.update(pair)
    compare(f"{TOKENS} tokens a stream", jobs, args.rounds, 1)


if __name__ == "__main__":
    main()
