"""Amounts of memory, processors and the like, as Kubernetes writes them.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

PATTERN = r"^([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]{1,2})?$"
_MAX_LENGTH = 32

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    StringConstraints(pattern=PATTERN, max_length=_MAX_LENGTH),
    WithJsonSchema(
        {"x-kubernetes-int-or-string": True, "minimum": 0, "pattern": PATTERN, "maxLength": _MAX_LENGTH}
    ),
]

_THOUSANDS = {"": 0, "n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def amount(quantity: str) -> Decimal:
    """What a Quantity comes to, in its unit: cores, bytes, pieces."""
    number = quantity.rstrip("numkKMGTPEi")
    suffix = quantity.removeprefix(number)
    if suffix.endswith("i"):
        return Decimal(number) * Decimal(1024) ** (1 + "KMGTPE".index(suffix[0]))
    return Decimal(number).scaleb(3 * _THOUSANDS[suffix])
