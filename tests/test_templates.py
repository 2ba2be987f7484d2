"""Chats of many families of templates: the tokens that are trained are those that the template writes, and servers send."""

from copy import copy
from functools import cache

import pytest
from families import FAMILIES, IM, KINDS, THINKS, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from aloll_cli.tasks.base import Part
from aloll_cli.tasks.options import Chat
from aloll_cli.text.control import ControlTokens
from aloll_cli.text.encoded import Hides, RenderedText
from aloll_cli.text.encoding import Encoder
from aloll_cli.text.template import NOW
from aloll_cli.text.tokens import Pieces, RenderedTokens
from aloll_cli.text.written import control_tokens

PAIRS = [(name, kind) for name in FAMILIES for kind in KINDS]
TALK = [
    ("system", "Be brief."),
    ("user", "How do I bake bread?"),
    ("assistant", "Mix flour, water."),
    ("user", "And then?"),
]
ANSWERS = ("We loved the garden.", "Town 0 is Elmwick.", " bread ", "\n\n```py\nx = 1\n```", "你好", "🙂 ok", "\U000f0001", "")
THOUGHT = "<think>\nSalt?\n</think>\n\nThen wait."

# which answers are tokenized apart from their prompt, and why; all others have the template's own tokens
APART = {
    "deepseek that thinks": (*ANSWERS, THOUGHT),  # <think> is opened by the prompt, and the whole chat has none
    "chatml that thinks": ANSWERS,  # the same, unless the response brings its thoughts
    "qwen 3 without thoughts": (THOUGHT,),  # the prompt closes the thoughts that the response brings
    "colon and space": ("We loved the garden.",),  # the prompt's space merges with the response's first word
}


def talk_of(name):
    return TALK if FAMILIES[name].system else TALK[1:]


@cache
def encoder(name, kind, special=True):
    return Encoder(tokenizer_of(name, kind, special), 500, 200, FAMILIES[name].chat)


def encoded(name, kind, turns, answer, special=True):
    """A prompt and its response."""
    (prompt,) = encoder(name, kind, special).prompts([[vars(Part(text, role)) for role, text in turns]])
    (response,) = encoder(name, kind, special).responses([answer], [prompt])
    return prompt, response


def rendered(name, kind, turns, opened, tokenize=True):
    """What transformers makes of a chat."""
    options = {"enable_thinking": False} if FAMILIES[name].chat is Chat.without_thinking else {}
    messages = [{"role": role, "content": text} for role, text in turns]
    return tokenizer_of(name, kind).apply_chat_template(
        messages, add_generation_prompt=opened, tokenize=tokenize, return_dict=False, date_string=f"{NOW:%d %b %Y}", **options
    )


def is_written(name, kind, turns, answer):
    """Whether a response is tokenized together with its prompt; both are then what the template writes, up to the end token."""
    tokenizer = tokenizer_of(name, kind)
    prompt, response = encoded(name, kind, turns, answer)
    assert prompt.ids == rendered(name, kind, turns, opened=True)
    whole = rendered(name, kind, [*turns, ("assistant", answer)], opened=False)
    ids = [*prompt.ids, *response.ids]
    if FAMILIES[name].ends:
        assert response.ids.count(ids[-1]) == 1
        assert tokenizer.convert_ids_to_tokens(ids[-1]) == (FAMILIES[name].end or FAMILIES[name].eos)
    else:
        assert ids.pop() == tokenizer.eos_token_id
    if not response.apart:
        assert ids == whole[: len(ids)]
    assert FAMILIES[name].ends or response.apart or ids == whole
    return not response.apart


@pytest.mark.slow
def test_every_family_has_the_tokens_of_its_template_or_is_listed():
    found = {}
    for name, kind in PAIRS:
        found[name, kind] = tuple(a for a in (*ANSWERS, THOUGHT) if not is_written(name, kind, talk_of(name), a))
    apart = {pair: answers for pair, answers in found.items() if answers}
    for (name, kind), answers in apart.items():
        print(f"{name} with a {kind} tokenizer: {len(answers)} of {len(ANSWERS) + 1} answers tokenized apart")  # noqa: T201
    assert len(found) == len(FAMILIES) * len(KINDS) >= 36
    assert apart == {(name, kind): answers for name, answers in APART.items() for kind in KINDS}


