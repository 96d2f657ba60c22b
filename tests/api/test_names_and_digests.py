"""Names fit where Kubernetes puts them; digests are the same on every machine, for ever.

The golden values are `sha256sum`'s.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api import digests, names, uris
from alignment_api.stage import Stage

_UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
_EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

OWNERS = st.from_regex(names.NAME_PATTERN, fullmatch=True).filter(
    lambda name: len(name) <= names.MAX_NAME_LENGTH
)


@settings(deadline=None, derandomize=True)
@given(OWNERS, st.integers(1, 9999), st.sampled_from(Stage), st.integers(0, 99), st.binary())
def test_a_job_name_is_a_label(owner: str, iteration: int, stage: Stage, attempt: int, config: bytes) -> None:
    name = names.job_name(owner, iteration, stage, attempt, names.stage_hash(_UID, {"config": config.hex()}))
    assert len(name) <= names.MAX_JOB_NAME_LENGTH
    assert re.search(names.NAME_PATTERN, name)


def test_the_longest_job_name_still_fits() -> None:
    longest = max(Stage, key=lambda stage: len(stage.value))
    assert (
        len(names.job_name("a" * names.MAX_NAME_LENGTH, 9999, longest, 99, "0" * 64))
        <= names.MAX_JOB_NAME_LENGTH
    )


@settings(deadline=None, derandomize=True)
@given(OWNERS, st.integers(1, 9999))
def test_a_revision_name_is_a_label(cycle: str, iteration: int) -> None:
    assert len(names.revision_name(cycle, iteration)) <= 63


def test_a_stage_hash_tells_owners_and_configs_apart() -> None:
    config = {"stage": "train", "seed": 1}
    hashes = {
        names.stage_hash(_UID, config),
        names.stage_hash("another", config),
        names.stage_hash(_UID, config | {"seed": 2}),
    }
    assert len(hashes) == 3
    assert names.stage_hash(_UID, {"seed": 1, "stage": "train"}) in hashes


def test_a_cycle_made_again_gets_another_folder() -> None:
    first = names.stage_prefix(
        names.cycle_prefix("pvc://models/cycles/", "alignment", "support", _UID), 7, "train"
    )
    assert first == f"pvc://models/cycles/alignment/support/{_UID}/iterations/7/train"
    assert first.startswith(names.cycle_prefix("pvc://models/cycles", "alignment", "support", _UID) + "/")
    assert names.cycle_prefix("pvc://models", "alignment", "support", "other") not in first


def test_the_longest_uri_of_a_store_leaves_room_for_what_comes_behind_it() -> None:
    store = "pvc://m/" + "a" * (uris.MAX_LENGTH - len("pvc://m/"))
    cycle = names.cycle_prefix(store, "n" * 63, "c" * names.MAX_NAME_LENGTH, _UID)
    prefix = names.stage_prefix(cycle, 9999, "evaluate")
    assert len(uris.join(prefix, "run-01234567", "model")) <= uris.MAX_STORED_LENGTH


def test_digests_are_what_sha256sum_says(tmp_path: Path) -> None:
    assert digests.of_bytes(b"") == _EMPTY
    (tmp_path / "abc").write_bytes(b"abc")
    assert digests.of_file(tmp_path / "abc") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_json_has_one_spelling() -> None:
    value = {"b": [1, 2.5, None, True], "a": "ü", "Ä": {}}
    assert digests.canonical_json(value) == '{"a":"ü","b":[1,2.5,null,true],"Ä":{}}'.encode()
    assert digests.of_json(value) == "sha256:6e5dde683136dcf736cd08c98e72d7bc8d669fae3edff7346c2049228526f606"
    with pytest.raises(ValueError, match="JSON compliant"):
        digests.canonical_json(float("nan"))


def test_a_folder_is_its_files_by_path(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "nested").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"abc")
    (folder / "nested" / "empty").touch()
    digest = digests.of_folder(folder)
    assert digest == digests.of_listing({"nested/empty": _EMPTY, "config.json": digests.of_bytes(b"abc")})
    assert digest == "sha256:787bf5a0539e6c6e3c2fe97e6d4f2920e6c3f9d32e61c61c41a3940f6fa1a103"

    (folder / ".cache").mkdir()
    (folder / ".cache" / "etag").write_text("x")
    (folder / ".gitattributes").write_text("x")
    (folder / "no files here").mkdir()
    assert digests.of_folder(folder) == digest

    (folder / "nested" / "empty").rename(folder / "empty")
    assert digests.of_folder(folder) != digest


def test_a_digest_is_shortened_for_people() -> None:
    assert digests.short(_EMPTY) == "e3b0c44298fc"
    assert re.search(digests.PATTERN, _EMPTY)


@pytest.mark.parametrize(
    ("uri", "claim", "path"),
    [
        ("pvc://models/support/m0", "models", "support/m0"),
        ("pvc://models", "models", "."),
        ("pvc://models/", "models", "."),
        ("pvc://models//etc/passwd", "models", "etc/passwd"),
        ("file:////data//m0/", "", "/data/m0"),
        ("file:///data/m0", "", "/data/m0"),
        ("file:///my%20models/100%25", "", "/my models/100%"),
        ("pvc://models/my%20m0", "models", "my%20m0"),
    ],
)
def test_a_uri_says_which_claim_and_where_in_it(uri: str, claim: str, path: str) -> None:
    location = uris.parse(uri)
    assert (location.claim, str(location.path)) == (claim, path)


@settings(deadline=None, derandomize=True)
@given(st.from_regex(uris.PATTERN, fullmatch=True))
def test_every_uri_that_a_manifest_may_hold_can_be_parsed(uri: str) -> None:
    location = uris.parse(uri)
    assert ".." not in location.path.parts
    assert location.path.is_absolute() == (not location.claim)


@pytest.mark.parametrize(
    "uri", ["models", "s3://a/b", "pvc:///a", "file://a", "pvc://a/../b", "file:///a/..", "file:///a/%2e%2E"]
)
def test_what_is_no_uri_of_ours_is_an_error(uri: str) -> None:
    with pytest.raises(ValueError, match="://"):
        uris.parse(uri)


@settings(deadline=None, derandomize=True)
@given(st.from_regex(uris.SOURCE_PATTERN, fullmatch=True))
def test_a_source_s_uri_is_of_a_bucket_or_of_a_place(uri: str) -> None:
    place = uris.in_bucket(uri)
    if place is None:
        uris.parse(uri)
    else:
        assert place.bucket
        assert ".." not in place.key.split("/")
    assert uris.claims_of([uri]) == ([uris.parse(uri).claim] if uri.startswith("pvc") else [])


def test_a_bucket_s_key_has_no_slash_at_its_ends() -> None:
    assert uris.in_bucket("s3://logs/support/2026/") == uris.InBucket("s3", "logs", "support/2026")
    assert uris.in_bucket("az://logs") == uris.InBucket("az", "logs", "")
