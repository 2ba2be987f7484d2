import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import aloll_cli

ROOT = Path(aloll_cli.__file__).parent
LOWEST = {"errors", "atomic", "command", "config", "files", "hub", "packing", "arrays"}
PLUG_INS = {"tasks", "rewards", "variants"}
HIGHEST = {"cli", "composition", "overrides", "worker"}
HYDRA_IN = {"aloll_cli.config", "aloll_cli.composition", "aloll_cli.overrides"}
HEAVY = {"torch", "transformers", "datasets", "peft"}


def dotted(file):
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {dotted(file): ast.parse(file.read_text()) for file in sorted(ROOT.rglob("*.py")) if "conf" not in file.parts}


def layer(module):
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in LOWEST:
        return 0
    return 1 if parts[1] in PLUG_INS else 3 if parts[1] == "stages" else 4 if parts[1] in HIGHEST else 2


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
    assert len(SOURCES) > 50
    by_layer = {n: [m for m in SOURCES if layer(m) == n] for n in range(5)}
    assert {"aloll_cli.errors", "aloll_cli.config", "aloll_cli.files", "aloll_cli.arrays"} <= set(by_layer[0])
    assert {"aloll_cli.tasks.hha", "aloll_cli.rewards.vader", "aloll_cli.variants.seq"} <= set(by_layer[1])
    assert {"aloll_cli.training", "aloll_cli.artifacts.line", "aloll_cli.logprobs"} <= set(by_layer[2])
    assert {"aloll_cli.stages.train", "aloll_cli.stages.run"} <= set(by_layer[3])
    assert set(by_layer[4]) == {f"aloll_cli.{name}" for name in HIGHEST}
    assert sum(len(ours(imports(module))) for module in SOURCES) > 150


def test_nobody_imports_upward():
    upward = [(m, name) for m in SOURCES for name in ours(imports(m)) if layer(name) > layer(m)]
    assert upward == []


def test_every_import_of_ours_is_there():
    assert [(m, name) for m in SOURCES for name in ours(imports(m)) if name not in SOURCES and name != "aloll_cli.conf"] == []


def test_no_stage_imports_another_but_run_which_is_the_line_itself():
    stages = {m for m in SOURCES if m.startswith("aloll_cli.stages.")}
    between = {(m, name) for m in stages for name in imports(m) & stages}
    assert {m for m, _ in between} == {"aloll_cli.stages.run"}


def test_only_configuration_and_composition_know_hydra_and_omegaconf():
    knowing = {m for m in SOURCES if {name.partition(".")[0] for name in imports(m)} & {"hydra", "omegaconf"}}
    assert knowing == HYDRA_IN


def test_no_plug_in_imports_a_heavy_library_at_module_level():
    found = {m: {name.partition(".")[0] for name in at_import(m)} & HEAVY for m in SOURCES if layer(m) in (0, 1, 3, 4)}
    assert {m: names for m, names in found.items() if names} == {}


def test_what_the_command_line_loads_before_a_configuration_is_accepted_is_light():
    left, reached = ["aloll_cli.composition"], set()
    while left:
        module = left.pop()
        if module not in reached:
            reached.add(module)
            left += [name for name in ours(at_import(module)) if name in SOURCES]
            left += [parent for parent in (module.rpartition(".")[0],) if parent in SOURCES]
    assert {"aloll_cli.settings", "aloll_cli.config", "aloll_cli.cli"} <= reached
    heavy = {m: {name.partition(".")[0] for name in at_import(m)} & HEAVY for m in reached}
    assert {m: names for m, names in heavy.items() if names} == {}


def test_importing_the_command_line_loads_no_heavy_library():
    check = f"import aloll_cli.composition, sys; found = {HEAVY!r} & set(sys.modules); assert not found, found"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def calls(tree):
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_nothing_is_pickled_and_nothing_is_loaded_with_pickle():
    picklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    everything = {m: {name.partition(".")[0] for name in imported(ast.walk(tree))} for m, tree in SOURCES.items()}
    assert {m: names & picklers for m, names in everything.items() if names & picklers} == {}
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
    configured = {f"aloll_cli.conf.{folder.name}" for folder in (ROOT.parent / "conf").iterdir() if folder.is_dir()}
    assert len(configured) > 8
    assert sorted(listed) == sorted({"aloll_cli", "aloll_cli.conf"} | own | configured)
