"""Every constraint of both kinds, with values that it accepts and values that it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.api.manifests import BY_KIND, MISSING, PUBLIC_KEY, STAGES, Manifest, with_value

CYCLE, DATASET = "AlignmentCycle", "PreferenceDataset"


@dataclass(frozen=True)
class Row:
    """What one field may hold. The problem of a refused value is at `path`, unless it is a pair (path, value)."""

    kind: str
    path: str
    accepted: tuple[object, ...]
    refused: tuple[object, ...]
    given: dict[str, object] = field(
        default_factory=dict
    )  # what else must be so for the field to be judged alone
    by_rule: bool = False  # an API server asks its rules only about what its schema lets in

    def __str__(self) -> str:
        return f"{self.kind}-{self.path}"


def whole(path: str, low: int, high: int | None = None, *, reckoned: bool = False, kind: str = CYCLE) -> Row:
    """Whole numbers from low to high. To an API server 4.0 is one, and so it is here, but for a rule that reckons
    with it: there the server takes 4 alone.
    """
    high_or_large = 10**9 if high is None else high
    beyond = () if high is None else (high + 1,)
    accepted = (low, high_or_large) if reckoned else (low, high_or_large, float(low))
    return Row(kind, path, accepted, (low - 1, *beyond, low + 0.5, f"{low}", True))


def number(
    path: str,
    low: float,
    high: float | None = None,
    *,
    above: bool = False,
    below: bool = False,
    kind: str = CYCLE,
) -> Row:
    """Numbers from low (or above it) to high (or below it)."""
    edges = () if above else (low,), () if below or high is None else (high,)
    beyond = () if high is None else (high if below else high + 0.001,)
    inside = low + 0.001
    return Row(
        kind,
        path,
        (*edges[0], inside, *edges[1]),
        (low if above else low - 0.001, *beyond, f"{inside}", "30%", True),
    )


def choice(path: str, *values: str, kind: str = CYCLE) -> Row:
    return Row(kind, path, values, (values[0].lower(), "", 1))


def text(path: str, least: int, most: int, kind: str = CYCLE) -> Row:
    shorter = ("a" * (least - 1),) if least else ()
    return Row(kind, path, ("a" * least, "é" * most), (*shorter, "a" * (most + 1), 1))


def pattern(path: str, most: int, accepted: Sequence[str], refused: Sequence[str], kind: str = CYCLE) -> Row:
    return Row(kind, path, (*accepted, "a" * most), (*refused, "a" * (most + 1), 1))


def name(path: str, kind: str = CYCLE) -> Row:
    """Of a Kubernetes object that may become a label."""
    return pattern(path, 63, ("a", "a-1"), ("", "A", "a_b", "-a", "a-", "a.b"), kind)


def dotted_name(path: str, kind: str = CYCLE) -> Row:
    return pattern(path, 253, ("a", "a-1.b"), ("", "A", "a_b", "-a", "a-", ".a"), kind)


def address(path: str, kind: str = CYCLE) -> Row:
    """Of a server, perhaps with a path."""
    longest = "https://api.openai.com/" + "a" * (512 - 23)
    return Row(
        kind,
        path,
        ("https://api.openai.com/v1", "http://[::1]:8000", "http://judge.team-a/", longest),
        ("", "api.openai.com/v1", "ftp://a/v1", "https://u:p@a/v1", "https://a/v1?k=1", longest + "a", 1),
    )


def secret_key(path: str, kind: str = CYCLE) -> tuple[Row, ...]:
    return (
        mapping(path, "name", "key", kind=kind),
        dotted_name(f"{path}.name", kind),
        pattern(f"{path}.key", 253, ("api-key", "A_b.c"), ("", "a/b", "a b"), kind),
    )


def label_value(path: str) -> Row:
    return pattern(path, 63, ("", "a", "A_1.b-c"), ("-a", "a_", "a b", "é"))


def uri(path: str, kind: str = CYCLE) -> Row:
    """The forms in short; `URI_FORMS` has them all."""
    refused = ("", "/models/m0", "s3://models/m0", "pvc://models/../x", "pvc://m/" + "a" * 505, 1)
    return Row(kind, path, ("pvc://models/m0", "file:///m0", "pvc://m/" + "a" * 504), refused)


def source_uri(path: str) -> tuple[Row, ...]:
    """Of a claim, a file or a bucket; and the Secret for a bucket."""
    secret = f"{path}.credentialsSecretRef"
    buckets = (
        "s3://feedback/2026/*.jsonl",
        "s3://feedback",
        "gs://team.logs_1/a/",
        "az://logs/a%20b/..c",
        "s3://b/" + "a" * 505,
    )
    no_buckets = (
        "s3://",
        "s3:///a",
        "S3://b/a",
        "s3://B/a",
        "s3://b/../a",
        "s3://b/a b",
        "s3a://b/a",
        "hf://org/data",
        "s3://b/" + "a" * 506,
    )
    anywhere = replace(uri(f"{path}.uri", DATASET), refused=("", "/models/m0", 1), given={secret: MISSING})
    return (
        anywhere,
        Row(DATASET, f"{path}.uri", buckets, no_buckets),
        mapping(secret, "name", kind=DATASET),
        dotted_name(f"{secret}.name", DATASET),
    )


_EVERY_ARGUMENT = {
    "adam_beta1": 0.9,
    "adam_beta2": 0.99,
    "adam_epsilon": 1e-8,
    "f_alpha_divergence_coef": 0.5,
    "f_divergence_type": "js_divergence",
    "lr_scheduler_type": "cosine",
    "max_grad_norm": 1,
    "optim": "rmsprop",
    "torch_empty_cache_steps": 10,
    "use_weighting": False,
    "warmup_steps": 10,
    "weight_decay": 0,
}

_LONGEST_SCHEDULE = ",".join(["0"] * 60) + "  * * * *"  # 128 characters
_OUT_OF_RANGE = (
    "60 * * * *",
    "0 24 * * *",
    "0 0 0 * *",
    "0 0 32 * *",
    "0 0 * 13 *",
    "0 0 * * 8",
    "0 0 * * MON#6",
    "*/0 * * * *",
    "1,,2 * * * *",
    "H 3 * * 1",
    "0 3 * * someday",
)
SCHEDULE = Row(
    CYCLE,
    "spec.trigger.schedule",
    (
        "0 3 * * 1",
        "*/30 * * * *",
        "59 23 31 12 7",
        "0,15,30-45/5 00-06 1-15 JAN,mar-Dec mon-Fri",
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 * * 5L",
        "0 0 * * MON#1",
        _LONGEST_SCHEDULE,
    ),
    (
        "",
        "@daily",
        "* * * *",
        "0 0 * * * *",
        " 0 0 * * *",
        "0 0 ? * *",
        "CRON_TZ=UTC 3 * * 1",
        " " + _LONGEST_SCHEDULE,
        3,
    ),
)

TIME_ZONE = pattern(
    "spec.trigger.timeZone",
    64,
    ("Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"),
    ("", "/Europe", "Europe/", "../etc", "Europe Berlin"),
)

# What a cycle that trains by PPO must not have, and a batch that it can have.
_WITHOUT_PAIRS: dict[str, object] = {
    "spec.datasets": MISSING,
    "spec.reward": MISSING,
    "spec.trigger.newPairs": MISSING,
    "spec.sampling.shards": MISSING,
    "spec.sampling.server": MISSING,
    "spec.sampling.completionsPerPrompt": 2,
    "spec.judge.pairs": MISSING,
    "spec.judge.minMargin": MISSING,
    "spec.judge.lengthPenalty": MISSING,
    "spec.judge.shortCorrectPercent": MISSING,
    "spec.training.epochs": MISSING,
    "spec.training.lora.dropout": MISSING,
    "spec.training.perDeviceBatchSize": 1,
    "spec.training.nodes": MISSING,
    "spec.training.processesPerNode": MISSING,
    "spec.training.sharding": MISSING,
    "spec.training.arguments": MISSING,
}
_ONE_NODE: dict[str, object] = {"spec.training.nodes": MISSING}
_DIVIDED: tuple[dict[str, object], ...] = tuple({"spec.training.sharding": how} for how in ("FSDP", "ZeRO3"))
_PPO = {"spec.training.method": "PPO"} | _WITHOUT_PAIRS

URI_FORMS = Row(
    CYCLE,
    "spec.store.uri",
    (
        "pvc://models",
        "pvc://models/",
        "pvc://models.team-a/a/b.jsonl",
        "pvc://m/..a/.b/c..d/...",
        "pvc://m/ü",
        "pvc://m/100%",
        "file:///a",
        "file:///a/b/",
        "file:///my%20models/100%25/%C3%BC",
    ),
    (
        "models/m0",
        "hf://org/model",
        "pvc://",
        "pvc:///m0",
        "pvc://Models/m0",
        "pvc://models-/m0",
        "pvc://models/..",
        "pvc://models/a/../x",
        "pvc://models/a b",
        "pvc://models/a\nb",
        "pvc://models/a\x00",
        "pvc://models/\x7f",
        "pvc://models/a?b",
        "pvc://models/a#b",
        "file://a",
        "file:///",
        "file:///..",
        "file:///a/../b",
        "file:///100%",
        "file:///a/%2E%2e/b",
        "file:///a%2fb",
        "file:///a%00",
    ),
)


def quantity(path: str) -> Row:
    accepted = ("0", "4", "500m", "1.5", ".5", "8Gi", "1e3", "1E-2", 0, 4, "1" * 32)
    return Row(CYCLE, path, accepted, ("", "-1", "1 Gi", "1GB", "Gi", 0.5, -1, True, "1" * 33))


def items(path: str, least: int, most: int, item: Callable[[int], object], kind: str = CYCLE) -> Row:
    """Lists of so many items."""
    fewer = ([item(index) for index in range(least - 1)],) if least else ()
    accepted = ([item(index) for index in range(least)], [item(index) for index in range(most)])
    return Row(kind, path, accepted, (*fewer, [item(index) for index in range(most + 1)], "a"))


def entries(path: str, most: int, kind: str = CYCLE, key: str = "key-") -> Row:
    """Maps of text to text with so many entries, whose keys begin so."""
    accepted: tuple[object, ...] = ({}, {f"{key}{index}": "1" for index in range(most)})
    return Row(kind, path, accepted, ({f"{key}{index}": "1" for index in range(most + 1)}, ["a"], "a"))


_NAMES = ("a", "A", "0", "a-b_c.D", "n" * 63, "example.com/pool", "a.b-c.d0/x", f"{'a.' * 126}a/{'n' * 63}")
_NO_NAMES = (
    "",
    "x y",
    "-a",
    "a-",
    "_a",
    "a.",
    "n" * 64,
    "A/B/C",
    "/a",
    "a/",
    "example..com/a",
    "-a.b/c",
    "é",
)


def keys(path: str, accepted: Sequence[str], refused: Sequence[str]) -> Row:
    """What the keys of a map may be, one at a time, told with the map."""
    good, bad = (tuple({key: "1"} for key in each) for each in (accepted, refused))
    return Row(CYCLE, path, good, bad, by_rule=True)


def unique(path: str, item: Callable[[int], object], key: str, kind: str = CYCLE) -> Row:
    """A second item with the same key is refused, where it stands."""
    twice = (f"{path}[1].{key}", [item(0), item(0)])
    return Row(kind, path, ([item(0), item(1)],), (twice,))


def mapping(path: str, *required: str, kind: str = CYCLE) -> Row:
    """An object with fields, some of them required."""
    absent = tuple((f"{path}.{field}", MISSING) for field in required)
    return Row(kind, path, (), (*absent, "a", (f"{path}.unknownField", 1)))


_IF_EXECUTING = "DuringSchedulingIgnoredDuringExecution"


def _requirements(path: str, most: int, *operators: str) -> tuple[Row, ...]:
    return (
        items(path, 0, most, lambda index: {"key": f"k{index}", "operator": "Exists"}),
        mapping(f"{path}[0]", "key", "operator"),
        text(f"{path}[0].key", 1, 317),
        choice(f"{path}[0].operator", *operators),
        items(f"{path}[0].values", 0, 32, lambda index: f"v{index}"),
        label_value(f"{path}[0].values[0]"),
    )


def _node_term(path: str) -> tuple[Row, ...]:
    operators = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
    return (
        mapping(path),
        *_requirements(f"{path}.matchExpressions", 16, *operators),
        *_requirements(f"{path}.matchFields", 4, *operators),
    )


def _selector(path: str) -> tuple[Row, ...]:
    return (
        mapping(path),
        entries(f"{path}.matchLabels", 16),
        label_value(f"{path}.matchLabels.app"),
        *_requirements(f"{path}.matchExpressions", 16, "In", "NotIn", "Exists", "DoesNotExist"),
    )


def _pod_term(path: str) -> tuple[Row, ...]:
    return (
        mapping(path, "topologyKey"),
        text(f"{path}.topologyKey", 1, 317),
        *_selector(f"{path}.labelSelector"),
        *_selector(f"{path}.namespaceSelector"),
        items(f"{path}.namespaces", 0, 16, lambda index: f"team-{index}"),
        text(f"{path}.namespaces[0]", 1, 63),
    )


def _preferred(path: str, preferred: str, term: Manifest) -> tuple[Row, ...]:
    return (
        items(path, 0, 16, lambda index: {"weight": index + 1, preferred: term}),
        mapping(f"{path}[0]", "weight", preferred),
        whole(f"{path}[0].weight", 1, 100),
    )


def _pod_affinity(path: str) -> tuple[Row, ...]:
    required, preferred = f"{path}.required{_IF_EXECUTING}", f"{path}.preferred{_IF_EXECUTING}"
    term = {"topologyKey": "zone"}
    return (
        mapping(path),
        items(required, 0, 16, lambda index: {"topologyKey": f"zone-{index}"}),
        *_pod_term(f"{required}[0]"),
        *_preferred(preferred, "podAffinityTerm", term),
        *_pod_term(f"{preferred}[0].podAffinityTerm"),
    )


def _affinity(path: str) -> tuple[Row, ...]:
    node = f"{path}.nodeAffinity"
    required, preferred = f"{node}.required{_IF_EXECUTING}", f"{node}.preferred{_IF_EXECUTING}"
    return (
        mapping(path),
        mapping(node),
        mapping(required, "nodeSelectorTerms"),
        items(f"{required}.nodeSelectorTerms", 1, 16, lambda _: {}),
        *_node_term(f"{required}.nodeSelectorTerms[0]"),
        *_preferred(preferred, "preference", {}),
        *_node_term(f"{preferred}[0].preference"),
        *_pod_affinity(f"{path}.podAffinity"),
        *_pod_affinity(f"{path}.podAntiAffinity"),
    )


_RESOURCES = (
    "cpu",
    "memory",
    "ephemeral-storage",
    "hugepages-2Mi",
    "nvidia.com/gpu",
    "example.com/mig-1g.5gb",
)
_NO_RESOURCES = (*_NO_NAMES, "gpu", "Memory", "CPU", "storage", "hugepages-", "Nvidia.com/gpu")


def _resources(path: str) -> tuple[Row, ...]:
    maps = (f"{path}.requests", f"{path}.limits")
    both = (maps, maps[::-1])
    return (
        mapping(path),
        *(entries(each, 16, key="example.com/key-") for each in maps),
        *(replace(keys(each, _RESOURCES, _NO_RESOURCES), given={other: MISSING}) for each, other in both),
        *(replace(quantity(f"{each}.memory"), given={other: MISSING}) for each, other in both),
    )


def _environment(path: str) -> tuple[Row, ...]:
    return (
        items(path, 0, 64, lambda index: {"name": f"V{index}", "value": ""}),
        mapping(f"{path}[0]", "name", "value"),
        pattern(f"{path}[0].name", 128, ("A", "_a1"), ("", "1A", "A-B", "A B")),
        text(f"{path}[0].value", 0, 4096),
    )


def _pod(path: str) -> tuple[Row, ...]:
    toleration = f"{path}.tolerations[0]"
    return (
        mapping(path),
        text(f"{path}.image", 1, 512),
        dotted_name(f"{path}.serviceAccountName"),
        dotted_name(f"{path}.priorityClassName"),
        name(f"{path}.queueName"),
        whole(f"{path}.activeDeadlineSeconds", 1, 31_536_000),
        whole(f"{path}.pendingDeadlineSeconds", 0, 31_536_000),
        whole(f"{path}.retries", 0, 20),
        whole(f"{path}.ttlSecondsAfterFinished", 0, 31_536_000),
        *_resources(f"{path}.resources"),
        quantity(f"{path}.sharedMemory"),
        entries(f"{path}.nodeSelector", 32),
        keys(f"{path}.nodeSelector", _NAMES, (*_NO_NAMES, "Example.com/a")),
        label_value(f"{path}.nodeSelector.pool"),
        *_affinity(f"{path}.affinity"),
        items(f"{path}.tolerations", 0, 32, lambda _: {"operator": "Exists"}),
        mapping(toleration),
        Row(CYCLE, f"{toleration}.key", _NAMES, (*_NO_NAMES, "Example.com/a", f"{'a.' * 127}/{'n' * 63}", 1)),
        replace(choice(f"{toleration}.operator", "Exists", "Equal"), given={f"{toleration}.value": MISSING}),
        label_value(f"{toleration}.value"),
        replace(
            choice(f"{toleration}.effect", "NoSchedule", "PreferNoSchedule", "NoExecute"),
            given={f"{toleration}.tolerationSeconds": MISSING},
        ),
        whole(f"{toleration}.tolerationSeconds", 0),
        items(f"{path}.imagePullSecrets", 0, 8, lambda index: {"name": f"secret-{index}"}),
        mapping(f"{path}.imagePullSecrets[0]", "name"),
        dotted_name(f"{path}.imagePullSecrets[0].name"),
        mapping(f"{path}.podSecurityContext"),
        whole(f"{path}.podSecurityContext.runAsUser", 1),
        whole(f"{path}.podSecurityContext.runAsGroup", 1),
        whole(f"{path}.podSecurityContext.fsGroup", 1),
        entries(f"{path}.podLabels", 32),
        keys(f"{path}.podLabels", _NAMES, (*_NO_NAMES, "Example.com/a")),
        label_value(f"{path}.podLabels.team"),
        entries(f"{path}.podAnnotations", 32),
        keys(f"{path}.podAnnotations", (*_NAMES, "Example.com/a"), _NO_NAMES),
        text(f"{path}.podAnnotations.note", 0, 4096),
        *_environment(f"{path}.env"),
    )


def _ppo(path: str) -> tuple[Row, ...]:
    rows = (
        mapping(path),
        whole(f"{path}.totalEpisodes", 2, 1_000_000_000, reckoned=True),
        whole(f"{path}.epochsPerBatch", 1, 100),
        number(f"{path}.clipRange", 0, 1, above=True, below=True),
        number(f"{path}.gamma", 0, 1, above=True),
        number(f"{path}.gaeLambda", 0, 1),
        number(f"{path}.valueCoefficient", 0, 100),
        number(f"{path}.targetKL", 0, 100, above=True),
        choice(f"{path}.klControl", "Stop", "Adaptive"),
        number(f"{path}.missingEOSPenalty", 0, 1_000_000),
        Row(CYCLE, f"{path}.lengthNormalizedReward", (True, False), ("true", "yes", 1)),
        Row(CYCLE, f"{path}.whitenRewards", (True, False), ("true", "yes", 1)),
    )
    return tuple(replace(row, given=_PPO) for row in rows)


def _server(path: str) -> tuple[Row, ...]:
    return (
        mapping(path, "image"),
        text(f"{path}.image", 1, 512),
        items(f"{path}.args", 0, 64, lambda index: f"--{index}"),
        text(f"{path}.args[0]", 0, 4096),
        *_resources(f"{path}.resources"),
        *_environment(f"{path}.env"),
    )


def _llm(judge: str, kind: str = CYCLE) -> tuple[Row, ...]:
    path = f"{judge}.llm"
    whole_one = {
        "baseURL": "http://judge:8000/v1",
        "model": "m",
        "apiKeySecretRef": {"name": "judge", "key": "api-key"},
        "budget": {},
    }
    given = {f"{judge}.rewardModel": MISSING, path: whole_one}
    rows = (
        mapping(path, "baseURL", "model"),
        address(f"{path}.baseURL"),
        text(f"{path}.model", 1, 256),
        *secret_key(f"{path}.apiKeySecretRef"),
        text(f"{path}.rubric", 1, 8192),
        whole(f"{path}.maxConcurrency", 1, 1024),
        mapping(f"{path}.budget"),
        whole(f"{path}.budget.maxRequests", 1, 10**12),
        whole(f"{path}.budget.maxTokens", 1, 10**12),
    )
    return tuple(replace(row, kind=kind, given=row.given | given) for row in rows)


_PUBLIC_KEYS = (
    """-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEJupjiLyDw8tscNam+MSmu0ZsDvZ0RYAc
