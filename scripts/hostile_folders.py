"""Crafted folders of results through the commands that read outputs/: no traceback, nothing outside touched, none slow.

    python scripts/hostile_folders.py FOLDER [--count 300] [--seed 0]
    python scripts/hostile_folders.py FOLDER --only 17       # one of them again

Each of the crafted folders is a copy of a small finished outputs/ with a few faults: files of evaluations that were replaced or
bent, folders, links and special files with hostile names, and in every second one a file of what an evaluation is built from,
policy and rewards among them, while the evaluation itself is missing. Manifests are written anew: only the shape of the files is
wrong. Whatever a command opens for writing, renames or removes must lie in outputs/.

The commands are forks of this process, which has loaded the libraries and composed the options; those of every thirtieth folder
are started as a user starts them. FOLDER keeps the finished run, what was done (the script goes on there) and folders that
something was wrong with.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import forking
from torture import SMALL

from aloll_cli.cli import composition
from aloll_cli.cli.jobs import run_stage
from aloll_cli.command import Command
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
SLOW = 10.0  # seconds of processors
KILLED = 300.0  # seconds by the clock, on a machine that may be busy with other things
REAL = 30  # one folder of so many is not forked
# notes whatever is written, renamed or removed outside of outputs/ and the temporary folder, which libraries try out
AUDIT = """if True:
    import os, sys
    places = ("outputs", "/dev", "/proc", os.environ.get("TMPDIR", "/dev"))
    allowed = tuple(os.path.realpath(place) for place in places)
    touched = os.open("../touched", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    def hook(event, args):
        found = []  # paths, and the descriptors of the folders that they begin in
        if event == "open" and isinstance(args[0], (str, bytes)) and (args[2] or 0) & WRITING:
            found = [(os.path.realpath(args[0]), -1)]
        elif event == "os.rename":
            found = [(args[0], args[2]), (args[1], args[3])]
        elif event in ("os.link", "os.symlink"):
            found = [(args[1], args[-1])]
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.utime") and not isinstance(args[0], int):
            found = [(args[0], args[-1])]
        for path, descriptor in found:
            begin = "." if descriptor in (-1, None) else os.readlink(f"/proc/self/fd/{descriptor}")
            folder, name = os.path.split(os.path.join(begin, os.fsdecode(path)))
            place = os.path.join(os.path.realpath(folder), name)
            if not any(place == one or place.startswith(one + os.sep) for one in allowed):
                os.write(touched, f"{event} {place!r}\\n".encode())
    sys.addaudithook(hook)
"""


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


def craft(root: Path, number: int, draw: random.Random, outside: Path, source: Path) -> str:
    """One hostile folder, made of a finished evaluation or of nothing; returns what it is."""
    kind = draw.choice(["name", "link", "text", "json", "bytes", "text", "json", "special", "deep"])
    if kind == "name":
        place = root.parent / f"{number}{draw.choice(NAMES)}" / draw.choice(NAMES[2:]) / f"{draw.choice(NAMES)}-{number:012x}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "recipe.json").write_bytes(draw.choice([b"", b"\0" * 9, draw.choice(TEXTS).encode("utf-8", "surrogatepass")]))
        return kind
    if kind == "link":
        place = root / draw.choice(["metrics", "policy", "values"]) / f"link{number}-{number:012x}{draw.choice(['', '.partial'])}"
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(draw.choice([outside, Path("nowhere"), Path("/"), place.parent, place]))
        return kind
    place = root / "metrics" / f"bad{number}-s1-test-{number:012x}"
    shutil.copytree(source, place)
    file = place / draw.choice(["metrics.json", "recipe.json", "config.yaml", "answers.jsonl", "manifest.json"])
    if kind == "bytes":
        file.write_bytes(draw.choice(BYTES))
    elif kind == "special":
        make_special(file, draw, outside)
    elif kind == "deep":
        for depth in range(1, draw.choice([50, 1500])):
            place.joinpath(*["d"] * depth).mkdir()
    elif kind == "text" or file.suffix != ".json":
        file.write_bytes(draw.choice(TEXTS).encode("utf-8", "surrogatepass"))
    else:
        file.write_text(json.dumps(bent(json.loads(file.read_text()), draw)))
    if file.name != "manifest.json" and kind not in ("special", "deep"):
        write_manifest(place)
    return f"{kind} in {file.name}"


def make_special(file: Path, draw: random.Random, outside: Path) -> None:
    """Something that is no file in place of one, or a link to such a thing."""
    file.unlink()
    kind = draw.choice(["fifo", "folder", "/dev/zero", "/proc/self/mem", "outside"])
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(outside / "keep-0123456789ab" / "precious" if kind == "outside" else kind)


def craft_input(root: Path, draw: random.Random) -> str:
    """Replace one file of what an evaluation is built from, of which a part is missing; returns its name."""
    for kind in draw.choice((["metrics"], ["metrics", "generations"], ["metrics", "generations", "rewards", "answer-logps"])):
        shutil.rmtree(root / kind)
    files = [
        path for path in sorted(root.rglob("*")) if path.is_file() and path.parts[len(root.parts)] not in (".locks", "report")
    ]
    file = draw.choice([path for path in files if path.name not in ("manifest.json", "log.txt", "build.json")])
    if file.suffix == ".json" and draw.random() < 0.6:
        file.write_text(json.dumps(bent(json.loads(file.read_text()), draw)))
    elif file.suffix == ".parquet" and draw.random() < 0.5:
        shutil.copy(draw.choice([path for path in files if path.suffix == ".parquet"]), file.with_name(f".{file.name}"))
        file.with_name(f".{file.name}").replace(file)
    elif draw.random() < 0.3:
        content = file.read_bytes()
        file.write_bytes(content[: draw.randrange(len(content) + 1)])
    else:
        file.write_bytes(draw.choice([*BYTES, *(text.encode("utf-8", "surrogatepass") for text in TEXTS)]))
    write_manifest(root.joinpath(*file.parts[len(root.parts) :][:2]))
    return str(file.relative_to(root))


def run(words: list[str], folder: Path, real: bool) -> tuple[int | None, float, str]:
    """Run a command there; returns its exit code, None where it was killed, its seconds of processors, and what it said."""
    said = folder.parent / "said"
    said.unlink(missing_ok=True)
    begun = busy()
    command: Any
    if real:
        code = f"{AUDIT}\nfrom aloll_cli.cli.main import main; main()"
        temporary = folder.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        line = [sys.executable, "-c", code, *words]
        environment = {**os.environ, "TMPDIR": str(temporary), "TORCHINDUCTOR_CACHE_DIR": str(temporary)}
        with said.open("ab") as stream:
            command = subprocess.Popen(line, cwd=folder, stdout=stream, stderr=stream, start_new_session=True, env=environment)
    else:
        command = forking.Command(folder, words, said, said, AUDIT)
    try:
        command.wait(KILLED)
    except subprocess.TimeoutExpired:
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
        return None, busy() - begun, said.read_text(errors="replace")
    return command.returncode, busy() - begun, said.read_text(errors="replace")


def busy() -> float:
    """Seconds of processors that commands took which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compose_once() -> None:
    """Let forks use options that are composed here: what lies in outputs/ has no part in them."""
    composed = {(words[0], *words[1:], *SMALL): composition.settings_of([*words[1:], *SMALL]) for words in COMMANDS}

    def enter(command: Command) -> int:
        run_stage(command, composed[command.stage, *command.arguments])
        return 0

    composition.enter_hydra = enter


def faults_of(words: list[str], folder: Path, outside: Path, real: bool) -> tuple[float, list[str], str]:
    """Run a command there; returns its seconds of processors, what is wrong, and what it said."""
    before, touched = sums(outside), folder.parent / "touched"
    touched.write_bytes(b"")
    code, seconds, said = run([*words, *SMALL], folder, real)
    strange = {path.name for path in folder.iterdir()} - {"outputs", "outside"}
    found = {
        "traceback": "Traceback" in said, "escape": "\x1b" in said, "slow": seconds > SLOW, "hangs": code is None,
        "exit code": code not in (0, 2, None),
        "outside": bool(strange) or sums(outside) != before, "touched": bool(touched.read_bytes()),
    }  # fmt: skip
    return seconds, [name for name, is_wrong in found.items() if is_wrong], said + touched.read_text(errors="replace")[-1000:]


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


def torment(root: Path, number: int, seed: int) -> dict[str, Any]:
    """One crafted folder through all commands; it is kept where something was wrong."""
    draw, folder = random.Random(f"{seed} {number}"), root / "crafted"
    outside, outputs = folder / "outside", folder / "outputs"
    subprocess.run(["rm", "-rf", folder], check=True)  # unlike shutil.rmtree it removes folders of any depth
    (outside / "keep-0123456789ab").mkdir(parents=True)
    (outside / "keep-0123456789ab" / "precious").write_text("precious")
    shutil.copytree(root / "whole" / "outputs", outputs, symlinks=True)
    (source,) = (root / "whole" / "outputs" / "reviews" / "metrics").iterdir()
    crafted = [craft_input(outputs / "reviews", draw)] if number % 2 else []
    crafted += [craft(outputs / "reviews", n, draw, outside, source) for n in range(draw.randint(1, 5))]
    real = number % REAL == REAL - 1
    wrong, times = [], {}
    for words in COMMANDS:
        seconds, faults, said = faults_of(words, folder, outside, real)
        times[" ".join(words)] = round(seconds, 2)
        if faults:
            wrong.append({"command": " ".join(words), "faults": faults, "seconds": seconds, "said": said[-3000:]})
    if wrong:
        subprocess.run(["rm", "-rf", root / f"wrong-{number}"], check=True)
        folder.rename(root / f"wrong-{number}")
    return {"number": number, "real": real, "crafted": crafted, "seconds": times, "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one folder")
    arguments = parser.parse_args()
    root = arguments.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    forking.load()
    if not (root / "whole" / "done").exists():
        (root / "whole").mkdir(exist_ok=True)
        if code := forking.Command(root / "whole", ["run", *SMALL], root / "whole.log", root / "whole.log").wait():
            sys.exit(f"exit code {code}, see {root / 'whole.log'}")
        (root / "whole" / "done").touch()
    compose_once()
    file = root / "done.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    numbers = range(len(done), arguments.count) if arguments.only is None else [arguments.only]
    for number in numbers:
        one = torment(root, number, arguments.seed)
        sys.stdout.write(f"{number}: {', '.join(one['crafted'])}: {max(one['seconds'].values()):.1f} s at most\n")
        for wrong in one["wrong"]:
            sys.stdout.write(f"WRONG: {wrong['command']}: {wrong['faults']}, {wrong['seconds']:.1f} s\n{wrong['said']}\n")
        sys.stdout.flush()
        done.append(one)
        if arguments.only is None:
            with file.open("a") as stream:
                stream.write(json.dumps(one) + "\n")
    times = [seconds for one in done for seconds in one["seconds"].values()]
    wrong = sum(bool(one["wrong"]) for one in done)
    real = sum(one["real"] for one in done)
    sys.stdout.write(f"{len(done)} folders ({real} in processes started anew) through {len(COMMANDS)} commands each: ")
    sys.stdout.write(f"{wrong} wrong; {max(times):.1f} s at most\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
