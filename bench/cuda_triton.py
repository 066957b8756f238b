#!/usr/bin/env python3
"""A plain WKV-7 in Triton, for bench_cuda --beside: cuda_triton.py [--short] > FILE

One program takes a head of a sequence from its first token to its last, with its state in registers. Prints lines
"NAME MILLISECONDS" under the names of bench_cuda. Ends with 77 where there is no PyTorch, no Triton or no GPU.
"""
import statistics
import sys

try:
    import torch
    import triton
    import triton.language as tl
except ImportError as error:
    sys.exit(print(f"cuda_triton: {error}", file=sys.stderr) or 77)

SIZE = 64
LEAST_LOG_W = -0.6065306597


@triton.jit
def wkv7(r, log_w, k, v, kappa_hat, a, y, state, tokens, heads, N: tl.constexpr):
    """S' = S (diag(w) - kappa_hat (a kappa_hat)^T) + v k^T, y = S' r; all but the state: (sequences, tokens, heads, N)"""
    unit = tl.program_id(0).to(tl.int64)
    sequence = unit // heads
    i = tl.arange(0, N)
    tile = unit * N * N + i[:, None] * N + i[None, :]  # (value, key)
    s = tl.load(state + tile)
    at = (sequence * tokens * heads + unit % heads) * N + i
    for t in range(tokens):
        w = tl.exp(tl.load(log_w + at).to(tl.float32))
        kappa = tl.load(kappa_hat + at).to(tl.float32)
        rate = tl.load(a + at).to(tl.float32)
        key = tl.load(k + at).to(tl.float32)
        value = tl.load(v + at).to(tl.float32)
        probe = tl.sum(s * kappa[None, :], axis=1)
        s = s * w[None, :] - probe[:, None] * (rate * kappa)[None, :] + value[:, None] * key[None, :]
        out = tl.sum(s * tl.load(r + at).to(tl.float32)[None, :], axis=1)
        tl.store(y + at, out.to(y.dtype.element_ty))
        at += heads * N
    tl.store(state + tile, s)


def reference(r, log_w, k, v, kappa_hat, a):
    """The same in double, for one short call."""
    r, log_w, k, v, kappa_hat, a = (x.double() for x in (r, log_w, k, v, kappa_hat, a))
    sequences, tokens, heads, n = r.shape
    s = torch.zeros(sequences, heads, n, n, dtype=torch.float64, device=r.device)
    y = torch.empty_like(r)
    for t in range(tokens):
        probe = torch.einsum("bhvk,bhk->bhv", s, kappa_hat[:, t])
        s = s * log_w[:, t].exp()[:, :, None, :] - probe[..., None] * (a * kappa_hat)[:, t, :, None, :]
        s = s + v[:, t, :, :, None] * k[:, t, :, None, :]
        y[:, t] = torch.einsum("bhvk,bhk->bhv", s, r[:, t])
    return y


def inputs(sequences, tokens, heads, dtype):
    """r, log_w, k, v, kappa_hat, a as layers make them."""

    def normals():
        return torch.randn(sequences, tokens, heads, SIZE, device="cuda")

    x = [
        normals(),
        LEAST_LOG_W * torch.sigmoid(2 * normals()),
        normals(),
        normals(),
        torch.nn.functional.normalize(normals(), dim=-1),
        torch.sigmoid(1.5 * normals()),
    ]
    return [one.to(dtype) for one in x]


class Call:
    def __init__(self, sequences, heads, tokens, dtype):
        self.x = inputs(sequences, tokens, heads, dtype)
        self.y = torch.empty_like(self.x[0])
        self.state = torch.zeros(sequences, heads, SIZE, SIZE, device="cuda")
        self.units, self.tokens, self.heads = sequences * heads, tokens, heads

    def __call__(self, warps):
        wkv7[(self.units,)](*self.x, self.y, self.state, self.tokens, self.heads, N=SIZE, num_warps=warps)

    def milliseconds(self, warps, warm=2, rounds=9):
        times = []
        for i in range(warm + rounds):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            self(warps)
            end.record()
            end.synchronize()
            if i >= warm:
                times.append(begin.elapsed_time(end))
        return statistics.median(times)


def main():
    if sys.argv[1:] not in ([], ["--short"]):
        sys.exit(print(f"cuda_triton: expected [--short], found {' '.join(sys.argv[1:])}", file=sys.stderr) or 2)
    if not torch.cuda.is_available():
        sys.exit(print("cuda_triton: no GPU", file=sys.stderr) or 77)
    torch.manual_seed(1)

    check = Call(2, 3, 40, torch.float32)
    check(4)
    exact = reference(*check.x)
    error = ((check.y - exact).norm() / exact.norm()).item()
    if not error < 1e-5:
        sys.exit(f"cuda_triton: wrong outputs, a relative error of {error:.1e}")

    shapes = [(2, 4, 256), (1, 4, 1024)] if sys.argv[1:] else [(8, 32, 4096), (1, 32, 65536)]
    for sequences, heads, tokens in shapes:
        for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
            call = Call(sequences, heads, tokens, dtype)
            best = min(call.milliseconds(warps) for warps in (1, 2, 4, 8))
            print(f"wkv7/forward/{name}/K{SIZE}/B{sequences}/H{heads}/T{tokens} {best:.6g}", flush=True)


if __name__ == "__main__":
    main()
