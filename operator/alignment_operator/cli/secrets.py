"""`--secret NAME/KEY=env:VARIABLE`, held against the Secrets that the manifests name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from alignment_operator.api import Manifest
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.local.secrets import Secrets

_REFERENCE = "SecretRef"
_ANY_KEY = "*"  # of a Secret that is taken as a whole; the environment stands for what nobody names


def secrets_of(
    pairs: Sequence[str], manifests: Sequence[Manifest], *, unread: Collection[str] = ()
) -> Secrets:
    """Raises CommandError for what is no such pair, a variable that is not set, a key that no manifest names, and one
    that a manifest names and nobody gave, unless its path is among `unread`."""
    variables = dict(_parsed(pair) for pair in pairs)
    named = dict(_references("spec", [manifest["spec"] for manifest in manifests]))
    for secret in variables:
        if secret not in named and _whole(secret) not in named:
            known = ", ".join(named) or "none"
            raise CommandError(
                f"--secret {secret}=…: these manifests name no such key; they name: {known}", Exit.INVALID
            )
    for secret, path in named.items():
        if secret not in variables and secret != _whole(secret) and path not in unread:
            raise CommandError(
                f"{path}: {secret}: which key is that here? --secret {secret}=env:VARIABLE says it",
                Exit.INVALID,
            )
    return Secrets(variables)


def _whole(secret: str) -> str:
    return f"{secret.partition('/')[0]}/{_ANY_KEY}"


def _parsed(pair: str) -> tuple[str, str]:
    secret, _, source = pair.partition("=")
    kind, _, variable = source.partition(":")
    if secret.count("/") != 1 or secret[:1] == "/" or secret[-1:] == "/" or kind != "env" or not variable:
        raise CommandError(
            f"--secret {pair}: write NAME/KEY=env:VARIABLE, as in --secret judge/api-key=env:OPENAI_API_KEY",
            Exit.INVALID,
        )
    if not os.environ.get(variable):
        raise CommandError(
            f"--secret {pair}: the environment has no variable {variable}, or it is empty", Exit.INVALID
        )
    return secret, variable


def _references(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """NAME/KEY of every reference in a spec, and where it stands."""
    if isinstance(value, list):
        for item in value:
            yield from _references(path, item)
    if not isinstance(value, Mapping):
        return
    for field, inner in value.items():
        if str(field).endswith(_REFERENCE) and isinstance(inner, Mapping):
            yield f"{inner['name']}/{inner.get('key', _ANY_KEY)}", f"{path}.{field}"
        else:
            yield from _references(f"{path}.{field}", inner)
