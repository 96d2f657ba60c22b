"""`python -m tests.cluster up | status | down | helm`: a cluster on this machine, behind `make cluster`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import yaml

from tests.cluster import build
from tests.cluster.bed import REPOSITORY, Bed, BedOptions
from tests.cluster.build import BuildError, binaries
from tests.cluster.images import Image
from tests.cluster.waiting import wait_until

_RESTART_SECONDS = 1

_folder = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(".cluster"),
    help="Where it keeps all it has.",
)


class _Supervisor:
    """The process that carries the cluster of a folder, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._file = self.folder / "supervisor.json"

    def record(self) -> None:
        """Say that it is this process, and that the cluster is ready."""
        scratch = self._file.with_suffix(".new")
        scratch.write_text(json.dumps({"pid": os.getpid(), "started": _started(os.getpid())}))
        scratch.replace(self._file)

    @property
    def pid(self) -> int | None:
        """Its process id, if it lives; never that of another process that got the same number."""
        if not self._file.exists():
            return None
        record = json.loads(self._file.read_text())
        alive = _started(record["pid"]) == record["started"]
        return int(record["pid"]) if alive else None

    def end(self) -> None:
        """End it, if it lives; returns when it has ended all its children."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: self.pid is None, f"process {pid} ends", 60)
        self._file.unlink(missing_ok=True)


@click.group()
def main() -> None:
    """A real control plane, and a node that runs pods as processes of this machine."""


@main.command()
@_folder
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C.")
@click.option("--images", type=click.Path(exists=True, path_type=Path), help="YAML list of further images.")
@click.option("--gpus", type=int, default=0, help="How many nvidia.com/gpu the node says it has.")
@click.option("--audit", is_flag=True, help="Write the API server's audit log.")
def up(folder: Path, foreground: bool, images: Path | None, gpus: int, audit: bool) -> None:
    """Start it, unless it runs, and say how to use it."""
    supervisor = _Supervisor(folder)
    if supervisor.pid is not None:
        click.echo(_usage(supervisor.folder))
        return
    try:
        binaries()
    except BuildError as error:
        raise click.ClickException(str(error)) from error
    supervisor.folder.mkdir(parents=True, exist_ok=True)
    rows = yaml.safe_load(images.read_text()) if images else []
    options = {"images": rows, "gpus": gpus, "audit": audit}
    (supervisor.folder / "options.json").write_text(json.dumps(options))
    if foreground:
        _supervise(supervisor)
        return
    log = supervisor.folder / "logs" / "supervisor.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", "supervise", "--dir", str(supervisor.folder)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    wait_until(lambda: child.poll() is not None or supervisor.pid == child.pid, "the cluster is ready", 120)
    if child.poll() is not None:
        end = "\n".join(log.read_text().splitlines()[-15:])
        raise click.ClickException(f"it did not start; {log} ends:\n{end}")
    click.echo(_usage(supervisor.folder))


@main.command()
@_folder
@click.option("--keep", is_flag=True, help="Keep the folder: `up` then goes on with the same objects.")
def down(folder: Path, keep: bool) -> None:
    """End it with all that runs on it, and delete its folder."""
    supervisor = _Supervisor(folder)
    supervisor.end()
    if not keep and (supervisor.folder / "ports.json").exists():
        shutil.rmtree(supervisor.folder)


@main.command()
@_folder
def status(folder: Path) -> None:
    """Say whether it runs and how to use it. Exit 3 if it does not run."""
    supervisor = _Supervisor(folder)
    if supervisor.pid is None:
        click.echo(f"no cluster in {supervisor.folder}")
        sys.exit(3)
    click.echo(_usage(supervisor.folder))


@main.command()
def helm() -> None:
    """Say where helm is; one is built, once and in some minutes, if none is on the PATH."""
    try:
        click.echo(build.helm())
    except BuildError as error:
        raise click.ClickException(str(error)) from error


@main.command(hidden=True)
@_folder
def supervise(folder: Path) -> None:
    """Carry the cluster of a folder until SIGTERM."""
    _supervise(_Supervisor(folder))


def _supervise(supervisor: _Supervisor) -> None:
    options = json.loads((supervisor.folder / "options.json").read_text())
    bed = Bed(
        BedOptions(
            supervisor.folder,
            images=tuple(Image.from_json(row) for row in options["images"]),
            resources={"nvidia.com/gpu": str(options["gpus"])} if options["gpus"] else {},
            audit=options["audit"],
        )
    )
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*endings, signal.SIGCHLD})
    bed.start()
    try:
        supervisor.record()
        click.echo(_usage(supervisor.folder))
        while signal.sigwait({*endings, signal.SIGCHLD}) == signal.SIGCHLD:
            dead = [each for each in bed.children() if not each.running]
            # As its supervisor on a real machine would, but never in a hot loop.
            if dead and signal.sigtimedwait(endings, _RESTART_SECONDS) is not None:
                break
            for child in dead:
                click.echo(f"{child.name} has ended and is started again", err=True)
                child.start()
    finally:
        bed.stop()


def _usage(folder: Path) -> str:
    lines = [
        "A Kubernetes cluster runs on this machine. To use it:",
        "",
        f"  export KUBECONFIG={folder / 'kubeconfig'}",
    ]
    if shutil.which("kubectl") is None:
        lines.append(f"  export PATH={binaries()['kubectl'].parent}:$PATH")
    lines += [
        "  kubectl get nodes",
        "",
        f"Logs of pods: kubectl logs, or below {folder / 'node' / 'logs'}.",
        f"Logs of the cluster itself: {folder / 'logs'}.",
        "To end it: make cluster-down",
    ]
    return "\n".join(lines)


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot; empty if there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


if __name__ == "__main__":
    main(prog_name="python -m tests.cluster")
