"""The static half of the language gate: RestrictedPython's transformer, with the subset widened to what honest
programs use.

RestrictedPython refuses every kind of node it does not know; that stays. What changes: names with one underscore,
annotated and augmented assignment, nonlocal, classes and `match` are allowed; iteration, unpacking and reading items
need no guard (they give only what the object's own methods give); every attribute read and every attribute or item
**target**, wherever it stands (`for x.a in`, `with ... as x[0]`, tuple targets), goes through a run-time guard
(`sandbox.guards`).

Chains that begin at an imported module (`torch.linalg.svd`) are also checked here, so that a refusal comes before the
run.
"""

from __future__ import annotations

import ast
from typing import Any

from RestrictedPython.transformer import INSPECT_ATTRIBUTES, RestrictingNodeTransformer, copy_locations

from sandbox.allowlist import MODULES, TOP_LEVEL, nearest
from sandbox.names_python import MISSING_BUILTINS, READABLE_SPECIALS, SPECIAL_METHODS
from sandbox.rules import Refusal

READ_GUARD = "_getattr_"
WRITE_GUARD = "_write_"
ITEM_GUARD = "_items_"
CASES_GUARD = "_cases_"
WRAPPERS = {"__new__": "_making_", "__deepcopy__": "_copying_"}
"""Method -> what decorates it (`sandbox.copies`); it can be defined by `def` alone."""
GUARD_NAMES = frozenset({READ_GUARD, WRITE_GUARD, ITEM_GUARD, CASES_GUARD, *WRAPPERS.values()})
_HELD_CASES = "_cases_of_"
"""Begins the names of variables that hold the values of dotted `case` patterns."""

_HELD_UPDATE = "_updated_"
"""Begins the names of variables that hold an object and its attribute while `object.attribute += ...` is done."""

_SELF_MATCHING = frozenset(
    {"bool", "bytearray", "bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"}
)
"""Built-in classes whose pattern with one argument matches the object itself. In any other class pattern a sub-pattern reads an attribute
past the guard, on any object that says it is of that class."""

NAME_CHARACTERS = 80
"""As much of a refused name is told."""

_READABLE_NAMES = frozenset({"__name__", "__debug__", "__doc__", "__file__"})
_STORABLE_NAMES = frozenset({"__slots__", "__all__", "__version__", "__author__", "__doc__"})


