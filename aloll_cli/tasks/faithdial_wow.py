"""FaithDial and Wizard of Wikipedia together, in FaithDial's format."""

from dataclasses import dataclass

from aloll_cli.tasks.grounded import KnowledgeDialogue, Written


@dataclass(kw_only=True)
class FaithdialWow(KnowledgeDialogue):
    """Knowledge-grounded dialogue, clean and noisy: rewritten responses and original ones."""

    written = Written.both
    download = "Wizard of Wikipedia has to be downloaded (parl.ai), converted to FaithDial's format and joined with it"
