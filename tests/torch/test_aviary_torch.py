"""Tests of aviary_torch: python3 test_aviary_torch.py [-v], with the built package on PYTHONPATH.

AVIARY_GOLDEN_DIRS names folders with golden files (tests/golden/README.md), separated by colons. Operators are tested
on a GPU as well where PyTorch has one.
"""
import json
import math
import os
import unittest
from pathlib import Path

import torch

import aviary_torch
from aviary_torch import fla, recurrence

# --- golden files ---------------------------------------------------------------------------------------------------


def read_safetensors(path):
    """The tensors of a file by name, and its metadata."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    metadata = header.pop("__metadata__")
    types = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64}
    return {name: torch.frombuffer(bytearray(data[begin + x["data_offsets"][0]:begin + x["data_offsets"][1]]),
                                   dtype=types[x["dtype"]]).reshape(x["shape"])
            for name, x in header.items()}, metadata


# Whether there is a GPU, and kernels for it.
ON_GPU = torch.cuda.is_available() and torch._C._dispatch_has_kernel_for_dispatch_key("aviary::wkv7_forward", "CUDA")

# From the decay that a file has to log_w.
DECAYS = {
    "w_raw": lambda x: -x.exp(),
    "w_pre": lambda x: -math.exp(-0.5) * torch.sigmoid(x),
    "w": torch.log,
    "w_log": lambda x: x,
    "gk": lambda x: x,
    "g": lambda x: x,
}

# A file's op through the package: x has its tensors, and log_w.
GOLDEN = {
    "wkv5_v50": lambda x, s: recurrence("wkv5_per_head", initial_state=s, **pick(x, "r log_w k v u")),
    "wkv5_v52": lambda x, s: recurrence("wkv5", initial_state=s, **pick(x, "r log_w k v u")),
    "wkv6": lambda x, s: fla.chunk_rwkv6(w=x["log_w"], scale=1.0, initial_state=s, output_final_state=True,
                                         **pick(x, "r k v u")),
    "wkv7": lambda x, s: fla.fused_mul_recurrent_rwkv7(w=x["log_w"], initial_state=s, output_final_state=True,
                                                       **pick(x, "r k v kk a")),
    "gla": lambda x, s: fla.chunk_gla(g=x["log_w"], initial_state=s, output_final_state=True, **pick(x, "q k v")),
    "delta_rule": lambda x, s: fla.chunk_delta_rule(initial_state=s, output_final_state=True,
                                                    **pick(x, "q k v beta")),
    "gated_delta_rule": lambda x, s: fla.chunk_gated_delta_rule(g=x["log_w"], initial_state=s, output_final_state=True,
                                                                **pick(x, "q k v beta")),
    "kda": lambda x, s: fla.chunk_kda(g=x["log_w"], initial_state=s, output_final_state=True,
                                      **pick(x, "q k v beta")),
    "iplr": lambda x, s: fla.chunk_iplr_delta_rule(a=x["alpha"], b=x["beta"], initial_state=s, output_final_state=True,
                                                   **pick(x, "q k v")),
    "dplr": lambda x, s: fla.chunk_dplr_delta_rule(a=x["alpha"], b=x["beta"], gk=x["log_w"], initial_state=s,
                                                   output_final_state=True, **pick(x, "q k v")),
    "wkv4": lambda x, s: recurrence("wkv4", initial_state=s, **pick(x, "log_w k v u")),
}


def pick(x, names):
    return {name: x[name] for name in names.split()}


class Test(unittest.TestCase):
    def check_close(self, x, expected, bound, what):
        """max|x - expected| / max|expected| is within a bound."""
        self.assertEqual(x.shape, expected.shape, what)
        x, expected = x.cpu(), expected.cpu()
        worst = (x.double() - expected.double()).abs().max().item() if x.numel() else 0.0
        largest = expected.double().abs().max().item() if x.numel() else 0.0
        self.assertTrue(worst <= bound * max(largest, 1e-300), f"{what}: {worst:.3g} of {largest:.3g}, bound {bound}")

    def check_bits(self, x, expected, what):
        self.assertTrue(torch.equal(x, expected), what)


class Golden(Test):
    def check_file(self, path, dtype, device):
        x, metadata = read_safetensors(path)
        op = metadata["op"]
        if op not in GOLDEN:
            return
        if device != "cpu" and op != "wkv4" and (x["k"].shape[-1], x["v"].shape[-1]) != (64, 64):
            return
        x = {name: tensor.to(device) for name, tensor in x.items()}
        single = dtype == torch.float32
        channels = op == "wkv4"
        # the bounds of tests/golden/README.md
        bound = 1e-12 if not single else 2e-6 if not channels else 1e-4 if "extreme" in path.name else 1e-5
        gradient_bound = 3e-6 if single and not channels else bound
        if channels:
            x["state0"] = torch.stack([x["aa0"], x["bb0"], x["pp0"]], 1)
        swap = (lambda s: s.transpose(-1, -2)) if metadata.get("state_layout") == "BHVK" else (lambda s: s)

        for decay in [name for name in DECAYS if name in x] or [None]:
            leaves = {name: tensor.clone().requires_grad_() for name, tensor in x.items()}
            given = {name: leaf.to(dtype) for name, leaf in leaves.items()}
            if decay is not None:
                given["log_w"] = DECAYS[decay](leaves[decay]).to(dtype)
            y, state = GOLDEN[op](given, swap(given["state0"]))
            what = f"{path.name} {dtype} {device} {decay}"
            self.check_close(y, x["out"], bound, f"{what} out")
            if channels:  # sums relative to the file's exponent
                scale = (state[:, 2].double() - x["ppT"]).exp()
                self.check_close(state[:, 0] * scale, x["aaT"], bound, f"{what} aaT")
                self.check_close(state[:, 1] * scale, x["bbT"], bound, f"{what} bbT")
            else:
                self.check_close(swap(state), x["stateT"], bound, f"{what} stateT")
            self.compared += 2

            before = "gradout_" if channels else "grad_"
            if not any(name.startswith(before) for name in x):
                continue
            loss = (y * x["gout"].to(dtype)).sum()
            if not channels:
                loss = loss + (swap(state) * x["gstateT"].to(dtype)).sum()
            loss.backward()
            if channels:
                for i, name in enumerate(("aa0", "bb0", "pp0")):
                    leaves[name].grad = leaves["state0"].grad[:, i]
            for name in [name.removeprefix(before) for name in x if name.startswith(before)]:
                if name in DECAYS and name != decay:
                    continue
                of_decay = channels and single and name in DECAYS
                self.check_close(leaves[name].grad, x[before + name], 1e-4 if of_decay else gradient_bound,
                                 f"{what} {before}{name}")
                self.compared += 1

    def test_files(self):
        self.compared = 0
        folders = os.environ.get("AVIARY_GOLDEN_DIRS", "").split(":")
        paths = sorted(path for folder in folders if folder for path in Path(folder).rglob("*.safetensors"))
        for path in paths:
            for dtype, device in [(torch.float32, "cpu"), (torch.float64, "cpu")] + ON_GPU * [(torch.float32, "cuda")]:
                with self.subTest(path=path.name, dtype=dtype, device=device):
                    self.check_file(path, dtype, device)
        print(f"\n{self.compared} comparisons with golden files")
        self.assertTrue(not folders[0] or self.compared > 0)


# --- operators ------------------------------------------------------------------------------------------------------

# What a field has one number for, where that is not the key of a head and token.
AXES = {
    "v": "value", "c": "value",
    ("delta_net", "beta"): "one", ("gated_delta_net", "beta"): "one", ("kda", "beta"): "one", ("comba", "beta"): "one",
    ("gated_delta_net", "log_w"): "one", ("comba", "log_w"): "one", ("simple_gla", "log_w"): "one",
    ("wkv5", "log_w"): "head_key", ("wkv5", "u"): "head_key", ("wkv6", "u"): "head_key",
    ("wkv5_per_head", "log_w"): "head_one", ("wkv5_per_head", "u"): "head_one", ("retnet", "log_w"): "head_one",
    ("wkv4", "log_w"): "channel", ("wkv4", "u"): "channel", ("wkv4", "k"): "channels", ("wkv4", "v"): "channels",
}


def make_inputs(rule, batch, tokens, heads, keys, values, dtype=torch.float64, key_heads=None, seed=0):
    """Inputs of the kind that layers make: decays below 1, keys and what is erased of unit length."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name in aviary_torch.FIELDS[rule]:
        axis = AXES.get((rule, name), AXES.get(name, "key"))
        h = heads if axis == "value" or key_heads is None else key_heads
        shape = {"key": (batch, tokens, h, keys), "value": (batch, tokens, h, values), "one": (batch, tokens, h),
                 "head_key": (h, keys), "head_one": (h,), "channel": (heads * values,),
                 "channels": (batch, tokens, heads * values)}[axis]
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name == "log_w":
            x = -0.05 - 0.5 * x.abs()
        elif name == "a" or name == "beta" and axis == "one":
            x = torch.sigmoid(x)
        elif name in ("k", "kappa_hat", "alpha", "beta", "p") and axis == "key":
            x = torch.nn.functional.normalize(x, dim=-1)
        inputs[name] = x.to(dtype)
    if rule in ("dplr", "iplr"):
        inputs["beta"] = -0.7 * inputs["alpha"]
    return inputs