U6Ja4QCGHHXjoLw8jNCCHBfSuaETF3D8xvVrbx+tzm9RAslUC4RTAkvKVc7O8JBx
BR9DBJ8mtSI+L96rPQ499vY1ZK8hnFNK
-----END PUBLIC KEY-----
""",
    """-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBCv2bJiyCSVhlLDqxaZj9Nj6KOuHl
iNKrdTP8+b7v8F8WJwY0/3+fBZoC1GImc7ECp/6gd/zGw8NIO00zp/BjsmABifUA
S8eNDbjmfBeQqEj2M0WzJjhVOrP4glheN64fQQzQDAB7GpjmUKNO2VZzIZckOpcH
b59niAfIPDIZUhM4DJs=
-----END PUBLIC KEY-----
""",
)
_NO_PUBLIC_KEYS = (  # a private key above all
    "key.pub",
    PUBLIC_KEY.replace("PUBLIC", "PRIVATE"),
    PUBLIC_KEY.replace("PUBLIC KEY", "CERTIFICATE"),
    PUBLIC_KEY.replace("MFkwEwYHKoZIzj0CAQYI", "MIIBIjANBgkqhkiG9w0B"),  # RSA
    PUBLIC_KEY.replace("\n", ""),
    PUBLIC_KEY + PUBLIC_KEY,
)
_FROM_DATASETS: dict[str, object] = {
    "spec.prompts.uri": MISSING,
    "spec.prompts.fromDatasets": True,
    "spec.datasets": [{"name": "d0"}],
    "spec.judge.shortCorrectPercent": MISSING,
}

ROWS: tuple[Row, ...] = (
    mapping("spec", "policy", "store", "evaluation"),
    Row(CYCLE, "spec.suspend", (True, False), ("true", "yes", 1)),
    mapping("spec.trigger"),
    SCHEDULE,
    TIME_ZONE,
    whole("spec.trigger.startingDeadlineSeconds", 10, 31_536_000),
    whole("spec.trigger.newPairs", 1, 1_000_000_000),
    whole("spec.trigger.cooldownSeconds", 0, 31_536_000),
    mapping("spec.policy", "model"),
    # Its accepted values are tried on creation; that it never changes afterwards is a test of its own.
    uri("spec.policy.model"),
    choice("spec.policy.reference", "Previous", "Initial"),
    choice("spec.policy.start", "Previous", "Initial"),
    mapping("spec.store", "uri"),
    uri("spec.store.uri"),
    URI_FORMS,
    mapping("spec.prompts"),
    uri("spec.prompts.uri"),
    Row(CYCLE, "spec.prompts.fromDatasets", (True,), ("true", "yes", 1), _FROM_DATASETS),
    whole("spec.prompts.perIteration", 1),
    replace(choice("spec.prompts.spread", "None", "Clusters"), given=_FROM_DATASETS),
    replace(
        items("spec.datasets", 0, 16, lambda index: {"name": f"d{index}"}),
        given={"spec.trigger.newPairs": MISSING, "spec.reward": MISSING},
    ),
    unique("spec.datasets", lambda index: {"name": f"d{index}"}, "name"),
    mapping("spec.datasets[0]", "name"),
    name("spec.datasets[0].name"),
    number("spec.datasets[0].weight", 0, 1000, above=True),
    whole("spec.datasets[0].maxPairs", 1),
    mapping("spec.sampling"),
    whole("spec.sampling.completionsPerPrompt", 2, 64),
    number("spec.sampling.temperature", 0, 10, above=True),
    number("spec.sampling.topP", 0, 1, above=True),
    whole("spec.sampling.maxNewTokens", 1, 131_072),
    whole("spec.sampling.seed", 0, 2_147_483_647),
    whole("spec.sampling.shards", 1, 32),
    *_server("spec.sampling.server"),
    mapping("spec.judge"),
    mapping("spec.judge.verifier"),
    mapping("spec.judge.rewardModel"),
    uri("spec.judge.rewardModel.uri"),
    whole("spec.judge.rewardModel.batchSize", 1, 4096),
    *_llm("spec.judge"),
    choice("spec.judge.pairs", "BestWorst", "BestRandom", "AllPairs"),
    number("spec.judge.minMargin", 0),
    mapping("spec.judge.lengthPenalty"),
    replace(
        choice("spec.judge.lengthPenalty.type", "None", "Residual"), given={"spec.judge.lengthPenalty": {}}
    ),
    replace(
        choice("spec.judge.lengthPenalty.type", "Linear"),
        given={"spec.judge.lengthPenalty": {"coefficient": 0.01}},
    ),
    replace(
        number("spec.judge.lengthPenalty.coefficient", 0, 1e6, above=True),
        given={"spec.judge.lengthPenalty": {"type": "Linear", "coefficient": 1}},
    ),
    number("spec.judge.shortCorrectPercent", 0, 90),
    mapping("spec.reward", "model"),
    uri("spec.reward.model"),
    whole("spec.reward.epochs", 1, 1000),
    number("spec.reward.learningRate", 0, 1, above=True),
    whole("spec.reward.minPairs", 2, 1_000_000_000),
    mapping("spec.training"),
    replace(
        choice("spec.training.method", "DPO", "IPO", "KTO", "BestOfN", "PPO"),
        given=_WITHOUT_PAIRS | {"spec.training.beta": MISSING, "spec.training.perDeviceBatchSize": 2},
    ),
    number("spec.training.beta", 0, 100, above=True),
    number("spec.training.learningRate", 0, 1, above=True),
    whole("spec.training.epochs", 1, 1000),
    whole("spec.training.perDeviceBatchSize", 1, 4096),
    whole("spec.training.gradientAccumulationSteps", 1, 4096),
    whole("spec.training.maxLength", 2, 1_048_576),
    mapping("spec.training.lora"),
    whole("spec.training.lora.rank", 1, 1024),
    whole("spec.training.lora.alpha", 1, 4096),
    number("spec.training.lora.dropout", 0, 1, below=True),
    text("spec.training.lora.targetModules", 1, 1024),
    replace(
        choice("spec.training.precision", "Auto", "BF16", "FP16", "FP32"),
        given={"spec.training.sharding": MISSING},
    ),
    whole("spec.training.checkpointEverySteps", 1),
    whole("spec.training.seed", 0, 2_147_483_647),
    whole("spec.training.nodes", 1, 64),
    whole("spec.training.processesPerNode", 1, 64),
    choice("spec.training.sharding", "None", "FSDP", "ZeRO3"),
    Row(
        CYCLE,
        "spec.training.arguments",
        ({}, {"weight_decay": 0.01, "warmup_steps": 0.1, "use_weighting": True}, _EVERY_ARGUMENT),
        (_EVERY_ARGUMENT | {"neftune_noise_alpha": 5}, ["a"], "a"),
    ),
    *_ppo("spec.training.ppo"),
    mapping("spec.evaluation", "goldSet", "heldOutPrompts"),
    mapping("spec.evaluation.goldSet", "uri"),
    uri("spec.evaluation.goldSet.uri"),
    replace(
        number("spec.evaluation.goldSet.temperature", 0, 10),
        given={"spec.evaluation.goldSet.samplesPerItem": 1},
    ),
    whole("spec.evaluation.goldSet.samplesPerItem", 1, 64),
    whole("spec.evaluation.goldSet.maxNewTokens", 1, 131_072),
    mapping("spec.evaluation.heldOutPrompts", "uri"),
    uri("spec.evaluation.heldOutPrompts.uri"),
    whole("spec.evaluation.heldOutPrompts.maxNewTokens", 1, 131_072),
    mapping("spec.evaluation.comparison"),
    # Not 1.0: kubectl never sends it, and a rule in CEL over whole numbers cannot read it.
    replace(
        whole("spec.evaluation.comparison.minComparisons", 1, 1_000_000),
        accepted=(1, 1_000_000),
        given={"spec.evaluation.comparison.maxComparisons": 1_000_000},
    ),
    replace(
        whole("spec.evaluation.comparison.maxComparisons", 1, 1_000_000),
        accepted=(1, 1_000_000),
        given={"spec.evaluation.comparison.minComparisons": 1},
    ),
    mapping("spec.evaluation.comparison.judge"),
    mapping("spec.evaluation.comparison.judge.verifier"),
    mapping("spec.evaluation.comparison.judge.rewardModel"),
    uri("spec.evaluation.comparison.judge.rewardModel.uri"),
    whole("spec.evaluation.comparison.judge.rewardModel.batchSize", 1, 4096),
    *_llm("spec.evaluation.comparison.judge"),
    mapping("spec.evaluation.pythonGrader"),
    *_resources("spec.evaluation.pythonGrader.resources"),
    number("spec.evaluation.confidencePercent", 50, 100, below=True),
    mapping("spec.gates"),
    mapping("spec.gates.goldSet"),
    choice("spec.gates.goldSet.mode", "NoHarm", "NonInferior"),
    number("spec.gates.goldSet.maxDropPoints", 0, 100),
    number("spec.gates.goldSet.maxDropFromInitialPoints", 0, 100),
    number("spec.gates.goldSet.maxUndetectedDropPoints", 0, 100),
    items("spec.gates.goldSet.categories", 0, 16, lambda index: {"name": f"c{index}", "maxDropPoints": 1}),
    unique("spec.gates.goldSet.categories", lambda index: {"name": f"c{index}", "maxDropPoints": 1}, "name"),
    mapping("spec.gates.goldSet.categories[0]", "name", "maxDropPoints"),
    text("spec.gates.goldSet.categories[0].name", 1, 63),
    number("spec.gates.goldSet.categories[0].maxDropPoints", 0, 100),
    mapping("spec.gates.lengthDrift"),
    number("spec.gates.lengthDrift.maxIncreasePercent", 0, 10_000),
    number("spec.gates.lengthDrift.maxIncreaseFromInitialPercent", 0, 10_000),
    number("spec.gates.lengthDrift.maxDecreasePercent", 0, 100, below=True),
    mapping("spec.gates.collapse"),
    number("spec.gates.collapse.maxDistinctDropPercent", 0, 100),
    number("spec.gates.collapse.maxDistinctDropFromInitialPercent", 0, 100),
    mapping("spec.gates.contamination"),
    choice("spec.gates.contamination.action", "Exclude", "Fail"),
    mapping("spec.gates.contamination.embedding", "model"),
    uri("spec.gates.contamination.embedding.model"),
    number("spec.gates.contamination.embedding.minSimilarityPercent", 0, 100),
    mapping("spec.gates.divergence"),
    number("spec.gates.divergence.maxNatsPerToken", 0, 100, above=True),
    number("spec.gates.divergence.maxNatsPerTokenFromInitial", 0, 100, above=True),
    mapping("spec.gates.winRate"),
    number("spec.gates.winRate.minPercent", 0, 100, below=True),
    number("spec.gates.winRate.falseDiscoveryPercent", 0, 50, above=True),
    mapping("spec.gates.rewardHacking"),
    choice("spec.gates.onInconclusive", "Hold", "Reject"),
    mapping("spec.promotion"),
    choice("spec.promotion.mode", "Automatic", "Manual"),
    items("spec.promotion.targets", 0, 16, lambda index: {"configMap": {"name": f"m{index}", "key": "uri"}}),
    mapping("spec.promotion.targets[0]"),
    mapping("spec.promotion.targets[0].configMap", "name", "key"),
    dotted_name("spec.promotion.targets[0].configMap.name"),
    pattern("spec.promotion.targets[0].configMap.key", 253, ("uri", "A_b.c-d"), ("", "a/b", "a b")),
    Row(  # no value that the other key has in the same batch
        CYCLE,
        "spec.promotion.targets[0].configMap.digestKey",
        ("sha", "D_e.f-g", "d" * 253),
        ("", "d/e", "d e", "d" * 254, 1),
    ),
    mapping("spec.promotion.targets[1].inferenceService", "name"),
    name("spec.promotion.targets[1].inferenceService.name"),
    mapping("spec.promotion.signature", "privateKeySecretRef", "publicKeys"),
    *secret_key("spec.promotion.signature.privateKeySecretRef"),
    items("spec.promotion.signature.publicKeys", 1, 4, lambda _: PUBLIC_KEY),
    Row(
        CYCLE,
        "spec.promotion.signature.publicKeys[0]",
        (PUBLIC_KEY, PUBLIC_KEY.strip(), PUBLIC_KEY.ljust(512), *_PUBLIC_KEYS),
        (*_NO_PUBLIC_KEYS, PUBLIC_KEY.ljust(513), "", 1),
    ),
    choice("spec.promotion.signature.unsigned", "Refuse", "Allow"),
    Row(
        CYCLE,
        "spec.stages",
        ({}, {stage: {} for stage in STAGES}),
        ({stage: {} for stage in (*STAGES, "collect")}, "a"),
    ),
    Row(CYCLE, "spec.stages", (), ({"": {}}, {"collect": {}}), by_rule=True),
    mapping("spec.stages.train"),
    mapping("spec.history"),
    whole("spec.history.iterations", 1, 100),
    whole("spec.history.keepPromoted", 1, 20),
    whole("spec.history.keepCandidates", 0, 20),
    whole("spec.history.keepPromoted", 1, 20),
    whole("spec.history.keepCandidates", 0, 20),
    # Stages and datasets take the same settings: test_constraints.py compares the schemas.
    *_pod("spec.defaults"),
    mapping("spec", "store", "sources", kind=DATASET),
    Row(DATASET, "spec.suspend", (True, False), ("true", "yes", 1)),
    mapping("spec.store", "uri", kind=DATASET),
    uri("spec.store.uri", DATASET),
    mapping("spec.retention", kind=DATASET),
    whole("spec.retention.revisions", 1, 20, kind=DATASET),
    items("spec.sources", 1, 16, lambda index: {"name": f"s{index}", "files": {"uri": "pvc://a/b"}}, DATASET),
    unique(
        "spec.sources", lambda index: {"name": f"s{index}", "files": {"uri": "pvc://a/b"}}, "name", DATASET
    ),
    mapping("spec.sources[0]", "name", kind=DATASET),
    name("spec.sources[0].name", DATASET),
    mapping("spec.sources[0].files", "uri", kind=DATASET),
    *source_uri("spec.sources[0].files"),
    entries("spec.sources[0].files.columns", 16, DATASET),
    Row(
        DATASET,
        "spec.sources[0].files.columns",
        ({"q" * 128: "a"},),
        ({"": "a"}, {"q" * 129: "a"}),
        by_rule=True,
    ),
    text("spec.sources[0].files.columns.q", 1, 128, DATASET),
    choice("spec.sources[0].files.format", "Auto", "Paired", "Unpaired", "Ranked", kind=DATASET),
    mapping("spec.sources[1].inferenceLog", "uri", "format", kind=DATASET),
    *source_uri("spec.sources[1].inferenceLog"),
    choice("spec.sources[1].inferenceLog.format", "OpenAI", "LiteLLM", "OTelGenAI", kind=DATASET),
    Row(DATASET, "spec.sources[1].inferenceLog.feedback", (True, False), ("true", 1)),
    number("spec.sources[1].inferenceLog.samplePercent", 0, 100, above=True, kind=DATASET),
    mapping("spec.sources[1].inferenceLog.judge", kind=DATASET),
    mapping("spec.sources[1].inferenceLog.judge.rewardModel", kind=DATASET),
    uri("spec.sources[1].inferenceLog.judge.rewardModel.uri", DATASET),
    whole("spec.sources[1].inferenceLog.judge.rewardModel.batchSize", 1, 4096, kind=DATASET),
    *_llm("spec.sources[1].inferenceLog.judge", DATASET),
    replace(
        mapping("spec.sources[1].inferenceLog.judge.verifier", "prompts", kind=DATASET),
        given={
            "spec.sources[1].inferenceLog.judge": {"verifier": {"prompts": "pvc://models/known.jsonl"}},
        },
    ),
    replace(
        uri("spec.sources[1].inferenceLog.judge.verifier.prompts", DATASET),
        given={"spec.sources[1].inferenceLog.judge": {"verifier": {}}},
    ),
    whole("spec.sources[1].inferenceLog.judge.checkPairs", 0, 100_000, kind=DATASET),
    mapping("spec.sources[2].labelStudio", "url", "projectID", "tokenSecretRef", kind=DATASET),
    address("spec.sources[2].labelStudio.url", DATASET),
    whole("spec.sources[2].labelStudio.projectID", 1, kind=DATASET),
    *secret_key("spec.sources[2].labelStudio.tokenSecretRef", DATASET),
    whole("spec.sources[2].labelStudio.pushPairs", 1, 1000, kind=DATASET),
    mapping("spec.refresh", "schedule", kind=DATASET),
    replace(SCHEDULE, kind=DATASET, path="spec.refresh.schedule"),
    replace(TIME_ZONE, kind=DATASET, path="spec.refresh.timeZone"),
    mapping("spec.curation", kind=DATASET),
    mapping("spec.curation.contamination", "goldSets", kind=DATASET),
    items("spec.curation.contamination.goldSets", 1, 16, lambda index: f"pvc://a/{index}", DATASET),
    uri("spec.curation.contamination.goldSets[0]", DATASET),
    number("spec.curation.contamination.minSimilarityPercent", 0, 100, kind=DATASET),
    mapping("spec.curation.filter", "model", "flagBelow", kind=DATASET),
    uri("spec.curation.filter.model", DATASET),
    Row(DATASET, "spec.curation.filter.flagBelow", (-4.5, 0, 0.5, 1), ("0.5", "50%", True)),
    choice("spec.curation.filter.action", "Label", "Drop", kind=DATASET),
    mapping("spec.curation.deduplicate", kind=DATASET),
    number("spec.curation.deduplicate.similarityPercent", 50, 100, kind=DATASET),
    mapping("spec.curation.embedding", "model", kind=DATASET),
    uri("spec.curation.embedding.model", DATASET),
    mapping("spec.curation.pii", kind=DATASET),
    choice("spec.curation.pii.action", "Drop", "Redact", "Flag", kind=DATASET),
    choice("spec.curation.conflicts", "Drop", "KeepLatest", "KeepMajority", kind=DATASET),
    whole("spec.curation.maxPairsPerSource", 1, kind=DATASET),
    number("spec.curation.maxLongerChosenPercent", 0, 100, kind=DATASET),
)


@dataclass(frozen=True)
class SpanningRow:
    """A rule over several fields: values by path, all set at once, on the manifest that says everything."""

    kind: str
    message: str  # as both judges say it
    path: str  # where both say that the problem is
    accepted: tuple[dict[str, object], ...]
    refused: tuple[dict[str, object], ...]

    def __str__(self) -> str:
        return f"{self.kind}-{self.path}-{self.message[:40]}"


@dataclass(frozen=True)
class Example:
    """One value of one row."""

    kind: str
    problem: str  # the path of the problem that it makes, if it is refused
    values: dict[str, object]  # by path
    by_rule: bool = False

    @property
    def manifest(self) -> Manifest:
        return with_values(self.kind, self.values)


def accepted(rows: Sequence[Row]) -> list[Example]:
    return [
        Example(row.kind, row.path, row.given | {row.path: value}) for row in rows for value in row.accepted
    ]


def refused(rows: Sequence[Row]) -> list[Example]:
    found = []
    for row in rows:
        for case in row.refused:
            problem, value = case if isinstance(case, tuple) else (row.path, case)
            at = row.path if problem.startswith(f"{row.path}[") else problem
            found.append(Example(row.kind, problem, row.given | {at: value}, row.by_rule))
    return found


def batches(examples: Sequence[Example]) -> list[list[Example]]:
    """As few groups as can be of examples of one kind that do not touch each other's fields."""
    groups: list[list[Example]] = []
    for example in examples:
        group = next((group for group in groups if not any(_touch(example, other) for other in group)), None)
        if group is None:
            groups.append([example])
        else:
            group.append(example)
    return groups


