"""What a record of an inference log says: an answer that was served, or what somebody said of one. Pure.

- OpenAI: `request` and `response` of chat completions or completions, as the recorder writes them, and its feedback; or
  chat records, `messages` that end with the answer.
- LiteLLM: StandardLoggingPayload, as its loggers for buckets write it.
  https://docs.litellm.ai/docs/proxy/logging_spec
- OTelGenAI: OTLP JSON of spans, by the conventions for generative AI; `gen_ai.evaluation.result` is feedback.
  https://opentelemetry.io/docs/specs/semconv/gen-ai
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from alignment_api import digests
from alignment_worker import rows
from alignment_worker.rows import Message, Prompt, RowProblemError

_ROLES = ("system", "developer", "user", "assistant")
_RATINGS = {"up": True, "down": False}
_GOOD = frozenset(("up", "good", "positive", "pass", "true", "yes", "thumbs_up", "relevant", "correct"))
_BAD = frozenset(
    ("down", "bad", "negative", "fail", "false", "no", "thumbs_down", "not_relevant", "incorrect")
)


@dataclass(frozen=True)
class Answered:
    """`prompt` is what the model was asked. `at`: RFC 3339 in UTC, or empty. `digest`: of the model, if it is known."""

    id: str
    at: str
    who: str
    prompt: Prompt
    answer: str
    digest: str | None


@dataclass(frozen=True)
class Said:
    """Of the answer `id`: whether it is good, and how it should have been; None: not said."""

    id: str
    at: str
    good: bool | None
    edit: str | None


Record = Answered | Said


def records(log_format: str, columns: Mapping[str, Any]) -> Iterator[Record]:
    """Those of one row: none for a call that failed or that is no chat, several for a batch of spans.

    Raises RowProblemError, for texts that no later stage would read as well; of a batch after the spans that are good.
    """
    return _FORMATS[log_format](columns)


def _checked(found: Iterator[Record]) -> list[Record]:
    """All of one call. Raises RowProblemError."""
    known = list(found)
    for record in known:
        _check_texts(record)
    return known


def _check_texts(record: Record) -> None:
    """Raises RowProblemError."""
    texts: dict[str, Any] = {"id": record.id}
    if isinstance(record, Answered):
        texts |= {"prompt": record.prompt, "answer": record.answer}
        texts |= {"who asked": record.who} if record.who else {}
    elif record.edit is not None:
        texts["edit"] = record.edit
    for name in texts:
        rows.prompt_of(texts, name)


def _openai(row: Mapping[str, Any]) -> Iterator[Record]:
    if row.get("kind") == "feedback":
        rating, edit = row.get("rating"), row.get("edit")
        if rating not in (*_RATINGS, None) or not isinstance(edit, str | None):
            raise RowProblemError("`rating` is up or down, and `edit` a text")
        yield Said(_text(row, "id"), _instant(row.get("at")), _RATINGS.get(str(rating)), edit)
        return
    if "messages" in row and "request" not in row:
        messages = _messages(row["messages"], "messages")
        if messages[-1]["role"] != "assistant":
            raise RowProblemError("`messages` do not end with an answer of the assistant")
        yield _answered(row.get("id"), row.get("at"), _who(row), messages[:-1], messages[-1]["content"], row)
        return
    request, response = _object(row, "request"), _object(row, "response")
    prompt = _asked(request)
    answer = _answer(response)
    if prompt is not None and answer is not None:
        at = row.get("at", response.get("created"))
        yield _answered(response.get("id", row.get("id")), at, _who(request), prompt, answer, row)


def _litellm(row: Mapping[str, Any]) -> Iterator[Record]:
    if row.get("status", "success") != "success" or row.get("response") is None:
        return
    response = row["response"]
    answer = response if isinstance(response, str) else _answer(_object(row, "response"))
    messages = row.get("messages")
    prompt = _asked({"prompt": messages} if isinstance(messages, str) else {"messages": messages})
    if prompt is None or answer is None:
        return
    metadata = row.get("metadata") if isinstance(row.get("metadata"), Mapping) else {}
    who = row.get("end_user") or row.get("session_id") or ""
    said = {"digest": (metadata or {}).get("digest")}
    yield _answered(_response_id(row), row.get("startTime"), str(who), prompt, answer, said)


def _response_id(row: Mapping[str, Any]) -> object:
    """The id that the client saw, by which it gives feedback."""
    response = row.get("response")
    return (response.get("id") if isinstance(response, Mapping) else None) or row.get("id")


def _otel(row: Mapping[str, Any]) -> Iterator[Record]:
    if "resourceSpans" not in row:
        raise RowProblemError(
            "has no `resourceSpans`; give OTLP JSON, as the collector's file exporter writes it"
        )
    count, problems = 0, []
    for span, common in list(_spans(row)):
        count += 1
        try:
            yield from _checked(_span(span, common))
        except RowProblemError as problem:
            problems.append(problem)
    if problems and count == 1:
        raise problems[0]
    if problems:
        raise RowProblemError(
            f"{len(problems)} of its {count} spans cannot be read, the first: {problems[0]}"
        )


def _spans(row: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each with its resource's attributes. Raises RowProblemError."""
    for resource in _objects(row, "resourceSpans"):
        said = resource.get("resource")
        common = _attributes(said.get("attributes") if isinstance(said, Mapping) else None)
        for scope in _objects(resource, "scopeSpans"):
            for span in _objects(scope, "spans"):
                yield span, common


