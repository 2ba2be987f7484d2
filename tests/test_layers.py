import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import aloll_cli

ROOT = Path(aloll_cli.__file__).parent
# the rooms from top to bottom, as README lists them: each imports only what stands above it; "" is the ground, the loose modules
ROOMS = (
    "", "metrics", "runtime", "store", "tasks", "variants", "text", "models", "rewards", "training", "values", "judging",
    "settings", "artifacts", "comparison", "reports", "stages", "cli", "api",
)  # fmt: skip
GROUND = {
    "arrays",
    "command",
    "errors",
    "files",
    "foreign",
    "keys",
    "schema",
    "sealed",
    "source_code",
    "stopping",
    "user_code",
    "visible",
    "watchdog",
}
LIGHT = ("", "settings", "stages", "cli", "tasks", "rewards", "variants", "store")  # import no heavy library at module level
LONGEST = 300  # lines of a module
HEAVY = {"torch", "transformers", "datasets", "peft"}


def dotted(file):
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(file): file for file in sorted(ROOT.rglob("*.py")) if "conf" not in file.parts}
SOURCES = {module: ast.parse(file.read_text()) for module, file in FILES.items()}


def room(module):
    """The package that a module stands in; the ground for loose modules; "api" for what opens the whole to others."""
    first = module.split(".")[1] if "." in module else "api"
    return "" if first in GROUND else "api" if first == "__main__" else first


def is_for_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def running(tree):
    """Every node but those that only a type checker reads."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left += node.orelse if is_for_type_checking(node) else ast.iter_child_nodes(node)


def imported(nodes):
    """Every module that import statements name; ``from aloll_cli.stages import report`` names aloll_cli.stages.report."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in SOURCES else node.module


def imports(module):
    return set(imported(running(SOURCES[module])))


def at_import(module):
    """What a module imports when it is imported: outside functions."""
    tree = SOURCES[module]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    return {name for node in running(tree) if id(node) not in inside for name in imported([node])}


def ours(names):
    return {name for name in names if name.partition(".")[0] == "aloll_cli"}


def test_all_modules_are_looked_at():
    assert len(SOURCES) > 150
    assert {room(module) for module in SOURCES} == set(ROOMS)
    assert {module.split(".")[1] for module in SOURCES if room(module) == ""} == GROUND
    assert sum(len(ours(imports(module))) for module in SOURCES) > 500


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_what_stands_above_it(name):
    below = ROOMS[ROOMS.index(name) + 1 :]
    reached = {(m, needed) for m in SOURCES if room(m) == name for needed in ours(imports(m)) if room(needed) in below}
    assert reached == set()


def test_no_module_imports_itself_in_a_circle():
    left = {module: ours(imports(module)) & SOURCES.keys() for module in SOURCES}
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_type_checking_imports_point_upward_too_but_within_a_room():
    for_types = {m: ours(imported(ast.walk(SOURCES[m]))) for m in SOURCES}
    down = {(m, needed) for m, names in for_types.items() for needed in names if ROOMS.index(room(needed)) > ROOMS.index(room(m))}
    assert down == set()


def test_no_module_is_longer_than_a_reader_keeps_in_mind():
    lengths = {module: len(file.read_text().splitlines()) for module, file in FILES.items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST} == {}


def test_readme_lists_the_rooms_in_this_order():
    listed = re.findall(r"^  (\w+)/ +\S", (ROOT.parent / "README.md").read_text(), flags=re.MULTILINE)
    assert [name for name in listed if name in ROOMS] == [name for name in ROOMS if name not in ("", "api")]


def test_every_import_of_ours_is_there():
    assert [(m, name) for m in SOURCES for name in ours(imports(m)) if name not in SOURCES and name != "aloll_cli.conf"] == []


def test_no_stage_imports_another_but_run_which_is_the_line_itself():
    stages = {m for m in SOURCES if m.startswith("aloll_cli.stages.")}
    between = {(m, name) for m in stages for name in imports(m) & stages}
    assert {m for m, _ in between} == {"aloll_cli.stages.run"}


def test_only_the_command_line_knows_hydra_and_omegaconf():
    knowing = {m for m in SOURCES if {name.partition(".")[0] for name in imports(m)} & {"hydra", "omegaconf"}}
    command_line = ("composition", "jobs", "launchers", "overrides", "sweeps", "validation")
    assert knowing == {f"aloll_cli.cli.{name}" for name in command_line}


def test_what_people_add_and_what_comes_before_a_configuration_imports_no_heavy_library_at_module_level():
    found = {m: {name.partition(".")[0] for name in at_import(m)} & HEAVY for m in SOURCES if room(m) in LIGHT}
    assert {m: names for m, names in found.items() if names} == {}


def test_what_the_command_line_loads_before_a_configuration_is_accepted_is_light():
    left, reached = ["aloll_cli.cli.composition"], set()
    while left:
        module = left.pop()
        if module not in reached:
            reached.add(module)
            left += [name for name in ours(at_import(module)) if name in SOURCES]
            left += [parent for parent in (module.rpartition(".")[0],) if parent in SOURCES]
    assert {"aloll_cli.settings.root", "aloll_cli.schema", "aloll_cli.cli.overrides"} <= reached
    heavy = {m: {name.partition(".")[0] for name in at_import(m)} & HEAVY for m in reached}
    assert {m: names for m, names in heavy.items() if names} == {}


def test_importing_the_command_line_loads_no_heavy_library():
    check = f"import aloll_cli.cli.composition, sys; found = {HEAVY!r} & set(sys.modules); assert not found, found"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def calls(tree):
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_nothing_is_pickled_and_nothing_is_loaded_with_pickle():
    picklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    everything = {m: {name.partition(".")[0] for name in imported(ast.walk(tree))} for m, tree in SOURCES.items()}
    threads = {"aloll_cli.cli.side_by_side": {"joblib"}}  # which pickle nothing
    assert {m: names & picklers for m, names in everything.items() if names & picklers} == threads
    assert 'backend="threading"' in FILES["aloll_cli.cli.side_by_side"].read_text()
    loaders = {"torch.load", "torch.save", "np.load", "numpy.load", "np.save", "np.savez"}
    assert {m: calls(tree) & loaders for m, tree in SOURCES.items() if calls(tree) & loaders} == {}


def test_the_command_line_alone_prints():
    printing = {m for m, tree in SOURCES.items() if "print" in calls(tree)}
    assert printing == set()


def test_every_folder_of_the_package_and_of_the_configuration_is_shipped():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    kept = {"__pycache__", "conf"}
    own = {dotted(folder / "x.py").rpartition(".")[0] for folder in ROOT.rglob("*/") if not kept & set(folder.parts)}
    conf = ROOT.parent / "conf"
    folders = [folder.relative_to(conf).parts for folder in conf.rglob("*/") if folder != conf]
    configured = {".".join(("aloll_cli.conf", *parts)) for parts in folders if "__pycache__" not in parts}
    assert len(configured) > 8
    assert sorted(listed) == sorted({"aloll_cli", "aloll_cli.conf"} | own | configured)
