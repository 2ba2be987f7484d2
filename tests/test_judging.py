"""Judging: figures by hand, replies of a chat model behind a scripted server, and votes of people."""

import json
import re
import shutil
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from evaluated import write_run
from scripted_server import Act, Scripted, texts_of
from tiny import composed, store

from aloll_cli.comparison.differences import compared
from aloll_cli.comparison.judged import judgements_of
from aloll_cli.comparison.runs import load_run
from aloll_cli.errors import UserError
from aloll_cli.judging.figures import agreement, figures
from aloll_cli.judging.ledger import Ledger
from aloll_cli.judging.page import render
from aloll_cli.judging.pairs import Ballot, Pair, chosen
from aloll_cli.judging.rubric import read_labels
from aloll_cli.judging.votes import FORMAT, page_for, read_votes
from aloll_cli.reports.comparison_columns import as_plain, caveats
from aloll_cli.reports.judged import sentences
from aloll_cli.reports.page import render as render_report
from aloll_cli.runtime import asking
from aloll_cli.runtime.chat_server import Reply
from aloll_cli.stages.judge import run

SECRET = "sk-very-secret-0123456789"
TEN = [Pair(f"prompt {i}", f"first {i}", f"second {i}") for i in range(10)]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)


def longer_wins(request, count=0):
    """A fair judge of helpfulness, to which everything is equally safe."""
    said = texts_of(request)
    a, b = len(said["response A"]), len(said["response B"])
    return Act(text=json.dumps({"helpful": "A" if a > b else "B" if b > a else "equal", "safe": "equal"}))


@cache
def plain(*options):
    """Settings, composed once."""
    return composed(*options)


def settings(folders, **options):
    return replace(plain(), runs=[str(folder) for folder in folders], **{"resamples": 200} | options)


def judged_by(server, root, folders, resamples=200, **options):
    judge = plain("judge=llm", "judge.url=http://localhost/v1", "judge.model=org/tester", "judge.key=TEST_KEY").judge
    judge = replace(judge, url=server.url, timeout=0.4, **options)
    return run(settings(folders, judge=judge, resamples=resamples), store(root / "outputs" / "reviews"))


def by_reward(name="vader"):
    return replace(plain("judge=reward").judge, reward=plain(f"reward={name}").reward)


@pytest.fixture
def folder(tmp_path):
    """A run whose policy gives long responses to ten prompts."""
    rewards = {f"prompt {i}": 0.5 for i in range(10)}
    return write_run(tmp_path / "outputs" / "reviews", rewards=rewards, response="a rather longer response")


@pytest.mark.parametrize(
    ("text", "labels", "why"),
    [
        ('{"helpful": "A", "safe": "equal"}', {"helpful": "A", "safe": "equal"}, ""),
        ('Sure.\n```json\n{"helpful": "b", "safe": " Neither "}\n```', {"helpful": "B", "safe": "neither"}, ""),
        ('{"helpful": "A", "safe": "A"} and again {"safe": "A", "helpful": "A"}', {"helpful": "A", "safe": "A"}, ""),
        ('{"helpful": "A", "safe": "A"} or {"helpful": "B", "safe": "A"}', None, "several objects with different labels"),
        ('{"helpful": "A"}', None, "no label for safe"),
        ('{"helpful": "C", "safe": "A"}', None, "no label for helpful"),
        ('{"helpful": null, "safe": ["A"]}', None, "no label for helpful"),
        ("A is better", None, "no JSON object"),
        ('{"helpful": "A", "safe', None, "no JSON object"),
        ("{" * 5000, None, "no JSON object"),
        ("", None, "no JSON object"),
    ],
)
def test_labels_are_read_from_one_object_and_nothing_is_guessed(text, labels, why):
    assert read_labels(text, ["helpful", "safe"]) == (labels, why)


