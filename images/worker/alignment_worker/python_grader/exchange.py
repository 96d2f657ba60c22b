"""What passes between the process of the test program and that of the completion: frames of JSON over two pipes.

Plain values pass by value: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset and dict
of such. Any other object stays where it is; the other side gets a `Remote`, whose attributes, calls, length, items and
iteration are asked for. What `Remote` does not have is the point of it: an object of the completion sees no value
of the test in a comparison, so that it cannot equal whatever it is compared with.

The side of the test program answers calls alone, of the functions that it has passed on.
"""

from __future__ import annotations

import builtins
import json
import operator
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

MAX_BYTES = 1 << 20  # of a frame
_LENGTH_BYTES = 4
_SMALL = 1 << 62  # larger numbers pass in hexadecimal: JSON's readers limit the digits
_MUTABLE = (list, dict, set, bytearray)
_TEXT = 1000  # characters of an exception's message

Operation = Callable[..., Any]

CALL: Mapping[str, Operation] = {"call": lambda what, args, kwargs: what(*args, **kwargs)}
ALL: Mapping[str, Operation] = {
    **CALL,
    "getattr": getattr,
    "setattr": setattr,
    "len": len,
    "iter": iter,
    "next": next,
    "getitem": operator.getitem,
    "eq": lambda one, other: bool(one == other),
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "repr": repr,
}


