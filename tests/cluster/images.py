"""What stands for a container image: a piece of this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Bind:
    """A folder or file of this machine that the image is said to contain. What does not exist is left out."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Image:
    """An image that can be "pulled".

    `name` stands for every reference whose repository is it or ends with `/` and it, under any tag or digest.
    """

    name: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    working_dir: str = "/"
    uid: int = 0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Image:
        """The reverse of to_json; also what a user's YAML file holds."""
        values = dict(data)
        values["binds"] = tuple(Bind(**bind) for bind in data.get("binds", ()))
        for key in ("entrypoint", "command"):
            values[key] = tuple(data.get(key, ()))
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_image(reference: str, images: Sequence[Image]) -> Image | None:
    """The image of a reference such as `registry/team/name:tag@sha256:…`; the last that matches wins."""
    repository = reference.partition("@")[0]
    folder, slash, name = repository.rpartition("/")
    repository = folder + slash + name.partition(":")[0]
    matching = [each for each in images if repository == each.name or repository.endswith(f"/{each.name}")]
    return matching[-1] if matching else None


def default_images(repository: Path) -> tuple[Image, ...]:
    """The project's own images, run from its working copy, a server that samples, and `busybox` and `python`."""
    environment = Path(sys.prefix)
    env = {
        "PATH": f"{environment / 'bin'}:{_SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        # Pods share the machine's few cores with each other and with the control plane.
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        # An environment may have been made for another working copy.
        "PYTHONPATH": ":".join(
            str(repository / root) for root in ("operator", "images/worker", "images/recorder")
        ),
    }
    # Writable and not forgotten with the container: else every pod would compile torch's modules anew.
    # The working copy too: a pod's own /tmp would hide one that lies below the machine's.
    python = (
        Bind(str(repository), str(repository)),
        Bind(str(environment), str(environment), read_only=False),
    )
    assets = Bind(str(repository / "examples/quickstart/quickstart-assets"), "/opt/alignment/quickstart")
    return (
        Image("busybox", command=("sh",), env={"PATH": _SYSTEM_PATH}),
        Image("python", command=("python",), env=env, binds=python),
        Image(
            "alignment-dev/operator",
            entrypoint=("alignment-operator",),
            command=("run",),
            env=env,
            binds=python,
        ),
        Image(
            "alignment-dev/worker",
            entrypoint=("python", "-m", "alignment_worker"),
            env=env,
            binds=(*python, assets),
        ),
        Image("alignment-dev/recorder", entrypoint=("alignment-recorder",), env=env, binds=python),
        Image(
            "test-bed/completions",
            entrypoint=("python", "-m", "tests.worker.completions_server"),
            env={**env, "PYTHONPATH": f"{repository}:{env['PYTHONPATH']}"},
            binds=python,
        ),
    )
