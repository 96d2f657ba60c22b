"""The data card of a revision: README.md in its folder, which the Hub and `datasets.load_dataset` understand.

It tells nothing that changes without the content: the same input gives the same bytes, wherever its files are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from alignment_api import names
from alignment_api.measurements import JUDGE_ACCURACY, Measurement
from alignment_api.sources import LogJudge
from alignment_api.stage import Digest, IngestedSource, IngestParameters, StageConfig
from alignment_worker.artifacts import PAIRS, PROMPTS
from alignment_worker.ingestion.languages import Languages
from alignment_worker.ingestion.measured import Groups
from alignment_worker.ingestion.near_gold import NEAR_GOLD
from alignment_worker.ingestion.ordinals import ORDINALS
from alignment_worker.store import DERIVED

CARD = "README.md"
_MOST_LANGUAGES = 10

_REASONS = {
    "invalid": "no pair and no unpaired row",
    "contaminated": "asks, or shares 13 consecutive words with, a gold or held-out prompt",
    "duplicate": "equal, up to white space and Unicode's NFKC, to one that is kept",
    "nearDuplicate": "prompt and answers are alike to those of one that is kept, by embedding",
    "conflicting": "the same answers are judged both ways",
    "filtered": "the filter flags the chosen, or the good, answer",
    "capped": "more than maxPairsPerSource",
    "pii": "holds personal data",
}


def card(
    config: StageConfig,
    counts: Mapping[str, int],
    groups: Groups,
    languages: Languages,
    digests: Mapping[str, Digest],
    measured: Mapping[str, Mapping[str, Measurement]],
) -> str:
    """Markdown. `measured`: of judges, by source."""
    parameters = config.parameters
    assert isinstance(parameters, IngestParameters)
    differing = counts["longerChosen"] + counts["shorterChosen"]
    share = f"{100 * counts['longerChosen'] / differing:.1f} %" if differing else "not known"
    sources = [
        f"| `{source.name}` | {_format(source)} | {groups.sources[source.name].rows} | "
        f"{groups.sources[source.name].longer_share} | {_digest(digests, source)} |"
        for source in parameters.sources
    ]
    left_out = [
        f"| {name} | {counts[name]} | {meaning} |" for name, meaning in _REASONS.items() if name in counts
    ]
    gold = [
        f"- {_code(entry.uri)} `{digests[role]}`"
        for role, entry in config.inputs.items()
        if role.startswith("goldSet/")
    ]
    model = (
        [f"Embedded by {_code(config.inputs['embedding'].uri)} `{digests['embedding']}`.", ""]
        if "embedding" in config.inputs
        else []
    )
    near_gold = (
        [
            "",
            f"{counts['nearGold']} rows that stay ask what is alike to one of these prompts, by embedding (at least "
            f"{parameters.near_gold_percent:g} %); `{DERIVED}/{NEAR_GOLD}` lists them.",
        ]
        if "nearGold" in counts
        else []
    )
    cap = parameters.max_pairs_per_source
    return "\n".join(
        [
            "---",
            "configs:",
            "- config_name: default",
            f"  data_files: {PAIRS}",
            "tags: [preference]",
            "---",
            "# A revision of a PreferenceDataset",
            "",
            f"{counts['kept'] - counts['unpaired']} pairs and {counts['unpaired']} unpaired rows, of {counts['read']} "
            f"rows that were read. The highest ordinal is {counts['sequence']}.",
            "",
            "| source | format | kept | longer answer chosen | digest |",
            "|---|---|---|---|---|",
            *sources,
            "",
            *_models(groups),
            "| left out | | why |",
            "|---|---|---|",
            *left_out,
            "",
            f"Contradictions: {parameters.conflicts}. Most of one source: {cap or 'no limit'}.",
            *(["Kept out as measured on:", "", *gold] if gold else ["No gold set was named to be kept out."]),
            *near_gold,
            "",
            *model,
            *_filter(config, parameters, counts, digests),
            *_judges(config, parameters, counts, measured),
            f"The longer answer is chosen in {share} of the {differing} pairs whose answers differ by more than 10 % "
            f"in length. Median lengths in characters: prompt {counts['medianPromptCharacters']}, answer "
            f"{counts['medianCompletionCharacters']}.",
            "",
            *_languages(languages),
            f"Prompts, judged or not, each once: {counts['prompts']}.",
            "",
            f"- `{PAIRS}`: a line each: `ordinal` (never changes), `prompt`, then `chosen` and `rejected`, or "
            "`completion` and `label`; `source`, `file`, `line` say where it was read first",
            f"- `{PROMPTS}`: what was asked, a line each: `prompt`; `source`, `file`, `line` say where first",
            f"- `{names.REJECTED_ROWS}`: every row that is left out: `source`, `file`, `line`, `reason`, `problem` and "
            "the beginning of the `row`",
            f"- `{ORDINALS}`: the ordinal of every key that any revision had; the next one goes on from it",
            "",
        ]
    )


def _filter(
    config: StageConfig,
    parameters: IngestParameters,
    counts: Mapping[str, int],
    digests: Mapping[str, Digest],
) -> list[str]:
    if parameters.filter is None:
        return []
    left_out = f"{counts['filtered']} are left out" if "filtered" in counts else "they stay"
    return [
        f"Filtered by {_code(config.inputs['filter'].uri)} `{digests['filter']}`, which flags what scores below "
        f"{parameters.filter.flag_below:g}: {left_out}, {counts['flagged']} rows with a flagged answer are in this "
        f"revision (`flagged.jsonl`). It could not read {counts['filterUnread']} answers.",
        "",
    ]


def _judges(
    config: StageConfig,
    parameters: IngestParameters,
    counts: Mapping[str, int],
    measured: Mapping[str, Mapping[str, Measurement]],
) -> list[str]:
    asked = {
        source.name: source.inference_log.judge
        for source in parameters.sources
        if source.inference_log and source.inference_log.judge
    }
    if not asked:
        return []
    return [
        "AI feedback, of pairs that nobody judged; `labelled_by` is `judge` there. Agreement is how often the judge "
        "prefers what people chose; `contested-SOURCE.jsonl` has the pairs where it does not, and they stay.",
        "",
        "| source | judge | pairs that it made | agreement with people | contested |",
        "|---|---|---|---|---|",
        *(
            f"| `{name}` | {_judge(config, name, judge)} | {counts[f'judged/{name}']} | "
            f"{_agreement(measured.get(name, {}).get(JUDGE_ACCURACY))} | {counts[f'contested/{name}']} |"
            for name, judge in asked.items()
        ),
        "",
        f"Of the open pairs it found {counts.get('judgeTies', 0)} equally good, and was not asked about "
        f"{counts.get('judgeUnasked', 0)}: its budget was spent, or it cannot read or check them.",
        "",
    ]


def _judge(config: StageConfig, name: str, judge: LogJudge) -> str:
    if judge.llm:
        return f"{_code(judge.llm.model)} at {_code(judge.llm.base_url)}"
    if judge.verifier:
        return f"a verifier by {_code(config.inputs[f'verifier/{name}'].uri)}"
    return f"the reward model {_code(config.inputs[f'judge/{name}'].uri)}"


def _agreement(found: Measurement | None) -> str:
    if found is None or found.estimate is None:
        return "not known"
    interval = "" if found.low is None else f" [{found.low:.1f}, {found.high:.1f}]"
    return f"{found.estimate:.1f} %{interval} of {found.n}"


def _languages(languages: Languages) -> list[str]:
    shares = [f"{language} {share:.1f} %" for language, share in languages.shares()]
    more = [f"{len(shares) - _MOST_LANGUAGES} more"] if len(shares) > _MOST_LANGUAGES else []
    told = ", ".join([*shares[:_MOST_LANGUAGES], *more])
    of = f"{languages.of.total():,} answers{' drawn of those' * languages.drawn} that are chosen, or the only ones"
    return [f"Languages of {of}, told by their n-grams: {told}.", ""] if shares else []


def _models(groups: Groups) -> list[str]:
    told = [f"| `{digest}` | {group.rows} | {group.longer_share} |" for digest, group in groups.told()]
    return (
        ["| model that answered | rows | longer answer chosen |", "|---|---|---|", *told, ""] if told else []
    )


def _format(source: IngestedSource) -> str:
    if project := source.label_studio:
        return f"Label Studio, {_code(project.url)}, project {project.project}"
    return (
        source.files.format if source.files else f"{source.inference_log and source.inference_log.format} log"
    )


def _digest(digests: Mapping[str, Digest], source: IngestedSource) -> str:
    """Of what a server said, the manifest has the digest."""
    role = f"source/{source.name}"
    return f"`{digests[role]}`" if role in digests else "its tasks are in this folder"


def _code(uri: str) -> str:
    return f"`{json.dumps(uri, ensure_ascii=False)[1:-1].replace('|', '%7C').replace('`', '%60')}`"
