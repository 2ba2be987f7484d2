"""Splits of the prompts of a source that has none: by a hash of the prompt, so that no prompt is in two of them."""

from __future__ import annotations

import hashlib


def prompt_key(prompt: str) -> str:
    """16 hexadecimal digits that identify a prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def drawn_split(prompt: str, validation: float, test: float) -> str:
    """The split of a prompt.

    Args:
        prompt: the prompt.
        validation: share of the prompts that go to validation.
        test: share of the prompts that go to test.
    """
    share = int(prompt_key(prompt)[:8], 16) / 2**32  # in [0, 1), uniform over prompts
    return "validation" if share < validation else "test" if share < validation + test else "train"
