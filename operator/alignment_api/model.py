"""The base of every object that crosses a boundary: YAML, the API server, the stage contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

GROUP = "alignment.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True)
class Rule:
    """A constraint that spans fields, said twice: in CEL for the API server, in Python for everywhere else.

    `cel` goes into the schema as `x-kubernetes-validations` with `field_path` and `message`. `holds` takes
    the parsed model; None marks a transition rule (one that names `oldSelf`), which only an API can judge.
    """

    cel: str
    message: str
    field_path: str
    holds: Callable[[Any], bool] | None


def _with_rules(schema: dict[str, Any], model: type[Model]) -> None:
    validations = [
        {"rule": rule.cel, "message": rule.message}
        | ({"fieldPath": rule.field_path} if rule.field_path else {})
        for rule in model.rules
    ]
    if validations:
        schema["x-kubernetes-validations"] = validations


class ListMap:
    """Marks a list whose items differ in one text field, which server-side apply merges them by.

    `datasets: Annotated[list[DatasetReference], ListMap("name")]`
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        merged = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [to_camel(self._key)]}
        return handler(schema) | merged

    def _check(self, items: list[Any]) -> list[Any]:
        seen: set[object] = set()
        for index, item in enumerate(items):
            key = getattr(item, self._key)
            if key in seen:
                raise refused((f"[{index}].{to_camel(self._key)}", "is there twice; each must differ"))
            seen.add(key)
        return items


def refused(*problems: tuple[str, str]) -> PydanticCustomError:
    """The error of one place with several problems, each a path below it and a message."""
    told = [{"path": path, "message": message} for path, message in problems]
    return PydanticCustomError("rule", "{message}", told[0] | {"more": told[1:]})


class Model(BaseModel):
    """Frozen; camelCase outside and snake_case inside; an unknown field, NaN or infinity is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra=_with_rules,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, wire: Any) -> Any:
        """As the API server reads it: `lora:` with nothing behind it is the same as no `lora` at all."""
        if not isinstance(wire, dict) or None not in wire.values():
            return wire
        known = {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in wire.items() if value is not None or key not in known}

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        broken = [rule for rule in self.rules if rule.holds is not None and not rule.holds(self)]
        problems = [*((rule.field_path, rule.message) for rule in broken), *self.further_problems()]
        if problems:
            raise refused(*problems)
        return self

    def further_problems(self) -> Iterable[tuple[str, str]]:
        """Path below the model and message of what no rule can say, since CEL could not judge it."""
        return ()

    def to_wire(self) -> dict[str, Any]:
        """As YAML or JSON shows it: camelCase, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_wire(cls, wire: object) -> Self:
        """Parse what YAML, JSON or the API server gave; raises `pydantic.ValidationError`."""
        return cls.model_validate(wire, by_alias=True, by_name=False)
