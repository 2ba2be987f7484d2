"""Overlap of generated responses with logged responses (BLEU, ROUGE) and with given knowledge (coverage, density).

Pure functions: texts in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aloll_cli.metrics.intervals import by_prompt, interval_of, mean_with_interval, resampled_sums
from aloll_cli.metrics.words import ENGLISH, TextTokenizer

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU, BLEUScore

    from aloll_cli.arrays import FloatArray

ROUGES = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}  # rouge-score's names: ours


@dataclass(frozen=True)
class Against:
    """Generated responses with the logged responses to the same prompts, for BLEU and ROUGE.

    Attributes:
        responses: (G · k,) generated responses, k per prompt, those to the same prompt adjacent.
        references: (G,) one or more logged responses per prompt.
        resamples: number of bootstrap resamples over prompts.
        tokenizer: what counts as a word.
    """

    responses: Sequence[str]
    references: Sequence[Sequence[str]]
    resamples: int
    tokenizer: TextTokenizer = ENGLISH

    @cached_property
    def _each(self) -> int:
        return len(self.responses) // len(self.references)

    @cached_property
    def _pairs(self) -> list[tuple[str, list[str]]]:
        references = [[text.strip() for text in texts] for texts in self.references for _ in range(self._each)]
        return list(zip((response.strip() for response in self.responses), references, strict=True))

    def figures(self) -> dict[str, Any]:
        """Corpus BLEU (0 to 100) and mean ROUGE-1, ROUGE-2 and ROUGE-L (0 to 1), each with its interval."""
        return {"bleu": self.bleu()} | self.rouge()

    def bleu(self) -> dict[str, Any]:
        """Corpus BLEU as sacrebleu's command line computes it; the interval is from corpora of resampled prompts (Koehn 2004).

        ``sacrebleu REFERENCES -i RESPONSES -m bleu -b -w 12 -tok NAME`` gives the same figure for one response per line: exp
        smoothing, no effective order.
        """
        bleu = self.tokenizer.bleu
        counts = np.array([_counts(bleu.sentence_score(response, references)) for response, references in self._pairs])
        of_prompts = counts.reshape(len(self.references), self._each, -1).sum(axis=1)
        return {
            "mean": _corpus_bleu(bleu, counts.sum(axis=0)),
            "ci95": interval_of(
                len(of_prompts),
                lambda: np.array([_corpus_bleu(bleu, sums) for sums in resampled_sums(of_prompts, self.resamples)]),
            ),
        }

    def rouge(self) -> dict[str, Any]:
        """F1 of ROUGE-1, ROUGE-2 and ROUGE-L against the best-matching reference; means over prompts.

        With tokenizer 13a, ``python -m rouge_score.rouge --use_stemmer --noaggregate`` gives the same figures: rouge-score's own
        tokenizer, which keeps a to z and digits only, and Porter stemming. With other tokenizers its scorer gets their
        lower-cased words, without stemming. None for all three where the tokenizer finds no word in any reference.
        """
        if not any(self.tokenizer.read_by_rouge(text) for texts in self.references for text in texts):
            return dict.fromkeys(ROUGES.values())
        scorer = self.tokenizer.rouge(list(ROUGES))
        scores = [scorer.score_multi(references, response) for response, references in self._pairs]
        return {
            ours: mean_with_interval(by_prompt(np.array([s[name].fmeasure for s in scores]), self._each), self.resamples)
            for name, ours in ROUGES.items()
        }


def _counts(score: BLEUScore) -> list[int]:
    """Matching and total n-grams for n = 1 … 4, then the words of the response and of the reference closest in length."""
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def _corpus_bleu(bleu: BLEU, sums: FloatArray) -> float:
    order = bleu.max_ngram_order
    correct, total = ([int(count) for count in part] for part in (sums[:order], sums[order : 2 * order]))
    score = bleu.compute_bleu(
        correct, total, int(sums[-2]), int(sums[-1]), smooth_method=bleu.smooth_method, max_ngram_order=order
    )
    return float(score.score)


def grounding(
    responses: Sequence[str], knowledge: Sequence[str | None], resamples: int, tokenizer: TextTokenizer = ENGLISH
) -> dict[str, Any]:
    """Extractive coverage and density: means over prompts that have knowledge and at least one non-empty response.

    Args:
        responses: (G · k,) generated responses, k per prompt, those to the same prompt adjacent.
        knowledge: (G,) the text that the responses should be based on; None for prompts without one.
        resamples: number of bootstrap resamples over prompts.
        tokenizer: what counts as a word; punctuation marks count too.

    Returns:
        Coverage Σ|f| / |y| in [0, 1] and density Σ|f|² / |y|, where f are the fragments that a response y copies from the
        knowledge. None for both if no prompt has knowledge.
    """
    each = len(responses) // len(knowledge)
    found = np.full((len(responses), 2), np.nan)
    for i, response in enumerate(responses):
        source, tokens = knowledge[i // each], tokenizer.pieces(response)
        if source is not None and tokens:
            lengths = np.array(fragments(tokens, tokenizer.pieces(source)), dtype=np.float64)
            found[i] = [lengths.sum() / len(tokens), (lengths**2).sum() / len(tokens)]
    means = [by_prompt(column, each) for column in found.T]
    return {
        name: mean_with_interval(values, resamples) if len(values) else None
        for name, values in zip(("coverage", "density"), means, strict=True)
    }


def fragments(response: Sequence[str], source: Sequence[str]) -> list[int]:
    """Lengths of the fragments that a response shares with a source, found greedily (Grusky et al. 2018, figure 3).

    Going left to right, the longest match that starts at the response's current token is a fragment. In the source the
    search continues after each match, as in the published algorithm.
    """
    lengths, i = [], 0
    while i < len(response):
        longest, j = 0, 0
        while j < len(source):
            shared = 0
            while i + shared < len(response) and j + shared < len(source) and response[i + shared] == source[j + shared]:
                shared += 1
            longest = max(longest, shared)
            j += max(shared, 1)
        if longest:
            lengths.append(longest)
        i += max(longest, 1)
    return lengths
