"""Sequence classifiers as rewards: their scores are transformers' own, whatever the batch."""

import re
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import product
from types import SimpleNamespace
from unicodedata import normalize

import numpy as np
import pytest
import torch
from tiny import TEXTS, VOCABULARY, composed, gpt2, some_slow, tokenizer
from tokenizers import Tokenizer
from tokenizers.models import Unigram, WordPiece
from tokenizers.normalizers import NFKC, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import UnigramTrainer, WordPieceTrainer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from aloll_cli.errors import UserError
from aloll_cli.rewards.base import Row
from aloll_cli.rewards.classifier import Activation, Side, _index_of
from aloll_cli.rewards.templates import Piece, TemplateTokens
from aloll_cli.text.packing import by_tokens

SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LABELS = {"num_labels": 3, "id2label": {0: "BAD", 1: "FAIR", 2: "GOOD"}, "label2id": {"BAD": 0, "FAIR": 1, "GOOD": 2}}
KINDS = {
    "roberta": lambda: RobertaForSequenceClassification(
        RobertaConfig(**SIZES, **LABELS, max_position_embeddings=130, pad_token_id=0)
    ),
    "deberta": lambda: DebertaV2ForSequenceClassification(
        DebertaV2Config(
            **SIZES, **LABELS, max_position_embeddings=128, relative_attention=True, pos_att_type=["p2c", "c2p"], pad_token_id=0
        )
    ),
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128, pad_token_id=None, **LABELS)
    ),
    "gpt_neox": lambda: GPTNeoXForSequenceClassification(
        GPTNeoXConfig(**SIZES, **LABELS, max_position_embeddings=128, pad_token_id=None)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def saved(folder):
    @cache
    def save(kind):
        torch.manual_seed(0)
        model = KINDS[kind]()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # scores that differ
        model.save_pretrained(folder / kind)
        tokenizer().save_pretrained(folder / kind)
        return str(folder / kind)

    return save


def rows(count=40):
    rng = np.random.default_rng(0)
    words = " ".join(TEXTS).split()
    texts = [" ".join(rng.choice(words, rng.integers(1, 25))) for _ in range(count)]
    return [Row(f"r{i}", "0" * 16, f"Prompt {i % 7}.", text) for i, text in enumerate(texts)]


def scorer(path, *options):
    return composed("reward=classifier", f"reward.path={path}", "reward.label_name=GOOD", *options).reward.scorer(None)


def own_logits(path, row):
    """transformers' own, alone in its batch; the label's is the third."""
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    encoded = AutoTokenizer.from_pretrained(path)(row.response, return_tensors="pt")
    with torch.no_grad():
        return model(**encoded).logits[0].double().numpy()


@pytest.mark.parametrize("kind", some_slow(KINDS))
def test_scores_are_transformers_own_at_batch_size_one(saved, kind):
    found = scorer(saved(kind)).score(rows())
    logits = np.stack([own_logits(saved(kind), row) for row in rows()])
    expected = np.exp(logits[:, 2]) / np.exp(logits).sum(axis=1)
    assert np.ptp(expected) > 0.005
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", some_slow(KINDS))
def test_scores_depend_on_neither_batch_nor_order(saved, kind):
    whole = scorer(saved(kind)).score(rows())
    backwards = scorer(saved(kind), "reward.batch_tokens=64").score(rows()[::-1])[::-1]
    np.testing.assert_allclose(whole, backwards, atol=1e-5, rtol=0)


def test_a_decoder_reads_its_last_token_also_where_that_is_what_others_pad_with(saved):
    ends = [Row("a", "0" * 16, "", "It was good"), Row("b", "0" * 16, "", "It was " + "very " * 20 + "good")]
    found = scorer(saved("gpt2"), "reward.activation=none", 'reward.text="{response}</s>"').score(ends)
    expected = [own_logits(saved("gpt2"), replace(row, response=f"{row.response}</s>"))[2] for row in ends]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def dialogrpt(folder):
    """A tiny model of DialogRPT's form: GPT-2 with one logit, padding and ends of turns being the same token."""
    torch.manual_seed(0)
    end = "<|endoftext|>"
    words = deepcopy(tokenizer())
    words.add_special_tokens({"eos_token": end, "bos_token": end, "unk_token": end, "pad_token": end})
    config = GPT2Config(
        vocab_size=len(words), n_embd=32, n_layer=2, n_head=2, n_positions=64, num_labels=1, pad_token_id=words.eos_token_id,
        initializer_range=0.5,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(folder / "dialogrpt")
    words.save_pretrained(folder / "dialogrpt")
    return str(folder / "dialogrpt")


DIALOGUE = [
    {"role": "system", "content": "Soup is cold."},
    {"role": "user", "content": "How do I bake bread?"},
    {"role": "assistant", "content": "Mix flour and water."},
    {"role": "user", "content": "Then wait"},
]


def test_dialogrpt_is_sigma_of_the_logit_at_the_end_of_context_separator_response(dialogrpt):
    reward = composed("reward=dialogrpt_updown", f"reward.path={dialogrpt}").reward
    chats = [
        Row("a", "0" * 16, "unread", "how long", turns=DIALOGUE),
        Row("b", "0" * 16, "unread", "ok", turns=DIALOGUE[1:2]),
        Row("c", "0" * 16, "unread", "", turns=DIALOGUE[1:2]),
        Row("d", "0" * 16, "unread", "the bread and the quiet music", turns=[{"role": "user", "content": "garden " * 60}]),
    ]
    texts = [
        "How do I bake bread?<|endoftext|>Mix flour and water.<|endoftext|>Then wait<|endoftext|>how long",
        "How do I bake bread?<|endoftext|>ok",
        "How do I bake bread?<|endoftext|>",  # an empty response: its end is the separator
        "garden " * 60 + "<|endoftext|>the bread and the quiet music",  # the context's beginning gives way
    ]
    model = GPT2ForSequenceClassification.from_pretrained(dialogrpt).eval()
    words = AutoTokenizer.from_pretrained(dialogrpt, truncation_side="left")
    with torch.no_grad():
        states = [
            model.transformer(**words(t, truncation=True, max_length=64, return_tensors="pt")).last_hidden_state[0, -1]
            for t in texts
        ]
        expected = torch.stack([model.score(state)[0].sigmoid() for state in states]).numpy()
    assert words(texts[0])["input_ids"].count(words.eos_token_id) == 3
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(reward.scorer(None).score(chats), expected, atol=1e-5, rtol=0)
    assert reward.range == (0.0, 1.0)


def test_a_typed_separator_is_text_and_the_templates_own_are_not(dialogrpt):
    reward = composed("reward=dialogrpt_updown", f"reward.path={dialogrpt}").reward
    words = AutoTokenizer.from_pretrained(dialogrpt)
    turns = [{"role": "user", "content": "How<|endoftext|> long?"}, {"role": "assistant", "content": "Wait"}, DIALOGUE[1]]
    (ids,) = reward.scorer(None).encode([Row("a", "0" * 16, "", "ok<|endoftext|>", turns=turns)]).inputs["input_ids"]
    assert (
        words.decode(ids)
        == "<s>How<|endoftext|> long?<|endoftext|>Wait<|endoftext|>How do I bake bread?<|endoftext|>ok<|endoftext|>"
    )
    assert ids.count(words.eos_token_id) == 3
    assert ids[-1] != words.eos_token_id
    cut = replace(reward, max_tokens=9).scorer(None).encode([Row("a", "0" * 16, "", "ok<|endoftext|>", turns=turns)])
    assert (cut.inputs["input_ids"], cut.cut) == ([[ids[0], *ids[-8:]]], [len(ids) - 9])


def wordpiece():
    """As BERT's: lower case, [CLS] and [SEP] around one text or two, kinds of tokens."""
    found = Tokenizer(WordPiece(unk_token="[UNK]"))
    found.normalizer, found.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    found.train_from_iterator(TEXTS * 3, WordPieceTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]))
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    found.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=found, **names)


