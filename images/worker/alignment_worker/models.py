"""Models from folders: safetensors only, no code from the folder, nothing missing, nothing resized."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_worker.failures import InvalidModelError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model, in evaluation mode on its device, with its tokenizer."""

    model: Any
    tokenizer: Any
    eos_ids: frozenset[int]
    pad_id: int
    vocabulary: int  # width of the logits, and how many embeddings there are
    max_positions: int | None  # longest sequence that the model was made for


@dataclass(frozen=True)
class Vocabulary:
    """What is known of a causal language model without its weights."""

    tokenizer: Any
    eos_ids: frozenset[int]
    size: int  # width of the logits
    max_positions: int | None


@dataclass(frozen=True)
class ScoringModel:
    """A sequence classifier with one label, likewise."""

    model: Any
    tokenizer: Any
    embeddings: int
    max_positions: int | None


def max_positions(folder: Path, role: str = "model") -> int | None:
    """Of the model in the folder, without loading its weights. Raises InvalidModelError."""
    return _max_positions(_config(role, folder).get_text_config())


def longest(max_length: int, positions: int | None) -> int:
    """Tokens of the longest sequence to train on: the user's limit, or what the model was made for."""
    return min(max_length, positions or max_length)


def embeddings(folder: Path, role: str = "model") -> int:
    """How many tokens the model in the folder knows; its tokenizer may have more. Raises InvalidModelError."""
    return int(_config(role, folder).get_text_config().vocab_size)


def vocabulary(role: str, folder: Path) -> Vocabulary:
    """Of the model in the folder, without loading its weights. Raises InvalidModelError."""
    text_config, tokenizer = _config(role, folder).get_text_config(), load_tokenizer(folder, role)
    file = folder / "generation_config.json"
    generation = json.loads(file.read_bytes()) if file.is_file() else {}
    return Vocabulary(
        tokenizer=tokenizer,
        eos_ids=_flat(text_config.eos_token_id, tokenizer.eos_token_id, generation.get("eos_token_id")),
        size=text_config.vocab_size,
        max_positions=_max_positions(text_config),
    )


def check(role: str, folder: Path, *, reward: bool) -> None:
    """Everything that can be known without loading weights. Raises InvalidModelError."""
    _check_files(role, folder)
    config = _config(role, folder)
    if reward:
        _check_labels(role, folder, config)
    load_tokenizer(folder, role)


def load_policy(role: str, folder: Path, precision: str = "Auto") -> LanguageModel:
    """Load for inference, on the accelerator if there is one. Raises InvalidModelError."""
    from alignment_worker.precision import device, dtype_of  # noqa: PLC0415 - torch only where weights are loaded

    where = device()
    model = load_weights(role, folder, dtype_of(precision, where)).to(where)
    tokenizer = load_tokenizer(folder, role)
    return language_model(model, tokenizer)


def language_model(model: Any, tokenizer: Any) -> LanguageModel:
    """What sampling and scoring need to know of a model that is loaded already."""
    text_config = model.config.get_text_config()
    return LanguageModel(
        model=model.eval(),
        tokenizer=tokenizer,
        eos_ids=eos_ids(model, tokenizer),
        pad_id=pad_id(tokenizer, text_config.vocab_size),
        vocabulary=text_config.vocab_size,
        max_positions=_max_positions(text_config),
    )


def without_weights(folder: Path) -> Any:
    """The causal language model's modules on the meta device, with the folder's generation config."""
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig  # noqa: PLC0415

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model


def load_weights(role: str, folder: Path, dtype: Any, layout: Any = None) -> Any:
    """The causal language model alone, on the CPU, in training or inference precision. Raises InvalidModelError.

    `layout` says how the processes of a gang divide it; each then has its part on its device.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    _check_files(role, folder)
    _config(role, folder)
    return _loaded(role, folder, AutoModelForCausalLM, dtype, layout=layout)


def classifies(role: str, folder: Path) -> bool:
    """Whether it is a sequence classifier; else it is a causal language model. Raises InvalidModelError."""
    _check_files(role, folder)
    if _classifies(folder):
        return True
    if any("ForCausalLM" in name for name in _architectures(folder)):
        return False
    raise InvalidModelError(
        f"{role}: {folder} is {', '.join(_architectures(folder)) or 'of no stated architecture'}; name a sequence "
        "classifier or a causal language model"
    )


def load_reward_model(role: str, folder: Path) -> ScoringModel:
    """Raises InvalidModelError."""
    return load_classifier(role, folder)


def load_classifier(role: str, folder: Path, labels: tuple[int, ...] = (1,)) -> ScoringModel:
    """With so many labels; with one alone it is a reward model. Raises InvalidModelError."""
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    from alignment_worker.precision import device, dtype_of  # noqa: PLC0415

    _check_files(role, folder)
    config = _config(role, folder)
    _check_labels(role, folder, config, labels)
    where = device()
    model = _loaded(role, folder, AutoModelForSequenceClassification, dtype_of("Auto", where)).to(where)
    text_config = config.get_text_config()
    return ScoringModel(
        model=model.eval(),
        tokenizer=load_tokenizer(folder, role),
        embeddings=text_config.vocab_size,
        max_positions=_max_positions(text_config),
    )


def load_embedding_model(role: str, folder: Path) -> ScoringModel:
    """Its states are what counts: a head that the folder has weights of is left out. Raises InvalidModelError."""
    import torch  # noqa: PLC0415
    from transformers import AutoModel  # noqa: PLC0415

    from alignment_worker.precision import device  # noqa: PLC0415

    _check_files(role, folder)
    config = _config(role, folder).get_text_config()
    model = _loaded(role, folder, AutoModel, torch.float32).to(device())
    return ScoringModel(
        model=model.eval(),
        tokenizer=load_tokenizer(folder, role),
        embeddings=config.vocab_size,
        max_positions=_max_positions(config),
    )


def load_backbone(role: str, folder: Path) -> Any:
    """A sequence classifier with one label in FP32, on the CPU; a causal language model gets a new head.

    Raises InvalidModelError.
    """
    from torch import float32  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    _check_files(role, folder)
    check_backbone(role, folder)
    return _loaded(role, folder, AutoModelForSequenceClassification, float32, new_head=True)


def check_backbone(role: str, folder: Path) -> Any:
    """The classifier without weights, on the meta device. Raises InvalidModelError."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    config = _config(role, folder)
    if _classifies(folder):
        _check_labels(role, folder, config)
    config.num_labels = 1
    try:
        with torch.device("meta"):
            return AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise InvalidModelError(
            f"{role}: {folder} is {type(config).__name__}, of which transformers makes no sequence classifier: name "
            "another model"
        ) from error