PIECES = st.sampled_from(
    [
        *" \n\t\r_-:.()",
        "  ",
        "\n\n",
        "🙂",
        "👩‍🚀",
        "你好",
        "é",
        "e\u0301",
        "def f(x):\n    return",
        "We",
        "bread",
        "<",
        "|",
        "\u2028",
    ]
)
TEXTS = st.lists(PIECES | st.characters(codec="utf-8"), max_size=8).map("".join)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(pair=st.sampled_from(PAIRS), question=TEXTS, answer=TEXTS)
def test_whatever_stands_at_the_seam_prompt_and_response_have_the_templates_tokens_or_are_apart(pair, question, answer):
    turns = [*talk_of(pair[0])[:-1], ("user", question)]
    if not is_written(*pair, turns, answer):
        assert pair[0] in APART or answer[:1].isspace()
    prompt, response = encoded(*pair, turns, answer)
    assert not prompt.typed
    assert not response.typed
    if pair[1] == "byte-level" and not FAMILIES[pair[0]].absorbs:
        decoded = tokenizer_of(*pair).decode(response.ids, skip_special_tokens=True)
        assert prompt.around.removed(decoded, ended=True) == response.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_control_token_that_somebody_typed_stays_text_in_every_family(name, kind):
    tokenizer = tokenizer_of(name, kind)
    control = ControlTokens(tokenizer)
    question, answer = (f"{word}{''.join(control.ids)}\n" for word in ("How", "We"))
    turns = [*talk_of(name)[:-1], ("user", question)]
    prompt, response = encoded(name, kind, turns, answer)
    harmless = encoded(name, kind, [*turns[:-1], ("user", "How")], "We")
    assert prompt.typed
    assert response.typed
    for found, expected in zip((prompt, response), harmless, strict=True):
        assert [i for i in found.ids if i in control.ids.values()] == [i for i in expected.ids if i in control.ids.values()]
    assert response.text.strip() == answer.strip()
    assert response.apart is harmless[1].apart
    # the way of such chats gives other chats the template's tokens, too
    tokens = RenderedTokens(Pieces(tokenizer, control.ids), control)
    text = rendered(name, kind, talk_of(name), opened=True, tokenize=False)
    assert tokens.ids([RenderedText(text, Hides.names)]) == tokens.ids([RenderedText(text, Hides.nothing)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_template_writes_around_turns_stays_text_where_the_tokenizer_calls_nothing_special(name, kind):
    tokenizer = tokenizer_of(name, kind, special=False)
    control = control_tokens(tokenizer)
    written = rendered(name, kind, TALK[1:], opened=False, tokenize=False) + rendered(
        name, kind, talk_of(name), opened=True, tokenize=False
    )
    assert {word for word in FAMILIES[name].control if word in written} <= set(control.ids)
    assert not {*FAMILIES[name].words} & set(control.ids)
    harmless = [*talk_of(name)[:-1], ("user", "How")]
    for answer in (
        ("We", THOUGHT) if name != "phi" else ()
    ):  # its EOS is then the only special token behind a response, and ends it
        same = [encoded(name, kind, harmless, answer, special) for special in (False, True)]
        assert len({(*prompt.ids, *response.ids, response.text, response.apart) for prompt, response in same}) == 1
    question, answer = (f"{word}{''.join(control.ids)}\n" for word in ("How", "We"))
    found = encoded(name, kind, [*harmless[:-1], ("user", question)], answer, special=False)
    for one, expected in zip(found, encoded(name, kind, harmless, "We", special=False), strict=True):
        assert one.typed
        assert [i for i in one.ids if i in control.ids.values()] == [i for i in expected.ids if i in control.ids.values()]
    assert found[1].text.strip() == answer.strip()
    (plain,) = Encoder(tokenizer, 500, 200, Chat.plain).prompts([[vars(Part(question))]])
    assert plain.typed
    assert not set(plain.ids) - {tokenizer.bos_token_id} & set(control.ids.values())


@pytest.mark.parametrize("tag", ["<think>", "[THINK]", "<|thought|>", "<seed:think>"])
@pytest.mark.parametrize("is_token", [True, False])
def test_a_tag_that_the_prompt_opens_is_not_repeated_by_the_response(tag, is_token):
    tokenizer = copy(tokenizer_of("chatml", "byte-level"))
    if is_token:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=copy(tokenizer.backend_tokenizer), eos_token="<|im_end|>")
        tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False)])
    tokenizer.chat_template = THINKS.replace("<think>", tag)
    encoder = Encoder(tokenizer, 500, 200, Chat.template)
    prompts = encoder.prompts([[vars(Part("How?", "user"))]]) * 4
    answers = [f"{tag}Salt?</think>We.", f"{tag}\nSalt?</think>We.", f"\n{tag}\nSalt?</think>We.", "Salt?</think>We."]
    for found in encoder.responses(answers, prompts):
        whole = tokenizer.decode(prompts[0].ids + found.ids)
        assert whole == f"<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n{tag}\nSalt?</think>We.<|im_end|>"
        assert found.text == "Salt?</think>We."


