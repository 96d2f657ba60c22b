"""etcd, API server, controller manager and scheduler on 127.0.0.1, in a folder of their own."""

from __future__ import annotations

import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.cluster.build import binaries
from tests.cluster.processes import Child, free_ports, is_free
from tests.cluster.waiting import wait_until

# Each gets a token and a kubeconfig. All are cluster admins; names of their own keep the audit log readable.
USERS = (
    "admin",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:node:process-node",
    "alignment-operator",
)

# All pods have the address 127.0.0.1, which no Endpoints may have.
_CONTROLLERS = (
    "*",
    "-endpoints-controller",
    "-endpointslice-controller",
    "-endpointslice-mirroring-controller",
)

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class ControlPlaneOptions:
    """How to run it. `extra_args` are appended by component, so they override what is set here."""

    folder: Path
    extra_args: Mapping[str, Sequence[str]] = field(default_factory=dict)
    audit: bool = False


class ControlPlane:
    """A control plane that ends with the thread that started it. Its folder keeps its state and its ports."""

    def __init__(self, options: ControlPlaneOptions) -> None:
        self.options = options
        self.folder = options.folder.resolve()
        self._children: dict[str, Child] = {}
        self._opener: urllib.request.OpenerDirector | None = None
        self._token = ""

    @property
    def kubeconfig(self) -> Path:
        """Credentials of a cluster admin."""
        return self.kubeconfig_of("admin")

    @property
    def certificates(self) -> Path:
        """Folder of apiserver.crt (which is its own CA bundle) and apiserver.key."""
        return self.folder / "pki"

    @property
    def audit_log(self) -> Path:
        """One JSON event a line, for options.audit."""
        return self.folder / "logs" / "audit.log"

    @property
    def components(self) -> Mapping[str, Child]:
        """The processes by name, each of which may be killed and started again at any time."""
        return self._children

    def kubeconfig_of(self, user: str) -> Path:
        """Credentials of one of USERS."""
        return self.folder / ("kubeconfig" if user == "admin" else f"{user.rpartition(':')[2]}.kubeconfig")

    def start(self, seconds: float = 60.0) -> None:
        """Start all of it and return when it serves. DeadlineError or DeadProcessError if it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Secrets lie in it, as files of the pods that mount them.
        self.folder.chmod(0o700)
        if not all(is_free(port) for port in self._ports().values()):
            (self.folder / "ports.json").unlink()
        ports = self._ports()
        self._write_credentials(ports["apiserver"])
        programs = binaries()
        for name, arguments in self._arguments(ports).items():
            argv = [str(programs[name]), *arguments, *self.options.extra_args.get(name, ())]
            self._children[name] = Child(name, argv, self.folder / "logs" / f"{name}.log")
        try:
            self._children["etcd"].start()
            self._children["kube-apiserver"].start()
            self.wait_ready(seconds)
            self._children["kube-controller-manager"].start()
            self._children["kube-scheduler"].start()
            # It is the controller manager that makes this account: pods can be made from here on.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            wait_until(
                lambda: self._alive() and self.get(account), "the default ServiceAccount exists", seconds
            )
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Return when the API server says that it is ready, for instance after a restart."""
        wait_until(lambda: self._alive() and self.get("/readyz"), "the API server is ready", seconds)

    def restart(self, name: str) -> None:
        """Kill a component as a crash would, and start it again. After the API server, wait_ready()."""
        self._children[name].kill()
        self._children[name].start()

    def stop(self) -> None:
        """End all processes, the API server before its etcd. Harmless if they have ended."""
        for name in reversed(self._children):
            self._children[name].stop()

    def get(self, path: str) -> bytes | None:
        """Body of a GET as admin; None if the server is not there or answers with an error."""
        if self._opener is None:
            certificate = self.certificates / "apiserver.crt"
            if not certificate.exists():
                return None
            try:
                context = ssl.create_default_context(cafile=str(certificate))
            except ssl.SSLError:
                return None  # it is being written
            # No proxy of the environment may stand between us and the loopback interface.
            handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
            self._opener = urllib.request.build_opener(*handlers)
        request = urllib.request.Request(
            self.server + path, headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            with self._opener.open(request, timeout=5) as response:
                body: bytes = response.read()
                return body
        except (urllib.error.URLError, OSError):
            return None

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://127.0.0.1:{self._ports()['apiserver']}"

    def _alive(self) -> bool:
        for name in ("etcd", "kube-apiserver"):
            self._children[name].check()
        return True

    def _ports(self) -> dict[str, int]:
        path = self.folder / "ports.json"
        if not path.exists():
            etcd, peer, apiserver = free_ports(3)
            path.write_text(json.dumps({"etcd": etcd, "etcd-peer": peer, "apiserver": apiserver}))
        ports: dict[str, int] = json.loads(path.read_text())
        return ports

    def _write_credentials(self, port: int) -> None:
        tokens = self.folder / "tokens.csv"
        if not tokens.exists():
            rows = (f'{secrets.token_hex(16)},{user},{user},"system:masters"\n' for user in USERS)
            tokens.touch(mode=0o600)
            tokens.write_text("".join(rows))
        for row in tokens.read_text().splitlines():
            token, user, *_ = row.split(",")
            self._token = token if user == "admin" else self._token
            cluster = {
                "server": f"https://127.0.0.1:{port}",
                "certificate-authority": str(self.certificates / "apiserver.crt"),
            }
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test-bed",
                "contexts": [{"name": "test-bed", "context": {"cluster": "test-bed", "user": user}}],
                "clusters": [{"name": "test-bed", "cluster": cluster}],
                "users": [{"name": user, "user": {"token": token}}],
            }
            self.kubeconfig_of(user).touch(mode=0o600)
            self.kubeconfig_of(user).write_text(yaml.safe_dump(config))

    def _arguments(self, ports: Mapping[str, int]) -> dict[str, list[str]]:
        etcd, peer = f"http://127.0.0.1:{ports['etcd']}", f"http://127.0.0.1:{ports['etcd-peer']}"
        certificate, key = self.certificates / "apiserver.crt", self.certificates / "apiserver.key"
        audit = []
        if self.options.audit:
            policy = self.folder / "audit-policy.yaml"
            policy.write_text(yaml.safe_dump(_AUDIT_POLICY))
            audit = [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]
        return {
            "etcd": [
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                # Nothing here must survive a power cut, and the disk is shared with those who train.
                "--unsafe-no-fsync",
                "--quota-backend-bytes=4294967296",
                "--log-level=warn",
            ],
            "kube-apiserver": [
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={ports['apiserver']}",
                # It writes a self-signed pair here at its first start; the key signs accounts' tokens too.
                f"--cert-dir={self.certificates}",
                f"--service-account-signing-key-file={key}",
                f"--service-account-key-file={key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--token-auth-file={self.folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=InternalIP",
                "--allow-privileged=true",
                "--profiling=false",
                *audit,
            ],
            "kube-controller-manager": [
                f"--kubeconfig={self.kubeconfig_of('system:kube-controller-manager')}",
                "--leader-elect=false",
                "--secure-port=0",
                f"--root-ca-file={certificate}",
                f"--service-account-private-key-file={key}",
                f"--controllers={','.join(_CONTROLLERS)}",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            ],
            "kube-scheduler": [
                f"--kubeconfig={self.kubeconfig_of('system:kube-scheduler')}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            ],
        }
