"""AI feedback: judges of the logs are checked on what people judged, and then judge what people did not.

People's labels win: of a pair that any person judged, in whatever source, no judge is asked for a label. What a judge
would judge the other way is told in contested-SOURCE.jsonl and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alignment_api.measurements import JUDGE_ACCURACY, Measurement
from alignment_api.sources import LogJudge
from alignment_api.stage import IngestParameters
from alignment_worker import judge_categories, rows, unseen
from alignment_worker.exclusion import Forbidden
from alignment_worker.ingestion.identity import KEY_BYTES, key_of
from alignment_worker.ingestion.log_judges import Judge, judge_of
from alignment_worker.ingestion.open_pairs import Found, OpenPairs
from alignment_worker.ingestion.ordinals import Keys, Numbers, asked_of
from alignment_worker.ingestion.staging import RECORD, Staging, as_line
from alignment_worker.rows import Pair, Raw
from alignment_worker.workspace import Workspace

CONFIDENCE = 0.95
_ROWS_AT_ONCE = 1024


@dataclass
class Feedback:
    """Of one refresh. `by_source`: what was measured of each judge. Raises WorkerError, OSError."""

    workspace: Workspace
    staging: Staging
    forbidden: Forbidden | None
    counts: Counter[str] = field(default_factory=Counter)
    by_source: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    _contested: dict[str, dict[int, float]] = field(default_factory=dict)  # by source: row and lead
    _judges: dict[str, tuple[Judge, LogJudge]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parameters = self.workspace.config.parameters
        assert isinstance(parameters, IngestParameters)
        for index, source in enumerate(parameters.sources):
            asked = source.inference_log.judge if source.inference_log else None
            if asked is not None:
                judge = judge_of(self.workspace, index, source.name, asked)
                self._judges[source.name] = judge, asked

    def give(self, opened: OpenPairs) -> int:
        """After all sources were read: stages what the judges say of open pairs; how many rows."""
        before = self.staging.count
        people = self._people()
        for name, (judge, asked) in self._judges.items():
            self._check(name, judge, self._last(people, asked.check_pairs))
            self._judge(name, judge, [each for each in opened.all(name) if self._may_be_asked(each)], people)
            judge.finish()
            self.by_source.setdefault(name, {}).update(judge.measurements(CONFIDENCE))
            self.counts.update(judge.counts())
        return self.staging.count - before

    def write(self, codes: Numbers) -> dict[str, int]:
        """contested-SOURCE.jsonl of the pairs that stay, those first of which the judge is surest; how many each."""
        counts = {}
        for name, leads in self._contested.items():
            there = np.zeros(len(codes), bool)
            there[list(leads)] = True
            there &= codes > 0
            told = [
                {"ordinal": int(codes[place]), "lead": float(f"{leads[place]:.3g}"), **row}
                for places, some in self.staging.loaded(there, _ROWS_AT_ONCE)
                for place, row in zip(places.tolist(), some, strict=True)
            ]
            told.sort(key=lambda row: (row["lead"], row["ordinal"]))
            with (self.workspace.run_folder / f"contested-{name}.jsonl").open("wb") as file:
                file.writelines(map(as_line, told))
            counts[f"contested/{name}"] = len(told)
        return counts

    def _people(self) -> _People:
        """What people judged, in all sources."""
        records = [each for _, each in self.staging.records()]
        keys, paired, by_judge = (
            np.concatenate([each[name] for each in records] or [np.empty(0, RECORD[name])])
            for name in ("key", "paired", "by_judge")
        )
        labelled = np.flatnonzero((paired == 1) & (by_judge == 0))
        judgements, first = np.unique(keys[labelled], return_index=True)  # of equal ones the first row stays
        asked, of_judgement, ways = np.unique(asked_of(judgements), return_inverse=True, return_counts=True)
        decided = np.zeros(self.staging.count, bool)
        decided[labelled[first[ways[of_judgement] == 1]]] = True
        return _People(decided, asked)

    def _last(self, people: _People, most: int) -> Numbers:
        """Of all rows, those of another judge among them, which of people's are read last."""
        chosen = np.zeros(self.staging.count, bool)
        chosen[np.flatnonzero(people.decided)[::-1][:most]] = True
        return chosen

    def _check(self, name: str, judge: Judge, chosen: Numbers) -> None:
        """How far the judge agrees with people; one that is shown to be no better than a coin stops the refresh."""
        places: list[int] = []
        pairs: list[Pair] = []
        for some, found in self.staging.loaded(chosen, _ROWS_AT_ONCE):
            places.extend(some.tolist())
            pairs.extend(_pair(row) for row in found)
        self.workspace.progress.begin(
            len(pairs), "pairs", f"comparing the judge of {name} with people's labels"
        )
        leads = judge.leads(pairs, self.workspace.progress.advance)
        self._contested[name] = {
            place: lead for place, lead in zip(places, leads, strict=True) if lead is not None and lead < 0
        }
        one_a_prompt: dict[str, tuple[Pair, float]] = {}
        for pair, lead in zip(pairs, leads, strict=True):
            if lead is not None:
                one_a_prompt[unseen.mark(pair.prompt)] = pair, lead
        agreed = judge.agreement([lead for _, lead in one_a_prompt.values()], CONFIDENCE)
        if agreed.n:
            self.by_source[name] = {JUDGE_ACCURACY: agreed}
        if judge.limit is not None:
            unseen.refuse_if_stale(judge.what, agreed, judge.remedy, judge.limit, "spec.sources")
            groups = judge_categories.grouped(
                [lead for _, lead in one_a_prompt.values()],
                [pair.category for pair, _ in one_a_prompt.values()],
            )
            judge_categories.refuse_if_against_people(
                judge.what, groups, CONFIDENCE, judge.remedy, "spec.sources"
            )

    def _judge(self, name: str, judge: Judge, found: list[Found], people: _People) -> None:
        keys = np.array([key_of(each.pair()) for each in found], f"S{KEY_BYTES}")
        labelled = np.isin(asked_of(keys), people.asked)
        found = [each for each, known in zip(found, labelled.tolist(), strict=True) if not known]
        self.workspace.progress.begin(len(found), "pairs", f"judging what nobody judged in {name}")
        leads = judge.leads([each.pair() for each in found], self.workspace.progress.advance)
        for each, lead in zip(found, leads, strict=True):
            if lead is None:
                self.counts["judgeUnasked"] += 1
            elif lead == 0:
                self.counts["judgeTies"] += 1
            else:
                pair = each.pair(turned=lead < 0)
                self.staging.add(pair, key_of(pair), name, each.file)
        self.staging.end_part(name, judged=True)

    def _may_be_asked(self, each: Found) -> bool:
        return self.forbidden is None or not self.forbidden.has(each.pair())


@dataclass(frozen=True)
class _People:
    """`decided`: of each row whether it is a pair that people judged, one way alone. `asked`: what any of them was."""

    decided: Numbers
    asked: Keys


def _pair(row: Mapping[str, Any]) -> Pair:
    return rows.pair_of(Raw(int(row["line"]), dict(row)))
