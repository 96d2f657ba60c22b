"""How a token is sampled: batches of like length, one prefill a prompt, everything recorded.

The completions of a prompt share its prefill: it is computed once, and its cache is repeated. What is recorded of
every token is the policy's own log-probability: at temperature 1 over the whole vocabulary, whatever the temperature
and nucleus that it was drawn with. Draws depend on seed, prompt key and position alone, not on the batch.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alignment_worker.failures import InvalidModelError
from alignment_worker.models import LanguageModel
from alignment_worker.progress import Progress

MAX_ROWS = 512
_LOGITS_BYTES = 128 << 20  # of one step's logits in FP32; sampling needs about four times as much
_CACHE_BYTES_CPU = 1 << 30
_PREFILL_TOKENS = 8192
_UNIFORMS_AT_ONCE = 256
_SORTED_AT_ONCE = 4096
_STEPS_BETWEEN_LOOKS = 16  # on an accelerator, looking at what has ended stops the pipeline


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn. Temperature 0 is greedy. Entropies are an extra pass over the vocabulary."""

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    entropies: bool = False


@dataclass(frozen=True)
class Completion:
    """One answer. Token ids with the EOS that ended it; if `truncated`, it was cut off and has none.

    `log_probs` (raw) and `entropies` (of the raw distribution that each token was drawn from; 0 if not asked for) are
    in nats.
    """

    ids: list[int]
    log_probs: list[float]
    entropies: list[float]
    truncated: bool


def generate(
    policy: LanguageModel,
    prompts: Sequence[list[int]],
    keys: Sequence[int],
    decoding: Decoding,
    progress: Progress | None = None,
) -> list[list[Completion]]:
    """`decoding.samples` completions of each prompt, in the order of the prompts.

    `keys` name the prompts: the same key and seed draw the same completions in any batch, up to rounding.
    Every prompt must be shorter than `policy.max_positions`; completions end there, truncated.
    Raises InvalidModelError if the model's probabilities are not finite.
    """
    completions: list[list[Completion]] = [[] for _ in prompts]
    for batch in _batches(policy, prompts, decoding):
        with torch.inference_mode():
            found = _Batch(policy, [prompts[i] for i in batch], [keys[i] for i in batch], decoding).run()
        for index, answers in zip(batch, found, strict=True):
            completions[index] = answers
        if progress is not None:
            progress.count("tokens", sum(len(answer.ids) for answers in found for answer in answers))
            progress.advance(len(batch))
    return completions