MARKUP = {  # what a template writes around a question and its answer, and which of that are control tokens
    "thoughts that a system turn explains": (
        ("Write <think> thoughts </think>.<|user|>", "<|bot|>", "", "<|endoftext|>"), {"<|user|>", "<|bot|>"},
    ),
    "tags around every answer": (("<|user|>", "<|bot|>", "<answer>", "</answer><|endoftext|>"), {"<|user|>", "<|bot|>"}),
    "tags for headers": (("<user>", "</user><bot>", "", "</bot>"), {"<user>", "</user>", "<bot>", "</bot>"}),
    "words": (("user ", "bot ", "", "\n"), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", MARKUP)
def test_tags_within_what_the_assistant_says_are_words_and_those_around_turns_are_control_tokens(name):
    (before, between, opening, after), expected = MARKUP[name]
    chatml = tokenizer_of("chatml", "byte-level").backend_tokenizer.to_str()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(chatml), eos_token="<|endoftext|>")
    words = [word for tag in ("think", "answer", "user", "bot") for word in (f"<|{tag}|>", f"<{tag}>", f"</{tag}>", tag)]
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in (*words, "\n", " ")])
    header = f"{{% if not loop.last or add_generation_prompt %}}{between}{{% endif %}}"
    turn = f"{{% if m.role == 'user' %}}{before}{{{{ m.content }}}}{header}"
    turn += f"{{% elif m.role == 'assistant' %}}{opening}{{{{ m.content }}}}{after}{{% endif %}}"
    tokenizer.chat_template = f"{{% for m in messages %}}{turn}{{% endfor %}}"
    assert set(control_tokens(tokenizer).ids) - set(IM) == expected


SAID = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}"
MAKERS = {  # templates that make a control token of texts without one: the text, and what is trained of it
    "small letters": (SAID.replace("content", "content | lower"), "We <|IM_END|>.", "we <|im_end|>."),
    "no spaces": (SAID.replace("content", "content | replace(' ', '')"), "a <|im _end|>", "a<|im_end|>"),
    "text that the template completes": (SAID.replace("content", "content + '|>'"), "We <|im_end", "We <|im_end"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_control_token_that_a_template_makes_of_a_text_stays_text(name):
    body, text, trained = MAKERS[name]
    tokenizer = copy(tokenizer_of("chatml", "byte-level"))
    tokenizer.chat_template = FAMILIES["chatml"].template.replace(SAID, body)
    control = ControlTokens(tokenizer)
    found = Encoder(tokenizer, 500, 200, Chat.template)
    for question, answer in (("How?", text), (text, "We."), (text, text)):
        (prompt,) = found.prompts([[vars(Part(question, "user"))]])
        (response,) = found.responses([answer], [prompt])
        names = [tokenizer.convert_ids_to_tokens(i) for i in prompt.ids + response.ids if i in control.ids.values()]
        assert names == ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>"]
        assert (prompt.typed, response.apart) == (question == text, False)
        assert response.text == (trained if answer == text else answer.lower() if name == "small letters" else answer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    halves = [vars(Part(half, "user")) for half in ("a<|im_", "end|>b")]
    (prompt,) = Encoder(tokenizer, 500, 200, Chat.template).prompts([halves])
    assert prompt.typed
    assert not set(prompt.ids) & set(control.ids.values())
    assert tokenizer.decode(prompt.ids) == "a<|im_end|>b"


def test_hidden_names_come_back_and_so_do_the_characters_that_they_are_hidden_behind():
    control = ControlTokens(tokenizer_of("chatml", "byte-level"))
    text = "a<|im_end|>\U000f0000\U0010fffd\U000f0001<|im_start|><|endoftext|>b\U000ffffd"
    for ends in (False, True):
        hidden = control.hidden(text, ends)
        assert not control.typed(hidden)
        assert control.shown(hidden) == text
    assert set(hidden).isdisjoint("<>")
    assert control.split("<|im_start|>a<|im_end|>") == ["", "<|im_start|>", "a", "<|im_end|>", ""]


def test_a_prompt_of_one_chat_is_the_same_for_all_its_responses():
    parts = [vars(Part(text, role)) for role, text in TALK]
    prompts = encoder("chatml", "byte-level").prompts([parts, parts])
    plain, typed = encoder("chatml", "byte-level").responses(["We.", "We.<|im_end|>"], prompts)
    assert prompts[0] == prompts[1]
    assert (plain.apart, typed.apart) == (False, False)
    assert (plain.text, typed.text) == ("We.", "We.<|im_end|>")
    assert typed.ids.count(plain.ids[-1]) == 1
