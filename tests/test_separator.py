"""The space that a task puts between prompt and response is trained and generated, and is no part of what rewards read."""

from copy import deepcopy
from dataclasses import replace

import pytest
from tiny import composed, gpt2, some_slow, store, tokenizer, write_rows

from aloll_cli import run
from aloll_cli.artifacts.fitted_reward import rows_to_fit
from aloll_cli.artifacts.pipeline import Pipeline
from aloll_cli.artifacts.rewards import load_rewards
from aloll_cli.artifacts.rollout_data import open_responder
from aloll_cli.artifacts.speaker import job_in
from aloll_cli.judging.base import Bench
from aloll_cli.judging.pairs import Pair
from aloll_cli.models.logprobs import ResponseLogps
from aloll_cli.rewards.base import Row, reading
from aloll_cli.rewards.reading import Reader
from aloll_cli.rewards.templates import as_text, filled
from aloll_cli.runtime.world import Alone
from aloll_cli.settings.choices import Split

ANSWERS = ("Sorry about that.", "We are sorry.", "Yes, on Monday.", "Sorry, no.")
GROUP = "0" * 16


def orders(count: int = 60) -> list[dict]:
    """Rows of texts, of which every third prompt ends in a line break, so that nothing is put behind it."""
    return [
        {"prompt": f"Order {i}, where is it?" + "\n" * (i % 3 == 0), "response": ANSWERS[i % 4], "reward": float(i % 4 == 0)}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "orders.jsonl"
    write_rows(file, orders())
    return file


def local(path, *options):
    return composed("task=local", f"task.path={path}", *options).task


def read(task, prompt: str, response: str) -> Row:
    """What a reward reads of a row."""
    (record,) = task.records({"prompt": prompt, "response": response})
    return Row.of(task, "a", record.group, record.prompt, record.response, turns=[{"role": "user", "content": prompt}])


@pytest.mark.parametrize(
    ("seam", "prompt", "response"),
    [
        ("auto", "Where is it?", "Sorry."),
        ("auto", "Where is it?\n", "Sorry."),
        ("auto", "Where is it?\n", " Sorry."),
        ("auto", "Where is it?", "\n  Sorry."),
        ("auto", "Where is it?", "  Sorry."),
        ("auto", "今天天气", "很好"),
        ("auto", "今天天气", " 很好"),
        ("auto", "2 + 2 =", "4"),
        ("space", "Where is it?", "Sorry."),
        ("space", "Where is it?\n", " Sorry."),
        ("space", "Where is it?", "  Sorry."),
        ("none", "Where is it?", "Sorry."),
        ("none", "Where is it?", " Sorry."),
    ],
)
def test_a_reward_reads_the_response_as_its_row_has_it(file, seam, prompt, response):
    task = local(file, f"task.seam={seam}")
    (record,) = task.records({"prompt": prompt, "response": response})
    row = read(task, prompt, response)
    assert row.response == response
    assert row.text == record.response
    assert row.sentence == prompt + record.response


def test_a_single_space_of_ones_own_is_the_same_tokens_and_the_same_row_as_the_one_that_is_put_there(file):
    task = local(file)
    assert read(task, "Where is it?", " Sorry.") == read(task, "Where is it?", "Sorry.")


def test_nothing_is_removed_where_a_model_leaves_the_space_out_or_answers_a_chat(file):
    task = local(file)
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]
    assert Row.of(task, "a", GROUP, "Where is it?", "Sorry.").response == "Sorry."
    assert Row.of(task, "a", GROUP, "User:\nHi", " Sorry.", turns=chat).response == " Sorry."


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reviews", "imdb", "hha"])
def test_the_tasks_with_public_data_put_a_space_that_rewards_do_not_read(name):
    row = Row.of(composed(f"task={name}").task, "a", GROUP, "It was", " good.")
    assert (row.response, row.separator, row.sentence) == ("good.", " ", "It was good.")


