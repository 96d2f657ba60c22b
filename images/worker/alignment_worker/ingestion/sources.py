"""What the sources of a dataset give: preferences with their place, and rows that say none."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment_api.sources import token_variable
from alignment_api.stage import IngestedLog, IngestedProject, IngestedSource
from alignment_worker.api_keys import api_key
from alignment_worker.failures import InvalidConfigError
from alignment_worker.ingestion import files, label_studio
from alignment_worker.ingestion.files import File
from alignment_worker.ingestion.forms import FileReader
from alignment_worker.ingestion.inference_log import InferenceLog, Judged
from alignment_worker.ingestion.label_studio_server import LabelStudio
from alignment_worker.ingestion.label_studio_tasks import Tasks
from alignment_worker.ingestion.log_formats import Answered, Said, records
from alignment_worker.ingestion.open_pairs import Found, OpenPairs
from alignment_worker.rows import Preference, Prompt, Raw, RowProblemError, pair_of
from alignment_worker.workspace import Workspace

if TYPE_CHECKING:
    from alignment_worker.ingestion.flagging import Quality
    from alignment_worker.ingestion.personal import Personal


@dataclass(frozen=True)
class Given:
    """A row: its place, and the preferences in it or a prompt alone, or else what is wrong.

    `row` is what is kept aside of it.
    """

    file: str
    line: int
    preferences: Sequence[Preference] = ()
    problem: str = ""
    row: bytes | dict[str, Any] | None = None
    asked: Prompt | None = None


@dataclass
class Sources:
    """Read in their order; `counts` has what was seen besides rows. Open pairs go to the projects behind the logs."""

    workspace: Workspace
    folder: Path
    opened: OpenPairs
    quality: Quality | None = None
    personal: Personal | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def rows(self, index: int, source: IngestedSource) -> Iterator[Given]:
        """Raises WorkerError, OSError."""
        if source.files is not None:
            yield from self._files(source)
        elif source.inference_log is not None:
            yield from self._log(source.name, source.inference_log)
        elif source.label_studio is not None:
            yield from self._project(index, source.name, source.label_studio)
        else:
            raise InvalidConfigError(f"parameters.sources[{index}]: {source.name} has no kind")

    def _files(self, source: IngestedSource) -> Iterator[Given]:
        assert source.files is not None
        for file, raw, text, reader in self._raw(source):
            try:
                yield Given(file.name, raw.number, reader.preferences_of(raw), row=text or raw.columns)
            except RowProblemError as problem:
                yield Given(file.name, raw.number, problem=str(problem), row=text or raw.columns)

    def _raw(self, source: IngestedSource) -> Iterator[tuple[File, Raw, bytes, FileReader]]:
        assert source.files is not None
        for file in self._found(source.name):
            reader = FileReader(source.files.format, source.files.columns)
            for raw, text in files.raw_rows(file):
                yield file, raw, text, reader

    def _found(self, name: str) -> Iterator[File]:
        found = self.workspace.inputs.sources[f"source/{name}"]
        self.workspace.progress.begin(len(found), "files", f"reading {name}")
        for file in found.files(self.folder / "fetched" / name):
            yield file
            self.workspace.progress.advance()

    def _log(self, name: str, log: IngestedLog) -> Iterator[Given]:
        """First what can't be read, then what the log says, in the order of prompts."""
        names: list[str] = []
        with InferenceLog(self.folder / f"log-{name}.sqlite") as known:
            for file in self._found(name):
                names.append(file.name)
                for raw, text in files.raw_rows(file):
                    try:
                        self._record(known, log, raw, len(names) - 1)
                    except RowProblemError as problem:
                        yield Given(file.name, raw.number, problem=str(problem), row=text or raw.columns)
            self.counts["answers"] += known.answers()
            for found in known.judged(feedback=log.feedback):
                file_index, line = divmod(found.place, _LINES)
                if isinstance(found, Judged):
                    yield Given(names[file_index], line, [replace(found.preference, number=line)])
                elif self._open(name, Found(found, names[file_index], line)):
                    self.counts["openPairs"] += 1
            for prompted in known.prompts():
                file_index, line = divmod(prompted.place, _LINES)
                prompt = self.personal.prompt(prompted.prompt) if self.personal else prompted.prompt
                if prompt is not None:
                    yield Given(names[file_index], line, asked=prompt)
        if self.quality is not None:
            self.workspace.progress.begin(1, "steps", f"filtering the open pairs of {name}")
            flagged = self.opened.flag(name, self.quality.flags, drop=self.quality.drops)
            self.counts["openFlagged"] += flagged

    def _open(self, name: str, found: Found) -> bool:
        """Keeps it for people or a judge, without personal data if that is not to be kept. False: it is not kept."""
        opened = self.personal.opened(found.open) if self.personal else found.open
        return opened is not None and self.opened.add(name, replace(found, open=opened))

    def _record(self, known: InferenceLog, log: IngestedLog, raw: Raw, file_index: int) -> None:
        """Raises RowProblemError; what of the row can be read is known then."""
        if raw.columns is None:
            raise RowProblemError(raw.problem)
        for record in records(log.format, raw.columns):
            if isinstance(record, Said) or _in_sample(record, log.sample_percent):
                known.add(record, file_index * _LINES + raw.number)

    def _project(self, index: int, name: str, project: IngestedProject) -> Iterator[Given]:
        where = f"spec.sources[{index}].labelStudio"
        token = api_key(token_variable(index), f"{where}.tokenSecretRef")
        if not token:
            raise InvalidConfigError(
                f"{where}.tokenSecretRef: the token is not there; without a cluster, name what stands for it: "
                "--secret NAME/KEY=env:VARIABLE"
            )
        studio = LabelStudio(project.url, token, project.project, where)
        config = studio.config()
        if label_studio.is_empty(config):
            config = label_studio.TEMPLATE
            studio.set_config(config)
        shown = label_studio.interface(config, where)
        self.workspace.progress.begin(studio.count(), "tasks", f"reading {name}")
        with Tasks(self.folder / f"tasks-{index}.sqlite", project.url, project.project) as tasks:
            tasks.read(studio, self._before(name), self.workspace.progress)
            if project.push_pairs:
                opened = label_studio.open_tasks(found.open for found in self.opened.all())
                pushed = tasks.without(opened, project.push_pairs)
                studio.add(pushed)
                self.counts["pushed"] += len(pushed)
            tasks.write(self.workspace.run_folder / _tasks_file(name))
            for task in tasks:
                for said in label_studio.judgements(task, shown):
                    yield _given(task, said)

    def _before(self, name: str) -> Path | None:
        """The tasks as the revision in force knew them."""
        if "base" not in self.workspace.inputs:
            return None
        file = self.workspace.inputs.path("base") / _tasks_file(name)
        return self.workspace.inputs.file("base", _tasks_file(name)) if file.exists() else None


_LINES = 1 << 40  # more than a file has: a place is one number


def _tasks_file(name: str) -> str:
    return f"label-studio-{name}.jsonl"


def _given(task: dict[str, Any], said: dict[str, Any]) -> Given:
    """`file` names the task, `line` the annotation."""
    file, line = f"task {task.get('id')}", int(said["annotation"])
    columns = {name: said[name] for name in ("prompt", "chosen", "rejected")}
    columns["category"] = (task.get("data") or {}).get("category")
    try:
        found = pair_of(Raw(line, columns))
    except RowProblemError as problem:
        return Given(file, line, problem=str(problem), row=columns)
    return Given(file, line, [found], row=columns)


def _in_sample(answered: Answered, percent: float) -> bool:
    """By the prompt, so that answers to the same one are all read or none."""
    digest = hashlib.sha256(json.dumps(answered.prompt, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[8:16]) < percent / 100 * 2**64
