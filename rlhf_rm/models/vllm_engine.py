"""Sampling with vLLM, in the process and on the device of the policy."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

import torch
from transformers import PreTrainedModel

from rlhf_rm.errors import UserError
from rlhf_rm.models.adapter import merged_state
from rlhf_rm.models.generate import Request, own_randomness


@dataclass
class VllmEngine:
    """Samples with vLLM's paged attention and continuous batching; see :class:`Engine`.

    vLLM keeps a copy of the policy beside the one that is trained, on the same device: made when the first
    responses are drawn, and given the policy's weights (adapters merged) before each draw. Of several ranks
    each has its own and draws for its own prompts.

    Args:
        memory_fraction: of the device's memory that vLLM may have for weights and its cache of keys and
            values, from 0 to 1.
        dtype: of that copy, such as ``bfloat16``; None takes that of the policy's weights.
        eager: run without CUDA graphs, which cost a minute at the start and memory, and make draws faster.
    """

    memory_fraction: float
    dtype: str | None
    eager: bool
    _llm: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.memory_fraction <= 1:
            raise UserError(f"engine.memory_fraction={self.memory_fraction} must be above 0 and at most 1.")

    def draw(
        self, network: PreTrainedModel, request: Request, advance: Callable[[int], Any]
    ) -> list[list[list[int]]]:
        """See :class:`Engine`.

        Raises:
            UserError: vLLM is not installed, does not start with the model, or refuses the sampling
                settings.
        """
        drawn = request.sampling.temperature > 0
        with own_randomness(network):
            if self._llm is None:
                self._llm = self._open(network, request.max_length)
            weights = iter(merged_state(network).items())
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
            self._llm.reset_prefix_cache()
            found = self._llm.generate(
                [{"prompt_token_ids": list(ids)} for ids in request.prompts],
                _settings(request, request.k if drawn else 1),
                use_tqdm=False,
            )
        advance(len(request.prompts))
        responses = [[list(one.token_ids) for one in some.outputs] for some in found]
        return responses if drawn else [some * request.k for some in responses]

    def close(self) -> None:
        """Give vLLM's memory back, and end the process group that it may have opened."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def _open(self, network: PreTrainedModel, max_length: int) -> Any:
        # In this process, so that weights need not be sent to another; vLLM reads this when it starts.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        # It would warn before each draw of buffers for which no weights came.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        try:
            from vllm import LLM
        except ImportError as error:
            raise UserError(
                f"engine=vllm needs vLLM, which cannot be imported ({error}): pip install vllm, or use "
                "engine=transformers."
            ) from error
        ranks: dict[str, Any] = {}
        if torch.distributed.is_initialized():
            os.environ["RANK"] = str(torch.distributed.get_rank())
            ranks = {"distributed_executor_backend": "external_launcher"}
        with tempfile.TemporaryDirectory() as directory:
            network.config.save_pretrained(directory)
            try:
                return LLM(
                    model=directory,
                    skip_tokenizer_init=True,
                    # The weights come before each draw.
                    load_format="dummy",
                    # Settings that a model brings along are none of the run's.
                    generation_config="vllm",
                    dtype=self.dtype or str(network.dtype).removeprefix("torch."),
                    gpu_memory_utilization=self.memory_fraction,
                    enforce_eager=self.eager,
                    max_model_len=max_length,
                    disable_log_stats=True,
                    **ranks,
                )
            except ValueError as error:
                # It goes on to list all that it knows.
                why = shorten(str(error), 200)
                raise UserError(
                    f"vLLM does not start with this model ({network.config.model_type}): {why} Another "
                    f"engine.memory_fraction than {self.memory_fraction} helps where memory is short; "
                    "engine=transformers runs any model."
                ) from error


def _settings(request: Request, k: int) -> list[Any]:
    """What vLLM is told of each prompt: a seed of its own, from which it counts on for its k responses.

    Raises:
        UserError: vLLM refuses the settings.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    sampling, generator = request.sampling, torch.Generator().manual_seed(request.seed)
    seeds = torch.randint(2**62, (len(request.prompts),), generator=generator).tolist()
    try:
        return [
            SamplingParams(
                n=k,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                repetition_penalty=sampling.repetition_penalty,
                max_tokens=sampling.max_new_tokens,
                seed=one,
                # These alone: it would add what the model's config.json calls EOS.
                stop_token_ids=list(request.ends),
                ignore_eos=True,
                detokenize=False,
            )
            for one in seeds
        ]
    except VLLMValidationError as error:
        raise UserError(f"vLLM refuses these sampling settings: {error}") from error
