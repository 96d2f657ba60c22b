"""Which objects of a bucket a source reads, and that a revision does not tell where its files were."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from alignment_api.judges import SecretReference
from alignment_api.stage import ExitCode
from alignment_worker.ingestion import buckets
from tests.buckets.refreshing import Dataset, lines, pairs, prompts
from tests.buckets.server import BUCKET, KEYS, Faults, Server
from tests.worker.stages import Finished


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


def as_zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


FILES = {
    "b.jsonl": lines([*pairs(3), {"prompt": "no pair"}]),
    "a/z.jsonl.gz": gzip.compress(lines(pairs(3, 10))),
    "a-b.csv": b"prompt,chosen,rejected\nc,d,e\n",
    "a/y.jsonl.zst": as_zstd(lines(pairs(2, 20))),
    "c d%20[\u00e9].parquet": as_parquet(pairs(2, 30)),
    "broken.parquet": b"PAR1 and then nothing",
    "cut.jsonl.gz": gzip.compress(lines(pairs(3000, 1000)))[:-900],
    "empty.jsonl": b"",
    ".hidden.jsonl": lines(pairs(1, 90)),
}


@pytest.mark.parametrize("pattern", ["**/*", "*", "b.jsonl"])
def test_a_revision_is_the_same_wherever_its_files_are(
    dataset: Dataset, server: Server, folder: str, tmp_path: Path, pattern: str
) -> None:
    for name, data in reversed(FILES.items()):
        server.put(f"{folder}/2026/{name}", data)
        file = tmp_path / "local" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    there = dataset.refresh(f"s3://{BUCKET}/{folder}/2026/{pattern}")
    dataset.last = None
    here = dataset.refresh(f"file://{tmp_path}/local/{pattern}")
    assert there.rows("rejected.jsonl") == here.rows("rejected.jsonl")
    assert there.rows("pairs.jsonl") == here.rows("pairs.jsonl")
    assert there.result.manifest.digest == here.result.manifest.digest
    assert len(prompts(there)) > 2
    assert not list(there.folder.glob("run-*/staging")), "what was fetched is gone"


def test_what_datasets_saved_is_read_as_a_folder_is(
    dataset: Dataset, server: Server, folder: str, tmp_path: Path
) -> None:
    from datasets import Dataset as Saved  # noqa: PLC0415 - slow to load

    Saved.from_list(pairs(4)).save_to_disk(tmp_path / "saved" / "train")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    for file in (tmp_path / "saved").rglob("*.*"):
        server.put(f"{folder}/{file.relative_to(tmp_path).as_posix()}", file.read_bytes())
    first = dataset.refresh(f"s3://{BUCKET}/{folder}/saved")
    dataset.last = None
    here = dataset.refresh(f"file://{tmp_path}/saved")
    assert prompts(first) == ["p0", "p1", "p2", "p3"]
    assert first.result.manifest.digest == here.result.manifest.digest
    by_star = dataset.refresh(f"s3://{BUCKET}/{folder}/sav*")
    assert prompts(by_star) == prompts(first)
    server.put(f"{folder}/other/dataset_dict.json", b'{"splits": ["test"]}')
    other = dataset.refresh(f"s3://{BUCKET}/{folder}/other")
    assert other.code == ExitCode.INVALID_CONFIG
    assert "has the splits test; name the folder of one, other/test" in other.failure.message


LOG = [
    {
        "request": {"messages": [{"role": "user", "content": "2 + 2?"}]},
        "response": {
            "id": f"c{n}",
            "choices": [{"message": {"content": said}, "finish_reason": "stop"}],
        },
        "at": f"2026-11-01T00:0{n}:00Z",
    }
    for n, said in enumerate(("5", "4"))
]


def test_an_inference_log_is_all_that_is_below_its_folder(
    dataset: Dataset, server: Server, folder: str
) -> None:
    server.put(f"{folder}/support/11/01/a.jsonl", lines(LOG))
    server.put(f"{folder}/support/11/02/b.json", lines([{"kind": "feedback", "id": "c0", "rating": "down"}]))
    server.put(
        f"{folder}/support/c.jsonl.gz",
        gzip.compress(lines([{"kind": "feedback", "id": "c1", "rating": "up"}])),
    )
    server.put(f"{folder}/support/d.jsonl.part", b"not yet")
    server.put(f"{folder}/support-2/d.jsonl", b"of another log")
    for uri in ("support", "support/"):
        done = dataset.refresh(f"s3://{BUCKET}/{folder}/{uri}", log=True)
        (pair,) = [row for row in done.rows("pairs.jsonl") if "chosen" in row]
        assert (pair["chosen"][0]["content"], pair["file"]) == ("4", "11/01/a.jsonl")
        assert (done.result.counts["answers"], done.result.counts["invalid"]) == (2, 0)


@pytest.mark.parametrize(
    ("path", "log", "code", "said"),
    [
        ("nothing.jsonl", False, ExitCode.INPUT_MISSING, "is not there. Put it there, or correct the URI."),
        ("nothing", True, ExitCode.INPUT_MISSING, "is not there"),
        ("nothing-*.jsonl", False, ExitCode.INPUT_MISSING, "no file is named so"),
        (
            "in",
            False,
            ExitCode.INVALID_CONFIG,
            "is a folder, and not one that `datasets` saved; name the files",
        ),
    ],
)
def test_a_uri_that_names_no_object_says_what_to_do(
    dataset: Dataset, server: Server, folder: str, path: str, log: bool, code: ExitCode, said: str
) -> None:
    server.put(f"{folder}/in/x.txt", b"")
    done = dataset.refresh(f"s3://{BUCKET}/{folder}/{path}", log=log)
    assert (done.code, said in done.failure.message) == (code, True), done.failure
    assert f"s3://{BUCKET}/{folder}/{path}" in done.failure.message
    assert not list(done.folder.glob("*"))


def test_a_bucket_that_is_not_there_is_missing(dataset: Dataset) -> None:
    for uri in ("s3://no-such-bucket/a.jsonl", "s3://no-such-bucket/*.jsonl"):
        done = dataset.refresh(uri)
        assert (done.code, "is not there" in done.failure.message) == (ExitCode.INPUT_MISSING, True)


def test_more_objects_than_are_fetched_at_once_are_read_in_their_order(
    dataset: Dataset, server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_AT_ONCE", 3)
    monkeypatch.setattr(buckets, "_AHEAD_BYTES", 150)
    for number in range(12):
        server.put(f"{folder}/{number:02}.jsonl", lines(pairs(1, number)))
    done = dataset.refresh(f"s3://{BUCKET}/{folder}/*.jsonl")
    assert prompts(done) == [f"p{number}" for number in range(12)]


def refused(done: Finished, said: str) -> None:
    assert done.code == ExitCode.INVALID_CONFIG
    assert said in done.failure.message, done.failure


def test_what_a_secret_lacks_or_misspells_is_said(
    dataset: Dataset, server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = server.put(f"{folder}/a.jsonl", lines(pairs(1)))
    dataset.reach("localhost:9000")
    refused(dataset.refresh(uri), "AWS_ENDPOINT_URL is 'localhost:9000'; write http:// or https://")
    dataset.reach(server.url, AWS_ACESS_KEY="x")
    refused(dataset.refresh(uri), "spec.sources[0].files: ")
    for name in [*KEYS, "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACESS_KEY"]:
        monkeypatch.delenv(f"ALIGNMENT_SOURCE_0_{name}")
    refused(dataset.refresh(uri), "spec.sources[0].files.credentialsSecretRef: no key of the Secret begins")


def test_the_environment_of_the_pod_serves_whoever_names_no_secret(
    dataset: Dataset, server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = server.put(f"{folder}/a.jsonl", lines(pairs(1)))
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    assert prompts(dataset.refresh(uri, secret=None)) == ["p0"]


def test_a_secret_s_key_is_not_mixed_with_a_token_of_the_environment(
    dataset: Dataset, server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = server.put(f"{folder}/a.jsonl", lines(pairs(1)))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    with Faults(server) as seen:
        dataset.reach(seen.url)
        assert dataset.refresh(uri, secret=SecretReference(name="buckets")).code == 0
    assert seen.asked
    assert not [asked for asked in seen.asked if "x-amz-security-token" in asked.headers]
    assert all(KEYS["AWS_ACCESS_KEY_ID"] in asked.headers["authorization"] for asked in seen.asked)


def test_who_reads_files_alone_loads_no_library_of_buckets() -> None:
    code = "import sys, alignment_worker.ingest; sys.exit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
