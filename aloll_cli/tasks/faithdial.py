"""FaithDial: Wizard of Wikipedia with its unfaithful responses rewritten."""

from dataclasses import dataclass

from aloll_cli.tasks.grounded import KnowledgeDialogue, Written


@dataclass(kw_only=True)
class Faithdial(KnowledgeDialogue):
    """Knowledge-grounded dialogue, clean: responses that are faithful to the knowledge (arXiv 2204.10757)."""

    written = Written.anew
    hub = "McGill-NLP/FaithDial"
    hub_revision = "refs/convert/parquet"  # the default branch has a loading script, which datasets no longer runs
    licence = "mit"
