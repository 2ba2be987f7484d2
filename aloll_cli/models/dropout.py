"""Dropout with masks that belong to rows, so that the rows computed together with one, and by which process, change nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers.modeling_layers import GradientCheckpointingLayer

from aloll_cli.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# draw random numbers for a whole micro-batch
DRAWS = {
    functional.alpha_dropout, functional.feature_alpha_dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d,
    torch.bernoulli, torch.rand, torch.rand_like, torch.randn, torch.randn_like, Tensor.bernoulli_, Tensor.normal_,
    Tensor.uniform_,
}  # fmt: skip


class InTraining(nn.Module):
    """A model in training: its dropout may belong to rows, and its layers may be computed again in the backward pass."""

    def __init__(self, model: PreTrainedModel, recompute: bool) -> None:
        """Wrap a model; ``recompute``: gradient checkpointing, recompute layers instead of storing activations."""
        super().__init__()
        self.model = model
        self.dropout: RowDropout | None = None
        self._recompute = recompute
        if recompute:
            # the second name is that of older versions of transformers
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False, "context_fn": self._contexts})

    def _contexts(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """The contexts of a layer in the forward pass, and when it is computed again."""
        return nullcontext(), nullcontext() if self.dropout is None else self.dropout.in_recomputation()

    def dropping(self) -> AbstractContextManager[Any]:
        """The context of the forward pass."""
        return nullcontext() if self.dropout is None else self.dropout.in_forward()

    def set_to_train(self, dropout: bool) -> None:
        """Switch to training mode, with or without dropout."""
        self.train(dropout)
        for part in self.modules() if self._recompute else ():
            if isinstance(part, GradientCheckpointingLayer):
                if not dropout and any("dropout" in name and isinstance(p, float) and p > 0 for name, p in vars(part).items()):
                    raise UserError(
                        f"gradient_checkpointing=true: {type(part).__name__} applies dropout, which must be off here.",
                        "gradient_checkpointing=false",
                    )
                part.training = True  # such a layer recomputes in training mode only; its dropout modules keep their own mode


class RowDropout:
    """Within this context the dropout of a model is a function of the row, the token and the layer.

    A mask is drawn for the real tokens of a row by a generator that is seeded with the row's key and with how many dropouts the
    model has applied before. Layers that are computed again in the backward pass get the same masks.
    """

    def __init__(self, module: InTraining, keys: Sequence[str], lengths: Sequence[int]) -> None:
        """Prepare the masks of a micro-batch of rows that are padded on the right.

        Args:
            module: computes them.
            keys: (B,) what identifies each row, and the training step.
            lengths: (B,) tokens of each row; the longest row has no padding.
        """
        self._module, self._keys, self._lengths, self._width = module, keys, lengths, max(lengths)
        self._count, self._is_drawing = 0, False

    def __enter__(self) -> None:
        self._module.dropout = self

    def __exit__(self, *error: object) -> None:
        self._module.dropout = None

    def in_forward(self) -> AbstractContextManager[Any]:
        """The context of the module's forward pass."""
        return _Intercepting(self)

    def in_recomputation(self) -> AbstractContextManager[Any]:
        """The context in which the layer that begins now will be computed again, on a GPU in another thread."""
        count = self._count

        @contextmanager
        def again() -> Iterator[None]:
            self._count = count
            with _Intercepting(self):
                yield

        return again()

    def called(self, function: Any, arguments: Any, options: dict[str, Any]) -> Any:
        """What a function of torch returns that the model has called."""
        if self._is_drawing:
            return function(*arguments, **options)
        if function is functional.dropout and options.get("training", True) and options.get("p", 0.5) > 0:
            return self._dropped(arguments[0] if arguments else options["input"], float(options.get("p", 0.5)))
        if function is functional.scaled_dot_product_attention and options.get("dropout_p", 0.0) > 0:
            raise UserError("the model drops attention weights, which fused attention can only do per micro-batch.", "attn=eager")
        if function in DRAWS:
            raise UserError(
                f"the model draws random numbers per micro-batch ({function.__name__}): they would depend on micro_batch_size.",
                "Set its dropout to 0, or choose a variant that takes importance ratios, which has none: variant=seq",
            )
        return function(*arguments, **options)

    def _dropped(self, states: Tensor, p: float) -> Tensor:
        """A tensor of any of the shapes that models apply dropout to, with some elements 0 and the others divided by 1 − p."""
        kept = torch.zeros(states.shape, dtype=torch.bool, device=states.device)
        rows, width = len(self._keys), self._width
        if states.ndim == 4 and states.shape[0] == rows and states.shape[2:] == (width, width):  # attention weights
            places = [(kept[i, :, :n, :n]) for i, n in enumerate(self._lengths)]
        elif states.ndim > 2 and states.shape[:2] == (rows, width):
            places = [kept[i, :n] for i, n in enumerate(self._lengths)]
        elif states.ndim == 2 and states.shape[0] == rows:  # what a classifier's head pools of each row
            places = list(kept)
        elif states.ndim == 2 and states.shape[0] == rows * width:  # rows one after the other
            places = [kept[i * width : i * width + n] for i, n in enumerate(self._lengths)]
        else:
            raise UserError(
                f"the model applies dropout to a tensor of shape {tuple(states.shape)}, which is not one of rows.",
                "Set its dropout to 0: adapter.dropout=0",
            )
        self._is_drawing, generator = True, torch.Generator(device=states.device)
        for key, place in zip(self._keys, places, strict=True):
            digest = hashlib.blake2b(f"{key} {self._count}".encode(), digest_size=8).digest()
            generator.manual_seed(int.from_bytes(digest) >> 1)
            place.copy_(torch.rand(place.shape, generator=generator, device=states.device) >= p)
        self._is_drawing = False
        self._count += 1
        return states * kept / (1 - p)


class _Intercepting(TorchFunctionMode):
    """Passes every call of a function of torch to a RowDropout."""

    def __init__(self, dropout: RowDropout) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dropout = dropout

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._dropout.called(func, args, kwargs or {})


def draws_attention(model: Any) -> bool:
    """Whether a model drops attention weights when it trains with dropout."""
    options = model.config.get_text_config().to_dict()
    return any(name.startswith("att") and "drop" in name and isinstance(p, float) and p > 0 for name, p in options.items())
