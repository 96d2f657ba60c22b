"""One request to an OpenAI-compatible endpoint's chat completions, and what its failures mean.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from alignment_api.judges import LLM
from alignment_worker import llm_question
from alignment_worker.api_keys import api_key
from alignment_worker.failures import InvalidConfigError, JudgeRefusedError, JudgeSilentError
from alignment_worker.llm_question import Message

RETRIES = 16  # after 0.5 s, 1 s, … 8 s, or as Retry-After says: about two minutes in all
_SECONDS = 120.0
_MOST_TOKENS = 512
_WORDS = 400


@dataclass(frozen=True)
class Said:
    """A reply's text, whether the model or a filter refused, and the tokens that were read and written.

    `tokens` is 0 if the endpoint does not say.
    """

    text: str
    refused: bool
    tokens: int


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    total_tokens: NonNegativeInt | None = None
    prompt_tokens: NonNegativeInt | None = None
    completion_tokens: NonNegativeInt | None = None

    @property
    def tokens(self) -> int:
        """0 if it is not said."""
        return self.total_tokens or (self.prompt_tokens or 0) + (self.completion_tokens or 0)


class _Answer(BaseModel):
    """What is read of a chat completion; the client takes whatever the endpoint sends for one."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class Endpoint:
    """Of one judge, which the spec names at `field`; `key_variable` has its key. Use it as an asynchronous context."""

    def __init__(self, llm: LLM, key_variable: str, field: str) -> None:
        self._llm = llm
        self._field = field
        self._key = _key(llm, key_variable, field)
        # What some servers and models do not take; each is left out from the first refusal on.
        self._wishes: dict[str, Any] = {
            "response_format": llm_question.SCHEMA,
            "temperature": 0.0,
            "max_tokens": _MOST_TOKENS,
        }

    async def __aenter__(self) -> Self:
        self._client = AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._llm.base_url,
            max_retries=RETRIES,
            timeout=_SECONDS,
            # A redirect would take the key along.
            http_client=DefaultAsyncHttpxClient(follow_redirects=False),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, messages: list[Message]) -> Said:
        """Raises JudgeRefusedError, JudgeSilentError."""
        while True:
            wishes = dict(self._wishes)
            try:
                said = _said(await self._create(messages, wishes))
            except openai.APIStatusError as error:
                if not self._give_up_one(error, wishes):
                    raise self._failed(error) from error
            except openai.APIConnectionError as error:
                cause = error.__cause__ or error
                raise JudgeSilentError(
                    f"{self._field}: {self._llm.base_url} does not answer, asked {RETRIES + 1} times: {cause!r}; is "
                    "baseURL right, and does the server run? What was judged stays"
                ) from error
            except openai.OpenAIError as error:
                raise self._strange(str(error)) from error
            else:
                self._refuse_without_usage(said)
                return said

    async def _create(self, messages: list[Message], wishes: dict[str, Any]) -> _Answer:
        made: Any = await self._client.chat.completions.create(
            model=self._llm.model,
            messages=messages,  # type: ignore[arg-type]
            **wishes,
        )
        try:
            return _Answer.model_validate(made.model_dump(warnings=False))
        except (AttributeError, ValidationError) as error:
            raise self._strange(f"its answer is no chat completion: {_shortened(str(made))}") from error

    def _refuse_without_usage(self, said: Said) -> None:
        """A budget that nobody counts against would never be reached."""
        budget = self._llm.budget
        if budget is not None and budget.max_tokens is not None and not said.tokens:
            raise JudgeRefusedError(
                f"{self._field}.budget.maxTokens: {budget.max_tokens}: {self._llm.base_url} does not say how many "
                "tokens a reply took (`usage`), so that this budget cannot be kept; set budget.maxRequests in its place"
            )

    def _give_up_one(self, error: openai.APIStatusError, wishes: dict[str, Any]) -> bool:
        if error.status_code not in {400, 422}:
            return False
        refused = next((name for name in wishes if name in error.response.text), None)
        if refused is not None:
            self._wishes.pop(refused, None)
        return refused is not None

    def _failed(self, error: openai.APIStatusError) -> JudgeRefusedError | JudgeSilentError:
        status, words = error.status_code, _shortened(_words(error))
        if status >= 500 or status in {408, 409, 429}:
            return JudgeSilentError(
                f"{self._field}: {self._llm.base_url} fails, asked {RETRIES + 1} times: HTTP {status}: {words}"
            )
        remedy = {
            401: "Correct the key in apiKeySecretRef.",
            403: "Correct the key in apiKeySecretRef, or what it may do.",
            404: "Correct baseURL (it ends before /chat/completions) or model.",
        }.get(status, "Correct baseURL or model, or shorten prompts and answers.")
        return JudgeRefusedError(
            f"{self._field}: {self._llm.base_url} refuses the model {self._llm.model!r}: HTTP {status}: {words}. "
            f"{remedy}"
        )

    def _strange(self, what: str) -> JudgeRefusedError:
        return JudgeRefusedError(
            f"{self._field}.baseURL: {self._llm.base_url}: {what}. Is it an OpenAI-compatible endpoint, up to and "
            "without /chat/completions?"
        )


def _key(llm: LLM, key_variable: str, field: str) -> str:
    """Raises InvalidConfigError if there should be one and is none."""
    if llm.api_key_secret_ref is None:
        return ""
    found = api_key(key_variable, f"{field}.apiKeySecretRef")
    if not found:
        secret = llm.api_key_secret_ref
        raise InvalidConfigError(
            f"{field}.apiKeySecretRef: {secret.name}/{secret.key}: the key is empty; put the API key into the Secret"
        )
    return found


def _said(answer: _Answer) -> Said:
    choice = answer.choices[0]
    message = choice.message
    return Said(
        text=_whole(message.content or ""),
        refused=bool(message.refusal) or choice.finish_reason == "content_filter",
        tokens=answer.usage.tokens if answer.usage else 0,
    )


def _words(error: openai.APIStatusError) -> str:
    """The endpoint's own: its error's message where it gives one as OpenAI does, else what it sent."""
    if isinstance(error.body, dict) and isinstance(error.body.get("message"), str):
        return str(error.body["message"])
    return error.response.text


def _shortened(words: str) -> str:
    words = " ".join(_whole(words).split())
    return words if len(words) <= _WORDS else words[: _WORDS - 1] + "…"


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can carry, as of an emoji that was cut, and UTF-8 cannot."""
    return text.encode(errors="replace").decode()
