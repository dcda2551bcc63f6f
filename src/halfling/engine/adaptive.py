"""The engine: texts in, answers out."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from halfling.cores import usable_cores
from halfling.engine.answer import Answer
from halfling.engine.backends import Backend, choose_backend, load_backend
from halfling.engine.backends.native import NativeLoop
from halfling.engine.exported import Exported, read_exported
from halfling.engine.guess import AUTO, guessed
from halfling.engine.prediction import Prediction
from halfling.engine.questions import Question, classifier_questions, read_labels, read_tags, tagger_questions
from halfling.engine.text import load_pieces
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encoded import Encoded

if TYPE_CHECKING:
    from halfling.engine.loop import AdaptiveLoop as _Loop

_MOST_THREADS = 1024


class AdaptiveEngine:
    """Answers with an exported model: segments, packed rows, early exits.

    An answer does not depend on what else is computed with it, save for rounding (docs/method.md says how much).
    Threads may share one: they take turns.
    """

    def __init__(self, folder: Path, exported: Exported, backend: str, threads: int | None) -> None:
        self.exported = exported
        self.pieces = load_pieces(folder, exported.tokenizer)
        chosen = choose_backend(backend, folder, exported)
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= _MOST_THREADS):
            raise HalflingError(f"threads {threads}: a number from 1 to {_MOST_THREADS}, or None")
        self.loop: NativeLoop | _Loop
        self.backend: Backend | None = None
        # The library lets its callers take turns, and a fork's child too, where a lock of Python's might lie locked.
        self._turn: AbstractContextManager[Any] = nullcontext()
        if chosen == "native":
            self.loop = NativeLoop(folder, exported, threads or usable_cores())
            return
        from halfling.engine.loop import AdaptiveLoop  # the native engine starts without them
        from halfling.engine.token_loop import TokenLoop

        self.backend = load_backend(chosen, folder, exported, threads)
        self._turn = Lock()  # these compute into arrays that they use again
        loop = TokenLoop if exported.policy.granularity == "token" else AdaptiveLoop
        self.loop = loop(exported, self.backend)

    @classmethod
    def from_pretrained(cls, folder: str | Path, backend: str = "auto", threads: int | None = None) -> "AdaptiveEngine":
        """Return the engine of a folder that `halfling export` wrote.

        Args:
            folder: The exported model.
            backend: "native", "torch", "onnx", or "auto": the first of these that is exported and installed.
            threads: How many threads compute; None for as many as this process may use. In PyTorch it holds for the
                whole process, and None leaves it as it is.

        Raises:
            HalflingError: The folder is no exported model, or damaged, or the backend is not to be had.
        """
        place = Path(folder)
        return cls(place, read_exported(place), backend, threads)

    def policy(self, language: str | None = None) -> ExitPolicy:
        """Return where texts of a language exit; where it has no set of its own, the cautious default's."""
        whose = self.exported.whose(language)
        chosen = self.exported.policy if whose is None else self.exported.policies[whose]
        return chosen if isinstance(self.loop, NativeLoop) else self.exported.at_ends(chosen)

    def predict(self, texts: Iterable[Any], language: str | None = None) -> list[Prediction]:
        """Return an answer for each text, in their order.

        For a classifier each is a text or a pair of texts, for a tagger a text or a list of words.

        A classifier cuts what is longer than the model reads, and says so (`truncated`); a tagger reads long texts in
        windows between words, so every word gets a tag.

        With `language` texts exit by the thresholds of that language, where calibration made some; an answer's `policy`
        says whose they were. "auto": py3langid guesses each text's.

        Raises:
            HalflingError: Something is no text of this model's kind, or py3langid is not installed.
        """
        questions = self.prepare(texts)
        if language != AUTO or not self.exported.policies:
            return self._said(questions, language)
        guesses = [guessed(one.text) for one in questions]
        whose = [self.exported.whose(code) for code in guesses]
        found: dict[int, Prediction] = {}
        for each in dict.fromkeys(whose):
            places = [place for place, other in enumerate(whose) if other == each]
            found |= zip(places, self._said([questions[place] for place in places], each), strict=True)
        return [found[place] for place in range(len(questions))]

    def _said(self, questions: Sequence[Question], language: str | None) -> list[Prediction]:
        """Return an answer for each text, all by the set of one language or by the default's."""
        parts = [part for one in questions for part in one.sequences]
        found = self.read(questions, self.answer(parts, policy=self.policy(language)))
        whose = self.exported.whose(language)
        return [replace(one, policy=whose) for one in found] if whose else found

    def prepare(self, texts: Iterable[Any]) -> list[Question]:
        """Return each text made ready for the network, in their order; texts are as `predict` takes them.

        Raises:
            HalflingError: Something is no text of this model's kind.
        """
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise HalflingError(f"predict takes a list of texts, not a lone {type(texts).__name__}: put it into a list")
        ask = classifier_questions if self.exported.kind == "sequence" else tagger_questions
        return ask(list(texts), self.pieces, self.exported.shape.max_tokens)

    def read(self, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Prediction]:
        """Return what the network's answers to the questions' sequences, in their order, say of each text."""
        read = read_labels if self.exported.kind == "sequence" else read_tags
        return read(questions, answers, self.exported.labels)

    def answer(
        self,
        sequences: Sequence[Encoded],
        leave_after: Sequence[int] | None = None,
        policy: ExitPolicy | None = None,
    ) -> list[Answer]:
        """Return the network's answers to token ids; see `AdaptiveLoop.answer`.

        The policy is one that `policy` returned, or in the native engine any; the default when absent.

        Raises:
            ValueError: A sequence is longer than the model reads, an id is no whole number or none of its vocabulary, a
                place picked is none of its sequence's, or `leave_after` is not one for each.
        """
        for name in ("ids", "picked"):
            kinds = {getattr(one, name).dtype for one in sequences}
            if fractions := sorted(str(kind) for kind in kinds if kind.kind not in "iu"):
                raise ValueError(f"{name} are whole numbers, not {', '.join(fractions)}")
        if leave_after is not None and len(leave_after) != len(sequences):
            raise ValueError(f"leave_after has {len(leave_after)} layers for {len(sequences)} sequences")
        with self._turn:
            return self.loop.answer(sequences, leave_after, policy)
