"""Model folders: what is loaded from the hub or from disk, and what is written so that bare transformers loads it.

A folder's own code is never run (`trust_remote_code=False`; unsaid, transformers asks on standard input).
"""

from pathlib import Path
from typing import Any, Literal, cast

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

from halfling import json_text
from halfling.errors import HalflingError
from halfling.files import sha256
from halfling.models.convert import bert, four_bit
from halfling.models.convert.package import PREFIX, origin_in, packaged
from halfling.models.convert.vocabulary import read_vocabulary
from halfling.models.trusted import require_config, require_finite, require_fit, stored_shapes

_HEAD = "lm_head."


def fetched(place: str, what: Literal["model", "tokenizer"] = "model") -> Path:
    """Return a model's folder: one here, or one of the hub, brought into its cache; or the file of `package:NAME`.

    A name of two parts is a hub id where no folder here begins as it does: a mistyped path asks nobody.

    Args:
        place: A folder, a file, a hub id or `package:NAME`.
        what: Of the hub, what is brought: of a tokenizer no weights.

    Raises:
        HalflingError: The hub has no such model or cannot be reached, or the package is not installed.
    """
    if place.startswith(PREFIX):
        return packaged(place)
    folder = Path(place)
    if folder.exists() or len(folder.parts) != 2 or place[0] in "./~" or Path(folder.parts[0]).exists():
        return folder
    weights = ["model*.safetensors"] if what == "model" else []
    try:
        return Path(snapshot_download(place, allow_patterns=["*.json", "*.model", "vocab.txt", *weights]))
    except Exception as error:
        raise _unreadable(place, what, error) from error