def make_state(rule, sequences, heads, keys, values, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    if rule == "wkv4":
        x = torch.randn((sequences, 3, heads * values), generator=generator, dtype=dtype)
        x[:, 1] = x[:, 1].abs() + 0.5  # a sum of weights
        return x
    return torch.randn((sequences, heads, keys, values), generator=generator, dtype=dtype)


def learning(inputs):
    return {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}


class Operators(Test):
    device = "cpu"
    dtype = torch.float64  # of most arithmetic, and its bounds
    bound, wkv4_bound = 1e-12, 1e-12
    small, middle = (3, 2), (16, 24)  # keys and values of a head
    sizes = {"": (64, 128)}  # known at compile time, by rule
    key_heads = None  # as many as there are of values
    chunk_bound = 0  # of inputs in 16 bits against the same numbers in float

    def make_inputs(self, *arguments, **named):
        return {name: x.to(self.device) for name, x in make_inputs(*arguments, **named).items()}

    def make_state(self, *arguments, **named):
        return make_state(*arguments, **named).to(self.device)

    def positions(self, *x):
        return torch.tensor(x, device=self.device)

    def each(self):
        for rule in aviary_torch.FIELDS:
            with self.subTest(rule=rule):
                yield rule

    def test_every_rule_is_there(self):
        self.assertEqual(len(aviary_torch.FIELDS), 17)

    def test_gradcheck(self):
        for rule in self.each():
            for batch, tokens, offsets in ((2, 3, None), (1, 5, self.positions(0, 2, 2, 5))):
                sequences = batch if offsets is None else len(offsets) - 1
                inputs = self.make_inputs(rule, batch, tokens, 2, 3, 2, key_heads=1)
                state = self.make_state(rule, sequences, 2, 3, 2)
                names = list(inputs)

                def run(state, *x):
                    return recurrence(rule, initial_state=state, cu_seqlens=offsets, **dict(zip(names, x)))

                leaves = [x.requires_grad_() for x in (state, *inputs.values())]
                self.assertTrue(torch.autograd.gradcheck(run, leaves))

    def test_one_output_alone_has_gradients(self):
        for rule in self.each():
            inputs = learning(self.make_inputs(rule, 2, 19, 2, *self.small, self.dtype))
            weights = [None, None]
            gradients = []
            for used in ((0,), (1,), (0, 1)):
                outputs = recurrence(rule, **inputs)
                weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype).to(x.device)
                           for x in outputs]
                loss = sum((outputs[i] * weights[i]).sum() for i in used)
                gradients.append(torch.autograd.grad(loss, inputs.values(), allow_unused=True))
            for name, of_y, of_state, of_both in zip(inputs, *gradients):
                self.check_close(of_y + of_state, of_both, self.wkv4_bound if rule == "wkv4" else self.bound,
                                 f"{rule} d{name}")

    def test_opcheck(self):
        for rule in self.each():
            for dtype, offsets in ((torch.float32, None), (self.dtype, self.positions(0, 7, 20))):
                inputs = learning(self.make_inputs(rule, 2 if offsets is None else 1, 20, 2, *self.middle, dtype))
                state = self.make_state(rule, 2, 2, *self.middle, dtype).requires_grad_()
                forward = getattr(torch.ops.aviary, f"{rule}_forward").default
                torch.library.opcheck(forward, (*inputs.values(), state, offsets, 16))
                torch.library.opcheck(forward, (*(x.detach() for x in inputs.values()), None, offsets, 0))
                with torch.no_grad():
                    y, final_state, tape = forward(*inputs.values(), state, offsets, 16)
                backward = getattr(torch.ops.aviary, f"{rule}_backward").default
                plain = [x.detach() for x in inputs.values()]
                torch.library.opcheck(backward, (*plain, tape, y, final_state, offsets, 16))
                torch.library.opcheck(backward, (*plain, tape, y, None, offsets, 16))

    def test_compile(self):
        for rule in self.each():
            torch._dynamo.reset()
            inputs = self.make_inputs(rule, 2, 20, 2, *self.middle, torch.float32)

            def loss(x):
                y, state = recurrence(rule, **x)
                return (y * y).sum() + state.sum()

            compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
            expected, found = learning(inputs), learning(inputs)
            loss(expected).backward()
            compiled(found).backward()
            for name in inputs:
                self.check_bits(found[name].grad, expected[name].grad, f"{rule} d{name}")

    def test_sizes_known_at_compile_time(self):
        """Heads of 64 x 64 and 128 x 128 against the double kernel of a processor, with sizes known at run time."""
        for rule in self.each():
            for size in self.sizes.get(rule, self.sizes[""]):
                inputs = make_inputs(rule, 1, 37, 2, size, size, key_heads=self.key_heads)
                state = make_state(rule, 1, 2, size, size)
                found, expected = [], []
                for dtype, device, results in ((torch.float32, self.device, found), (torch.float64, "cpu", expected)):
                    x = learning({name: each.float().to(device, dtype) for name, each in inputs.items()})
                    s = state.float().to(device, dtype).requires_grad_()
                    y, final_state = recurrence(rule, initial_state=s, **x)
                    if rule == "wkv4":
                        results += [y, final_state[:, 0] / final_state[:, 1]]
                    else:
                        results += [y, final_state]
                    ((y * y).sum() + (results[-1] * results[-1]).sum()).backward()
                    results += [each.grad for each in (s, *x.values())]
                names = ["y", "final_state", "dinitial_state", *(f"d{name}" for name in inputs)]
                for name, a, b in zip(names, found, expected):
                    # equations, section 13; the loss here is quadratic, so that the error of y enters gradients again
                    bound = 2 * (1e-4 if name == "dlog_w" else 1e-5) if rule == "wkv4" else 2 * 3e-6
                    self.check_close(a, b, bound, f"{rule} {size} {name}")

    def test_packed_sequences_are_sequences(self):
        for rule in self.each():
            inputs = self.make_inputs(rule, 1, 21, 2, *self.middle, torch.float32)
            state = self.make_state(rule, 3, 2, *self.middle, torch.float32)
            y, final_state = recurrence(rule, initial_state=state, cu_seqlens=self.positions(0, 4, 4, 21), **inputs)
            for s, (begin, end) in enumerate(((0, 4), (4, 4), (4, 21))):
                part = {name: x[:, begin:end] if x.dim() > 2 else x for name, x in inputs.items()}
                one, final = recurrence(rule, initial_state=state[s:s + 1], **part)
                self.check_bits(one, y[:, begin:end], f"{rule} y of sequence {s}")
                self.check_bits(final, final_state[s:s + 1], f"{rule} state of sequence {s}")

    def test_strides(self):
        """Inputs that are transposed, or parts of wider tensors, and heads that are expanded."""
        for rule in self.each():
            inputs = self.make_inputs(rule, 2, 9, 2, 64, 64, torch.float32)
            y, state = recurrence(rule, **inputs)
            wide = {name: torch.stack([x, x], -2 if x.dim() > 1 else -1).select(-2 if x.dim() > 1 else -1, 1)
                    for name, x in inputs.items()}
            apart = {name: torch.stack([x, x], -1).select(-1, 1) for name, x in inputs.items()}
            swapped = {name: x.transpose(1, 2).contiguous().transpose(1, 2) if x.dim() > 3 else x
                       for name, x in inputs.items()}
            for strided in (wide, apart, swapped):
                y2, state2 = recurrence(rule, **strided)
                self.check_bits(y2, y, rule)
                self.check_bits(state2, state, rule)

    def test_number_formats(self):
        """Inputs in 16 bits give the bits of the same numbers in float, rounded at the end. In chunks on a GPU only
        those of which one is in float do."""
        for rule in self.each():
            for dtype in (torch.bfloat16, torch.float16):
                inputs = self.make_inputs(rule, 1, 37, 2, 64, 64, dtype)
                y2, state2 = recurrence(rule, **{name: x.float() for name, x in inputs.items()})
                read = next(name for name in inputs if name not in ("v", "log_w"))
                for given in ({**inputs, read: inputs[read].float()}, inputs):
                    y, state = recurrence(rule, **given)
                    self.assertEqual((y.dtype, state.dtype), (dtype, torch.float32))
                    if given is not inputs or rule == "wkv4" or self.chunk_bound == 0:
                        self.check_bits(y, y2.to(dtype), rule)
                        self.check_bits(state, state2, rule)
                    else:
                        self.check_close(y, y2, self.chunk_bound + torch.finfo(dtype).eps / 2, rule)
                        self.check_close(state, state2, self.chunk_bound, rule)
                x = learning(inputs)
                y, _ = recurrence(rule, **x)
                y.float().sum().backward()
                for name in x:
                    self.assertEqual(x[name].grad.dtype, dtype)
                    self.assertTrue(bool(x[name].grad.isfinite().all()))

    def test_threads(self):
        for rule in self.each():
            inputs = self.make_inputs(rule, 4, 33, 4, 64, 64, torch.float32)
            results = []
            threads = torch.get_num_threads()
            for n in (1, 3):
                torch.set_num_threads(n)
                x = learning(inputs)
                y, state = recurrence(rule, **x)
                (y.sum() + state.sum()).backward()
                results.append([y, state, *(each.grad for each in x.values())])
            torch.set_num_threads(threads)
            for a, b in zip(*results):
                self.check_bits(a, b, rule)

    def test_no_token_and_no_sequence(self):
        for rule in self.each():
            for batch, tokens, size in ((2, 0, self.middle[0]), (0, 5, self.middle[0]), (1, 0, 64)):
                inputs = learning(self.make_inputs(rule, batch, tokens, 2, size, size, torch.float32))
                state = self.make_state(rule, batch, 2, size, size, torch.float32).requires_grad_()
                y, final_state = recurrence(rule, initial_state=state, **inputs)
                self.assertEqual(y.shape[:2], (batch, tokens))
                if rule != "wkv4":  # whose sums may have another exponent
                    self.check_bits(final_state, state, rule)  # or there is none
                    gradient = torch.autograd.grad(final_state.sum() + y.sum(), state)[0]
                    self.check_bits(gradient, torch.ones_like(state), rule)

    def test_gradients_are_of_the_first_order(self):
        for rule in self.each():
            inputs = learning(self.make_inputs(rule, 1, 3, 2, *self.small, self.dtype))
            y, _ = recurrence(rule, **inputs)
            first = torch.autograd.grad(y.sum(), list(inputs.values()), create_graph=True)
            with self.assertRaisesRegex(NotImplementedError, "first order"):
                first[0].sum().backward()

    def test_mistakes_end_in_one_sentence(self):
        x = self.make_inputs("wkv7", 1, 5, 2, 4, 3, torch.float32)
        state = self.make_state("wkv7", 1, 2, 4, 3, torch.float32)

        def expect(words, error=ValueError, **changed):
            arguments = {"initial_state": state, **x, **changed}
            with self.assertRaisesRegex(error, words):
                recurrence("wkv7", **arguments)

        expect(r"wkv7: a has shape \[1, 5, 2, 3\], expected \[1, 5, 2, 4\]", a=x["a"][..., :3])
        expect(r"wkv7: k has shape \[1, 4, 2, 4\], expected \[1, 5, 2, 4\]", k=x["k"][:, :4])
        expect(r"wkv7: r has shape .*3, 4\], expected", r=x["r"][:, :, :1].expand(1, 5, 3, 4))
        expect(r"wkv7: v has shape \[5, 2, 3\], expected 4 axes", v=x["v"][0])
        expect(r"initial_state has shape \[1, 2, 3, 4\] of Float, expected \[1, 2, 4, 3\]",
               initial_state=state.transpose(-1, -2))
        expect(r"initial_state has shape .* of Double, expected", initial_state=state.double())
        expect(r"offsets go from 0 to 5, the number of tokens, found 0 to 4", cu_seqlens=torch.tensor([0, 4]))
        expect(r"sequence 0 is \[0, 6\), not a range of the 5 tokens", initial_state=None,
               cu_seqlens=torch.tensor([0, 6, 5]))
        expect(r"expected a tensor of float32, float64, bfloat16 or float16, found Int", TypeError, a=x["a"].int())
        with self.assertRaisesRegex(ValueError, "expected one of the rules wkv4, .*, found wkv8"):
            recurrence("wkv8")
        expect(r"expected the inputs r, log_w, k, v, kappa_hat, a, found", TypeError, beta=x["a"])
        with self.assertRaisesRegex(ValueError, "wkv4: u has shape"):
            y = self.make_inputs("wkv4", 1, 5, 2, 4, 3)
            recurrence("wkv4", **{**y, "u": y["u"][1:]})
        with self.assertRaisesRegex(NotImplementedError, "reverse is not supported"):
            fla.fused_recurrent_gla(x["r"], x["k"], x["v"], x["log_w"], reverse=True)
        with self.assertRaisesRegex(NotImplementedError, "head_first is not supported"):
            fla.chunk_rwkv7(x["r"], x["log_w"], x["k"], x["v"], x["a"], x["a"], head_first=True)