def load_tokenizer(folder: Path, role: str = "model") -> Any:
    """As it is stored: nothing is added to its vocabulary. Raises InvalidModelError."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise InvalidModelError(
            f"{role}: {folder} has no tokenizer; add tokenizer.json and tokenizer_config.json"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise InvalidModelError(
            f"{role}: the tokenizer in {folder} cannot be loaded: {_first_line(error)}. Code in the folder is "
            "never run."
        ) from error


def eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends an answer: generation_config.json may name several, and chat models need them all."""
    named = [model.config.get_text_config().eos_token_id, tokenizer.eos_token_id]
    if model.generation_config is not None:
        named.append(model.generation_config.eos_token_id)
    return _flat(*named)


def _flat(*named: Any) -> frozenset[int]:
    flat = [item for value in named for item in (value if isinstance(value, list | tuple) else [value])]
    return frozenset(item for item in flat if item is not None)


def pad_id(tokenizer: Any, vocabulary: int) -> int:
    """What fills up a batch. It is masked out everywhere, so any that the model knows does."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0):
        if candidate is not None and candidate < vocabulary:
            return int(candidate)
    raise AssertionError


def _check_files(role: str, folder: Path) -> None:
    if not folder.is_dir():
        raise InvalidModelError(f"{role}: {folder} is a file; name the folder of the model")
    if not (folder / "config.json").is_file():
        raise InvalidModelError(
            f"{role}: {folder} has no config.json; name a folder as save_pretrained writes it"
        )
    weights = {file.name for file in folder.glob("*.safetensors")}
    if weights == {"adapter_model.safetensors"}:
        raise InvalidModelError(
            f"{role}: {folder} holds an adapter and no model; merge it into its base model (merge_and_unload)"
        )
    if weights:
        _check_weights(role, folder, weights)
        return
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickled:
        raise InvalidModelError(
            f"{role}: {folder} holds weights only as {', '.join(pickled[:3])}, which can run code when loaded. Save "
            "the model with save_pretrained(safe_serialization=True)."
        )
    raise InvalidModelError(f"{role}: {folder} holds no weights; *.safetensors are expected")


def _check_weights(role: str, folder: Path, there: set[str]) -> None:
    """All parts, each as long as its header says."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    for index in folder.glob("*.safetensors.index.json"):
        missing = sorted(set(json.loads(index.read_bytes())["weight_map"].values()) - there)
        if missing:
            raise InvalidModelError(f"{role}: {folder} lacks {', '.join(missing[:3])}; copy the folder again")
    for name in sorted(there):
        try:
            with safe_open(folder / name, framework="numpy"):
                pass
        except SafetensorError as error:
            raise InvalidModelError(
                f"{role}: {folder / name} is not whole: {_first_line(error)}; copy it again"
            ) from error


def _config(role: str, folder: Path) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise InvalidModelError(
            f"{role}: {folder / 'config.json'} cannot be used: {_first_line(error)}. Code in the folder is never run."
        ) from error


def _check_labels(role: str, folder: Path, config: Any, labels: tuple[int, ...] = (1,)) -> None:
    if not _classifies(folder):
        raise InvalidModelError(
            f"{role}: {folder} is {', '.join(_architectures(folder) or ['of no stated architecture'])}, not a "
            "sequence classifier; a reward model needs one with a single label"
        )
    if config.num_labels not in labels:
        needed = (
            "a reward model needs exactly one (num_labels=1)" if labels == (1,) else "one or two are needed"
        )
        raise InvalidModelError(f"{role}: {folder} has {config.num_labels} labels; {needed}")


def _classifies(folder: Path) -> bool:
    return any("ForSequenceClassification" in name for name in _architectures(folder))


def _architectures(folder: Path) -> list[str]:
    return list(json.loads((folder / "config.json").read_bytes()).get("architectures") or [])


def _loaded(
    role: str, folder: Path, kind: Any, dtype: Any, *, new_head: bool = False, layout: Any = None
) -> Any:
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    said = logging.get_verbosity()
    if new_head:
        logging.set_verbosity_error()  # it warns of the head, which is meant to be new
    try:
        model, info = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            distributed_config=layout,
            **({"num_labels": 1} if new_head else {}),
        )
    except Exception as error:
        raise InvalidModelError(
            f"{role}: the model in {folder} cannot be loaded: {_first_line(error)}"
        ) from error
    finally:
        logging.set_verbosity(said)
    missing = sorted(info["missing_keys"])
    if new_head:
        missing = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
    if missing:
        raise InvalidModelError(
            f"{role}: {folder} lacks {len(missing)} of the model's weights ({', '.join(missing[:3])}); they would be "
            "random. Copy the folder again, or name a model of the right kind."
        )
    return model


def _max_positions(text_config: Any) -> int | None:
    limit = getattr(text_config, "max_position_embeddings", None)
    return int(limit) if limit else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