def load_tokenizer(source: str | Path, model: PreTrainedModel | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a hub id, folder or `package:NAME`; of a model in BERT's layout XLM-R's.

    Args:
        source: A hub id or folder.
        model: Who will read its ids.

    Raises:
        HalflingError: There is none, it cannot be reached, it is not the model's, or BERT's layout comes with another
            vocabulary.
    """
    folder = fetched(str(source), "tokenizer")
    if four_bit.is_four_bit(folder):
        return four_bit.read_tokenizer(folder)
    if (settings := _settings(folder)).get("model_type") == bert.KIND:
        longest = settings.get("max_position_embeddings", 512)
        if type(longest) is not int or longest < 1:
            raise HalflingError(
                f"{source}: config.json says max_position_embeddings={longest!r}: a whole number from 1: restore the "
                "folder as it was saved"
            )
        return read_vocabulary(folder, longest)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
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
    """Return a model of class `model_class` in float32, from safetensors or a package's file.

    An encoder in BERT's layout with XLM-R's vocabulary is converted (`models.convert`).

    Args:
        model_class: A model class of transformers or of ours.
        source: A hub id, a folder, `package:NAME` or the file that it stands for.
        new: Prefixes of weights that the source need not hold: they start at random.
        options: For `from_pretrained`.

    Raises:
        HalflingError: There is no such model, its files are damaged, its numbers are none or contradict each other, or
            other weights are missing: a classifier at random would be scored like a trained one.
    """
    return _load(model_class, source, new, options)[0]


def load_masked_lm(model_class: type[XLMRobertaForMaskedLM], source: str | Path) -> tuple[XLMRobertaForMaskedLM, bool]:
    """Return a model as `load_model`, and whether its source has a language-model head: without one it is at random.

    Raises:
        HalflingError: As `load_model`; or the head is there in part.
    """
    model, untrained = _load(model_class, source, (_HEAD,), {})
    absent = sorted(name for name in untrained if name != "lm_head.decoder.weight")  # the word embeddings, tied
    # A decoder's bias is the head's own under a second name.
    whole = {name for name in model.state_dict() if name.startswith(_HEAD)} - {f"{_HEAD}decoder.weight"}
    if absent and {*absent} | {f"{_HEAD}decoder.bias"} != whole:
        raise HalflingError(f"{source}: its language-model head holds no {absent[0]}: name another folder")
    return cast(XLMRobertaForMaskedLM, model), not absent


def _load(
    model_class: Any, source: str | Path, new: tuple[str, ...], options: dict[str, Any]
) -> tuple[PreTrainedModel, set[str]]:
    """Return the model, and the names of its weights that start at random."""
    place = fetched(str(source))
    given: dict[str, Any] = {}
    if found := _converted(place):
        settings = found.config.to_dict() | {
            name: options.pop(name) for name in ("id2label", "label2id", "num_labels") if name in options
        }
        given = {"config": model_class.config_class(**settings), "state_dict": found.weights}
        said, shapes = found.config.to_dict(), {name: [*weight.shape] for name, weight in found.weights.items()}
    else:
        try:
            if not (said := PreTrainedConfig.get_config_dict(str(place))[0]):
                raise OSError("it holds no config.json")
        except Exception as error:
            raise _unreadable(source, "model", error) from error
        shapes = stored_shapes(place)
    require_config(source, said, shapes)
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # a fresh classifier on a pretrained encoder is the plan, not a warning
    try:
        model, loaded = model_class.from_pretrained(
            None if given else str(place),
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below; transformers' own error names none
            **given,
            **options,
        )
    except Exception as error:
        raise _unreadable(source, "model", error) from error
    finally:
        logging.set_verbosity(before)
    vars(model.config).pop("auto_map", None)  # of a folder with code of its own, which a copy of the model would lack
    for key, its, asked in sorted(loaded["mismatched_keys"]):
        if not key.startswith(new):
            raise HalflingError(
                f"{source}: its {key} is {[*its]}, and config.json asks for {[*asked]}: "
                "restore the folder as it was saved"
            )
    untrained = {*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])}
    if absent := sorted(key for key in untrained if not key.startswith(new)):
        raise HalflingError(
            f"{source}: holds no trained {absent[0]} (and {len(absent) - 1} more) for {model_class.__name__}: "
            "train it for this task first, or name another folder"
        )
    require_finite(source, model.state_dict(), "its training diverged, or the file is damaged: name another folder")
    return model, untrained


def _converted(place: Path) -> bert.Converted | None:
    """Return the model at a place in XLM-R's layout if it has another."""
    if four_bit.is_four_bit(place):
        return four_bit.read_four_bit(place, origin_in(place))
    if (settings := _settings(place)).get("model_type") != bert.KIND:
        return None
    tokenizer = read_vocabulary(place, 0)  # first: another vocabulary is refused before weights are read
    return bert.read_bert(place, settings, len(tokenizer))


def _settings(folder: Path) -> dict[str, Any]:
    """Return what a folder's `config.json` says; nothing where there is none.

    Raises:
        HalflingError: It cannot be read.
    """
    path = folder / "config.json"
    said = json_text.read(path) if path.is_file() else None
    return said if isinstance(said, dict) else {}


def origin_of(model: PreTrainedModel) -> dict[str, Any]:
    """Return `origin`, what a converted model was made of, for a manifest; nothing of any other."""
    said = getattr(model.config, "origin", None)
    return {"origin": said} if said else {}


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
    config: XLMRobertaConfig,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    *,
    has_head: bool = True,
) -> None:
    """Write a plain `XLMRobertaForMaskedLM` with its tokenizer: what else `config` and `state` hold is left behind.

    Without a trained language-model head it is a plain `XLMRobertaModel`.
    """
    settings = {*XLMRobertaConfig().to_dict(), "origin"}
    plain = XLMRobertaForMaskedLM(
        XLMRobertaConfig(**{name: value for name, value in config.to_dict().items() if name in settings})
    )
    known = plain.state_dict().keys()
    plain.load_state_dict({name: weight for name, weight in state.items() if name in known})
    (plain if has_head else plain.roberta).save_pretrained(out)
    tokenizer.save_pretrained(out)


def _unreadable(source: str | Path, what: str, error: Exception) -> HalflingError:
    inner = sorted(
        (file.parent for file in Path(source).glob("*/config.json")), key=lambda path: (len(path.name), path)
    )
    if inner and not (Path(source) / "config.json").is_file():
        return HalflingError(f"{source}: holds {len(inner)} models and is none: name one, for instance {inner[-1]}")
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return HalflingError(f"{source}: no {what} could be loaded from this folder or hub id ({first_line})")
