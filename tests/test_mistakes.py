"""What a user gets wrong: exit code 2, what and where and what to type in two to four lines, and nothing half-made."""

import errno
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from running import SMALL, quick, run
from tiny import gpt2, reviews, some_slow, tokenizer, write_rows

from aloll_cli.cli.validation import _out_of_range
from aloll_cli.models.decoding import Beam, Greedy, Sample
from aloll_cli.models.optimizers import Adamw
from aloll_cli.rewards.fitted import Fitted
from aloll_cli.settings.groups import GROUPS
from aloll_cli.settings.root import Settings
from aloll_cli.training.sampling import Priority
from aloll_cli.values.data import Data
from aloll_cli.values.monte_carlo import MonteCarlo
from aloll_cli.variants.alol import Alol
from aloll_cli.variants.kl import Kl
from aloll_cli.variants.r_gold import RGold
from aloll_cli.variants.r_lol import RLol
from aloll_cli.variants.seq import Seq


@pytest.fixture(scope="session")
def light() -> Iterator[Callable[[Path, list[str]], str]]:
    """Runs a command that must be refused before a heavy library is loaded, in a process kept for that; returns what it says."""
    script = Path(__file__).with_name("light.py")
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def refuse(folder: Path, arguments: list[str]) -> str:
        process.stdin.write(json.dumps([str(folder), arguments]) + "\n")
        process.stdin.flush()
        code, said, heavy = json.loads(process.stdout.readline())
        assert heavy == [], f"{heavy} imported before the mistake was found"
        return checked(folder, code, said)

    yield refuse
    process.stdin.close()
    process.wait(timeout=20)


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """Run a command that must be refused, in a process of its own; returns what it says."""
    if not environment:
        return checked(folder, 2, quick(folder, *arguments, code=2)[1])
    settings = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, "-c", "from aloll_cli.cli.main import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=100, check=False)
    return checked(folder, done.returncode, done.stderr)


def checked(folder: Path, code: int, stderr: str) -> str:
    """The two to four lines of a refusal that leaves nothing half-made."""
    assert code == 2, f"exit code {code}\n{stderr[-3000:]}"
    assert "Traceback" not in stderr
    lines = stderr.rstrip("\n").split("\n")
    said = next(i for i, line in enumerate(lines) if line.startswith("aloll "))
    assert 2 <= len(lines[said:]) <= 4, stderr
    assert not any(folder.rglob("*.partial")), "something half-made was left"
    assert not any(folder.rglob("*.tmp")), "something half-written was left"
    return "\n".join(lines[said:])


