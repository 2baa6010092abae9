"""Models seen through another vocabulary: the same model on its own tokens, and the same bits however they are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError, OptionError, ShapeError
from merges.revocabularied import Revocabularied, common_rows, plan_truncation, revocabulary, vocabulary_tensors
from merges.tokenizer_files import Vocabulary
from merges.vocabulary import MEAN, REST, ZERO, RowPlan, TokenSetting, plan_vocabulary
from merges.weights import View

EMBED, HEAD, NORM, BIAS = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "lm_head.bias"
ROWS, WIDTH = (5, 7, 6), 3


def vocabulary(*tokens):
    ids = {token: number for number, token in enumerate(tokens)}
    return Vocabulary(Path("nowhere"), ids, ids, {}, None, True)


def saved(folder, tensors, **config):
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"vocab_size": len(tensors[EMBED]), **config}))
    return Checkpoint.open(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Three models of ROWS tokens: an embedding, a head and its bias, and a norm that is as long."""
    root, generator = tmp_path_factory.mktemp("weights"), torch.Generator().manual_seed(0)

    def tensors(rows):
        shapes = {EMBED: (rows, WIDTH), HEAD: (rows, WIDTH), BIAS: (rows,), NORM: (rows,)}
        return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    return {name: saved(root / name, tensors(rows)) for name, rows in zip("abc", ROWS, strict=True)}


def plan_of(owns, sources, source_rows, forced=None):
    """A plan for models a, b, c from lists."""
    rows = len(sources)
    owns = [np.array(own, np.int64) for own in owns]
    forced = np.array(forced if forced is not None else [False] * rows, bool)
    return RowPlan(
        rows, tuple("abc"), dict(zip("abc", owns, strict=True)), np.array(sources), np.array(source_rows), forced
    )


def expected(plan, name, weights, tensor):
    """What the view must give, row by row."""
    stored = {other: weights[other].read(tensor) for other in plan.models}
    rows = []
    for row in range(plan.rows):
        own, source = int(plan.permutations[name][row]), int(plan.sources[row])
        if own >= 0 and not plan.forced[row]:
            rows.append(stored[name][own])
        elif source >= 0:
            rows.append(stored[plan.models[source]][plan.source_rows[row]])
        elif source == MEAN:
            having = [stored[other][own[row]] for other, own in plan.permutations.items() if own[row] >= 0]
            rows.append(torch.stack(having).mean(0))
        elif source == ZERO:
            rows.append(torch.zeros_like(stored[name][0]))
        else:
            rows.append(None)
    known = [row for row in rows if row is not None]
    rest = torch.stack(known).mean(0) if known else torch.zeros_like(stored[name][0])
    return torch.stack([rest if row is None else row for row in rows])


@st.composite
def plans(draw):
    rows = draw(st.integers(1, 12))
    owns = [draw(st.lists(st.integers(-1, count - 1), min_size=rows, max_size=rows)) for count in ROWS]
    sources, source_rows = [], []
    for row in range(rows):
        somebody = max(own[row] for own in owns) >= 0
        source = draw(st.sampled_from([0, 1, 2, ZERO, MEAN if somebody else ZERO, REST]))
        if source == REST:
            for own in owns:
                own[row] = -1
        sources.append(source)
        source_rows.append(draw(st.integers(0, ROWS[source] - 1)) if source >= 0 else 0)
    forced = [draw(st.booleans()) and source != REST for source in sources]
    return plan_of(owns, sources, source_rows, forced)


