"""How a question is asked: worked examples before it, as plain text or as turns for a chat template."""

from dataclasses import dataclass

from benchmarks.evaluators import Chat, Prompt


@dataclass(frozen=True)
class FewShot:
    """A fixed way to ask.

    Attributes:
        version: changes with any character of what follows; scores of different versions are not comparable.
        asked: plain form of a question, with `{question}` in it; it ends where the answer begins.
        instruction: opens the first turn in chat form.
        examples: (question, worked answer), in their fixed order.
    """

    version: str
    asked: str
    instruction: str
    examples: tuple[tuple[str, str], ...] = ()

    def prefix(self, shots: int) -> str:
        """What stands before the question in plain form: `shots` worked examples, each followed by an empty line."""
        return "".join(f"{self._ask(question)} {answer}\n\n" for question, answer in self.examples[:shots])

    def prompt(self, question: str, *, shots: int, chat: bool = False) -> Prompt:
        """The prompt for one question.

        Args:
            shots: worked examples, 0..len(examples).
            chat: as turns, for the model's chat template.
        """
        assert 0 <= shots <= len(self.examples)
        if not chat:
            return f"{self.prefix(shots)}{self._ask(question)}"
        turns = [turn for asked, answer in self.examples[:shots] for turn in (("user", asked), ("assistant", answer))]
        turns.append(("user", question))
        first = (turns[0][0], f"{self.instruction}\n\n{turns[0][1]}")
        return Chat((first, *turns[1:]))

    def _ask(self, question: str) -> str:
        return self.asked.replace("{question}", question)
