"""Completions from the server beside the worker: token ids there, token ids and raw log-probabilities back.

The protocol is OpenAI's `POST /v1/completions` with what vLLM adds: a prompt of ids, `return_token_ids`, and
log-probabilities before temperature and nucleus (`--logprobs-mode raw_logprobs`, its default).
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from alignment_api import sampling_server
from alignment_worker.failures import InvalidConfigError, SamplingServerError
from alignment_worker.generate import Completion, Decoding
from alignment_worker.interruption import run_interruptibly
from alignment_worker.models import Vocabulary
from alignment_worker.progress import Progress

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_FIELD = "spec.sampling.server"
_AT_ONCE = 32  # prompts; the server batches their answers as it can
# After 0.5 s, 1 s, … 8 s, a minute and a half in all: a server that crashed may have come back.
RETRIES = 16
LEAST_SECONDS = 600.0  # for a prompt, with all retries
_SECONDS_PER_TOKEN = 0.5
_WORDS = 600
_SPELT = "token_id:"


def address() -> str:
    """HOST:PORT of the server. Raises InvalidConfigError if there is none."""
    found = os.environ.get(sampling_server.ADDRESS_VARIABLE, "")
    if not found:
        raise InvalidConfigError(
            f"{_FIELD}: no server runs beside this worker ({sampling_server.ADDRESS_VARIABLE} is not set); the "
            "operator starts it on a cluster. Elsewhere leave the field out."
        )
    return found


def complete(
    vocabulary: Vocabulary,
    prompts: Sequence[list[int]],
    keys: Sequence[int],
    decoding: Decoding,
    progress: Progress,
) -> list[list[Completion]]:
    """As `generate.generate` does: `decoding.samples` completions of each prompt, in the order of the prompts.

    Each prompt is asked with a seed of its own, from `decoding.seed` and its key. Raises InvalidConfigError if the
    server refuses, or answers what cannot be recorded truthfully; SamplingServerError if it does not answer;
    Interrupted.
    """
    asked = _Asked(vocabulary, decoding, progress, address())
    return run_interruptibly(asked.all(prompts, keys))


class _Asked:
    def __init__(self, vocabulary: Vocabulary, decoding: Decoding, progress: Progress, place: str) -> None:
        self._vocabulary = vocabulary
        self._decoding = decoding
        self._progress = progress
        host, _, port = place.rpartition(":")
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    async def all(self, prompts: Sequence[list[int]], keys: Sequence[int]) -> list[list[Completion]]:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # noqa: PLC0415 - only where a server samples

        turns = asyncio.Semaphore(_AT_ONCE)
        seconds = max(LEAST_SECONDS, _SECONDS_PER_TOKEN * self._decoding.max_new_tokens)
        # The pod's own server is asked past any proxy.
        async with AsyncOpenAI(
            api_key="none",
            base_url=self._url,
            max_retries=RETRIES,
            timeout=seconds,
            http_client=DefaultAsyncHttpxClient(trust_env=False, follow_redirects=False),
        ) as client:

            async def one(prompt: list[int], key: int) -> list[Completion]:
                async with turns:
                    try:
                        async with asyncio.timeout(seconds):
                            answers = await self._ask(client, prompt, key)
                    except TimeoutError as error:
                        raise self._silent(
                            f"no answer to the prompt of line {key} within {seconds:g} s"
                        ) from error
                self._progress.count("tokens", sum(len(answer.ids) for answer in answers))
                self._progress.advance()
                return answers

            return await asyncio.gather(
                *(one(prompt, key) for prompt, key in zip(prompts, keys, strict=True))
            )

    async def _ask(self, client: AsyncOpenAI, prompt: list[int], key: int) -> list[Completion]:
        import openai  # noqa: PLC0415

        decoding, limit = self._decoding, self._limit(prompt)
        try:
            said = await client.completions.with_raw_response.create(
                model=sampling_server.MODEL_NAME,
                prompt=prompt,
                n=decoding.samples,
                max_tokens=limit,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                seed=random.Random(f"{decoding.seed}/{key}").getrandbits(31),  # noqa: S311 - a draw, not a secret
                logprobs=1,
                presence_penalty=0.0,
                frequency_penalty=0.0,
                extra_body={
                    # What the checkpoint's generation_config.json might set otherwise.
                    "top_k": 0,
                    "min_p": 0.0,
                    "repetition_penalty": 1.0,
                    "stop_token_ids": sorted(self._vocabulary.eos_ids),
                    "return_token_ids": True,
                    "return_tokens_as_token_ids": True,
                },
            )
        except openai.APIStatusError as error:
            raise self._refused(error.status_code, error.response.text, key) from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise self._silent(f"asked {RETRIES + 1} times: {cause!r}") from error
        return self._read(said.http_response.text, prompt, limit)

    def _limit(self, prompt: list[int]) -> int:
        longest = self._decoding.max_new_tokens
        positions = self._vocabulary.max_positions
        return longest if positions is None else min(longest, positions - len(prompt))

    def _silent(self, what: str) -> SamplingServerError:
        return SamplingServerError(
            f"{_FIELD}: {self._url} does not answer: {what}; the log of the container `server` says why"
        )

    def _refused(self, status: int, words: str, key: int) -> InvalidConfigError | SamplingServerError:
        said = f"HTTP {status}: {_shortened(words)}"
        if status >= 500 or status in {408, 409, 429}:
            return SamplingServerError(
                f"{_FIELD}: the server fails, asked {RETRIES + 1} times for the prompt of line {key}: {said}"
            )
        return InvalidConfigError(
            f"{_FIELD}: the server refuses the prompt of line {key}: {said}. Change {_FIELD}.args or the image, or "
            "shorten prompts and spec.sampling.maxNewTokens."
        )

    def _read(self, text: str, prompt: list[int], limit: int) -> list[Completion]:
        try:
            answer = _Answer.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise self._nonsense(f"{where}: {first['msg']}: {_shortened(text)}") from error
        if len(answer.choices) != self._decoding.samples:
            raise self._nonsense(f"{len(answer.choices)} choices, asked for n={self._decoding.samples}")
        if answer.model != sampling_server.MODEL_NAME:
            raise self._nonsense(f"of the model {_shortened(answer.model)!r}")
        ordered = sorted(answer.choices, key=lambda choice: choice.index)
        if [choice.index for choice in ordered] != list(range(len(ordered))):
            raise self._nonsense(f"the choices {[choice.index for choice in ordered]}")
        return [self._completion(choice, prompt, limit) for choice in ordered]

    def _completion(self, choice: _Choice, prompt: list[int], limit: int) -> Completion:
        ids, values = choice.ids(), choice.logprobs.token_logprobs if choice.logprobs else None
        if ids is None or values is None:
            what = "token ids" if ids is None else "log-probabilities"
            raise self._nonsense(f"no {what} of what was sampled; vLLM gives both")
        if choice.prompt_token_ids not in (None, prompt):
            raise self._nonsense("prompt_token_ids that are not those that were sent")
        strange = [each for each in ids if not 0 <= each < self._vocabulary.size]
        if strange:
            raise self._nonsense(
                f"the token id {strange[0]}, but the policy's are below {self._vocabulary.size}; does it serve another?"
            )
        numbers = [value for value in values if value is not None and math.isfinite(value) and value <= 0]
        if len(numbers) != len(ids):
            raise self._nonsense(f"{len(ids)} token ids, and {len(numbers)} log-probabilities that are any")
        return self._ended(ids, numbers, choice.finish_reason, limit)

    def _ended(self, ids: list[int], values: list[float], reason: str | None, limit: int) -> Completion:
        """An answer ends with its only EOS, or is cut off at the limit."""
        ends = [place for place, each in enumerate(ids) if each in self._vocabulary.eos_ids]
        whole = ends == [len(ids) - 1] and len(ids) <= limit
        cut_off = not ends and len(ids) == limit
        if not whole and not cut_off:
            raise self._nonsense(
                f"an answer of {len(ids)} tokens that neither ends with its only EOS nor is cut off at "
                f"max_tokens={limit} (finish_reason {reason!r})"
            )
        return Completion(ids=ids, log_probs=values, entropies=[0.0] * len(ids), truncated=cut_off)

    def _nonsense(self, what: str) -> InvalidConfigError:
        return InvalidConfigError(
            f"{_FIELD}: the server's answer cannot be used: {what}. It must speak vLLM's /v1/completions "
            "(docs/sampling-server.md); or leave the field out."
        )


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _LogProbs(_Strict):
    tokens: list[str] = []
    token_logprobs: list[float | None] | None = None


class _Choice(_Strict):
    index: int
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    logprobs: _LogProbs | None = None

    def ids(self) -> list[int] | None:
        """As `return_token_ids` gives them, else as `return_tokens_as_token_ids` does."""
        if self.token_ids is not None:
            return self.token_ids
        tokens = self.logprobs.tokens if self.logprobs else []
        numbers = [token.removeprefix(_SPELT) for token in tokens if token.startswith(_SPELT)]
        if not tokens or len(numbers) < len(tokens) or not all(number.isdecimal() for number in numbers):
            return None
        return [int(number) for number in numbers]


class _Answer(_Strict):
    model: str
    choices: list[_Choice]


def _shortened(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= _WORDS else words[: _WORDS - 1] + "…"
