"""Crafted folders of results through the commands that read outputs/: no traceback, nothing outside touched, none slow.

python scripts/hostile_folders.py FOLDER [--count 300] [--inputs 40] [--seed 0]

FOLDER holds a finished run's outputs/, or that is made first. Each crafted folder is a copy of its evaluation in which one file
was replaced, or a folder or a link with a hostile name. Manifests are written anew: only the shape of the files is wrong.
After that `evaluate` is run with single files of its inputs replaced, policy and rewards among them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

from torture import SMALL

from aloll_cli.store.manifest import write_manifest

COMMANDS = (
    ["ls"], ["plan", "variant=nll"], ["compare", "runs=[outputs/reviews/metrics/*]"], ["compare"],
    ["report", "runs=[outputs/reviews/metrics/*]"], ["evaluate"], ["verify"], ["clean", "ask=false"],
)  # fmt: skip
ESCAPE = "\x1b]0;title\x07\x1b[31m"
NAMES = (ESCAPE, "..", "-rf", "$(id)", "a\nb", "[x]", "x" * 200, "\u202egnp", "%s{}", " ", "*")
ALIASES = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])
TEXTS = (
    "", "\0" * 99, "{", "[]", "null", '"x"', "NaN", "{}", "[" * 200_000, '{"a":' * 99_999, '{"task": ".."}', "1" * 9999, ALIASES,
    "!!python/object/apply:os.system ['touch PWN']", '{"kind": "../..", "version": 1, "identity": {}, "inputs": {}}', ESCAPE,
    json.dumps({"prompt": 3}) + "\n", "a: b: c", "\ud83d",
)  # fmt: skip
BYTES = (b"PAR1" + b"\xff" * 99 + b"PAR1", b"\xff" * 8 + b"{}", (10**15).to_bytes(8, "little") + b"{", b"\x80\x04.")
SLOW = 10.0  # seconds


def leaves(value: object, path: tuple = ()) -> list[tuple]:
    """The paths of all values in JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, item in items for leaf in leaves(item, (*path, key)))]


def bent(value: object, draw: random.Random) -> object:
    """JSON with one value replaced by one of another kind, or removed."""
    value = json.loads(json.dumps(value))
    path = draw.choice([leaf for leaf in leaves(value) if leaf] or [()])
    if not path:
        return draw.choice([None, [], "x", 3])
    place = value
    for key in path[:-1]:
        place = place[key]
    if isinstance(place, dict) and draw.random() < 0.3:
        del place[path[-1]]
    else:
        place[path[-1]] = draw.choice([None, [], {}, "../../x", ESCAPE, -1, 1e308, 10**400, float("nan"), True, [[[]]], {"a": 1}])
    return value


def craft(root: Path, number: int, draw: random.Random, outside: Path) -> None:
    """One hostile folder."""
    kind = draw.choice(["name", "link", "text", "json", "bytes", "text", "json"])
    if kind == "name":
        place = root.parent / f"{number}{draw.choice(NAMES)}" / draw.choice(NAMES[2:]) / f"{draw.choice(NAMES)}-{number:012x}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "recipe.json").write_bytes(draw.choice([b"", b"\0" * 9, draw.choice(TEXTS).encode("utf-8", "surrogatepass")]))
        return
    source = draw.choice([path for path in (root / "metrics").iterdir() if path.name.startswith("seq-")])
    if kind == "link":
        place = root / draw.choice(["metrics", "policy", "values"]) / f"link{number}-{number:012x}{draw.choice(['', '.partial'])}"
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(draw.choice([outside, Path("nowhere"), Path("/"), place.parent, place]))
        return
    place = root / "metrics" / f"bad{number}-s1-test-{number:012x}"
    shutil.copytree(source, place)
    file = place / draw.choice(["metrics.json", "recipe.json", "config.yaml", "answers.jsonl", "manifest.json"])
    if kind == "bytes":
        file.write_bytes(draw.choice(BYTES))
    elif kind == "text" or file.suffix != ".json":
        file.write_bytes(draw.choice(TEXTS).encode("utf-8", "surrogatepass"))
    else:
        file.write_text(json.dumps(bent(json.loads(file.read_text()), draw)))
    if file.name != "manifest.json":
        write_manifest(place)


