"""Wizard of Wikipedia in FaithDial's format: the original responses, faithful to the knowledge or not."""

from dataclasses import dataclass

from aloll_cli.tasks.grounded import KnowledgeDialogue, Written


@dataclass(kw_only=True)
class Wow(KnowledgeDialogue):
    """Knowledge-grounded dialogue, noisy: the original responses (arXiv 1811.01241)."""

    written = Written.first
    download = "Wizard of Wikipedia has to be downloaded (parl.ai) and converted to FaithDial's format"