@settings(max_examples=150, deadline=None)
@given(plans(), st.data())
def test_rows_are_those_of_the_plan_and_any_cut_gives_the_same_bits(weights, plan, data):
    for name, view in revocabulary(plan, weights).items():
        for tensor in (EMBED, HEAD, BIAS):
            whole = view.read(tensor)
            assert whole.shape == view.shapes[tensor] == (plan.rows, *weights[name].shapes[tensor][1:])
            assert whole.dtype is view.dtypes[tensor] is torch.float32
            torch.testing.assert_close(whole, expected(plan, name, weights, tensor), rtol=0, atol=1e-6)
            moved = torch.from_numpy(plan.origins(name)[0] >= 0)
            assert torch.equal(whole[moved], expected(plan, name, weights, tensor)[moved])
            cuts = sorted(data.draw(st.sets(st.integers(1, whole.numel()), max_size=6)) | {0, whole.numel()})
            again = Revocabularied(name, plan, weights)
            parts = [again.read_part(tensor, a, b) for a, b in pairwise(cuts)]
            assert torch.equal(torch.cat(parts), whole.reshape(-1))
        assert torch.equal(view.read(NORM), weights[name].read(NORM))


def test_a_buffer_that_is_given_is_filled(weights):
    plan = plan_of([[0, 1, 2], [3, 2, -1], [1, -1, -1]], [0, ZERO, MEAN], [4, 0, 0])
    view = revocabulary(plan, weights)["c"]
    buffer = torch.full((20,), 7.0)
    part = view.read_part(EMBED, 1, 8, buffer)
    assert part.data_ptr() == buffer.data_ptr()
    assert torch.equal(part, view.read(EMBED).reshape(-1)[1:8])
    assert (buffer[7:] == 7).all()


class Watched(View):
    """Notes what is read."""

    def __init__(self, origin):
        super().__init__(origin)
        self.reads = []

    def read_part(self, name, start, stop, into=None):
        self.reads.append((name, start, stop))
        return super().read_part(name, start, stop, into)


def test_only_needed_rows_are_read_and_those_in_a_row_at_once(weights):
    watched = {name: Watched(model) for name, model in weights.items()}
    plan = plan_of([[0, 1, 2, 3, -1, -1], [6, 5, -1, -1, -1, -1], [-1] * 6], [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 2, 3])
    view = revocabulary(plan, watched)["a"]
    view.read(EMBED)
    assert watched["a"].reads == [(EMBED, 0, 12)]
    assert watched["b"].reads == [(EMBED, 6, 12)]
    assert watched["c"].reads == []
    view.read_part(EMBED, 4, 14)
    assert watched["a"].reads[1:] == [(EMBED, 4, 12)]
    assert watched["b"].reads[1:] == [(EMBED, 6, 8)]
    assert view.paths == weights["a"].paths + weights["b"].paths


def test_the_mean_of_all_rows_is_read_once(weights):
    watched = {name: Watched(model) for name, model in weights.items()}
    plan = plan_of([[1, -1, 2, -1]] * 3, [0, REST, 0, REST], [0, 0, 0, 0])
    view = revocabulary(plan, watched)["a"]
    view.read(EMBED)
    assert watched["a"].reads == [(EMBED, 3, 6), (EMBED, 3, 9), (EMBED, 6, 9)]
    view.read_part(EMBED, 10, 12)
    assert len(watched["a"].reads) == 3


# --- as a model


def test_a_model_is_the_same_on_its_own_tokens(llamas, tmp_path):
    from transformers import AutoModelForCausalLM

    letters = [f"t{i}" for i in range(32)]
    known = {"base": vocabulary(*letters), "expert": vocabulary(*letters[::-2], "x", *letters[::2][:15])}
    weights = {"base": Checkpoint.open(llamas["base"]), "expert": Checkpoint.open(llamas["expert_a"])}
    plan = plan_vocabulary("union", known, "base", pad_to_multiple_of=8)
    assert plan.rows == 40
    for name, view in revocabulary(plan, weights).items():
        folder = Path(shutil.copytree(weights[name].path, tmp_path / name))
        save_file({t: view.read(t) for t in view.names}, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(view.config))
        ours, theirs = (
            AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (folder, weights[name].path)
        )
        assert ours.config.vocab_size == 40
        row = plan.permutations[name]
        here = torch.from_numpy(np.flatnonzero(row >= 0))
        own = torch.from_numpy(row[row >= 0])
        with torch.no_grad():
            logits = ours(here[None, 3:20]).logits[..., here]
            torch.testing.assert_close(logits, theirs(own[None, 3:20]).logits[..., own], rtol=0, atol=1e-5)


