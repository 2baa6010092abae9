"""mergekit's methods in terms of our streamed forms: which parameters they take, and what a base is to them.

Parameters, defaults and meanings are those of mergekit 0.1.5, with two exceptions where it drops values at random. DARE: it rescales what is left to the L1
norm from before, we divide by the probability, which comes to the same in expectation. DELLA: it does so too, with one factor for all values, and we divide each by
its own probability, as the paper says: large values, which are kept more often, weigh less than in mergekit, small ones more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from merges.errors import OptionError
from merges.streamed import FORMS, Form

__all__ = ["METHODS", "REQUIRED", "Given", "Kind", "Method", "known_parameters"]

REQUIRED = object()


@dataclass(frozen=True)
class Kind:
    """What a parameter may be.

    Attributes:
        type: float, int or bool.
        default: REQUIRED: there is none.
        least, most: its range; the least itself does not belong to it if `above`.
    """

    type: type
    default: Any = REQUIRED
    least: float = -math.inf
    most: float = math.inf
    above: bool = False

    def __str__(self) -> str:
        number = "a whole number" if self.type is int else "a number"
        if self.type is bool:
            return "true or false"
        if self.least == -math.inf:
            return f"{number}, finite"
        if self.most < math.inf:
            return f"{number} from {self.least:g} to {self.most:g}"
        return f"{number} above {self.least:g}" if self.above else f"{number} from {self.least:g} on"

    def holds(self, value: float) -> bool:
        """Whether a value of this type lies in the range."""
        return self.least <= value <= self.most and not (self.above and value == self.least)


Kinds = Mapping[str, Kind]


@dataclass(frozen=True)
class Given:
    """Values for one tensor: those for all models, and per model those of its own."""

    shared: Mapping[str, Any]
    each: Sequence[Mapping[str, Any]]

    def of(self, name: str) -> list[float]:
        """A parameter that every model has a value for."""
        return [float(values[name]) for values in self.each]


@dataclass(frozen=True)
class Method:
    """One merge method.

    Attributes:
        form: how it is computed.
        base: `over`: it merges task vectors over the base, which must be there; `either`: over the base if there is one, else the
            weights themselves; `input`: it merges weights, the base being one model more.
        hyper: from the values given to the form's hyper-parameters.
        shared, each: parameters for all models, and for every model.
        takes: how many models (without the base, for `over` and `either`); None: any number.
        conflict: what is wrong with values that are sound one by one, as "NAMES: expected …, got …"; None: nothing.
    """

    form: Form
    base: Literal["over", "either", "input"]
    hyper: Callable[[Given], dict[str, Any]]
    shared: Kinds = field(default_factory=dict)
    each: Kinds = field(default_factory=dict)
    takes: int | None = None
    conflict: Callable[[Given], str | None] = lambda given: None


def _share(default: Any) -> Kind:
    return Kind(float, default, 0, 1)


def _flag(default: bool) -> Kind:
    return Kind(bool, default)


_WEIGHT: Kinds = {"weight": Kind(float)}


def _weights(given: Given) -> dict[str, Any]:
    return {"weights": given.of("weight")}


def _linear(given: Given) -> dict[str, Any]:
    return {"scale": 1.0, **_weights(given)} if not given.shared["normalize"] else _averaged(given)


def _averaged(given: Given) -> dict[str, Any]:
    total = sum(given.of("weight"))
    return {"scale": 1.0 / total if abs(total) > 1e-8 else 1.0, **_weights(given)}


def _added(given: Given) -> dict[str, Any]:
    """scale and weights of a weighted sum, by `lambda` and `normalize`."""
    total = sum(given.of("weight"))
    divisor = total if given.shared["normalize"] and abs(total) >= 1e-8 else 1.0
    return {"scale": given.shared["lambda"] / divisor, **_weights(given)}


def _elected(given: Given) -> dict[str, Any]:
    return {"scale": given.shared["lambda"], "normalize": given.shared["normalize"], **_weights(given)}


def _masked(*names: str, elects: bool, rescales: bool = False) -> Callable[[Given], dict[str, Any]]:
    """Hyper-parameters of a method that drops values: the named ones per model."""

    def hyper(given: Given) -> dict[str, Any]:
        if given.shared["rescale"] and not rescales:
            raise OptionError(
                "parameter 'rescale': expected false for this method, got true; rescaling is known for DARE and DELLA only"
            )
        found = _elected(given) if elects else _added(given)
        return {
            **found,
            **{name: given.of(name) for name in names},
            **({"rescale": given.shared["rescale"]} if rescales else {}),
        }

    return hyper


def _arithmetic(*, normalize: bool = False, rescale: bool = False) -> Kinds:
    return {
        "lambda": Kind(float, 1.0),
        "normalize": _flag(normalize),
        "rescale": _flag(rescale),
        "int8_mask": _flag(False),
    }


_DENSITY: Kinds = {**_WEIGHT, "density": _share(1.0)}
_GAMMA: Kinds = {**_DENSITY, "gamma": _share(0.01)}
_EPSILON: Kinds = {**_DENSITY, "epsilon": _share(0.15)}


def _spread(given: Given) -> str | None:
    """DELLA's probabilities, between which its ranks are spread, have to be some."""
    for density, epsilon in zip(given.of("density"), given.of("epsilon"), strict=True):
        if 0 < density < 1 and not 0 < density - epsilon <= density + epsilon < 1:
            return f"density and epsilon: expected density - epsilon and density + epsilon between 0 and 1, got {density:g} and {epsilon:g}"
    return None


