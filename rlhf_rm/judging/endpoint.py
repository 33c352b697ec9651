"""A language model behind an OpenAI-compatible endpoint as judge."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rlhf_rm.errors import UserError, first_line
from rlhf_rm.files import fingerprint, read_json, write_json
from rlhf_rm.judging.base import LOSE, NO_ANSWER, TIE, WIN, Comparison

log = logging.getLogger(__name__)
VERDICT = re.compile(r"\[\[(A|B|C)\]\]")
FIELDS = ("{prompt}", "{first}", "{second}")


class NoAnswerError(Exception):
    """The endpoint has failed, or has not said which response is better; its message says how."""


class EndpointJudge:
    """Asks a language model which of two responses is better, in an order that is drawn.

    Which response comes first is drawn from the seed and the texts, since models favour a place. The
    answer's last ``[[A]]``, ``[[B]]`` or ``[[C]]`` (a tie) is the verdict; without one, and where the
    endpoint fails or refuses, there is no answer, and it is an error if there never is one. Answers are
    kept, so that the same question is asked once. The key is read from the environment and kept nowhere.

    Args:
        base_url: of the endpoint, such as ``http://localhost:8000/v1``.
        model: its name there.
        question: what is asked, with ``{prompt}``, ``{first}`` and ``{second}``.
        question_file: a file with another question, or None.
        key_variable: which environment variable holds the key.
        cache_dir: where answers are kept.
        max_tokens: most tokens of an answer.
        timeout: seconds to wait for one.
        retries: how often to ask again where the endpoint fails.
        at_once: questions in flight.
        seed: of the order.

    Raises:
        UserError: the package ``openai`` is missing, or the question lacks one of its fields.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        question: str,
        question_file: str | None,
        key_variable: str,
        cache_dir: str,
        max_tokens: int,
        timeout: float,
        retries: int,
        at_once: int,
        seed: int,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError(
                "judge=endpoint needs the extra: pip install -c constraints.txt -e '.[endpoint]'."
            ) from error
        if question_file is not None:
            if not Path(question_file).is_file():
                raise UserError(f"judge.question_file={question_file} is no file.")
            question = Path(question_file).read_text(encoding="utf-8")
        missing = [field for field in FIELDS if field not in question]
        if missing:
            raise UserError(f"the question to the judge lacks {', '.join(missing)}: add what it is to judge.")
        self.question, self.model, self.base_url, self.key_variable = question, model, base_url, key_variable
        self.max_tokens, self.at_once, self.seed = max_tokens, at_once, seed
        self.cache = Path(cache_dir) / "judge"
        # A server of one's own asks for no key, but the client wants one.
        self.client = openai.OpenAI(
            base_url=base_url,
            api_key=os.environ.get(key_variable) or "none",
            timeout=timeout,
            max_retries=retries,
        )
        self.failure = openai.OpenAIError

    def verdicts(
        self, comparisons: Sequence[Comparison], advance: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """See :class:`~rlhf_rm.judging.base.Judge`.

        Raises:
            UserError: there is no answer to any question.
        """
        found = [NO_ANSWER] * len(comparisons)
        failure = ""
        with ThreadPoolExecutor(self.at_once) as pool:
            asked = {pool.submit(self._verdict, one): i for i, one in enumerate(comparisons)}
            for done in as_completed(asked):
                try:
                    found[asked[done]] = done.result()
                except NoAnswerError as error:
                    failure = str(error)
                    log.warning("the judge gave no answer: %s", failure)
                advance(1)
        if set(found) == {NO_ANSWER}:
            raise UserError(
                f"the judge answered none of {len(found)} questions (the last failure: {failure}): look at "
                f"judge.base_url={self.base_url}, judge.model={self.model} and the key in "
                f"{self.key_variable}; one that answers without [[A]], [[B]] or [[C]] needs another "
                "judge.question, or more judge.max_tokens."
            )
        return found

    def _verdict(self, one: Comparison) -> str:
        """The verdict on a comparison.

        Raises:
            NoAnswerError: see above.
        """
        swapped = self._is_swapped(one)
        first, second = (one.b, one.a) if swapped else (one.a, one.b)
        prompt = "\n\n".join(f"{message.role}: {message.content}" for message in one.messages)
        # In one pass, so that braces in a text stay what they are.
        fields = dict(zip(FIELDS, (prompt, first, second), strict=True))
        question = re.sub("|".join(map(re.escape, FIELDS)), lambda m: fields[m.group()], self.question)
        letter = VERDICT.findall(self._answer(question))[-1]
        if letter == "C":
            return TIE
        return WIN if (letter == "A") != swapped else LOSE

    def _is_swapped(self, one: Comparison) -> bool:
        text = repr((self.seed, [tuple(m) for m in one.messages], sorted((one.a, one.b)))).encode()
        drawn = hashlib.sha256(text).digest()[0] % 2 == 1
        return drawn != (one.a > one.b)  # so that the two files may change places

    def _answer(self, question: str) -> str:
        """The endpoint's answer, from the cache if there; it holds a verdict.

        Raises:
            NoAnswerError: there is none.
        """
        file = self.cache / f"{fingerprint(self.base_url, self.model, self.max_tokens, question)}.json"
        if file.is_file():
            return str(read_json(file)["answer"])
        try:
            completion = self.client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": question}],
                temperature=0.0,
                max_tokens=self.max_tokens,
            )
            answer = completion.choices[0].message.content
        except (self.failure, AttributeError, IndexError, TypeError, ValueError) as error:
            raise NoAnswerError(first_line(error)) from error
        if not isinstance(answer, str) or not VERDICT.search(answer):
            raise NoAnswerError(f"what it said holds no verdict: {answer!s:.80}")
        write_json(file, {"question": question, "answer": answer})
        return answer
