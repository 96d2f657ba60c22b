"""The base of every object that crosses a boundary: YAML, the API server, the stage contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP = "alignment.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True)
class Rule:
    """One constraint that spans fields, said twice: in CEL for the API server, in Python for everywhere else.

    `cel` goes into the schema as `x-kubernetes-validations` with `field_path` and `message`. `holds` takes the
    parsed model; None marks a transition rule (one that names `oldSelf`), which only an API can judge.
    """

    cel: str
    message: str
    field_path: str
    holds: Callable[[Any], bool] | None


class Model(BaseModel):
    """Frozen; camelCase outside and snake_case inside; an unknown field, NaN or infinity is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise PydanticCustomError("rule", "{message}", {"message": rule.message, "path": rule.field_path})
        return self

    def to_wire(self) -> dict[str, Any]:
        """As YAML or JSON shows it: camelCase, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_wire(cls, wire: object) -> Self:
        """Parse what YAML, JSON or the API server gave; raises `pydantic.ValidationError`."""
        return cls.model_validate(wire)
