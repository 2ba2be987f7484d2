"""Wizard of Wikipedia in FaithDial's form: what people answered, faithful to the knowledge or not."""

from dataclasses import dataclass

from aloll_cli.tasks.grounded import KnowledgeDialogue, Written


@dataclass(kw_only=True)
class Wow(KnowledgeDialogue):
    """Knowledge-grounded dialogue, noisy: responses as they were before anybody corrected them."""

    written = Written.first
    download = "Wizard of Wikipedia is a download (parl.ai), to be brought into FaithDial's form"