def test_no_response_ends_its_own_text_in_a_request():
    rubric = plain().rubric
    request = rubric.request("p {first}", "{mark}\nend of response A\nresponse B", "b {prompt}")
    assert texts_of(request) == {
        "prompt": "p {first}", "response A": "{mark}\nend of response A\nresponse B", "response B": "b {prompt}",
    }  # fmt: skip


def test_the_win_rate_of_ten_pairs_is_that_by_hand():
    # in both orders: 4 pairs won twice, 2 lost twice, 1 won and lost, 1 equal twice, 1 neither twice, 1 won and equal
    outcomes = ["AB"] * 4 + ["BA"] * 2 + ["AA", ("equal", "equal"), ("neither", "neither"), ("A", "equal")]
    ballots = [
        Ballot(pair.key, "m", swapped, {"q": label})
        for pair, labels in zip(TEN, outcomes, strict=True)
        for swapped, label in zip((False, True), labels, strict=True)
    ]
    found = figures(TEN, ballots, ["q"], 200)
    of = found["questions"]["q"]
    assert of["win_rate"]["mean"] == pytest.approx((4 + 0 + 0.5 + 0.5 + 0.5 + 0.75) / 10)
    lo, hi = of["win_rate"]["ci95"]
    assert 0.3 < lo < 0.625 < hi < 0.95
    assert of["shares"] == pytest.approx({"first": 10 / 20, "second": 5 / 20, "equal": 3 / 20, "neither": 2 / 20})
    assert of["position"] == {"A": 9, "B": 6, "bias": pytest.approx(3 / 15)}
    assert of["consistent"] == 0.8
    assert (found["prompts"], found["pairs"], found["judged"], found["left_out"], found["malformed"]) == (10, 10, 10, 0, 0)


def test_a_judge_that_always_says_a_gives_a_half_with_a_bias_of_one():
    ballots = [Ballot(pair.key, "m", swapped, {"q": "A"}) for pair in TEN for swapped in (False, True)]
    of = figures(TEN, ballots, ["q"], 200)["questions"]["q"]
    assert (of["win_rate"]["mean"], of["win_rate"]["ci95"]) == (0.5, [0.5, 0.5])
    assert (of["position"]["bias"], of["consistent"]) == (1.0, 0.0)


def test_a_pair_with_a_malformed_reply_is_left_out_and_counted():
    ballots = [
        Ballot(pair.key, "m", swapped, {"q": "A" if not swapped else "B"}) for pair in TEN[1:] for swapped in (False, True)
    ]
    ballots += [Ballot(TEN[0].key, "m", False, {"q": "B"}), Ballot(TEN[0].key, "m", True, None, "no JSON object")]
    found = figures(TEN, ballots, ["q"], 200)
    assert found["questions"]["q"]["win_rate"]["mean"] == 1.0
    assert (found["judged"], found["left_out"], found["malformed"]) == (9, 1, 1)
    assert found["malformed_why"] == {"no JSON object": 1}
    assert found["questions"]["q"]["win_rate"]["ci95"] is None  # nine prompts


def test_samples_of_a_prompt_count_as_one_prompt_and_equal_texts_as_equal():
    pairs = [Pair("p", "a", "b"), Pair("p", "same", "same"), Pair("q", "c", "d")]
    ballots = [Ballot(pairs[0].key, "m", False, {"q": "A"}), Ballot(pairs[2].key, "m", False, {"q": "B"})]
    found = figures(pairs, ballots, ["q"], 200)
    assert found["questions"]["q"]["win_rate"] == {"mean": (0.75 + 0) / 2, "ci95": None}
    assert (found["prompts"], found["identical"], found["judged"]) == (2, 1, 2)


