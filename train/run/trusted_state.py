"""What a checkpoint holds, compared with what the run has before anything is loaded: its bytes may be anybody's.

All errors are RunErrors in words that follow "the newest checkpoint": "has no 'step'".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from store.schema import RunError
from train.run.skips import Skips

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, beside its "step"
EXTRA = "_extra_state"  # ends the name of what a module saves and checks itself


def has_keys(given: object, wanted: Iterable[str], where: str) -> dict[Any, Any]:
    """`given`, which must be a dictionary with at least the `wanted` keys."""
    if not isinstance(given, dict):
        raise RunError(f"holds a {type(given).__name__} as {where}, not a dictionary")
    if missing := [key for key in wanted if key not in given]:
        raise RunError(f"has no {missing[0]!r} in {where}")
    return given


def whole_number(given: object, most: int, what: str) -> int:
    """`given`, which must be an integer from 1 to `most`."""
    if type(given) is not int or not 1 <= given <= most:
        raise RunError(f"has {shown(given)} as {what}, not a whole number from 1 to {most}")
    return given


def seconds(given: object) -> float:
    """`given`, which must be a time, s."""
    if not isinstance(given, float | int) or not 0 <= given < math.inf:
        raise RunError(f"has {shown(given)} as its seconds, not a number that is at least 0")
    return float(given)


def digest_or_none(given: object, what: str) -> str | None:
    """`given`, which must be a text or, in earlier versions, None."""
    if not isinstance(given, str | None):
        raise RunError(f"has {shown(given)} as the digest of {what}, not a text")
    return given


def skips(given: object, done: int) -> Skips:
    """`given`, which must be the counts of skipped steps among `done` or, in earlier versions, None."""
    if given is None:
        return Skips()
    names = [count.name for count in fields(Skips)]
    counts = has_keys(given, names, "its skipped steps")
    for name in names:
        most = done if name == "total" else counts["total"]
        if type(counts[name]) is not int or not 0 <= counts[name] <= most:
            raise RunError(f"has {shown(counts[name])} as {name} of its skipped steps, not a number from 0 to {most}")
    return Skips(**{name: counts[name] for name in names})


def rows_of_terms(given: object) -> list[dict[str, float]]:
    """`given`, which must be a list with the same finite terms for each step."""
    rows: list[Any] = given if isinstance(given, list) else [None]
    names: set[str] = set(rows[0]) if rows and isinstance(rows[0], dict) else set()
    for row in rows:
        if not isinstance(row, dict) or row.keys() != names or not all(_is_term(*term) for term in row.items()):
            raise RunError("has other terms than a list of the same finite numbers for each step")
    return rows


def check_module(given: object, module: nn.Module, name: str) -> None:
    """The state of a module must have the names, shapes and kinds of its own tensors, and be finite."""
    own = module.state_dict()
    state = has_keys(given, own, f"the {name}")
    if extra := [key for key in state if key not in own]:
        raise RunError(f"has {shown(extra[0])} in the {name}, which the network has not")
    for key, tensor in own.items():
        if not key.endswith(EXTRA):
            _check_tensor(state[key], tensor, f"{key} of the {name}")


def check_moments(given: object, optimiser: Optimizer, player: str, done: int, trained: Mapping[int, Tensor]) -> None:
    """The moments of each parameter must have its shape and kind, after at most `done` steps.

    `trained` are the tensors in the checkpoint by the `id` of their parameters: one that never moved has the value that
    it was made with, and no moments, as it had no gradient, or zeros after 0 steps, as all were skipped.
    """
    held = has_keys(given, ("state",), f"the optimiser of the {player}")
    state = has_keys(held["state"], (), f"the state of the {player}'s optimiser")
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    if extra := [index for index in state if type(index) is not int or not 0 <= index < len(parameters)]:
        raise RunError(f"has moments of a parameter {shown(extra[0])} of the {player}, which has {len(parameters)}")
    for index, parameter in enumerate(parameters):
        what = f"parameter {index} of the {player}"
        if index in state and _check_adam(state[index], parameter, what, done):
            continue
        if (value := trained.get(id(parameter))) is not None and not torch.equal(parameter.detach().cpu(), value):
            raise RunError(f"has {'0 as the step' if index in state else 'no moments'} of {what}, which was trained")


def _check_adam(given: object, parameter: Tensor, what: str, done: int) -> int:
    """Returns after how many steps."""
    moments = has_keys(given, ("step", *MOMENTS), f"the moments of {what}")
    _check_tensor(moments["step"], torch.zeros(()), f"the step of {what}")
    step = float(moments["step"])
    if not 0 <= step <= done or step % 1:
        raise RunError(f"has {step:g} as the step of {what} after {done} steps")
    for name in MOMENTS:
        _check_tensor(moments[name], parameter, f"{name} of {what}")
    if bool((moments[MOMENTS[1]] < 0).any()):
        raise RunError(f"has a negative mean of squares, {MOMENTS[1]} of {what}")
    if not step and any(bool(moments[name].any()) for name in MOMENTS):
        raise RunError(f"has 0 as the step of {what}, with moments")
    return int(step)


def _check_tensor(given: object, own: Tensor, what: str) -> None:
    if not isinstance(given, Tensor):
        raise RunError(f"has a {type(given).__name__} as {what}, not a tensor")
    if given.layout is not torch.strided or given.is_quantized or given.device.type != "cpu":
        raise RunError(f"has {what} as no plain tensor")
    if (given.shape, given.dtype) != (own.shape, own.dtype):
        raise RunError(
            f"has {what} with shape {list(given.shape)} and {given.dtype}, not {list(own.shape)} and {own.dtype}"
        )
    if not bool(given.isfinite().all()):
        raise RunError(f"has {what} with values that are not finite")


def _is_term(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, float) and math.isfinite(value)


def shown(value: object) -> str:
    """The beginning of a value of any length, in one line."""
    text = ascii(value) if isinstance(value, str | float | bool | None) else f"a {type(value).__name__}"
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value) if abs(value) < 10**20 else "a longer number"
    return text if len(text) <= 60 else f"{text[:60]}..."