def _span(span: Mapping[str, Any], resource: Mapping[str, Any]) -> Iterator[Record]:
    attributes = _attributes(span.get("attributes"))
    at = _nanoseconds(span.get("startTimeUnixNano"))
    output = attributes.get("gen_ai.output.messages")
    if attributes.get("gen_ai.operation.name") in ("chat", "generate_content", None) and output is not None:
        prompt = _parts(attributes.get("gen_ai.input.messages"), "gen_ai.input.messages")
        if "gen_ai.system_instructions" in attributes:
            told = _texts(_json(attributes["gen_ai.system_instructions"]))
            prompt = [{"role": "system", "content": told}, *prompt]
        (answer, *_) = _parts(output, "gen_ai.output.messages")
        who = str(attributes.get("gen_ai.conversation.id") or "")
        digest = attributes.get("alignment.model.digest", resource.get("alignment.model.digest"))
        name = attributes.get("gen_ai.response.id", span.get("spanId"))
        if _json(output)[0].get("finish_reason", "stop") == "stop":  # and not cut off
            yield _answered(name, at, who, prompt, answer["content"], {"digest": digest})
    for event in _objects(span, "events"):
        if event.get("name") == "gen_ai.evaluation.result":
            yield from _evaluation(event, attributes, span)


def _evaluation(
    event: Mapping[str, Any], span_attributes: Mapping[str, Any], span: Mapping[str, Any]
) -> Iterator[Record]:
    """A label that says good or bad; a score alone has no scale that is known."""
    attributes = _attributes(event.get("attributes"))
    label = str(attributes.get("gen_ai.evaluation.score.label", "")).lower()
    if label not in _GOOD | _BAD:
        return
    name = attributes.get("gen_ai.response.id", span_attributes.get("gen_ai.response.id", span.get("spanId")))
    yield Said(str(name), _nanoseconds(event.get("timeUnixNano")), label in _GOOD, None)


_FORMATS: dict[str, Callable[[Mapping[str, Any]], Iterator[Record]]] = {
    "OpenAI": lambda row: iter(_checked(_openai(row))),
    "LiteLLM": lambda row: iter(_checked(_litellm(row))),
    "OTelGenAI": _otel,
}


def _answered(
    name: object, at: object, who: str, prompt: Prompt, answer: str, row: Mapping[str, Any]
) -> Answered:
    digest = row.get("digest")
    if not isinstance(name, str) or not name:
        name = hashlib.sha256(json.dumps([prompt, answer]).encode()).hexdigest()[:32]
    known = isinstance(digest, str) and re.fullmatch(digests.PATTERN, digest)
    return Answered(name, _instant(at), who, prompt, answer, digest if known else None)


