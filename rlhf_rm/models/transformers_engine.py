"""Sampling with `transformers`.

Shape legend: R prompts of one forward pass, K responses of each, T tokens.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, GenerationConfig, PreTrainedModel

from rlhf_rm.models.generate import Request, own_randomness


@dataclass(frozen=True)
class TransformersEngine:
    """Samples with `transformers`' own generation and its cache of keys and values; see :class:`Engine`.

    It runs wherever training does, and draws from the very weights that are trained. What a model's own
    ``generation_config.json`` says of sampling is left aside.

    Args:
        batch_tokens: tokens that are generated at once, padding and prompts included; at least one prompt.
    """

    batch_tokens: int

    def draw(
        self, network: PreTrainedModel, request: Request, advance: Callable[[int], Any]
    ) -> list[list[list[int]]]:
        """See :class:`Engine`; the draws depend on ``batch_tokens`` too."""
        found: dict[int, list[list[int]]] = {}
        was_training = network.training
        network.eval()
        with own_randomness(network):
            torch.manual_seed(request.seed)
            for batch in self._batches(request):
                new_RKT = _generate(network, [request.prompts[i] for i in batch], request)
                found |= dict(zip(batch, new_RKT.tolist(), strict=True))
                advance(len(batch))
        network.train(was_training)
        return [found[i] for i in range(len(request.prompts))]

    def close(self) -> None:
        """It holds nothing."""

    def _batches(self, request: Request) -> list[list[int]]:
        """Prompts of like length together, the longest first, so that memory shows its worst at once."""
        lengths = [len(one) for one in request.prompts]
        batches: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
            if batches:
                longest = lengths[batches[-1][0]] + request.sampling.max_new_tokens
                if (len(batches[-1]) + 1) * request.k * longest <= self.batch_tokens:
                    batches[-1].append(i)
                    continue
            batches.append([i])
        return batches


@torch.inference_mode()
def _generate(network: Any, prompts: Sequence[Sequence[int]], request: Request) -> Tensor:
    """New tokens of some of the prompts' responses, (R, K, T), filled up with EOS."""
    k, sampling, eos = request.k, request.sampling, request.ends[0]
    width = max(len(ids) for ids in prompts)
    shape = (len(prompts), width)
    ids_RT = torch.full(shape, eos, dtype=torch.long)
    mask_RT = torch.zeros(shape, dtype=torch.long)
    for row, ids in enumerate(prompts):
        ids_RT[row, width - len(ids) :] = torch.tensor(ids)
        mask_RT[row, width - len(ids) :] = 1
    drawn = sampling.temperature > 0
    how = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if drawn else {}
    settings = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=drawn,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(request.ends),
        pad_token_id=eos,
        **how,
    )
    ids_RT, mask_RT = ids_RT.to(network.device), mask_RT.to(network.device)
    cache = None
    if drawn and k > 1:
        cache = _read(network, ids_RT, mask_RT, k)
        ids_RT, mask_RT = (one.repeat_interleave(k, 0) for one in (ids_RT, mask_RT))
    with _told(network, settings):
        out = network.generate(
            input_ids=ids_RT, attention_mask=mask_RT, past_key_values=cache, generation_config=settings
        )
    new: Tensor = out[:, width:].cpu().view(len(prompts), -1, out.shape[1] - width)
    return new if drawn else new.expand(-1, k, -1)


@contextmanager
def _told(network: Any, settings: GenerationConfig) -> Iterator[None]:
    """These settings stand where the network's own do.

    Generation takes from there what the settings that it is given leave open: a model's ``min_p`` or beams
    would decide what is drawn, and training would know nothing of them.
    """
    own, network.generation_config = network.generation_config, settings
    try:
        yield
    finally:
        network.generation_config = own


def _read(network: Any, ids_RT: Tensor, mask_RT: Tensor, k: int) -> Cache | None:
    """Keys and values of prompts but their last tokens, read once and then there ``k`` times each.

    None where there is nothing to read, or the model keeps something else than keys and values:
    generation then reads each prompt as often as it is answered.
    """
    if ids_RT.shape[1] < 2:
        return None
    given = {"input_ids": ids_RT[:, :-1], "attention_mask": mask_RT[:, :-1]}
    if "position_ids" in inspect.signature(network.base_model.forward).parameters:
        given["position_ids"] = (mask_RT.cumsum(1) - 1).clamp(min=0)[:, :-1]
    cache = network.base_model(**given, use_cache=True).past_key_values
    if type(cache) is not DynamicCache:
        return None
    cache.batch_repeat_interleave(k)
    return cache
