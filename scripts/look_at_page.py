"""Look at the page of a run in a headless Chromium: screenshots, times with 10,000 responses, keys, attacks, accessibility.

    pip install playwright && python scripts/look_at_page.py OUT [CHROMIUM [AXE]]

OUT is a folder for pages and screenshots; an evaluated run that lies in it is looked at, else a small one is trained.
CHROMIUM is the browser's program (/usr/bin/chromium), AXE the file axe.min.js of the npm package axe-core, whose rules are
checked where it is given. No network is needed. Look at the screenshots yourself: a program does not see what is ugly.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from judge_with_server import run_in

from aloll_cli.comparison.differences import compared
from aloll_cli.comparison.runs import Run, load_run
from aloll_cli.reports.page import write_page
from aloll_cli.store.built import About, noting

MANY = 10_000  # responses
SECONDS = 2.0  # in which a page of so many opens
ROWS = 60  # at most, in the document at a time
WIDTHS = (390, 1300, 2000)
SCHEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
ATTACK = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'><svg onload='window.hacked=1'>"
    '<style>*{display:none}</style>" onmouseover="window.hacked=1" <!--<script> {{7*7}} \u2028 javascript:window.hacked=1'
)
TIMES = """() => {
  const { domContentLoadedEventEnd, loadEventEnd } = performance.getEntriesByType("navigation")[0];
  return [domContentLoadedEventEnd, loadEventEnd];
}"""
CHANGED = """([id, value, event]) => {  // milliseconds until the list is drawn anew after one of its controls has changed
  const control = document.getElementById(id), start = performance.now();
  control.value = value;
  control.dispatchEvent(new Event(event));
  document.getElementById("space").getBoundingClientRect();
  return performance.now() - start;
}"""
SCROLLED = """async () => {  // the longest of 60 frames while the list is scrolled from its beginning to its end, in milliseconds
  const list = document.getElementById("list"), frame = () => new Promise(requestAnimationFrame);
  let longest = 0, most = 0, before = await frame();
  for (let step = 1; step <= 60; step++) {
    list.scrollTop = (list.scrollHeight - list.clientHeight) * step / 60;
    const now = await frame();
    longest = Math.max(longest, now - before);
    most = Math.max(most, list.querySelectorAll("[role=option]").length);
    before = now;
  }
  return [longest, most];
}"""
STICKS = """() => [...document.querySelectorAll(".scroll")].filter((box) => box.querySelector(".figures")).every((box) => {
  box.scrollLeft = 1000;
  const first = box.querySelector("tbody th").getBoundingClientRect().left;
  const stays = Math.abs(first - box.getBoundingClientRect().left) < 1;
  box.scrollLeft = 0;
  return stays;
})"""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


@dataclass
class Watch:
    """What a browser reports while a page is open."""

    complaints: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def over(self, tab: Any) -> None:
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on(
            "request", lambda request: None if request.url.startswith(("file:", "data:")) else self.outside.append(request.url)
        )


def written(page: Path, *runs: Run) -> Path:
    write_page(compared(runs), page)
    return page


def many(run: Run) -> Run:
    """The same run with MANY responses of a realistic length to different prompts."""
    rows = []
    for place in range(MANY):
        row = run.responses[place % len(run.responses)]
        sides = {name: row[name] | {"response": f"{row[name]['response']} " * 4} for name in ("policy", "reference")}
        rows.append({"prompt": f"{row['prompt']} {place}"} | sides)
    return replace(run, responses=rows)


def copied(run: Run, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(run.folder, folder))


def hostile(run: Run, out: Path) -> Run:
    """The same run, whose every text that a model or a user chooses attacks the page."""
    folder = copied(run, out / "hostile" / "metrics" / run.name)
    with noting(folder, About("evaluate", f"aloll run task.path={ATTACK}", 1, [])):
        pass
    rows = [
        {"prompt": f"{ATTACK} {place}"} | {name: row[name] | {"response": ATTACK} for name in ("policy", "reference")}
        for place, row in enumerate(run.responses)
    ]
    metrics = run.metrics | {"variant": ATTACK, "task": ATTACK, "reward": ATTACK}
    made_of = {role: ATTACK for role in run.made_of}
    return replace(run, folder=folder, responses=rows, metrics=metrics, yaml=f"name: {json.dumps(ATTACK)}\n", made_of=made_of)


def other(run: Run, out: Path) -> Run:
    """The same run as if another method had trained it."""
    metrics = run.metrics | {"variant": "nll" if run.variant != "nll" else "seq"}
    updates = [row | {"loss": row["loss"] * 100} if "loss" in row else row for row in run.updates]
    folder = copied(run, out / "other" / "metrics" / "other-s1-test-000000000000")
    return replace(run, folder=folder, metrics=metrics, updates=updates)


class Looker:
    """A browser, and the folder for its screenshots."""

    def __init__(self, browser: Any, out: Path) -> None:
        self.browser, self.out = browser, out

    def opened(self, page: Path, width: int = 1300, scheme: str = "light", **more: Any) -> tuple[Any, Watch]:
        """A tab with a page, and what is heard from it."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        tab, watch = context.new_page(), Watch()
        watch.over(tab)
        tab.goto(page.as_uri())
        return tab, watch

    def photograph(self, page: Path) -> None:
        """Screenshots at every width, light and dark; nothing is wider than the window."""
        for width in WIDTHS:
            for scheme in SCHEMES:
                tab, watch = self.opened(page, width, scheme)
                tab.screenshot(path=str(self.out / f"{page.stem}-{width}-{scheme}.png"), full_page=True)
                needed = tab.evaluate("document.documentElement.scrollWidth")
                assert needed <= width, f"{page.stem} is {needed} px wide at {width}"
                assert tab.evaluate(STICKS), f"{page.stem}: a first column is scrolled away at {width}"
                assert (watch.complaints, watch.outside) == ([], [])
                tab.context.close()
        say(f"{page.name}: screenshots at {WIDTHS} px, {' and '.join(SCHEMES)}; nothing overflows, first columns stay")

    def measure(self, page: Path) -> None:
        """How fast a page of many responses opens, searches, sorts and scrolls."""
        tab, _ = self.opened(page)
        parsed, loaded = tab.evaluate(TIMES)
        first_search = tab.evaluate(CHANGED, ["query", "the", "input"])
        search = tab.evaluate(CHANGED, ["query", "9999", "input"])
        found = tab.inner_text("#count")
        tab.evaluate(CHANGED, ["query", "", "input"])
        order = tab.evaluate(CHANGED, ["order", "long", "change"])
        frame, rows = tab.evaluate(SCROLLED)
        tab.locator("#browser").screenshot(path=str(self.out / "many-scrolled.png"))
        say(
            f"{page.name}: {page.stat().st_size / 1e6:.1f} MB, parsed after {parsed:.0f} ms, loaded after {loaded:.0f} ms; "
            f"first search {first_search:.0f} ms, next {search:.0f} ms ({found}), sort {order:.0f} ms; "
            f"longest of 60 frames of scrolling {frame:.0f} ms, at most {rows} rows in the document"
        )
        assert loaded < 1000 * SECONDS, f"{MANY} responses open in {loaded:.0f} ms"
        assert 0 < rows < ROWS
        tab.context.close()

    def press(self, page: Path) -> None:
        """The list is used by keys alone."""
        tab, watch = self.opened(page)
        chosen = "document.querySelector('[aria-selected=true]').getAttribute('aria-posinset')"
        tab.keyboard.press("/")
        assert tab.evaluate("document.activeElement.id") == "query"
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate("document.activeElement.id") == "list"
        before = tab.inner_text("#detail")
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate(chosen) == "2"
        assert tab.inner_text("#detail") != before
        tab.keyboard.press("End")
        count = tab.evaluate("document.querySelector('[aria-selected=true]').getAttribute('aria-setsize')")
        assert tab.evaluate(chosen) == count
        assert tab.evaluate("document.getElementById('list').getAttribute('aria-activedescendant')") == f"row-{int(count) - 1}"
        tab.select_option("#kind", "losses")
        gains = [text.split()[0] for text in tab.locator("[role=option]").all_inner_texts()]
        assert all(gain.startswith("−") for gain in gains), gains
        assert watch.complaints == []
        say(f"{page.name}: / searches, arrows and End choose, {len(gains)} losses in view")
        tab.context.close()

    def attack(self, page: Path) -> None:
        """Nothing of a page of attacks runs; all of it is shown as text; scripts that are not the page's own are refused."""
        tab, watch = self.opened(page)
        assert "<script>window.hacked=1</script>" in tab.inner_text("#detail")
        tab.hover("#detail")
        tab.fill("#query", "<img")
        assert "<img" in tab.inner_text("mark >> nth=0")
        assert tab.evaluate("window.hacked") is None
        assert tab.evaluate("document.querySelectorAll('img, iframe, svg[onload], [onmouseover], [onerror]').length") == 0
        assert (watch.complaints, watch.outside) == ([], [])
        tab.evaluate(
            "for (const [name, text] of [['script', 'window.added = 1'], ['style', '*{display:none}']])"
            "document.head.append(Object.assign(document.createElement(name), { textContent: text }))"
        )
        tab.evaluate("document.body.setAttribute('onclick', 'window.added = 1'); document.body.click()")
        assert tab.evaluate("window.added") is None
        refused = [text for text in watch.complaints if "Content Security Policy" in text]
        assert len(refused) >= 3, watch.complaints
        tab.screenshot(path=str(self.out / "hostile.png"), full_page=True)
        say(f"{page.name}: nothing ran, no dialog, no request; {len(refused)} scripts and styles that were put in were refused")
        tab.context.close()

    def check(self, page: Path, axe: Path) -> None:
        """No rule of axe-core is violated seriously, in either scheme."""
        for scheme in SCHEMES:
            tab, _ = self.opened(page, 1300, scheme, bypass_csp=True)
            tab.add_script_tag(path=str(axe))
            tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            found = tab.evaluate("axe.run()")
            told = [f"{one['impact']} {one['id']}: {one['nodes'][0]['html'][:120]}" for one in found["violations"]]
            passed = f"axe {found['testEngine']['version']}, {len(found['passes'])} rules pass"
            say(f"{page.name}, {scheme}: {passed}, violations: {told}")
            assert not [one for one in found["violations"] if one["impact"] in SERIOUS], told
            tab.context.close()


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    out = Path(sys.argv[1]).resolve()
    program = sys.argv[2] if len(sys.argv) > 2 else "/usr/bin/chromium"
    if find_spec("playwright") is None or not Path(program).exists():
        say(f"skipped: playwright is not installed, or there is no browser at {program}")
        return
    from playwright.sync_api import sync_playwright

    run = load_run(Path(run_in(out)))
    folder = out / "report"
    one, several = written(folder / "one.html", run), written(folder / "several.html", run, other(run, out))
    large, attacking = written(folder / "many.html", many(run)), written(folder / "hostile.html", hostile(run, out))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        looker = Looker(browser, folder)
        steps: list[Callable[[], None]] = [
            lambda: looker.measure(large), lambda: looker.press(one), lambda: looker.attack(attacking),
            lambda: looker.photograph(one), lambda: looker.photograph(several),
        ]  # fmt: skip
        if len(sys.argv) > 3:
            steps += [lambda page=page: looker.check(page, Path(sys.argv[3])) for page in (one, several)]  # type: ignore[misc]
        else:
            say("axe-core is not checked: no file was given")
        for step in steps:
            step()
        browser.close()


if __name__ == "__main__":
    main()
