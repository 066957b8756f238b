"""The recurrences of aviary as operators of PyTorch, with gradients, fake tensors and torch.compile.

    y, final_state = aviary_torch.recurrence("wkv7", r=r, log_w=log_w, k=k, v=v, kappa_hat=kappa_hat, a=a)

aviary_torch.fla has the same under the names and signatures of flash-linear-attention.
"""
from pathlib import Path

import torch

torch.ops.load_library(Path(__file__).with_name("libaviary_torch.so"))

_forward = {rule: getattr(torch.ops.aviary, f"{rule}_forward").default for rule in torch.ops.aviary.rules()}
_backward = {rule: getattr(torch.ops.aviary, f"{rule}_backward").default for rule in _forward}

FIELDS = {rule: tuple(argument.name for argument in forward._schema.arguments[:-3])
          for rule, forward in _forward.items()}
"""The rules of recurrence(), and the names of their inputs. include/aviary/*.hpp say what each computes."""

TOKENS_PER_STATE = 16
"""A state is kept for the gradients every so many tokens. More take less memory, and no more time. On a GPU 16 is the
most, and for heads of 128 x 128 it is 8."""


def recurrence(rule, *, initial_state=None, cu_seqlens=None, **inputs):
    """Takes sequences through the memory `rule`, one of FIELDS. Returns (y, final_state).

    inputs         each of FIELDS[rule], of float32, float64, bfloat16 or float16, mixed as you like: (B, T, H, K or V);
                   (B, T, H) where the rule has one number of a head and token; (H, K) or (H) where it has the same for
                   all tokens. v has the heads of y; those of other fields divide them, and consecutive heads share one.
                   Decays are log_w <= 0. Nothing is scaled nor normalised.
    initial_state  (N, H, K, V) for N sequences, of float64 where v is, else of float32; None: zeros
    cu_seqlens     (N + 1) positions of N packed sequences, with B = 1; None: a batch of B sequences
    y              (B, T, H, V), of v's type
    final_state    as initial_state

    wkv4 has channels in place of heads: k, v and y are (B, T, C), log_w and u (C), states (N, 3, C): (aa, bb, pp) with
    sums aa e^pp and bb e^pp. The gradient of pp of a final state is taken as 0, since any pp would do.

    Gradients are of the first order. Heads of 64 x 64 and 128 x 128 in float32 arithmetic are the fastest ones.

    On a GPU heads are 64 x 64, or 128 x 128 with a delta rule, and v is not of float64. A call waits for cu_seqlens
    that lie there, for it reads them. If all inputs with K or V numbers but log_w are of bfloat16, or all of float16,
    tensor cores take them forward and back: y and the states are within 8 x 2^-11 of their largest number, gradients
    within 16 x 2^-11 of their norm. One of these inputs as float32 asks for float32 arithmetic.
    """
    if rule not in FIELDS:
        raise ValueError(f"aviary: expected one of the rules {', '.join(FIELDS)}, found {rule}")
    if set(inputs) != set(FIELDS[rule]):
        raise TypeError(f"aviary: {rule}: expected the inputs {', '.join(FIELDS[rule])}, found {', '.join(inputs)}")
    learns = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (*inputs.values(), initial_state))
    y, final_state, _ = _forward[rule](*(inputs[name] for name in FIELDS[rule]), initial_state, cu_seqlens,
                                       _tokens_per_state(inputs["v"]) if learns else 0)
    return y, final_state


def _tokens_per_state(v):
    large = v.is_cuda and v.dim() == 4 and v.shape[-1] > 64  # a GPU's blocks have no room for more
    return min(TOKENS_PER_STATE, 8) if large else TOKENS_PER_STATE


def _states(x, offsets, every):
    """How many sequences there are, the shape of one's states, and how many states a tape has of them."""
    v = x["v"]
    n = v.shape[0] if offsets is None else offsets.shape[0] - 1
    kept = v.shape[0] * ((v.shape[1] + every - 1) // every) if offsets is None else v.shape[1] // every + n
    if v.dim() == 3:  # wkv4: the tape also has the initial and the final states
        return n, (3, v.shape[2]), kept + 2 * n
    return n, (v.shape[2], x[next(iter(x))].shape[-1], v.shape[3]), kept


def _empty(like, shape=None, dtype=None):
    return like.new_empty(like.shape if shape is None else shape, dtype=dtype)


def _register(rule):
    """Fake tensors and gradients of a rule's operators. Kernels are registered by C++, for each device."""
    names = FIELDS[rule]

    @torch.library.register_fake(f"aviary::{rule}_forward")
    def _(*arguments):
        *x, _, offsets, every = arguments
        x = dict(zip(names, x))
        v = x["v"]
        n, one, kept = _states(x, offsets, every if every > 0 else 1)
        dtype = torch.float64 if v.dtype == torch.float64 else torch.float32
        return _empty(v), _empty(v, (n, *one), dtype), _empty(v, (kept if every > 0 else 0, *one), dtype)

    @torch.library.register_fake(f"aviary::{rule}_backward")
    def _(*arguments):
        *x, tape, _, _, offsets, every = arguments
        n, one, _ = _states(dict(zip(names, x)), offsets, every)
        return (*(_empty(each) for each in x), _empty(tape, (n, *one)))

    def setup_context(ctx, inputs, output):
        *x, _, offsets, every = inputs
        ctx.every = every
        ctx.save_for_backward(*x, output[2], offsets)
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)

    def backward(ctx, dy, dfinal_state, _):
        *x, tape, offsets = ctx.saved_tensors
        if dy is None:
            dy = torch.zeros_like(x[names.index("v")])
        *dx, dinitial_state = _backward[rule](*x, tape, dy, dfinal_state, offsets, ctx.every)
        return *dx, dinitial_state if ctx.needs_input_grad[len(x)] else None, None, None

    def second(ctx, *_):
        raise NotImplementedError("aviary: gradients are of the first order")

    torch.library.register_autograd(f"aviary::{rule}_forward", backward, setup_context=setup_context)
    torch.library.register_autograd(f"aviary::{rule}_backward", second)


for _rule in FIELDS:
    _register(_rule)

from . import fla  # noqa: E402  (it needs recurrence)

__all__ = ["FIELDS", "TOKENS_PER_STATE", "fla", "recurrence"]
