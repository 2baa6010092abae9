from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import (
    Chat,
    ModelFolderError,
    PromptTooLongError,
    ScriptedEvaluator,
    Stop,
    SwapError,
    TransformersEvaluator,
    evaluators,
)
from tests.benchmarks.conftest import WORDS, llama, save

SHARED = " ".join(f"w{i % 26}" for i in range(40))
PROMPTS = [f"w{i} w{3 * i % 26} {i % 10} " + " ".join(["w1", "5"] * (i % 7)) for i in range(23)]
FOLDERS = ["llama_folder", "grouped_folder", "gpt2_folder"]


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def evaluator(folder: Path) -> Iterator[TransformersEvaluator]:
    made = TransformersEvaluator(folder, threads=2, batch_size=8)
    yield made
    made.close()


def answers(evaluator, prompts=PROMPTS, **changes):
    return evaluator.answer(prompts, **{"max_new_tokens": 12, "stop": Stop()} | changes)


def generated(folder, prompts, max_new_tokens=12):
    """Plain transformers, one prompt at a time."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0
        )
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


def noise(folder, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    tied = (
        "lm_head.weight"
        if state.get("lm_head.weight", torch.empty(1)).data_ptr()
        in {tensor.data_ptr() for name, tensor in state.items() if name != "lm_head.weight"}
        else None
    )
    return {n: t + 0.3 * torch.randn(t.shape, generator=generator) for n, t in state.items() if n != tied}


def test_answers_are_those_of_plain_generate(evaluator, folder):
    expected = generated(folder, PROMPTS)
    assert len(set(expected)) > 10
    assert answers(evaluator) == expected


def test_a_long_shared_prefix_changes_no_answer(evaluator, folder):
    prompts = [f"{SHARED} {prompt}" for prompt in PROMPTS]
    assert answers(evaluator, prompts) == generated(folder, prompts)


def test_answers_do_not_depend_on_threads_or_the_order_of_prompts(folder, evaluator):
    alone = TransformersEvaluator(folder, threads=1, batch_size=8)
    assert answers(alone) == answers(evaluator)
    assert answers(alone, PROMPTS[::-1]) == answers(evaluator)[::-1]
    assert answers(alone, []) == []
    alone.close()


def test_a_swap_gives_the_answers_of_the_model_that_has_these_weights(evaluator, folder, tmp_path):
    before, tensors = answers(evaluator), noise(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.load_state_dict(tensors, strict=False)
    model.tie_weights()
    save(tmp_path / "swapped", model)
    evaluator.swap(tensors)
    assert answers(evaluator) == generated(tmp_path / "swapped", PROMPTS) != before


def test_weights_not_named_are_the_bases_again(evaluator, folder):
    tensors = noise(folder)
    names = sorted(name for name in tensors if name.endswith("weight"))
    first, second = {names[0]: tensors[names[0]]}, {names[-1]: tensors[names[-1]]}
    base = answers(evaluator)
    evaluator.swap(second)
    only_second = answers(evaluator)
    evaluator.swap(tensors)
    evaluator.swap(first)
    evaluator.swap(second)
    assert answers(evaluator) == only_second
    evaluator.restore()
    assert answers(evaluator) == base
    assert all(torch.equal(evaluator._views[name], evaluator._base[name]) for name in evaluator._views)


def test_swapped_tensors_are_copied_and_cast(evaluator, folder):
    tensors = noise(folder)
    evaluator.swap(tensors)
    expected = answers(evaluator)
    for tensor in tensors.values():
        tensor.zero_()
    assert answers(evaluator) == expected
    name, view = next(iter(evaluator._views.items()))
    evaluator.swap({name: torch.full(view.shape, 1.5, dtype=torch.float64)})
    assert view.dtype == torch.float32
    assert torch.all(view == 1.5)


def test_tied_weights_follow_either_name(llama_folder):
    evaluator = TransformersEvaluator(llama_folder)
    embedding = noise(llama_folder)["model.embed_tokens.weight"]
    evaluator.swap({"model.embed_tokens.weight": embedding})
    expected = answers(evaluator)
    evaluator.swap({"lm_head.weight": embedding})
    assert answers(evaluator) == expected
    evaluator.swap({"lm_head.weight": embedding, "model.embed_tokens.weight": embedding})
    assert answers(evaluator) == expected
    with pytest.raises(SwapError, match=r"expected equal values, as the base ties them"):
        evaluator.swap({"lm_head.weight": embedding, "model.embed_tokens.weight": embedding + 1})


def test_a_wrong_swap_is_one_line_and_changes_nothing(evaluator):
    name, view = next(iter(evaluator._views.items()))
    before = answers(evaluator)
    for tensors, message in (
        (
            {name: torch.zeros(view.shape), "model.nothing": torch.zeros(1)},
            r"'model\.nothing': expected a weight of the",
        ),
        ({name: torch.zeros(2, 3, 5)}, rf"'{name}': expected shape \({view.shape[0]}, .* got \(2, 3, 5\)"),
    ):
        with pytest.raises(SwapError, match=message) as caught:
            evaluator.swap(tensors)
        assert "\n" not in str(caught.value)
        assert answers(evaluator) == before


def test_weights_that_are_not_finite_give_wrong_answers_not_errors(evaluator):
    evaluator.swap({name: torch.full(view.shape, float("nan")) for name, view in evaluator._views.items()})
    assert len(answers(evaluator)) == len(PROMPTS)


def test_end_tokens_and_stop_strings_end_an_answer(llama_folder, evaluator):
    full = answers(evaluator, max_new_tokens=12)
    stop = Stop(strings=("7", "w3"))
    assert answers(evaluator, stop=stop) == [stop.cut(text) for text in full]
    assert any(stop.cut(text) != text for text in full)


def test_prompts_beyond_the_context_are_refused(evaluator):
    with pytest.raises(
        PromptTooLongError, match=r"expected at most 28 tokens \(128 of context less 100 to answer\), got 40"
    ):
        answers(evaluator, [SHARED], max_new_tokens=100)


def test_threads_of_the_caller_are_left_as_they_were(evaluator):
    before = torch.get_num_threads()
    answers(evaluator)
    assert torch.get_num_threads() == before


def test_chat_prompts_go_through_the_template(llama_folder, tmp_path):
    folder = save(tmp_path / "chat", llama())
    plain = TransformersEvaluator(folder)
    with pytest.raises(ModelFolderError, match="expected a chat template"):
        answers(plain, [Chat((("user", "w1 w2"),))])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'][:0] }}w9 {{ m['content'] }} {% endfor %}w8"
    tokenizer.save_pretrained(folder)
    chat = TransformersEvaluator(folder)
    assert answers(chat, [Chat((("user", "w1 w2"),)), "w9 w1 w2 w8"]) == 2 * answers(plain, ["w9 w1 w2 w8"])


def test_folders_that_hold_no_model_are_refused_in_one_line(tmp_path, llama_folder):
    with pytest.raises(ModelFolderError, match="expected a folder or hub id with config") as caught:
        TransformersEvaluator(tmp_path / "nothing")
    assert "\n" not in str(caught.value)
    broken = save(tmp_path / "broken", llama())
    (broken / "model.safetensors").write_bytes(b"\x08" + b"\0" * 40)
    with pytest.raises(ModelFolderError, match="expected a folder or hub id with config"):
        TransformersEvaluator(broken)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    folder = save(tmp_path / "small", llama(vocab_size=len(WORDS) - 5))
    with pytest.raises(ModelFolderError, match=rf"expected at most {len(WORDS) - 5} tokens"):
        TransformersEvaluator(folder)


def test_the_double_answers_from_its_script_and_checks_shapes():
    double = ScriptedEvaluator(lambda prompt, tensors: f"{prompt} {len(tensors)} Question:", {"a": (2,)})
    assert double.answer(["x"], max_new_tokens=3, stop=Stop(("Question:",))) == ["x 0 "]
    double.swap({"a": torch.zeros(2)})
    assert double.answer(["x"], max_new_tokens=3, stop=Stop(("Question:",))) == ["x 1 "]
    double.restore()
    with pytest.raises(SwapError, match="expected shape"):
        double.swap({"a": torch.zeros(3)})
    double.close()


def short_of_memory(monkeypatch, most):
    """Decoding takes at most so many prompts at once; answers the sizes of the batches that came."""
    sizes, greedy = [], evaluators.greedy

    def hungry(decoder, prompts, *arguments, **options):
        sizes.append(len(prompts))
        if len(prompts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return greedy(decoder, prompts, *arguments, **options)

    monkeypatch.setattr(evaluators, "greedy", hungry)
    return sizes


def test_where_memory_does_not_suffice_batches_are_halved_from_then_on_and_that_is_recorded(
    evaluator, folder, monkeypatch
):
    expected = answers(evaluator)
    assert evaluator.incidents == {}
    sizes = short_of_memory(monkeypatch, 3)
    assert answers(evaluator) == expected
    assert evaluator.incidents == {"batch halved": 2}, "from 8 to 4 to 2"
    del sizes[:]
    assert answers(evaluator) == expected
    assert max(sizes) == 2, "the larger batches are not tried again"


def test_memory_that_does_not_suffice_for_one_prompt_is_the_hosts_fault(llama_folder, monkeypatch):
    evaluator = TransformersEvaluator(llama_folder, batch_size=4)
    short_of_memory(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        answers(evaluator)
    assert evaluator.incidents == {"batch halved": 2}
    evaluator.close()


def test_what_is_no_want_of_memory_is_not_tried_again(llama_folder, monkeypatch):
    evaluator = TransformersEvaluator(llama_folder, batch_size=4)
    monkeypatch.setattr(evaluators, "greedy", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        answers(evaluator)
    assert evaluator.incidents == {}
    evaluator.close()