@unittest.skipUnless(ON_GPU, "there is no GPU")
class OperatorsOnGpu(Operators):
    device = "cuda"
    dtype = torch.float32
    bound, wkv4_bound = 3 * 3e-6, 3 * 1e-4  # of three results; equations, section 13
    small, middle = (64, 64), (64, 64)
    sizes = {"": (64,), **dict.fromkeys(
        ("delta_net", "gated_delta_net", "kda", "gated_delta_net_2", "comba"), (64, 128))}
    key_heads = 1  # which gradcheck is for on a processor
    chunk_bound = 8 * 2 ** -11  # cuda/matrix.hpp, forward_in_chunks
    test_every_rule_is_there = test_gradcheck = test_threads = None  # of processors

    def test_mistakes_end_in_one_sentence(self):
        def expect(words, error, keys, values, dtype, positions=None):
            with self.assertRaisesRegex(error, words):
                recurrence("wkv7", cu_seqlens=positions, **self.make_inputs("wkv7", 1, 5, 2, keys, values, dtype))

        expect(r"wkv7: heads are 64 x 32, expected on a GPU n x n, with n one of \[64\]", ValueError, 64, 32,
               torch.float32)
        expect(r"wkv7: v is of Double, expected float32, bfloat16 or float16 on a GPU", TypeError, 64, 64,
               torch.float64)
        expect(r"sequence 0 is \[0, 6\), not a range of the 5 tokens", ValueError, 64, 64, torch.float32,
               torch.tensor([0, 6, 5]))
        x = self.make_inputs("wkv7", 1, 5, 2, 64, 64, torch.float32)
        with self.assertRaisesRegex(ValueError, "wkv7: a is on cpu, expected cuda:0"):
            recurrence("wkv7", **{**x, "a": x["a"].cpu()})
        with self.assertRaisesRegex(ValueError, "every is 32, expected at most 16 on a GPU"):
            torch.ops.aviary.wkv7_forward(*x.values(), None, None, 32)

    def test_what_is_double_beside_v(self):
        """Inputs in double are rounded; their gradients are of their type."""
        for rule in self.each():
            inputs = self.make_inputs(rule, 1, 9, 2, 64, 64, torch.float32)
            y, _ = recurrence(rule, **inputs)
            x = learning({name: each if name == "v" else each.double() for name, each in inputs.items()})
            y2, _ = recurrence(rule, **x)
            self.check_bits(y2, y, rule)
            y2.sum().backward()
            for name in x:
                self.assertEqual(x[name].grad.dtype, x[name].dtype)


