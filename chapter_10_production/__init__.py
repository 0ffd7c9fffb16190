"""Chapter 10: a model goes into the world: served, made smaller, and exported."""

from __future__ import annotations

from chapter_10_production.batch_sampling import TokenLogprob, draw
from chapter_10_production.decoder import Decoder
from chapter_10_production.distillation import distillation_loss, divergence
from chapter_10_production.engine import Completion, Engine
from chapter_10_production.engine_thread import EngineThread, Observer, QueueFull, Unavailable
from chapter_10_production.hugging_face_export import export_pretrained
from chapter_10_production.matrix import Matrix
from chapter_10_production.model_card import model_card
from chapter_10_production.onnx_export import save_onnx, to_onnx
from chapter_10_production.paged_cache import PagedCache
from chapter_10_production.pages import PagePool
from chapter_10_production.pruning import Masked, prune_
from chapter_10_production.quantization import Int4Matrix, Int8Matrix, quantize, quantized
from chapter_10_production.quantized_files import load_decoder, save_decoder
from chapter_10_production.sampling_parameters import SamplingParameters
from chapter_10_production.sequence import Progress
from chapter_10_production.streams import DeadlineExceeded, EngineDied, ServerStopped, Stream
from chapter_10_production.structured_pruning import importance, most_important, shrunk

__all__ = [
    "Completion",
    "DeadlineExceeded",
    "Decoder",
    "Engine",
    "EngineDied",
    "EngineThread",
    "Int4Matrix",
    "Int8Matrix",
    "Masked",
    "Matrix",
    "Observer",
    "PagePool",
    "PagedCache",
    "Progress",
    "QueueFull",
    "SamplingParameters",
    "ServerStopped",
    "Stream",
    "TokenLogprob",
    "Unavailable",
    "distillation_loss",
    "divergence",
    "draw",
    "export_pretrained",
    "importance",
    "load_decoder",
    "model_card",
    "most_important",
    "prune_",
    "quantize",
    "quantized",
    "save_decoder",
    "save_onnx",
    "shrunk",
    "to_onnx",
]
