"""Responses sampled from a language model."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_rm.data.template import is_encoder, render
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError

Prompt = Sequence[Message]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        max_new_tokens: most tokens of a response, the one that ends it included.
        temperature: logits are divided by it; 0 takes the likeliest token each time.
        top_p: draw from the likeliest tokens that have this much probability together; 1 from all.
        repetition_penalty: makes tokens that are there already less likely; 1 leaves them alone.

    Raises:
        UserError: a setting out of its range.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    repetition_penalty: float

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"sampling.max_new_tokens={self.max_new_tokens} must be at least 1, sampling.temperature="
                f"{self.temperature} at least 0 and sampling.top_p={self.top_p} above 0 and at most 1."
            )
        if self.repetition_penalty <= 0:
            raise UserError(f"sampling.repetition_penalty={self.repetition_penalty} must be above 0.")


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response.

    Args:
        text: without special tokens, and without what ends it.
        ids: its tokens, the one that ends it included if there is one.
        finished: whether it ended by itself.
        prompt_ids: the tokens that it answers.
    """

    text: str
    ids: tuple[int, ...]
    finished: bool
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What an engine is to draw.

    Args:
        prompts: tokens of each.
        k: responses to each; with temperature 0 they are all the same.
        sampling: how tokens are drawn.
        ends: the tokens that end a response, EOS first.
        max_length: no prompt with its response has more tokens.
        seed: of the draws.
    """

    prompts: Sequence[Sequence[int]]
    k: int
    sampling: Sampling
    ends: tuple[int, ...]
    max_length: int
    seed: int


class Engine(Protocol):
    """Draws the tokens of responses."""

    def draw(
        self, network: PreTrainedModel, request: Request, advance: Callable[[int], Any]
    ) -> list[list[list[int]]]:
        """New tokens of each prompt's responses, up to and with one that ends them; what follows is not read.

        The same for the same network and request. The process's own state of randomness, and the network,
        are left as they were.

        Args:
            network: a causal language model.
            request: what is wanted.
            advance: called with the number of prompts done since the last call.
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def own_randomness(network: PreTrainedModel) -> AbstractContextManager[None]:
    """What is drawn within leaves the process's state of randomness as it was."""
    on_gpu = network.device.type == "cuda"
    return torch.random.fork_rng(devices=[network.device] if on_gpu else [])


def ends_of(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that end a response: EOS of the tokenizer, and what else the model was made to end with.

    Many chat models end their turns otherwise than their tokenizers end a text, such as Gemma with
    ``<end_of_turn>``, and say so in their ``generation_config.json``.
    """
    own = getattr(getattr(network, "generation_config", None), "eos_token_id", None)
    named = own if isinstance(own, list) else [own]
    return tuple(dict.fromkeys(one for one in (tokenizer.eos_token_id, *named) if one is not None))


class Generator:
    """Responses to prompts: renders them, lets an engine draw the tokens, and reads those.

    Args:
        network: a causal language model.
        tokenizer: with its chat template.
        sampling: how tokens are drawn.
        engine: what draws them.
        max_length: longest sequence in tokens; a prompt that leaves no room loses its beginning.

    Raises:
        UserError: the model has no EOS, or there is no room for a prompt.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        engine: Engine,
        *,
        max_length: int,
    ) -> None:
        if tokenizer.eos_token_id is None or is_encoder(tokenizer):
            raise UserError(
                "the policy's tokenizer has no EOS token, so no response would end: name a language model."
            )
        self.room = max_length - sampling.max_new_tokens
        if self.room < 1:
            raise UserError(
                f"sampling.max_new_tokens={sampling.max_new_tokens} leaves no room for a prompt: the model "
                f"takes {max_length} tokens."
            )
        self.network, self.tokenizer, self.ends = network, tokenizer, ends_of(network, tokenizer)
        self.sampling, self.engine, self.max_length = sampling, engine, max_length
        self.cut = 0  # prompts that lost their beginning so far

    def responses(
        self,
        prompts: Sequence[Prompt],
        k: int,
        *,
        seed: int,
        advance: Callable[[int], Any] = lambda prompts: None,
    ) -> list[list[Response]]:
        """``k`` responses to each prompt, the same for the same seed and engine.

        Args:
            prompts: messages up to the response.
            k: how many each; with temperature 0 they are all the same.
            seed: of the draws; the process's own state of randomness is left as it was.
            advance: called with the number of prompts done, for a progress bar.
        """
        if not prompts:
            return []
        ids = self._encode(prompts)
        lead = self._lead(prompts[0])
        request = Request(ids, k, self.sampling, self.ends, self.max_length, seed)
        found = self.engine.draw(self.network, request, advance)
        return [
            [self._response(one, new, lead) for new in some] for one, some in zip(ids, found, strict=True)
        ]

    def _encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        texts = render(self.tokenizer, prompts, add_generation_prompt=True)
        whole = [self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
        self.cut += sum(len(ids) > self.room for ids in whole)
        return [self._fitting(ids) for ids in whole]

    def _fitting(self, ids: list[int]) -> list[int]:
        """The end of a prompt that is too long, with its BOS."""
        if len(ids) <= self.room:
            return ids
        head = 1 if ids[0] == self.tokenizer.bos_token_id else 0
        return ids[:head] + ids[len(ids) - (self.room - head) :]

    def _lead(self, prompt: Prompt) -> str:
        """What the template puts between its generation prompt and a response, such as a blank."""
        asked = render(self.tokenizer, [prompt], add_generation_prompt=True)[0]
        answered = render(self.tokenizer, [[*prompt, Message("assistant", "x")]])[0]
        rest = answered[len(asked) :] if answered.startswith(asked) else "x"
        return rest[: rest.index("x")]

    def _response(self, prompt: list[int], ids: list[int], lead: str) -> Response:
        length = next((i for i, one in enumerate(ids) if one in self.ends), len(ids))
        # What ends it need be no special token, and reward models read the text with an end of their own.
        text = str(self.tokenizer.decode(ids[:length], skip_special_tokens=True))
        finished = length < len(ids)
        return Response(text.removeprefix(lead), tuple(ids[: length + 1]), finished, tuple(prompt))
