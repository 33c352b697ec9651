"""Responses sampled from a language model.

Shape legend: R prompts of one forward pass, K responses of each, T tokens.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from rlhf_rm.data.template import is_encoder, render
from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError

Prompt = Sequence[Message]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        max_new_tokens: most tokens of a response, EOS included.
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
        text: without special tokens.
        ids: its tokens, EOS included if there is one.
        finished: whether it ended by itself.
        prompt_ids: the tokens that it answers.
    """

    text: str
    ids: tuple[int, ...]
    finished: bool
    prompt_ids: tuple[int, ...]


class Generator:
    """Samples responses with `transformers`' own generation and its cache of keys and values.

    Args:
        network: a causal language model; it generates in evaluation mode, and is then left as it was.
        tokenizer: with its chat template.
        sampling: how tokens are drawn.
        max_length: longest sequence in tokens; a prompt that leaves no room loses its beginning.
        batch_tokens: tokens that are generated at once, padding and prompts included; at least one prompt.

    Raises:
        UserError: the model has no EOS, or there is no room for a prompt.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        *,
        max_length: int,
        batch_tokens: int,
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
        self.network: Any = network
        self.tokenizer, self.sampling, self.batch_tokens = tokenizer, sampling, batch_tokens
        self.cut = 0  # prompts that lost their beginning so far

    def responses(
        self,
        prompts: Sequence[Prompt],
        k: int,
        *,
        seed: int,
        advance: Callable[[int], Any] = lambda prompts: None,
    ) -> list[list[Response]]:
        """``k`` responses to each prompt, the same for the same seed and batches.

        Args:
            prompts: messages up to the response.
            k: how many each; with temperature 0 they are all the same.
            seed: of the draws; the process's own state of randomness is left as it was.
            advance: called with the number of prompts done, for a progress bar.
        """
        ids = self._encode(prompts)
        lead = self._lead(prompts[0]) if prompts else ""
        found: dict[int, list[Response]] = {}
        was_training = self.network.training
        self.network.eval()
        with torch.random.fork_rng(devices=self._devices()):
            torch.manual_seed(seed)
            for batch in self._batches([len(one) for one in ids], k):
                new_RKT = self._generate([ids[i] for i in batch], k)
                for i, new_KT in zip(batch, new_RKT, strict=True):
                    found[i] = [self._response(ids[i], one_T.tolist(), lead) for one_T in new_KT]
                advance(len(batch))
        self.network.train(was_training)
        return [found[i] for i in range(len(prompts))]

    def _devices(self) -> list[torch.device]:
        return [self.network.device] if self.network.device.type == "cuda" else []

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

    def _batches(self, lengths: Sequence[int], k: int) -> list[list[int]]:
        """Prompts of like length together, the longest first, so that memory shows its worst at once."""
        batches: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
            if batches:
                longest = lengths[batches[-1][0]] + self.sampling.max_new_tokens
                if (len(batches[-1]) + 1) * k * longest <= self.batch_tokens:
                    batches[-1].append(i)
                    continue
            batches.append([i])
        return batches

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[Sequence[int]], k: int) -> Tensor:
        """New tokens of each response, (R, K, T), filled up with EOS."""
        eos = self.tokenizer.eos_token_id
        width = max(len(ids) for ids in prompts)
        shape = (len(prompts), width)
        ids_RT = torch.full(shape, eos, dtype=torch.long)
        mask_RT = torch.zeros(shape, dtype=torch.long)
        for row, ids in enumerate(prompts):
            ids_RT[row, width - len(ids) :] = torch.tensor(ids)
            mask_RT[row, width - len(ids) :] = 1
        settings = self.sampling
        drawn = settings.temperature > 0
        how: dict[str, Any] = {}
        if drawn:
            how = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
        ids_RT, mask_RT = ids_RT.to(self.network.device), mask_RT.to(self.network.device)
        if drawn and k > 1:
            how["past_key_values"] = self._read(ids_RT, mask_RT, k)
            ids_RT, mask_RT = (one.repeat_interleave(k, 0) for one in (ids_RT, mask_RT))
        out = self.network.generate(
            input_ids=ids_RT,
            attention_mask=mask_RT,
            max_new_tokens=settings.max_new_tokens,
            do_sample=drawn,
            repetition_penalty=settings.repetition_penalty,
            eos_token_id=eos,
            pad_token_id=eos,
            **how,
        )
        new = out[:, width:].cpu().view(len(prompts), -1, out.shape[1] - width)
        return new if drawn else new.expand(-1, k, -1)

    def _read(self, ids_RT: Tensor, mask_RT: Tensor, k: int) -> Cache | None:
        """Keys and values of prompts but their last tokens, read once and then there ``k`` times each.

        None where there is nothing to read, or the model keeps something else than keys and values:
        generation then reads each prompt as often as it is answered.
        """
        if ids_RT.shape[1] < 2:
            return None
        given = {"input_ids": ids_RT[:, :-1], "attention_mask": mask_RT[:, :-1]}
        if "position_ids" in inspect.signature(self.network.base_model.forward).parameters:
            given["position_ids"] = (mask_RT.cumsum(1) - 1).clamp(min=0)[:, :-1]
        cache = self.network.base_model(**given, use_cache=True).past_key_values
        if type(cache) is not DynamicCache:
            return None
        cache.batch_repeat_interleave(k)
        return cache

    def _response(self, prompt: list[int], ids: list[int], lead: str) -> Response:
        eos = self.tokenizer.eos_token_id
        finished = eos in ids
        own = ids[: ids.index(eos) + 1] if finished else ids
        text = str(self.tokenizer.decode(own, skip_special_tokens=True))
        return Response(text.removeprefix(lead), tuple(own), finished, tuple(prompt))