def _asked(request: Mapping[str, Any]) -> Prompt | None:
    """None for what can't be trained on as text: tools, images, several prompts at once."""
    prompt = request.get("prompt")
    if isinstance(prompt, str):
        return prompt
    if request.get("tools") or prompt is not None:
        return None
    messages = request.get("messages")
    if isinstance(messages, list) and any(_is_no_text(message) for message in messages):
        return None
    return _messages(messages, "messages")


def _is_no_text(message: object) -> bool:
    if not isinstance(message, Mapping):
        return False
    content = message.get("content")
    parts = isinstance(content, list) and any(
        isinstance(part, Mapping) and part.get("type") != "text" for part in content
    )
    return parts or message.get("role") in ("tool", "function") or bool(message.get("tool_calls"))


def _answer(response: Mapping[str, Any]) -> str | None:
    """The first choice's, if it ended by itself; None for tool calls, refusals by a filter, and what was cut off."""
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise RowProblemError("`response` has no `choices`")
    choice = choices[0]
    message = choice.get("message")
    if choice.get("finish_reason", "stop") != "stop":
        return None
    text = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    return text if isinstance(text, str) and text else None


def _messages(value: object, name: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise RowProblemError(f"`{name}` is no list of messages")
    found = []
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            raise RowProblemError(f"`{name}` holds a message without `role` of {', '.join(_ROLES)}")
        found.append({"role": str(message["role"]), "content": _content(message.get("content"), name)})
    return found


def _content(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in value
    ):
        return "".join(part["text"] for part in value)
    raise RowProblemError(f"`{name}` holds a message whose `content` is no text")


def _who(request: Mapping[str, Any]) -> str:
    """Who asked, as far as the request says: OpenAI's names for it."""
    metadata = request.get("metadata")
    session = metadata.get("session_id") if isinstance(metadata, Mapping) else None
    return str(session or request.get("safety_identifier") or request.get("user") or "")


def _parts(value: object, name: str) -> list[Message]:
    """Messages of the conventions: a role, and parts."""
    messages = _json(value)
    if not isinstance(messages, list) or not messages:
        raise RowProblemError(f"`{name}` is no list of messages")
    found = []
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            raise RowProblemError(f"`{name}` holds a message without `role` of {', '.join(_ROLES)}")
        found.append({"role": str(message["role"]), "content": _texts(message.get("parts"))})
    return found


def _texts(parts: object) -> str:
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        raise RowProblemError("a message has no `parts`")
    texts = [
        part.get("content") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"
    ]
    if len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        raise RowProblemError("a message has a part that is no text")
    return "".join(map(str, texts))


def _json(value: object) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowProblemError(f"an attribute is no JSON: {error}") from error


def _attributes(listed: object) -> dict[str, Any]:
    """OTLP's keys and typed values; of AnyValue's arrays and maps too."""
    if not isinstance(listed, list):
        return {}
    return {
        str(entry.get("key")): _value(entry.get("value")) for entry in listed if isinstance(entry, Mapping)
    }


def _value(value: object) -> Any:
    if not isinstance(value, Mapping):
        return None
    if "arrayValue" in value:
        listed = _values(value["arrayValue"])
        return [_value(item) for item in listed] if isinstance(listed, list) else []
    if "kvlistValue" in value:
        return _attributes(_values(value["kvlistValue"]))
    return next(iter(value.values()), None)


def _values(holder: object) -> object:
    return holder.get("values") if isinstance(holder, Mapping) else None


def _nanoseconds(value: object) -> str:
    try:
        return _instant(int(str(value)) / 1e9)
    except (ValueError, OverflowError):
        return ""


def _instant(value: object) -> str:
    """RFC 3339 in UTC with microseconds, so that texts are in the order of time."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value, UTC)
        elif isinstance(value, str) and value:
            found = datetime.fromisoformat(value)
        else:
            return ""
        at = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise RowProblemError(
            f"{str(value)[:60]!r} is no time; give RFC 3339, or seconds since 1970"
        ) from error
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    if not isinstance(value, Mapping):
        raise RowProblemError(f"`{name}` is no object")
    return value


def _objects(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = holder.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise RowProblemError(f"`{name}` is no list of objects")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise RowProblemError(f"`{name}` is no text")
    return value
