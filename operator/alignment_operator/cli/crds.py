"""`python -m alignment_operator.cli.crds --write|--check`: keep crds/, its copies in the chart and docs/api.md true."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from alignment_api import crd, reference
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


def files(root: Path) -> dict[Path, str]:
    """What is generated, by path; the same models always give the same bytes."""
    folders = (root / "crds", root / "charts" / "alignment-operator" / "files" / "crds")
    crds = {
        folder / f"{GROUP}_{resource.plural}.yaml": crd_text(resource)
        for folder in folders
        for resource in RESOURCES
    }
    return crds | {root / "docs" / "api.md": reference.markdown()}


def crd_text(resource: Resource) -> str:
    """One CRD as YAML."""
    header = f"# Generated from the models in alignment_api by `{COMMAND}`. Do not edit.\n"
    definition = crd.definition(resource)
    return header + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def stale_files(root: Path) -> list[Path]:
    """Files that are missing or not what would be written."""
    wanted = files(root).items()
    return [path for path, text in wanted if not path.exists() or path.read_text("utf-8") != text]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--write", "mode", flag_value="write", help="Write the files.")
@click.option("--check", "mode", flag_value="check", help="Fail if a file is not what would be written.")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The repository; the working folder if left out.",
)
def main(mode: str | None, root: Path) -> None:
    """Write or check the CustomResourceDefinitions and the page that explains their fields."""
    if mode is None:
        raise click.UsageError("say --write or --check")
    if mode == "write":
        for path, text in files(root).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    elif stale := stale_files(root):
        raise click.ClickException(f"not as the models say: {', '.join(map(str, stale))}; run `{COMMAND}`")


if __name__ == "__main__":
    main()
