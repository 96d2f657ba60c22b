"""`alignment-operator`: the process that the chart's Deployment runs."""

from __future__ import annotations

import asyncio
import logging
import sys

import click

from alignment_operator import release


@click.group()
@click.version_option(package_name="alignment-operator")
def main() -> None:
    """Keeps language models aligned: runs the iterations that AlignmentCycles ask for."""


@main.command()
@click.option(
    "--namespace",
    "-n",
    "namespaces",
    multiple=True,
    help="Serve this namespace; may be repeated. Default: all.",
)
@click.option(
    "--worker-image",
    envvar="ALIGNMENT_WORKER_IMAGE",
    help="Image of the stages' Jobs, where the manifest names none. Default: the one of this version.",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port of /healthz and /readyz; 0: none.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=9090,
    show_default=True,
    help="Port of /metrics; 0: none.",
)
@click.option(
    "--max-active-iterations",
    type=click.IntRange(min=1),
    help="Iterations that run at once; others wait for their turn. Default: all that are due.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log what is tried again, too.")
def run(
    namespaces: tuple[str, ...],
    worker_image: str | None,
    health_port: int,
    metrics_port: int,
    max_active_iterations: int | None,
    *,
    verbose: bool,
) -> None:
    """Run the operator until it is told to stop.

    It logs in by KUBECONFIG, else by the pod's ServiceAccount, else by ~/.kube/config.
    """
    from alignment_operator.cluster import NoClusterError  # noqa: PLC0415 - a second of imports that --help needs not
    from alignment_operator.observed import Settings  # noqa: PLC0415
    from alignment_operator.runtime import operator  # noqa: PLC0415
    from alignment_operator.runtime.web import PortTakenError  # noqa: PLC0415

    _log_to_stderr(verbose=verbose)
    options = operator.Options(
        Settings(worker_image=worker_image or release.worker_image()),
        namespaces,
        health_port=health_port or None,
        metrics_port=metrics_port or None,
        max_active_iterations=max_active_iterations,
    )
    try:
        asyncio.run(operator.run(options))
    except (NoClusterError, PortTakenError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(130)


def _log_to_stderr(*, verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )
    logging.getLogger("alignment_operator").setLevel(logging.DEBUG if verbose else logging.INFO)
    # They write a line for every event heard and every probe answered.
    for noisy in ("kopf.objects", "kopf.activities.probe", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
