"""A byte-level BPE tokenizer for merge programs.

Pieces follow Python's grain: `torch.zeros_like(` and `.abs()` may become one token, a line break takes its indentation along,
identifiers stand alone (so that a name is one token wherever it is used, which is what a small model has to copy), digits stay
single (so that constants stay varied).
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine.prompts import BEGIN, END, PAD, SPECIAL_TOKENS

VOCABULARY = 1536
_PIECES = (
    r"def merge_models\(model_dict, device|import torch\n+| ?model_dict\.values\(\)"  # every program has them: one token each
    r"|1e-\d+|\d\.|\d"
    r"| ?torch\.[a-z_.]+\(?"
    r"|\.[a-z_]+(?:\(\)|\()?"
    r"| ?[A-Za-z_]+"
    r"|\n *"
    r"| ?[^\sA-Za-z0-9_.]+"
    r"|\s+|."
)


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Learn the merges from `texts` (without special tokens in them) and return a tokenizer ready to save.

    Nothing is added to a text by encoding it: prompts carry their begin mark themselves.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in (BEGIN, END, PAD)],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