@pytest.mark.slow
def test_rewards_of_logged_responses_and_rows_that_rewards_are_fitted_to_are_those_of_the_users_texts(file, tmp_path):
    line = Pipeline(composed("task=local", f"task.path={file}", "reward=regex", 'reward.pattern="^Sorry"'))
    place = store(tmp_path)
    scores = load_rewards(place.ensure(line.rewards()))
    own = {row["prompt"]: row["response"] for row in orders()}
    fitted = rows_to_fit(job_in(place), line.data, "train")
    assert [row.response for row in fitted] == [own[row.prompt] for row in fitted]
    assert scores.tolist() == [float(own[row.prompt].startswith("Sorry")) for row in fitted]
    assert 0 < scores.mean() < 1


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A random model that begins some responses with a space, and a reward that counts the characters it reads."""
    folder = tmp_path_factory.mktemp("writer")
    gpt2().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    (folder / "count.py").write_text("def count(rows):\n    return [len(row['response']) for row in rows]\n")
    return folder


def with_writer(writer, file, out, *more):
    return composed(
        "task=local", f"task.path={file}", "task.max_prompt_tokens=60", "task.max_response_tokens=8", f"output_dir={out}",
        "model=pretrained", f"model.path={writer / 'model'}", "reference=pretrained", "reward=function", "threads=1",
        f"reward.path={writer / 'count.py'}", "reward.function=count", "reward.hi=1000", "generation.samples=32", *more,
    )  # fmt: skip


def check(found: list[tuple[str, str, float]]) -> None:
    """Whether of each prompt, generated text and count the space in front is not counted, where the task would put it."""
    put = [text[:1] == " " and text[1:2].strip() != "" and not prompt.endswith("\n") for prompt, text, _ in found]
    assert [score for *_, score in found] == [len(text) - space for (_, text, _), space in zip(found, put, strict=True)]
    assert 0 < sum(put) < len(put)


@pytest.mark.slow
def test_generated_responses_are_read_without_the_space_too(writer, file, tmp_path):
    settings = with_writer(writer, file, tmp_path, "policy=reference", "prompt=Order 9?", "samples=64")
    check([(row["prompt"], row["response"], row["reward"]) for row in run("generate", settings)])


@pytest.mark.slow
def test_so_are_those_to_all_prompts_of_a_split_which_evaluate_compares(writer, file, tmp_path):
    settings = replace(with_writer(writer, file, tmp_path, "policy=reference"), split=Split.test, to="-")
    check([(row["prompt"], row["response"], row["reward"]) for row in run("generate", settings)])


@pytest.mark.slow
def test_so_are_those_of_evaluations_and_rollouts_during_training(writer, file, tmp_path):
    settings = with_writer(writer, file, tmp_path)
    line, place = Pipeline(settings), store(tmp_path)
    place.ensure(line.examples)
    responder = open_responder(job_in(place), line.examples, "train", tokenizer(), settings.generation, line.scored_by)
    asked = [(f"{GROUP}-{sample}", row) for row in (0, 1) for sample in range(32)]
    responses, scores = responder.respond(ResponseLogps(gpt2()), asked, "one", Alone())
    prompts = responder.examples.at([row for _, row in asked], ["prompt"]).column("prompt").to_pylist()
    check([(prompt, response.text, score) for prompt, response, score in zip(prompts, responses, scores, strict=True)])


def test_texts_that_join_prompt_and_response_keep_the_space(file):
    row = read(local(file), "Where is it?", "Sorry.")
    assert as_text(filled("{prompt}{response}", row, " ")) == as_text(filled("{sentence}", row, " ")) == "Where is it? Sorry."
    assert as_text(filled("{prompt}</s>{response}", row, " ")) == "Where is it?</s>Sorry."
    ids = tokenizer()("Where is it? Sorry.", add_special_tokens=False)["input_ids"]
    assert Reader(tokenizer(), 60, 60).read([row])[0][0][1:-1] == ids


def test_a_turn_of_a_chat_model_begins_with_the_response_and_goes_on_with_the_space():
    words = deepcopy(tokenizer())
    words.chat_template = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
    words.chat_template += "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    asked = {"role": "user", "content": "Bake?"}
    alone = Row("a", GROUP, "Bake?", "Mix flour.", None, [asked], separator=" ")
    goes_on = Row("b", GROUP, "Bake?Mix", "flour.", None, [asked, {"role": "assistant", "content": "Mix"}], separator=" ")
    first, second = (words.decode(ids) for ids in Reader(words, 60, 60).read([alone, goes_on])[0])
    assert first == second
    assert first.endswith("assistant\nMix flour.</s>")


@pytest.mark.slow
def test_a_reward_that_judges_reads_them_as_it_does_elsewhere(file, tmp_path):
    regex = composed("reward=regex", 'reward.pattern="^Sorry"').reward
    judge = replace(composed("judge=reward").judge, reward=regex)
    place = store(tmp_path)
    bench = Bench(tmp_path, place.log, place.stopper, lambda: regex.scorer(None), local(file))
    (ballot,) = judge.judge([Pair("Where is it?", " Sorry.", " We are sorry.")], composed().rubric, bench).ballots
    assert ballot.text == "1 0"


@pytest.mark.parametrize(
    "name", some_slow(["vader", "length", "length reward.unit=characters", "fitted", "fitted_characters", "tfidf_diversity"])
)
def test_rewards_that_do_not_read_the_edges_give_the_same_figures_and_keep_their_recipe(name, tmp_path):
    choice, *more = name.split()
    reward = composed("task=local", "task.path=x.jsonl", f"reward={choice}", *more).reward
    bare = [Row(f"r{i}", f"{i:016x}", f"{r['prompt']} {i % 3}", r["response"], i % 4 / 4) for i, r in enumerate(orders(80))]
    spaced = [replace(row, response=f" {row.response}") for row in bare]
    scores = []
    for rows, folder in ((bare, tmp_path / "bare"), (spaced, tmp_path / "spaced")):
        folder.mkdir()
        if reward.is_fitted:
            reward.fit(rows, rows, folder)
        scores.append(reward.scorer(folder if reward.is_fitted else None).score(rows).tolist())
    assert scores[0] == scores[1]
    assert reading(reward) == {}


def test_rewards_that_may_read_the_edges_have_a_recipe_of_their_own():
    regex = composed("reward=regex", "reward.pattern=a").reward
    assert reading(regex) == {"reads": 2}
    assert "reads" in Pipeline(composed("reward=regex", "reward.pattern=a")).scored_by.identity()