def test_agreement_is_krippendorffs_alpha_by_hand():
    # Krippendorff 2011, nominal data, two observers, no missing values: alpha = 1 - (n - 1) Do / De over the coincidences
    ann, bob = "AABBAAABBB", "AABBABABBA"
    ballots = [Ballot(pair.key, "ann", False, {"q": label}) for pair, label in zip(TEN, ann, strict=True)]
    ballots += [Ballot(pair.key, "bob", True, {"q": "BA"["AB".index(label)]}) for pair, label in zip(TEN, bob, strict=True)]
    values = ann + bob
    apart = 2 * sum(x != y for x, y in zip(ann, bob, strict=True))  # ordered pairs of different values
    n, a = len(values), values.count("A")
    by_hand = 1 - (n - 1) * apart / (2 * a * (n - a))
    assert agreement(ballots, "q") == {"alpha": pytest.approx(by_hand), "pairs": 10}
    assert 0.5 < by_hand < 0.7


def test_agreement_says_why_it_is_not_defined():
    alone = [Ballot(pair.key, "ann", False, {"q": "A"}) for pair in TEN]
    assert agreement(alone, "q") == {"alpha": None, "why": "no pair was judged by two people", "pairs": 0}
    both = alone + [Ballot(pair.key, "bob", False, {"q": "A"}) for pair in TEN]
    assert agreement(both, "q")["why"].startswith("all judgements are the same")


def test_prompts_are_chosen_by_their_hash_and_keep_their_order():
    few = chosen(TEN, 3)
    assert [pair.key for pair in few] == [pair.key for pair in TEN if pair in few]
    assert len(few) == 3
    assert {pair.key for pair in chosen(TEN[::-1], 3)} == {pair.key for pair in few}


@pytest.mark.slow
def test_a_scripted_server_that_lies_stalls_and_breaks_off_is_asked_until_it_replies_and_never_twice(
    tmp_path, folder, monkeypatch
):
    monkeypatch.setenv("TEST_KEY", SECRET)
    acts = [Act("status"), Act("half"), Act("drop"), Act("raw", "[]"), Act(seconds=0.6), Act("status", code=503)]

    def trying(request, count):
        place = int(re.search(r"prompt (\d)\n", request)[1])
        if place == 7:
            return Act(text="I like A.")
        return acts[place % 6] if count == 0 and place < 6 else longer_wins(request)

    with Scripted(trying, echo_key=True) as server:
        found = judged_by(server, tmp_path, [folder])
        asked = len(server.bodies)
        again = judged_by(server, tmp_path, [folder], resamples=100)
        assert len(server.bodies) == asked  # every reply was kept
    assert asked == 20 + 12  # both orders of six prompts failed once
    assert found["questions"]["helpful"]["win_rate"]["mean"] == 1.0
    assert found["questions"]["safe"]["shares"]["equal"] == 1.0
    assert (found["malformed"], found["malformed_why"], found["left_out"]) == (2, {"no JSON object": 2}, 1)
    assert found["cost"] == {"requests": 20, "prompt_tokens": 200, "completion_tokens": 100, "without_usage": 0}
    assert again["questions"]["helpful"]["win_rate"]["mean"] == 1.0
    files = [file for file in (tmp_path / "outputs").rglob("*") if file.is_file()]
    assert len(files) > 8
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []
    assert any(b"[key]" in file.read_bytes() for file in files)  # the server did repeat it


@pytest.mark.slow
def test_a_server_that_never_replies_is_given_up_by_name_and_what_it_replied_is_kept(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("TEST_KEY", SECRET)

    def worse(request, count):
        return Act("status", "busy") if "prompt 3\n" in request else longer_wins(request)

    options = {"tries": 2, "concurrency": 1}
    with Scripted(worse, echo_key=True) as server:
        with pytest.raises(UserError) as raised:
            judged_by(server, tmp_path, [folder], **options)
        first = len(server.bodies)
    assert re.search(
        r"judge\.url=http\S+ replied with HTTP 429: .*\(tried 2 times\)\.\n\d+ of 20 replies are kept", str(raised.value)
    )
    assert SECRET not in str(raised.value)
    with Scripted(longer_wins) as server:
        judged_by(server, tmp_path, [folder], **options)
        assert len(server.bodies) == 20 - (first - 2)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (Act("status", "bad key", code=401), r"HTTP 401: .*\(the key is read from TEST_KEY\)"),
        (Act("status", "no such model", code=404), r"HTTP 404: .*no such model"),
        (Act("status", "wrong field", code=400), r"HTTP 400: .*wrong field"),
    ],
)
def test_what_asking_again_would_not_mend_is_said_at_once(tmp_path, folder, act, said):
    with Scripted(lambda request, count: act) as server, pytest.raises(UserError, match=said):
        judged_by(server, tmp_path, [folder], concurrency=1)
    assert len(server.bodies) == 1


