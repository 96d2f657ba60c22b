"""Key pairs to sign with, and what a cycle says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from alignment_api.signature import Signature


@dataclass(frozen=True)
class Pair:
    """Of one key: the private half's file, and the public half as a PEM."""

    private: Path
    public: str


def pair(file: Path, curve: ec.EllipticCurve | None = None) -> Pair:
    """Made anew, in a file of its own."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Pair(file, public.decode())


def signature(*pairs: Pair, **changes: Any) -> Signature:
    """That counts if it is of one of these."""
    reference = {"name": "signing", "key": "key.pem"}
    wire = {"privateKeySecretRef": reference, "publicKeys": [each.public for each in pairs]}
    return Signature.from_wire(wire | changes)
