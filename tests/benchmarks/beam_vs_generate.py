"""Our constrained beam against Hugging Face's: python tests/benchmarks/beam_vs_generate.py OTHER_PYTHON

OTHER_PYTHON is the interpreter of an environment with torch and transformers, of which seqlab itself needs nothing:
python -m venv /tmp/hf && /tmp/hf/bin/pip install torch==2.13.0 transformers

The decoder-only TIGER and a GPT2LMHeadModel get the same random weights, histories and codes, so their beams (20 wide,
4 levels) must be the same; `generate` walks the trie with `prefix_allowed_tokens_fn` over a dictionary. The
encoder-decoder TIGER is timed against a T5ForConditionalGeneration of equal size (its positions are relative, so its
beams differ). Each side is given the batch size that suits it best; they take turns. Histories hold 5 items, 20, or
3 to 20 with a mean of 7: these we sort into batches of like lengths, as `rank` does; `generate` takes them as they
come, padded. Prints one row per layout and kind of history; on a machine that is not idle, the ratio of processor
times on one thread is the one to trust.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

LEVELS, WIDTH, ITEMS = (256, 256, 256, 256), 20, 12_101
DIM, LAYERS, HEADS = 128, 3, 4
USERS = 128
ROUNDS = 1
BATCHES = {"ours": (32, 128), "theirs": (4, 16, 64)}


def timed(answer, batches: tuple[int, ...]) -> dict[str, float]:
    """Users per second of wall and of processor time with the batch size that is best by the latter.

    `answer(first, last)` answers for some of the users.
    """
    found = []
    for size in batches:
        answer(0, size)
        wall, processor, done = time.perf_counter(), time.process_time(), 0
        while done < USERS and time.perf_counter() - wall < 20:
            answer(done, min(done + size, USERS))
            done = min(done + size, USERS)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        found.append({"wall": done / wall, "processor": done / processor, "batch": size})
    return max(found, key=lambda one: one["processor"])


def tiger(layout: str, codes: torch.Tensor):
    """A TIGER with random weights large enough for its distributions to be uneven."""
    from seqlab import models
    from seqlab.tokenizers import CodeBook

    torch.manual_seed(0)
    settings = {"layout": layout, "dim": DIM, "layers": LAYERS, "heads": HEADS, "levels": LEVELS}
    model = models.build("tiger", ITEMS, settings).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    model.ids.assign(CodeBook(codes, LEVELS))
    return model


def as_gpt2(writer) -> dict[str, torch.Tensor]:
    """The same numbers under GPT-2's names: token 0 is the start, the levels' tables follow one another."""
    start = writer.start[None]
    spread = writer.positions.weight[:, None] + writer.slots.weight  # (T + 1, C, D)
    weights = {
        "transformer.wte.weight": torch.cat([start, writer.table.weight]),
        "transformer.wpe.weight": torch.cat([torch.zeros_like(start), spread.flatten(0, 1)]),
        "lm_head.weight": torch.cat([torch.zeros_like(start), *(head.weight for head in writer.heads)]),
        "transformer.ln_f.weight": writer.norm.weight,
        "transformer.ln_f.bias": writer.norm.bias,
    }
    for place, block in enumerate(writer.blocks):
        parts = {
            "ln_1": block.before_mixer, "ln_2": block.before_feed_forward,
            "attn.c_attn": block.mixer.project_in, "attn.c_proj": block.mixer.project_out,
            "mlp.c_fc": block.feed_forward[0], "mlp.c_proj": block.feed_forward[2],
        }  # fmt: skip
        for name, part in parts.items():
            turned = part.weight.T if "c_" in name else part.weight  # GPT-2 keeps its matrices the other way round
            weights |= {f"transformer.h.{place}.{name}.weight": turned, f"transformer.h.{place}.{name}.bias": part.bias}
    return {name: weight.detach().contiguous().clone() for name, weight in weights.items()}


def ours(model, items: torch.Tensor, lengths: torch.Tensor, order: torch.Tensor):
    """Function that answers for users order[first:last], with scores renormalised over what is legal, as theirs."""
    from seqlab import decoding
    from seqlab.datasets.events import Events
    from seqlab.datasets.sequences import Batch

    @torch.no_grad()
    def answer(first: int, last: int):
        rows = order[first:last]
        some, long = items[rows], lengths[rows]
        some = some[:, : int(long.max())]
        batch = Batch(Events(some, torch.zeros(some.shape, dtype=torch.float64)), long, rows)
        return decoding.beam(model.decoder(batch), model.ids.book.trie, WIDTH, renormalise=True)

    return answer


def theirs(folder: Path, layout: str) -> None:
    """Runs in the other environment: writes users per second, batch size and beams to `folder`."""
    from safetensors.torch import load_file, save_file
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    given = load_file(folder / "inputs.safetensors")
    prompt, mask, tuples = given["prompt"], given["mask"], given["tuples"].tolist()
    words = 1 + sum(LEVELS)
    if layout == "decoder":
        config = GPT2Config(
            vocab_size=words, n_positions=len(load_file(folder / "gpt2.safetensors")["transformer.wpe.weight"]),
            n_embd=DIM, n_layer=LAYERS, n_head=HEADS, activation_function="gelu", tie_word_embeddings=False,
            bos_token_id=0, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        model = GPT2LMHeadModel(config).eval()
        model.load_state_dict(load_file(folder / "gpt2.safetensors"))
        skip = prompt.shape[1]
    else:
        config = T5Config(
            vocab_size=words, d_model=DIM, d_kv=DIM // HEADS, d_ff=4 * DIM, num_layers=LAYERS,
            num_heads=HEADS, decoder_start_token_id=0, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        model, skip = T5ForConditionalGeneration(config).eval(), 1
    legal: dict[tuple[int, ...], list[int]] = {}
    for one in tuples:
        for level in range(len(one)):
            legal.setdefault(tuple(one[:level]), []).append(one[level])
    legal = {prefix: sorted(set(codes)) for prefix, codes in legal.items()}

    @torch.no_grad()
    def answer(first: int, last: int):
        return model.generate(
            prompt[first:last], attention_mask=mask[first:last], num_beams=WIDTH, num_return_sequences=WIDTH,
            max_new_tokens=len(LEVELS), min_new_tokens=len(LEVELS), do_sample=False, length_penalty=0.0,
            prefix_allowed_tokens_fn=lambda _, written: legal[tuple(written[skip:].tolist())],
            renormalize_logits=True, return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip

    told = timed(answer, BATCHES["theirs"])
    found = answer(0, 16)
    beams = {"codes": found.sequences[:, skip:].contiguous(), "scores": found.sequences_scores}
    save_file(beams, folder / "beams.safetensors")
    print(json.dumps(told | {"parameters": model.num_parameters()}))


def same_beams(found, folder: Path, offsets: torch.Tensor) -> str:
    """How far the first 16 users' beams agree."""
    from safetensors.torch import load_file

    other = load_file(folder / "beams.safetensors")
    codes = other["codes"].view(16, WIDTH, -1) - 1 - offsets
    scores = other["scores"].view(16, WIDTH)
    equal = (codes == found.codes).all(-1)
    far = float((scores - found.scores).abs().max())
    return f"{int(equal.sum())} of {equal.numel()} tuples at the same rank, scores within {far:.1e}"


