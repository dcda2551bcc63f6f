"""Model folders: what is loaded from the hub or from disk, and what is written so that bare transformers loads it.

A folder's own code is never run (`trust_remote_code=False`; unsaid, transformers asks on standard input).
"""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import (
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)
from transformers.utils import logging

from halfling.errors import HalflingError
from halfling.files import sha256
from halfling.models.trusted import require_config, require_finite, require_fit


def fetched(place: str) -> Path:
    """Return a model's folder: one here, or one of the hub, brought into its cache.

    A name of two parts is a hub id where no folder here begins as it does: a mistyped path asks nobody.

    Raises:
        HalflingError: The hub has no such model, or cannot be reached.
    """
    folder = Path(place)
    if folder.exists() or len(folder.parts) != 2 or place[0] in "./~" or Path(folder.parts[0]).exists():
        return folder
    try:
        return Path(snapshot_download(place, allow_patterns=["*.json", "*.model", "model*.safetensors"]))
    except Exception as error:
        raise _unreadable(place, "model", error) from error


def load_tokenizer(source: str | Path, model: PreTrainedModel | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a hub id or folder.

    Args:
        source: A hub id or folder.
        model: Who will read its ids.

    Raises:
        HalflingError: There is none, it cannot be reached, or it is not the model's.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:
        raise _unreadable(source, "tokenizer", error) from error
    if len(tokenizer) <= len({*tokenizer.all_special_tokens}):  # what transformers makes up where there are no files
        raise HalflingError(f"{source}: holds no tokenizer (no tokenizer.json): save the model with its tokenizer")
    if model is not None:
        require_fit(source, tokenizer, model.config)
    # How it was found is no property of it: saved along, it would make the same stage's bytes differ off line.
    for name in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def load_model(model_class: Any, source: str | Path, *, new: tuple[str, ...] = (), **options: Any) -> PreTrainedModel:
    """Return `model_class.from_pretrained(source)` in float32, from safetensors.

    Args:
        model_class: A model class of transformers or of ours.
        source: A hub id or folder.
        new: Prefixes of weights that the source need not hold: they start at random.
        options: For `from_pretrained`.

    Raises:
        HalflingError: There is no such model, its files are damaged, its numbers are none or contradict each other, or
            other weights are missing: a classifier at random would be scored like a trained one.
    """
    try:
        if not (said := PreTrainedConfig.get_config_dict(str(source))[0]):
            raise OSError("it holds no config.json")
    except Exception as error:
        raise _unreadable(source, "model", error) from error
    require_config(source, said)
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # a fresh classifier on a pretrained encoder is the plan, not a warning
    try:
        model, found = model_class.from_pretrained(
            str(source),
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below; transformers' own error names none
            **options,
        )
    except Exception as error:
        raise _unreadable(source, "model", error) from error
    finally:
        logging.set_verbosity(before)
    vars(model.config).pop("auto_map", None)  # of a folder with code of its own, which a copy of the model would lack
    for key, its, asked in sorted(found["mismatched_keys"]):
        if not key.startswith(new):
            raise HalflingError(
                f"{source}: its {key} is {[*its]}, and config.json asks for {[*asked]}: "
                "restore the folder as it was saved"
            )
    if absent := sorted(key for key in found["missing_keys"] if not key.startswith(new)):
        raise HalflingError(
            f"{source}: holds no trained {absent[0]} (and {len(absent) - 1} more) for {model_class.__name__}: "
            "train it for this task first, or name another folder"
        )
    require_finite(source, model.state_dict(), "its training diverged, or the file is damaged: name another folder")
    return model


def weights_sha256(folder: Path) -> str:
    """Return what tells the weights of a model folder from all others: the SHA-256 of its safetensors file.

    Raises:
        HalflingError: The folder holds no weights.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise HalflingError(f"{folder}: holds no {weights.name}: name a model's folder")
    return sha256(weights)


def save_masked_lm(
    config: XLMRobertaConfig, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase, out: Path
) -> None:
    """Write a plain `XLMRobertaForMaskedLM` with its tokenizer: what else `config` and `state` hold is left behind."""
    settings = XLMRobertaConfig().to_dict().keys()
    plain = XLMRobertaForMaskedLM(
        XLMRobertaConfig(**{name: value for name, value in config.to_dict().items() if name in settings})
    )
    known = plain.state_dict().keys()
    plain.load_state_dict({name: weight for name, weight in state.items() if name in known})
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _unreadable(source: str | Path, what: str, error: Exception) -> HalflingError:
    inner = sorted(
        (file.parent for file in Path(source).glob("*/config.json")), key=lambda path: (len(path.name), path)
    )
    if inner and not (Path(source) / "config.json").is_file():
        return HalflingError(f"{source}: holds {len(inner)} models and is none: name one, for instance {inner[-1]}")
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return HalflingError(f"{source}: no {what} could be loaded from this folder or hub id ({first_line})")