def test_a_tied_head_has_the_rows_of_the_embedding_and_fills_from_heads(llamas):
    weights = {"tied": Checkpoint.open(llamas["tied"]), "base": Checkpoint.open(llamas["base"])}
    letters = [f"t{i}" for i in range(32)]
    plan = plan_vocabulary("union", {"tied": vocabulary(*letters), "base": vocabulary("x", *letters[1:])}, "tied")
    view = revocabulary(plan, weights)["tied"]
    assert view.resolve(HEAD) == EMBED
    assert HEAD not in view.shapes
    assert torch.equal(view.read(HEAD)[:32], view.read(EMBED)[:32])
    assert torch.equal(view.read(HEAD)[32], weights["base"].read(HEAD)[0])
    assert torch.equal(view.read(EMBED)[32], weights["base"].read(EMBED)[0])


def test_moved_rows_keep_the_dtype_and_others_do_not_lose_by_it(tmp_path):
    kinds = {"half": torch.bfloat16, "full": torch.float32, "f8": torch.float8_e4m3fn}
    weights = {name: saved(tmp_path / name, {EMBED: torch.randn(2, 4).to(dtype)}) for name, dtype in kinds.items()}

    def dtype(name, other, *, mean=False, **options):
        known = {name: vocabulary("a", "b"), other: vocabulary("a", "c")}
        plan = plan_vocabulary("union", known, None if mean else name, **options)
        return revocabulary(plan, weights)[name].dtypes[EMBED]

    assert dtype("half", "full") is torch.float32
    assert dtype("full", "half") is torch.float32
    assert dtype("f8", "half") is torch.float32
    assert dtype("half", "full", tokens={"c": TokenSetting(zero=True)}) is torch.bfloat16
    assert dtype("half", "full", tokens={"c": TokenSetting("half", "a")}) is torch.bfloat16
    assert dtype("half", "full", tokens={"c": TokenSetting(zero=True)}, pad_to_multiple_of=4) is torch.float32
    own = dict.fromkeys("ab", weights["f8"])
    plan = plan_vocabulary("union", {"a": vocabulary("a", "b"), "b": vocabulary("c", "a")}, "a")
    view = revocabulary(plan, own)["b"]
    assert view.dtypes[EMBED] is torch.float8_e4m3fn
    assert torch.equal(view.read(EMBED).float(), weights["f8"].read(EMBED).float()[[1, 1, 0]])


class Adapted(View):
    """Knows its change by itself."""

    def change(self, name, start, stop, base):
        assert isinstance(base, Checkpoint)
        return torch.ones(stop - start)


def test_a_change_is_known_only_of_what_keeps_its_rows(weights):
    models = {**weights, "b": Adapted(weights["b"])}
    views = revocabulary(plan_of([[0, 1]] * 3, [0, 0], [0, 1]), models)
    assert views["b"].change(EMBED, 0, 2, views["a"]) is None
    assert torch.equal(views["b"].change(NORM, 0, 2, views["a"]), torch.ones(2))
    assert views["a"].change(NORM, 0, 2, views["a"]) is None


def test_all_else_is_as_it_was(weights):
    view = revocabulary(plan_of([[0, 1]] * 3, [0, 0], [0, 1]), weights)["a"]
    origin = weights["a"]
    view.expect(EMBED)
    assert (view.names, view.path, view.n_layers, view.paths) == (origin.names, origin.path, 0, origin.paths)
    assert view.config == {"vocab_size": 2}
    assert view.resolve("nothing") is None
    assert [view.shapes[name] for name in (EMBED, BIAS, NORM)] == [(2, WIDTH), (2,), (5,)]


# --- which tensors


def model(shapes: Mapping[str, tuple[int, ...]], **config):
    return SimpleNamespace(names=tuple(shapes), shapes=shapes, config=config)


