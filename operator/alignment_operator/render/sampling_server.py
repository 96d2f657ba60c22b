"""The server that samples beside the worker: a native sidecar, so that it ends with the worker.

https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
"""

from __future__ import annotations

from typing import Any

from alignment_api import sampling_server, uris
from alignment_api.cycle import SamplingServer
from alignment_api.pods import PodDefaults, Resources
from alignment_api.stage import SampleParameters, StageConfig
from alignment_operator.render.mounts import CLAIMS_FOLDER, SHARED_MEMORY, Mounts

CONTAINER = "server"
_MODEL = "$(MODEL)"
_SCRATCH = "server-tmp"
# Two hours: how long a start may take is what pendingDeadlineSeconds says.
_PATIENCE = {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 3600}
# As `vllm serve` takes them. The last: else the checkpoint's generation_config.json could cut every answer short.
_VLLM = (
    _MODEL,
    *("--served-model-name", sampling_server.MODEL_NAME),
    *("--host", "$(HOST)"),
    *("--port", "$(PORT)"),
    *("--generation-config", "vllm"),
)


def server_of(config: StageConfig) -> SamplingServer | None:
    """What samples in this stage; None: the worker, or nothing."""
    return config.parameters.sampling.server if isinstance(config.parameters, SampleParameters) else None


def worker_resources(config: StageConfig, pods: PodDefaults) -> Resources | None:
    """The accelerator is the server's."""
    if pods.resources is None or server_of(config) is None:
        return pods.resources
    return pods.resources.without_extended()


def render_server(
    config: StageConfig, mounts: Mounts, pod_ip: dict[str, Any], security: dict[str, Any]
) -> dict[str, Any]:
    """Fields of the stage's pod: the server as an init container, and all volumes; none where no server samples.

    `pod_ip` is the variable with the pod's address, which the server listens on: kubelet's probes ask nowhere else.
    """
    server = server_of(config)
    if server is None:
        return {}
    policy = uris.parse(config.inputs["policy"].uri)
    folder = f"{CLAIMS_FOLDER}/{policy.claim}"
    shared = [mount for mount in mounts.mounts if mount["mountPath"] in {folder, SHARED_MEMORY}]
    variables = {
        "MODEL": f"{folder}/{policy.path}" if policy.claim else str(policy.path),
        "HOST": f"$({pod_ip['name']})",
        "PORT": str(sampling_server.PORT),
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": server.image,
        "restartPolicy": "Always",
        "args": _arguments(server),
        "env": [pod_ip, *_environment(server, variables)],
        "ports": [{"name": "completions", "containerPort": sampling_server.PORT}],
        "startupProbe": {
            "httpGet": {"path": sampling_server.PROBE_PATH, "port": sampling_server.PORT},
            **_PATIENCE,
        },
        "volumeMounts": [{"name": _SCRATCH, "mountPath": "/tmp"}, *shared],  # noqa: S108 - the pod's own
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security,
    }
    if server.resources is not None:
        container["resources"] = server.resources.to_wire()
    return {"initContainers": [container], "volumes": [*mounts.volumes, {"name": _SCRATCH, "emptyDir": {}}]}


def _arguments(server: SamplingServer) -> list[str]:
    given = server.args or []
    return given if any(_MODEL in argument for argument in given) else [*_VLLM, *given]


def _environment(server: SamplingServer, variables: dict[str, str]) -> list[dict[str, Any]]:
    """Caches go below HOME, and torch asks for the name of the user, which no image knows of this one."""
    theirs = {variable.name: variable.value for variable in server.env or []}
    ours = {"HOME": "/tmp", "USER": "alignment"}  # noqa: S108 - the pod's own
    return [{"name": name, "value": value} for name, value in (ours | theirs | variables).items()]
