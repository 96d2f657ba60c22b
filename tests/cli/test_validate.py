"""`alignctl validate` says everything that is wrong: file, line, field, value, what to do."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from alignment_operator.cli.manifests import Located, read
from tests.cli.conftest import Alignctl
from tests.cli.manifests import CYCLE, DATASET, with_spec, write


def problems(tmp_path: Path, text: str) -> list[str]:
    documents, found = read([write(tmp_path / "m.yaml", text)])
    found += [problem for document in documents for problem in document.problems()]
    return [_without_folder(problem) for problem in found]


def _without_folder(located: Located) -> str:
    return str(located).replace(f"{located.file.parent}/", "")


BROKEN = {
    "a required field is missing": (
        CYCLE.replace("  store:\n    uri: pvc://models/cycles\n", ""),
        ["m.yaml:5: spec.store: is required: Where artifacts live."],
    ),
    "a misspelt field": (
        with_spec("sampling: {temprature: 0.7}"),
        ["m.yaml:19: spec.sampling.temprature: 0.7: is not a field here; did you mean 'temperature'?"],
    ),
    "two at once": (
        with_spec("sampling:\n  temperature: high\n  topP: 2\n"),
        [
            'm.yaml:20: spec.sampling.temperature: "high": must be a number above 0 and at most 10',
            "m.yaml:21: spec.sampling.topP: 2: must be ",
        ],
    ),
    "a URI of an unknown form": (
        CYCLE.replace("pvc://models/m0", "s3:/models/m0"),
        ['m.yaml:7: spec.policy.model: "s3:/models/m0": '],
    ),
    "a rule over two fields": (
        with_spec("gates: {winRate: {}}"),
        ["m.yaml:19: spec.gates.winRate: {"],
    ),
    "an item of a list": (
        with_spec("datasets:\n  - name: feedback\n  - name: Feed Back\n"),
        ['m.yaml:21: spec.datasets[1].name: "Feed Back": '],
    ),
    "a key that no label can have": (
        with_spec("defaults:\n  podLabels: {a/b/c: x}\n"),
        [
            'm.yaml:20: spec.defaults.podLabels["a/b/c"]: "a/b/c": is a key that must be NAME or DOMAIN/NAME, as in '
            "example.com/pool: "
        ],
    ),
    "a resource that no container can have": (
        with_spec("stages:\n  train:\n    resources:\n      limits: {gpu: 1}\n"),
        [
            'm.yaml:22: spec.stages.train.resources.limits.gpu: "gpu": is a key that must be cpu, memory, '
            "ephemeral-storage, hugepages-SIZE, or DOMAIN/NAME as in nvidia.com/gpu"
        ],
    ),
    "a limit below its request": (
        with_spec("defaults:\n  resources: {requests: {cpu: 2}, limits: {cpu: 500m}}\n"),
        [
            'm.yaml:20: spec.defaults.resources.limits: {"cpu": "500m"}: must not be less than requests of the same '
            "resource; raise the limit or lower the request"
        ],
    ),
    "a toleration of nothing": (
        with_spec("defaults:\n  tolerations:\n    - {}\n"),
        ["m.yaml:21: spec.defaults.tolerations[0].operator: must be Exists where there is no key"],
    ),
    "a name that is too long": (
        CYCLE.replace("assistant", "a" * 41),
        [f'm.yaml:4: metadata.name: "{"a" * 41}": has 41 characters'],
    ),
    "a namespace that is none": (
        CYCLE.replace("  name: assistant", "  name: assistant\n  namespace: ../etc"),
        ['m.yaml:5: metadata.namespace: "../etc": must be lower-case letters'],
    ),
    "an odd key": (
        CYCLE.replace("  name: assistant", "  name: assistant\n  labels:\n    'a[b] \"c': 7"),
        ['m.yaml:6: metadata.labels["a[b] \\"c"]: 7: must be text'],
    ),
    "aliases that explode": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in itertools.pairwise("abcdefgh")),
        ["m.yaml: (YAML): its aliases expand to more than 100000 fields"],
    ),
    "an alias of itself": ("a: &a [*a]\n", ["m.yaml: (YAML): "]),
    "an annotation that is no text": (
        CYCLE.replace("  name: assistant", "  name: assistant\n  annotations: {alignment.dev/reject: 7}"),
        ['m.yaml:5: metadata.annotations["alignment.dev/reject"]: 7: must be text; put it in quotes'],
    ),
    "an annotation that nobody acts on": (
        CYCLE.replace("  name: assistant", "  name: assistant\n  annotations: {alignment.dev/runn: '1'}"),
        [
            'm.yaml:5: metadata.annotations["alignment.dev/runn"]: "1": is not an annotation of alignment.dev here; '
            "did you mean 'run'? annotations: run, approve, reject, cancel, rollback, adopt"
        ],
    ),
    "a verb that datasets do not know": (
        DATASET.replace("  name: feedback", "  name: feedback\n  annotations: {alignment.dev/cancel: '1'}"),
        ['m.yaml:5: metadata.annotations["alignment.dev/cancel"]: "1": is not an annotation of'],
    ),
    "another version": (
        CYCLE.replace("v1alpha1", "v1"),
        ['m.yaml:1: apiVersion: "alignment.dev/v1": must be alignment.dev/v1alpha1'],
    ),
    "a misspelt kind": (
        CYCLE.replace("AlignmentCycle", "AlignmentCicle"),
        [
            "m.yaml:2: kind: \"AlignmentCicle\": is not a kind of alignment.dev; did you mean 'AlignmentCycle'?"
        ],
    ),
    "no mapping": ("- 1\n- 2\n", ["m.yaml: (document): [1, 2]: must be a mapping"]),
    "a key twice": (
        CYCLE + "  store:\n    uri: pvc://models/other\n",
        ["m.yaml:19: (YAML): the key 'store' is there twice; keep one"],
    ),
    "a tab": (CYCLE + "\tsampling: {}\n", ["m.yaml:19: (YAML): "]),
    "a bracket that is never closed": (with_spec("sampling: {seed: 1"), ["m.yaml:20: (YAML): "]),
    "a key that is a list": ("? [a, b]\n: 1\n", ["m.yaml:1: (YAML): a key must be text"]),
    "an unknown tag": ("a: !!python/object:os.system {}\n", ["m.yaml:1: (YAML): "]),
    "an alias of nothing": ("a: *nothing\n", ["m.yaml:1: (YAML): "]),
    "the second document": (
        f"{DATASET}---\n{CYCLE.replace('verifier: {}', 'verifier: {strict: true}')}",
        ["m.yaml:25: spec.judge.verifier.strict: true: is not a field here"],
    ),
    "not a number": (with_spec("training: {beta: .nan}"), ["m.yaml:19: spec.training.beta: NaN: "]),
    "a word for a number": (
        with_spec("training: {epochs: yes}"),
        ["m.yaml:19: spec.training.epochs: true: must be a whole number"],
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_manifest_is_told_where_and_how(tmp_path: Path, broken: tuple[str, list[str]]) -> None:
    text, expected = broken
    found = problems(tmp_path, text)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning), line


VALID = {
    "the least": CYCLE,
    "a dataset": DATASET,
    "a number in exponential notation, as the API server reads it": with_spec(
        "training: {learningRate: 1e-5}"
    ),
    "a whole number written as 4.0": with_spec("sampling: {completionsPerPrompt: 4.0}"),
    "a timestamp that nobody quoted": CYCLE.replace(
        "  name: assistant", "  name: assistant\n  annotations: {alignment.dev/run: 2026-11-23T09:00:00Z}"
    ),
    "JSON": '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}',
    "documents of other kinds and empty ones": f"---\n---\n{CYCLE}---\napiVersion: batch/v1\nkind: Job\nspec: 1\n---\n",
    "an anchor and a merge key": CYCLE.replace("goldSet:\n", "goldSet: &gold\n").replace(
        "heldOutPrompts:\n", "heldOutPrompts:\n      <<: *gold\n"
    ),
    "a byte order mark": "\ufeff" + CYCLE,
    "Windows line ends": CYCLE.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_a_valid_manifest_has_no_problem(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(CYCLE.encode().replace(b"assistant", b"assist\xffant"))
    (found,) = read([path])[1]
    assert _without_folder(found) == "m.yaml:4: (file): is not UTF-8; save it as UTF-8"


def test_the_problems_go_to_stderr_and_the_status_is_2(alignctl: Alignctl, tmp_path: Path) -> None:
    good, bad = (
        write(tmp_path / "good.yaml", CYCLE),
        write(tmp_path / "bad.yaml", with_spec("sampling: {seed: -1}")),
    )
    done = alignctl("validate", "-f", good, "-f", bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{bad}:19: spec.sampling.seed: -1: must be")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_is_read_whole(alignctl: Alignctl, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder / "cycle.yaml", CYCLE)
    write(folder / "dataset.yml", DATASET)
    write(folder / "README.md", "not a manifest")
    done = alignctl("validate", "-f", folder)
    assert done.returncode == 0
    assert "AlignmentCycle assistant is valid" in done.stdout
    assert "PreferenceDataset feedback is valid" in done.stdout


@pytest.mark.parametrize("command", ["validate", "plan", "render", "run"])
def test_a_file_that_is_not_there_is_named(alignctl: Alignctl, command: str) -> None:
    done = alignctl(command, "-f", "nowhere.yaml")
    assert done.returncode == 2
    assert done.stderr == "nowhere.yaml: (file): cannot be read: No such file or directory\n"


@pytest.mark.parametrize("command", ["validate", "plan", "render", "run"])
def test_files_without_anything_of_ours_are_told_so(alignctl: Alignctl, tmp_path: Path, command: str) -> None:
    done = alignctl(command, "-f", write(tmp_path / "m.yaml", "apiVersion: v1\nkind: Secret\n"))
    assert done.returncode == 2
    assert done.stderr == "error: no AlignmentCycle or PreferenceDataset in these files\n"


def test_an_empty_folder_is_told_so(alignctl: Alignctl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = alignctl("validate", "-f", "empty")
    assert done.returncode == 2
    assert done.stderr == (
        "error: empty: there is no .yaml, .yml or .json file in this folder; folders in it are not read\n"
    )


def test_a_manifest_comes_from_stdin_too(alignctl: Alignctl) -> None:
    done = alignctl("validate", "-f", "-", stdin=with_spec("sampling: {seed: -1}"))
    assert done.returncode == 2
    assert done.stderr.startswith("(stdin):19: spec.sampling.seed: -1: must be")
    assert "(stdin): AlignmentCycle assistant is valid" in alignctl("validate", "-f", "-", stdin=CYCLE).stdout


@pytest.mark.parametrize("folder", ["quickstart", "methods", "flywheel"])
def test_the_examples_are_valid(alignctl: Alignctl, folder: str) -> None:
    done = alignctl("validate", "-f", Path(__file__).parents[2] / "examples" / folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["plan", "render", "run"])
def test_a_manifest_without_a_name_is_for_the_api_server_alone(
    alignctl: Alignctl, tmp_path: Path, command: str
) -> None:
    manifest = write(tmp_path / "m.yaml", CYCLE.replace("name: assistant", "generateName: assistant-"))
    assert alignctl("validate", "-f", manifest).returncode == 0
    done = alignctl(command, "-f", manifest)
    assert done.returncode == 2
    assert "metadata.name: is required here" in done.stderr


def test_it_says_what_the_gold_set_can_show(alignctl: Alignctl, tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.yaml", CYCLE)
    assert alignctl("validate", "-f", manifest).stdout.count("\n") == 1
    gold = [{"prompt": f"p{n}", "answer": "a", "grader": "Exact", "category": "facts"} for n in range(60)]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "gold.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in gold))
    (folder / "m0").mkdir()
    for name in ("prompts", "heldout"):
        (folder / f"{name}.jsonl").write_text('{"prompt": "p"}\n')
    done = alignctl("validate", "-f", manifest, "--claim", f"models={folder}")
    assert "goldSet, facts, 60 items: a drop of 10.2 points is found four times of five" in done.stdout
    assert "goldSet: an equal candidate is held in " in done.stdout
    assert "if 10 % of its answers change, half of them for the worse" in done.stdout


COMPARED = with_spec("gates: {winRate: {}}").replace(
    "      uri: pvc://models/heldout.jsonl\n",
    "      uri: pvc://models/heldout.jsonl\n    comparison: {judge: {verifier: {}}, minComparisons: 3}\n",
)


def test_what_is_wrong_with_the_inputs_in_a_given_claim_is_told_at_once(
    alignctl: Alignctl, tmp_path: Path
) -> None:
    item = {"prompt": "p", "answer": "a", "grader": "Exact", "category": "facts"}
    folder = tmp_path / "data"
    (folder / "m0").mkdir(parents=True)
    (folder / "prompts.jsonl").touch()
    manifest = write(tmp_path / "m.yaml", COMPARED)
    gold, held_out = folder / "gold.jsonl", folder / "heldout.jsonl"
    gold.write_text(json.dumps(item) + "\n")
    held_out.write_text((json.dumps(item) + "\n") * 3)
    claim = ("--claim", f"models={folder}")
    assert alignctl("validate", "-f", manifest, *claim).returncode == 0

    bare = json.dumps({"prompt": "p", "category": "facts"})
    gold.write_text(f"{json.dumps(item)}\n\n{bare}\n{bare}\n{{\n[1]\n")
    held_out.write_text(json.dumps({"prompt": "p"}) + "\n" + json.dumps(item) + "\n")
    (folder / "prompts.jsonl").unlink()
    done = alignctl("validate", "-f", manifest, *claim)
    assert (done.returncode, done.stdout) == (2, "")
    told = done.stderr.splitlines()
    of_gold = f"{manifest}:16: spec.evaluation.goldSet.uri: pvc://models/gold.jsonl: {gold}"
    needs = "each row needs `prompt`, `answer`, `grader`"
    assert told[0] == (
        f"{of_gold}: line 3: `answer` and `grader` are missing; {needs}, `category` (rows like it: 2)"
    )
    assert told[1].startswith(f"{of_gold}: line 5: is not JSON (")
    assert told[2] == f"{of_gold}: line 6: is not an object; give one object a line"
    assert told[3] == (
        f"{manifest}:18: spec.evaluation.heldOutPrompts.uri: pvc://models/heldout.jsonl: {held_out}: line 1: "
        f"`answer` and `grader` are missing; {needs}"
    )
    assert told[4] == (
        f"{manifest}:19: spec.evaluation.comparison.minComparisons: 3: {held_out} has 2 prompts, and each is compared "
        "once. Add held-out prompts, or lower minComparisons"
    )
    assert told[5].startswith(
        f"{manifest}:11: spec.prompts.uri: pvc://models/prompts.jsonl: is not there (looked for "
    )
    assert len(told) == 6
    assert "2 comparisons, fewer than minComparisons (3)" in alignctl("plan", "-f", manifest, *claim).stdout


def test_what_is_only_on_a_cluster_is_not_looked_for(alignctl: Alignctl, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert alignctl("validate", "-f", write(tmp_path / "m.yaml", CYCLE)).returncode == 0


def test_a_dataset_whose_source_is_not_in_a_given_claim_is_told(alignctl: Alignctl, tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.yaml", DATASET)
    done = alignctl("validate", "-f", manifest, "--claim", f"models={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"{manifest}:11: spec.sources[0].files.uri: pvc://models/pairs.jsonl: is not there (looked for {tmp_path}/pairs"
    )
