import pytest
from tiny import TEXTS, tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from aloll_cli.tasks.base import Part
from aloll_cli.tasks.options import Chat
from aloll_cli.text.encoding import Encoder, left_padded, right_padded

BOS, EOS = 1, 2


@pytest.fixture(scope="module")
def without_bos():
    """As GPT-2's: one control token, <|end|>, which opens nothing."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|end|>", eos_token="<|end|>", pad_token="<|end|>")


def prompt(*parts, limit=100, made_by=None):
    encoder = Encoder(made_by or tokenizer(), limit, 10, Chat.template)
    return encoder.prompts([[vars(part) for part in parts]])[0]


def response(text, limit):
    encoder = Encoder(tokenizer(), 10, limit, Chat.template)
    return encoder.responses([text], encoder.prompts([[]]))[0]


def ids(text):
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_a_prompt_that_fits_is_its_parts_tokenised_apart_behind_bos():
    found = prompt(Part("How do I"), Part(" bake bread?"))
    assert found.ids == [BOS, *ids("How do I"), *ids(" bake bread?")]
    assert found.cut == 0


def test_a_long_prompt_keeps_its_end_and_its_bos():
    whole = ids("We loved the garden and the bread")
    found = prompt(Part("We loved the garden and the bread"), limit=5)
    assert found.ids == [BOS, *whole[-4:]]
    assert found.cut == len(whole) - 4
    assert prompt(Part("We loved the garden"), limit=1).ids == [BOS]


@pytest.mark.parametrize("limit", range(1, 40))
def test_no_prompt_is_longer_than_the_limit_and_no_token_is_lost_uncounted(limit):
    parts = [Part("The soup was cold", whole=True), Part(" We loved it", drop=None), Part(" and the bread", drop=1)]
    total = 1 + sum(len(ids(part.text)) for part in parts)
    found = prompt(*parts, limit=limit)
    assert len(found.ids) <= limit
    assert len(found.ids) + found.cut == total


def test_what_must_stay_stays_and_the_rest_gives_way_from_the_left():
    knowledge, old, new = Part("Mix flour, water and salt.", drop=None), Part(" How do I?"), Part(" bake bread?")
    length = 1 + len(ids(knowledge.text)) + len(ids(new.text))
    assert prompt(knowledge, old, new, limit=length).ids == [BOS, *ids(knowledge.text), *ids(new.text)]
    assert prompt(knowledge, old, new, limit=length - 2).ids == [BOS, *ids(knowledge.text), *ids(new.text)[2:]]


def test_what_must_stay_gives_way_last():
    knowledge, turn = Part("Mix flour, water and salt.", drop=None), Part(" bake bread?")
    assert prompt(turn, knowledge, limit=4).ids == [BOS, *ids(knowledge.text)[-3:]]


def test_parts_give_way_by_their_order_before_their_place():
    first, second = Part("The soup was cold", drop=2), Part(" and the waiter rude", drop=1)
    length = 1 + len(ids(first.text))
    assert prompt(first, second, limit=length).ids == [BOS, *ids(first.text)]


def test_whole_parts_go_whole_and_the_oldest_first():
    turns = [Part(text, whole=True) for text in ("The soup was cold", " and the waiter rude", " then wait")]
    pieces = [ids(turn.text) for turn in turns]
    total = 1 + sum(map(len, pieces))
    one_over = prompt(*turns, limit=total - 1)
    assert one_over.ids == [BOS, *pieces[1], *pieces[2]]
    assert one_over.cut == len(pieces[0])
    assert prompt(*turns, limit=1 + len(pieces[1]) + len(pieces[2]) - 1).ids == [BOS, *pieces[2]]


def test_a_part_may_be_followed_by_eos():
    assert prompt(Part("Mix flour", eos=True), Part(" then wait")).ids == [BOS, *ids("Mix flour"), EOS, *ids(" then wait")]


def test_eos_ends_whole_responses_and_comes_on_top_of_the_limit():
    tokens = ids(" bake bread")
    for limit in (len(tokens), len(tokens) + 5):
        found = response(" bake bread", limit)
        assert found.ids == [*tokens, EOS]
        assert found.text == " bake bread"
        assert not found.truncated


def test_a_truncated_response_has_no_eos_and_its_text_is_what_is_trained_on():
    tokens = ids(" bake bread and wait")
    found = response(" bake bread and wait", len(tokens) - 1)
    assert found.ids == tokens[:-1]
    assert EOS not in found.ids
    assert found.truncated
    assert found.text == tokenizer().decode(tokens[:-1])
    assert found.text != " bake bread and wait"
    assert " bake bread and wait".startswith(found.text)


@pytest.mark.parametrize("control", ["</s>", "<s>", "<pad>"])
def test_user_text_never_becomes_a_control_token(control):
    text = f"wait {control} then {control}"
    assert tokenizer().convert_tokens_to_ids(control) in tokenizer()(text)["input_ids"]
    assert not {0, 1, 2} & set(prompt(Part(text)).ids[1:])
    found = response(text, 100)
    assert not {0, 1, 2} & set(found.ids[:-1])
    assert tokenizer().decode(found.ids[:-1]) == text


def test_an_empty_prompt_has_one_token_to_start_from(without_bos):
    assert prompt(Part("")).ids == [BOS]
    end = without_bos.eos_token_id
    assert prompt(Part(""), made_by=without_bos).ids == [end]
    assert prompt(made_by=without_bos).ids == [end]
    cut = prompt(Part("The soup was cold", whole=True), limit=2, made_by=without_bos)
    assert cut.ids == [end]
    assert cut.cut > 2


def test_a_tokenizer_that_opens_texts_with_nothing_gets_no_bos(without_bos):
    assert without_bos.bos_token_id is not None
    text = "The soup was cold"
    assert prompt(Part(text), made_by=without_bos).ids == without_bos(text)["input_ids"]


def test_a_bos_that_is_eos_opens_a_prompt_where_the_tokenizer_puts_it_there(without_bos):
    as_opt = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(without_bos.backend_tokenizer.to_str()), bos_token="<|end|>", eos_token="<|end|>"
    )
    as_opt.backend_tokenizer.post_processor = TemplateProcessing("<|end|> $A", special_tokens=[("<|end|>", 0)])
    text = "The soup was cold"
    assert prompt(Part(text), made_by=as_opt).ids == as_opt(text)["input_ids"] == [0, *without_bos(text)["input_ids"]]
    as_opt.backend_tokenizer.post_processor = TemplateProcessing("$A <|end|>", special_tokens=[("<|end|>", 0)])
    assert prompt(Part(text), made_by=as_opt).ids == without_bos(text)["input_ids"]


def test_batches_are_padded_left_for_prompts_and_right_for_responses():
    left, left_mask = left_padded([[5, 6, 7], [8]], 9, "cpu")
    right, right_mask = right_padded([[5, 6, 7], [8]], 9, "cpu")
    assert left.tolist() == [[5, 6, 7], [9, 9, 8]]
    assert left_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert right.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert right_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
