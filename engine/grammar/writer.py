"""The pen of the grammar: lines with indentation, identifiers, numbers that are literals or hyper-parameters.

A stage (one step of the merge) draws from two streams: `form` decides wording and idiom, `numbers` decides constants. So a
variant can keep a stage's text and change its numbers alone.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INDENT = "    "
MAX_HYPERPARAMETERS = 4
NARROW = 1  # names per role outside the wide style
EXTRAS = ("name", "depth", "base", "rng")  # the order in which programs declare them

_NAMES: dict[str, tuple[str, ...]] = {
    "vector": ("v", "v", "vec", "delta", "tv", "d", "x", "t"),
    "vectors": ("vectors", "deltas", "tvs", "tasks", "parts", "taus", "vecs"),
    "stack": ("stack", "stacked", "all_tasks", "block", "tensors"),
    "merged": ("merged", "merged", "out", "result", "combined", "total"),
    "weights": ("weights", "weights", "coeffs", "alphas", "ws", "mix"),
    "weight": ("w", "w", "a", "c", "coef"),
    "scores": ("scores", "measures", "sizes", "strengths", "values"),
    "score": ("s", "m", "r", "score"),
    "reference": ("ref", "mean", "center", "avg", "anchor"),
    "helper": ("prepare", "clean", "transform", "process", "shape_vector", "adjust", "refine"),
}


class Writer:
    """Collects one program. `pending` holds per-vector steps until some stage needs the vectors.

    `wide` draws identifiers from large pools, as many authors would; otherwise one author's habit. A small language model
    learns to carry names through a program from the wide style, and makes far fewer slips in the narrow one.
    """

    def __init__(self, style: random.Random, *, wide: bool = False) -> None:
        self.form = style
        self.numbers = style
        self.wide = wide
        self.hyper_rate = style.choice((0.0, 0.3, 0.6, 0.9) if wide else (0.0, 0.0, 1.0))
        self.comment_rate = style.choice((0.0, 0.0, 0.3, 0.7))
        self.eps = style.choice(("1e-8", "1e-8", "1e-6", "1e-12", "1e-10"))
        self.names = {role: style.choice(pool if wide else pool[:NARROW]) for role, pool in _NAMES.items()}
        self.body: list[str] = []
        self.helpers: list[str] = []
        self.hyper: dict[str, str] = {}
        self.extras: set[str] = set()
        self.imports = {"torch"}
        self.ideas: list[tuple[int, str]] = []
        self._order = 0
        self.touched: list[str] = []
        self.pending: list[Callable[[str], None]] = []
        self.has_list = False
        self.has_stack = False
        self._level = 1

    def pick(self, *options: str) -> str:
        return self.form.choice(options)

    def label(self, *options: str) -> str:
        """A name for a constant or a local: any of the options in the wide style, else always the first."""
        return self.form.choice(options) if self.wide else options[0]

    def chance(self, probability: float) -> bool:
        return self.form.random() < probability

    def line(self, text: str) -> None:
        self.body.append(INDENT * self._level + text)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        self.line(header)
        self._level += 1
        yield
        self._level -= 1

    @contextmanager
    def stage(self, order: int, form: int, numbers: int) -> Iterator[None]:
        """Draw from a stage's own two streams until the block ends; `order` is its place in the stated idea."""
        before = self.form, self.numbers, self._order
        self.form, self.numbers, self._order = random.Random(form), random.Random(numbers), order
        yield
        self.form, self.numbers, self._order = before

    def number(self, label: str, low: float, high: float, *, log: bool = False, whole: bool = False) -> str:
        """A constant in [low, high]: a literal, or the name of a keyword-only hyper-parameter holding it."""
        text = self._constant(low, high, log=log, whole=whole)
        wanted = self.form.random() < self.hyper_rate
        if not wanted or len(self.hyper) >= MAX_HYPERPARAMETERS or label in self.names.values():
            return text
        name, count = label, 2
        while name in self.hyper:
            name, count = f"{label}{count}", count + 1
        self.hyper[name] = text
        self.touched.append(name)
        return name

    def literal(self, low: float, high: float, *, log: bool = False) -> str:
        return self._constant(low, high, log=log, whole=False)

    def _constant(self, low: float, high: float, *, log: bool, whole: bool) -> str:
        if whole:
            return str(self.numbers.randint(int(low), int(high)))
        if log:
            value = math.exp(self.numbers.uniform(math.log(low), math.log(high)))
            digits = max(0, 1 - math.floor(math.log10(value)))
        else:
            value = self.numbers.uniform(low, high)
            digits = self.numbers.choice((1, 2, 2, 2, 3))
        value = round(value, digits) or round(low, 3) or high
        text = f"{value:.6f}".rstrip("0")
        return text + "0" if text.endswith(".") else text

    def use(self, extra: str) -> str:
        """Declare one of the contract's extra parameters and return its name."""
        assert extra in EXTRAS, extra
        self.extras.add(extra)
        self.touched.append(extra)
        return extra

    def say(self, *phrases: str) -> None:
        """State what the next lines do: part of the idea at the top, and now and then a comment in place."""
        phrase = self.form.choice(phrases)
        if self.form.random() < self.comment_rate:
            self.line(f"# {phrase}")
        self.ideas.append((self._order, phrase))

    def note(self, phrase: str) -> None:
        """Add to the stated idea without a comment in place."""
        self.ideas.append((self._order, phrase))

    # The vectors, as a list, as one stack, or one at a time.

    def vectors(self) -> str:
        name = self.names["vectors"]
        if not self.has_list:
            self._write_list(name)
            self.has_list = True
        return name

    def stack(self) -> str:
        name = self.names["stack"]
        if not self.has_stack:
            if self.pending or self.has_list:
                self.line(f"{name} = torch.stack({self.vectors()})")
            else:
                inside = self.pick(
                    "list(model_dict.values())", "[v for v in model_dict.values()]", "list(model_dict.values())"
                )
                dim = self.pick("", "", ", dim=0")
                self.line(f"{name} = torch.stack({inside}{dim})")
            self.has_stack = True
        return name

    def _write_list(self, name: str) -> None:
        v = self.names["vector"]
        header = self.pick(
            f"for {v} in model_dict.values():", f"for {v} in model_dict.values():", f"for _, {v} in model_dict.items():"
        )
        if not self.pending:
            key = self.pick("k", "key", "model")
            source = self.pick(
                "list(model_dict.values())",
                "list(model_dict.values())",
                f"[{v}.to(device) {header.rstrip(':')}]",
                f"[model_dict[{key}] for {key} in model_dict]",
            )
            self.line(f"{name} = {source}")
        elif self.chance(0.5):
            self.line(f"{name} = []")
            with self.block(header):
                self.flush(v)
                self.line(f"{name}.append({v})")
        else:
            call = self._write_helper(v)
            self.line(f"{name} = [{call} {header.rstrip(':')}]")

    def flush(self, v: str) -> None:
        """Write the pending per-vector steps here, on variable `v`."""
        steps, self.pending = self.pending, []
        for step in steps:
            step(v)

    def _write_helper(self, v: str) -> str:
        """Move the pending steps into a function of their own; return the call for vector `v`."""
        body, touched, level = self.body, self.touched, self._level
        self.body, self.touched, self._level = [], [], 1
        self.flush(v)
        lines = self.body
        used = [name for name in dict.fromkeys(self.touched) if _mentions(lines, name)]
        self.body, self.touched, self._level = body, touched + used, level
        arguments = ", ".join([v, *used])
        name = self.names["helper"]
        self.helpers.append("\n".join([f"def {name}({arguments}):", *lines, f"{INDENT}return {v}"]))
        return f"{name}({arguments})"

    def program(self) -> str:
        """The finished source: idea, imports, helpers, the function."""
        sentence = self._sentence()
        extras = [extra for extra in EXTRAS if extra in self.extras]
        written = [name for name in self.hyper if _mentions(self.body, name)]
        hyper = ["*", *(f"{name}={self.hyper[name]}" for name in written)] if written else []
        head = f"def merge_models({', '.join(['model_dict', 'device', *extras, *hyper])}):"
        imports = [f"import {module}" for module in sorted(self.imports)]
        idea = [] if self.form.random() < 0.12 else [f"# {sentence}"]
        docstring = [f'{INDENT}"""{sentence}"""'] if not idea else []
        sections = ["\n".join([*idea, *imports]), *self.helpers, "\n".join([head, *docstring, *self.body])]
        return self.form.choice(("\n\n", "\n\n", "\n")).join(sections) + "\n"

    def _sentence(self) -> str:
        ideas = list(dict.fromkeys(phrase for _, phrase in sorted(self.ideas, key=lambda idea: idea[0])))
        joint = self.form.choice((", then ", "; ", ", ", " and "))
        sentence = joint.join(ideas) or "merge the task vectors"
        opening = self.form.choice(("", "", "", "Idea: ", "Plan: "))
        return opening + (sentence if opening else sentence[0].upper() + sentence[1:]) + "."


def _mentions(lines: list[str], name: str) -> bool:
    word = re.compile(rf"\b{re.escape(name)}\b")
    return any(word.search(line) for line in lines)
