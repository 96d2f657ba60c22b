"""The data card of a revision: README.md in its folder, which the Hub and `datasets.load_dataset` understand.

It tells nothing that changes without the content: the same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from alignment_api.stage import Digest, IngestedSource, IngestParameters, StageConfig
from alignment_worker.artifacts import PAIRS
from alignment_worker.ingestion.measured import Groups
from alignment_worker.ingestion.near_gold import NEAR_GOLD
from alignment_worker.ingestion.ordinals import ORDINALS
from alignment_worker.ingestion.rejected import REJECTED
from alignment_worker.store import DERIVED

CARD = "README.md"

_REASONS = {
    "invalid": "no pair and no unpaired row",
    "contaminated": "asks, or holds 13 words in a row of, a gold or held-out prompt",
    "duplicate": "equal, up to white space and Unicode's NFKC, to one that is kept",
    "nearDuplicate": "prompt and answers are alike to those of one that is kept, by embedding",
    "conflicting": "the same answers are judged both ways",
    "capped": "more than maxPairsPerSource",
    "pii": "holds personal data",
}


def card(
    config: StageConfig, counts: Mapping[str, int], groups: Groups, digests: Mapping[str, Digest]
) -> str:
    """Markdown."""
    parameters = config.parameters
    assert isinstance(parameters, IngestParameters)
    differing = counts["longerChosen"] + counts["shorterChosen"]
    share = f"{100 * counts['longerChosen'] / differing:.1f} %" if differing else "not known"
    sources = [
        f"| `{source.name}` | {_code(_where(config, source))} | {_format(source)} | "
        f"{groups.sources[source.name].rows} | {groups.sources[source.name].longer_share} | "
        f"{_digest(digests, source)} |"
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
            "| source | where | format | kept | longer answer chosen | digest |",
            "|---|---|---|---|---|---|",
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
            f"The longer answer is chosen in {share} of the {differing} pairs whose answers differ by more than 10 % "
            f"in length. Median lengths in characters: prompt {counts['medianPromptCharacters']}, answer "
            f"{counts['medianCompletionCharacters']}.",
            "",
            f"- `{PAIRS}`: a line each: `ordinal` (never changes), `prompt`, then `chosen` and `rejected`, or "
            "`completion` and `label`; `source`, `file`, `line` say where it was read first",
            f"- `{REJECTED}`: every row that is left out: `source`, `file`, `line`, `reason`, `problem`, and the "
            "beginning of the `row`",
            f"- `{ORDINALS}`: the ordinal of every key that any revision had; the next one goes on from it",
            "",
        ]
    )


def _models(groups: Groups) -> list[str]:
    told = [f"| `{digest}` | {group.rows} | {group.longer_share} |" for digest, group in groups.told()]
    return (
        ["| model that answered | rows | longer answer chosen |", "|---|---|---|", *told, ""] if told else []
    )


def _where(config: StageConfig, source: IngestedSource) -> str:
    project = source.label_studio
    return (
        f"{project.url}, project {project.project}" if project else config.inputs[f"source/{source.name}"].uri
    )


def _format(source: IngestedSource) -> str:
    if source.label_studio:
        return "Label Studio"
    return (
        source.files.format if source.files else f"{source.inference_log and source.inference_log.format} log"
    )


def _digest(digests: Mapping[str, Digest], source: IngestedSource) -> str:
    """Of what a server said, the manifest has the digest."""
    role = f"source/{source.name}"
    return f"`{digests[role]}`" if role in digests else "its tasks are in this folder"


def _code(uri: str) -> str:
    return f"`{json.dumps(uri, ensure_ascii=False)[1:-1].replace('|', '%7C').replace('`', '%60')}`"