def rows_at_once(policy: LanguageModel, tokens: int) -> int:
    """How many sequences of so many tokens fit into memory while they are generated; at least 1."""
    config = policy.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache_bytes = 2 * config.num_hidden_layers * heads * width * policy.model.dtype.itemsize * tokens
    free = _CACHE_BYTES_CPU
    if policy.model.device.type == "cuda":
        free = torch.cuda.mem_get_info(policy.model.device)[0] // 2
    return max(1, min(MAX_ROWS, int(free // cache_bytes), _LOGITS_BYTES // (4 * policy.vocabulary)))


def _batches(policy: LanguageModel, prompts: Sequence[list[int]], decoding: Decoding) -> Iterator[list[int]]:
    """Indices of prompts of like length, the longest first: what does not fit fails at once."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    start = 0
    while start < len(order):
        longest = max(1, len(prompts[order[start]]))
        rows = rows_at_once(policy, longest + decoding.max_new_tokens)
        size = max(1, min(rows // decoding.samples, _PREFILL_TOKENS // longest))
        yield order[start : start + size]
        start += size


class _Batch:
    """Prompts that are generated together."""

    def __init__(
        self, policy: LanguageModel, prompts: list[list[int]], keys: list[int], decoding: Decoding
    ) -> None:
        self._policy = policy
        self._prompts = prompts
        self._keys = keys
        self._decoding = decoding
        self._device = policy.model.device
        longest = max(map(len, prompts))
        self._rows = rows_at_once(policy, longest + decoding.max_new_tokens)
        self._ids, self._mask = left_padded(prompts, policy.pad_id, self._device)

    def run(self) -> list[list[Completion]]:
        logits, cache = forward(self._policy, self._ids, self._mask, None, keep=1)
        logits = logits[:, -1].float()
        samples = self._decoding.samples
        # A prompt with more samples than fit is the batch's only one: its cache is copied for each part.
        parts = [range(first, min(first + self._rows, samples)) for first in range(0, samples, self._rows)]
        if len(self._prompts) > 1:
            parts = [range(samples)]
        answers: list[list[Completion]] = [[] for _ in self._prompts]
        for part in parts:
            own = cache if part.stop == samples else copy.deepcopy(cache)
            for index, found in enumerate(self._continue(logits, own, part)):
                answers[index] += found
        return answers

    def _continue(self, logits: torch.Tensor, cache: Any, part: range) -> list[list[Completion]]:
        repeats, policy = len(part), self._policy
        if repeats > 1:
            cache.batch_repeat_interleave(repeats)
        logits = logits.repeat_interleave(repeats, 0)
        mask = None if self._mask is None else self._mask.repeat_interleave(repeats, 0)
        lengths = torch.tensor([len(p) for p in self._prompts], device=self._device).repeat_interleave(
            repeats
        )
        limits = self._limits(lengths)
        rows = torch.arange(len(lengths), device=self._device)
        eos = torch.tensor(sorted(policy.eos_ids), device=self._device)
        ended = torch.zeros(len(lengths), dtype=torch.bool, device=self._device)
        log = _Log()
        # Between two looks, answers that have ended go on for nothing, but never past the model's positions.
        last_position = (policy.max_positions or 1 << 62) - 1
        looks_every = 1 if self._device.type == "cpu" else _STEPS_BETWEEN_LOOKS
        for step in range(int(limits.max())):
            if step % _UNIFORMS_AT_ONCE == 0:
                uniforms = self._uniforms(part, step // _UNIFORMS_AT_ONCE)
            tokens, *recorded = choose(logits, uniforms[rows, step % _UNIFORMS_AT_ONCE], self._decoding)
            log.add(rows, tokens, *recorded)
            ended = ended | torch.isin(tokens, eos) | (step + 1 >= limits[rows])
            if (step + 1) % looks_every == 0:
                going = (~ended).nonzero().squeeze(1)
                if not len(going):
                    break
                if len(going) <= 0.8 * len(rows):
                    cache.batch_select_indices(going)
                    rows, tokens, ended = rows[going], tokens[going], ended[going]
                    mask = None if mask is None else mask[going]
            positions = (lengths[rows] + step).clamp(max=last_position).unsqueeze(1)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits, cache = forward(policy, tokens.unsqueeze(1), mask, cache, keep=1, positions=positions)
            logits = logits[:, -1].float()
        return self._completions(log, limits.cpu().numpy(), repeats)

    def _limits(self, lengths: torch.Tensor) -> torch.Tensor:
        limit = torch.full_like(lengths, self._decoding.max_new_tokens)
        if self._policy.max_positions is None:
            return limit
        return torch.minimum(limit, self._policy.max_positions - lengths)

    def _uniforms(self, part: range, block: int) -> torch.Tensor:
        """In [0, 1), rows × positions; counter-based, so that a draw does not depend on what was drawn before."""
        if self._decoding.temperature == 0:
            return torch.zeros(len(self._keys) * len(part), _UNIFORMS_AT_ONCE, device=self._device)
        shape = (self._decoding.samples, _UNIFORMS_AT_ONCE)
        blocks = [
            np.random.Generator(
                np.random.Philox(key=[self._decoding.seed, key], counter=[0, 0, 0, block])
            ).random(shape, dtype=np.float32)[part.start : part.stop]
            for key in self._keys
        ]
        return torch.from_numpy(np.concatenate(blocks)).to(self._device)

    def _completions(self, log: _Log, limits: NDArray[np.int64], repeats: int) -> list[list[Completion]]:
        tokens, log_probs, entropies = log.matrices(len(limits))
        is_eos = np.isin(tokens, sorted(self._policy.eos_ids))
        found = []
        for row, limit in enumerate(limits):
            stops = is_eos[row, :limit].nonzero()[0]
            end = int(stops[0]) + 1 if len(stops) else int(min(limit, tokens.shape[1]))
            if not np.isfinite(log_probs[row, :end]).all():
                raise InvalidModelError(
                    f"{self._policy.model.name_or_path}: the model gives probabilities that are not finite; its "
                    "weights are damaged, or do not fit into this precision"
                )
            found.append(
                Completion(
                    ids=tokens[row, :end].tolist(),
                    log_probs=log_probs[row, :end].tolist(),
                    entropies=entropies[row, :end].tolist(),
                    truncated=not len(stops),
                )
            )
        return [found[start : start + repeats] for start in range(0, len(found), repeats)]


class _Log:
    """What was drawn at each step, for the rows that were still going."""

    def __init__(self) -> None:
        self._steps: list[tuple[torch.Tensor, ...]] = []

    def add(self, *columns: torch.Tensor) -> None:
        self._steps.append(columns)

    def matrices(self, rows: int) -> tuple[NDArray[Any], ...]:
        """Rows × steps: tokens, log-probabilities, entropies."""
        shape = (rows, len(self._steps))
        matrices: tuple[NDArray[Any], ...] = (
            np.full(shape, -1, dtype=np.int64),
            np.zeros(shape, dtype=np.float32),
            np.zeros(shape, dtype=np.float32),
        )
        for step, columns in enumerate(self._steps):
            where, *values = (column.cpu().numpy() for column in columns)
            for matrix, value in zip(matrices, values, strict=True):
                matrix[where, step] = value
        return matrices


def left_padded(
    sequences: Sequence[list[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sequences that end together, and which of it is real; None if all is."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in sequences], device=device)
    if all(len(ids) == longest for ids in sequences):
        return ids, None
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in sequences], device=device)
    return ids, mask


def forward(
    policy: LanguageModel,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    cache: Any,
    *,
    keep: int,
    positions: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Any]:
    """Logits of the last `keep` positions, and the cache, which is made if there is none."""
    if positions is None and mask is not None and cache is None:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
    arguments = {"attention_mask": mask, "position_ids": positions, "past_key_values": cache}
    accepted = inspect.signature(policy.model.forward).parameters
    known = {name: value for name, value in arguments.items() if value is not None and name in accepted}
    if "logits_to_keep" in accepted:
        known["logits_to_keep"] = keep
    output = policy.model(input_ids=ids, use_cache=True, **known)
    return output.logits[:, -keep:], output.past_key_values


def choose(
    logits: torch.Tensor, uniforms: torch.Tensor, decoding: Decoding
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One token a row, its raw log-probability, and the entropy of the raw distribution."""
    norm = logits.logsumexp(-1)
    raw = (logits - norm.unsqueeze(1)).exp_()
    entropies = torch.special.entr(raw).sum(-1) if decoding.entropies else torch.zeros_like(norm)
    if decoding.temperature == 0:
        tokens = logits.argmax(-1)
    else:
        weights = raw if decoding.temperature == 1 else (logits / decoding.temperature).softmax(-1)
        tokens = (
            _drawn(weights, uniforms) if decoding.top_p == 1 else _nucleus(weights, uniforms, decoding.top_p)
        )
    return tokens, logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - norm, entropies


def _drawn(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """By the inverse of the cumulative distribution; a token of weight 0 is never drawn."""
    sums = weights.cumsum(-1)
    total = sums[:, -1:]
    target = torch.minimum(uniforms.unsqueeze(1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, target, right=True).squeeze(1).clamp_(max=weights.shape[1] - 1)


def _nucleus(probabilities: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> torch.Tensor:
    """From the least set of tokens that has probability `top_p` (Holtzman et al. 2020, arXiv:1904.09751)."""
    size = min(_SORTED_AT_ONCE, probabilities.shape[1])
    values, order = probabilities.topk(size)
    if size < probabilities.shape[1] and bool((values.sum(-1) < top_p).any()):
        values, order = probabilities.sort(descending=True)
    outside = values.cumsum(-1) - values >= top_p
    drawn = _drawn(values.masked_fill(outside, 0.0), uniforms)
    return order.gather(1, drawn.unsqueeze(1)).squeeze(1)
