import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.decoding import MIN_SHARED_PREFIX, SHRINK_BELOW, Stop, Texts, greedy, shared_prefix

LETTERS = "\x00\x01abcdefgh#\n 0123456789:Qu"  # ids 0 and 1: padding, end
END = 1
NEVER = Stop()


class LetterTokenizer:
    """One id per letter; batch and single decoding as transformers' tokenizers have them."""

    def __len__(self):
        return len(LETTERS)

    def decode(self, ids, **_):
        return "".join(LETTERS[i] for i in ids)

    def batch_decode(self, many, **_):
        return [self.decode(ids) for ids in many]


class ScriptedDecoder:
    """Says a text per prompt, its first token naming which; counts the rows it is given to work on."""

    def __init__(self, texts):
        self.texts, self.rows_seen = texts, []

    def start(self, prompts, prefix, budget):
        self.rows, self.at, self.budget = [prompt[-1] for prompt in prompts], 0, budget
        return self._logits()

    def step(self, tokens):
        assert len(tokens) == len(self.rows)
        self.at += 1
        self.budget -= 1
        assert self.budget >= 0, "more steps than announced"
        return self._logits()

    def keep(self, rows):
        self.rows = [self.rows[i] for i in rows.tolist()]

    def _logits(self):
        self.rows_seen.append(len(self.rows))
        logits = torch.zeros(len(self.rows), len(LETTERS))
        for row, which in enumerate(self.rows):
            text = self.texts[which]
            logits[row, LETTERS.index(text[self.at]) if self.at < len(text) else END] = 1
        return logits


def run(texts, *, stop=NEVER, max_new_tokens=50):
    decoder = ScriptedDecoder(texts)
    shown = Texts(LetterTokenizer(), frozenset({END}), len(LETTERS))
    prompts = [[0, which] for which in range(len(texts))]
    return greedy(decoder, prompts, shown, prefix=0, max_new_tokens=max_new_tokens, stop=stop), decoder


@given(st.lists(st.text("abc12", max_size=20), min_size=1, max_size=12), st.integers(1, 25))
def test_answers_end_at_the_end_token_or_at_the_limit_in_order(texts, limit):
    answers, decoder = run(texts, max_new_tokens=limit)
    assert answers == [text[:limit] for text in texts]
    assert len(decoder.rows_seen) == min(limit, max(map(len, texts)) + 1)


@given(st.lists(st.text("ab# 1\nQu:", max_size=30), min_size=1, max_size=8))
def test_stopping_early_gives_what_cutting_afterwards_gives(texts):
    stop = Stop(strings=("Qu:", "\n\n"), final_line=True)
    assert run(texts, stop=stop)[0] == [stop.cut(text) for text in texts]


@given(st.lists(st.text("ab# é", max_size=20), min_size=1, max_size=4), st.sampled_from([" ", "#", "b "]))
def test_stop_strings_that_end_in_a_space_are_looked_for_at_every_token(texts, string):
    texts = [text.replace("é", "c") for text in texts]
    stop = Stop(strings=(string,))
    assert run(texts, stop=stop)[0] == [stop.cut(text) for text in texts]


def test_finished_rows_are_dropped():
    answers, decoder = run(["a"] * 9 + ["a" * 20])
    assert answers == ["a"] * 9 + ["a" * 20]
    assert decoder.rows_seen[:2] == [10, 10]
    assert set(decoder.rows_seen[3:]) == {1}
    assert SHRINK_BELOW < 1


def test_final_line_is_over_at_its_line_break_only():
    stop = Stop(final_line=True)
    assert stop.end("a\n#### 7") is None
    assert stop.cut("a\n#### 7\nb") == "a\n#### 7"
    assert stop.cut("####\n7") == "####\n7"
    assert Stop().characters == frozenset()


def test_a_shared_prefix_counts_only_when_long_and_leaves_every_prompt_a_token():
    head = list(range(MIN_SHARED_PREFIX))
    assert shared_prefix([[*head, 1, 2], [*head, 3]]) == MIN_SHARED_PREFIX
    assert shared_prefix([[*head, 99], [*head, 99]]) == MIN_SHARED_PREFIX
    assert shared_prefix([head, head]) == 0
    assert shared_prefix([[*head, 1]]) == 0
    assert shared_prefix([]) == 0


def test_triggers_are_the_tokens_that_can_end_a_text():
    texts = Texts(LetterTokenizer(), frozenset({END}), len(LETTERS))
    assert texts.triggers(Stop()) == frozenset()
    assert texts.triggers(Stop(strings=("Qu:",), final_line=True)) == {LETTERS.index(":"), LETTERS.index("\n")}
    assert len(texts.triggers(Stop(strings=("é",)))) == len(LETTERS)
