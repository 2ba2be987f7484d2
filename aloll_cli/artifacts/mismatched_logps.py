"""Per-token log-probs under π_ref of a run's mismatched pairs: prompts of its steps with responses to other prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.artifacts.reference_logps import ReferenceLogps
from aloll_cli.store.store import Artifact, Job, Store
from aloll_cli.store.tables import write_blocks

if TYPE_CHECKING:
    import pyarrow as pa

    from aloll_cli.artifacts.training_data import Loaded, LoggedData
    from aloll_cli.training.mismatched import MismatchedPairs
    from aloll_cli.training.sampling import Draws


class MismatchedLogps(Artifact):
    """One row per pair, in the order of the steps: id (of the prompt's row), response_id, row (number of the pair), logps."""

    kind, stage = "reference-logps", "train"

    def __init__(self, every: ReferenceLogps, data: LoggedData, draws: Draws) -> None:
        """Log-probs as ``every`` computes them, of what ``draws`` draws from the data."""
        self.every, self.data, self.draws = every, data, draws
        self.name = f"{every.name}-mismatched-s{draws.seed}"

    def identity(self) -> dict[str, Any]:
        return self.every.identity() | {"pairs": "mismatched", "feed": self.data.drawing(), "draws": self.draws.identity()}

    def inputs(self) -> dict[str, Artifact]:
        return self.data.signals() | self.every.inputs()

    def check_input(self, needed: Artifact, store: Store) -> None:
        self.data.check_input(needed, store)

    def pairs(self, loaded: Loaded) -> MismatchedPairs:
        """The pairs of all steps. Raises UserError if all responses are to one prompt."""
        from aloll_cli.training.mismatched import mismatched_pairs

        assert loaded.units is None  # a unit is a row
        sampler = loaded.sampler(self.draws)
        drawn = [sampler.rows(step) for step in range(self.draws.steps(loaded.kept_units))]
        return mismatched_pairs(loaded.examples.tokens, loaded.examples.groups[0], drawn, self.draws.seed)

    def make(self, job: Job) -> None:
        loaded = self.data.load(job)
        pairs = self.pairs(loaded)
        compute = self.every.computing(job, pairs)

        def block(start: int, stop: int) -> pa.Table:
            import pyarrow as pa

            chosen = list(range(start, stop))
            logps = pa.array(compute(chosen), type=pa.list_(pa.float32()))
            ids = loaded.examples.ids
            names = {"id": ids(pairs.prompts[chosen]), "response_id": ids(pairs.responses[chosen])}
            return pa.table(names | {"row": pa.array(chosen, type=pa.int64()), "logps": logps})

        write_blocks(job, "logps", len(pairs), "reference log-probs of mismatched pairs", block)
