"""What evaluations during training warn of."""

import pytest

from aloll_cli.metrics.words import TOKENIZERS
from aloll_cli.training.evaluators import GeneratedReward

FIRST = [f"the answer number {i} is another one" for i in range(20)]


def record(responses: list[str]) -> dict[str, object]:
    empty, repeated = sum(not text for text in responses) / len(responses), 1 - len(set(responses)) / len(responses)
    return {"responses": responses, "empty": empty, "repeated": repeated}


@pytest.mark.parametrize(
    ("responses", "said"),
    [
        (FIRST, None),
        ([*FIRST[:16], *["you are welcome"] * 4], None),  # 17 of 20 differ
        (
            [*FIRST[:12], *["you are welcome"] * 8],
            "many prompts get the same response: 35% of responses are duplicates",
        ),
        (
            [f"no no no no no no {i // 5}" for i in range(20)],
            "responses are repetitive: distinct-1 fell from 0.186 to 0.036",
        ),
        ([*FIRST[:15], *[""] * 5], "25% of the responses are empty"),
    ],
)
def test_what_looks_like_collapse(responses: list[str], said: str | None):
    found = GeneratedReward(responder=None, prompts=20).collapse(record(FIRST), record(responses))
    assert found is None if said is None else found.startswith(said)


def test_repetitive_responses_are_seen_in_a_script_without_spaces_too():
    first = [f"问题{chr(0x4E00 + 7 * i)}{chr(0x5E00 + 11 * i)}的答案很好" for i in range(20)]
    repetitive = [f"不不不不不不不不{chr(0x4E00 + i // 5)}" for i in range(20)]
    seen = GeneratedReward(responder=None, prompts=20, words=TOKENIZERS["zh"])
    # of 9 characters in each of 20 responses: 7 the same and 40 others of 180, then 1 and 4 others
    assert seen.collapse(record(first), record(repetitive)) == (
        "responses are repetitive: distinct-1 fell from 0.261 to 0.028 at equal numbers of characters"
    )