def _touch(one: Example, other: Example) -> bool:
    unknown_field = one.problem.endswith("unknownField") != other.problem.endswith("unknownField")
    return (
        one.kind != other.kind
        or one.by_rule != other.by_rule
        or unknown_field  # the server looks at values only if it knows all fields
        or any(_above(a, b) or _above(b, a) for a in one.values for b in other.values)
    )


def _above(path: str, other: str) -> bool:
    return other == path or other.startswith((f"{path}.", f"{path}["))


def with_values(kind: str, values: Mapping[str, object]) -> Manifest:
    manifest = BY_KIND[kind]
    for path, value in values.items():
        manifest = with_value(manifest, path, value)
    return manifest


_ONE_JUDGE = "name exactly one of rewardModel, llm, verifier"
_LOG = {"uri": "pvc://a/b", "format": "OpenAI"}
_LLM = {"baseURL": "https://a/v1", "model": "m"}
_REWARD_MODEL = {"uri": "pvc://a/b"}
_NO_COMPARISON: dict[str, object] = {
    "spec.evaluation.comparison": MISSING,
    "spec.gates.winRate": MISSING,
    "spec.gates.rewardHacking": MISSING,
}

_NO_DATASETS: dict[str, object] = {"spec.datasets": MISSING, "spec.reward": MISSING}
_NOT_TRAINED = "is required without spec.reward, which would train one: name a reward model, or add reward"