COMMANDS = [
    # flags and stages
    ("tran", r'aloll tran: there is no stage "tran"\.\nDid you mean aloll train\?'),
    ("score", r'there is no stage "score"\.\nDid you mean aloll score-rewards\?'),
    ("eval", r"Did you mean aloll evaluate\?"),
    ("list", r"Did you mean aloll ls\?"),
    ("task=hha", r"The stage comes first: aloll run task=hha$"),
    ("completion", r"completion needs the name of a shell\.\naloll completion bash or zsh or fish"),
    ("train --bogus", r"there is no flag --bogus\."),
    ("train --xyzzy", r"there is no flag --xyzzy\.\naloll train --help lists options; flags: --help,"),
    ("train --multirn", r"there is no flag --multirn\.\nDid you mean --multirun\?"),
    ("train --cfg foo", r"invalid choice: 'foo' \(choose from"),
    ("train --cfg job --package nosuch", r"--package nosuch: the configuration has no such part\.\n--package variant"),
    ("train --config-dir nowhere", r"--config-dir nowhere: there is no such folder\.\n--config-dir FOLDER"),
    ("train --config-name mine", r"Cannot find primary config 'mine'.*\n--config-name NAME\. The names are those of the files"),
    ("train -q -v", r"-q and -v contradict each other\.\n-q for results only, or -v for details$"),
    ("train -vq", r"-q and -v contradict each other"),
    ("train -variant=seq", r"there is no flag -variant\.\nOptions have no dashes: variant=seq$"),
    ("train -variant seq", r"there is no flag -variant\.\nOptions have no dashes: variant=seq$"),
    ("train --variant seq", r"there is no flag --variant\.\nOptions have no dashes: variant=seq$"),
    ("train --variant=seq", r"there is no flag --variant\.\nOptions have no dashes: variant=seq$"),
    ("train --Variant=seq", r"Options have no dashes: variant=seq$"),
    ("train --varient=seq", r"Options have no dashes: variant=seq$"),
    ("train --output-dir here", r"Options have no dashes: output_dir=here$"),
    ("train -lr=1e-4", r"there is no flag -lr\.\nOptions have no dashes: optimizer\.lr=1e-4$"),
    ("train --lr", r"Options have no dashes: optimizer\.lr=3e-4$"),
    ("train -M seed=1,2", r"there is no flag -M\.\nDid you mean --multirun\?"),
    ("train -help", r"there is no flag -help\.\nDid you mean --help\?"),
    ("train --help=all", r"--help takes no value\.\naloll train --help all$"),
    ("train --all", r"there is no flag --all\.\naloll train --help all$"),
    ("train --dry-run", r"there is no flag --dry-run\.\naloll plan shows what would be built"),
    ("train --resume", r"there is no flag --resume\.\nThe same command continues where it was stopped"),
    ("train --config mine.yaml", r"--config-dir FOLDER experiment=NAME$"),
    ("train --version", r"there is no flag --version\.\naloll --version$"),
    ("clean --yes", r"Options have no dashes: ask=false$"),
    ("clean -f", r"there is no flag -f\.\nOptions have no dashes: ask=false$"),
    ("compare --json", r"Options have no dashes: format=json$"),
    ("version", r"aloll --version$"),
    ("TRAIN", r"Did you mean aloll train\?"),
    ("train_reference", r"Did you mean aloll train-reference\?"),
    ("help trin", r"Did you mean aloll train\?"),
    ("-m run seed=1,2", r"The stage comes first: aloll run -m seed=1,2$"),
    ("rows.jsonl", r"The stage comes first: aloll inspect task=local task.path=rows.jsonl$"),
    # words that are no overrides
    ("train all", r'"all" is not an override\.\naloll train --help all$'),
    ("train help", r'"help" is not an override\.\naloll train --help$'),
    ("train variant seq", r'"variant" is not an override\.\nWrite it as one word: variant=seq$'),
    ("train variant:seq", r'"variant:seq" is not an override\.\nWrite it as one word: variant=seq$'),
    ("train variant = seq", r"Write it as one word: variant=seq$"),
    ("train variant =seq", r"Write it as one word: variant=seq$"),
    ("train variant= seq", r"Write it without spaces: variant=seq$"),
    ("train SEED 3", r"Write it as one word: seed=3$"),
    ("train lr 1e-4", r"Write it as one word: optimizer\.lr=1e-4$"),
    ("train varient seq", r"Did you mean variant=seq\?"),
    ("train variant/seq.yaml", r"Did you mean variant=seq\?"),
    ("train reference", r"Did you mean aloll train-reference\?"),
    ("train evaluate", r"One stage per command: aloll evaluate$"),
    ("train task.path=my/good rows.jsonl", r"Quote a value with spaces: 'task\.path=my/good rows\.jsonl'$"),
    ("inspect rows.jsonl", r"Did you mean task=local task\.path=rows\.jsonl\?"),
    ("train my.py", r"Did you mean reward=function reward\.path=my\.py\?"),
    ("report outputs/x", r"Did you mean runs=\[outputs/x\]\?"),
    ("compare nll seq", r"Did you mean against=nll \(the baseline\), or runs=\[FOLDER,FOLDER\]"),
    ("compare variant=nll,seq", r"variant=nll,seq has several values\.\naloll compare runs=\[FOLDER,FOLDER\] chooses runs"),
    ("export here", r"Did you mean to=here\?"),
    ("ls .", r"Did you mean output_dir=\.\?"),
    # overrides that cannot be read
    ("train seed==1", r'"seed==1" cannot be read as key=value\.\nDid you mean seed=1\?'),
    ("train seed:=1", r"Write it as one word: seed=1$"),
    ("train optimizer.lr=1e-4,", r"Did you mean optimizer\.lr=1e-4\?"),
    ("train /variant=seq", r"Did you mean variant=seq\?"),
    ("train variant=seq,seed=2", r"Write each as a word of its own: variant=seq seed=2$"),
    ("train optimizer.betas=[0.9, 0.99]", r"Write it without spaces: optimizer\.betas=\[0\.9,0\.99\]$"),
    ("train -m variant=nll, seq", r"Write it without spaces: variant=nll,seq$"),
    ("train optimizer.betas=0.9,0.99", r"A list has brackets: optimizer\.betas=\[0\.9,0\.99\]$"),
    ("train optimizer.lr=0,001", r"add -m: -m optimizer\.lr=0,001; for one number: optimizer\.lr=0\.001$"),
    ("train reward=vader,length", r"for their sum: reward=mixed reward\.parts\.vader=vader reward\.parts\.length=length$"),
    ("train seed", r'"seed" is not an override\.\nWrite it with a value: seed=1$'),
    ("train hha", r'"hha" is not an override\.\nDid you mean task=hha\?'),
    ("train seed=[1", r'"seed=\[1" cannot be read as key=value\.\nQuote values with special characters: seed='),
    ("train é=~", r'"é=~" cannot be read as key=value'),
    ("train a..b=~x", r'"a..b=~x" cannot be read as key=value'),
    ("train --resolve", r"--resolve and --package belong to --cfg\.\naloll train --cfg job"),
    ("train ~seed", r"~seed: options cannot be removed\.\nSet it to another value: seed=1"),
    ("train seed=1,2", r"seed=1,2 has several values\.\nFor one run per value, add -m: -m seed=1,2"),
    # choices of groups
    ("train variant=sq", r"variant=sq: there is no such choice\.\nDid you mean variant=seq\? Choices: a_star, alol, awr, dpo,"),
    ("train variant=null", r"variant=null: there is no such choice\.\n.*Choices: a_star, alol, awr, dpo,"),
    ("train optimizer=3", r"optimizer=3: there is no such choice\.\nChoices: adamw\."),
    ("train task=my.jsonl", r"task=my.jsonl: there is no such choice.\nFor a file or folder of yours: task=local task.path=my.jsonl"),
    ("train task=revews", r"task=revews: there is no such choice\.\nDid you mean task=reviews\?"),
    ("train variant=[seq,kl]", r"variant=\[seq,kl\]: there is no such choice"),
    ("train +variant=kl", r"\+variant=kl: variant already has a choice\.\nvariant=kl"),
    ("train variant@x=seq", r'there is no option "variant@x"\.'),
    ("train task.noise=1", r"task\.noise must lie in \[0, 1\), got 1\.0\.\ntask\.noise=0\.25"),
    ("train task.noise=0.5 reward=column values=data", r"reward=column has stored rewards only\.\ntask\.noise=0, or"),
    ("train task.min_reward=2 task.max_reward=1", r"task\.min_reward=2 is above task\.max_reward=1"),
    ("train task.subsets=[]", r"task\.subsets is empty"),
    ("train task=wow", r"task\.path is not set, and Wizard of Wikipedia has to be downloaded"),
    ("train task=comet", r"task\.path is not set, and ATOMIC-10X and ATOMIC 2020 have to be downloaded\.\ntask\.path=FOLDER"),
    ("train experiment=nosuch", r"experiment=nosuch: there is no such choice\.\nChoices: compare_hha, hha_small, hha_smollm2, paper_comet, "),
    ("train hydra/launcher=nosuch", r"hydra/launcher=nosuch: there is no such choice\.\nChoices: basic.*Install hydra-nosuch-launcher"),
    ("train variant=SEQ", r"variant=SEQ: there is no such choice\.\nDid you mean variant=seq\?"),
    ("train variant=seq.yaml", r"Did you mean variant=seq\?"),
    ("train variant=hha", r"variant=hha: there is no such choice\.\nDid you mean task=hha\?"),
    ("train adapter=null", r"For none: adapter=none\."),
    ("train tracking=none", r"For none: tracking=off\."),
    ("train test_reward=none", r"For none: test_reward=null\."),
    ("train values=none", r"values=none: there is no such choice\.\nChoices: blend, constant, data,"),
    ("train variant=sft", r"variant=sft: there is no such choice\.\nDid you mean variant=nll\?"),
    ("train model=qwen", r"Did you mean model=qwen3_0_6b or model=qwen3_8b_qlora\? For any other model: model=pretrained model\.path=qwen"),
    ("train model=meta-llama/Llama-3", r"For a folder or a name on the hub: model=pretrained model\.path=meta-llama/Llama-3\. Choices:"),
    ("train reward=my.py", r"For a function of yours: reward=function reward\.path=my\.py\."),
    # keys
    ("train VARIANT=seq", r'there is no option "VARIANT"\.\nHere it is: variant=seq$'),
    ("train variant.Clip=0.5", r"Here it is: variant\.clip=0\.5$"),
    ("train variants=seq", r"Did you mean variant=seq\?"),
    ("train variant.name=seq", r'there is no option "variant\.name"\.\nGroups have choices: variant=seq$'),
    ("train resume=true", r"The same command continues where it was stopped"),
    ("train device=gpu", r"expected one of auto, cuda, cpu\.\ndevice=cuda$"),
    ("train use_cpu=true", r"Here it is: device=cpu$"),
    ("export output=here", r"Here it is: to=here$"),
    ("clean yes=true", r"Here it is: ask=false$"),
    ("train variant.clp=0.5", r'there is no option "variant.clp" under "variant"\.\nDid you mean variant.clip=0.5\?'),
    ("train +variant.clp=0.5", r"Did you mean variant.clip=0.5\?"),
    ("train ++seeed=1", r'there is no option "seeed"\.\nDid you mean seed=1\?'),
    ("train varaint=seq", r'there is no option "varaint"\.\nDid you mean variant=seq\?'),
    ("train nosuch=1", r'there is no option "nosuch"\.\naloll STAGE --help lists the options\.'),
    ("train --cfg job +sede=3", r'there is no option "sede"\.\nDid you mean seed=3\?'),
    ("train variant=nll variant.clip=0.5", r"variant.clip is not an option of this configuration's variant\.\nIt belongs to variant=alol or"),
    ("train model.path=gpt2", r"model.path is not an option of this configuration's model\.\nIt belongs to model=pretrained\."),
    ("train values=constant values.epochs=2", r"values.epochs is not an option of .* values\.\nIt belongs to values=data or head\."),
    ("train adapter.r=8", r"an option was set, but its group has no choice yet\.\nChoose first: adapter=lora adapter\.r=8"),
    ("train adapter=lora adapter.r=0", r"adapter\.r must be at least 1, got 0"),
    ("train adapter=lora adapter.targets=[]", r"adapter\.targets is empty"),
    ("train adapter=pretrained", r"adapter=pretrained needs an adapter to start from\.\nmodel\.adapter=FOLDER"),
    ("train model=pretrained model.path=X model.adapter=Y", r"is only trained with adapter=pretrained\.\nadapter=pretrained"),
    ("train model=pretrained model.path=X model.quantization=nf4", r"4-bit weights cannot be trained, only an adapter\.\nadapter=lora"),
    ("train attn=flash_attention_2", r"supports 16 bits only\.\nmodel\.dtype=bfloat16"),
    ("train test_reward.alpha=3", r"its group has no choice yet\.\nChoose first: adapter=lora adapter\.r=8, or test_reward=fitted"),
    # names of other libraries
    ("train lr=1e-4", r'there is no option "lr"\.\nHere it is: optimizer\.lr=1e-4$'),
    ("train +learning_rate=1e-4", r"Here it is: optimizer\.lr=(1e-4|0\.0001)$"),
    ("train training.lr=1e-4", r"Here it is: optimizer\.lr=1e-4$"),
    ("train --learning_rate 1e-4", r"there is no flag --learning_rate\.\nOptions have no dashes: optimizer\.lr=1e-4$"),
    ("train --seed=3", r"there is no flag --seed\.\nOptions have no dashes: seed=3$"),
    ("train steps=100", r"Here it is: updates=100$"),
    ("train max_steps=100", r"Here it is: updates=100$"),
    ("train num_train_epochs=3", r"Here it is: updates=null epochs=3$"),
    ("train per_device_train_batch_size=8", r"Here it is: batch_size=8$"),
    ("train gradient_accumulation_steps=2", r"Here it is: micro_batch_size=4$"),
    ("train model_name_or_path=gpt2", r"Here it is: model=pretrained model\.path=gpt2$"),
    ("train dataset=rows.jsonl", r"Here it is: task=local task\.path=rows\.jsonl$"),
    ("train bf16=true", r"Here it is: model\.dtype=bfloat16$"),
    ("train lora_r=8", r"Here it is: adapter=lora adapter\.r=8$"),
    ("train output=here", r"Here it is: output_dir=here$"),
    ("train report_to=wandb", r"Here it is: tracking=wandb$"),
    ("train max_length=512", r"Here it is: task\.max_prompt_tokens=384 task\.max_response_tokens=128$"),
    ("train beta=0.1", r"Here it is: variant=kl variant\.beta=0\.1$"),
    ("train variant=dpo beta=0.2", r"Here it is: variant\.beta=0\.2$"),
    ("train warmup_steps=10", r"Here it is: optimizer\.warmup_updates=10$"),
    ("train weight_decay=0.1", r"Here it is: optimizer\.weight_decay=0\.1$"),
    ("train eval_steps=10", r"Here it is: eval_every=10$"),
    ("train save_steps=10", r"Here it is: checkpoint_every=10$"),
    ("train optimizer.learning_rate=1", r"Here it is: optimizer\.lr=1$"),
    ("train folds=3", r"Here it is: values\.folds=3$"),
    # kinds of values
    ("train seed=one", r"seed=one: expected an integer\.\nseed=1$"),
    ("train seed=1.5", r"seed=1.5: expected an integer\.\nseed=1$"),
    ("train seed=null", r"seed=null: expected a value, not null\.\nseed=1$"),
    ("train seed=", r"seed=: expected an integer\.\nseed=1$"),
    ("train threads=auto", r"threads=auto: expected an integer\.\nthreads=null$"),
    ("train max_hours=None", r"max_hours=None: expected a number\.\nmax_hours=null$"),
    ("train max_hours=8h", r"max_hours=8h: expected a number\.\nmax_hours=8$"),
    ("train updates=1k", r"updates=1k: expected an integer\.\nupdates=1000$"),
    ("train batch_size=1e3", r"batch_size=1e3: expected an integer\.\nbatch_size=1000$"),
    ("train -m seed=1-5", r"seed=1-5: expected an integer\.\n-m 'seed=range\(1,6\)'$"),
    ("train -m seed=[1,2,3]", r"expected an integer\.\n-m seed=1,2,3$"),
    ("train verbosity=debug", r"expected one of quiet, normal, verbose\.\nverbosity=verbose$"),
    ("evaluate policy=None", r'policy=None is the text "None"\.\nFor no value: policy=null$'),
    ("train optimizer.lr=fast", r"optimizer.lr=fast: expected a number\.\noptimizer.lr=3e-4$"),
    ("train ask=maybe", r"ask=maybe: expected true or false\.\nask=true$"),
    ("train runs=abc", r"runs=abc: expected a list, such as \[a,b\]\.\nruns=\[abc\]$"),
    ("train select=bst", r"select=bst: there is no such choice\.\nDid you mean select=best\? Choices: best, last"),
    ("train select.kl_weight=-1", r"select.kl_weight must lie in \[0, 1000\], got -1.0\.\nselect.kl_weight=0.01"),
    ("train select=last select.kl_weight=1", r"select.kl_weight is not an option of this configuration's select\.\nIt belongs to select=best"),
    ("train reward=column values=data select.max_repeated=0.1", r"select.max_repeated: checkpoints are compared by responses of the policy, which reward=column cannot score\.\nselect=best alone"),
    ("train patience=3", r"Here it is: early_stop=3$"),
    ("train output_dir=[a]", r"output_dir=\[a\]: expected a string\.\noutput_dir=outputs$"),
    ("train seed=${nosuch}", r'seed: the interpolation names "nosuch", which is not an option'),
    ("train seed=${oc.env:NO_SUCH_NAME}", r"seed: the environment variable NO_SUCH_NAME is not set"),
    ("train model=pretrained", r'model.path has no value\.\nSet it: model.path=PATH \(name on the Hugging Face hub, or a local folder\)'),
    ("train task=local", r"task=local needs data: set either task.path or task.hub\.\ntask.path=FILE.jsonl \(or FOLDER\), or task.hub=OWNER/NAME"),
    ("train task=local task.path=x task.hub=a/b", r"task.path and task.hub are both set: set either task.path or"),
    ("train task=local task.path=x task.columns.promt=q", r'there is no option "task.columns.promt" under "task.columns"\.\nDid you mean task.columns.prompt=q\?'),
    ("train task=local task.path=x task.columns.reward=3", r"task.columns.reward: expected the name of a column, or a list of names\.\ntask.columns.reward=score"),
    ("train task=local task.path=x task.columns.prompt=response", r"task.columns uses the column response twice\.\nName each column once"),
    ("train task=local task.path=x task.combine=max", r"task.combine=max: expected one of mean, sum\.\ntask.combine=m"),
    ("train task.chat=none", r"task.chat=none: expected one of template, wrap, without_thinking, plain\.\ntask.chat="),
    # numbers out of range
    ("train seed=-1", r"seed must not be negative, got -1\.\nseed=1"),
    ("train updates=0", r"updates must be at least 1, got 0\.\nupdates=1"),
    ("train variant.clip=2", r"variant.clip must lie in \(0, 1\), got 2.0\.\nvariant.clip=0.9"),
    ("train optimizer.lr=0", r"optimizer.lr must lie in \(0, 10\], got 0.0\.\noptimizer.lr=0.0003"),
    ("train reference.optimizer.lr=nan", r"reference.optimizer.lr must be a number, got nan"),
    ("train optimizer.betas=[0.9,1]", r"optimizer.betas must lie in \[0, 1\), got 1.0"),
    ("train optimizer.betas=[0.9]", r"optimizer.betas must be two numbers, got \[0.9\]"),
    ("train optimizer.max_grad_norm=inf", r"optimizer.max_grad_norm must be finite, got inf"),
    ("train model.heads=0", r"model.heads must be at least 1, got 0"),
    ("train model.vocab_size=10", r"model.vocab_size must be at least 300, got 10"),
    ("train test_reward=fitted test_reward.alpha=0", r"test_reward.alpha must be positive, got 0"),
    ("train max_hours=0", r"max_hours must be positive, got 0.0\.\nmax_hours=8"),
    # contradictions
    ("train epochs=2", r"updates=400 and epochs=2 are both set: one of them must be null\.\nupdates=null epochs=2$"),
    ("train reward=column", r"values=head needs rewards of new text; reward=column has stored ones only\.\nvalues=data"),
    ("train reward=column values=monte_carlo", r"values=monte_carlo needs rewards of new text; .*\nvalues=data"),
    ("train generation=greedy generation.samples=4", r"generation.samples is not an option of .*\nIt belongs to generation=sample"),
    ("train variant=wbc reward=column values=data reward.transform=none reward.lo=-1", r"variant=wbc uses the reward as weight, but rewards can be as low as -1"),
    ("train reward=column values=data reward.lo=2", r"reward.lo=2.0 must be less than reward.hi=1.0"),
    ("train reference=pretrained", r"reference=pretrained needs a pretrained model"),
    ("train batch_size=1 processes=2", r"batch_size=1 is less than processes=2: some processes would have no responses"),
    ("train model.hidden_size=30 model.heads=4", r"model.hidden_size=30 is not a multiple of 2 × model.heads=4"),
    ("train model.context=80", r"may take 129 tokens, but the model reads at most 80\.\ntask.max_prompt_tokens=15"),
    ("train values=constant values.value=5", r"values.value=5.0: no reward is above 1.0, .*\nSet values.value=null"),
    ("train task.stop=['']", r"task.stop contains an empty string: every response would be empty\.\ntask.stop=\[\]"),
    ("train generation=beam generation.beams=1", r"generation.beams must lie in \[2, 1024\], got 1\.\ngeneration.beams=2"),
    ("train generation=greedy generation.beams=2", r"generation.beams is not an option of .*\nIt belongs to generation=beam"),
    ("train clamp=false", r"clamp=false keeps negative advantages, but sampling=priority never draws those responses\.\nsampling=all"),
    ("train clamp=false sampling=all weight_loss=false", r"clamp=false changes the weights of the loss, .*\nclamp=true"),
    ("train clamp=false sampling=all variant=wbc", r"clamp=false keeps negative advantages, but variant=wbc does not use advantages as weights\.\nclamp=true"),
    ("train weight_loss=false variant=dpo", r"removes the weights of the loss, but variant=dpo has none\.\nweight_loss=true"),
    ("train weight_loss=false variant=nll", r"removes the weights of the loss, but variant=nll has none\.\nweight_loss=true"),
    ("train variant=dpo reduction=mean", r"variant=dpo has its own reduction\.\nreduction=sum"),
    ("train variant=dpo sampling=uniform", r"variant=dpo does not draw single responses\.\nsampling=priority sampling.exponent=1"),
    ("train variant=ppo sampling.exponent=2", r"variant=ppo does not draw single responses\.\nsampling=priority sampling.exponent=1"),
    ("train variant=ppo reward=column values=data", r"variant=ppo needs rewards of new text; .* has stored ones only\.\n.* or reward=fitted"),
    ("train variant=ppo batch_size=24", r"variant.rollout_size=64 is not a multiple of batch_size=24\.\nvariant.rollout_size=72"),
    ("train variant=pro reward=length", r"variant.scale=logit expected rewards in \[0, 1\], got \[0, inf\]\.\nvariant.scale=given"),
    # rewards
    ("train reward=mixed", r"reward=mixed has no parts\.\nreward.parts.mood=vader"),
    ("train reward.parts.mood=vader", r"reward.parts.mood is not an option of this configuration's reward\.\nParts belong to reward=mixed"),
    ("train reward=mixed reward.parts.mood=vadr", r"reward.parts.mood.reward=vadr: there is no such choice\.\nDid you mean .*=vader\?"),
    ("train reward=mixed reward.parts.a=vader reward.parts.a.wieght=1", r'no option "reward.parts.a.wieght".*\nDid you mean .*weight=1\?'),
    ("train reward=mixed reward.parts.a=vader +reward.parts.a.wieght=1", r'no option "reward.parts.a.wieght".*\nDid you mean .*weight=1\?'),
    ("train reward=mixed reward.parts.a=vader reward.parts.a.weight=inf", r"reward.parts.a.weight must be finite, got inf"),
    ("train reward=mixed reward.parts.a=fitted reward.parts.a.reward.alpha=0", r"reward.parts.a.reward.alpha must be positive, got 0"),
    ("train reward=mixed reward.parts.a=vader reward.parts.a.lo=2", r"lo=2.0 of a part must be less than its hi=1.0"),
    ("train reward=mixed reward.parts.a=vader reward.parts.a.transform=log", r"transform=log: expected one of none, sigmoid, clip, minmax, zscore"),
    ("train reward=mixed reward.parts.cut=vader", r'"cut" is not a valid name\.\nUse letters, digits and _'),
    ("train reward=mixed +reward.parts.a.weight=1", r"reward.parts.a has no reward\.\nChoose one: reward.parts.a=vader\.$"),
    ("train reward=mixed reward.parts.b=length reward.parts.a.reward.most=1", r"reward.parts.a has no reward\.\nChoose one: reward.parts.a=vader"),
    ("train reward=imdb reward.parts.sentimnt.weight=2", r"reward.parts.sentimnt has no reward\.\n.* Parts here: "),
    ("train +reward.parts.a.weight=1", r"reward.parts.a is not an option of this configuration's reward\.\nParts belong to reward=mixed"),
    ("train variant=wbc reward=mixed reward.parts.a=vader reward.parts.a.weight=-1", r"variant=wbc uses the reward as weight, .* as low as -1"),
    ("train reward=regex", r'reward.pattern has no value\.\nSet it: reward.pattern=PATTERN \('),
    ("train reward=regex reward.pattern=*a", r"reward.pattern=\*a is not a valid regular expression: nothing to repeat at position 0\.\nreward.pattern="),
    ("train reward=function", r'reward.path has no value\.\nSet it: reward.path=PATH \('),
    ("train reward=function reward.path=nowhere.py", r"reward.path=nowhere.py: no such file\.\nreward.path=FILE.py reward.function=NAME"),
    ("train reward=function reward.path=a-file", r"reward.path=a-file is not a Python file"),
    ("train reward=function reward.path=x.py reward.timeout=0", r"reward.timeout must be positive, got 0.0\.\nreward.timeout=60"),
    ("train reward=length reward.most=0", r"reward.most must be at least 1, got 0"),
    # sweeps
    ("run -m variant=seq,sq", r"variant=sq: there is no such choice"),
    ("run variant=nll -m seed=1,x", r"seed=x: expected an integer"),
    ("run -m seed=1,2 best_of=optimizer.lr", r"best_of=optimizer\.lr: all runs have the same value of this option\.\n.*nothing\."),
    ("run -m experiment=compare_hha variant=seq seed=1 best_of=optimizer.rate", r'there is no option "optimizer\.rate" under "optimizer"\.'),
    ("run -m seed=range(3,1)", r"the sweep has no jobs: one of its lists is empty"),
    # launchers of sweeps
    ("train hydra/launcher=joblib", r"hydra/launcher=joblib is for the jobs of a sweep; .*\nAdd -m: aloll train hydra/launcher=joblib -m$"),
    ("train -m hydra/launcher=submitit_slurm hydra.launcher.timout_min=3", r'no option "hydra\.launcher\.timout_min"\.\nDid you mean hydra\.launcher\.timeout_min=3\?'),
    ("train -m hydra/launcher=submitit_slurm hydra.launcher.mem=3", r"Did you mean hydra\.launcher\.mem_gb=3\?"),
    ("train -m hydra/launcher=submitit_slurm +hydra.launcher.xyz=3", r'no option "hydra\.launcher\.xyz"\.\nOptions: timeout_min, '),
    ("train -m hydra/launcher=submitit_slurm hydra.launcher.n_jobs=3", r"It belongs to hydra/launcher=joblib\.$"),
    ("train -m hydra.launcher.n_jobs=3", r"It belongs to hydra/launcher=joblib\.$"),
    ("train -m hydra/launcher=joblib hydra.launcher._target_=os.system", r'there is no option "hydra\.launcher\._target_"\.'),
    ("train -m hydra/launcher=submitit_slurm hydra.launcher.timeout_min=0", r"hydra\.launcher\.timeout_min must lie in \[1, 525600\], got 0\.\nhydra\.launcher\.timeout_min=60$"),
    ("train -m hydra/launcher=submitit_slurm hydra.launcher.timeout_min=4h", r"hydra\.launcher\.timeout_min=4h: expected an integer\.\nhydra\.launcher\.timeout_min=4$"),
    ("train -m hydra/launcher=submitit_slurm hydra.launcher.timeout_min=2 hydra.launcher.stop_before_s=300", r"stop 300 seconds before their limit of 2 minutes would never run\.\nhydra"),
    ("train -m hydra/launcher=submitit_slurm +hydra.launcher.additional_parameters.time=3", r"additional_parameters has time, which is set by other options\.\nhydra\.launcher\.timeout_min$"),
    ("train -m hydra/launcher=joblib hydra.launcher.n_jobs=0", r"hydra\.launcher\.n_jobs is 0\.\n.*, or -1 for as many as there are cores"),
    ("train -m hydra/launcher=joblib hydra.launcher.gpus=[0,0]", r"names a GPU twice\."),
    ("train -m hydra/launcher=joblib hydra.launcher.gpus=[0,1] hydra.launcher.n_jobs=3", r"n_jobs=3 jobs at a time do not have a GPU each\.\nhydra\.launcher\.n_jobs=2$"),
    ("run -m seed=interval(1,2)", r"this sweeper takes lists only\.\n-m seed=1,2"),
    # places
    ("train output_dir=", r"output_dir is empty\.\noutput_dir=FOLDER"),
    ("train output_dir=a-file/x", r"output_dir=a-file/x: a-file is a file\.\noutput_dir=FOLDER"),
    ("train output_dir=" + 300 * "x", r"output_dir cannot be used: file name too long"),
    ("train task.path=nowhere", r"task.path=nowhere: no such file or folder\.\ntask.path=FOLDER or FILE"),
    ("train task=local task.path=http://x.org/y.jsonl", r"no such file or folder\.\nDownload it first\. task\.path="),
    ("train model=pretrained model.path=https://huggingface.co/gpt2", r"not a valid repository name\.\nName it without the address: gpt2$"),
    ("export to=/proc/x", r"to=/proc/x cannot be written: no such file or directory\.\nName a folder in another place: to=FOLDER"),
    ("train task.path=", r"task.path=: no such file or folder"),
    ("train task.path=/dev/null", r"task.path=/dev/null is neither a file nor a folder"),
    ("train task.path=a-file", r"task.path=a-file: unknown file type; expected \.jsonl, \.jsonl\.gz, .*\.csv, .*\.parquet"),
    ("train task.path=empty-folder", r"task.path=empty-folder: the folder has no train file\.\nName it train.jsonl"),
    ("train task.path=twice", r"task.path=twice: found both train.jsonl and train.csv\.\nKeep one file, or one numbered set, per split"),
    ("train task.path=nested", r"task.path=nested: train.jsonl is not a file\.\nPut the train rows into a file"),
    ("train model=pretrained model.path=empty-folder", r"empty-folder contains no config.json: it is not a saved model\.\nName a folder"),
    ("train model=pretrained model.path=broken", r"config.json cannot be read: .*\nSave the model again"),
    ("evaluate policy=nowhere", r"policy=nowhere: there is no such folder\.\npolicy=FOLDER with a saved model"),
    ("evaluate policy=empty-folder", r"empty-folder contains no config.json: it is not a saved model"),
    ("report runs=[nowhere]", r"runs: nowhere has no metrics.json\.\nName metrics folders such as outputs/TASK/metrics/"),
    ("report runs=[emp*]", r"runs: empty-folder has no metrics.json\.\nName metrics folders such as"),
    ("compare runs=[x-*]", r"runs: no folder matches x-\*\.\nName metrics folders such as"),
    ("compare", r"outputs/reviews/metrics has no evaluation on the test split with reward=vader\.\nMake two with aloll run -m variant=nll,seq"),
    ("compare runs=nll", r"runs=nll: expected a list, such as \[a,b\]"),
    ("report runs=[by-hand]", r"runs: by-hand is damaged: its manifest.json cannot be read"),
    ("export to=", r"export needs a folder to write to\.\naloll export to=FOLDER$"),
    ("export", r"export needs a folder to write to\.\naloll export to=FOLDER"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the wrong things in it."""
    (tmp_path / "a-file").write_text("text")
    for name in ("empty-folder", "twice", "nested/train.jsonl", "broken", "by-hand"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "twice" / "train.jsonl").touch()
    (tmp_path / "twice" / "train.csv").touch()
    (tmp_path / "broken" / "config.json").write_text('{"model_ty')
    (tmp_path / "by-hand" / "metrics.json").write_text("{}")
    (tmp_path / "by-hand" / "manifest.json").write_text('{"files": [1]}')
    return tmp_path


# five of six are left to the slow tests, because each takes a quarter of a second
@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(*case, id=case[0][:60], marks=[] if place % 6 == 1 else [pytest.mark.slow])
        for place, case in enumerate(COMMANDS)
    ],
)
def test_a_mistake_on_the_command_line(light, folder: Path, command: str, message: str):
    said = light(folder, command.split(" "))
    assert re.search(message, said), said
    assert not (folder / "outputs").exists()


HEADER = "# @package _global_\n"
EXPERIMENTS = {
    "a misspelt key": (HEADER + "sed: 3\n", r'experiment/e.yaml: there is no option "sed"\.\nDid you mean seed\?'),
    "a misspelt key of a group": (HEADER + "variant:\n  clp: 3\n", r'"variant.clp" under "variant"\.\nDid you mean variant.clip\?'),
    "a key of another choice": (
        HEADER + "defaults:\n  - override /variant: nll\nvariant:\n  clip: 0.5\n", r'e.yaml: there is no option "variant.clip"',
    ),
    "a wrong kind": (HEADER + "seed: one\n", r"experiment/e.yaml: seed: expected an integer"),
    "a label without a worth": (
        HEADER + "defaults:\n  - override /task: local\ntask:\n  labels:\n    1: ???\n", r"task\.labels\.1 has no value",
    ),
    "a number out of range": (HEADER + "seed: -4\n", r"seed must not be negative, got -4"),
    "a choice as a value": (HEADER + "variant: seq\n", r"the choice of a group belongs into the defaults list of the file"),
    "no header": ("seed: 3\n", r"sets no option: its keys are not at the root\.\nBegin it with the line: # @package _global_"),
    "an empty file": ("", r"sets no option: its keys are not at the root"),
    "a list": (HEADER + "- 3\n", r"expected options with values"),
    "defaults that are no list": (HEADER + "defaults: 3\n", r"Invalid defaults list in 'experiment/e'"),
    "bad YAML": (HEADER + "seed: [1\n", r"e.yaml, line 3: not valid YAML: expected ',' or '\]'"),
    "a key twice": (HEADER + "seed: 1\nseed: 2\n", r"e.yaml, line 3: not valid YAML: found duplicate key seed"),
    "a Python object": (HEADER + "seed: !!python/object:os.system 1\n", r"not valid YAML: could not determine a constructor"),
    "another encoding": (HEADER.encode() + b"task: {path: caf\xe9}\n", r"a YAML file is not UTF-8"),
    "itself": (HEADER + "defaults: [e]\n", r"include each other in a circle|Defaults List"),
}  # fmt: skip


@pytest.mark.parametrize("name", some_slow(EXPERIMENTS))
def test_a_mistake_in_a_yaml_of_ones_own(light, tmp_path: Path, name: str):
    content, message = EXPERIMENTS[name]
    file = tmp_path / "own" / "experiment" / "e.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = light(tmp_path, ["train", "--config-dir", "own", "experiment=e"])
    assert re.search(message, said), said


@pytest.mark.slow
def test_a_choice_of_ones_own_needs_a_schema_and_then_knows_its_keys(light, tmp_path: Path):
    file = tmp_path / "own" / "variant" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("clip: 0.5\n")
    said = light(tmp_path, ["train", "--config-dir", "own", "variant=mine"])
    schema = 'Begin it with: defaults: ["/schema/variant/NAME@_here_"] (NAME: alol, grpo, ppo, r_lol, seq)'  # those with a clip
    assert f"variant/mine.yaml has no schema: its defaults list does not name one.\n{schema}" in said
    file.write_text('defaults: ["/schema/variant/seq@_here_"]\nclp: 0.5\n')
    said = light(tmp_path, ["train", "--config-dir", "own", "variant=mine"])
    assert 'variant/mine.yaml: there is no option "variant.clp"' in said
    file.write_text('defaults: ["/schema/variant/seq@_here_"]\nclip: 0.5\n')
    out, _ = run(tmp_path, "train", "--config-dir", "own", "variant=mine", "--cfg", "job", "--package", "variant")
    assert out == "# variant=mine\nclip: 0.5\n"


SCHEMA = r'has no schema: its defaults list does not name one\.\nBegin it with: defaults: \["/schema/'
OWN = {  # a file of one's own, and what is said
    "variant/seq": ("clip: 0.5\n", SCHEMA + r'variant/seq@_here_"\]$'),
    "variant/empty": ("", SCHEMA + r'variant/NAME@_here_"\] \(NAME: a_star, alol, '),
    "variant/half": ('defaults: ["/schema/variant/seq"]\n', r'Write it there as "/schema/variant/seq@_here_"$'),
    "variant/typo": (
        'defaults: ["/schema/variant/sqe@_here_"]\n',
        r"variant/typo\.yaml names /schema/variant/sqe, and no class has that name\.\nDid you mean /schema/variant/seq\? .*FOLDER/variant/sqe\.py",
    ),
    "model/mine": ("path: gpt2\n", SCHEMA + r'model/pretrained@_here_"\]$'),
    "adapter/mine": ("r: 4\n", SCHEMA + r'adapter/lora@_here_"\]$'),
    "task/bare": ("path: rows\n", SCHEMA + r'task/NAME@_here_", "/base/task@_here_"\] \(NAME: comet, '),
    "task/mine": (
        'defaults: ["/schema/task/reviews@_here_"]\n',
        r'own/task/mine\.yaml does not set path, on_bad_row, subsets and \d+ more\.\nBegin it with: defaults: \["/schema/task/reviews@_here_", "/base/task@_here_"\]',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", some_slow(OWN))
def test_a_choice_of_ones_own_that_begins_otherwise_than_it_must(light, tmp_path: Path, name: str):
    content, message = OWN[name]
    group, _, choice = name.partition("/")
    (tmp_path / "own" / group).mkdir(parents=True)
    (tmp_path / "own" / f"{name}.yaml").write_text(content)
    said = light(tmp_path, ["train", "--config-dir", "own", f"{group}={choice}"])
    assert re.search(message, said), said


@pytest.mark.slow
def test_a_task_of_ones_own_takes_what_every_task_has_from_the_base(tmp_path: Path):
    (tmp_path / "own" / "task").mkdir(parents=True)
    file = tmp_path / "own" / "task" / "mine.yaml"
    file.write_text('defaults: ["/schema/task/reviews@_here_", "/base/task@_here_"]\nmax_prompt_tokens: 99\n')
    out, _ = run(tmp_path, "train", "--config-dir", "own", "task=mine", "--cfg", "job", "--package", "task")
    assert out.startswith("# task=mine\npath: null\non_bad_row: error\n")
    assert "max_prompt_tokens: 99\nmax_response_tokens: 128\n" in out


@pytest.mark.slow
def test_a_file_of_ones_own_takes_the_place_of_one_with_the_same_name(tmp_path: Path):
    (tmp_path / "own" / "variant").mkdir(parents=True)
    (tmp_path / "own" / "variant" / "seq.yaml").write_text('defaults: ["/schema/variant/seq@_here_"]\nclip: 0.25\n')
    out, _ = run(tmp_path, "train", "--config-dir", "own", "--cfg", "job", "--package", "variant")
    assert out == "# variant=seq\nclip: 0.25\n"


@pytest.mark.slow
def test_text_that_means_nothing_to_the_grammar_needs_no_quotes(tmp_path: Path):
    out, _ = run(tmp_path, "train", "output_dir=~/été nº 1", "--cfg", "job")
    assert "output_dir: ~/été nº 1\n" in out


GOOD = {"prompt": "We went there.", "response": "It was good."}


def lines(*rows: object) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def dialogue(**changed: object) -> dict[str, object]:
    turns = ["<|prompter|>Hi", "<|assistant|>"]
    return {"prefix": [turns, turns], "suffix": ["Hello!", "What?"], "reward": [0.7, -0.4]} | changed


FILES = {
    "rows.jsonl": {
        "bad JSON": (lines(GOOD, GOOD, b"{oops\n"), r"rows.jsonl, line 3: not valid JSON: .* at column 2\.\nCorrect that line"),
        "bad UTF-8": (lines(GOOD, b'{"prompt": "caf\xe9"}\n'), r"rows.jsonl, line 2: byte 15 is not UTF-8\.\nSave the file as UTF-8"),
        "a list": (lines(GOOD, [1, 2]), r"line 2: expected a JSON object, got list\.\nCorrect that line: each line must be one JSON object"),
        "one list of all": (b'[\n{"prompt": "a", "response": "b"}\n]\n', r"line 1: not valid JSON: .* at column 2\.\nCorrect that line: each line must be one"),
        "UTF-16": (lines(GOOD).decode().encode("utf-16"), r"line 1: byte 0 is not UTF-8\.\nSave the file as UTF-8"),
        "a missing column": (lines(GOOD, {"prompt": "x", "reply": "y"}), r'line 2: field "response" is missing; the row has the fields \'prompt, reply'),
        "a number for text": (lines({"prompt": "x", "response": 3}), r'line 1: field "response": expected text, got 3\.\nLeave such rows'),
        "null for text": (lines({"prompt": None, "response": "y"}), r'line 1: field "prompt": expected text, got None'),
        "half a character": (lines(b'{"prompt": "\\ud800", "response": "y"}\n'), r'field "prompt" contains half of a surrogate pair'),
        "deep nesting": (lines(b'{"prompt": ' + 9999 * b"[" + 9999 * b"]" + b"}\n"), r"line 1: this JSON cannot be read"),
        "an endless number": (lines(b'{"prompt": ' + 9999 * b"9" + b"}\n"), r"line 1: this JSON cannot be read"),
        "an empty file": (b"", r"rows.jsonl: the train split has no responses\.\nThe file has no rows: add some"),
        "blank lines": (b"\n\n \n", r"rows.jsonl: the train split has no responses"),
        "empty responses": (
            lines(*({"prompt": f"{i}", "response": " "} for i in range(40))), r"no responses\.\nFound: \d+ empty responses left out\.",
        ),
        "one row": (lines(GOOD), r"rows.jsonl: the \w+ split has no responses\.\nPrompts are split by their hash .*: add rows with other prompts"),
    },
    "rows.csv": {
        "another delimiter": (b"prompt;response\na;b\n", r"rows.csv, line 2: field \"prompt\" is missing; the row has the fields 'prompt;response'"),
        "nothing": (b"", r"rows.csv: the train split has no responses"),
        "a header only": (b"prompt,response\n", r"rows.csv: the train split has no responses\.\nThe file has no rows: add some"),
        "a column twice": (b"prompt,response,response\na,b,c\n", r'rows.csv: the header has two columns "response"\.\nGive every column its own name'),
        "a row too long": (b"prompt,response\na,b\na,b,c\n", r"rows.csv, line 3: the number of cells differs from the header"),
        "a row too short": (b"prompt,response\na\n", r"rows.csv, line 2: the number of cells differs"),
        "an open quote": (b'prompt,response\na,"b\n', r"rows.csv, line \d: not valid CSV: unexpected end of data"),
        "another encoding": (b"prompt,response\na,caf\xe9\n", r"rows.csv, line 2: byte 5 is not UTF-8\.\nSave the file as UTF-8"),
        "UTF-16": ("prompt,response\na,b\n".encode("utf-16"), r"rows.csv, line 1: byte 0 is not UTF-8"),
    },
    "rows.parquet": {"a torn file": (b"PAR1 and nothing more", r"rows.parquet: not a valid Parquet file: "), "nothing": (b"", r"rows.parquet: not a valid Parquet file: .*0 bytes\.\nWrite the file again")},
    "rows.jsonl.gz": {
        "a torn file": (gzip.compress(lines(*[GOOD] * 99))[:-9], r"rows.jsonl.gz: not a complete gzip file"),
        "no gzip": (lines(GOOD), r"rows.jsonl.gz: not a complete gzip file: Not a gzipped file .*\.\n.*if it is not compressed, rename it to rows\.jsonl"),
    },
}  # fmt: skip
DIALOGUES = {
    "a text": (dialogue(reward=["n/a", 1.0]), r'line 1: field "reward": expected a number, got \'n/a\''),
    "NaN": (b'{"prefix": [["<|prompter|>Hi"]], "suffix": ["a"], "reward": [NaN]}\n', r'"reward": expected a finite number, got nan'),
    "infinity": (b'{"prefix": [["<|prompter|>Hi"]], "suffix": ["a"], "reward": [-Infinity]}\n', r'"reward": expected a finite number, got -inf'),
    "a huge integer": (dialogue(reward=[10**400, 1]), r'field "reward": expected a number, got 1000.*…'),
    "too few": (dialogue(reward=[1.0]), r'field "reward": expected 2 numbers, got \[1.0\]'),
    "none at all": (dialogue(reward=None), r'field "reward": expected 2 numbers, got None'),
    "other turns": (dialogue(prefix=[["Hi"]]), r"'Hi' starts with neither <\|prompter\|> nor <\|assistant\|>"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), some_slow([(file, name) for file, cases in FILES.items() for name in cases]))
def test_a_mistake_in_a_data_file(light, tmp_path: Path, file: str, name: str):
    content, message = FILES[file][name]
    (tmp_path / file).write_bytes(content)
    said = light(tmp_path, ["score-rewards", f"task.path={file}"])
    assert re.search(message, said), said


RATED = {"question": "How was it?", "answer": "Good.", "score": 4}
RENAMED = ["task.columns.prompt=question", "task.columns.response=answer", "task.columns.reward=score"]
LOCAL = {  # rows of one's own, options beside task=local, what is said
    "no renaming": ([RATED], [], r"""line 1: field "response" is missing; the row has the fields 'question, answer, score'\.\nName them: task.columns.prompt=question task.columns.response=answer task.columns.reward=score, or leave"""),
    "no prompt": ([{"question": "Q", "response": "A"}], [], r"""field "prompt" is missing; the row has the fields 'question, response'\.\nName it: task.columns.prompt="""),
    "a reward that is not there": (
        [{"prompt": "Q", "response": "A"}], ["task.columns.reward=score"], r"""field "score" is missing; the row has the fields 'prompt, response'\.\nName it: task.columns.reward=""",
    ),
    "a rating in words": ([RATED, RATED | {"score": "four"}], RENAMED, r"""line 2: field "score": expected a number, got 'four'\.\nSay what such texts are worth, such as "task\.labels={four: 1}" ?"""),
    **{
        f"a rating that is not among the labels {labels}": (
            [RATED], [*RENAMED, f"task.labels={labels}"], rf'line 1: field "score": expected one of the labels {known}, got 4',
        )
        for labels, known in (("{1: 0, 2: 0.5}", "1, 2"), ("{0.5: 0}", r"0\.5"), ("{true: 1, false: 0}", "true, false"))
    },
    "a dash as a rating": ([RATED | {"score": "-"}], RENAMED, r"""line 1: field "score": expected a number, got '-'"""),
    "NaN": ([RATED | {"score": float("nan")}], RENAMED, r'line 1: field "score": expected a finite number, got nan'),
    "one number for two": ([RATED | {"answer": ["A", "B"]}], RENAMED, r'line 1: field "score": expected 2 numbers, one for each of "answer", got 4'),
    "three numbers for two": ([RATED | {"answer": ["A", "B"], "score": [1, 2, 3]}], RENAMED, r'expected 2 numbers, one for each of "answer", got \[1, 2, 3\]'),
    "two numbers for one": ([RATED | {"score": [1, 2]}], RENAMED, r'line 1: field "score": expected a number, got \[1, 2\]'),
    "no responses": ([RATED | {"answer": []}], RENAMED, r'line 1: field "answer": expected a list of texts, got \[\]'),
    "a response that is none": ([RATED | {"answer": ["A", 2]}], RENAMED, r"""field "answer": expected a list of texts, got \['A', 2\]"""),
    "half of two ratings": ([RATED | {"safe": None}], [*RENAMED[:2], "task.columns.reward=[score,safe]"], r'field "safe": expected a number, as in the other columns of score, safe, got None'),
    "a split of another name": ([RATED | {"part": "holdout"}], [*RENAMED, "task.columns.split=part"], r"""field "part": expected one of train, validation, .*, got 'holdout'"""),
    "no split column": ([RATED], [*RENAMED, "task.columns.split=part"], r"""field "part" is missing; the row has the fields 'question, answer, score'\.\nName it: task.columns.split="""),
    "a prompt in two splits": (
        [RATED | {"part": part} for part in ("train", "dev")], [*RENAMED, "task.columns.split=part"],
        r'rows.jsonl, row 2: the prompt "How was it\?" is in train and in validation\.\nSplits must not share a prompt',
    ),
    "nothing for a split": ([RATED | {"part": "train"}], [*RENAMED, "task.columns.split=part"], r"rows.jsonl: the validation split has no responses"),
    "no row of that split, for its bad rows": (
        [RATED | {"part": "train"}] + 3 * [RATED | {"part": "dev", "score": "n/a"}],
        [*RENAMED, "task.columns.split=part", "task.on_bad_row=skip"],
        r'no responses\.\nFound: 3 bad rows skipped\. Mark its rows in the column "part": validation, valid, val, dev\.',
    ),
    "bad rows alone": (
        3 * [RATED], ["task.on_bad_row=skip"], r"no responses\.\nFound: 3 bad rows skipped\. Set task.on_bad_row=error to see what is wrong",
    ),
    "another column": (
        [{"prompt": "Q", "response": "A", "stars": 3}], ["task.columns.reward=score"], r"Name it: task.columns.reward=stars, or leave",
    ),
    "a name that is nearly right": (
        [{"prompt": "Q", " response": "A", " reward": 3}], [], r"""Name it: task.columns.response='" response"', or leave""",
    ),
    "semicolons": ([{"prompt;response;reward": "Q;A;1"}], [], r"Separate columns by commas, not by ';', or leave"),
    "tabs": ([{"prompt\tresponse": "Q\tA"}], [], r"Separate columns by commas, not by '\\t', or leave"),
    "a chat without an answer": (
        [{"messages": [{"role": "user", "content": "Q"}]}], [],
        r'field "messages" ends with a turn of the user, and there is no "response"\.\nAdd the response as the last assistant turn, or as the column "response"',
    ),
    "a chat that the assistant ends, and an answer": (
        [{"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "response": "A"}], [],
        r'field "messages" ends with a turn of the assistant; expected a turn of the user, and the response in "response"',
    ),
    "a speaker that is unknown": (
        [{"messages": [{"role": "wizard", "content": "Q"}], "response": "A"}], [], r"""turn 1: expected "role" to be one of system, user, assistant, got 'wizard'""",
    ),
    "content in pieces": (
        [{"messages": [{"role": "user", "content": [{"type": "text"}]}], "response": "A"}], [], r"""turn 1: expected the "text" of a part to be text, got None""",
    ),
    "a prompt beside messages": (
        [{"prompt": "Q", "messages": [{"role": "user", "content": "Q"}], "response": "A"}], [], r'fields "prompt" and "messages" are both set',
    ),
    "lists of lists": ([RATED | {"answer": [["A"], ["B"]], "score": [[1], [0]]}], RENAMED, r"""field "answer": expected a list of texts, got \[\['A'\], \['B'\]\]"""),
    "infinity": ([RATED | {"score": float("inf")}], RENAMED, r'field "score": expected a finite number, got inf'),
    "turns under another name": ([{"chat": "Hi", "response": "A"}], ["task.columns.messages=chat"], r"""field "chat": expected a list of turns, got 'Hi'"""),
    "turns that are not there": ([{"prompt": "Hi", "response": "A"}], ["task.columns.messages=chat"], r'field "chat" is missing; the row has'),
}  # fmt: skip


@pytest.mark.parametrize("name", some_slow(LOCAL))
def test_a_mistake_in_rows_of_ones_own(light, tmp_path: Path, name: str):
    rows, options, message = LOCAL[name]
    (tmp_path / "rows.jsonl").write_bytes(lines(*rows))
    said = light(tmp_path, ["score-rewards", "task=local", "task.path=rows.jsonl", *options])
    assert re.search(message, said), said


@pytest.mark.parametrize("name", some_slow(DIALOGUES))
def test_a_mistake_in_a_stored_reward(light, tmp_path: Path, name: str):
    row, message = DIALOGUES[name]
    (tmp_path / "rows.jsonl").write_bytes(lines(row))
    said = light(tmp_path, ["score-rewards", "task=hha", "task.path=rows.jsonl"])
    assert re.search(message, said), said


def test_a_mistake_in_the_messages_of_a_chat(light, tmp_path: Path):
    chat = {"messages": [{"role": "user", "content": "Hi!"}], "response": "Hello."}
    (tmp_path / "rows.jsonl").write_bytes(lines(chat, chat | {"messages": [{"role": "user", "content": None}]}))
    said = light(tmp_path, ["score-rewards", "task=local", "task.path=rows.jsonl"])
    assert re.search(r'line 2: field "messages", turn 1: expected "content" to be text, got None\.\nLeave such rows out', said), (
        said
    )


def test_a_prompt_in_two_splits(light, tmp_path: Path):
    folder = reviews(tmp_path / "rows")
    write_rows(folder / "test.jsonl", [{"prompt": "Visit 3 to the train place.", "response": "Again."}])
    said = light(tmp_path, ["train", "task.path=rows"])
    assert 'the prompt "Visit 3 to the train place." is in train and in test.\nSplits must not share a prompt' in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("inspect", ["reward=column"]),
        ("score-rewards", ["reward=column"]),
        ("train", ["reward=column", "variant=dpo"]),
        ("train", ["reward=vader", "variant=nll", "values=constant", "values.value=5"]),
        ("ls", ["reward=column", "batch_size=1", "processes=2"]),
    ],
)
def test_no_stage_refuses_for_options_that_it_does_not_use(tmp_path: Path, stage: str, options: list[str]):
    rows = [{"prompt": f"Prompt {i // 2}", "response": f"Text {i}.", "reward": i % 2} for i in range(240)]
    (tmp_path / "rows.jsonl").write_bytes(lines(*rows))
    fits = [option for option in SMALL if not option.startswith("values.") or "values" not in " ".join(options)]
    quick(tmp_path, stage, "task=local", "task.path=rows.jsonl", *fits, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    some_slow([
        (["reward=column", "values=data"], r"example \w+-0-0 has no stored reward\.\ntask\.unrated=drop leaves out .*"
         r"; reward=vader and others score text instead\. The column of rewards: task\.columns\.reward .*\nColumns of the data: prompt, response\.$"),
        (["task.responses=best"], r"task.responses=best compares stored rewards, but some responses have none\.\n"
         r"task.responses=all, or task.unrated=drop"),
        (["reward=fitted", "values.folds=2"], r"no response of the train split has a stored reward to fit on\.\n"
         r".*\nColumns of the data: prompt, response\.$"),
        (["variant=dpo"], r"no prompt has two responses that can be compared: .*: 0\.\nSet task.responses=all, or .*=seq"),
        (["variant=ref_free", "values=constant", "values.value=0.999"], r"no response has a positive weight, so there is no training data\.\nNo reward is above its V"),
        (["values=group"], r"values=group needs prompts with several responses, but every prompt has only one\.\nvalues=data"),
        (["values.folds=99"], r"values.folds=99 needs at least 99 validation prompts, and there are 4\.\nvalues.folds=4, or values=constant$"),
        (["values=data", "values.folds=99"], r"values.folds=99 needs at least 99 train prompts, and there are \d+\.\nvalues.folds=\d+, or"),
        (["upstream=require"], r"is missing, and upstream=require does not build it\.\nBuild it with: aloll \S+ task.path=rows"),
    ]),
)  # fmt: skip
def test_a_choice_that_the_data_does_not_allow(tmp_path: Path, options: list[str], message: str):
    reviews(tmp_path / "rows")
    fits = [option for option in SMALL if not option.startswith("values.") or options[0].startswith("values.")]
    said = refused(tmp_path, "train", "task.path=rows", *fits, *options)
    assert re.search(message, said), said
    needs_values = "no response has a positive weight" in said
    assert any(tmp_path.glob("outputs/*/reference/*")) == needs_values, "what the data tells is found before π_ref is trained"


@pytest.mark.slow
def test_a_prompt_with_more_responses_than_can_be_compared(tmp_path: Path):
    many = [{"prompt": "Write a review:", "response": f"Text {i}.", "reward": i / 300} for i in range(300)]
    others = [{"prompt": f"Prompt {i}", "response": "Yes.", "reward": 0.5} for i in range(60)]
    (tmp_path / "rows.jsonl").write_bytes(lines(*many, *others))
    options = ["task=local", "task.path=rows.jsonl", "reward=column", "values=constant", "values.value=null", "variant=dpo"]
    fits = [option for option in SMALL if not option.startswith("values.")]
    said = refused(tmp_path, "train", *options, *fits)
    assert "a prompt has 300 responses; methods that compare the responses to a prompt take 256 at most.\n" in said
    assert "variant=seq" in said


@pytest.mark.slow
def test_a_prompt_longer_than_the_context_of_a_model_that_is_loaded(tmp_path: Path):
    reviews(tmp_path / "rows")
    gpt2().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    options = [
        "task.path=rows",
        "model=pretrained",
        "model.path=model",
        "reference=pretrained",
        "task.max_response_tokens=120",
        "values.folds=2",
    ]
    said = refused(tmp_path, "train", *options)
    assert "may take 185 tokens, but the model reads at most 128.\ntask.max_prompt_tokens=7" in said


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    some_slow(
        [
            ("an unknown type", {"model_type": "nosuch"}, r"model cannot be loaded: .+\nIt must be a causal language model"),
            (
                "a value of another kind",
                {"model_type": "gpt2", "initializer_range": ".."},
                r"model cannot be loaded: Validation error for",
            ),
            ("no type", {"hidden_size": 3}, r"config.json has no model_type"),
            (
                "no weights",
                {"model_type": "gpt2"},
                r"model has no model\.safetensors; pickled weights \(pytorch_model\.bin\) are not loaded\.\nName a converted revision",
            ),
        ]
    ),
    ids=lambda value: value if isinstance(value, str) and " " in value and "model" not in value else "",
)
def test_a_folder_that_is_no_model(tmp_path: Path, kind: str, content: dict[str, object], message: str):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(content))
    said = refused(tmp_path, "train", "model=pretrained", "model.path=model")
    assert re.search(message, said), said


@pytest.mark.parametrize(
    "options", [["task=hha"], ["task=local", "task.hub=somebody/rows"], ["model=pretrained", "model.path=somebody/some-model"]]
)
def test_a_name_on_the_hub_without_a_network(light, tmp_path: Path, options: list[str]):
    said = refused(tmp_path, "train", *options)
    assert re.search(
        r"not available from the hub: the hub cannot be reached, and nothing is cached under this name\.\nName a local folder or another hub name",
        said,
    )


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_given_up_within_15_seconds(tmp_path: Path):
    silent = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []
    threading.Thread(target=lambda: taken.append(silent.accept()[0]), daemon=True).start()
    start = time.monotonic()
    address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    said = refused(tmp_path, "train", "task=hha", HF_ENDPOINT=address, HF_HUB_OFFLINE="0", NO_PROXY="127.0.0.1")
    assert time.monotonic() - start < 15
    assert "the hub cannot be reached" in said
    assert len(taken) == 1


def test_a_revision_that_was_fetched_before_is_found_without_a_network(tmp_path: Path):
    commit = 40 * "a"
    cached = tmp_path / "cache" / "models--somebody--some-model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "config.json").write_text("{}")
    code = "from aloll_cli.store.hub import resolved_revision; print(resolved_revision('somebody/some-model', 'model'))"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == commit


def test_a_file_that_may_not_be_read_is_not_taken_for_a_full_disk(tmp_path: Path):
    from aloll_cli.files import full_disk

    forbidden = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/rows.jsonl")
    assert full_disk(forbidden, tmp_path) is None
    assert "permission denied" in str(full_disk(PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/x"), tmp_path))
    assert "no space left" in str(full_disk(OSError(errno.ENOSPC, "No space left on device"), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kind"), [(0, "locks"), (20_000, "data"), (220_000, "reference")])
def test_a_full_disk_is_said_in_two_lines_and_costs_only_the_artifact_at_hand(tmp_path: Path, size: int, kind: str):
    options = ["train", *SMALL, "model.hidden_size=64"]
    limited = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    _, said = (quick if size else run)(tmp_path, *options, code=2, before=limited)  # the files of the first have a limit too
    assert "Traceback" not in said
    what, hint = said.strip().split("\n")[-2:]
    assert re.fullmatch(rf"aloll train: .*{kind}.* cannot be (?:read or )?written: file too large\.", what), what
    assert re.search("Free some disk space and repeat the command|output_dir=FOLDER|the room on its disk", hint)
    assert not any(tmp_path.rglob("*.partial"))
    if kind == "reference":
        quick(tmp_path, *options)


@pytest.mark.slow
def test_what_another_process_is_making_is_refused_when_asked_to(tmp_path: Path):
    from tiny import composed

    from aloll_cli.artifacts.pipeline import Pipeline
    from aloll_cli.store.locks import ArtifactLock

    folder = reviews(tmp_path / "rows")
    data = Pipeline(composed(f"task.path={folder}")).data
    lock = ArtifactLock(tmp_path / "outputs" / "reviews", data.folder)
    assert lock.try_acquire()
    said = refused(tmp_path, "score-rewards", f"task.path={folder}", "busy=refuse")
    assert f"{data.folder} is being built by process {os.getpid()} on " in said
    assert said.endswith("Wait for it, or let aloll wait: busy=wait")


@pytest.mark.slow
def test_several_processes_say_a_mistake_once(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(lines({"prompt": "x", "response": 3}))
    said = refused(tmp_path, "train", "task.path=rows.jsonl", "processes=2", *SMALL)
    assert said.count('field "response": expected text, got 3') == 1


def option_classes() -> list[type]:
    """Every dataclass of options, the nested ones included."""
    left, found = [Settings, *(cls for entries in GROUPS.values() for cls in entries.values())], []
    while left:
        cls = left.pop()
        found.append(cls)
        left += [f.type for f in fields(cls) if is_dataclass(f.type) and f.type not in found]
    return found


def test_every_number_refuses_what_is_none_and_what_lies_outside():
    looked_at = 0
    for cls in option_classes():
        for option in fields(cls):
            kinds = set(re.findall(r"\b(int|float)\b", str(option.type)))
            if not kinds:
                continue
            looked_at += 1
            node = OmegaConf.structured(cls)
            wrong = [10**12, -(10**12)] if kinds == {"int"} else [float("nan")]
            for value in wrong:
                node[option.name] = [value] if "list" in str(option.type) else value
                ((name, got, interval),) = _out_of_range(node, "x.")
                assert name == f"x.{option.name}"
                assert got == value or got != got
                assert interval.against(value).startswith("must ")
                proposed = interval.proposal()
                assert proposed is None or proposed in interval
    assert looked_at > 40


BOUNDS = {  # numbers that an option takes, and such that it does not
    (Seq, "clip"): ([0.01, 0.99, None], [0.0, 1.0, -0.1, 1.5]),
    (Alol, "clip"): ([0.01, 0.99, None], [0.0, 1.0, -0.1, 1.5]),
    (RLol, "clip"): ([0.5], [0.0, 1.0]),
    (Kl, "beta"): ([0.0, 1.0], [-1.0]),
    (RGold, "floor"): ([0.0, 1.0], [-0.1, 1.1]),
    (Sample, "top_p"): ([0.1, 1.0], [0.0, 1.1]),
    (Sample, "temperature"): ([0.1], [0.0, -1.0]),
    (Sample, "samples"): ([1, 8], [0]),
    (Greedy, "repetition_penalty"): ([0.9, 1.0, 2.5], [0.0, -1.0]),
    (Beam, "beams"): ([2], [1, 0]),
    (MonteCarlo, "samples"): ([1], [0]),
    (Adamw, "lr"): ([1e-9, 1.0], [0.0, -1.0]),
    (Adamw, "betas"): ([[0.0, 0.999]], [[0.9, 1.0], [-0.1, 0.9]]),
    (Adamw, "weight_decay"): ([0.0], [-1.0]),
    (Adamw, "max_grad_norm"): ([0.5, None], [0.0]),
    (Priority, "exponent"): ([0.5], [0.0]),
    (Fitted, "alpha"): ([0.1], [0.0]),
    (Data, "folds"): ([2], [1]),
    (Data, "dropout"): ([0.0], [1.0]),
    (Data, "epochs"): ([1], [0]),
    (Settings, "epochs"): ([0.1, None], [0.0]),
    (Settings, "seed"): ([0, 2**31 - 1], [-1, 2**31]),
}  # fmt: skip


@pytest.mark.parametrize(("cls", "name"), BOUNDS, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_the_bounds_of_a_number(cls: type, name: str):
    right, wrong = BOUNDS[cls, name]
    for value in right + wrong:
        node = OmegaConf.structured(cls)
        node[name] = value
        assert len(list(_out_of_range(node, ""))) == (value in wrong), value
