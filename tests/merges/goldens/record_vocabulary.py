"""Record what mergekit 0.1.5 makes of models with different tokens: the orders of ids, and the embeddings with rows for all of them.

    PYTHONHASHSEED=0 mk/bin/python tests/merges/goldens/record_vocabulary.py

in the environment of `record.py` writes `vocabulary.json` beside this file: "models", name -> its tokenizer (`vocab` in the order of the ids,
`merges` for byte-level BPE or null for whole words, `added` with whether they are special), `rows` as in config.json, and `stored` rows of its
embedding; and "cases", each with the question (`source`, `base`, `models`, `tokens`, `pad`) and mergekit's answer: `vocabulary` by id,
`added`, `permutations`, `embeddings`. Row r of model number i (from 1) has the values of `embedding`.

Not covered, as mergekit's answer changes from run to run: the order of several new ordinary tokens of one model (it is that of a hash table).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from mergekit.common import ModelPath, ModelReference
from mergekit.tokenizer.build import build_tokenizer
from mergekit.tokenizer.config import TokenEmbeddingConfig
from mergekit.tokenizer.embed import PermutedVocabulary
from transformers import LlamaConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from written_tokens import save_tokenizer  # noqa: E402  (mergekit's environment does not know this repository)

SPECIALS = ["<unk>", "<s>", "</s>"]
MODELS: dict[str, dict[str, Any]] = {
    "base": {
        "vocab": [*SPECIALS, *"abcdef"],
        "merges": None,
        "added": [["<pad>", True], ["<tool>", False]],
        "rows": 11,
        "stored": 11,
    },
    "left": {
        "vocab": ["<unk>", "<s>", *"cbad", "x", "</s>"],
        "merges": None,
        "added": [["<|im_start|>", True], ["<pad>", True]],
        "rows": 12,
        "stored": 12,
    },
    "right": {
        "vocab": ["<unk>", "</s>", "<s>", *"abcdfy"],
        "merges": None,
        "added": [["<|im_end|>", True], ["x", False], ["<beyond>", False]],
        "rows": 11,
        "stored": 13,
    },
    "bytes": {
        "vocab": [*SPECIALS, *"abc", "Ġ", "ab", "Ġa", "abc"],
        "merges": [["a", "b"], ["Ġ", "a"], ["ab", "c"]],
        "added": [["<first>", True], ["<beyond>", True]],
        "rows": 11,
        "stored": 11,
    },
    "short": {
        "vocab": [*SPECIALS, *"abc", "Ġ", "ab", "Ġa", "ca"],
        "merges": [["a", "b"], ["Ġ", "a"]],
        "added": [],
        "rows": 9,
        "stored": 9,
    },
    "chat": {
        "vocab": [*"cba", "Ġ", "Ġb", *SPECIALS],
        "merges": [["Ġ", "b"]],
        "added": [["<|im_start|>", True], ["<first>", True], ["abc", False]],
        "rows": 12,
        "stored": 16,
    },
}
WORDS, BYTES = ["base", "left", "right"], ["bytes", "chat"]
SETTINGS = {
    "a": {"source": "left", "force": True},
    "e": {"source": {"kind": "zero"}},
    "<new>": {"source": {"kind": "model_token", "model": "right", "token": "y"}},
    "<far>": {"source": {"kind": "model_token", "model": "right", "token_id": 12}},
    "<none>": {"source": {"kind": "zero"}},
    "<|im_end|>": {"source": {"kind": "model_token", "model": "base", "token": "</s>"}},
    "b": {"source": {"kind": "zero"}, "force": True},
}
CASES: list[dict[str, Any]] = [
    {"source": "base", "base": "base", "models": WORDS},
    {"source": "union", "base": "base", "models": WORDS},
    {"source": "union", "base": "base", "models": ["right", "base", "left"]},
    {"source": "union", "base": None, "models": WORDS},
    {"source": "left", "base": "base", "models": WORDS},
    {"source": "base", "base": "base", "models": WORDS, "pad": 4},
    {"source": "union", "base": "base", "models": WORDS, "tokens": SETTINGS, "pad": 8},
    {"source": "union", "base": "bytes", "models": BYTES},
    {"source": "base", "base": "bytes", "models": BYTES},
    {"source": "base", "base": "short", "models": ["short", "chat"]},
    {"source": "union", "base": "short", "models": ["short", "chat"], "pad": 16},
]


def write_model(folder: Path, spec: dict[str, Any]) -> None:
    """A tokenizer and a config.json."""
    save_tokenizer(folder, spec)
    config = LlamaConfig(vocab_size=spec["rows"], hidden_size=8, num_attention_heads=1, num_hidden_layers=1)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)


def embedding(number: int, rows: int) -> torch.Tensor:
    """The embedding of model `number`, [rows, 2]."""
    row = torch.arange(rows)
    return torch.stack([number + row / 16, number * row / 32 - row * row / 128], 1)


def answer(case: dict[str, Any], references: dict[str, ModelReference]) -> dict[str, Any]:
    """mergekit's answer."""
    names, base = case["models"], references.get(case["base"])
    tokens = {token: setting(value, references) for token, value in case.get("tokens", {}).items()}
    source = case["source"] if case["source"] in ("base", "union") else references[case["source"]]
    info = build_tokenizer(base, [references[name] for name in names], source, False, add_tokens=tuple(tokens))
    task = PermutedVocabulary.model_construct(
        tokens=tokens, pad_to_multiple_of=case.get("pad"), base_model=base, vocabulary_axis=0
    )
    stored = {references[name]: embedding(1 + names.index(name), MODELS[name]["stored"]) for name in names}
    made = task.execute(tokenizer_info=info, tensors=stored)
    vocab = info.tokenizer.get_vocab()
    permutations = {name: info.permutations[references[name]] for name in names}
    return {
        "vocabulary": sorted(vocab, key=vocab.__getitem__),
        "added": [
            [token.content, token.special, token.normalized]
            for _, token in sorted(info.tokenizer.added_tokens_decoder.items())
        ],
        "permutations": {name: [rows.get(row, -1) for row in range(len(vocab))] for name, rows in permutations.items()},
        "embeddings": {name: made[references[name]].tolist() for name in names},
    }


def setting(value: dict[str, Any], references: dict[str, ModelReference]) -> TokenEmbeddingConfig:
    """A setting of one token, with mergekit's names of the models."""
    source = value["source"]
    if isinstance(source, str):
        source = references[source]
    elif "model" in source:
        source = {**source, "model": references[source["model"]]}
    return TokenEmbeddingConfig(source=source, force=value.get("force", False))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        for name, spec in MODELS.items():
            write_model(Path(root) / name, spec)
        known = {name: ModelReference(model=ModelPath(path=str(Path(root) / name))) for name in MODELS}
        answers = [{**case, **answer(case, known)} for case in CASES]
    models_lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(spec)}" for name, spec in MODELS.items())
    case_lines = ",\n".join(json.dumps(case) for case in answers)
    text = f'{{"models": {{\n{models_lines}\n}},\n"cases": [\n{case_lines}\n]}}\n'
    (HERE / "vocabulary.json").write_text(text, encoding="utf-8")
