"""Models on disk: a folder with ``weights.safetensors`` and ``model.json``; no pickles, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from heteromics import __version__
from heteromics._files import whole_folder
from heteromics.errors import FeaturesDiffer, ModelError, some

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What a model folder holds.

    Attributes
    ----------
    kind
        Class name, such as ``"ScMoGNN"``.
    config
        The configuration as plain values; see :func:`heteromics._config.build`.
    weights
        Tensors by name.
    features
        Names the model was trained on, in order, by role: ``{"feature": (...), "target": (...)}``.
    extra
        Whatever else the model needs, as JSON values.
    """

    kind: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    features: dict[str, tuple[str, ...]]
    extra: dict[str, Any] = field(default_factory=dict)


def save_model(folder: Path | str, saved: SavedModel) -> Path:
    """Write a model folder; an earlier model there is replaced only once the new one is complete.

    Raises
    ------
    ModelError
        When ``folder`` exists and holds something that is not a model.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise ModelError(
            f"{folder} exists and is not a model folder ({some(p.name for p in folder.iterdir())}). "
            "Fix: choose another."
        )
    described = {
        "format": FORMAT,
        "heteromics": __version__,
        "kind": saved.kind,
        "config": saved.config,
        "features": {role: list(names) for role, names in saved.features.items()},
        "extra": saved.extra,
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in saved.weights.items()}
    with whole_folder(folder) as fresh:
        save_file(weights, fresh / "weights.safetensors")
        (fresh / "model.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    return folder


def load_model(folder: Path | str, kind: str) -> SavedModel:
    """Read a model folder.

    Raises
    ------
    ModelError
        When there is no model, it is of another kind or format, or its weights are missing or truncated.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise ModelError(
                f"{folder}: found model format {described['format']}, expected {FORMAT}. Fix: train again."
            )
        if described["kind"] != kind:
            raise ModelError(
                f"{folder}: found a {described['kind']} model, expected {kind}. Fix: {described['kind']}.load(...)."
            )
        weights = load_file(folder / "weights.safetensors")
    except FileNotFoundError as error:
        raise ModelError(f"{folder} holds no saved model: {Path(error.filename).name} is missing.") from None
    except (SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise ModelError(f"{folder}: the saved model is broken ({error}). Fix: train or copy it again.") from error
    features = {role: tuple(names) for role, names in described["features"].items()}
    return SavedModel(kind, described["config"], weights, features, described["extra"])


def check_features(
    expected: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[str] | np.ndarray], model: str
) -> None:
    """Make sure that a model meets the features it was trained on, in the same order.

    Parameters
    ----------
    expected, found
        Names by role; every role of ``expected`` must be in ``found``.
    model
        The model's name, for the message.

    Raises
    ------
    FeaturesDiffer
        Says for the first differing role how many names are missing, how many are new, or that only the order differs.

    Examples
    --------
    >>> check_features({"gene": ["A", "B"]}, {"gene": ["A", "B"]}, "ScMoGNN")
    """
    for role, names in expected.items():
        want, have = [str(name) for name in names], [str(name) for name in found.get(role, ())]
        if want == have:
            continue
        missing, new = sorted(set(want) - set(have)), sorted(set(have) - set(want))
        if not missing and not new:
            raise FeaturesDiffer(
                f"{model} was trained on the same {len(want)} {role} names in another order. "
                f"Fix: put the data into the model's order, data[:, model.features['{role}']]."
            )
        raise FeaturesDiffer(
            f"{model} was trained on {len(want)} {role} names, found {len(have)}: "
            f"{len(missing)} missing ({some(missing) or 'none'}), {len(new)} unknown ({some(new) or 'none'}). "
            "Fix: build the graph with the features the model was trained on."
        )