# --- drop-in functions ----------------------------------------------------------------------------------------------


def plain(q, k, v, w=None, erase=None, write=None, state=None):
    """The recurrence token by token: S decays, then S' = S - (S erase) write^T + v k^T, and y = S' q. Heads of q, k and
    what is erased are repeated. The equations of include/aviary/delta_rule.hpp in plain PyTorch."""
    heads = v.shape[2]
    q, k, erase, write = (None if x is None else x.repeat_interleave(heads // x.shape[2], 2)
                          for x in (q, k, erase, write))
    s = v.new_zeros(v.shape[0], heads, k.shape[-1], v.shape[-1]) if state is None else state
    y = []
    for t in range(v.shape[1]):
        if w is not None:
            s = s * (w[:, t].unsqueeze(-1) if w.dim() == 4 else w[:, t, :, None, None])
        if erase is not None:
            reading = (s * erase[:, t].unsqueeze(-1)).sum(-2)
            s = s - write[:, t].unsqueeze(-1) * reading.unsqueeze(-2)
        s = s + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        y.append((s * q[:, t].unsqueeze(-1)).sum(-2))
    return torch.stack(y, 1), s


class DropIn(Test):
    def setUp(self):
        generator = torch.Generator().manual_seed(3)

        def random(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.q, self.raw_k = random(2, 7, 2, 8), random(2, 7, 2, 8)
        self.k = torch.nn.functional.normalize(self.raw_k, dim=-1)
        self.v, self.state = random(2, 7, 4, 6), random(2, 4, 8, 6)
        self.g, self.gk, self.beta = -random(2, 7, 4).abs(), -random(2, 7, 4, 8).abs(), random(2, 7, 4)
        self.rate = torch.sigmoid(self.beta)
        self.a_log, self.dt_bias = random(4), random(4)

    def check(self, found, expected, what):
        self.check_close(found[0], expected[0], 1e-12, f"{what} o")
        self.check_close(found[1], expected[1], 1e-12, f"{what} state")

    def delta(self, k, rate, w=None, scale=8 ** -0.5, p=None):
        """The delta rule with one rate for a value head."""
        k4 = k.repeat_interleave(2, 2)
        p4 = k4 if p is None else p.repeat_interleave(2, 2)
        return plain(self.q * scale, k4 * rate[..., None], self.v, w, p4, k4 * rate[..., None], self.state)

    def test_gated_delta_rule(self):
        common = dict(initial_state=self.state, output_final_state=True)
        expected = self.delta(self.k, self.rate, self.g.exp())
        q, k, v, g = self.q, self.k, self.v, self.g
        for f in (fla.chunk_gated_delta_rule, fla.fused_recurrent_gated_delta_rule):
            self.check(f(q, k, v, g=g, beta=self.rate, **common), expected, f.__name__)
            self.check(f(q, k, v, g=g, beta=self.beta, use_beta_sigmoid_in_kernel=True, **common), expected, f.__name__)
            o, state = f(q, k, v, g=g, beta=self.rate, initial_state=self.state.transpose(-1, -2),
                         output_final_state=True, state_v_first=True)
            self.check((o, state.transpose(-1, -2)), expected, f"{f.__name__} state_v_first")
            decay = -self.a_log.exp() * torch.nn.functional.softplus(g + self.dt_bias)
            self.check(f(q, k, v, g=g, beta=self.rate, use_gate_in_kernel=True, A_log=self.a_log, dt_bias=self.dt_bias,
                         **common), self.delta(k, self.rate, decay.exp()), f"{f.__name__} gate")
            self.check(f(q, k, v, g=g, beta=self.beta, use_beta_sigmoid_in_kernel=True, allow_neg_eigval=True,
                         scale=1.0, **common), self.delta(k, 2 * self.rate, g.exp(), 1), f"{f.__name__} 2 sigmoid")
            self.assertIsNone(f(q, k, v, g=g, beta=self.rate)[1])
        unit = fla.chunk_gated_delta_rule(q, self.raw_k, v, g, self.rate, use_qk_l2norm_in_kernel=True, **common)
        length = lambda x: (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        expected = self.delta(self.raw_k / length(self.raw_k), self.rate, g.exp(), 8 ** -0.5 / length(q))
        self.check(unit, expected, "use_qk_l2norm_in_kernel")
        ungated = fla.fused_recurrent_gated_delta_rule(q, k, v, beta=self.rate, **common)
        self.check(ungated, self.delta(k, self.rate), "no gate")
        by_key = fla.fused_recurrent_gated_delta_rule(q, k, v, gk=self.gk, beta=self.rate, **common)
        self.check(by_key, self.delta(k, self.rate, self.gk.exp()), "gk")

    def test_delta_rule(self):
        for f in (fla.chunk_delta_rule, fla.fused_recurrent_delta_rule):
            self.check(f(self.q, self.k, self.v, self.rate, initial_state=self.state, output_final_state=True),
                       self.delta(self.k, self.rate), f.__name__)

    def test_kda(self):
        q, k, v = self.q, self.k, self.v
        bias = torch.linspace(-1, 1, 32, dtype=torch.float64)
        raw = self.gk + bias.view(4, 8)
        gates = {
            (): self.gk,
            (("use_gate_in_kernel", True), ("A_log", self.a_log), ("dt_bias", bias)):
                -self.a_log.exp()[:, None] * torch.nn.functional.softplus(raw),
            (("use_gate_in_kernel", True), ("A_log", self.a_log), ("dt_bias", bias), ("lower_bound", -5.0)):
                -5 * torch.sigmoid(self.a_log.exp()[:, None] * raw),
            (("use_gate_in_kernel", True), ("dt_bias", bias), ("lower_bound", -5.0)): -5 * torch.sigmoid(raw),
        }
        for f in (fla.chunk_kda, fla.fused_recurrent_kda):
            for arguments, log_w in gates.items():
                found = f(q, k, v, self.gk, self.rate, initial_state=self.state, output_final_state=True,
                          **dict(arguments))
                self.check(found, self.delta(k, self.rate, log_w.exp()), f.__name__)

    def test_gdn2_and_comba(self):
        k4 = self.k.repeat_interleave(2, 2)
        b, c = torch.sigmoid(self.gk), torch.sigmoid(self.v)
        expected = plain(self.q * 8 ** -0.5, k4, c * self.v, self.gk.exp(), b * k4, k4, self.state)
        for f in (fla.chunk_gdn2, fla.fused_recurrent_gdn2):
            self.check(f(self.q, self.k, self.v, self.gk, b, c, initial_state=self.state, output_final_state=True),
                       expected, f.__name__)
        p = torch.nn.functional.normalize(self.raw_k.flip(-1), dim=-1)
        expected = self.delta(self.k, self.rate, self.g.exp(), p=p)
        common = dict(g=self.g, beta=self.rate, initial_state=self.state, output_final_state=True)
        self.check(fla.chunk_comba(self.q, self.k, self.v, p, **common), expected, "chunk_comba")
        self.check(fla.fused_recurrent_comba(self.q, self.k, p, self.v, **common), expected, "fused_recurrent_comba")

    def test_gated_delta_product(self):
        k = torch.stack([self.k, self.k.flip(-1)], 2).flatten(1, 2)
        v = torch.stack([self.v, self.v.flip(-1)], 2).flatten(1, 2)[:, :, :2]
        rate = torch.stack([self.rate, self.rate.flip(1)], 2).flatten(1, 2)[:, :, :2]
        w = torch.stack([self.g.exp(), torch.ones_like(self.g)], 2).flatten(1, 2)[:, :, :2]
        state = self.state[:, :2]
        kb = k * rate[..., None]
        y, last = plain(self.q.repeat_interleave(2, 1) * 8 ** -0.5, kb, v, w, k, kb, state)
        found = fla.chunk_gated_delta_product(self.q, k, v, self.g[:, :, :2], rate, 2, initial_state=state,
                                              output_final_state=True)
        self.check(found, (y[:, 1::2], last), "chunk_gated_delta_product")

    def test_linear_attention(self):
        q, k, v, state = self.q * 8 ** -0.5, self.k.abs(), self.v, self.state
        common = dict(initial_state=state, output_final_state=True)
        expected = plain(q, k, v, state=state)
        self.check(fla.fused_recurrent_linear_attn(self.q, k, v, **common), expected, "linear_attn")
        self.check(fla.chunk_linear_attn(self.q, k, v, normalize=False, **common), expected, "linear_attn")
        z0 = k[:, :1] + 1
        o, (last, z) = fla.chunk_linear_attn(self.q, k, v, initial_state=(state, z0), output_final_state=True)
        weights = (q * (k.cumsum(1) + z0)).sum(-1, keepdim=True).repeat_interleave(2, 2) + 1e-10
        self.check((o, last), (expected[0] / weights, expected[1]), "normalize")
        self.check_close(z, z0 + k.sum(1, keepdim=True), 1e-12, "z")

        self.check(fla.chunk_simple_gla(self.q, k, v, self.g, **common), plain(q, k, v, self.g.exp(), state=state), "g")
        gamma = (1 - torch.exp2(-5 - torch.arange(2, dtype=torch.float64))).expand(2, 7, 2)
        narrow = v[:, :, :2], state[:, :2]
        expected = plain(q, k, narrow[0], gamma, state=narrow[1])
        for f in (fla.chunk_retention, fla.fused_chunk_retention, fla.fused_recurrent_retention):
            self.check(f(self.q, k, narrow[0], initial_state=narrow[1], output_final_state=True), expected, f.__name__)
        gk = self.gk[:, :, :2]
        expected = plain(q, k, narrow[0], gk.exp(), state=narrow[1])
        for f in (fla.chunk_gla, fla.fused_recurrent_gla):
            self.check(f(self.q, k, narrow[0], gk, initial_state=narrow[1], output_final_state=True), expected,
                       f.__name__)

    def test_rwkv(self):
        r, k, v, w, state = self.q, self.k, self.v[:, :, :2], self.gk[:, :, :2], self.state[:, :2]
        kk, a = self.k.flip(-1), torch.sigmoid(self.raw_k)
        # S diag(w) - (S kk) (a kk)^T: the state is read before its decay, so what is erased is kk / w of the one after
        for scale in (1.0, None):
            factor = 8 ** -0.5 if scale is None else scale
            expected = plain(r * factor, k, v, w.exp(), kk / w.exp(), a * kk, state)
            common = dict(scale=scale, initial_state=state, output_final_state=True)
            self.check(fla.fused_mul_recurrent_rwkv7(r, w, k, v, kk, a, **common), expected, "fused_mul")
            for f in (fla.chunk_rwkv7, fla.fused_recurrent_rwkv7):
                self.check(f(r, w, k, v, -kk, kk * a, **common), expected, f.__name__)
        self.assertIsNone(fla.chunk_rwkv7(r, w, k, v, -kk, kk * a)[1])
        self.assertIsNotNone(fla.fused_recurrent_rwkv7(r, w, k, v, -kk, kk * a)[1])

        u = self.gk[0, 0, :2]
        _, last = plain(r, k, v, w.exp(), state=state)
        before = [state]  # y reads the states before the tokens
        for t in range(6):
            before.append(plain(r[:, t:t + 1], k[:, t:t + 1], v[:, t:t + 1], w[:, t:t + 1].exp(), state=before[-1])[1])
        y = torch.stack([(s * r[:, t].unsqueeze(-1)).sum(-2) for t, s in enumerate(before)], 1)
        y = (y + (r * u * k).sum(-1, keepdim=True) * v) * 8 ** -0.5
        for f in (fla.chunk_rwkv6, fla.fused_recurrent_rwkv6):
            self.check(f(r, k, v, w, u, initial_state=state, output_final_state=True), (y, last), f.__name__)

    def test_rwkv4(self):
        w, u = self.a_log, self.dt_bias
        k, v = self.q.flatten(2)[..., :4], self.v[..., 0]
        state = torch.stack([torch.zeros(2, 1, 4), torch.zeros(2, 1, 4), torch.full((2, 1, 4), -1e30)], 1).double()
        y, last = fla.fused_recurrent_rwkv4(w, u, k, v, state)
        num = den = torch.zeros(2, 4, dtype=torch.float64)
        expected = []
        for t in range(7):
            now = (u + k[:, t]).exp()
            expected.append((num + now * v[:, t]) / (den + now))
            decay = (-w.exp()).exp()
            num, den = decay * num + k[:, t].exp() * v[:, t], decay * den + k[:, t].exp()
        self.check_close(y, torch.stack(expected, 1), 1e-12, "y")
        self.assertEqual(last.shape, state.shape)
        self.check_close(last[:, 0, 0] * last[:, 2, 0].exp(), num, 1e-12, "num")
        self.check_close(last[:, 1, 0] * last[:, 2, 0].exp(), den, 1e-12, "den")

    def test_functions_compile(self):
        def loss(q, k, v, g, beta):
            o, _ = fla.chunk_gated_delta_rule(q, k, v, g, beta, use_qk_l2norm_in_kernel=True)
            return o.square().sum()

        torch._dynamo.reset()
        inputs = [x.float() for x in (self.q, self.raw_k, self.v, self.g, self.rate)]
        gradients = []
        for f in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
            leaves = [x.clone().requires_grad_() for x in inputs]
            f(*leaves).backward()
            gradients.append([x.grad for x in leaves])
        for a, b in zip(*gradients):
            self.check_close(a, b, 1e-6, "gradients")

    def test_gradients_reach_initial_states(self):
        state = self.state.clone().requires_grad_()
        o, last = fla.chunk_kda(self.q, self.k, self.v, self.gk, self.rate, initial_state=state,
                                output_final_state=True)
        (o.sum() + last.sum()).backward()
        self.assertTrue(bool((state.grad.abs() > 0).any()))


if __name__ == "__main__":
    unittest.main()
