"""The engine: texts in, answers out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float32

from halfling.cores import usable_cores
from halfling.engine.backends import Backend, choose_backend, load_backend
from halfling.engine.backends.native import NativeLoop
from halfling.engine.exported import Exported, read_exported
from halfling.engine.loop import AdaptiveLoop, Answer
from halfling.engine.prediction import Prediction, spans_of
from halfling.engine.text import join, load_pieces, require_characters, split_words, windows
from halfling.engine.token_loop import TokenLoop
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.tasks.encode import Encoded
from halfling.tasks.tags import OUTSIDE, Scheme, is_prefixed


class AdaptiveEngine:
    """Answers with an exported model: segments, packed rows, early exits.

    An answer does not depend on what else is computed with it, save for rounding (docs/method.md says how much).
    Threads may share one: they take turns.
    """

    def __init__(self, folder: Path, exported: Exported, backend: str, threads: int | None) -> None:
        self.exported = exported
        self._turn = Lock()
        self.pieces = load_pieces(folder, exported.tokenizer)
        chosen = choose_backend(backend, folder, exported)
        if threads is not None and threads < 1:
            raise HalflingError(f"threads {threads}: at least 1")
        self.loop: AdaptiveLoop | NativeLoop
        self.backend: Backend | None = None
        if chosen == "native":
            self.loop = NativeLoop(folder, exported, threads or usable_cores())
            return
        self.backend = load_backend(chosen, folder, exported, threads)
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
        chosen = self.exported.policies.get(language or "", self.exported.policy)
        return chosen if isinstance(self.loop, NativeLoop) else self.exported.at_ends(chosen)

    def predict(self, texts: Iterable[Any], language: str | None = None) -> list[Prediction]:
        """Return an answer for each text, in their order.

        For a classifier each is a text or a pair of texts, for a tagger a text or a list of words.

        A classifier cuts what is longer than the model reads, and says so (`truncated`); a tagger reads long texts in
        windows between words, so every word gets a tag.

        With `language` texts exit by the thresholds of that language, where calibration made some; an answer's `policy`
        says whose they were.

        Raises:
            HalflingError: Something is no text of this model's kind.
        """
        if isinstance(texts, str):
            raise HalflingError("predict takes a list of texts, not one text: put it into a list")
        given, policy = list(texts), self.policy(language)
        found = self._classify(given, policy) if self.exported.kind == "sequence" else self._tag(given, policy)
        return [replace(one, policy=language) for one in found] if language in self.exported.policies else found

    def answer(
        self,
        sequences: Sequence[Encoded],
        leave_after: Sequence[int] | None = None,
        policy: ExitPolicy | None = None,
    ) -> list[Answer]:
        """Return the network's answers to token ids; see `AdaptiveLoop.answer`.

        The policy is one that `policy` returned, or in the native engine any; the default when absent.

        Raises:
            ValueError: A sequence is longer than the model reads, an id is none of its vocabulary, a place picked is
                none of its sequence's, or `leave_after` is not one for each.
        """
        if leave_after is not None and len(leave_after) != len(sequences):
            raise ValueError(f"leave_after has {len(leave_after)} layers for {len(sequences)} sequences")
        longest = max((len(one.ids) for one in sequences), default=0)
        if longest > self.exported.shape.max_tokens:
            raise ValueError(f"{longest} tokens: the model reads {self.exported.shape.max_tokens} at most")
        _require_places(sequences)
        with self._turn:  # backends compute into arrays that they use again
            return self.loop.answer(sequences, leave_after, policy)

    def _classify(self, texts: Sequence[Any], policy: ExitPolicy) -> list[Prediction]:
        pairs = [_parts(text, number) for number, text in enumerate(texts)]
        # Nothing is said of a text without characters.
        there = [all(part.strip() for part in pair) for pair in pairs]
        kept = list(compress(pairs, there))
        ids = iter(self.pieces([part for pair in kept for part in pair]))
        most = self.exported.shape.max_tokens
        joined = [join(next(ids), next(ids) if len(pair) == 2 else None, most) for pair in kept]
        sequences = [Encoded(np.array(ids), np.zeros(1, np.int64)) for ids, _ in joined]
        answered = iter(zip(joined, self.answer(sequences, policy=policy), strict=True))
        return [
            self._classified(*next(answered)) if is_there else Prediction(None, None, None, None, 0, 0.0, False)
            for is_there in there
        ]

    def _classified(self, joined: tuple[list[int], bool], answer: Answer) -> Prediction:
        (ids, cut), layer = joined, answer.exit_layer
        shares = _softmax(answer.logits[0])
        scores = dict(zip(self.exported.labels, shares.tolist(), strict=True))
        best = self.exported.labels[int(shares.argmax())]
        return Prediction(best, scores, None, None, layer, answer.uncertainty, cut, ((len(ids), layer),))

    def _tag(self, texts: Sequence[Any], policy: ExitPolicy) -> list[Prediction]:
        sentences = [_words(text, number) for number, text in enumerate(texts)]
        pieces = iter(self.pieces([word for words, _ in sentences for word in words]))
        in_pieces = [[next(pieces) for _ in words] for words, _ in sentences]
        parts = [windows(words, self.exported.shape.max_tokens) for words in in_pieces]
        answers = iter(self.answer([part for of_one in parts for part in of_one], policy=policy))
        labels = self.exported.labels
        outside = OUTSIDE if OUTSIDE in labels else None  # as parts of speech have none
        scheme: Scheme = "IOB2" if is_prefixed(labels) else "types" if outside else "tags"
        found = []
        for text, (words, places), cut, of_one in zip(texts, sentences, in_pieces, parts, strict=True):
            own = [next(answers) for _ in of_one]
            tags, sure = [outside] * len(words), [1.0] * len(words)
            # A word that the tokenizer turned into nothing stays outside.
            seen = (number for number, ids in enumerate(cut) if ids)
            shares = (share for answer in own for share in _softmax(answer.logits))
            for number, share in zip(seen, shares, strict=True):
                tags[number], sure[number] = self.exported.labels[int(share.argmax())], float(share.max())
            layer = max((answer.exit_layer for answer in own), default=0)
            unsure = max((answer.uncertainty for answer in own), default=0.0)
            spans = spans_of(
                text if isinstance(text, str) else words, places, [tag or OUTSIDE for tag in tags], sure, scheme
            )
            computed = tuple(
                (len(part.ids), answer.token_layers or answer.exit_layer)
                for part, answer in zip(of_one, own, strict=True)
            )
            found.append(Prediction(None, None, spans, tuple(tags), layer, unsure, False, computed))
        return found


def _require_places(sequences: Sequence[Encoded]) -> None:
    """Refuse places that lie outside their sequence: there may be a neighbour's answer."""
    if not sequences:
        return
    places = np.concatenate([one.picked for one in sequences])
    ends = np.repeat([len(one.ids) for one in sequences], [len(one.picked) for one in sequences])
    if ((places < 0) | (places >= ends)).any():
        raise ValueError("a place picked lies outside its sequence: they count from 0")


def _parts(text: Any, number: int) -> list[str]:
    """Return a classifier's text, or its two."""
    match text:
        case str():
            parts = [text]
        case (str(), str()):
            parts = [*text]
        case _:
            raise HalflingError(f"text {number}: expected a text or a pair of texts, got {type(text).__name__}")
    for part in parts:
        require_characters(part, number)
    return parts


def _words(text: Any, number: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Return a tagger's words and where each stands."""
    if isinstance(text, str):
        require_characters(text, number)
        places = split_words(text)
        return [text[start:end] for start, end in places], places
    if not isinstance(text, Sequence) or not all(isinstance(word, str) for word in text):
        raise HalflingError(f"text {number}: expected a text or a list of words")
    for word in text:
        require_characters(word, number)
    return list(text), [(place, place + 1) for place in range(len(text))]


def _softmax(logits: Float32[np.ndarray, "*batch classes"]) -> Float32[np.ndarray, "*batch classes"]:
    if not np.isfinite(logits).all():
        raise HalflingError("predict: the model answers with what is no number: train it again, or export another")
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
