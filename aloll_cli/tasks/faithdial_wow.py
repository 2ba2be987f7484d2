"""FaithDial and Wizard of Wikipedia together, in FaithDial's form."""

from dataclasses import dataclass

from aloll_cli.tasks.grounded import KnowledgeDialogue, Written


@dataclass(kw_only=True)
class FaithdialWow(KnowledgeDialogue):
    """Knowledge-grounded dialogue, clean and noisy: responses written anew and those before."""

    written = Written.both
    download = "Wizard of Wikipedia is a download (parl.ai), to be brought into FaithDial's form and joined with that"
