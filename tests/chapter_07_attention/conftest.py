"""What the tests of chapter 7 share: small models, Hugging Face's twins of them."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Callable

import numpy as np
import pytest
from torch_twins import NO_TORCH

from chapter_07_attention import GPT, GPTConfig, LlamaConfig, save_pretrained

NO_TRANSFORMERS = NO_TORCH.replace("PyTorch", "transformers")


@pytest.fixture
def small_gpt() -> Callable[..., GPT]:
    """A GPT of 2 layers, 2 heads and width 8 with lively weights; options change its choices."""

    def make(**options: Any) -> GPT:
        sizes = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 8}
        kind = LlamaConfig if options.pop("llama", False) else GPTConfig
        model = GPT(kind(**{**sizes, **options}), rng=np.random.default_rng(0))
        rng = np.random.default_rng(1)
        for p in model.parameters():
            p.data += rng.normal(size=p.shape) * 0.3  # of 0.02 all logits would be alike
        return model

    return make


@pytest.fixture
def gpt2_folder(small_gpt, tmp_path):
    return save_pretrained(small_gpt(), tmp_path / "gpt2")


@pytest.fixture
def llama_folder(small_gpt, tmp_path):
    model = small_gpt(llama=True, n_head=4, n_kv_head=2)
    return save_pretrained(model, tmp_path / "llama")


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def transformers():
    """Hugging Face's library, which warns of much that is none of our business."""
    pytest.importorskip("torch", reason=NO_TORCH)
    with quiet():
        library = pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    return library


@pytest.fixture
def hugging_face(transformers):
    """Models of that library: made at random, saved, read, and asked for logits."""
    import torch

    class HuggingFace:
        def make(self, family: str, **settings: Any):
            """A model with random numbers in all its parameters, biases and norms too."""
            with quiet():
                torch.manual_seed(0)
                config = getattr(transformers, f"{family}Config")(**settings)
                kind = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
                model = getattr(transformers, kind)(config).eval()
                with torch.no_grad():
                    for p in model.parameters():
                        p += torch.randn_like(p) * 0.2
            return model

        def save(self, model, folder, **options: Any):
            with quiet():
                model.save_pretrained(folder, **options)
            return folder

        def read(self, folder):
            with quiet():
                model = transformers.AutoModelForCausalLM.from_pretrained(str(folder))
            return model.float().eval()

        def logits(self, model, ids: np.ndarray) -> np.ndarray:
            with quiet(), torch.no_grad():
                return model(torch.tensor(ids)).logits.float().numpy()

    return HuggingFace()
