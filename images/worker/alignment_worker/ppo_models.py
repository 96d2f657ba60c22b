"""The models of PPO in one: policy and value share a backbone, and with LoRA the reference is it with adapters off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model

from alignment_worker import models, precision
from alignment_worker.generate import forward, left_padded
from alignment_worker.logprobs import log_probs
from alignment_worker.models import LanguageModel

_VALUE_STEP = 0.1  # what one step may add to a value, about


@dataclass(frozen=True)
class Said:
    """What policy and value say of completions: matrices as in `ppo`. Log-probabilities at the sampling temperature."""

    log_probs: torch.Tensor
    entropies: torch.Tensor
    values: torch.Tensor


class Actor:
    """The policy in FP32, computing in `dtype`, with a value of every position: a linear function of the last hidden
    state, 0 at first, so that it does not disturb the policy before it has learned anything.
    """

    def __init__(self, start: Path, adapters: Any | None, tokenizer: Any, dtype: torch.dtype) -> None:
        where = precision.device()
        model = models.load_weights("start", start, torch.float32).to(where)
        self._adapted = None if adapters is None else get_peft_model(model, adapters)
        # peft puts the adapters into the model's own modules, whose signature and cache sampling knows.
        self.language: LanguageModel = models.language_model(model, tokenizer)
        self.head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1, device=where)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self._dtype = dtype

    @property
    def adapted(self) -> bool:
        """Whether adapters are trained, and not the weights themselves."""
        return self._adapted is not None

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """What the optimizer moves, by name: the policy's parameters or adapters, and the value's."""
        policy = self.language.model.named_parameters()
        own = {f"policy.{name}": parameter for name, parameter in policy if parameter.requires_grad}
        return own | {f"value.{name}": parameter for name, parameter in self.head.named_parameters()}

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Of the optimizer. Adam moves a weight by about its rate, and so a value by that times the hidden size."""
        policy = [value for name, value in self.trained().items() if name.startswith("policy.")]
        rate = max(learning_rate, _VALUE_STEP / self.head.in_features)
        return [
            {"params": policy, "lr": learning_rate, "first_lr": learning_rate},
            {"params": list(self.head.parameters()), "lr": rate, "first_lr": rate},
        ]

    def computing(self) -> Any:
        """In this precision sampling and training see the same network."""
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.language.model.device.type, self._dtype)

    @contextmanager
    def as_reference(self) -> Iterator[LanguageModel]:
        """The start's own weights again: with LoRA alone."""
        assert self._adapted is not None
        with self._adapted.disable_adapter():
            yield self.language

    def say(self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float) -> Said:
        ids, longest, hidden, logits = self._read(prompts, completions, everything=True)
        scaled = logits[:, :-1].float() / temperature
        norm = scaled.logsumexp(-1)
        chosen = scaled.gather(2, ids[:, -longest:].unsqueeze(2)).squeeze(2) - norm
        with torch.no_grad():
            entropies = norm - ((scaled - norm.unsqueeze(2)).exp() * scaled).sum(-1)
        return Said(chosen, entropies, self._values(hidden, longest))

    def values(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> torch.Tensor:
        """Without gradients, and without the logits."""
        with torch.no_grad():
            _, longest, hidden, _ = self._read(prompts, completions, everything=False)
            return self._values(hidden, longest)

    def merged(self) -> Any:
        """The policy alone, adapters merged in FP32; this object is of no use afterwards."""
        model = self.language.model if self._adapted is None else self._adapted.merge_and_unload()
        return model.to("cpu")

    def _read(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], *, everything: bool
    ) -> tuple[torch.Tensor, int, torch.Tensor, torch.Tensor]:
        """Token ids, the longest completion, hidden states of all positions and the logits of the last ones."""
        policy = self.language
        whole = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        ids, mask = left_padded(whole, policy.pad_id, policy.model.device)
        longest = max(map(len, completions))
        found: list[torch.Tensor] = []
        hook = policy.model.get_decoder().register_forward_hook(
            lambda _module, _arguments, output: found.append(output.last_hidden_state)
        )
        try:
            with self.computing():
                logits, _ = forward(policy, ids, mask, None, keep=longest + 1 if everything else 1)
        finally:
            hook.remove()
        return ids, longest, found[0], logits

    def _values(self, hidden: torch.Tensor, longest: int) -> torch.Tensor:
        """Of what was there before each token: the position that predicts it."""
        values: torch.Tensor = self.head(hidden[:, -longest - 1 : -1].float()).squeeze(2)
        return values


class Reference:
    """What the KL term anchors to: the actor without its adapters, or a frozen model of its own."""

    def __init__(self, actor: Actor, own: LanguageModel | None) -> None:
        self._actor = actor
        self._own = own

    def log_probs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """Of each token of each completion."""
        there = nullcontext(self._own) if self._own is not None else self._actor.as_reference()
        with there as policy, self._actor.computing():
            assert policy is not None
            return log_probs(policy, prompts, completions, temperature=temperature)


def reference(actor: Actor, folder: Path, tokenizer: Any, dtype: torch.dtype, *, is_start: bool) -> Reference:
    """No second copy of the weights where adapters can be taken off. Raises InvalidModelError."""
    if is_start and actor.adapted:
        return Reference(actor, None)
    model = models.load_weights("reference", folder, dtype).to(precision.device()).requires_grad_(False)
    return Reference(actor, models.language_model(model, tokenizer))
