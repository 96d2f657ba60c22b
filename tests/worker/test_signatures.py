"""Signatures of checkpoints: found out when they are not of these bytes or keys, and no part of the digest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from alignment_api import digests
from alignment_api.cycle import Sampling
from alignment_api.signature import Signature
from alignment_api.stage import ExitCode, InputKind, SampleParameters, StageConfig
from alignment_worker import inputs, promote, signatures, train_weights
from alignment_worker.failures import (
    DigestMismatchError,
    InvalidConfigError,
    NotVerifiedError,
)
from alignment_worker.main import main
from alignment_worker.progress import Progress
from alignment_worker.store import Places
from tests.worker import keys, stages
from tests.worker.keys import Pair
from tests.worker.loop import Loop
from tests.worker.stages import Finished, an_input


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return keys.pair(tmp_path_factory.mktemp("key") / "key.pem")


@pytest.fixture(scope="module")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return keys.pair(tmp_path_factory.mktemp("other-key") / "key.pem", ec.SECP384R1())


def a_model(folder: Path) -> Path:
    """The files of one; nothing here loads it."""
    (folder / "nested").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "config.json").write_text("{}")
    (folder / "nested" / "é.jinja").write_text("{{ messages }}")
    (folder / ".gitattributes").write_text("*.safetensors lfs")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return a_model(tmp_path / "model")


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path, a_model(tmp_path / "policy"), a_model(tmp_path / "candidate"), tmp_path / "none")


def sign(model: Path, pair: Pair, wanted: Signature | None = None) -> None:
    signatures.sign(model, digests.of_folder(model), wanted or keys.signature(pair), pair.private)


def promoted(loop: Loop, wanted: Signature | None, key: Path | None) -> Finished:
    config = loop.promote().model_copy(update={"signature": wanted})
    job = loop.folder / "jobs" / "promote"
    words = [*stages.argv(job, config), *(("--signing-key", str(key)) if key else ())]
    return stages.finished(job, config, main(words))


def reading(model: Path, wanted: Signature) -> StageConfig:
    """A later stage, which reads the model as the incumbent."""
    config = stages.config(
        model.parent / "sample",
        {"policy": an_input(model, InputKind.MODEL, digests.of_folder(model))},
        SampleParameters(sampling=Sampling()),
    )
    return config.model_copy(update={"signature": wanted})


def opened(config: StageConfig) -> inputs.Inputs:
    return inputs.opened(config, Places({}), Progress())


def test_promote_signs_the_candidate_and_its_digest_stays(loop: Loop, key: Pair) -> None:
    before = digests.of_folder(loop.candidate)
    done = promoted(loop, keys.signature(key), key.private)
    assert (done.code, done.result.counts) == (0, {"sealed": 1, "signed": 1})
    assert digests.of_folder(loop.candidate) == before
    opened(reading(loop.candidate, keys.signature(key)))
    assert [file.name for file in loop.candidate.iterdir() if file.name.startswith(".model")] == []


def test_without_the_setting_nothing_is_signed_and_no_signature_is_looked_at(loop: Loop, key: Pair) -> None:
    (loop.candidate / "model.sig").write_text("nonsense")
    done = promoted(loop, None, key.private)
    assert done.result.counts == {"sealed": 1}
    assert (loop.candidate / "model.sig").read_text() == "nonsense"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_stranger_verifies_it_with_the_librarys_own_command(
    model: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    pair = keys.pair(tmp_path / "key.pem", curve)
    sign(model, pair)
    (tmp_path / "key.pub").write_text(pair.public)
    words = ["--signature", str(model / "model.sig"), "--public_key", str(tmp_path / "key.pub"), str(model)]
    verify = [sys.executable, "-m", "model_signing", "verify", "key", *words]
    assert subprocess.run(verify, check=False).returncode == 0
    (model / "config.json").write_text("{ }")
    assert subprocess.run(verify, check=False).returncode != 0


def test_what_a_stranger_signed_counts_too(model: Path, tmp_path: Path, key: Pair) -> None:
    words = ["--signature", str(model / "model.sig"), "--private_key", str(key.private), str(model)]
    subprocess.run([sys.executable, "-m", "model_signing", "sign", "key", *words], check=True)
    opened(reading(model, keys.signature(key)))


def grown(model: Path) -> None:
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def joined(model: Path) -> None:
    (model / "adapter.safetensors").write_bytes(b"x")


def taken(model: Path) -> None:
    (model / "nested" / "é.jinja").unlink()


def torn(model: Path) -> None:
    whole = (model / "model.sig").read_bytes()
    (model / "model.sig").write_bytes(whole[: len(whole) // 2])


def forged(model: Path) -> None:
    text = (model / "model.sig").read_text()
    place = text.index('"sig"') + 12
    (model / "model.sig").write_text(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])


@pytest.mark.parametrize("damage", [grown, joined, taken, torn, forged])
@pytest.mark.parametrize("unsigned", ["Refuse", "Allow"])
def test_no_stage_reads_what_is_not_as_it_was_signed(
    model: Path, key: Pair, damage: Callable[[Path], None], unsigned: str
) -> None:
    sign(model, key)
    damage(model)
    with pytest.raises(NotVerifiedError, match=r"inputs\.policy: .*model\.sig: .* Nothing was loaded"):
        opened(reading(model, keys.signature(key, unsigned=unsigned)))


def test_a_missing_signature_is_refused_with_the_remedy_unless_that_is_allowed(
    model: Path, key: Pair
) -> None:
    with pytest.raises(NotVerifiedError, match=r"has no model\.sig\. Sign it .*unsigned: Allow"):
        opened(reading(model, keys.signature(key)))
    opened(reading(model, keys.signature(key, unsigned="Allow")))


def test_a_key_that_is_not_named_does_not_count(model: Path, key: Pair, other_key: Pair) -> None:
    sign(model, other_key)
    with pytest.raises(NotVerifiedError, match="is of another key than the public keys given"):
        opened(reading(model, keys.signature(key)))


def test_while_keys_are_exchanged_both_count(model: Path, key: Pair, other_key: Pair) -> None:
    sign(model, key)
    opened(reading(model, keys.signature(other_key, key)))
    sealed = (model / "model.sig").read_bytes()
    sign(model, other_key, keys.signature(other_key, key))
    assert (model / "model.sig").read_bytes() == sealed  # one that counts is not made again
    sign(model, other_key)
    opened(reading(model, keys.signature(other_key)))


def test_a_killed_attempt_is_made_good(loop: Loop, key: Pair) -> None:
    """It left half a file under a name of its own; or somebody put in what is no signature."""
    (loop.candidate / ".model.sig.0badf00d").write_text('{"half')
    (loop.candidate / "model.sig").write_text("nonsense")
    assert promoted(loop, keys.signature(key), key.private).code == 0
    assert not (loop.candidate / ".model.sig.0badf00d").exists()
    opened(reading(loop.candidate, keys.signature(key)))


def test_an_attempt_that_was_killed_before_the_ledger_is_gone_on_with(
    loop: Loop, key: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(promote, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            promoted(loop, keys.signature(key), key.private)
    written = (loop.candidate / "model.sig").read_bytes()
    assert promoted(loop, keys.signature(key), key.private).code == 0
    assert (loop.candidate / "model.sig").read_bytes() == written


def test_nothing_is_signed_that_changed_meanwhile(
    model: Path, key: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature on bytes that were never measured would be what an attacker wants."""
    honest, measured = signatures._signed, digests.of_folder(model)

    def swapped(folder: Path, file: Path) -> bytes:
        grown(folder)
        return honest(folder, file)

    monkeypatch.setattr(signatures, "_signed", swapped)
    with pytest.raises(DigestMismatchError, match="was changed while it was signed"):
        signatures.sign(model, measured, keys.signature(key), key.private)
    assert not (model / "model.sig").exists()


