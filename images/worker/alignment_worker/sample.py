"""The stage `sample`: N completions of every prompt from the incumbent, by this process or by a server.

Makes samples.jsonl, a row for each prompt: the prompt's columns, `line` (its line in the prompts' file, or its number
among those of datasets), `prompt_ids`, and `completions`, each with `ids` (EOS counted), `text`, `log_probs` (raw,
nats) and `truncated`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment_api.measurements import MEAN_TOKENS, Measurement
from alignment_api.stage import SampleParameters
from alignment_worker import drawing, models, prompts, rows, sampling_server
from alignment_worker.artifacts import SAMPLES
from alignment_worker.drawing import DRAWN_COUNTS, Asked, Drawn
from alignment_worker.failures import NoWorkDoneError
from alignment_worker.generate import Completion, Decoding, generate
from alignment_worker.models import Vocabulary
from alignment_worker.rows import Row
from alignment_worker.store import Outcome, SealedFolder
from alignment_worker.workspace import Workspace


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, SampleParameters)
    sampling = parameters.sampling
    decoding = Decoding(
        samples=sampling.completions_per_prompt,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        seed=workspace.config.seed,
    )
    asked = Asked(parameters.per_iteration, parameters.spread == "Clusters", workspace.config.seed)
    sampled = _by_server if sampling.server else _by_worker
    tokenizer, drawn, completions = sampled(workspace, asked, decoding)
    count = rows.write(
        workspace.run_folder / SAMPLES,
        (
            sample_of(tokenizer, row, ids, answers)
            for row, ids, answers in zip(drawn.rows, drawn.ids, completions, strict=True)
        ),
    )
    answers = [answer for of_prompt in completions for answer in of_prompt]
    return _outcome(
        {
            "prompts": count,
            "completions": len(answers),
            "tokens": sum(len(answer.ids) for answer in answers),
            "truncated": sum(answer.truncated for answer in answers),
            **drawn.counts,
        },
        whole=workspace.shard is None,
    )


_Sampled = tuple[Any, Drawn, list[list[Completion]]]  # tokenizer; the prompts, and the answers to each


def _by_worker(workspace: Workspace, asked: Asked, decoding: Decoding) -> _Sampled:
    policy = models.load_policy("policy", workspace.inputs.path("policy"))
    known = Vocabulary(policy.tokenizer, policy.eos_ids, policy.vocabulary, policy.max_positions)
    part = _part(workspace, drawing.drawn(workspace.inputs, asked, known))
    keys = [row.number for row in part.rows]
    return policy.tokenizer, part, generate(policy, part.ids, keys, decoding, workspace.progress)


def _by_server(workspace: Workspace, asked: Asked, decoding: Decoding) -> _Sampled:
    known = models.vocabulary("policy", workspace.inputs.path("policy"))
    part = _part(workspace, drawing.drawn(workspace.inputs, asked, known))
    keys = [row.number for row in part.rows]
    answers = sampling_server.complete(known, part.ids, keys, decoding, workspace.progress)
    return known.tokenizer, part, answers


def _part(workspace: Workspace, drawn: Drawn) -> Drawn:
    """Of a shard; all without shards."""
    if workspace.shard is not None:
        drawn = replace(drawn, rows=workspace.shard.part(drawn.rows), ids=workspace.shard.part(drawn.ids))
    workspace.progress.begin(len(drawn.rows), "prompts", "sampling")
    return drawn


def merge(parts: Sequence[SealedFolder], run_folder: Path) -> Outcome:
    """The whole from the parts of all shards: the rows in the order of the draw, as one pod would have written them.

    Raises DigestMismatchError, NoWorkDoneError, OSError.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(part.verified(SAMPLES).open(encoding="utf-8")) for part in parts]
        whole = stack.enter_context((run_folder / SAMPLES).open("w", encoding="utf-8"))
        for lines in itertools.zip_longest(*files, fillvalue=""):
            whole.writelines(lines)
    summed = {name: sum(part.counts[name] for part in parts) for name in parts[0].counts}
    of_all = {
        name: parts[0].counts[name] for name in DRAWN_COUNTS if name in summed
    }  # each part looks at all of them
    return _outcome(summed | of_all, whole=True)


def _outcome(counts: dict[str, int], *, whole: bool) -> Outcome:
    """A part may be empty; the whole may not."""
    completions = counts["completions"]
    if completions == 0 and not whole:
        return Outcome(counts)
    if completions == 0:
        raise NoWorkDoneError("no completion was sampled")
    mean = Measurement(estimate=counts["tokens"] / completions, n=completions)
    return Outcome(counts, measurements={MEAN_TOKENS: mean})


def sample_of(tokenizer: Any, row: Row, ids: list[int], answers: Sequence[Completion]) -> dict[str, Any]:
    texts = prompts.decode(tokenizer, [answer.ids for answer in answers])
    return {
        **rows.to_wire(row),
        "line": row.number,
        "prompt_ids": ids,
        "completions": [answer_of(answer, text) for answer, text in zip(answers, texts, strict=True)],
    }


def answer_of(answer: Completion, text: str) -> dict[str, Any]:
    return {
        "ids": answer.ids,
        "text": text,
        "log_probs": [round(value, 6) for value in answer.log_probs],
        "truncated": answer.truncated,
    }