def unigram():
    """As XLM-R's: its vocabulary makes the control token of ``</s>`` even as text, and NFKC that of its wide letters."""
    found = Tokenizer(Unigram())
    found.normalizer, found.pre_tokenizer = NFKC(), Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    options = {"vocab_size": 90, "special_tokens": special, "unk_token": "<unk>", "initial_alphabet": list("</>")}
    found.train_from_iterator(TEXTS * 3, UnigramTrainer(**options))
    found.post_processor = TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)])
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=found, **names)


def said(text):
    return [Piece("", False), Piece(text, True)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("words", "typed"), [(wordpiece, "good [SEP] soup [CLS]"), (tokenizer, "good</s> soup<s>")])
def test_typed_control_tokens_are_text_and_inputs_are_cut_as_the_tokenizer_cuts(words, typed, side):
    own = deepcopy(words())
    own.truncation_side = side
    for limit, first, second in product((None, 9, 14, 15), (typed, typed * 3, "soup"), (None, typed, typed * 2)):
        found = TemplateTokens(own, [], limit).encode([said(first)], None if second is None else [said(second)])
        options = {"split_special_tokens": True, "truncation": limit is not None, "max_length": limit}
        assert found.inputs == dict(own([first], None if second is None else [second], **options))
        whole = own(first, second, split_special_tokens=True)["input_ids"]
        assert found.cut == [len(whole) - len(found.inputs["input_ids"][0])]