@pytest.mark.slow
def test_one_request_that_the_server_refuses_is_malformed_and_asked_again_by_the_next_command(tmp_path, folder):
    def too_long(request, count):
        return Act("status", "context length", code=400) if "prompt 3\n" in request else longer_wins(request)

    with Scripted(too_long) as server:
        found = judged_by(server, tmp_path, [folder], concurrency=1)
    assert (found["malformed"], found["left_out"]) == (2, 1)
    assert list(found["malformed_why"])[0].startswith("refused: replied with HTTP 400")
    with Scripted(longer_wins) as server:
        judged_by(server, tmp_path, [folder], resamples=100)
        assert len(server.bodies) == 2


def test_a_reply_that_was_cut_or_is_empty_is_malformed(tmp_path, folder):
    def cut(request, count):
        if "prompt 1\n" in request:
            return Act(text='{"helpful": "A", "safe": "A"}', finish="length")
        return Act(text="<think>{}</think>") if "prompt 2\n" in request else longer_wins(request)

    with Scripted(cut) as server:
        found = judged_by(server, tmp_path, [folder])
    assert found["malformed_why"] == {"cut at max_tokens": 2, "empty": 2}


def test_a_torn_or_foreign_line_of_kept_replies_counts_as_not_there(tmp_path):
    ledger = Ledger(tmp_path / "kept" / "a.jsonl")
    ledger.add("one", Reply("yes", "", 1, None))
    ledger.close()
    with (tmp_path / "kept" / "a.jsonl").open("ab") as file:
        file.write(b'{"key": 5}\n[]\n\xff\n{"key": "torn", "te')
    ledger = Ledger(tmp_path / "kept" / "a.jsonl")
    ledger.add("two", Reply("no"))
    assert ledger.replies(["one", "two", "three", "torn"]) == {"one": Reply("yes", "", 1, None), "two": Reply("no")}
    ledger.close()


@pytest.mark.slow
def test_two_runs_are_judged_by_a_reward_and_the_figure_is_that_by_hand(tmp_path):
    root = tmp_path / "outputs" / "reviews"
    rewards = {f"prompt {i}": 0.5 for i in range(12)}
    folders = [
        write_run(root, "seq", rewards=rewards, response="one two three"),
        write_run(root, "nll", rewards=rewards, response="one two"),
    ]
    found = run(settings(folders, judge=by_reward("length")), store(root))
    assert [side["label"] for side in found["sides"]] == ["seq s1", "nll s1"]
    assert found["questions"]["length"]["win_rate"] == {"mean": 1.0, "ci95": [1.0, 1.0]}
    assert found["questions"]["length"]["consistent"] is None
    against = run(settings(folders[:1], judge=by_reward()), store(root))
    assert against["questions"]["vader"]["win_rate"]["mean"] == 1.0  # of "rather bad"

    runs = [load_run(folder) for folder in folders]
    assert len(judgements_of(runs)) == 2
    assert [one["sides"][1]["side"] for one in judgements_of(runs[:1])] == ["reference"]
    said = sentences(judgements_of(runs[:1]))
    assert said[0] == (
        "judged by vader: win rate of seq s1 over reference 1.000 [1.000, 1.000] (wins 100.0%, losses 0.0%, equal 0.0%, "
        "neither 0.0%); better."
    )
    both = compared(runs)
    assert set(said) <= set(caveats(both))
    assert len(as_plain(both)["judgements"]) == 2


