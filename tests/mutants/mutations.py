"""Mutants of a Python module: copies with one small change in what it computes.

Input: the text of a module. Output: a `Mutant` for every place and change (`list_mutants`), and its text (`apply_mutant`).
Messages, annotations, decorators, assertions and docstrings are left alone. A mutant is named by its function and its change,
not by its line, so that its name survives edits elsewhere in the file.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_FUNCTIONS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list",
    "floor": "ceil", "ceil": "floor", "argmax": "argmin", "argmin": "argmax",
}  # fmt: skip
_SPEECH = {"print_line", "print", "show_note", "warn", "info", "warning"}  # calls that only speak to a person
# What these arguments say shows in looks and wording only; `strict` of a zip asserts, as `assert` does.
_COSMETIC = {
    "color",
    "description",
    "dpi",
    "figsize",
    "fontsize",
    "indent",
    "linewidth",
    "strict",
    "title",
    "transient",
}
_MAX_SHOWN = 90


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    `name` is its function, the code before and after and, of equal ones, its number. `node_index` is the place of the node in
    `ast.walk`, `change_index` the number of its change.
    """

    name: str
    node_index: int
    change_index: int

    @property
    def scope(self) -> str:
        """The function or class, or `module`."""
        return self.name.partition(": ")[0]


def list_mutants(text: str) -> list[Mutant]:
    """Every mutant of a module, in the order of the text."""
    names: Counter[str] = Counter()
    mutants = []
    for node, node_index, scope in _list_places(ast.parse(text)):
        for change_index, changed in enumerate(_change(node)):
            name = f"{scope}: {_show(node)} -> {'left out' if changed is None else _show(changed)}"
            names[name] += 1
            name = f"{name} #{names[name]}" if names[name] > 1 else name
            mutants.append(Mutant(name, node_index, change_index))
    return mutants


def apply_mutant(text: str, mutant: Mutant) -> str:
    """The text of the module with one change."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    node = nodes[mutant.node_index]
    changed = list(_change(node))[mutant.change_index]
    for parent in nodes:
        for field, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, field, changed)
            elif isinstance(value, list):
                replaced = changed if changed is not None else ast.Pass()
                value[:] = [replaced if item is node else item for item in value]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def read_scope(text: str, scope: str) -> str:
    """The code of a function or class, the outermost one of a scope; all code for `module`. Without comments."""
    tree = ast.parse(text)
    name = scope.partition(".")[0]
    nodes: list[ast.AST] = [node for node in tree.body if getattr(node, "name", None) == name]
    return "\n".join(map(ast.unparse, nodes or [tree]))


def _list_places(tree: ast.Module) -> list[tuple[ast.AST, int, str]]:
    """The nodes that may change, each with its place in `ast.walk` and the name of its function."""
    indices = {id(node): index for index, node in enumerate(ast.walk(tree))}
    places: list[tuple[ast.AST, int, str]] = []

    def visit(node: ast.AST, scope: tuple[str, ...]) -> None:
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom) or _speaks(node):
            return
        if isinstance(node, ast.keyword) and node.arg in _COSMETIC:
            return
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = (*scope, node.name)
        else:
            places.append((node, indices[id(node)], ".".join(scope) or "module"))
        left_out = {"annotation", "returns", "decorator_list", "type_params"}
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and field not in left_out:
                    visit(child, scope)

    visit(tree, ())
    return places


def _speaks(node: ast.AST) -> bool:
    """Whether a statement only prints, or is a docstring."""
    if not isinstance(node, ast.Expr):
        return False
    call = node.value
    if isinstance(call, ast.Call):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        return name in _SPEECH
    return isinstance(call, ast.Constant)


def _change(node: ast.AST) -> Iterator[ast.AST | None]:
    """What may stand in place of a node; None leaves the statement out."""
    twin = copy.deepcopy(node)
    match twin:
        case ast.Compare(ops=[operator]):
            for other in _COMPARISONS.get(type(operator), ()):
                yield ast.Compare(twin.left, [other()], twin.comparators)
        case ast.BinOp(op=operator) if type(operator) in _OPERATORS and not _is_text(twin):
            yield ast.BinOp(twin.left, _OPERATORS[type(operator)](), twin.right)
        case ast.AugAssign(op=operator) if type(operator) in _OPERATORS and not _is_text(twin.value):
            yield ast.AugAssign(twin.target, _OPERATORS[type(operator)](), twin.value)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(twin.op, ast.And) else ast.And(), twin.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield twin.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(2 * value if value else 1.0)
        case ast.IfExp() | ast.If() | ast.While() if not isinstance(twin.test, ast.Compare | ast.BoolOp | ast.Constant):
            twin.test = ast.UnaryOp(ast.Not(), twin.test)
            yield twin
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Expr(value=ast.Call()):
            yield None
        case ast.Call():
            yield from _change_call(twin)
        case ast.List(elts=[first, second, *rest]) | ast.Tuple(elts=[first, second, *rest]) if _may_swap(first, second):
            yield type(twin)([second, first, *rest], ast.Load())


def _change_call(call: ast.Call) -> Iterator[ast.AST]:
    """Another function of the same kind, two arguments the other way round, or a named argument left to its default."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in _FUNCTIONS:
        other = copy.deepcopy(call)
        if isinstance(other.func, ast.Attribute):
            other.func.attr = _FUNCTIONS[name]
        elif isinstance(other.func, ast.Name):
            other.func.id = _FUNCTIONS[name]
        yield other
    match call.args:
        case [first, second, *rest] if _may_swap(first, second) and name not in _FUNCTIONS and name != "isinstance":
            yield ast.Call(call.func, [second, first, *rest], call.keywords)
    for index, keyword in enumerate(call.keywords):
        if (
            keyword.arg is not None
            and keyword.arg not in _COSMETIC
            and not (name == "Thread" and keyword.arg == "name")
        ):
            yield ast.Call(call.func, call.args, [*call.keywords[:index], *call.keywords[index + 1 :]])


def _may_swap(first: ast.expr, second: ast.expr) -> bool:
    """Whether two expressions are of one kind and not equal: two numbers, or two names."""
    numbers = all(isinstance(item, ast.Constant) and isinstance(item.value, int | float) for item in (first, second))
    names = all(isinstance(item, ast.Name | ast.Attribute) for item in (first, second))
    return (numbers or names) and ast.unparse(first) != ast.unparse(second)


def _is_text(node: ast.expr) -> bool:
    """Whether an expression has a text literal: `+` joins it, `%` and `*` mean other things."""
    literals = (child for child in ast.walk(node) if isinstance(child, ast.Constant | ast.JoinedStr))
    return any(isinstance(child, ast.JoinedStr) or isinstance(child.value, str) for child in literals)


def _show(node: ast.AST) -> str:
    """The code of a node on one line; of a branch or loop only its condition."""
    shown = node.test if isinstance(node, ast.If | ast.While) else node
    text = " ".join(ast.unparse(shown).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