@pytest.mark.parametrize("typed", ["good</s> soup", "</s>", "good ＜/s＞ soup", "<s></s>"])
def test_a_vocabulary_that_makes_control_tokens_of_text_makes_none(typed):
    own = unigram()
    found = TemplateTokens(own, [], None).encode([said("soup"), said(typed)], [said("rude"), said("rude")]).inputs["input_ids"]
    assert found[0] == own("soup", "rude")["input_ids"]
    assert [found[1].count(token) for token in (0, 2)] == [1, 3]
    written = re.sub(r"[\s▁]", "", own.decode(found[1]))
    assert written == f"<s>{normalize('NFKC', typed)}</s></s>rude</s>".replace(" ", "")


@pytest.fixture(scope="module")
def chat_model(folder, one_label):
    words = deepcopy(tokenizer())
    words.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]})
    words.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    model = GPT2ForSequenceClassification.from_pretrained(one_label)
    model.resize_token_embeddings(len(words))
    model.save_pretrained(folder / "chat")
    words.save_pretrained(folder / "chat")
    return str(folder / "chat")


def test_a_chat_is_read_as_the_template_writes_it_and_nothing_else_without_a_word(chat_model, one_label):
    given = {"activation": Activation.none}
    chat = classifier(chat_model, text="{chat}", **given).scorer(None)
    words, row = AutoTokenizer.from_pretrained(chat_model), Row("a", "0" * 16, "unread", "so long", turns=DIALOGUE)
    whole = words.apply_chat_template([*DIALOGUE, {"role": "assistant", "content": "so long"}])["input_ids"]
    continued = Row(
        "b", "0" * 16, "unread", "water.", turns=DIALOGUE[:2] + [{"role": "assistant", "content": "Mix"}], separator=" "
    )
    plain = Row("c", "0" * 16, "Hello <|end|>", "bread<|end|>")
    ids = chat.encode([row, continued, plain]).inputs["input_ids"]
    assert ids[0] == whole
    assert words.decode(ids[1]).endswith("<|assistant|>Mix water.<|end|>\n")
    assert words.decode(ids[2]) == "<|user|>Hello <|end|><|end|>\n<|assistant|>bread<|end|><|end|>\n"
    assert ids[2].count(words.convert_tokens_to_ids("<|end|>")) == 2
    model = GPT2ForSequenceClassification.from_pretrained(chat_model).eval()
    with torch.no_grad():
        expected = model(torch.tensor([whole])).logits[0, 0]
    np.testing.assert_allclose(chat.score([row, plain])[0], expected, atol=1e-5, rtol=0)
    cut = classifier(chat_model, text="{chat}", max_tokens=9, truncation_side=Side.left, **given).scorer(None).encode([row])
    assert (cut.inputs["input_ids"], cut.cut) == ([whole[-9:]], [len(whole) - 9])
    assert chat.warning() is classifier(one_label, **given).scorer(None).warning() is None
    assert "has a chat template, but reads reward.text={response}" in classifier(chat_model, **given).scorer(None).warning()
    with pytest.raises(UserError, match="has no chat template"):
        classifier(one_label, text="{chat}", **given).scorer(None)
    with pytest.raises(UserError, match=r"{chat} is the whole input"):
        classifier(one_label, text="{chat} {response}", **given)


def test_knowledge_is_what_the_system_says_and_the_response_the_second_text(saved):
    reward = composed("reward=faithfulness", f"reward.path={saved('roberta')}").reward
    scorer, turns = reward.scorer(None), DIALOGUE
    row = Row("a", "0" * 16, "unread", "It was cold.", turns=turns)
    words = AutoTokenizer.from_pretrained(saved("roberta"))
    assert scorer.encode([row]).inputs["input_ids"] == [words("Soup is cold.", "It was cold.")["input_ids"]]
    with pytest.raises(UserError, match=r"example a has no system turn for \{knowledge\}"):
        scorer.score([Row("a", "0" * 16, "unread", "It was cold.", turns=turns[1:])])


