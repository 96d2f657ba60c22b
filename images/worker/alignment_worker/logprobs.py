"""Log-probabilities of answers that are there already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from alignment_worker.generate import forward, left_padded, rows_at_once
from alignment_worker.models import LanguageModel
from alignment_worker.progress import Progress

_LOGITS_ELEMENTS = 1 << 25
_TOKENS_AT_ONCE = 8192


def log_probs(
    policy: LanguageModel,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    progress: Progress | None = None,
    *,
    temperature: float = 1.0,
) -> list[list[float]]:
    """Log-probability of each token of each completion, in nats: raw, unless a temperature is given.

    Long completions go through in parts that continue each other's cache, so that the logits of a whole batch never
    exist at once. Every prompt and completion has at least one token.
    """
    found: list[list[float]] = [[] for _ in prompts]
    for batch in batches(policy, prompts, completions):
        with torch.inference_mode():
            values = _batch(policy, [prompts[i] for i in batch], [completions[i] for i in batch], temperature)
        for index, value in zip(batch, values, strict=True):
            found[index] = value
        if progress is not None:
            progress.advance(len(batch))
    return found


def batches(
    policy: LanguageModel, prompts: Sequence[list[int]], completions: Sequence[list[int]]
) -> Iterator[list[int]]:
    """Indices of what goes through together, the longest first."""
    lengths = [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        size = max(1, min(rows_at_once(policy, longest), _TOKENS_AT_ONCE // longest))
        yield order[start : start + size]
        start += size


def logits_in_parts(
    policy: LanguageModel, ids: torch.Tensor, mask: torch.Tensor | None, longest: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """FP32 logits of the positions that predict the last `longest` tokens, some columns at a time, and those tokens.

    Where the columns are cut depends on the shape of `ids` and the vocabulary alone.
    """
    positions = None if mask is None else (mask.cumsum(1) - 1).clamp(min=0)
    rows, width = ids.shape
    part = max(1, _LOGITS_ELEMENTS // (rows * policy.vocabulary))
    # Position p predicts the token at p + 1: the last token predicts nothing, the one before the answer does.
    start, cache, first = 0, None, width - longest - 1
    while start < width - 1:
        end = min(max(start, first) + part, width - 1)
        keep = end - max(start, first)
        logits, cache = forward(
            policy,
            ids[:, start:end],
            None if mask is None else mask[:, :end],
            cache,
            keep=keep,
            positions=None if positions is None else positions[:, start:end],
        )
        yield logits.float(), ids[:, end - keep + 1 : end + 1]
        start = end


def _batch(
    policy: LanguageModel, prompts: list[list[int]], completions: list[list[int]], temperature: float
) -> list[list[float]]:
    whole = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    ids, mask = left_padded(whole, policy.pad_id, policy.model.device)
    longest = max(map(len, completions))
    columns = []
    for raw, targets in logits_in_parts(policy, ids, mask, longest):
        logits = raw / temperature
        columns.append(logits.gather(2, targets.unsqueeze(2)).squeeze(2) - logits.logsumexp(-1))
    values = torch.cat(columns, dim=1).cpu()
    return [
        row[longest - len(completion) :].tolist() for row, completion in zip(values, completions, strict=True)
    ]
