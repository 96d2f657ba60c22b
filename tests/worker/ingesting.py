"""Refreshes of a dataset, of files as a test writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment_api.curation import FileFormat
from alignment_api.stage import IngestedFiles, IngestedSource, IngestParameters, InputKind, StageConfig
from tests.worker import stages, tiny
from tests.worker.stages import Finished, an_input


def config(
    folder: Path,
    sources: Mapping[str, Path],
    number: int = 1,
    *,
    base: Finished | None = None,
    gold: Path | Sequence[Path] = (),
    formats: Mapping[str, FileFormat] | None = None,
    columns: Mapping[str, dict[str, str]] | None = None,
    embedding: Path | None = None,
    **curation: Any,
) -> StageConfig:
    """To the folder `revisions/NUMBER`."""
    inputs = {f"source/{name}": an_input(path, InputKind.PAIRS) for name, path in sources.items()}
    for index, path in enumerate([gold] if isinstance(gold, Path) else gold):
        inputs[f"goldSet/{index}"] = an_input(path, InputKind.PROMPTS)
    if embedding is not None:
        inputs["embedding"] = an_input(embedding, InputKind.EMBEDDING_MODEL)
    if base is not None:
        inputs["base"] = an_input(base.folder, InputKind.STAGE, base.result.manifest.digest)
    read = [
        IngestedSource(
            name=name,
            files=IngestedFiles(
                format=(formats or {}).get(name, "Auto"), columns=(columns or {}).get(name, {})
            ),
        )
        for name in sources
    ]
    parameters = IngestParameters(sources=read, **curation)
    return stages.config(folder / "revisions" / str(number), inputs, parameters, iteration=number)


@dataclass
class Dataset:
    """A dataset in a folder; each refresh goes on from the last."""

    folder: Path
    last: Finished | None = field(default=None)
    number: int = 0

    def file(self, name: str, rows: list[dict[str, Any]] | bytes) -> Path:
        path = self.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            tiny.write_rows(path, rows)
        return path

    def refresh(self, *paths: Path, **settings: Any) -> Finished:
        """Of sources `a`, `b`, …, each a path; it has to succeed to be what the next goes on from."""
        self.number += 1
        sources = dict(zip("abcdefgh", paths, strict=False))
        done = stages.run(
            self.folder / "jobs", config(self.folder, sources, self.number, base=self.last, **settings)
        )
        if done.code == 0:
            self.last = done
        return done
