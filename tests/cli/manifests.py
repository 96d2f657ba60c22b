"""Manifests for the tests of the command line."""

from __future__ import annotations

import textwrap
from pathlib import Path

CYCLE = """\
apiVersion: alignment.dev/v1alpha1
kind: AlignmentCycle
metadata:
  name: assistant
spec:
  policy:
    model: pvc://models/m0
  store:
    uri: pvc://models/cycles
  prompts:
    uri: pvc://models/prompts.jsonl
  judge:
    verifier: {}
  evaluation:
    goldSet:
      uri: pvc://models/gold.jsonl
    heldOutPrompts:
      uri: pvc://models/heldout.jsonl
"""

DATASET = """\
apiVersion: alignment.dev/v1alpha1
kind: PreferenceDataset
metadata:
  name: feedback
spec:
  store:
    uri: pvc://models/datasets
  sources:
    - name: annotations
      files:
        uri: pvc://models/pairs.jsonl
"""


def with_spec(addition: str) -> str:
    """The cycle with further fields of its spec."""
    return CYCLE + textwrap.indent(textwrap.dedent(addition).rstrip() + "\n", "  ")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
