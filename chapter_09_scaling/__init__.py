"""Chapter 9: many processes for one model, more of a model in one machine, and what it takes."""

from __future__ import annotations

from chapter_09_scaling.accounting import activation_bytes, forward_flops, training_flops
from chapter_09_scaling.accumulation import accumulated
from chapter_09_scaling.backends import run
from chapter_09_scaling.blockwise_attention import blockwise_attend
from chapter_09_scaling.checkpointing import checkpoint, checkpointed
from chapter_09_scaling.cluster import A100_CLUSTER, LAPTOPS, Cluster
from chapter_09_scaling.communicator import Communicator, RankError, SingleProcess
from chapter_09_scaling.expert_parallel import expert_data_parallel, expert_parallel_layer
from chapter_09_scaling.grid import grid
from chapter_09_scaling.half_precision import HalfLinear, half_precision, rounded
from chapter_09_scaling.launch import launch
from chapter_09_scaling.layouts import Layout
from chapter_09_scaling.linear_attention import linear_attend, linear_attend_step
from chapter_09_scaling.local import LocalCommunicator
from chapter_09_scaling.long_gpt import LongGPT
from chapter_09_scaling.lora import add_lora, lora_parameters, lora_state_dict, merge_lora
from chapter_09_scaling.loss_scaling import LossScaler
from chapter_09_scaling.mixture_of_experts import ExpertLayer, MixtureOfExperts, with_balance
from chapter_09_scaling.mpi import MPICommunicator
from chapter_09_scaling.parallel_figures import plot_memory_by_stage, plot_overlap
from chapter_09_scaling.pipeline import Pipeline
from chapter_09_scaling.pipeline_figures import plot_timelines
from chapter_09_scaling.pipeline_schedules import gpipe, one_forward_one_backward
from chapter_09_scaling.power_law import (
    PowerLaw,
    bootstrap,
    compute_optimal,
    fit_power_law,
    interval,
)
from chapter_09_scaling.replicas import DataParallel
from chapter_09_scaling.sharding import ZeRO, sharded
from chapter_09_scaling.shared_batches import SharedBatches, next_token_loss, shared
from chapter_09_scaling.simulator import Report, best_layout, simulate
from chapter_09_scaling.tensor_parallel import tensor_parallel_gpt
from chapter_09_scaling.vocab_parallel import vocab_parallel_cross_entropy

__all__ = [
    "A100_CLUSTER",
    "Cluster",
    "Communicator",
    "DataParallel",
    "ExpertLayer",
    "HalfLinear",
    "LAPTOPS",
    "Layout",
    "LocalCommunicator",
    "LongGPT",
    "LossScaler",
    "MPICommunicator",
    "MixtureOfExperts",
    "Pipeline",
    "PowerLaw",
    "RankError",
    "Report",
    "SharedBatches",
    "SingleProcess",
    "ZeRO",
    "accumulated",
    "activation_bytes",
    "add_lora",
    "best_layout",
    "blockwise_attend",
    "bootstrap",
    "checkpoint",
    "checkpointed",
    "compute_optimal",
    "expert_data_parallel",
    "expert_parallel_layer",
    "fit_power_law",
    "forward_flops",
    "gpipe",
    "grid",
    "half_precision",
    "interval",
    "launch",
    "linear_attend",
    "linear_attend_step",
    "lora_parameters",
    "lora_state_dict",
    "merge_lora",
    "next_token_loss",
    "one_forward_one_backward",
    "plot_memory_by_stage",
    "plot_overlap",
    "plot_timelines",
    "rounded",
    "run",
    "sharded",
    "shared",
    "simulate",
    "tensor_parallel_gpt",
    "training_flops",
    "vocab_parallel_cross_entropy",
    "with_balance",
]
