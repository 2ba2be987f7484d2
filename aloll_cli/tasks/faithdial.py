"""FaithDial: Wizard of Wikipedia with its unfaithful responses written anew."""

from dataclasses import dataclass

from aloll_cli.tasks.grounded import KnowledgeDialogue, Written


@dataclass(kw_only=True)
class Faithdial(KnowledgeDialogue):
    """Knowledge-grounded dialogue, clean: responses that keep to the knowledge."""

    written = Written.anew
    hub = "McGill-NLP/FaithDial"
    hub_revision = "refs/convert/parquet"  # the default branch holds a loading script, which datasets no longer runs
