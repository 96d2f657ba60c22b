"""How far one model is from another on its own answers: the KL divergence over the whole vocabulary.

At every position of an answer, KL(policy ‖ other) = Σ_v p(v) (log p(v) − log q(v)), in nats. Summed over an answer that
the policy drew at temperature 1 it estimates the divergence of whole answers, with less noise than the log-ratio of the
tokens that were drawn (Amini et al. 2025, arXiv:2504.10637, who call it Rao-Blackwellised).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from alignment_worker.failures import InvalidModelError
from alignment_worker.generate import left_padded
from alignment_worker.logprobs import batches, logits_in_parts
from alignment_worker.models import LanguageModel
from alignment_worker.progress import Progress


def nats(
    policy: LanguageModel,
    other: LanguageModel,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    progress: Progress,
) -> list[float]:
    """Of each completion, summed over its tokens. Raises InvalidModelError if the vocabularies differ in size."""
    if policy.vocabulary != other.vocabulary:
        raise InvalidModelError(
            f"the candidate has {policy.vocabulary} tokens and the model that it is held against {other.vocabulary}; "
            "their divergence is not defined. Leave gates.divergence out."
        )
    found = [0.0] * len(prompts)
    for batch in batches(policy, prompts, completions):
        some = [completions[index] for index in batch]
        with torch.inference_mode():
            columns = torch.cat(
                list(_columns(policy, other, [prompts[index] for index in batch], some)), dim=1
            )
        longest = columns.shape[1]
        for index, row, completion in zip(batch, columns.double().cpu(), some, strict=True):
            found[index] = float(row[longest - len(completion) :].sum())
        progress.advance(len(batch))
    return found


def _columns(
    policy: LanguageModel, other: LanguageModel, prompts: list[list[int]], completions: list[list[int]]
) -> Iterator[torch.Tensor]:
    whole = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    longest = max(map(len, completions))
    both = (
        logits_in_parts(model, *left_padded(whole, model.pad_id, model.model.device), longest)
        for model in (policy, other)
    )
    for (ours, _), (theirs, _) in zip(*both, strict=True):
        log_p = ours.log_softmax(-1)
        yield (log_p.exp() * (log_p - theirs.log_softmax(-1))).sum(-1)