def compare(python: str, layout: str, history: str) -> str:
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(size, (ITEMS + 1,), generator=generator) for size in LEVELS], 1)
    if history == "mixed":
        lengths = (3 + torch.empty(USERS).exponential_(0.25, generator=generator)).long().clamp(max=20)
    else:
        lengths = torch.full((USERS,), int(history))
    longest = int(lengths.max())
    items = torch.randint(1, ITEMS + 1, (USERS, longest), generator=generator)
    items *= torch.arange(longest) < lengths[:, None]
    model = tiger(layout, codes)
    tokens = 1 + model.ids.codes + model.writer.offsets  # (N + 1, C)
    written = torch.cat([torch.zeros(USERS, 1, dtype=torch.long), tokens[items].flatten(1)], 1)
    place = torch.arange(written.shape[1]) - (longest - lengths[:, None]) * len(LEVELS)  # theirs is padded on the left
    prompt, mask = written.gather(1, place.clamp(min=0)), (place >= 0).long()
    answer = ours(model, items, lengths, lengths.argsort(stable=True))
    mine, other = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = {"prompt": prompt, "mask": mask, "tuples": tokens[1:].contiguous()}
        save_file(given, folder / "inputs.safetensors")
        if layout == "decoder":
            save_file(as_gpt2(model.writer), folder / "gpt2.safetensors")
        command = [python, __file__, "--theirs", temporary, layout, str(torch.get_num_threads())]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        for _ in range(ROUNDS):
            mine.append(timed(answer, BATCHES["ours"]))
            told = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
            if told.returncode:
                raise SystemExit(f"the other side failed:\n{told.stderr[-3000:]}")
            other.append(json.loads(told.stdout.splitlines()[-1]))
        mine.append(timed(answer, BATCHES["ours"]))
        first = ours(model, items, lengths, torch.arange(USERS))(0, 16)
        agree = same_beams(first, folder, model.writer.offsets) if layout == "decoder" else "another model"
    mine, other = (sorted(part, key=lambda one: one["processor"])[len(part) // 2] for part in (mine, other))
    size = sum(parameter.numel() for parameter in model.parameters())
    ratios = [mine[kind] / other[kind] for kind in ("wall", "processor")]
    return (
        f"{layout:15} {history:>5} items | ours {mine['wall']:6.1f} users/s (batch {mine['batch']}, {size:,} weights)"
        f" | generate {other['wall']:5.2f} (batch {other['batch']}, {other['parameters']:,}) | {ratios[0]:.1f} x as "
        f"fast ({ratios[1]:.1f} by processor time) | {agree}"
    )


def main() -> None:
    if sys.argv[1:2] == ["--theirs"]:
        torch.set_num_threads(int(sys.argv[4]))
        return theirs(Path(sys.argv[2]), sys.argv[3])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other_python")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, {ITEMS:,} items, {len(LEVELS)} levels, beam {WIDTH}")
    for layout in ("decoder", "encoder_decoder"):
        for history in ("5", "20", "mixed"):
            print(compare(given.other_python, layout, history), flush=True)
    return None


if __name__ == "__main__":
    main()
