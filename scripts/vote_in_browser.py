"""Drive the page of aloll judge in a headless Chromium: two people vote on 20 pairs by keys, the browser is closed in between.

    pip install playwright && python scripts/vote_in_browser.py OUT [CHROMIUM]

OUT is a folder for artifacts and browser profiles; an evaluated run that lies in it is judged,
else a small one is trained. CHROMIUM is the browser's program (/usr/bin/chromium). No network is needed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judge_with_server import aloll, run_in
from playwright.sync_api import BrowserContext, Page, sync_playwright

PAIRS = 20
LABELS = ("A", "B", "equal", "neither")
Choice = Callable[[str, str, int], tuple[str, str]]  # (text A, text B, number of the pair) → labels helpful and safe


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def judged(out: Path, *arguments: str) -> str:
    """What ``aloll judge`` prints of the run in a folder, which is trained where there is none."""
    return aloll(out, "judge", f"runs=[{run_in(out)}]", f"judge.prompts={PAIRS}", *arguments)


class Person:
    """One voter with a browser profile of their own."""

    def __init__(self, name: str, choose: Choice, out: Path, program: str) -> None:
        self.name, self.choose, self.out, self.program = name, choose, out, program
        self.chosen: dict[tuple[str, frozenset[str]], str] = {}  # by prompt and texts: the text that won, or equal, neither
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def open(self, play: Any, page: Path) -> tuple[BrowserContext, Page]:
        context = play.chromium.launch_persistent_context(
            str(self.out / f"profile-{self.name}"), executable_path=self.program, headless=True, accept_downloads=True,
            args=["--no-sandbox"],
        )  # fmt: skip
        tab = context.new_page()
        tab.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.goto(page.as_uri())
        return context, tab

    def vote(self, tab: Page, count: int, start: int) -> None:
        for number in range(start, start + count):
            prompt, a, b = (tab.inner_text(f"#{name}") for name in ("prompt", "A", "B"))
            helpful, safe = self.choose(a, b, number)
            tab.keyboard.press(str(LABELS.index(helpful) + 1))
            tab.keyboard.press(str(LABELS.index(safe) + 1))
            self.chosen[prompt, frozenset((a, b))] = {"A": a, "B": b}.get(helpful, helpful)

    def session(self, play: Any, page: Path) -> Path:
        context, tab = self.open(play, page)
        tab.fill("#voter", self.name)
        tab.keyboard.press("Enter")
        self.vote(tab, PAIRS // 2, 0)
        context.close()
        context, tab = self.open(play, page)
        said = tab.inner_text("#progress")
        assert f"{PAIRS // 2} of {PAIRS} judged" in said, said
        self.vote(tab, PAIRS - PAIRS // 2, PAIRS // 2)
        assert f"{PAIRS} of {PAIRS} judged" in tab.inner_text("#progress")
        assert tab.is_visible("#done")
        tab.screenshot(path=str(self.out / f"done-{self.name}.png"), full_page=True)
        with tab.expect_download() as waiting:
            tab.click("#download")
        file = self.out / waiting.value.suggested_filename
        waiting.value.save_as(file)
        context.close()
        return file


def longer(a: str, b: str, number: int) -> tuple[str, str]:
    return ("A" if len(a) > len(b) else "B" if len(b) > len(a) else "equal"), "equal"


def contrary(a: str, b: str, number: int) -> tuple[str, str]:
    """The shorter one for every fourth pair, and once neither."""
    mine, _ = longer(a, b, number)
    return ("neither" if number == 7 else {"A": "B", "B": "A"}.get(mine, mine) if number % 4 == 0 else mine), "equal"


def alpha_by_hand(first: list[str], second: list[str]) -> float:
    """Krippendorff's α of two people without missing values: 1 − (n − 1) Σ_{c≠k} o_ck / Σ_{c≠k} n_c n_k."""
    values = first + second
    apart = 2 * sum(a != b for a, b in zip(first, second, strict=True))
    pairs = sum(values.count(c) * values.count(k) for c in set(values) for k in set(values) if c != k)
    return 1 - (len(values) - 1) * apart / pairs


def hostile(play: Any, out: Path, program: str) -> None:
    """A page of attacks: nothing runs, nothing is asked from outside, and all of it is shown as text."""
    from aloll_cli.cli.composition import settings_of
    from aloll_cli.judging.page import write_page
    from aloll_cli.judging.pairs import Pair
    from aloll_cli.judging.votes import page_for

    attack = (
        "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'><!-- {{7*7}} \u2028 javascript:alert(1)"
    )
    file = out / "report" / "hostile.html"
    write_page(page_for([Pair(attack, attack + "1", attack + "2")], settings_of([]).rubric), file)
    person = Person("<img src=x onerror=alert(1)>", longer, out / "hostile", program)
    context, tab = person.open(play, file)
    tab.fill("#voter", person.name)
    tab.keyboard.press("Enter")
    assert tab.inner_text("#prompt").startswith("</script><script>window.hacked=1")
    assert tab.evaluate("window.hacked") is None
    assert tab.evaluate("document.querySelectorAll('img').length") == 0
    outside = [url for url in person.requests if not url.startswith(("file:", "blob:"))]
    say(f"hostile page: scripts run: none, requests outside: {len(outside)}, complaints: {person.complaints}")
    assert outside == []
    tab.screenshot(path=str(out / "hostile.png"), full_page=True)
    context.close()


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    out = Path(sys.argv[1]).resolve()
    program = sys.argv[2] if len(sys.argv) > 2 else "/usr/bin/chromium"
    written = judged(out).strip().splitlines()[-1].removeprefix("page: ")
    people = [Person("Ann", longer, out, program), Person("Bob", contrary, out, program)]
    with sync_playwright() as play:
        files = [person.session(play, Path(written)) for person in people]
        hostile(play, out, program)
    for person in people:
        outside = [url for url in person.requests if not url.startswith(("file:", "blob:"))]
        say(f"{person.name}: {len(person.chosen)} pairs, requests outside: {len(outside)}, complaints: {person.complaints}")
        assert outside == []
        assert person.complaints == []
    found = json.loads(judged(out, f"votes=[{files[0]},{files[1]}]", "format=json"))
    first = _first_side(out, found)
    winners = [
        {key: text if text in LABELS else "first" if text.strip() == first[key[0].strip()] else "second" for key, text in chosen}
        for chosen in (person.chosen.items() for person in people)
    ]
    ann, bob = winners
    alpha = alpha_by_hand(list(ann.values()), [bob[key] for key in ann])
    scores = {"first": 1.0, "second": 0.0, "equal": 0.5, "neither": 0.5}
    rate = sum(scores[winner] for one in winners for winner in one.values()) / (2 * PAIRS)
    rate = (rate * PAIRS + 0.5 * found["identical"]) / (PAIRS + found["identical"])
    of = found["questions"]["helpful"]
    say(f"win rate {of['win_rate']}, by hand {rate:.6f}; position {of['position']}")
    say(f"alpha {of['agreement']}, by hand {alpha:.6f}")
    assert abs(of["win_rate"]["mean"] - rate) < 1e-9
    assert abs(of["agreement"]["alpha"] - alpha) < 1e-9


def _first_side(out: Path, found: dict[str, Any]) -> dict[str, str]:
    """By prompt, the first side's response, from the evaluation itself."""
    lines = (out / "reviews" / "metrics" / found["sides"][0]["run"] / "answers.jsonl").read_text().splitlines()
    return {row["prompt"].strip(): row["policy"]["response"].strip() for row in map(json.loads, lines)}


if __name__ == "__main__":
    main()