class Remote:
    """An object of the other side."""

    __slots__ = ("_remote_key", "_remote_peer")
    __hash__ = object.__hash__

    def __init__(self, peer: Peer, key: int) -> None:
        object.__setattr__(self, "_remote_peer", peer)
        object.__setattr__(self, "_remote_key", key)

    def __getattr__(self, name: str) -> Any:
        return self._remote_peer.ask("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._remote_peer.ask("setattr", self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote_peer.ask("call", self, list(args), kwargs)

    def __len__(self) -> Any:
        return self._remote_peer.ask("len", self)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._remote_peer.ask("iter", self)
        return iterator if isinstance(iterator, Remote) else iter(iterator)

    def __next__(self) -> Any:
        return self._remote_peer.ask("next", self)

    def __getitem__(self, key: Any) -> Any:
        return self._remote_peer.ask("getitem", self, key)

    def __eq__(self, other: object) -> Any:
        return self._remote_peer.ask("eq", self, other) if isinstance(other, Remote) else NotImplemented

    def __bool__(self) -> Any:
        return self._remote_peer.ask("bool", self)

    def __int__(self) -> Any:
        return self._remote_peer.ask("int", self)

    def __float__(self) -> Any:
        return self._remote_peer.ask("float", self)

    def __str__(self) -> Any:
        return self._remote_peer.ask("str", self)

    def __repr__(self) -> Any:
        return self._remote_peer.ask("repr", self)


class Peer:
    """One end. A frame that is none ends the process: whoever waits for it learns that nothing was proved."""

    def __init__(self, reads: int, writes: int, operations: Mapping[str, Operation]) -> None:
        self._reads, self._writes = reads, writes
        self._operations = operations
        self._own: list[object] = []
        self._keys: dict[int, int] = {}  # by id: `_own` keeps the object, so that its id stays its own
        self._remotes: dict[int, Remote] = {}

    def send(self, frame: dict[str, Any]) -> None:
        """Raises ValueError if it is too large."""
        data = json.dumps(frame, separators=(",", ":")).encode()
        if len(data) > MAX_BYTES:
            raise ValueError(f"a value takes {len(data)} bytes; at most {MAX_BYTES} pass")
        left = memoryview(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        try:
            while left:
                left = left[os.write(self._writes, left) :]
        except OSError:
            _end()

    def receive(self) -> dict[str, Any] | None:
        """None if the other side has ended before a frame began."""
        head = self._exactly(_LENGTH_BYTES)
        if head is None:
            return None
        length = int.from_bytes(head, "big")
        data = self._exactly(length) if length <= MAX_BYTES else None
        try:
            frame = json.loads(data or b"")
        except (ValueError, RecursionError):
            _end()
        return frame if isinstance(frame, dict) else _end()

    def ask(self, operation: str, what: Remote, *args: Any) -> Any:
        """Raises what the other side raised, as the builtin exception that it is or comes from."""
        self.send({"do": operation, "args": [self.encode(arg) for arg in (what, *args)]})
        while True:
            frame = self.receive()
            if frame is None:
                _end()
            if "do" in frame:
                self.serve(frame)
            else:
                return self._answer(frame, args)

    def serve(self, frame: dict[str, Any]) -> None:
        """Do what the other side asks for, and answer."""
        perform = self._operations.get(frame.get("do", ""))
        if perform is None:
            _end()
        args = self._decoded(frame.get("args"))
        try:
            value = perform(*args)
            changed = [self.encode(arg) for arg in args[1]] if frame["do"] == "call" else []
            answer = {"value": self.encode(value), "changed": changed}
            self.send(answer)
        except Exception as error:  # noqa: BLE001 - the other side raises it again
            self.send({"error": _spelled(error)})

    def encode(self, value: Any) -> Any:
        """As JSON. Raises RecursionError."""
        if value is None or isinstance(value, bool | str | float):
            return value
        if isinstance(value, int):
            return int(value) if abs(value) < _SMALL else ["int", hex(value)]
        if isinstance(value, complex):
            return ["complex", value.real, value.imag]
        if isinstance(value, dict):
            return ["dict", [[self.encode(key), self.encode(item)] for key, item in value.items()]]
        for kind in (bytes, bytearray):
            if isinstance(value, kind):
                return [kind.__name__, value.hex()]
        for kinds in (list, tuple, set, frozenset):
            if isinstance(value, kinds):
                return [kinds.__name__, [self.encode(item) for item in value]]
        return ["yours", value._remote_key] if isinstance(value, Remote) else ["mine", self._key(value)]

    def decode(self, wire: Any) -> Any:
        """Raises anything if it is not what `encode` makes."""
        match wire:
            case None | bool() | int() | float() | str():
                return wire
            case ["int", str(text)]:
                return int(text, 16)
            case ["complex", float(real), float(imaginary)]:
                return complex(real, imaginary)
            case [("bytes" | "bytearray") as kind, str(text)]:
                return getattr(builtins, kind).fromhex(text)
            case [("list" | "tuple" | "set" | "frozenset") as kind, list(some)]:
                return getattr(builtins, kind)([self.decode(item) for item in some])
            case ["dict", list(pairs)]:
                return {self.decode(key): self.decode(item) for key, item in pairs}
            case ["yours", int(key)] if key >= 0:
                return self._own[key]
            case ["mine", int(key)]:
                return self._remotes.setdefault(key, Remote(self, key))
        raise ValueError("not a value")

    def _key(self, value: object) -> int:
        if id(value) not in self._keys:
            self._keys[id(value)] = len(self._own)
            self._own.append(value)
        return self._keys[id(value)]

    def _answer(self, frame: dict[str, Any], args: tuple[Any, ...]) -> Any:
        match frame:
            case {"error": [str(name), str(text)]}:
                raise _exception(name, text)
            case {"value": wire, "changed": list(changed)}:
                given = args[0] if changed and args else []
                for before, after in zip(given, self._decoded(changed), strict=False):
                    _become(before, after)
                return self._decoded([wire])[0]
            case _:
                return _end()

    def _decoded(self, wires: Any) -> list[Any]:
        try:
            return [self.decode(wire) for wire in wires]
        except Exception:  # noqa: BLE001 - whatever it is, it was made to be no value
            return _end()

    def _exactly(self, count: int) -> bytes | None:
        parts: list[bytes] = []
        while count:
            part = os.read(self._reads, min(count, 1 << 16))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _become(before: Any, after: Any) -> None:
    """An argument that was changed in place, as `list.sort` does."""
    if type(before) is not type(after) or not isinstance(before, _MUTABLE) or before == after:
        return
    if isinstance(before, list | bytearray):
        before[:] = after
    else:
        before.clear()
        before.update(after)


def _spelled(error: Exception) -> list[str]:
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        return [name, str(error)[:_TEXT]]
    except Exception:  # noqa: BLE001 - of a class of the completion's own
        return [name, ""]


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return RuntimeError(text)
    try:
        return kind(text)
    except TypeError:
        return RuntimeError(text)


def _end() -> NoReturn:
    """At once: an exception might be caught by the test program, and taken for one of the completion's."""
    os._exit(1)