@pytest.mark.parametrize(
    "name",
    [
        *(EMBED, HEAD, BIAS, "transformer.wte.weight", "gpt_neox.embed_in.weight", "embed_out.weight"),
        *("model.tok_embeddings.weight", "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"),
        *("cls.predictions.decoder.weight", "lm_head.decoder.weight", "vocab_projector.bias", "shared.weight"),
        *("backbone.embeddings.weight", "transformer.output_layer.weight", "model.language_model.embed_tokens.weight"),
    ],
)
def test_names_that_mergekit_knows_stand_for_tokens(name):
    assert vocabulary_tensors([model({name: (9, 4), "model.norm.weight": (9,)}, vocab_size=8)]) == (name,)


def test_other_names_stand_for_tokens_by_their_shape_outside_the_layers():
    shapes = {"output.weight": (8, 4), "model.layers.0.up.weight": (8, 4), "wpe.weight": (8, 4), "x.position_embeddings.weight": (8, 4),
              "norm.weight": (8,), "projector.weight": (7, 8)}  # fmt: skip
    assert vocabulary_tensors([model(shapes, vocab_size=8)]) == ("output.weight",)
    assert vocabulary_tensors([model(shapes, text_config={"vocab_size": 8})]) == ("output.weight",)
    assert vocabulary_tensors([model(shapes)]) == ()


def test_tensors_can_be_named(weights):
    plan = plan_of([[0, 1]] * 3, [0, 0], [0, 1])
    views = revocabulary(plan, weights, [NORM, "no.such"])
    assert views["a"].shapes[NORM] == (2,)
    assert views["a"].shapes[EMBED] == weights["a"].shapes[EMBED]


# --- rows alone


def test_truncation_keeps_the_rows_that_all_have(weights):
    rows = common_rows(weights.values())
    assert rows == min(ROWS)
    plan = plan_truncation(weights, rows)
    for name, view in revocabulary(plan, weights).items():
        for tensor in (EMBED, HEAD, BIAS):
            assert torch.equal(view.read(tensor), weights[name].read(tensor)[:rows])
    refused(
        ShapeError,
        "expected at least 6 rows for the ids that are used, got 5",
        revocabulary,
        plan_truncation(weights, 6),
        weights,
    )


# --- refusals


def refused(kind, match, function, *args):
    with pytest.raises(kind, match=match) as info:
        function(*args)
    assert "\n" not in str(info.value)


def test_models_that_do_not_fit_the_plan_are_refused(weights, tmp_path):
    plan = plan_of([[0, -1], [1, 2], [-1, -1]], [1, 1], [0, 6])
    refused(OptionError, "expected models a, b, c as in the plan of the vocabulary, got a; plan it again$", Revocabularied, "a", plan,
            {"a": weights["a"]})  # fmt: skip
    refused(OptionError, "model 'd': expected models a, b, c", Revocabularied, "d", plan, weights)
    wide = saved(tmp_path / "wide", {EMBED: torch.zeros(7, WIDTH + 1)})
    match = r"expected rows of shape \(3,\) as in .*, got \(4,\); merge models of one width$"
    refused(ShapeError, match, revocabulary, plan, {**weights, "b": wide}, [EMBED])
    short = saved(tmp_path / "short", {EMBED: torch.zeros(6, WIDTH)})
    refused(
        ShapeError,
        "expected at least 7 rows .*, got 6; see that vocab_size",
        revocabulary,
        plan,
        {**weights, "b": short},
        [EMBED],
    )
    headless = saved(tmp_path / "headless", {EMBED: torch.zeros(7, WIDTH)})
    refused(CheckpointError, "tensor 'lm_head.weight': expected in .*headless, .*got none; use another source$", revocabulary, plan,
            {**weights, "b": headless}, [EMBED, HEAD])  # fmt: skip
    empty = saved(tmp_path / "empty", {EMBED: torch.zeros(0, WIDTH)}, vocab_size=1)
    refused(ShapeError, r"expected rows, got shape \(0, 3\)", revocabulary, plan, {**weights, "c": empty})
    none = {"a": saved(tmp_path / "none", {EMBED: torch.zeros(2, 2)})}
    refused(CheckpointError, "expected an embedding, got none; name its tensor$", common_rows, none.values(), ())
