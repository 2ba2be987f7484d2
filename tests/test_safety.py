"""Nothing is unpickled while a line runs, no code is loaded unasked, and what the environment keeps secret stays there."""

from pathlib import Path

import pytest
from running import SMALL, run
from tiny import gpt2, reviews, tokenizer

# ends the process at the first thing that unpickling would need
NO_PICKLE = """
import os, sys
def hook(event, args):
    if event == "pickle.find_class":
        os.write(2, b"unpickled " + repr(args).encode())
        os._exit(97)
    if event == "open" and str(args[0]).endswith((".pt", ".pth", ".bin", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".ckpt")):
        os.write(2, b"opened " + repr(args).encode())
        os._exit(98)
sys.addaudithook(hook)
"""
SECRETS = {
    "HF_TOKEN": "hf_plantedPlantedPlantedPlantedPlanted",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "OPENAI_API_KEY": "sk-planted-planted-planted",
    "AWS_SECRET_ACCESS_KEY": "planted/aws/secret/planted",
}


@pytest.mark.slow
def test_a_line_loads_no_pickle_in_any_of_its_processes_and_writes_no_secret_down(tmp_path: Path):
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(NO_PICKLE)
    reviews(tmp_path / "rows")
    options = ["values.folds=2", "processes=2", "tracking=wandb", "tracking.mode=offline", "verbosity=verbose"]
    environment = SECRETS | {"PYTHONPATH": str(tmp_path / "guard"), "WANDB_SILENT": "true"}
    out, said = run(tmp_path, "run", "task.path=rows", *SMALL, *options, **environment)
    assert "built     metrics/" in said
    assert any(tmp_path.glob("outputs/reviews/report/*.html"))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in files)
    assert len(files) > 60
    for name, secret in SECRETS.items():
        found = [str(file) for file in files if secret.encode() in file.read_bytes()]
        assert found == [], name
        assert secret not in out + said


def test_the_guard_sees_a_pickle(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(NO_PICKLE)
    pickling = "import collections, pickle\npickle.loads(pickle.dumps(collections.OrderedDict()))\n"
    _, said = run(tmp_path, "--help", code=97, before=pickling, PYTHONPATH=str(tmp_path))
    assert "unpickled" in said


CODE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from transformers import GPT2Config, GPT2LMHeadModel
class OwnConfig(GPT2Config):
    model_type = "own"
class Own(GPT2LMHeadModel):
    config_class = OwnConfig
"""


@pytest.mark.slow
def test_code_that_comes_with_a_model_does_not_run_unless_asked_for(tmp_path: Path):
    import json

    reviews(tmp_path / "rows")
    gpt2().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "own.py").write_text(CODE)
    options = [
        "train",
        "task.path=rows",
        "model=pretrained",
        "model.path=model",
        "reference=pretrained",
        "task.max_prompt_tokens=24",
    ]
    _, said = run(tmp_path, *options, "values=constant", "updates=2", code=2, HF_MODULES_CACHE=str(tmp_path / "modules"))
    assert "model cannot be loaded: " in said
    assert not any(tmp_path.rglob("ran"))
