"""What answers share with other texts: with logged responses to the same prompt, and with the knowledge they should rest on.

Pure: texts in, numbers out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.metrics.intervals import by_prompt, mean_with_interval, percentiles, resampled_sums

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU, BLEUScore

    from aloll_cli.arrays import FloatArray

ROUGES = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}  # as the library calls them, and as we do


@dataclass(frozen=True)
class Against:
    """Answers beside the logged responses to the same prompts.

    Attributes:
        answers: (G · k,) those to a prompt together.
        references: (G,) one logged response or several to each prompt.
        resamples: of the bootstrap over prompts.
    """

    answers: Sequence[str]
    references: Sequence[Sequence[str]]
    resamples: int

    @cached_property
    def _each(self) -> int:
        return len(self.answers) // len(self.references)

    @cached_property
    def _pairs(self) -> list[tuple[str, list[str]]]:
        references = [[text.strip() for text in texts] for texts in self.references for _ in range(self._each)]
        return list(zip((answer.strip() for answer in self.answers), references, strict=True))

    def figures(self) -> dict[str, Any]:
        """BLEU of the corpus (0 to 100) and mean ROUGE-1, -2 and -L (0 to 1), each with its interval."""
        return {"bleu": self.bleu()} | self.rouge()

    def bleu(self) -> dict[str, Any]:
        """sacrebleu's corpus BLEU, with the interval from whole corpora of resampled prompts (Koehn 2004)."""
        from sacrebleu.metrics.bleu import BLEU

        bleu = BLEU(effective_order=True)  # asked for by sentence, but only counts are taken from there
        counts = np.array([_counts(bleu.sentence_score(answer, references)) for answer, references in self._pairs])
        of_prompts = counts.reshape(len(self.references), self._each, -1).sum(axis=1)
        resampled = [_corpus_bleu(bleu, sums) for sums in resampled_sums(of_prompts, self.resamples)]
        return {"mean": _corpus_bleu(bleu, counts.sum(axis=0)), "ci95": percentiles(np.array(resampled))}

    def rouge(self) -> dict[str, Any]:
        """F of ROUGE-1, -2 and -L, stemmed, against the closest of several references; means over prompts.

        rouge-score knows the letters a to z and digits alone: text in other scripts scores 0.
        """
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(list(ROUGES), use_stemmer=True)
        scores = [scorer.score_multi(references, answer) for answer, references in self._pairs]
        return {
            ours: mean_with_interval(by_prompt(np.array([s[name].fmeasure for s in scores]), self._each), self.resamples)
            for name, ours in ROUGES.items()
        }


def _counts(score: BLEUScore) -> list[int]:
    """Matching n-grams and all n-grams for n = 1 … 4, words of the answer and of the reference nearest in length."""
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def _corpus_bleu(bleu: BLEU, sums: FloatArray) -> float:
    order = bleu.max_ngram_order
    correct, total = ([int(count) for count in part] for part in (sums[:order], sums[order : 2 * order]))
    return float(bleu.compute_bleu(correct, total, int(sums[-2]), int(sums[-1]), max_ngram_order=order).score)


def grounding(answers: Sequence[str], knowledge: Sequence[str | None], resamples: int) -> dict[str, Any]:
    """Extractive coverage and density of answers, means over prompts with knowledge and an answer that is not empty.

    Args:
        answers: (G · k,) those to a prompt together.
        knowledge: (G,) what they should rest on, None where there is nothing.
        resamples: of the bootstrap over prompts.

    Returns:
        Coverage Σ|f| / |y| in [0, 1] and density Σ|f|² / |y| of the fragments f that an answer y copies, each None where no
        prompt has knowledge.
    """
    each = len(answers) // len(knowledge)
    found = np.full((len(answers), 2), np.nan)
    for i, answer in enumerate(answers):
        source, tokens = knowledge[i // each], _tokens(answer)
        if source is not None and tokens:
            lengths = np.array(fragments(tokens, _tokens(source)), dtype=np.float64)
            found[i] = [lengths.sum() / len(tokens), (lengths**2).sum() / len(tokens)]
    means = [by_prompt(column, each) for column in found.T]
    return {
        name: mean_with_interval(values, resamples) if len(values) else None
        for name, values in zip(("coverage", "density"), means, strict=True)
    }


def fragments(answer: Sequence[str], source: Sequence[str]) -> list[int]:
    """Lengths of the pieces that an answer shares with a source, found greedily (Grusky et al. 2018, figure 3).

    From left to right each token of the answer begins the longest piece that it can; within the source the search goes on
    behind a match, as in the published algorithm.
    """
    lengths, i = [], 0
    while i < len(answer):
        longest, j = 0, 0
        while j < len(source):
            shared = 0
            while i + shared < len(answer) and j + shared < len(source) and answer[i + shared] == source[j + shared]:
                shared += 1
            longest = max(longest, shared)
            j += max(shared, 1)
        if longest:
            lengths.append(longest)
        i += max(longest, 1)
    return lengths


def _tokens(text: str) -> list[str]:
    """Lower-cased words, and each punctuation mark by itself."""
    return re.findall(r"\w+|[^\w\s]", text.lower())