def _bound_names(tree: ast.AST) -> set[str]:
    """Every name that the program binds in any scope by other means than an import."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
    return bound


def _imported_modules(tree: ast.AST, bound: set[str]) -> dict[str, str]:
    """Local name -> module path, for names that mean one and the same module throughout the program."""
    modules: dict[str, str] = {}
    clashes = set(bound)

    def note(local: str, path: str) -> None:
        if modules.setdefault(local, path) != path or path not in MODULES:
            clashes.add(local)

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                note(*((alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                note(alias.asname or alias.name, f"{node.module}.{alias.name}")
    return {local: path for local, path in modules.items() if local not in clashes}


def _is_abc_meta(node: ast.expr) -> bool:
    """`ABCMeta` or `abc.ABCMeta`: honest programs write it for `ABC`; without it only the refusal to make an abstract object is missing."""
    return (
        node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
    ) == "ABCMeta"


class MergeTransformer(RestrictingNodeTransformer):  # type: ignore[misc]  # the base has no types that mypy follows
    """Rewrites a program's tree so that guards see what matters. `refusals` has what it will not accept."""

    def __init__(self, tree: ast.Module) -> None:
        super().__init__()
        self.refusals: list[tuple[Refusal, tuple[str, str] | None]] = []
        self._cases: tuple[str, list[ast.expr]] = ("", [])
        self._matches = self._updates = 0
        self._classes: list[str] = []
        self._bound = _bound_names(tree)
        self._used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        self._modules = _imported_modules(tree, self._bound)
        self._imported = {
            (alias.asname or alias.name.split(".")[0])
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }

    # What the base class calls when it refuses.

    def refuse(self, node: ast.AST, rule: str, name: str, hint: str = "", near: tuple[str, str] | None = None) -> None:
        """Note a refusal. `near`: a name and its module, for which `first_refusal` looks for the nearest allowed one: a slow
        search, to be done once and not for each of ten thousand."""
        self.refusals.append((Refusal(rule, name[:NAME_CHARACTERS], getattr(node, "lineno", None), hint), near))

    def first_refusal(self) -> Refusal | None:
        """The refusal that stands first in the text."""
        if not self.refusals:
            return None
        refusal, near = min(self.refusals, key=lambda pair: pair[0].line or 0)
        if near is None or refusal.hint or len(near[0]) > NAME_CHARACTERS:
            return refusal
        return Refusal(refusal.rule, refusal.name, refusal.line, nearest(*near))

    def error(self, node: ast.AST, info: str) -> None:
        self.refuse(node, "statement", type(node).__name__, info)

    def not_allowed(self, node: ast.AST) -> None:
        self.refuse(node, "statement", type(node).__name__)

    def check_name(self, node: ast.AST, name: str | None, allow_magic_methods: bool = False) -> None:
        if name is None or (allow_magic_methods and name in SPECIAL_METHODS):
            return
        if allow_magic_methods and name.startswith("__"):
            self.refuse(node, "method-name", name)
        elif name.startswith(("__", _HELD_CASES, _HELD_UPDATE)) or name in GUARD_NAMES or name in INSPECT_ATTRIBUTES:
            self.refuse(node, "reserved-name", name)

    # Names, attributes, items.

    def visit_Name(self, node: ast.Name) -> ast.AST:
        reading = isinstance(node.ctx, ast.Load)
        if reading and node.id in _READABLE_NAMES:
            return node
        if not reading and node.id in _STORABLE_NAMES:
            return node
        if not reading and node.id in WRAPPERS:
            self.refuse(node, "method-name", node.id, "define it with def")
        elif node.id not in SPECIAL_METHODS:  # `__radd__ = __add__` in a class
            self.check_name(node, node.id)
        if reading and node.id in MISSING_BUILTINS and node.id not in self._bound and node.id not in self._imported:
            self.refuse(node, "builtin", node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.attr = self._mangled(node.attr)
        if node.attr in INSPECT_ATTRIBUTES or (node.attr.startswith("__") and node.attr not in READABLE_SPECIALS):
            self.refuse(node, "underscore-attribute", node.attr)
            return node
        path = self._module_path(node.value)
        if path is not None and not isinstance(node.ctx, ast.Load):
            self.refuse(node, "attribute-write", f"{path}.{node.attr}", "modules cannot be changed")
        elif path is not None and node.attr not in MODULES[path] and not node.attr.startswith("__"):
            self.refuse(node, "name", f"{path}.{node.attr}", near=(node.attr, path))
        node.value = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            return self._guard(READ_GUARD, [node.value, ast.Constant(node.attr)], node)
        if node.attr.startswith("__"):
            self.refuse(node, "attribute-write", node.attr)
        node.value = self._guard(WRITE_GUARD, [node.value, ast.Constant(node.attr)], node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node = self.node_contents_visit(node)
        if not isinstance(node.ctx, ast.Load):
            node.value = self._guard(ITEM_GUARD, [node.value], node)
        return node

    def _guard(self, guard: str, arguments: list[ast.expr], node: ast.expr) -> ast.Call:
        call = ast.Call(func=ast.Name(guard, ast.Load()), args=arguments, keywords=[])
        copy_locations(call, node)
        return call

    def _module_path(self, node: ast.expr) -> str | None:
        """The module that an expression certainly names, by its dotted path; None where it names none."""
        if isinstance(node, ast.Name):
            return self._modules.get(node.id)
        if isinstance(node, ast.Attribute):
            parent = self._module_path(node.value)
            if parent is not None and f"{parent}.{node.attr}" in MODULES and node.attr in MODULES[parent]:
                return f"{parent}.{node.attr}"
        return None

    # Imports.

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            self.check_name(node, alias.asname)
            if alias.name not in MODULES and self._local(alias) in self._used:
                self.refuse(node, "import", alias.name, "allowed: " + ", ".join(TOP_LEVEL))
        node.names = [
            alias for alias in node.names if alias.name in MODULES
        ]  # an import that nobody uses is a habit, no attempt
        return node if node.names else ast.copy_location(ast.Pass(), node)

    @staticmethod
    def _local(alias: ast.alias) -> str:
        return alias.asname or alias.name.split(".")[0]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        path = "." * node.level + (node.module or "")
        if path not in MODULES and not any(
            self._local(alias) in self._used or alias.name == "*" for alias in node.names
        ):
            return ast.copy_location(ast.Pass(), node)
        if path not in MODULES:
            self.refuse(node, "import", path, "allowed: " + ", ".join(TOP_LEVEL))
            return node
        for alias in node.names:
            self.check_name(node, alias.asname)
            if alias.name not in MODULES[path]:
                hint = "import the names one by one" if alias.name == "*" else ""
                self.refuse(node, "name", f"{path}.{alias.name}", hint, near=(alias.name, path))
        return node

    # Statements that the base class refuses, or guards more than the guards here need.

    def _plain(self, node: ast.AST) -> Any:
        return self.node_contents_visit(node)

    visit_Call = visit_Assign = visit_AnnAssign = visit_For = visit_With = visit_comprehension = _plain
    visit_Module = visit_match_case = visit_MatchSingleton = visit_MatchSequence = visit_MatchOr = _plain

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """`a.b += c` also reads `a.b`, so it becomes: hold a; hold its b, read by the guard; add to it; set b by the guard; let go."""
        node = self._plain(node)
        if not isinstance(node.target, ast.Attribute) or not isinstance(node.target.value, ast.Call):  # it was refused
            return node
        owner, attribute = node.target.value.args
        names = [f"{_HELD_UPDATE}{self._updates}", f"{_HELD_UPDATE}{self._updates}_value"]
        self._updates += 1
        held, value = (ast.Name(name, ast.Load()) for name in names)
        node.target.value.args = [held, attribute]
        read = self._guard(READ_GUARD, [held, attribute], node.target)
        steps = [
            ast.Assign([ast.Name(names[0], ast.Store())], owner),
            ast.Assign([ast.Name(names[1], ast.Store())], read),
            ast.AugAssign(ast.Name(names[1], ast.Store()), node.op, node.value),
            ast.Assign([node.target], value),
            ast.Delete([ast.Name(name, ast.Del()) for name in names]),
        ]
        for step in steps:
            copy_locations(step, node)
        return steps

    def visit_MatchAs(self, node: ast.MatchAs) -> Any:
        self.check_name(node, node.name)
        return self._plain(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> Any:
        self.check_name(node, node.name)
        return self._plain(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> Any:
        simple = isinstance(node.cls, ast.Name) and node.cls.id in _SELF_MATCHING - self._bound - self._imported
        if node.kwd_attrs or (node.patterns and not (simple and len(node.patterns) == 1)):
            self.refuse(
                node, "statement", "class pattern with attributes", "match the class alone and test attributes with if"
            )
            return node
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        if not isinstance(node.cls, ast.Name):
            node.cls = self._held(node.cls)
        return node

    def visit_MatchValue(self, node: ast.MatchValue) -> Any:
        node.value = self._held(node.value) if isinstance(node.value, ast.Attribute) else self.visit(node.value)
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> Any:
        self.check_name(node, node.rest)
        node.keys = [self._held(key) if isinstance(key, ast.Attribute) else self.visit(key) for key in node.keys]
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        return node

    def visit_Match(self, node: ast.Match) -> Any:
        """Dotted values in patterns are read through the guard once, before the match: a pattern may hold a dotted name only, no call."""
        outer, self._cases = self._cases, (f"{_HELD_CASES}{self._matches}", [])
        self._matches += 1
        node = self._plain(node)
        (holder, values), self._cases = self._cases, outer
        if not values:
            return node
        call = ast.Call(func=ast.Name(CASES_GUARD, ast.Load()), args=[ast.Tuple(values, ast.Load())], keywords=[])
        before = ast.Assign(targets=[ast.Name(holder, ast.Store())], value=call)
        copy_locations(before, node)
        return [before, node]

    def _held(self, node: ast.expr) -> ast.expr:
        """The dotted name under which the value of `node` stands in the holder of the match at hand."""
        holder, values = self._cases
        held = ast.Attribute(ast.Name(holder, ast.Load()), f"v{len(values)}", ast.Load())
        values.append(self.visit(node))
        copy_locations(held, node)
        return held

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> ast.AST:
        for name in node.names:
            self.check_name(node, name)
        return node

    visit_Nonlocal = visit_Global

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.name = self._mangled(node.name)
        self.check_name(node, node.name, allow_magic_methods=True)
        self.check_function_argument_names(node)
        node = self._plain(node)
        if node.name in WRAPPERS:
            wrapper = ast.Name(WRAPPERS[node.name], ast.Load())
            copy_locations(wrapper, node)
            node.decorator_list.insert(0, wrapper)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        self.check_name(node, node.name)
        for keyword in node.keywords:
            if keyword.arg is None or (keyword.arg == "metaclass" and not _is_abc_meta(keyword.value)):
                self.refuse(node, "class", keyword.arg or "**", "metaclasses are not available")
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "metaclass"]
        self._classes.append(node.name)
        node = self._plain(node)
        self._classes.pop()
        return node

    def _mangled(self, name: str) -> str:
        """A private name of a class as Python's compiler would write it; the guards get names as text and must see the same."""
        private = name.startswith("__") and not name.endswith("__") and self._classes
        return f"_{self._classes[-1].lstrip('_')}{name}" if private and self._classes[-1].strip("_") else name