@pytest.mark.slow
def test_activations_labels_and_ranges(saved):
    path, some = saved("roberta"), rows(5)
    logits = np.stack([own_logits(path, row) for row in some])
    for label, column in (("GOOD", 2), ("bad", 0), ("1", 1)):
        reward = composed(
            "reward=classifier", f"reward.path={path}", f"reward.label_name='{label}'", "reward.activation=none"
        ).reward
        assert reward.range == (-np.inf, np.inf)
        np.testing.assert_allclose(reward.scorer(None).score(some), logits[:, column], atol=1e-5, rtol=0)
    found = scorer(path, "reward.activation=sigmoid").score(some)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits[:, 2])), atol=1e-5, rtol=0)
    assert composed("reward=classifier", f"reward.path={path}").reward.range == (0.0, 1.0)


def test_templates_fill_one_input_or_two_and_never_their_own_braces(saved):
    path = saved("roberta")
    row = Row("a", "0" * 16, "{response}", "It was good.")
    joined = Row("a", "0" * 16, "", "Q: {response} A: It was good.")
    filled = scorer(path, "reward.text='Q: {prompt} A: {response}'").score([row])
    np.testing.assert_allclose(filled, scorer(path).score([joined]), atol=1e-6, rtol=0)
    model, own = AutoModelForSequenceClassification.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        expected = model(**own("{response}", "It was good.", return_tensors="pt")).logits.double().softmax(dim=-1)[0, 2]
    pair = scorer(path, "reward.text='{prompt}'", "reward.pair='{response}'").score([row])
    np.testing.assert_allclose(pair, expected, atol=1e-5, rtol=0)


def test_a_text_that_is_too_long_is_cut_on_the_side_that_was_asked_for(saved):
    path = saved("gpt2")
    long = " ".join(TEXTS * 9)
    ends = {side: Row("a", "0" * 16, "", text) for side, text in (("right", long + " good" * 9), ("left", "good " * 9 + long))}
    for side, row in ends.items():
        options = ("reward.max_tokens=20", f"reward.truncation_side={side}")
        same, other = scorer(path, *options).score([row, Row("b", "0" * 16, "", long)])
        assert same == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("pair", some_slow(["null", "'{response}'"]))
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_are_cut_are_counted_by_row(saved, kind, pair):
    path, words = saved(kind), " ".join(TEXTS).split()
    some = [Row(f"r{count}", "0" * 16, "", " ".join(words[:count])) for count in range(1, 25)]
    found = scorer(path, "reward.max_tokens=20", f"reward.pair={pair}").cut(some)
    own = AutoTokenizer.from_pretrained(path)
    whole = [len(own(row.response, None if pair == "null" else row.response)["input_ids"]) for row in some]
    assert found.tolist() == [max(0, tokens - 20) for tokens in whole]
    assert 0 < (found > 0).sum() < len(some)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_longer_than_the_classifier_reads_is_cut_to_what_it_reads(saved, kind):
    long = Row("a", "0" * 16, "", " ".join(TEXTS * 30))
    assert np.isfinite(scorer(saved(kind)).score([long, *rows(2)])).all()


def test_mistakes_name_the_labels_and_the_templates(saved):
    with pytest.raises(
        UserError, match=r"label_name=NICE: the classifier has no such label.*\nIts labels: 0 BAD, 1 FAIR, 2 GOOD"
    ):
        composed("reward=classifier", f"reward.path={saved('gpt2')}", "reward.label_name=NICE").reward.scorer(None)
    with pytest.raises(UserError, match="contains none of {prompt}, {response}, {sentence}, {dialogue} and {knowledge}"):
        composed("reward=classifier", f"reward.path={saved('gpt2')}", "reward.text=good")


@pytest.fixture(scope="module")
def described(folder, saved):
    """A tiny classifier whose configuration says something else of its labels."""
    import json
    import shutil

    def describe(name, **config):
        path = shutil.copytree(saved("roberta"), folder / name, dirs_exist_ok=True)
        found = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(found | config))
        return str(path)

    return describe


@pytest.fixture(scope="module")
def one_label(folder):
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128, num_labels=1)
    GPT2ForSequenceClassification(config).save_pretrained(folder / "one")
    tokenizer().save_pretrained(folder / "one")
    return str(folder / "one")


def classifier(path, **options):
    return replace(composed("reward=classifier", "reward.path=given").reward, path=str(path), **options)


def test_a_softmax_that_is_no_probability_is_refused(described, one_label, saved):
    with pytest.raises(UserError, match=r"activation=softmax: the classifier has one label, .* 1 for every text\.\n.*=sigmoid"):
        classifier(one_label).scorer(None)
    many = described("many", problem_type="multi_label_classification")
    with pytest.raises(UserError, match=r"problem_type multi_label_classification.*\nreward\.activation=sigmoid"):
        classifier(many).scorer(None)
    with pytest.raises(UserError, match=r"problem_type regression.*\nreward\.activation=none"):
        classifier(described("numbers", problem_type="regression")).scorer(None)
    some = rows(3)
    own = [own_logits(many, row)[1] for row in some]
    found = classifier(many, activation=Activation.sigmoid).scorer(None).score(some)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array(own))), atol=1e-5, rtol=0)
    single = classifier(described("single", problem_type="single_label_classification"))
    np.testing.assert_array_equal(single.scorer(None).score(some), classifier(saved("roberta")).scorer(None).score(some))


