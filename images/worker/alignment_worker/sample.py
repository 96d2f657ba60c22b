"""The stage `sample`: N completions of every prompt from the incumbent, by this process or by a server.

Makes samples.jsonl, a row for each prompt: the prompt's columns, `line` (its line in the prompts' file), `prompt_ids`,
and `completions`, each with `ids` (EOS counted), `text`, `log_probs` (raw, nats) and `truncated`.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment_api.measurements import MEAN_TOKENS, Measurement
from alignment_api.stage import SampleParameters
from alignment_worker import exclusion, models, prompts, rows, sampling_server
from alignment_worker.artifacts import SAMPLES
from alignment_worker.failures import NoPromptsError, NoWorkDoneError
from alignment_worker.generate import Completion, Decoding, generate
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Row
from alignment_worker.store import Outcome, SealedFolder
from alignment_worker.workspace import Workspace


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, SampleParameters)
    file = workspace.inputs.path("prompts")
    usable, left_out = allowed(workspace.inputs)
    drawn = draw(usable, parameters.per_iteration, workspace.config.seed)
    if workspace.shard:
        drawn = workspace.shard.part(drawn)
    sampling = parameters.sampling
    decoding = Decoding(
        samples=sampling.completions_per_prompt,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        seed=workspace.config.seed,
    )
    workspace.progress.begin(len(drawn), "prompts", "sampling")
    sampled = _by_server if sampling.server else _by_worker
    tokenizer, encoded, completions = sampled(workspace, drawn, file, decoding)
    count = rows.write(
        workspace.run_folder / SAMPLES,
        (
            sample_of(tokenizer, row, ids, answers)
            for row, ids, answers in zip(drawn, encoded, completions, strict=True)
        ),
    )
    answers = [answer for of_prompt in completions for answer in of_prompt]
    return _outcome(
        {
            "prompts": count,
            "completions": len(answers),
            "tokens": sum(len(answer.ids) for answer in answers),
            "truncated": sum(answer.truncated for answer in answers),
            **left_out,
        },
        whole=workspace.shard is None,
    )


def allowed(inputs: Inputs) -> tuple[list[Row], dict[str, int]]:
    """The prompts that may be trained on, and the counts of those that were given and that may not.

    Raises NoPromptsError if none may, InvalidRowError, TooManyCategoriesError.
    """
    file = inputs.path("prompts")
    there = rows.read(file, inputs.kinds["prompts"])
    may = exclusion.allowed(there, exclusion.forbidden(inputs))
    usable = [row for row, use in zip(there, may, strict=True) if use]
    if not usable:
        raise NoPromptsError(
            f"{file}: all {len(there)} prompts are in the gold set or among the held-out prompts too, as a whole or by "
            f"{exclusion.WORDS} words in a row, and these must not be trained on; give other prompts"
        )
    return usable, {"promptsGiven": len(there), "excluded": len(there) - len(usable)}


_Sampled = tuple[
    Any, list[list[int]], list[list[Completion]]
]  # tokenizer; by row the prompt's ids, the answers


def _by_worker(workspace: Workspace, drawn: list[Row], file: Path, decoding: Decoding) -> _Sampled:
    policy = models.load_policy("policy", workspace.inputs.path("policy"))
    encoded = prompts.encode_rows(policy.tokenizer, drawn, file, policy.max_positions, policy.vocabulary)
    keys = [row.number for row in drawn]
    return policy.tokenizer, encoded, generate(policy, encoded, keys, decoding, workspace.progress)


def _by_server(workspace: Workspace, drawn: list[Row], file: Path, decoding: Decoding) -> _Sampled:
    known = models.vocabulary("policy", workspace.inputs.path("policy"))
    encoded = prompts.encode_rows(known.tokenizer, drawn, file, known.max_positions, known.size)
    keys = [row.number for row in drawn]
    return (
        known.tokenizer,
        encoded,
        sampling_server.complete(known, encoded, keys, decoding, workspace.progress),
    )


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
        name: parts[0].counts[name] for name in ("promptsGiven", "excluded")
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


def draw(usable: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """So many rows without replacement, in the file's order; all if there are no more."""
    if count is None or count >= len(usable):
        return list(usable)
    kept = sorted(random.Random(seed).sample(range(len(usable)), count))  # noqa: S311 - a draw, not a secret
    return [usable[index] for index in kept]


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