def craft_input(root: Path, draw: random.Random) -> str:
    """Replace one file of what an evaluation is built from, of which a part is missing; returns its name."""
    for kind in draw.choice((["metrics"], ["metrics", "generations"], ["metrics", "generations", "rewards", "answer-logps"])):
        shutil.rmtree(root / kind)
    files = [path for path in root.rglob("*") if path.is_file() and path.parts[len(root.parts)] not in (".locks", "report")]
    file = draw.choice([path for path in files if path.name not in ("manifest.json", "log.txt")])
    if file.suffix == ".json" and draw.random() < 0.6:
        file.write_text(json.dumps(bent(json.loads(file.read_text()), draw)))
    elif file.suffix == ".parquet" and draw.random() < 0.5:
        shutil.copy(draw.choice(sorted(root.rglob("*.parquet"))), file.with_name(f".{file.name}"))
        file.with_name(f".{file.name}").replace(file)
    elif draw.random() < 0.3:
        content = file.read_bytes()
        file.write_bytes(content[: draw.randrange(len(content) + 1)])
    else:
        file.write_bytes(draw.choice([*BYTES, *(text.encode("utf-8", "surrogatepass") for text in TEXTS)]))
    write_manifest(root.joinpath(*file.parts[len(root.parts) :][:2]))
    return str(file.relative_to(root))


def faults_of(words: list[str], folder: Path, aloll: list[str], outside: Path) -> tuple[str, list[str], str]:
    """Run a command there; returns a line about it, what is wrong with it, and what it said."""
    before, start = sums(outside), time.monotonic()
    done = subprocess.run([*aloll, *words, *SMALL], cwd=folder, capture_output=True, check=False)
    seconds, said = time.monotonic() - start, (done.stdout + done.stderr).decode("utf-8", "replace")
    strange = {path.name for path in folder.iterdir()} - {"outputs", "outside"}
    found = {
        "traceback": "Traceback" in said, "escape": "\x1b" in said, "slow": seconds > SLOW,
        "exit code": done.returncode not in (0, 2), "outside": bool(strange) or sums(outside) != before,
    }  # fmt: skip
    faults = [name for name, is_wrong in found.items() if is_wrong]
    line = f"{' '.join(words)}: exit {done.returncode} after {seconds:.1f} s {', '.join(faults) or 'ok'}"
    return line, faults, said


def sums(folder: Path) -> dict[str, str]:
    """Checksums of all files, and where links lead."""
    found = {}
    for at, folders, files in os.walk(folder):
        for path in (Path(at, name) for name in (*folders, *files)):
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file():
                found[str(path)] = sha256(path.read_bytes()).hexdigest()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--inputs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    aloll = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()"]
    if not (folder / "outputs").exists():
        subprocess.run([*aloll, "run", *SMALL], cwd=folder, check=True, capture_output=True)
    outside = folder / "outside"
    (outside / "keep-0123456789ab").mkdir(parents=True, exist_ok=True)
    (outside / "keep-0123456789ab" / "precious").write_text("precious")
    draw = random.Random(arguments.seed)
    whole = folder / "outputs"
    copy = folder.with_name(f"{folder.name}-whole")
    shutil.rmtree(copy, ignore_errors=True)
    whole.rename(copy)
    shutil.copytree(copy, whole)
    for number in range(arguments.count):
        craft(whole / "reviews", number, draw, outside)
    wrong = 0
    for words in COMMANDS:
        line, faults, said = faults_of(words, folder, aloll, outside)
        wrong += bool(faults)
        sys.stdout.write(f"{line}\n" + f"{said[-3000:]}\n" * bool(faults))
    for _ in range(arguments.inputs):
        shutil.rmtree(whole)
        shutil.copytree(copy, whole)
        name = craft_input(whole / "reviews", draw)
        line, faults, said = faults_of(["evaluate"], folder, aloll, outside)
        wrong += bool(faults)
        sys.stdout.write(f"{name}: {line}\n" + f"{said[-3000:]}\n" * bool(faults))
        sys.stdout.flush()
    shutil.rmtree(whole)
    copy.rename(whole)
    sys.stdout.write(f"{arguments.count} folders, {len(COMMANDS)} commands, {arguments.inputs} inputs: {wrong} wrong\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