_RESOURCES_OF = "spec.defaults.resources"
_TOLERATIONS = "spec.defaults.tolerations"

_BEST_OF_N = {
    "spec.training.method": "BestOfN",
    "spec.training.beta": MISSING,
    "spec.training.arguments": MISSING,
}

RULES: tuple[SpanningRow, ...] = (
    SpanningRow(
        CYCLE,
        "is of no use to BestOfN, which anchors to no reference; leave it out",
        "spec.training.beta",
        ({"spec.training.method": "BestOfN", "spec.training.beta": MISSING},),
        ({"spec.training.method": "BestOfN", "spec.training.beta": 0.1},),
    ),
    SpanningRow(
        CYCLE,
        "is of no use to BestOfN, which anchors to no reference; leave it out",
        "spec.policy.reference",
        ({**_BEST_OF_N, "spec.policy.reference": "Previous"}, {"spec.policy.reference": "Initial"}),
        ({**_BEST_OF_N, "spec.policy.reference": "Initial"},),
    ),
    SpanningRow(
        CYCLE,
        "must be at least 2 for KTO, which estimates its KL within a batch",
        "spec.training.perDeviceBatchSize",
        ({"spec.training.method": "KTO", "spec.training.perDeviceBatchSize": 2},),
        ({"spec.training.method": "KTO", "spec.training.perDeviceBatchSize": 1},),
    ),
    SpanningRow(
        CYCLE,
        "is empty and there is no prompts: give prompts to sample on, or datasets to train on",
        "spec.datasets",
        (
            {"spec.prompts": MISSING},
            _NO_DATASETS | {"spec.trigger.newPairs": MISSING},
            {"spec.datasets": [], "spec.trigger.newPairs": MISSING, "spec.reward": MISSING},
        ),
        ({"spec.prompts": MISSING, "spec.datasets": []}, {"spec.prompts": MISSING, "spec.datasets": MISSING}),
    ),
    SpanningRow(
        CYCLE,
        "name exactly one of uri and fromDatasets: true",
        "spec.prompts",
        (_FROM_DATASETS, {"spec.prompts.fromDatasets": False}),
        (
            {"spec.prompts.uri": MISSING},
            {"spec.prompts.uri": MISSING, "spec.prompts.fromDatasets": False},
            _FROM_DATASETS | {"spec.prompts.uri": "pvc://a/b"},
        ),
    ),
    SpanningRow(
        CYCLE,
        "needs fromDatasets and perIteration: it says which of the datasets' prompts are drawn",
        "spec.prompts.spread",
        (
            _FROM_DATASETS | {"spec.prompts.spread": "Clusters"},
            {"spec.prompts.spread": "None"},
            _FROM_DATASETS | {"spec.prompts.spread": "None", "spec.prompts.perIteration": MISSING},
        ),
        (
            {"spec.prompts.spread": "Clusters"},
            _FROM_DATASETS | {"spec.prompts.spread": "Clusters", "spec.prompts.perIteration": MISSING},
        ),
    ),
    SpanningRow(
        CYCLE,
        "needs datasets: it samples on their prompts",
        "spec.prompts.fromDatasets",
        (_FROM_DATASETS,),
        (
            _FROM_DATASETS | _NO_DATASETS | {"spec.trigger.newPairs": MISSING},
            _FROM_DATASETS | {"spec.datasets": [], "spec.trigger.newPairs": MISSING, "spec.reward": MISSING},
        ),
    ),
    SpanningRow(
        CYCLE,
        "checks answers by `answer` and `grader` of each prompt, which those of datasets do not have: give "
        "prompts.uri, or another judge",
        "spec.judge.verifier",
        ({"spec.judge": {"verifier": {}}}, _FROM_DATASETS),
        (_FROM_DATASETS | {"spec.judge": {"verifier": {}}},),
    ),
    SpanningRow(
        CYCLE,
        "needs prompts with `answer` and `grader`, which those of datasets do not have: give prompts.uri, "
        "or leave it out",
        "spec.judge.shortCorrectPercent",
        (
            {"spec.judge.shortCorrectPercent": 10},
            _FROM_DATASETS,
            _FROM_DATASETS | {"spec.judge.shortCorrectPercent": 0},
        ),
        (_FROM_DATASETS | {"spec.judge.shortCorrectPercent": 10},),
    ),
    SpanningRow(
        CYCLE,
        "has a weight, which counts pairs for each sampled one, and without prompts none is: give maxPairs instead",
        "spec.datasets",
        ({"spec.datasets[0].weight": 0.5},),
        ({"spec.prompts": MISSING, "spec.datasets[0].weight": 0.5},),
    ),
    SpanningRow(
        CYCLE,
        "is required with prompts: sampled completions must be ranked",
        "spec.judge",
        ({"spec.judge": MISSING, "spec.prompts": MISSING, "spec.gates.rewardHacking": MISSING},),
        ({"spec.judge": MISSING, "spec.gates.rewardHacking": MISSING},),
    ),
    SpanningRow(
        CYCLE,
        "starts nothing: give schedule, newPairs or both, or leave trigger out",
        "spec.trigger",
        (
            {"spec.trigger": MISSING},
            {"spec.trigger": {"newPairs": 1}},
            {"spec.trigger": {"schedule": "0 3 * * 1"}},
        ),
        ({"spec.trigger": {}}, {"spec.trigger": {"cooldownSeconds": 60}}),
    ),
    SpanningRow(
        CYCLE,
        "holds a value that its field cannot have: minute 0-59, hour 0-23, day of month 1-31 or L or LW, "
        "month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT",
        "spec.trigger.schedule",
        ({"spec.trigger.schedule": "0 3 * * 1"},),
        tuple({"spec.trigger.schedule": each} for each in _OUT_OF_RANGE),
    ),
    *(
        SpanningRow(
            DATASET,
            "is for s3://, gs:// and az:// alone; take it out",
            f"{path}.credentialsSecretRef",
            ({f"{path}.uri": "pvc://a/b", f"{path}.credentialsSecretRef": MISSING},),
            ({f"{path}.uri": "pvc://a/b"}, {f"{path}.uri": "file:///a/b"}),
        )
        for path in ("spec.sources[0].files", "spec.sources[1].inferenceLog")
    ),
    SpanningRow(
        DATASET,
        "name exactly one of rewardModel, llm, verifier",
        "spec.sources[1].inferenceLog.judge",
        tuple(
            {"spec.sources[1].inferenceLog.judge": judge}
            for judge in (
                MISSING,
                {"llm": _LLM},
                {"verifier": {"prompts": "pvc://models/known.jsonl"}},
            )
        ),
        tuple(
            {"spec.sources[1].inferenceLog.judge": judge}
            for judge in ({}, {"checkPairs": 10}, {"llm": _LLM, "rewardModel": _REWARD_MODEL})
        ),
    ),
    SpanningRow(
        DATASET,
        "is needed here: a dataset trains no reward model",
        "spec.sources[1].inferenceLog.judge.rewardModel.uri",
        ({"spec.sources[1].inferenceLog.judge": {"rewardModel": _REWARD_MODEL}},),
        ({"spec.sources[1].inferenceLog.judge.rewardModel.uri": MISSING},),
    ),
    SpanningRow(
        DATASET,
        "name the model that tells what is alike: curation.embedding",
        "spec.curation.embedding",
        (
            {"spec.curation.deduplicate": MISSING},
            {"spec.curation.contamination": MISSING},
            {"spec.curation.contamination.minSimilarityPercent": MISSING},
            {
                "spec.curation.deduplicate": MISSING,
                "spec.curation.contamination.minSimilarityPercent": MISSING,
                "spec.curation.embedding": MISSING,
            },
            {
                "spec.curation.deduplicate": MISSING,
                "spec.curation.contamination": MISSING,
                "spec.curation.embedding": MISSING,
            },
        ),
        (
            {"spec.curation.embedding": MISSING},
            {"spec.curation.contamination": MISSING, "spec.curation.embedding": MISSING},
            {"spec.curation.deduplicate": MISSING, "spec.curation.embedding": MISSING},
        ),
    ),
    SpanningRow(
        DATASET,
        "holds a value that its field cannot have: minute 0-59, hour 0-23, day of month 1-31 or L or LW, "
        "month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT",
        "spec.refresh.schedule",
        ({"spec.refresh.schedule": "*/30 * * * *"},),
        tuple({"spec.refresh.schedule": each} for each in _OUT_OF_RANGE),
    ),
    SpanningRow(
        CYCLE,
        "means nothing without schedule",
        "spec.trigger.timeZone",
        ({"spec.trigger": {"newPairs": 1, "timeZone": "Etc/UTC"}},),
        ({"spec.trigger.schedule": MISSING},),
    ),
    SpanningRow(
        CYCLE,
        "needs datasets: it counts their pairs",
        "spec.trigger.newPairs",
        (_NO_DATASETS | {"spec.trigger.newPairs": MISSING},),
        ({"spec.datasets": MISSING}, {"spec.datasets": []}),
    ),
    SpanningRow(
        CYCLE,
        "needs datasets: it is trained on their pairs",
        "spec.reward",
        (_NO_DATASETS | {"spec.trigger.newPairs": MISSING},),
        tuple({"spec.datasets": none, "spec.trigger.newPairs": MISSING} for none in (MISSING, [])),
    ),
    SpanningRow(
        CYCLE,
        _NOT_TRAINED,
        "spec.judge.rewardModel.uri",
        ({"spec.judge.rewardModel.uri": MISSING}, {"spec.reward": MISSING}),
        ({"spec.judge.rewardModel.uri": MISSING, "spec.reward": MISSING},),
    ),
    SpanningRow(
        CYCLE,
        _NOT_TRAINED,
        "spec.evaluation.comparison.judge.rewardModel.uri",
        ({"spec.evaluation.comparison.judge.rewardModel": {}}, {"spec.reward": MISSING}),
        ({"spec.evaluation.comparison.judge.rewardModel": {}, "spec.reward": MISSING},),
    ),
    SpanningRow(
        CYCLE,
        "needs a judge: give evaluation.comparison.judge or judge",
        "spec.evaluation.comparison",
        ({"spec.evaluation.comparison.judge": MISSING},),
        (
            {
                "spec.evaluation.comparison.judge": MISSING,
                "spec.judge": MISSING,
                "spec.prompts": MISSING,
                "spec.gates.rewardHacking": MISSING,
            },
        ),
    ),
    SpanningRow(
        CYCLE,
        "needs evaluation.comparison",
        "spec.gates.winRate",
        (_NO_COMPARISON,),
        (_NO_COMPARISON | {"spec.gates.winRate": {}},),
    ),
    SpanningRow(
        CYCLE,
        "needs evaluation.comparison and judge",
        "spec.gates.rewardHacking",
        (_NO_COMPARISON,),
        (
            _NO_COMPARISON | {"spec.gates.rewardHacking": {}},
            {"spec.judge": MISSING, "spec.prompts": MISSING},
        ),
    ),
    SpanningRow(
        CYCLE,
        "is what Linear takes a token, and no other type has one",
        "spec.judge.lengthPenalty.coefficient",
        (
            {"spec.judge.lengthPenalty": {"type": "Linear", "coefficient": 0.01}},
            {"spec.judge.lengthPenalty": {}},
        ),
        (
            {"spec.judge.lengthPenalty": {"type": "Linear"}},
            {"spec.judge.lengthPenalty": {"type": "Residual", "coefficient": 0.01}},
            {"spec.judge.lengthPenalty": {"coefficient": 0.01}},
        ),
    ),
    SpanningRow(
        CYCLE,
        _ONE_JUDGE,
        "spec.judge",
        ({"spec.judge": {"verifier": {}}}, {"spec.judge": {"rewardModel": _REWARD_MODEL}}),
        (
            {"spec.judge": {}},
            {"spec.judge": {"verifier": {}, "rewardModel": _REWARD_MODEL}},
            {"spec.judge": {"llm": _LLM, "rewardModel": _REWARD_MODEL}},
            {"spec.judge": {"llm": _LLM, "verifier": {}}},
        ),
    ),
    SpanningRow(
        CYCLE,
        _ONE_JUDGE,
        "spec.evaluation.comparison.judge",
        (
            {"spec.evaluation.comparison.judge": {"verifier": {}}},
            {"spec.evaluation.comparison.judge": {"llm": _LLM}},
        ),
        (
            {"spec.evaluation.comparison.judge": {}},
            {"spec.evaluation.comparison.judge": {"verifier": {}, "rewardModel": _REWARD_MODEL}},
        ),
    ),
    SpanningRow(
        CYCLE,
        "must be 1 when temperature is 0: greedy answers are all the same",
        "spec.evaluation.goldSet.samplesPerItem",
        (
            {"spec.evaluation.goldSet.temperature": 0, "spec.evaluation.goldSet.samplesPerItem": 1},
            {"spec.evaluation.goldSet.temperature": 10, "spec.evaluation.goldSet.samplesPerItem": 64},
        ),
        (
            {"spec.evaluation.goldSet.temperature": 0, "spec.evaluation.goldSet.samplesPerItem": 2},
            {"spec.evaluation.goldSet.temperature": MISSING, "spec.evaluation.goldSet.samplesPerItem": 2},
        ),
    ),
    SpanningRow(
        CYCLE,
        "must be at most maxComparisons",
        "spec.evaluation.comparison.minComparisons",
        (
            {"spec.evaluation.comparison.minComparisons": 7, "spec.evaluation.comparison.maxComparisons": 7},
            {
                "spec.evaluation.comparison.minComparisons": 1_000_000,
                "spec.evaluation.comparison.maxComparisons": 1_000_000,
            },
        ),
        ({"spec.evaluation.comparison.minComparisons": 8, "spec.evaluation.comparison.maxComparisons": 7},),
    ),
    SpanningRow(
        CYCLE,
        "name exactly one of configMap, inferenceService",
        "spec.promotion.targets[0]",
        (
            {"spec.promotion.targets": [{"configMap": {"name": "a", "key": "b"}}]},
            {"spec.promotion.targets": [{"inferenceService": {"name": "a"}}]},
        ),
        (
            {"spec.promotion.targets": [{}]},
            {
                "spec.promotion.targets": [
                    {"configMap": {"name": "a", "key": "b"}, "inferenceService": {"name": "a"}}
                ]
            },
        ),
    ),
    SpanningRow(
        CYCLE,
        "a digestKey is a key of the same ConfigMap, which holds the URI; give the digest a key of its own",
        "spec.promotion.targets",
        (
            {"spec.promotion.targets": [{"configMap": {"name": "a", "key": "b", "digestKey": "c"}}]},
            {
                "spec.promotion.targets": [
                    {"configMap": {"name": "a", "key": "b", "digestKey": "c"}},
                    {"configMap": {"name": "b", "key": "c", "digestKey": "b"}},
                    {"inferenceService": {"name": "a"}},
                ]
            },
        ),
        (
            {"spec.promotion.targets": [{"configMap": {"name": "a", "key": "b", "digestKey": "b"}}]},
            {
                "spec.promotion.targets": [
                    {"configMap": {"name": "a", "key": "b"}},
                    {"configMap": {"name": "a", "key": "c", "digestKey": "b"}},
                ]
            },
        ),
    ),
    SpanningRow(
        DATASET,
        "name exactly one of files, labelStudio, inferenceLog",
        "spec.sources[0]",
        (
            {"spec.sources": [{"name": "a", "files": {"uri": "pvc://a/b"}}]},
            {"spec.sources": [{"name": "a", "inferenceLog": _LOG}]},
        ),
        (
            {"spec.sources": [{"name": "a"}]},
            {"spec.sources": [{"name": "a", "files": {"uri": "pvc://a/b"}, "inferenceLog": _LOG}]},
        ),
    ),
    SpanningRow(
        CYCLE,
        "must not be less than requests of the same resource; raise the limit or lower the request",
        "spec.defaults.resources.limits",
        (
            {f"{_RESOURCES_OF}.requests": {"cpu": 1}, f"{_RESOURCES_OF}.limits": {"cpu": "1000m"}},
            {f"{_RESOURCES_OF}.requests": {"memory": "1e9"}, f"{_RESOURCES_OF}.limits": {"memory": "1Gi"}},
            {f"{_RESOURCES_OF}.requests": {"memory": "9E"}, f"{_RESOURCES_OF}.limits": {"cpu": "1n"}},
            {f"{_RESOURCES_OF}.requests": MISSING},
            {f"{_RESOURCES_OF}.limits": MISSING},
        ),
        (
            {f"{_RESOURCES_OF}.requests": {"cpu": "2"}, f"{_RESOURCES_OF}.limits": {"cpu": 1}},
            {f"{_RESOURCES_OF}.requests": {"cpu": "1.5"}, f"{_RESOURCES_OF}.limits": {"cpu": "1499m"}},
            {f"{_RESOURCES_OF}.requests": {"memory": "1Ti"}, f"{_RESOURCES_OF}.limits": {"memory": "1T"}},
            {f"{_RESOURCES_OF}.requests": {"memory": "1e3"}, f"{_RESOURCES_OF}.limits": {"memory": "999"}},
        ),
    ),
    SpanningRow(
        CYCLE,
        "must be Exists where there is no key, which tolerates every taint; or give a key",
        f"{_TOLERATIONS}[0].operator",
        ({_TOLERATIONS: [{"operator": "Exists"}]}, {_TOLERATIONS: [{"key": "a"}]}),
        ({_TOLERATIONS: [{}]}, {_TOLERATIONS: [{"operator": "Equal", "value": "b"}]}),
    ),
    SpanningRow(
        CYCLE,
        "cannot be compared with operator Exists; take it out, or write operator: Equal",
        f"{_TOLERATIONS}[0].value",
        (
            {_TOLERATIONS: [{"key": "a", "value": "b"}]},
            {_TOLERATIONS: [{"key": "a", "operator": "Equal", "value": "b"}]},
            {_TOLERATIONS: [{"operator": "Exists", "value": ""}]},
        ),
        (
            {_TOLERATIONS: [{"operator": "Exists", "value": "b"}]},
            {_TOLERATIONS: [{"key": "a", "operator": "Exists", "value": "b"}]},
        ),
    ),
    SpanningRow(
        CYCLE,
        "needs effect: NoExecute, the only one that ends a pod",
        f"{_TOLERATIONS}[0].tolerationSeconds",
        ({_TOLERATIONS: [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 0}]},),
        (
            {_TOLERATIONS: [{"key": "a", "tolerationSeconds": 0}]},
            {_TOLERATIONS: [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}]},
        ),
    ),
    SpanningRow(
        CYCLE,
        "is for method PPO alone; leave it out",
        "spec.training.ppo",
        (_PPO | {"spec.training.ppo": {}}, _PPO),
        ({"spec.training.ppo": {}},),
    ),
    SpanningRow(
        CYCLE,
        "times perDeviceBatchSize is a batch of episodes, and must not exceed ppo.totalEpisodes",
        "spec.training.gradientAccumulationSteps",
        (
            _PPO
            | {"spec.training.gradientAccumulationSteps": 4096, "spec.training.ppo": {"totalEpisodes": 4096}},
            _PPO | {"spec.training.perDeviceBatchSize": 4, "spec.training.gradientAccumulationSteps": 2500},
        ),
        (
            _PPO | {"spec.training.gradientAccumulationSteps": 4, "spec.training.ppo": {"totalEpisodes": 3}},
            _PPO | {"spec.training.perDeviceBatchSize": 4, "spec.training.gradientAccumulationSteps": 2501},
        ),
    ),
    SpanningRow(
        CYCLE,
        "must be 1 with PPO, and so must processesPerNode: it trains in one process",
        "spec.training.nodes",
        (_PPO, _PPO | {"spec.training.processesPerNode": 1}),
        (_PPO | {"spec.training.nodes": 2}, _PPO | {"spec.training.processesPerNode": 2}),
    ),
    SpanningRow(
        CYCLE,
        "must be None with PPO: it trains in one process",
        "spec.training.sharding",
        (_PPO | {"spec.training.sharding": "None"},),
        tuple(_PPO | how for how in _DIVIDED),
    ),
    SpanningRow(
        CYCLE,
        "divides a model among processes, and there is one; raise nodes or processesPerNode, or write None",
        "spec.training.sharding",
        (
            _ONE_NODE | {"spec.training.processesPerNode": 2},
            _ONE_NODE | {"spec.training.processesPerNode": MISSING},
            {"spec.training.nodes": 2, "spec.training.processesPerNode": 1},
            _ONE_NODE | {"spec.training.processesPerNode": 2, "spec.training.sharding": "ZeRO3"},
            _ONE_NODE | {"spec.training.processesPerNode": 1, "spec.training.sharding": "None"},
        ),
        tuple(_ONE_NODE | {"spec.training.processesPerNode": 1} | each for each in _DIVIDED),
    ),
    SpanningRow(
        CYCLE,
        "must not be FP16 with sharding; write Auto, BF16 or FP32",
        "spec.training.precision",
        tuple(
            {"spec.training.precision": each} | how for each in ("Auto", "BF16", "FP32") for how in _DIVIDED
        ),
        tuple({"spec.training.precision": "FP16"} | how for how in _DIVIDED),
    ),
    SpanningRow(
        CYCLE,
        "must be 1 with PPO: ppo.totalEpisodes says how long it trains",
        "spec.training.epochs",
        (_PPO | {"spec.training.epochs": 1},),
        (_PPO | {"spec.training.epochs": 2},),
    ),
    SpanningRow(
        CYCLE,
        "must not be FP16 with PPO; write Auto, BF16 or FP32",
        "spec.training.precision",
        tuple(_PPO | {"spec.training.precision": each} for each in ("Auto", "BF16", "FP32")),
        (_PPO | {"spec.training.precision": "FP16"},),
    ),
    SpanningRow(
        CYCLE,
        "must be 0 with PPO: it compares what one network says of a token before and after a step",
        "spec.training.lora.dropout",
        (_PPO | {"spec.training.lora.dropout": 0}, _PPO | {"spec.training.lora": MISSING}),
        (_PPO | {"spec.training.lora": {"dropout": 0.1}},),
    ),
    SpanningRow(
        CYCLE,
        "is required with PPO: it samples from the policy while it trains",
        "spec.prompts",
        (_PPO,),
        (_PPO | {"spec.prompts": MISSING},),
    ),
    SpanningRow(
        CYCLE,
        "is required with PPO: a rewardModel or a verifier that scores every completion",
        "spec.judge",
        (_PPO, _PPO | {"spec.judge": {"verifier": {}}}),
        (_PPO | {"spec.judge": MISSING},),
    ),
    SpanningRow(
        CYCLE,
        "makes no pairs with PPO; leave pairs, minMargin, lengthPenalty and shortCorrectPercent out",
        "spec.judge",
        (_PPO | {"spec.judge.pairs": "BestWorst", "spec.judge.minMargin": 0},),
        (
            _PPO | {"spec.judge.pairs": "AllPairs"},
            _PPO | {"spec.judge.minMargin": 0.1},
            _PPO | {"spec.judge.lengthPenalty": {}},
            _PPO | {"spec.judge.shortCorrectPercent": 1},
        ),
    ),
    SpanningRow(
        CYCLE,
        "has no use with PPO and a verifier: pairs only train or check a reward model; leave it out",
        "spec.datasets",
        (
            _PPO | {"spec.datasets": [{"name": "a"}]},
            _PPO | {"spec.judge": {"verifier": {}}, "spec.datasets": []},
            _PPO
            | {
                "spec.judge": {"verifier": {}},
                "spec.datasets": [{"name": "a"}],
                "spec.reward": {"model": "pvc://m/a"},
            },
        ),
        (_PPO | {"spec.judge": {"verifier": {}}, "spec.datasets": [{"name": "a"}]},),
    ),
    SpanningRow(
        CYCLE,
        "has neither shards nor a server with PPO, which samples in the stage train; leave them out",
        "spec.sampling",
        (_PPO | {"spec.sampling.shards": 1},),
        (_PPO | {"spec.sampling.shards": 2}, _PPO | {"spec.sampling.server": {"image": "a"}}),
    ),
    SpanningRow(
        CYCLE,
        "must divide a batch of PPO: training.perDeviceBatchSize times gradientAccumulationSteps",
        "spec.sampling.completionsPerPrompt",
        (_PPO | {"spec.training.perDeviceBatchSize": 3, "spec.sampling.completionsPerPrompt": 6},),
        (_PPO | {"spec.training.perDeviceBatchSize": 3, "spec.sampling.completionsPerPrompt": 4},),
    ),
    SpanningRow(
        CYCLE,
        "must be below training.maxLength with PPO, which leaves the rest to the prompt",
        "spec.sampling.maxNewTokens",
        (_PPO | {"spec.sampling.maxNewTokens": 99, "spec.training.maxLength": 100},),
        (_PPO | {"spec.sampling.maxNewTokens": 100, "spec.training.maxLength": 100},),
    ),
)
