"""What a promoted checkpoint is signed with, and by which keys a signature is known (docs/signatures.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from alignment_api.judges import SecretKey
from alignment_api.model import Model

# As OpenSSL writes them: SubjectPublicKeyInfo of a point, uncompressed, on P-256, P-384 or P-521, in this order.
# RFC 5480, https://www.rfc-editor.org/rfc/rfc5480
_CURVES = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
    "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE",
    "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQ",
)
_LABEL = "PUBLIC KEY-----"
PUBLIC_KEY_PATTERN = (
    rf"^-----BEGIN {_LABEL}\s+({'|'.join(_CURVES)})[A-Za-z0-9+/\s]+={{0,2}}\s+-----END {_LABEL}\s*$"
)
PublicKey = Annotated[str, StringConstraints(pattern=PUBLIC_KEY_PATTERN, max_length=512)]


class Signature(Model):
    """A signature by an elliptic-curve key, in the format of OpenSSF's model-signing."""

    private_key_secret_ref: SecretKey = Field(
        description="The private key, a PEM without a passphrase. The stage promote alone gets it."
    )
    public_keys: list[PublicKey] = Field(
        min_length=1,
        max_length=4,
        description="PEM of each public key whose signatures count: that of the private key, and while keys are "
        "exchanged those of older ones.",
    )
    unsigned: Literal["Refuse", "Allow"] = Field(
        "Refuse",
        description="What becomes of an iteration whose incumbent, or M_0, has no signature at all. Refuse: its first "
        "stage fails. Allow: it goes on, as while signing is introduced. A wrong signature is never allowed.",
    )
