"""Responses of a policy that a server holds: by token ids where the server takes them, else by text that is the same tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from aloll_cli.errors import UserError
from aloll_cli.models.decoding import Greedy
from aloll_cli.models.ends import end_tokens
from aloll_cli.models.generation import respond
from aloll_cli.models.responses import NOTHING, Response, response_of
from aloll_cli.models.server import Completion, Refusal, Server
from aloll_cli.text.encoded import Around

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aloll_cli.arrays import IntArray
    from aloll_cli.models.decoding import Generation, Servers

BATCH_TOKENS = 8_192  # of the local model's continuations
PROBED, LENGTH = 16, 24  # prompts that a server continues before it is trusted, and tokens of each continuation
TIE = 0.15  # nats by which a greedy token may be less likely than the likeliest: 16 bits turn near ties round
APART = 0.05  # nats: mean difference of the log-probs of sampled tokens
LISTED = 8  # models of a server that are tried


@dataclass(frozen=True)
class Probe:
    """How the continuations of a server compare with the local model.

    Attributes:
        prompts: share of the prompts whose greedy continuation could be compared.
        gap: nats by which the worst greedy token is less likely than the likeliest one.
        apart: nats, mean difference of the log-probs of sampled tokens; None where the server does not tell them.
    """

    prompts: float
    gap: float
    apart: float | None

    @property
    def is_same(self) -> bool:
        """Whether the server holds the local model, up to rounding."""
        return self.prompts >= 0.5 and self.gap < TIE and (self.apart is None or self.apart < APART)

    def __str__(self) -> str:
        if not self.prompts:
            return "greedy continuations that cannot be compared, because they are other tokens than their text's own"
        greedy = f"greedy tokens at most {self.gap:.2g} nats below the likeliest"
        return greedy if self.apart is None else f"{greedy}, log-probs {self.apart:.2g} nats apart in the mean"


@dataclass
class ServedPolicy:
    """A model of a server.

    Attributes:
        server: where it is.
        name: its name there.
        by_ids: whether prompts are sent as token ids.
        tokenizer: of the policy.
        ends: tokens that end a response.
        retokenized: responses so far whose tokens are those of their text, because the server told neither them nor as many.
    """

    server: Server
    name: str
    by_ids: bool
    tokenizer: PreTrainedTokenizerBase
    ends: list[int]
    retokenized: int = field(default=0, init=False)

    def respond(
        self,
        prompts: list[IntArray],
        ids: list[str],
        generation: Generation,
        *,
        stream: str,
        max_tokens: int,
        stop: list[str],
        around: Sequence[Around] | None = None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> list[Response]:
        """Generate one response per prompt, in order; the arguments are those of ``generation.respond``.

        Raises:
            UserError: the server refuses a prompt, reads it as other tokens, or gives no reply.
        """
        responses: dict[int, Response] = {}
        try:
            bodies = [
                self._body(prompt.tolist(), generation.request(name, stream), max_tokens, stop, name)
                for prompt, name in zip(prompts, ids, strict=True)
            ]
            for place, completion in self.server.each(bodies):
                self._check_length(completion, len(prompts[place]), ids[place])
                responses[place] = self._response(completion, stop, NOTHING if around is None else around[place])
                advance(1)
        except Refusal as refusal:
            raise UserError(f"{self.server.url}: {refusal}.", "A server that takes token ids, such as vLLM or SGLang") from None
        return [responses[place] for place in range(len(prompts))]

    def probe(self, prompts: Sequence[IntArray], model: PreTrainedModel) -> Probe:
        """Let the server continue some prompts, and compare with the local model.

        Raises:
            Refusal: the server has no such model, does not take such requests, or reads them as other tokens.
            UserError: it gives no reply.
        """
        greedy, names = Greedy(repetition_penalty=1.0), [f"probe {number}" for number in range(len(prompts))]
        expected = respond(
            model, self.tokenizer, list(prompts), names, greedy, stream="", max_tokens=LENGTH, stop=[], batch_tokens=BATCH_TOKENS
        )
        gaps, differences = [], []
        for prompt, name, local in zip(prompts, names, expected, strict=True):
            found = self._asked(prompt, name, greedy.request(name, ""))
            tokens, are_told = self._tokens(found)
            if tokens and are_told:
                chosen, likeliest = _log_probs(model, prompt, tokens)
                gaps.append(float((likeliest - chosen).max()))
            elif found.text == local.text:
                gaps.append(0.0)
            if found.logps is not None:  # likely tokens differ less between models, so others are compared, too
                found = self._asked(prompt, name, {"temperature": 1.0, "top_p": 1.0, "seed": 0})
                tokens, are_told = self._tokens(found)
                if found.logps and are_told and len(found.logps) == len(tokens):
                    chosen, _ = _log_probs(model, prompt, tokens)
                    differences.append((torch.tensor(found.logps) - chosen).abs())
        apart = float(torch.cat(differences).mean()) if differences else None
        return Probe(len(gaps) / len(prompts), max(gaps, default=0.0), apart)

    def _asked(self, prompt: IntArray, name: str, decoding: dict[str, Any]) -> Completion:
        found = self.server.complete(self._body(prompt.tolist(), decoding | {"logprobs": 1}, LENGTH, [], name), tries=2)
        self._check_length(found, len(prompt), name)
        return found

    def _body(self, prompt: list[int], decoding: dict[str, Any], max_tokens: int, stop: list[str], row: str) -> dict[str, Any]:
        """A request. What servers add of their own (top_k of the model's published options, say) is switched off."""
        body = {"model": self.name, "max_tokens": max_tokens} | decoding | ({"stop": stop} if stop else {})
        if self.by_ids:  # vLLM, SGLang
            plain = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": self.ends, "return_token_ids": True}
            return body | plain | {"prompt": prompt}
        options = {"do_sample": decoding["temperature"] > 0, "top_k": 0, "eos_token_id": self.ends}  # transformers serve
        options |= {"pad_token_id": self.tokenizer.pad_token_id}
        return body | {"prompt": self._text(prompt, row), "generation_config": json.dumps(options)}

    def _text(self, prompt: list[int], row: str) -> str:
        """The text that a tokenizer reads as these tokens, without those that it adds itself. Raises Refusal if there is none."""
        for ids in (prompt, prompt[1:]):
            text = str(self.tokenizer.decode(ids, skip_special_tokens=False))
            if self.tokenizer(text)["input_ids"] == prompt:
                return text
        raise Refusal(f"takes no token ids, and no text has the tokens of the prompt of {row}")

    def _check_length(self, completion: Completion, expected: int, row: str) -> None:
        if completion.prompt_tokens not in (None, expected):
            raise Refusal(f"reads the prompt of {row} as {completion.prompt_tokens} tokens; it has {expected}")

    def _tokens(self, completion: Completion) -> tuple[list[int], bool]:
        """The tokens of a response, and whether they are those that were generated, as far as the server tells."""
        if completion.ids is not None:
            return completion.ids, True
        ids = list(self.tokenizer(completion.text, add_special_tokens=False)["input_ids"])
        if completion.ended and completion.tokens in (None, len(ids) + 1):
            ids.append(self.ends[0])
        return ids, completion.tokens == len(ids)

    def _response(self, completion: Completion, stop: list[str], around: Around) -> Response:
        tokens, are_told = self._tokens(completion)
        self.retokenized += not are_told
        found = response_of(tokens, self.tokenizer, self.ends, stop, around)
        return Response(found.text, found.ids, found.tokens, found.ended or completion.ended)


def served(
    servers: Servers,
    addresses: Sequence[str],
    prompts: Sequence[IntArray],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[ServedPolicy, Probe]:
    """The server and its model that hold a policy.

    Args:
        servers: where to look.
        addresses: names that the policy may have there, besides those that a server lists.
        prompts: of which some are continued by the server.
        model, tokenizer: the policy.

    Raises:
        UserError: none of them holds it, or does not answer.
    """
    ends, tried = end_tokens(model, tokenizer), []
    some = [prompts[i * len(prompts) // PROBED] for i in range(PROBED)] if len(prompts) > PROBED else prompts
    for url in servers.urls:
        server = Server(url, servers.requests)
        names = [servers.model] if servers.model else [*addresses, *server.names()[:LISTED]]
        for name, by_ids in product(dict.fromkeys(names), (True, False)):
            policy = ServedPolicy(server, name, by_ids, tokenizer, ends)
            try:
                probe = policy.probe(some, model)
            except (Refusal, UserError) as error:
                found = str(error)
            else:
                if probe.is_same:
                    return policy, probe
                found = str(probe)
            tried.append(f"{url} {name}, asked by {'token ids' if by_ids else 'text'}: {found}")
    raise UserError(
        f"generation.server: no server holds this policy, {', '.join(addresses)}. " + "; ".join(tried),
        "Serve it, and run the same command with generation.server=[URL,URL]: what is finished is kept. "
        "generation.server_model=NAME says how it is called there.",
    )


@torch.inference_mode()
def _log_probs(model: PreTrainedModel, prompt: IntArray, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(T,) log-probs of a response's tokens, and of the likeliest token at each place."""
    ids = torch.tensor([[*prompt.tolist(), *tokens]], device=model.device)
    logps = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(dim=-1)
    return logps.gather(1, ids[0, len(prompt) :, None])[:, 0].cpu(), logps.max(dim=-1).values.cpu()