def test_the_only_label_needs_no_name_and_the_log_says_which_is_the_reward(one_label, saved):
    only, named = (classifier(one_label, activation=Activation.none, label_name=name).scorer(None) for name in "10")
    np.testing.assert_array_equal(only.score(rows(3)), named.score(rows(3)))
    assert only.told() == 'label 0 "LABEL_0" of 1; the reward is the label\'s logit, unbounded'
    assert classifier(saved("gpt2"), label_name="good").scorer(None).told().startswith('label 2 "GOOD" of 3; ')
    with pytest.raises(UserError, match="no such label"):
        classifier(one_label, activation=Activation.none, label_name="GOOD").scorer(None)


def test_a_number_that_is_the_name_of_another_label_is_refused():
    stars = SimpleNamespace(num_labels=4, id2label={0: "1", 1: "2", 2: "²", 3: "3"})
    with pytest.raises(
        UserError, match=r'several such labels, "1" \(index 0\) and "2" \(index 1\)\.\n.*=index:0 or .*=index:1\.'
    ):
        _index_of("1", stars)
    assert [_index_of(name, stars) for name in ("name:1", "index:1", "0", "²", "name:2", "3")] == [0, 1, 0, 2, 1, 3]
    cases = SimpleNamespace(num_labels=3, id2label={0: "Good", 1: "good", 2: "GOOD"})
    assert _index_of("good", cases) == 1
    with pytest.raises(UserError, match="several such labels"):
        _index_of("gOOd", cases)
    with pytest.raises(UserError, match="no such label"):
        _index_of("index:3", cases)


def test_models_without_a_longest_input_read_whole_texts(folder):
    from transformers import BloomConfig, BloomForSequenceClassification

    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=2, num_labels=1, initializer_range=0.5)
    BloomForSequenceClassification(config).save_pretrained(folder / "bloom")
    tokenizer().save_pretrained(folder / "bloom")
    assert AutoTokenizer.from_pretrained(folder / "bloom").model_max_length > 10**20
    long = Row("a", "0" * 16, "", " ".join(TEXTS * 30))
    whole = classifier(folder / "bloom", activation=Activation.none).scorer(None)
    np.testing.assert_allclose(whole.score([long, *rows(2)])[0], own_logits(folder / "bloom", long)[0], atol=1e-4, rtol=0)
    assert whole.cut([long]).tolist() == [0]
    cut = classifier(folder / "bloom", activation=Activation.none, max_tokens=20).scorer(None)
    assert cut.cut([long])[0] > 100


def test_a_model_without_a_classifier_or_with_pickled_weights_only_is_refused_by_name(folder):
    gpt2().save_pretrained(folder / "causal")
    tokenizer().save_pretrained(folder / "causal")
    with pytest.raises(
        UserError, match=r"causal has no weights for GPT2ForSequenceClassification: score\.weight\.\n.*trained as one"
    ):
        scorer(folder / "causal", "reward.label_name=0")
    (folder / "causal" / "model.safetensors").rename(folder / "causal" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"causal has no model\.safetensors; pickled weights .*\n.*refs/pr/N"):
        scorer(folder / "causal", "reward.label_name=0")


def test_the_weights_are_identity_and_the_path_is_not(saved, folder):
    import shutil

    from aloll_cli.artifacts.pipeline import Pipeline

    def fingerprint(path):
        return Pipeline(composed("reward=classifier", f"reward.path={path}")).rewards().fingerprint

    copy = shutil.copytree(saved("gpt2"), folder / "copy", dirs_exist_ok=True)
    assert fingerprint(copy) == fingerprint(saved("gpt2")) != fingerprint(saved("gpt_neox"))


def test_batches_hold_so_many_tokens_and_every_row_once():
    lengths = [5, 1, 9, 3, 3, 30, 2]
    batches = by_tokens(lengths, 12)
    assert sorted(np.concatenate(batches).tolist()) == list(range(7))
    assert all(len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 12 for batch in batches)
    assert [batch.tolist() for batch in batches] == [[5], [2], [0, 3], [4, 6, 1]]
    assert by_tokens([], 12) == []
