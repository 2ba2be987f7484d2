"""Bitwise reproducible results on a GPU (``deterministic=true``). On a CPU they are so anyway, for one number of threads."""

from __future__ import annotations

import os

# cuBLAS reads it when it is first used; flash attention (by transformers) when a model is loaded
ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}


def prepare_environment(deterministic: bool) -> None:
    """Set the environment variables of this process and its workers; to be called before anything is computed on a GPU."""
    if deterministic:
        os.environ.update(ENVIRONMENT)


def use_deterministic_algorithms() -> None:
    """Let torch use deterministic algorithms and no TF32; it raises an error where it has no such algorithm."""
    import torch

    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
