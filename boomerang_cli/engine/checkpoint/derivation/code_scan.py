"""What a model's code does with the number of a layer, and what its layers hand on beside the hidden states.

Signatures are blind to both: two layers that are built alike may still compute otherwise by their number.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from boomerang_cli.engine.checkpoint.derivation.blank_model import LAYER_NUMBERS, layers_of
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError

_KEEPS_STATE = re.compile(r"(past|cache|state|mems|log|warn)\w*(\[.*\])?\.\w+|\.update\b|warn|print|len$|range$|^min$")
_HELD_BY_LAYER = r"past|cache|state|attentions|head_mask|mems|position_embeddings|layer_types"
_HANDED_ON = {"hidden_states", "past_key_values"}

Parents = list[ast.AST]


def code_problem(model: Any, stack: str, lists: Sequence[str]) -> str | None:
    """Say what in the code of a model keeps its layers from being moved, if anything does.

    Args:
        lists: the configuration's per-layer lists, which a layer may look itself up in.
    """
    held = re.compile("|".join([_HELD_BY_LAYER, *map(re.escape, lists)]))
    problems = [*_number_in_layers(model, stack, held), *_loop_problems(model, stack, held)]
    return min(problems, default=None)


def _number_in_layers(model: Any, stack: str, held: re.Pattern[str]) -> Iterator[str]:
    classes = {type(module) for layer in layers_of(model, stack) for module in layer.modules()}
    for kind in classes:
        if not kind.__module__.startswith("transformers.models"):
            continue
        for base in kind.__mro__:
            if not base.__module__.startswith("transformers.models"):
                continue
            for name, function in vars(base).items():
                if not inspect.isfunction(function) or name in ("__init__", "extra_repr", "_init_weights"):
                    continue
                for node, parents in _walk(_parsed(function)):
                    own = isinstance(node, ast.Attribute) and node.attr in LAYER_NUMBERS and _is_self(node.value)
                    given = isinstance(node, ast.Name) and node.id in LAYER_NUMBERS and isinstance(node.ctx, ast.Load)
                    if (own or given) and not _harmless(parents, held):
                        yield f"{kind.__name__}.{name} computes with {ast.unparse(node)}"


def _loop_problems(model: Any, stack: str, held: re.Pattern[str]) -> Iterator[str]:
    owner_name, _, attribute = stack.rstrip(".").rpartition(".")
    owner = model.get_submodule(owner_name)
    where = f"{type(owner).__name__}.forward"
    for loop in ast.walk(_parsed(inspect.unwrap(type(owner).forward))):
        if not isinstance(loop, ast.For) or f"self.{attribute}" not in ast.unparse(loop.iter):
            continue
        number = _loop_number(loop)
        for statement in loop.body:
            for node, parents in _walk(statement):
                used = isinstance(node, ast.Name) and node.id == number and isinstance(node.ctx, ast.Load)
                if used and not _harmless(parents, held):
                    yield f"{where} computes with the layer's number"
        target = loop.target.elts[-1] if isinstance(loop.target, ast.Tuple) else loop.target
        layer_calls = (ast.unparse(target), f"self.{attribute}[{number}]")
        for node in ast.walk(loop):
            if carried := _carried(node, layer_calls):
                yield f"{where} hands {', '.join(sorted(carried))} on from layer to layer"


def _loop_number(loop: ast.For) -> str | None:
    iterated = ast.unparse(loop.iter)
    if "enumerate" in iterated and isinstance(loop.target, ast.Tuple):
        return ast.unparse(loop.target.elts[0])
    return ast.unparse(loop.target) if iterated.startswith("range") else None


def _carried(statement: ast.AST, layer_calls: tuple[str, str]) -> set[str]:
    """Return what a layer's call both takes, beside its first argument, and gives."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return set()
    call = statement.value
    if ast.unparse(call.func) not in layer_calls:
        return set()
    given = {name for each in statement.targets for name in _names(each)}
    taken = {name for each in [*call.args[1:], *(keyword.value for keyword in call.keywords)] for name in _names(each)}
    first = {name for each in call.args[:1] for name in _names(each)}
    return (given & taken) - first - _HANDED_ON


def _harmless(parents: Parents, held: re.Pattern[str]) -> bool:
    """Tell whether a number is used as the key of a cache or of a list, compared with None, or put into words."""
    for parent in parents:
        if isinstance(parent, (ast.Raise, ast.JoinedStr)):
            return True
        if isinstance(parent, ast.Call):
            called = ast.unparse(parent.func)
            # What a module's own method does with it is seen there.
            if _KEEPS_STATE.search(called) or re.fullmatch(r"self\.\w+", called):
                return True
        if isinstance(parent, ast.Subscript):
            looked_up = ast.unparse(parent.value)
            if re.fullmatch(r"(self\.)?config\.\w+", looked_up) or held.search(looked_up):
                return True
        if isinstance(parent, ast.Compare) and any(isinstance(each, (ast.Is, ast.IsNot)) for each in parent.ops):
            return True
    return False


def _parsed(function: Callable[..., Any]) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        raise NotDerivableError(f"the code of {function.__qualname__} cannot be read") from None


def _walk(node: ast.AST, parents: Parents | None = None) -> Iterator[tuple[ast.AST, Parents]]:
    """Yield every node with those that it stands in, the nearest first."""
    above = parents or []
    yield node, above
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, [node, *above])


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"