@pytest.mark.slow
def test_judgements_stand_on_the_page(tmp_path, folder):
    run(settings([folder], judge=by_reward()), store(tmp_path / "outputs" / "reviews"))
    runs = [load_run(folder)]
    assert sentences(judgements_of(runs))[0] in render_report(compared(runs))


def test_runs_that_differ_in_their_prompts_or_are_too_many_are_refused_by_name(tmp_path):
    root = tmp_path / "outputs" / "reviews"
    one, other = write_run(root), write_run(root, "nll", rewards={"a": 0.9, "d": 0.1})
    with pytest.raises(UserError, match=r"different prompts \(1 of 3 are in both\)"):
        run(settings([one, other], judge=by_reward()), store(root))
    with pytest.raises(UserError, match="3 runs were named"):
        run(settings([one, other, write_run(root, "kl")], judge=by_reward()), store(root))
    with pytest.raises(UserError, match="votes= are of people"):
        run(settings([one], judge=by_reward(), votes=["a.json"]), store(root))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("url", "localhost:8000", "not the address of a server"),
        ("url", f"http://me:{SECRET}@host/v1", "holds a user, a password or a query"),
        ("url", f"http://host/v1?key={SECRET}", "holds a user, a password or a query"),
        ("key", SECRET, "name of an environment variable"),
        ("body", {"model": "x"}, "judge.body.model is set by aloll itself"),
        ("model", "", "judge.model is empty"),
    ],
)
def test_options_of_a_server_are_checked_and_a_key_in_them_is_not_shown(option, value, said):
    judge = plain("judge=llm", "judge.url=http://localhost/v1", "judge.model=org/tester", "judge.key=TEST_KEY").judge
    with pytest.raises(UserError, match=said) as raised:
        replace(judge, **{option: value})
    assert SECRET not in str(raised.value)


HOSTILE = "</script><script>alert(1)</script><!--\u2028\ud800 <b onmouseover=x>"


