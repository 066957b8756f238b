#!/usr/bin/env python3
"""Writes the GGUF and safetensors files beside this file.

    python3 make_samples.py        (with numpy 2.4.6, gguf 0.19.0 and safetensors 0.8.0, of which the committed files are)

formats.gguf         a value of every type under keys; blocks of every format, and as NAME.floats what gguf reads from them
rwkv6.gguf           models of numbers that weight() gives, under the names, in the shapes and with the changes that llama.cpp's
rwkv7.gguf           converter makes; with a vocabulary. Files of version 3, and of version 2
fla/                 an RWKV-7 as flash-linear-attention names it, in two shards
transformers/        an RWKV-4 as transformers names it

weight() is there once more in tests/support/container_case.hpp: tests make the released model of the same numbers.
"""
import json
import pathlib
import zlib

import gguf
import numpy
from safetensors.numpy import save_file

folder = pathlib.Path(__file__).parent
Q = gguf.GGMLQuantizationType
LAYERS, VOCAB, HEADS, HEAD, INNER = 2, 12, 2, 4, 12
C = HEADS * HEAD
RANKS = {"w": 2, "a": 3, "v": 4, "g": 5, "mix": 2}


def weight(name, *shape):
    """Multiples of 2^-9 from -1/4 to 1/4, which every floating format holds exactly."""
    count = numpy.prod(shape)
    x = numpy.uint64(zlib.crc32(name.encode())) + numpy.arange(count, dtype=numpy.uint64) * numpy.uint64(2654435761)
    x &= numpy.uint64(0xFFFFFFFF)
    x ^= x >> numpy.uint64(15)
    x = x * numpy.uint64(2246822519) & numpy.uint64(0xFFFFFFFF)
    numbers = (x >> numpy.uint64(24)).astype(numpy.float32) - 128
    return (numbers / 512).reshape(shape)


def released(version):
    """A whole model of RWKV-4, 6 or 7."""
    shapes = {"emb.weight": (VOCAB, C), "head.weight": (VOCAB, C)}

    def norm(name):
        shapes[name + ".weight"] = shapes[name + ".bias"] = (C,)

    norm("blocks.0.ln0")
    norm("ln_out")
    for layer in range(LAYERS):
        block = f"blocks.{layer}."
        att, ffn = block + "att.", block + "ffn."
        norm(block + "ln1")
        norm(block + "ln2")
        for name in ("receptance", "key", "value", "output"):
            shapes[f"{att}{name}.weight"] = (C, C)
        shapes[ffn + "key.weight"], shapes[ffn + "value.weight"] = (INNER, C), (C, INNER)
        if version == 4:
            for name in ("att.time_mix_r", "att.time_mix_k", "att.time_mix_v", "ffn.time_mix_k", "ffn.time_mix_r"):
                shapes[block + name] = (1, 1, C)
            shapes[att + "time_decay"] = shapes[att + "time_first"] = (C,)
        if version == 6:
            for letter in "xwkvrg":
                shapes[f"{att}time_maa_{letter}"] = (1, 1, C)
            shapes[att + "time_maa_w1"] = (C, 5 * RANKS["mix"])
            shapes[att + "time_maa_w2"] = (5, RANKS["mix"], C)
            shapes[att + "time_decay"] = (1, 1, C)
            shapes[att + "time_decay_w1"], shapes[att + "time_decay_w2"] = (C, RANKS["w"]), (RANKS["w"], C)
            shapes[att + "time_faaaa"] = (HEADS, HEAD)
            shapes[att + "gate.weight"] = (C, C)
            shapes[ffn + "time_maa_k"] = shapes[ffn + "time_maa_r"] = (1, 1, C)
        if version in (4, 6):
            shapes[ffn + "receptance.weight"] = (C, C)
        if version == 7:
            for letter in "rwkvag":
                shapes[f"{att}x_{letter}"] = (1, 1, C)
            for letter in "wavg" if layer > 0 else "wag":
                shapes[f"{att}{letter}1"], shapes[f"{att}{letter}2"] = (C, RANKS[letter]), (RANKS[letter], C)
                if letter != "g":
                    shapes[f"{att}{letter}0"] = (1, 1, C)
            shapes[att + "k_k"] = shapes[att + "k_a"] = (1, 1, C)
            shapes[att + "r_k"] = (HEADS, HEAD)
            shapes[ffn + "x_k"] = (1, 1, C)
        if version in (6, 7):
            norm(att + "ln_x")
    return {name: weight(name, *shape) for name, shape in shapes.items()}


# --- GGUF -------------------------------------------------------------------------------------------------------------


