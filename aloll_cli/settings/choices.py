"""Options with named choices."""

from __future__ import annotations

from enum import Enum

from aloll_cli.errors import UserError


class Split(Enum):
    """The prompts that evaluate and generate generate responses to."""

    train = "the prompts of the responses that are learned from"
    validation = "the prompts that checkpoints are selected on"
    test = "prompts that nothing else uses"


class References(Enum):
    """The logged responses to a prompt that BLEU and ROUGE compare generated ones with."""

    best = "the one with the highest stored reward; the first of a row if none is stored"
    all = "all"


# what counts as a word in metrics of text; sacrebleu's names, which are no identifiers of Python
Words = Enum(
    "Words",
    {
        "auto": "by the script of the responses in the data: 13a (English), zh, char (Japanese, Thai) or intl (all others)",
        "13a": "English: words between white space; BLEU by sacrebleu's 13a, ROUGE by rouge-score's own tokenizer with stemming",
        "intl": "languages with spaces: sacrebleu's intl",
        "zh": "Chinese: sacrebleu's zh, where each Chinese character is a word",
        "char": "each character is a word",
        "ja-mecab": "Japanese: sacrebleu's ja-mecab; needs pip install 'sacrebleu[ja]'",
        "ko-mecab": "Korean: sacrebleu's ko-mecab; needs pip install 'sacrebleu[ko]'",
    },
)


class Sort(Enum):
    """The order in which runs are listed."""

    date = "the latest first"
    gain = "the greatest gain first"
    validation = "the best validation score first"


class Format(Enum):
    """The output format of inspect, compare, judge and runs."""

    page = "for people"
    json = "for programs: one JSON object"
    csv = "a row per method, all digits (compare)"
    markdown = "a table of GitHub's kind (compare)"
    latex = "a table of booktabs (compare)"

    def is_json(self, stage: str) -> bool:
        """Whether a stage that prints no tables prints JSON. Raises UserError for the format of a table."""
        if self not in (Format.page, Format.json):
            raise UserError(f"format={self.name}: {stage} prints no such table; compare does.", "format=json")
        return self is Format.json
