"""People's judgements from Label Studio: what a task asks, and what an annotation says of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from alignment_worker.failures import InvalidConfigError
from alignment_worker.ingestion.inference_log import Open
from alignment_worker.rows import Message

# Our own interface. Which answer stands left is drawn for each task, and never says which model gave it.
TEMPLATE = """\
<View>
  <Header value="Which answer is better? Skip the task if neither is."/>
  <Text name="prompt" value="$prompt"/>
  <Pairwise name="preferred" toName="answer_a,answer_b"/>
  <View style="display: flex; gap: 1em">
    <View style="flex: 1"><Text name="answer_a" value="$answer_a"/></View>
    <View style="flex: 1"><Text name="answer_b" value="$answer_b"/></View>
  </View>
</View>
"""
KEY = "alignment_key"  # of a task's data: which pair it is, whichever answer stands left
_SIDES = ("left", "right")


@dataclass(frozen=True)
class Interface:
    """Columns of a task's data, and the name of the control that compares the two answers."""

    prompt: str
    answers: tuple[str, str]  # left, right
    control: str


def is_empty(config: str) -> bool:
    """Whether a project has no interface yet."""
    return not list(_parsed(config, "")) if config.strip() else True


def interface(config: str, where: str) -> Interface:
    """Raises InvalidConfigError, which names `where`, if two texts are not compared by exactly one Pairwise."""
    root = _parsed(config, where)
    controls = list(root.iter("Pairwise"))
    if len(controls) != 1:
        raise InvalidConfigError(
            f"{where}.projectID: its labelling interface has {len(controls)} Pairwise controls; give it one over two "
            "texts, or leave the interface empty, and one is made"
        )
    values = {
        str(tag.get("name")): str(tag.get("value"))[1:]
        for tag in root.iter()
        if tag.get("name") and str(tag.get("value")).startswith("$")
    }
    compared = [name.strip() for name in str(controls[0].get("toName")).split(",")]
    others = [name for name in values if name not in compared]
    if len(compared) != 2 or not set(compared) <= set(values) or len(others) != 1:
        raise InvalidConfigError(
            f"{where}.projectID: its Pairwise control must compare two texts, beside one more, the prompt; it compares "
            f"{', '.join(compared)}, beside {', '.join(others) or 'none'}"
        )
    left, right = (values[name] for name in compared)
    return Interface(values[others[0]], (left, right), str(controls[0].get("name")))


def judgements(task: Mapping[str, Any], shown: Interface) -> Iterator[dict[str, Any]]:
    """`prompt`, `chosen`, `rejected` and `annotation` of each annotation that prefers one, the latest change last.

    Skipped ones, and those without a choice, say nothing. Values are as they stand in the task.
    """
    data = task.get("data") or {}
    said = [annotation for annotation in task.get("annotations") or () if not annotation.get("was_cancelled")]
    for annotation in sorted(said, key=lambda each: (str(each.get("updated_at")), int(each.get("id") or 0))):
        side = _preferred(annotation, shown.control)
        if side is not None:
            other = 1 - side
            yield {
                "prompt": data.get("messages", data.get(shown.prompt)),
                "chosen": _as_asked(data, shown.answers[side]),
                "rejected": _as_asked(data, shown.answers[other]),
                "annotation": annotation.get("id"),
            }


def open_tasks(opened: Iterable[Open]) -> Iterator[dict[str, Any]]:
    """Data of tasks in our interface. The side is drawn by the pair, so that it is the same whoever asks."""
    for pair in opened:
        first, second = sorted(pair.answers)
        digest = hashlib.sha256(json.dumps([pair.prompt, first, second]).encode()).hexdigest()
        left, right = (first, second) if int(digest[0], 16) < 8 else (second, first)
        asked = {"prompt": pair.prompt} if isinstance(pair.prompt, str) else _conversation(pair.prompt)
        yield {**asked, "answer_a": left, "answer_b": right, KEY: digest[:32]}


def _conversation(messages: list[Message]) -> dict[str, Any]:
    """As people read it, and as it was."""
    told = "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
    return {"prompt": told, "messages": messages}


def _as_asked(data: Mapping[str, Any], name: str) -> Any:
    answer = data.get(name)
    return [{"role": "assistant", "content": answer}] if "messages" in data else answer


def _preferred(annotation: Mapping[str, Any], control: str) -> int | None:
    """Whoever may annotate may send any JSON."""
    for region in annotation.get("result") or ():
        if not isinstance(region, dict) or region.get("from_name") != control:
            continue
        if region.get("type") == "pairwise":
            value = region.get("value")
            selected = value.get("selected") if isinstance(value, dict) else None
            return _SIDES.index(selected) if selected in _SIDES else None
    return None


def _parsed(config: str, where: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(config)  # noqa: S314 - expat bounds what entities grow to
    except ElementTree.ParseError as error:
        raise InvalidConfigError(f"{where}.projectID: its labelling interface is no XML: {error}") from error