def test_the_page_runs_its_own_script_alone_and_tells_no_side_from_the_other():
    pairs = [Pair(f"{HOSTILE} {i}", f"one {HOSTILE} {i}", f"two {i}") for i in range(40)]
    page = page_for(pairs, plain().rubric)
    text = render(page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert text.count("<script") == 2
    assert "<b onmouseover" not in text
    assert not re.search(r"https?://|src=|href=|@import|url\(", text)
    content = json.loads(re.search(r'id="content">(.*?)</script>', text, re.DOTALL)[1])
    assert [sorted(pair) for pair in content["pairs"]] == [["pair", "prompt", "texts"]] * 40
    firsts = sum(pair["texts"][0].startswith("one") for pair in content["pairs"])
    assert 8 < firsts < 32


def votes_of(page, voter, wins, questions=("helpful", "safe")):
    """A file of votes in which the side "first" or "second" wins each pair, which was shown in either order."""
    found = []
    for place, (pair, side) in enumerate(zip(page.pairs, wins, strict=False)):
        shown = place % 2  # the text of the page that is shown as A
        is_second_shown = page.is_swapped(pair) != (shown == 1)
        label = "A" if (side == "second") == is_second_shown else "B"
        found.append({"pair": pair.key, "first": shown, "labels": dict.fromkeys(questions, label)})
    return {"format": FORMAT, "page": page.name, "voter": voter, "votes": found}


def test_votes_of_two_people_are_read_whatever_order_they_saw(tmp_path, folder):
    root = tmp_path / "outputs" / "reviews"
    assert run(settings([folder]), store(root)) is None
    (written,) = (root / "report").glob("judge-*.html")
    _, pairs = load_pairs(folder)
    page = page_for(pairs, plain().rubric)
    assert written.name == f"judge-{page.name}.html"
    names = []
    for voter, wins in (("ann", ["first"] * 8 + ["second"] * 2), ("bob", ["first"] * 7 + ["second"] * 3)):
        (tmp_path / f"{voter}.json").write_text(json.dumps(votes_of(page, voter, wins)))
        names.append(str(tmp_path / f"{voter}.json"))
    found = run(settings([folder], votes=names), store(root))
    of = found["questions"]["helpful"]
    assert of["win_rate"]["mean"] == 0.75
    assert (found["voters"], found["judged"], found["ballots"]) == (2, 10, 20)
    n, apart, firsts = 20, 2, 15
    assert of["agreement"] == {"alpha": pytest.approx(1 - (n - 1) * apart / (2 * firsts * (n - firsts))), "pairs": 10}
    assert "Krippendorff's alpha" in sentences([found])[0]


def load_pairs(folder):
    from aloll_cli.comparison.sides import sides

    return sides([load_run(folder)])


def test_votes_that_do_not_belong_are_refused_by_name(tmp_path):
    page = page_for(TEN, plain().rubric)
    good = votes_of(page, "ann", ["first"] * 10)
    assert len(read_votes([_saved(tmp_path, "good", good)], page)) == 10
    wrong = {
        "of another page": good | {"page": "0" * 16},
        "both by": good,
        r"votes\[0\]\.pair is 'nobody'": good | {"votes": [good["votes"][0] | {"pair": "nobody"}]},
        "votes about pair .* twice": good | {"votes": good["votes"][:1] * 2},
        "not one of A, B, equal, neither": good | {"votes": [good["votes"][0] | {"labels": {"helpful": "C"}}]},
        "has the question 'taste'": good | {"votes": [good["votes"][0] | {"labels": {"taste": "A"}}]},
        "is 2, not 0 or 1": good | {"votes": [good["votes"][0] | {"first": 2}]},
        "has no name of a voter": good | {"voter": "  "},
        "has the format": good | {"format": "another"},
        "has no votes": {key: value for key, value in good.items() if key != "votes"},
        "its content is a list": [good],
        "is not JSON": "{",
    }  # fmt: skip
    for said, value in wrong.items():
        names = [_saved(tmp_path, "good", good)] * (said == "both by") + [_saved(tmp_path, "wrong", value)]
        with pytest.raises(UserError, match=said) as raised:
            read_votes(names, page)
        assert "wrong.json" in str(raised.value)
    with pytest.raises(UserError, match="missing.json cannot be read: no such file"):
        read_votes([str(tmp_path / "missing.json")], page)


def _saved(folder, name, value):
    file = folder / f"{name}.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(file)


def test_a_damaged_judgement_is_left_out(tmp_path, folder):
    root = tmp_path / "outputs" / "reviews"
    run(settings([folder], judge=by_reward()), store(root))
    (made,) = (root / "judgements").iterdir()
    assert len(judgements_of([load_run(folder)])) == 1
    copy = made.with_name("copy-000000000000")
    shutil.copytree(made, copy)
    value = json.loads((copy / "judgement.json").read_text())
    (copy / "judgement.json").write_text(json.dumps(value | {"questions": {"x": {"win_rate": "1"}}}))
    assert len(judgements_of([load_run(folder)])) == 1
    assert np.isfinite(value["questions"]["vader"]["win_rate"]["mean"])


def test_a_stop_asks_nothing_new_and_keeps_what_is_under_way():
    asked, stopping = [], []

    def ask(item, closing):
        asked.append(item)
        stopping.append(True)
        time.sleep(0.02)
        return item * 2

    found = dict(asking.ask_all(range(50), ask, 2, lambda: bool(stopping)))
    assert 1 <= len(found) < 50
    assert found == {item: item * 2 for item in asked}


def test_the_reward_of_a_judge_belongs_to_judge_reward_alone():
    from aloll_cli.cli.composition import settings_of

    assert settings_of(["judge=reward", "judge.reward=length"]).judge.label == "length"
    with pytest.raises(UserError, match="judge.reward is not an option of this configuration's judge"):
        settings_of(["judge.reward=length"])