def _total(switch: str) -> Callable[[Given], str | None]:
    """Weights that are divided by their sum must have one."""

    def conflict(given: Given) -> str | None:
        weights = given.of("weight")
        if not given.shared[switch] or abs(sum(weights)) > 1e-8:
            return None
        return f"weight: expected a sum other than 0, by which {switch} divides, got {', '.join(f'{weight:g}' for weight in weights)}"

    return conflict


def _nuslerp(given: Given) -> dict[str, Any]:
    w0, w1 = given.of("weight")
    return {
        "w0": w0,
        "w1": w1,
        "flatten": given.shared["nuslerp_flatten"],
        "row_wise": given.shared["nuslerp_row_wise"],
    }


METHODS: Mapping[str, Method] = {
    "linear": Method(
        FORMS["weighted_task_arithmetic"], "input", _linear, {"normalize": _flag(True)}, _WEIGHT, conflict=_total("normalize")
    ),
    "task_arithmetic": Method(
        FORMS["weighted_task_arithmetic"], "over", _masked(elects=False), _arithmetic(), _DENSITY
    ),
    "ties": Method(FORMS["ties"], "over", _masked("density", elects=True), _arithmetic(normalize=True), _DENSITY),
    "dare_linear": Method(
        FORMS["dare_linear"], "over", _masked("density", elects=False, rescales=True), _arithmetic(rescale=True), _DENSITY
    ),
    "dare_ties": Method(
        FORMS["dare_ties"], "over", _masked("density", elects=True, rescales=True), _arithmetic(rescale=True), _DENSITY
    ),
    "breadcrumbs": Method(FORMS["breadcrumbs"], "over", _masked("density", "gamma", elects=False), _arithmetic(), _GAMMA),
    "breadcrumbs_ties": Method(
        FORMS["breadcrumbs_ties"], "over", _masked("density", "gamma", elects=True), _arithmetic(), _GAMMA
    ),
    "della": Method(
        FORMS["della"], "over", _masked("density", "epsilon", elects=True, rescales=True),
        _arithmetic(normalize=True, rescale=True), _EPSILON, conflict=_spread,
    ),
    "della_linear": Method(
        FORMS["della_linear"], "over", _masked("density", "epsilon", elects=False, rescales=True),
        _arithmetic(rescale=True), _EPSILON, conflict=_spread,
    ),
    "slerp": Method(FORMS["slerp"], "input", lambda given: {"t": given.shared["t"]}, {"t": Kind(float)}, takes=2),
    "nuslerp": Method(
        FORMS["nuslerp"], "either", _nuslerp, {"nuslerp_flatten": _flag(True), "nuslerp_row_wise": _flag(False)}, _WEIGHT, 2
    ),
    "multislerp": Method(
        FORMS["multislerp"], "either",
        lambda given: {"normalize": given.shared["normalize_weights"], "eps": given.shared["eps"], **_weights(given)},
        {"normalize_weights": _flag(True), "eps": Kind(float, 1e-8, 0, above=True)}, _WEIGHT, conflict=_total("normalize_weights"),
    ),
    "karcher": Method(
        FORMS["karcher"], "input", lambda given: {"steps": given.shared["max_iter"], "tolerance": given.shared["tol"]},
        {"max_iter": Kind(int, 10, 1), "tol": Kind(float, 1e-5, 0, above=True)},
    ),
    "model_stock": Method(
        FORMS["model_stock"], "over", lambda given: {"filter_wise": given.shared["filter_wise"], "floor": 1e-6}, {"filter_wise": _flag(False)}
    ),
    "sce": Method(
        FORMS["sce"], "over", lambda given: {"density": given.shared["select_topk"]},
        {"select_topk": _share(1.0), "int8_mask": _flag(False)},
    ),
    "nearswap": Method(FORMS["nearswap"], "over", lambda given: {"t": given.shared["t"]}, {"t": Kind(float, least=0)}, takes=1),
    "arcee_fusion": Method(FORMS["arcee_fusion"], "over", lambda given: {}, takes=1),
    "ram": Method(FORMS["ram"], "over", lambda given: dict(given.shared), {"epsilon": Kind(float, 1e-5, 0)}),
    "ramplus_tl": Method(
        FORMS["ramplus"], "over", lambda given: dict(given.shared),
        {"r": Kind(float, 0.1), "alpha": Kind(float, 0.2, 0), "epsilon": Kind(float, 1e-5, 0, above=True)},
    ),
    "passthrough": Method(
        FORMS["weighted_task_arithmetic"], "input",
        lambda given: {"scale": 1.0, "weights": [1.0 if v["scale"] is None else float(v["scale"]) for v in given.each]},
        each={"scale": Kind(float, None)}, takes=1,
    ),
}  # fmt: skip
"""mergekit's name -> method."""


def known_parameters() -> frozenset[str]:
    """Every parameter of any method: a recipe may carry some that its method does not look at."""
    return frozenset(name for method in METHODS.values() for name in (*method.shared, *method.each))