def add_vocabulary(writer):
    """As the converter writes it: what repr() shows of bytes, without its quotes."""
    words = [b"a", b"b", b"ab", b"\x80\xff", b" the", b"\n\t\r\\", b"it's", b"'\"", "\u00e9".encode()]
    tokens = ["<s>"] + [repr(word)[2:-1] for word in words]
    types = [gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * len(words)
    while len(tokens) < VOCAB:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(tokens)
    writer.add_token_types(types)


def add(writer, name, numbers, kind):
    if kind == Q.F32:
        writer.add_tensor(name, numpy.ascontiguousarray(numbers, dtype=numpy.float32))
    else:
        writer.add_tensor(name, gguf.quants.quantize(numpy.ascontiguousarray(numbers), kind), raw_dtype=kind)


FRAME = {"emb": "token_embd", "blocks.0.ln0": "token_embd_norm", "ln_out": "output_norm", "head": "output"}
BLOCK = {
    "ln1": "attn_norm", "ln2": "attn_norm_2", "att.ln_x": "time_mix_ln", "att.receptance": "time_mix_receptance",
    "att.key": "time_mix_key", "att.value": "time_mix_value", "att.gate": "time_mix_gate",
    "att.output": "time_mix_output", "ffn.key": "channel_mix_key", "ffn.receptance": "channel_mix_receptance",
    "ffn.value": "channel_mix_value", "att.time_maa_x": "time_mix_lerp_x", "att.time_maa_w1": "time_mix_w1",
    "att.time_maa_w2": "time_mix_w2", "att.time_faaaa": "time_mix_first", "att.time_decay": "time_mix_decay",
    "att.time_decay_w1": "time_mix_decay_w1", "att.time_decay_w2": "time_mix_decay_w2",
    "ffn.time_maa_k": "channel_mix_lerp_k", "ffn.time_maa_r": "channel_mix_lerp_r", "ffn.x_k": "channel_mix_lerp_k",
}
for key in [letter + digit for letter in "wavg" for digit in "012"] + ["k_k", "k_a", "r_k"]:
    BLOCK["att." + key] = "time_mix_" + key


def gguf_model(version, matrices, rescale=0):
    writer = gguf.GGUFWriter(folder / f"rwkv{version}.gguf", f"rwkv{version}")
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(C)
    writer.add_layer_norm_eps(1e-5)
    writer.add_wkv_head_size(HEAD)
    if rescale:
        writer.add_rescale_every_n_layers(rescale)
    add_vocabulary(writer)
    weights = released(version)
    fused = "wkvrg" if version == 6 else "rwkvag"
    mix = "time_maa_" if version == 6 else "x_"
    for name, numbers in weights.items():
        stem, suffix = name, ".weight"
        for ending in (".weight", ".bias"):
            if name.endswith(ending):
                stem, suffix = name[: -len(ending)], ending
        if stem in FRAME:
            add(writer, FRAME[stem] + suffix, numbers, matrices if numbers.ndim == 2 else Q.F32)
            continue
        layer, part = int(stem.split(".")[1]), stem.split(".", 2)[2]
        if part.startswith("att." + mix) and part[-1] in fused and part[:-1] == "att." + mix:
            if part[-1] != fused[0]:
                continue
            numbers = numpy.stack([weights[f"blocks.{layer}.att.{mix}{letter}"] for letter in fused])
            add(writer, f"blk.{layer}.time_mix_lerp_fused.weight", numbers.reshape(len(fused), 1, 1, C), Q.F32)
            continue
        is_factor = part[-2:] in [letter + digit for letter in "wavg" for digit in "12"]
        if is_factor:
            numbers = numpy.swapaxes(numbers, -1, -2)
        elif part == "att.r_k":
            numbers = numbers.reshape(-1)
        elif numbers.ndim == 3:
            numbers = numbers.reshape(-1)
        if rescale and part in ("att.output", "ffn.value"):
            numbers = numbers / 2 ** (layer // rescale)
        is_matrix = numbers.ndim == 2 and not is_factor and part != "att.time_faaaa"
        add(writer, f"blk.{layer}.{BLOCK[part]}{suffix}", numbers, matrices if is_matrix else Q.F32)
        if version == 7 and layer == 0 and part in ("att.a0", "att.a1", "att.a2"):
            add(writer, f"blk.0.{BLOCK[part.replace('.a', '.v')]}{suffix}", numbers, Q.F32)  # without a use
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def formats():
    random = numpy.random.default_rng(7)
    writer = gguf.GGUFWriter(folder / "formats.gguf", "sample")
    for kind, value in {
        "uint8": 255, "int8": -128, "uint16": 65535, "int16": -32768, "uint32": 2**32 - 1, "int32": -(2**31),
        "float32": 0.1, "uint64": 2**64 - 1, "int64": -(2**63), "float64": 0.1, "bool": True, "string": "a\n\u00e9",
    }.items():
        getattr(writer, "add_" + kind)("sample." + kind, value)
    for kind, values in {"texts": ["a", "", "b"], "integers": [1, 2, 3], "floats": [0.5], "truths": [True, False]}.items():
        writer.add_array("sample." + kind, values)
    scales = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}
    for kind, places in scales.items():
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        count = 4 if numbers == 32 else 2
        blocks = random.integers(0, 256, (count, size), dtype=numpy.uint8)
        for i, block in enumerate(blocks):
            for place in places:  # usual, negative, subnormal, 0
                scale = numpy.float16([0.0123, -1.7, 3e-6, 0][i] * random.uniform(0.5, 1))
                block[place : place + 2] = numpy.frombuffer(scale.tobytes(), dtype=numpy.uint8)
        floats = gguf.quants.dequantize(blocks, kind).reshape(count // 2, -1)
        name = kind.name.lower()
        writer.add_tensor(name, blocks.reshape(count // 2, -1), raw_dtype=kind)
        writer.add_tensor(name + ".floats", floats)
    real = numpy.array([0.0, -0.0, 1.0, -2.5, 1e-40, 65504.0, numpy.inf, -numpy.inf], dtype=numpy.float32)
    for kind in (Q.F32, Q.F16, Q.BF16):
        add(writer, kind.name.lower(), real, kind)
    writer.add_tensor("f64", real.astype(numpy.float64))
    writer.add_tensor("i32", numpy.arange(-3, 3, dtype=numpy.int32).reshape(1, 2, 3))
    writer.add_tensor("i64", numpy.array([-(2**63), 2**63 - 1]))
    finish(writer)


def to_version_2(path):
    """Which has the same layout."""
    data = bytearray(path.read_bytes())
    data[4:8] = (2).to_bytes(4, "little")
    path.write_bytes(data)


# --- Hugging Face -----------------------------------------------------------------------------------------------------

FLA = {
    "emb.weight": "model.embeddings.weight", "ln_out.": "model.norm.", "head.weight": "lm_head.weight",
    "blocks.": "model.layers.", ".att.": ".attn.", ".ln0.": ".pre_norm.", ".ln1.": ".attn_norm.", ".ln2.": ".ffn_norm.",
    ".attn.receptance.": ".attn.r_proj.", ".attn.key.": ".attn.k_proj.", ".attn.value.": ".attn.v_proj.",
    ".attn.output.": ".attn.o_proj.", ".attn.ln_x.": ".attn.g_norm.",
}
for letter in "wavg":
    FLA[f".attn.{letter}0"] = f".attn.{letter}_lora.lora.2.bias"
    FLA[f".attn.{letter}1"] = f".attn.{letter}_lora.lora.0.weight"
    FLA[f".attn.{letter}2"] = f".attn.{letter}_lora.lora.2.weight"


def fla():
    tensors = {}
    for name, numbers in released(7).items():
        for old, new in FLA.items():
            name = name.replace(old, new)
        if ".lora." in name:
            numbers = numbers.reshape(-1) if name.endswith("bias") else numbers.T
        elif ".attn.x_" not in name and numbers.ndim == 3:
            numbers = numbers.reshape(-1)
        tensors[name] = numpy.ascontiguousarray(numbers, dtype=numpy.float16)
    (folder / "fla").mkdir(exist_ok=True)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {}}
    shards = [{}, {}]
    for place, (name, numbers) in enumerate(tensors.items()):
        shards[place % 2][name] = numbers
        index["weight_map"][name] = f"model-0000{place % 2 + 1}-of-00002.safetensors"
    for place, shard in enumerate(shards):
        save_file(shard, folder / "fla" / f"model-0000{place + 1}-of-00002.safetensors", {"format": "pt"})
    with open(folder / "fla" / "model.safetensors.index.json", "w") as out:
        json.dump(index, out, separators=(",", ":"), sort_keys=True)
        out.write("\n")


def transformers():
    tensors = {}
    for name, numbers in released(4).items():
        name = name.replace("emb.", "embeddings.").replace(".ln0.", ".pre_ln.")
        name = name.replace(".att.", ".attention.").replace(".ffn.", ".feed_forward.")
        for letter, word in {"k": "key", "v": "value", "r": "receptance"}.items():
            if name.endswith(".time_mix_" + letter):
                name = name[:-1] + word
        tensors[name if name == "head.weight" else "rwkv." + name] = numbers.astype(numpy.float16)
    (folder / "transformers").mkdir(exist_ok=True)
    save_file(tensors, folder / "transformers" / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    formats()
    gguf_model(6, Q.F16, rescale=1)
    gguf_model(7, Q.BF16)
    to_version_2(folder / "rwkv7.gguf")
    fla()
    transformers()
