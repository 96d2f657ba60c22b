"""`python -m alignment_operator.cli.crds --write|--check`: keep crds/*.yaml as the models say."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from alignment_api import crd
from alignment_api.kinds import RESOURCES, Resource
from alignment_api.model import GROUP

COMMAND = "python -m alignment_operator.cli.crds --write"


class _Dumper(yaml.SafeDumper):
    """Every value in full: anchors save a machine some bytes and cost a reader the thread."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # YAML 1.1, which kubectl reads, takes these for booleans; PyYAML does not, and would leave them bare.
    style = "'" if value in {"y", "Y", "n", "N"} else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def file_name(resource: Resource) -> str:
    return f"{GROUP}_{resource.plural}.yaml"


def text(resource: Resource) -> str:
    """The file's content; the same models always give the same bytes."""
    header = f"# Generated from the models in alignment_api by `{COMMAND}`. Do not edit.\n"
    return header + yaml.dump(
        crd.definition(resource), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--write", "mode", flag_value="write", help="Write the files.")
@click.option("--check", "mode", flag_value="check", help="Fail if a file is not what would be written.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("crds"),
    show_default=True,
    help="Where the files are.",
)
def main(mode: str | None, folder: Path) -> None:
    """Write or check the CustomResourceDefinitions."""
    if mode is None:
        raise click.UsageError("say --write or --check")
    if mode == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for resource in RESOURCES:
            (folder / file_name(resource)).write_text(text(resource), encoding="utf-8")
    elif stale := stale_files(folder):
        raise click.ClickException(f"not as the models say: {', '.join(map(str, stale))}; run `{COMMAND}`")


def stale_files(folder: Path) -> list[Path]:
    """Files that are missing or not what would be written."""
    paths = {folder / file_name(resource): text(resource) for resource in RESOURCES}
    return [path for path, wanted in paths.items() if not path.exists() or path.read_text("utf-8") != wanted]


if __name__ == "__main__":
    main()
