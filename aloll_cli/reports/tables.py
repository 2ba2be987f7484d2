"""Terminal tables on stdout: they fit 80 columns, and are plain ASCII if stdout is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from aloll_cli.artifacts.as_seen import shared_told
from aloll_cli.reports.comparison_columns import Column, caveats
from aloll_cli.reports.figures import comparison, comparison_by_subset, conclusions, words_sentence
from aloll_cli.reports.method_table import GAP, figures_of, names_of, packed
from aloll_cli.reports.printing import line as _line
from aloll_cli.reports.printing import prose as _prose
from aloll_cli.reports.printing import say as _say
from aloll_cli.reports.text import ending, interval, number
from aloll_cli.runtime.terminal import results
from aloll_cli.visible import visible

if TYPE_CHECKING:
    from aloll_cli.arrays import FloatArray
    from aloll_cli.comparison.differences import Comparison

WIDEST = 110  # columns of running text; longer lines are hard to read
PROMPT_SHOWN, RESPONSE_SHOWN = 160, 600  # characters
BAR = 40  # characters of the longest bar of a histogram


def show_comparison(metrics: dict[str, Any], folder: Path) -> None:
    """Print the metrics of a policy and of its reference, with sentences that explain them."""
    _say(f"\n{_who(metrics)} on {metrics['n']} {metrics['split']} prompts of {metrics['task']}")
    _show_sides("", comparison(metrics), _with_margin)
    for title, apart in comparison_by_subset(metrics).items():
        _say("")
        _show_sides(title, apart, _mean)  # names of subsets are long
    for sentence in conclusions(metrics):
        _say(sentence)
    results.print(_line(f"metrics: {folder / 'metrics.json'}"))  # never wrapped, so that it can be copied


def _show_sides(about: str, rows: list[tuple[str, Any, Any, Any]], shown: Callable[[Any], Text]) -> None:
    table = _table()
    for heading in (about, "policy", "reference", "gain [95% interval]"):
        table.add_column(_line(heading), justify="left" if heading == about else "right", no_wrap=heading != about)
    for name, policy, reference, gain in rows:
        table.add_row(_line(name), shown(policy), shown(reference), _gain(gain))
    results.print(table, soft_wrap=False)


def show_responses(rows: list[dict[str, Any]]) -> None:
    """Print the responses of policy and reference to the same prompts, with their rewards."""
    roles = {
        role: name for role, name in (("reward", "reward"), ("test_reward", "held-out")) if rows and role in rows[0]["policy"]
    }
    for row in rows:
        _say("")
        grid = Table.grid(padding=(0, GAP, 0, 0))
        prompt = _prose(ending(visible(row["prompt"].strip()), PROMPT_SHOWN))
        grid.add_row(_line("prompt"), *(_line(name) for name in roles.values()), prompt, style="dim")
        for side in ("policy", "reference"):
            rewards = [_line(number(row[side][role])) for role in roles]
            grid.add_row(_line(side), *rewards, _prose(visible(row[side]["response"].strip(), RESPONSE_SHOWN) or "(empty)"))
        results.print(grid, soft_wrap=False, width=min(results.width, WIDEST))


def show_methods(found: Comparison, more: Sequence[Column] = ()) -> None:
    """Print a comparison table: one row per method, each with its paired difference to a baseline.

    Args:
        found: the methods.
        more: columns to add.
    """
    _say(f"\n{found.counted}: mean [95% confidence interval]")
    naming = names_of(found)
    for chosen in packed(naming, figures_of(found, more), results.width):
        table = _table()
        for index, (heading, _) in enumerate(chosen):
            table.add_column(_line(heading), justify="left" if index < len(naming) else "right")
        for cells in zip(*(cells for _, cells in chosen), strict=True):
            table.add_row(*map(_line, cells))
        results.print(table, soft_wrap=False)
        _say("")
    for sentence in caveats(found, more):
        _say(sentence)


def show_inspection(found: dict[str, Any]) -> None:
    """Print what the model will see: a few examples, then statistics of rows, tokens and rewards."""
    for example in found["examples"]:
        stored = "" if example["stored"] is None else f", stored reward {number(example['stored'])}"
        noise = ", noise: a response to another prompt" if example["noise"] else ""
        apart = ", response tokenized apart from the prompt" if example["apart"] else ""
        cut = f", turns cut: {', '.join(example['turns_cut'])}" if example["turns_cut"] else ""
        _say(f"\n{example['id']}{stored}{noise}{cut}{apart}")
        grid = Table.grid(padding=(0, GAP, 0, 0))
        for side in ("prompt", "response"):
            grid.add_row(_line(side), _prose(visible(example[side])))
        results.print(grid, soft_wrap=False, width=min(results.width, WIDEST))
    _say("\nrows")
    for name, counts in found["rows"].items():
        _say(f"  {name}: " + (", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing"))
    for line in found["reading"]:
        _say(f"  {line}")
    _say("  no prompt is in two splits")
    _say(f"  but for white space and Unicode form: {shared_told(found['shared_prompts_but_for_form']) or 'none either'}")
    shared = shared_told(found["shared_prompts_as_seen"])
    _say(f"  as the model sees them, after the cut: {shared or 'none either'}")
    _say(f"  {words_sentence(found['words'])}")
    splits = found["splits"]
    figures = ("examples", "left_out", "noise", "prompts", "duplicates", "conflicting_ratings")
    _grid("examples", splits, {name.replace("_", " "): [str(splits[s][name]) for s in splits] for name in figures})
    _say("  selected by " + ", ".join(f"task.{name}={value}" for name, value in found["choice"].items() if value is not None))
    pairs = found["pairs"]
    headings = {"different": "pairs", "same": "the same as the model sees them: no pairs"}
    columns = {heading: [str(pairs[s][name]) for s in pairs] for name, heading in headings.items()}
    _grid("pairs of responses to a prompt with different rewards", pairs, columns)
    cuts = {f"{side} cut": [_cut(splits[s][f"{side}_cut"]) for s in splits] for side in ("prompts", "responses")}
    _grid("cut to the maximum length: count (tokens removed: mean, max)", splits, cuts)
    _chats({split: of["chats"] for split, of in splits.items()})
    for side in ("prompt", "response"):
        spread = [splits[s][f"{side}_tokens"] for s in splits]
        _grid(f"{side} tokens, percentiles", splits, {p: [f"{row[p]:.0f}" for row in spread] for p in spread[0]})
    for name in dict.fromkeys(name for rewards in found["rewards"].values() for name in rewards):
        rewards = {split: of[name] for split, of in found["rewards"].items() if name in of}
        points = next(iter(rewards.values()))["percentiles"]
        columns = {p: [number(row["percentiles"][p]) for row in rewards.values()] for p in points}
        columns = {"mean": [number(row["mean"]) for row in rewards.values()]} | columns
        _grid(f"reward {name}, percentiles", rewards, columns)
        split = "train" if "train" in rewards else next(iter(rewards))
        _say(f"\nreward {name}, histogram of {split}: lower edge of the bin, count")
        _histogram(rewards[split]["histogram"])


def _chats(splits: dict[str, dict[str, Any]]) -> None:
    """Print what chat template and tokenizer did, if they did anything that a user should know."""
    headings = {
        "turns_cut": "lost turns", "system_cut": "lost the system turn", "apart": "tokenized apart",
        "altered": "responses that the template alters", "altered_prompts": "prompts that it alters",
        "typed": "control tokens typed as text",
        "foreign": "control tokens of other models", "rejected": "rejected",
        "unknown_prompts": "prompts with unknown tokens", "unknown_responses": "responses with unknown tokens",
        "changed_prompts": "prompts that the tokenizer changes", "changed_responses": "responses that the tokenizer changes",
    }  # fmt: skip
    there = [name for name in headings if any(of[name] for of in splits.values())]
    if there:
        _grid(
            "chat template, control tokens and tokenizer: rows",
            splits,
            {headings[name]: [str(of[name]) for of in splits.values()] for name in there},
        )
    if any(of["typed"] for of in splits.values()):
        _say("  [typed: NAME] marks the name of a control token that is only text")
    if names := dict.fromkeys(name for of in splits.values() for name in of["foreign_names"]):
        _say(f"  control tokens of other models, which are ordinary text to this one: {', '.join(names)}")
    if reason := next((of["why"] for of in splits.values() if of["why"]), None):
        _say(f"  the first one rejected: {reason}")


def _grid(title: str, rows: Iterable[str], columns: dict[str, list[str]]) -> None:
    """Print a table with one row per split."""
    _say(f"\n{title}")
    table = _table()
    for heading in ("", *columns):
        table.add_column(_line(heading), justify="right" if heading else "left")
    for cells in zip(rows, *columns.values(), strict=True):
        table.add_row(*map(_line, cells))
    results.print(table, soft_wrap=False)


def _cut(cut: dict[str, Any]) -> str:
    return f"{cut['count']} ({cut['mean']:.1f}, {cut['max']})" if cut["count"] else "0"


def _histogram(histogram: dict[str, Any]) -> None:
    """Print one bar per bin, after the lower edge of the bin."""
    counts, low, high = histogram["counts"], histogram["from"], histogram["to"]
    width = (high - low) / len(counts)
    for place, count in enumerate(counts):
        bar = "#" * round(BAR * count / max(counts))
        results.print(_line(f"  {number(low + place * width):>9}  {bar:{BAR}}  {count}".rstrip()))


def show_rewards(scores: dict[str, dict[str, FloatArray]], folders: list[Path]) -> None:
    """Print the distribution of rewards.

    Args:
        scores: by split, then by name of the reward or component, (N,) rewards of the responses; the reward itself first.
        folders: the artifacts that hold them.
    """
    import numpy as np

    table = _table()
    for index, heading in enumerate(("reward", "split", "n", "mean", "std", "min", "5%", "median", "95%", "max")):
        table.add_column(_line(heading), justify="left" if index < 2 else "right")
    for name in next(iter(scores.values())):
        for split, values in ((split, found[name]) for split, found in scores.items()):
            figures = [values.mean(), values.std(), *np.percentile(values, [0, 5, 50, 95, 100])]
            table.add_row(_line(name), _line(split), _line(str(len(values))), *(_line(number(float(f))) for f in figures))
    results.print(table, soft_wrap=False)
    for folder in folders:
        results.print(_line(f"rewards: {folder / 'rewards'}"))


def _table() -> Table:
    return Table(box=RULED, padding=(0, GAP - 1, 0, 0), show_edge=False, pad_edge=False, collapse_padding=True)


# one rule under the headings, in ASCII: a table that was piped into a file can be read in any editor
RULED = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def _who(metrics: dict[str, Any]) -> str:
    return metrics["variant"] if metrics["seed"] is None else f"{metrics['variant']}, seed {metrics['seed']},"


def _with_margin(figure: Any) -> Text:
    """A mean ± half the width of its interval, or a number alone; empty for None."""
    if figure is None:
        return _line("")
    if not isinstance(figure, dict):
        return _line(number(figure))
    if figure["ci95"] is None:
        return _line(number(figure["mean"]))
    mean, (lo, hi) = figure["mean"], figure["ci95"]
    return _line(f"{number(mean)} ±{number((hi - lo) / 2, like=mean)}")


def _mean(figure: dict[str, Any]) -> Text:
    return _line(number(figure["mean"]))


def _gain(gain: dict[str, Any] | None) -> Text:
    lo, hi = (gain or {}).get("ci95") or (0, 0)
    style = "bold green" if lo > 0 else "bold red" if hi < 0 else ""
    return _line("" if gain is None else interval(gain, "+"), style)
