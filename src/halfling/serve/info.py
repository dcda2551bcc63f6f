"""What `/info` and the list of models say of one: Text Embeddings Inference's fields, and where inputs exit."""

from typing import Any

from halfling import __version__
from halfling.exits.calibration import OfLanguage, TradeOff
from halfling.languages import CC100
from halfling.serve.model import Served


def info_of(served: Served) -> dict[str, Any]:
    """Return what Text Embeddings Inference says of a model, and where inputs exit."""
    said, settings, policy = served.exported, served.settings, served.exported.policy
    chosen = served.calibration.chosen if served.calibration else None
    labels = {
        "id2label": {str(number): name for number, name in enumerate(said.labels)},
        "label2id": {name: number for number, name in enumerate(said.labels)},
    }
    return {
        "model_id": served.name,
        "model_sha": said.checksum,
        "model_dtype": said.precision,
        "served_model_name": served.name,
        "model_type": {"token_classifier" if served.is_tagger else "classifier": labels},
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_input_length": said.shape.max_tokens,
        "max_batch_tokens": settings.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_client_batch_size,
        "auto_truncate": settings.auto_truncate,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "num_layers": said.shape.num_layers,
        "exit_layers": policy.layers,
        "exit_thresholds": policy.thresholds,
        "exit_criterion": policy.criterion,
        "curve": [_shown(one) for one in served.curve],
        "languages": _sets(served),
        # With sets the default is the most cautious of them, and no point of the curve.
        "flops_share": chosen.flops_share if chosen and not said.policies else None,
        "metric": served.calibration.metric if served.calibration else None,
        "pairs": served.task is not None and served.task.kind == "pair_classification",
    }


def _sets(served: Served) -> dict[str, Any]:
    """Return each language's own exits and thresholds, and what calibration found of them."""
    known = served.calibration.languages if served.calibration else {}
    return {
        code: {
            "name": CC100[code].name if code in CC100 else code,
            "exit_layers": policy.layers,
            "exit_thresholds": policy.thresholds,
            **(_found(known[code]) if code in known else {}),
        }
        for code, policy in served.exported.policies.items()
    }


def _found(one: OfLanguage) -> dict[str, Any]:
    """Return what a language's set takes and loses; points from labels are of score, else of disagreement."""
    said = one.point.model_dump(include={"flops_share", "drop", "drop_bound", "time_share", "mean_exit_layer"})
    return {"from_labels": one.from_labels, **said}


def _shown(point: TradeOff) -> dict[str, Any]:
    return point.model_dump(include={"flops_share", "quality", "drop", "time_share", "mean_exit_layer"})