def encrypted(key: Pair) -> bytes:
    loaded = serialization.load_pem_private_key(key.private.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def of_rsa(_: Pair) -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the key is not there"),
        (lambda _: b"", "holds no private key that can be read without a passphrase"),
        (encrypted, "holds no private key that can be read without a passphrase"),
        (lambda key: key.public.encode(), "holds no private key"),
        (of_rsa, "holds the key of none of spec.promotion.signature.publicKeys"),
    ],
)
def test_a_key_that_cannot_sign_is_waited_for_and_nothing_is_recorded(
    loop: Loop, key: Pair, content: Callable[[Pair], bytes] | None, said: str
) -> None:
    """As an input that is not there yet: a person may mend the Secret, and nothing has to be trained again."""
    file = loop.folder / "wrong.pem"
    if content is not None:
        file.write_bytes(content(key))
    done = promoted(loop, keys.signature(key), file)
    assert done.code == ExitCode.INPUT_MISSING
    assert f"spec.promotion.signature.privateKeySecretRef: {said}" in done.failure.message
    assert not (loop.folder / "ledger").exists()
    assert not (loop.candidate / "model.sig").exists()
    assert promoted(loop, keys.signature(key), key.private).code == 0


def test_a_public_key_that_only_looks_like_one_is_told_by_the_first_stage(model: Path, key: Pair) -> None:
    """Before hours of training, though nothing is signed yet."""
    body = key.public.splitlines()[1]
    text = key.public.replace(body, body[:40] + "A" * (len(body) - 40))
    wanted = keys.signature(key, publicKeys=[text], unsigned="Allow")
    with pytest.raises(
        InvalidConfigError, match=r"spec\.promotion\.signature\.publicKeys\[0\]: cannot be read"
    ):
        opened(reading(model, wanted))


def test_one_folder_of_several_roles_is_hashed_once(
    model: Path, key: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(model, key)
    looked: list[Path] = []
    monkeypatch.setattr(signatures, "verify", lambda folder, _: looked.append(folder))
    signatures.check(keys.signature(key), {"policy": model, "start": model, "reference": model})
    assert looked == [model]


def test_links_of_a_hubs_cache_are_followed(model: Path, tmp_path: Path, key: Pair) -> None:
    sign(model, key)
    linked = tmp_path / "snapshot"
    shutil.copytree(model, linked)
    (linked / "config.json").unlink()
    (linked / "config.json").symlink_to(model / "config.json")
    opened(reading(linked, keys.signature(key)))


def test_a_candidate_does_not_inherit_the_signature_of_its_start(
    tmp_path: Path, llama: Path, key: Pair
) -> None:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    start = tmp_path / "start"
    shutil.copytree(llama, start)
    sign(start, key)
    train_weights.store(AutoModelForCausalLM.from_pretrained(start), start, tmp_path / "stored")
    assert not (tmp_path / "stored" / "model.sig").exists()
