"""A container's environment, command and arguments, as the API documents them. Pure."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.cluster.api import Json
from tests.cluster.status import ADDRESS, address_of

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_SUFFIXES = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}


class ConfigError(Exception):
    """A container cannot be configured yet: what it refers to is not there."""


@dataclass(frozen=True)
class References:
    """The objects that a pod's containers name, by name; absent ones are missing."""

    config_maps: Mapping[str, Json]
    secrets: Mapping[str, Json]


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` where NAME is known; `$$` is a dollar sign."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return values.get(match[2], match[0])

    return _REFERENCE.sub(replaced, text)


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number. ValueError if it is none."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text))
    if not match or match[2] not in _SUFFIXES:
        raise ValueError(f"not a quantity: {text!r}")
    return float(match[1]) * _SUFFIXES[match[2]]


def field_value(pod: Json, path: str) -> str:
    """What a fieldRef yields. ConfigError for a path that the downward API does not know."""
    metadata, spec = pod["metadata"], pod["spec"]
    if keyed := _KEYED.fullmatch(path):
        return str(metadata.get(keyed[1], {}).get(keyed[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        rows = metadata.get(path.split(".")[1], {})
        return "\n".join(f'{key}="{_escaped(rows[key])}"' for key in sorted(rows))
    plain = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        **dict.fromkeys(("status.hostIP", "status.hostIPs"), ADDRESS),
        **dict.fromkeys(("status.podIP", "status.podIPs"), address_of(pod)),
    }
    if path not in plain:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(plain[path])


def resource_value(pod: Json, container: str, reference: Json, allocatable: Mapping[str, str]) -> str:
    """What a resourceFieldRef yields: how many divisors, rounded up; the node's where no limit is set."""
    name = reference.get("containerName") or container
    spec = next(each for each in containers(pod) if each["name"] == name)
    kind, _, resource = reference["resource"].partition(".")
    found = spec.get("resources", {}).get(kind, {}).get(resource)
    if found is None:
        found = allocatable.get(resource, "0") if kind == "limits" else "0"
    divisor = quantity(reference.get("divisor") or 1) or 1.0
    return str(math.ceil(quantity(found) / divisor - 1e-9))


def containers(pod: Json) -> list[Json]:
    """All containers of a pod, the initial ones first."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(
    pod: Json,
    container: Json,
    given: Mapping[str, str],
    references: References,
    allocatable: Mapping[str, str],
) -> dict[str, str]:
    """The variables that the pod gives to one container, on top of the given ones, to which it may refer.

    ConfigError names what is missing.
    """
    values = dict(given)
    for source in container.get("envFrom", ()):
        prefix = source.get("prefix", "")
        for key, value in _all_of(source, references):
            values[prefix + key] = value
    for row in container.get("env", ()):
        reference = row.get("valueFrom")
        if reference is None:
            values[row["name"]] = expand(row.get("value", ""), values)
        else:
            found = _value_from(pod, container["name"], reference, references, allocatable)
            values |= {} if found is None else {row["name"]: found}
    return values


def _all_of(source: Json, references: References) -> Iterable[tuple[str, str]]:
    if named := source.get("configMapRef"):
        found = _object("configmap", references.config_maps, named)
        return () if found is None else config_map_values(found)
    named = source["secretRef"]
    found = _object("secret", references.secrets, named)
    if found is None:
        return ()
    return [(key, value.decode()) for key, value in object_files(found).items()]


def _value_from(
    pod: Json, container: str, source: Json, references: References, allocatable: Mapping[str, str]
) -> str | None:
    if reference := source.get("fieldRef"):
        return field_value(pod, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        return resource_value(pod, container, reference, allocatable)
    kind = "configmap" if "configMapKeyRef" in source else "secret"
    named = source["configMapKeyRef" if kind == "configmap" else "secretKeyRef"]
    found = _object(kind, references.config_maps if kind == "configmap" else references.secrets, named)
    files = {} if found is None else object_files(found)
    if named["key"] in files:
        return files[named["key"]].decode()
    if named.get("optional"):
        return None
    raise ConfigError(f"couldn't find key {named['key']} in {kind} {named['name']}")


def _object(kind: str, known: Mapping[str, Json], named: Json) -> Json | None:
    found = known.get(named["name"])
    if found is None and not named.get("optional"):
        raise ConfigError(f'{kind} "{named["name"]}" not found')
    return found


def config_map_values(config_map: Json) -> Iterable[tuple[str, str]]:
    """The text entries of a ConfigMap, which alone can become variables."""
    return (config_map.get("data") or {}).items()


def object_files(found: Json) -> dict[str, bytes]:
    """The entries of a ConfigMap or a Secret as files."""
    if found.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    files = {key: value.encode() for key, value in config_map_values(found)}
    return files | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


def _escaped(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
