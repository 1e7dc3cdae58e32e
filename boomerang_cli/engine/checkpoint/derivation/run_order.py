"""What runs before a model's layers: seen in a forward pass on torch's `meta` device that ends at the first of them."""

from __future__ import annotations

from typing import Any

from boomerang_cli.engine.checkpoint.derivation.blank_model import layers_of
from boomerang_cli.engine.checkpoint.derivation.refusal import NotDerivableError

_ASKS_FOR_A_VALUE = {"item": 0, "__int__": 0, "__index__": 0, "__float__": 0, "__bool__": False, "__contains__": False}


def runs_before(model: Any, stack: str) -> frozenset[str]:
    """Return the names of the modules that run before the first layer.

    Raises:
        NotDerivableError: the pass reaches no layer.
    """
    import torch

    class _AtTheLayers(Exception):
        pass

    def stop(*_: Any) -> None:
        raise _AtTheLayers

    layers, before, hooks = layers_of(model, stack), set(), []
    inner = {id(module) for layer in layers for module in layer.modules()}
    hooks += [layer.register_forward_pre_hook(stop) for layer in layers]
    for name, module in model.named_modules():
        if id(module) not in inner and (module._parameters or module._buffers):
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: before.add(name)))
    reason = "the forward pass reaches no layer"
    try:
        with torch.no_grad(), _answers_for_values():
            model(torch.zeros((1, 4), dtype=torch.long, device="meta"), use_cache=False)
    except _AtTheLayers:
        return frozenset(before)
    except Exception as error:  # whatever a model's code raises where there are no values
        reason = str(error).strip().splitlines()[0][:100] if str(error).strip() else type(error).__name__
    finally:
        for hook in hooks:
            hook.remove()
    raise NotDerivableError(f"what runs before them is not known: {reason}")


def _answers_for_values() -> Any:
    """Return a context in which code that asks a tensor on `meta` for a value goes on, with 0 or False."""
    from torch.overrides import TorchFunctionMode

    class _Answers(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                return function(*args, **(kwargs or {}))
            except (RuntimeError, NotImplementedError):
                name = getattr(function, "__name__", "")
                if name not in _ASKS_FOR_A_VALUE:
                    raise
                return _ASKS_FOR_A_VALUE[name]

    return _Answers()
