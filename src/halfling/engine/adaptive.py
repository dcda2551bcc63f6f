"""The engine: text in, answers out; whoever is sure leaves, and only those who stay are computed further."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from halfling import criteria
from halfling.engine import packing
from halfling.engine.backends import load_backend
from halfling.engine.embeddings import Embeddings
from halfling.engine.exported import Exported, read_exported
from halfling.engine.text import PAD, Encoded, join, load_pieces, split_words, windows
from halfling.errors import HalflingError

Text = str | tuple[str, str] | Sequence[str]
"""For a classifier a text or a pair of texts; for a tagger a text or a list of words."""

TOKENS_AT_ONCE = 2048
"""Tokens of one pass: what is computed together stays in the caches, and memory stays bounded."""

REPACK_GAIN = 0.12
"""Those who stay are packed anew when that spares this share of what is left to compute; below, it costs more."""


@dataclass(frozen=True)
class Span:
    """A named entity: characters `start` to `end` of the text (words, when a list of words was given)."""

    label: str
    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """An answer.

    Attributes:
        label: Of a classifier, the likeliest class.
        scores: Of a classifier, each class's probability.
        spans: Of a tagger, the entities.
        tags: Of a tagger, an IOB2 tag for each word.
        exit_layer: The layer (1-based) after which the answer was taken; of a long text, the deepest of its windows;
            0 where there was nothing to compute (a tagger's text without words).
        uncertainty: 0..1 at that exit; of a long text, the largest.
        truncated: Whether a classifier's text was longer than the model reads, and cut.
    """

    label: str | None
    scores: dict[str, float] | None
    spans: tuple[Span, ...] | None
    tags: tuple[str, ...] | None
    exit_layer: int
    uncertainty: float
    truncated: bool


@dataclass(frozen=True)
class Answer:
    """What the network says of one sequence: logits [picked, classes] at the exit it took."""

    logits: Float32[np.ndarray, "picked classes"]
    exit_layer: int
    uncertainty: float


class AdaptiveEngine:
    """Answers with an exported model: segments, packed rows, early exits.

    Sequences lie in rows without padding between them, under attention that stays within each. After each segment
    those whose uncertainty is below the exit's threshold leave; those who stay are packed anew when that pays.
    An answer does not depend on what else is computed with it, to rounding.
    """

    def __init__(self, folder: Path, exported: Exported, backend: str, threads: int) -> None:
        if exported.policy.granularity != "sentence":
            raise HalflingError(f"{folder}: its policy lets tokens leave alone, which the engine does not do yet")
        self.exported = exported
        self.embed = Embeddings(folder, exported.precision)
        self.pieces = load_pieces(folder, exported.tokenizer)
        self.backend = load_backend(backend, folder, exported, threads)
        self.thresholds = (*exported.policy.thresholds, 0.0)

    @classmethod
    def from_pretrained(cls, folder: str | Path, backend: str = "auto", threads: int | None = None) -> "AdaptiveEngine":
        """Return the engine of a folder that `halfling export` wrote.

        Args:
            folder: The exported model.
            backend: "openvino", "onnx", "torch", or "auto": the fastest that was measured or is installed.
            threads: How many threads compute; as many as this process may use.

        Raises:
            HalflingError: The folder is no exported model or damaged, or the backend is not to be had.
        """
        place = Path(folder)
        return cls(place, read_exported(place), backend, threads or len(os.sched_getaffinity(0)))

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return an answer for each text, in their order.

        A classifier cuts what is longer than the model reads, and says so (`truncated`); a tagger reads long texts in
        windows between words, so every word gets a tag.

        Raises:
            HalflingError: Something is no text of this model's kind.
        """
        if isinstance(texts, str):
            raise HalflingError("predict takes a list of texts, not one text: put it into a list")
        return self._classify(texts) if self.exported.kind == "sequence" else self._tag(texts)

    def _classify(self, texts: Sequence[Text]) -> list[Prediction]:
        firsts: list[str] = []
        seconds: list[str | None] = []
        for number, text in enumerate(texts):
            match text:
                case str():
                    firsts.append(text)
                    seconds.append(None)
                case (str(first), str(second)):
                    firsts.append(first)
                    seconds.append(second)
                case _:
                    raise HalflingError(f"text {number}: expected a text or a pair of texts, got {type(text).__name__}")
        one = self.pieces(firsts)
        two = iter(self.pieces([second for second in seconds if second is not None]))
        joined = [
            join(ids, None if second is None else next(two), self.exported.shape.max_tokens)
            for ids, second in zip(one, seconds, strict=True)
        ]
        first_token = np.zeros(1, np.int64)
        answers = self.answer([Encoded(np.array(ids), first_token) for ids, _ in joined])
        found = []
        for answer, (_, cut) in zip(answers, joined, strict=True):
            shares = _softmax(answer.logits[0])
            scores = dict(zip(self.exported.labels, shares.tolist(), strict=True))
            best = self.exported.labels[int(shares.argmax())]
            found.append(Prediction(best, scores, None, None, answer.exit_layer, answer.uncertainty, cut))
        return found

    def _tag(self, texts: Sequence[Text]) -> list[Prediction]:
        sentences = [_words(text, number) for number, text in enumerate(texts)]
        pieces = iter(self.pieces([word for words, _ in sentences for word in words]))
        parts: list[Encoded] = []
        owners, seen = [], []
        for number, (words, _) in enumerate(sentences):
            cut = [next(pieces) for _ in words]
            seen.append([place for place, ids in enumerate(cut) if ids])
            for part in windows(cut, self.exported.shape.max_tokens):
                parts.append(part)
                owners.append(number)
        of_sentence: list[list[Answer]] = [[] for _ in sentences]
        for owner, answer in zip(owners, self.answer(parts), strict=True):
            of_sentence[owner].append(answer)
        return [self._spans(*each) for each in zip(sentences, seen, of_sentence, strict=True)]

    def _spans(
        self, sentence: tuple[list[str], list[tuple[int, int]]], seen: list[int], answers: list[Answer]
    ) -> Prediction:
        words, places = sentence
        tags, sure = ["O"] * len(words), [1.0] * len(words)
        if answers:
            shares = _softmax(np.concatenate([answer.logits for answer in answers]))
            for word, share in zip(seen, shares, strict=True):
                tags[word] = self.exported.labels[int(share.argmax())]
                sure[word] = float(share.max())
        spans: list[Span] = []
        start: int | None = None
        for number in range(len(words) + 1):
            tag = tags[number] if number < len(words) else "O"
            goes_on = start is not None and tag == f"I-{tags[start][2:]}"
            if start is not None and not goes_on:
                first, last = places[start][0], places[number - 1][1]
                text = " ".join(words[start:number])
                spans.append(Span(tags[start][2:], first, last, text, float(np.mean(sure[start:number]))))
                start = None
            if tag != "O" and not goes_on:
                start = number
        return Prediction(
            None,
            None,
            tuple(spans),
            tuple(tags),
            max((answer.exit_layer for answer in answers), default=0),
            max((answer.uncertainty for answer in answers), default=0.0),
            False,
        )

    def answer(self, sequences: Sequence[Encoded], leave_after: Sequence[int] | None = None) -> list[Answer]:
        """Return the network's answer to each sequence, in their order.

        Args:
            sequences: Token ids, at most `shape.max_tokens` each.
            leave_after: For measurements, the layer after which each leaves: exits are computed and judged as ever,
                then overruled.
        """
        longest_first = sorted(range(len(sequences)), key=lambda n: -len(sequences[n].ids))
        answers: dict[int, Answer] = {}
        some: list[int] = []
        tokens = 0
        for number in longest_first:
            length = len(sequences[number].ids)
            if some and tokens + length > TOKENS_AT_ONCE:
                answers |= self._pass(sequences, some, leave_after)
                some, tokens = [], 0
            some.append(number)
            tokens += length
        if some:
            answers |= self._pass(sequences, some, leave_after)
        return [answers[number] for number in range(len(sequences))]

    def _pass(
        self, sequences: Sequence[Encoded], numbers: list[int], leave_after: Sequence[int] | None
    ) -> dict[int, Answer]:
        """Compute some sequences together, segment by segment."""
        chosen = [sequences[number] for number in numbers]
        stay = np.arange(len(chosen))
        layout = packing.lay_out([len(one.ids) for one in chosen])
        bias = layout.bias()
        hidden = self._embed(chosen, layout)
        doubt = criteria.Doubt(self.exported.policy)
        wanted = None if leave_after is None else np.array([leave_after[number] for number in numbers])
        widest = max(len(one.picked) for one in chosen)
        tagging = self.exported.kind == "token"
        answers: dict[int, Answer] = {}
        for segment, (layer, threshold) in enumerate(zip(self.exported.policy.layers, self.thresholds, strict=True)):
            here = [chosen[place] for place in stay]
            counts = np.array([len(one.picked) for one in here])
            picked = np.zeros(packing.bucket_answers(int(counts.sum())), np.int32)
            picked[: counts.sum()] = np.concatenate([one.picked for one in here]) + np.repeat(layout.starts, counts)
            hidden, logits = self.backend.run(segment, hidden, bias, picked)
            logits = logits[: counts.sum()]
            if tagging:
                counted = np.arange(widest) < counts[:, None]
                padded = np.zeros((*counted.shape, logits.shape[1]), np.float32)
                padded[counted] = logits
                unsure = doubt(padded, counted)
            else:
                unsure = doubt(logits, None)
            if layer == self.exported.policy.layers[-1]:
                leaves = np.ones(len(stay), bool)
            elif wanted is None:
                leaves = criteria.leaves(unsure, threshold)
            else:
                leaves = wanted[stay] <= layer
            if not leaves.any():
                continue
            ends = np.cumsum(counts)
            for place in np.flatnonzero(leaves).tolist():
                answers[numbers[stay[place]]] = Answer(
                    logits[ends[place] - counts[place] : ends[place]], layer, float(unsure[place])
                )
            staying = np.flatnonzero(~leaves)
            if not len(staying):
                break
            doubt.stay(staying)
            stay = stay[staying]
            kept = packing.Layout(layout.rows, layout.tokens, layout.starts[staying], layout.lengths[staying])
            packed = packing.lay_out(kept.lengths)
            if packed.cost <= (1 - REPACK_GAIN) * kept.cost:
                hidden = self.backend.move(hidden, kept.places(), packed.places(), packed.rows, packed.tokens)
                bias = packed.bias()
                kept = packed
            layout = kept
        return answers

    def _embed(self, chosen: list[Encoded], layout: packing.Layout) -> Float32[np.ndarray, "rows tokens width"]:
        ids = np.full(layout.rows * layout.tokens, PAD)
        positions = np.zeros_like(ids)
        places = layout.places()
        ids[places] = np.concatenate([one.ids for one in chosen])
        positions[places] = packing.within(layout.lengths)
        return self.embed(ids, positions).reshape(layout.rows, layout.tokens, -1)


def _words(text: Text, number: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Return a tagger's words and where each stands."""
    if isinstance(text, str):
        places = split_words(text)
        return [text[start:end] for start, end in places], places
    words = list(text)
    if not all(isinstance(word, str) for word in words):
        raise HalflingError(f"text {number}: expected a text or a list of words")
    return words, [(place, place + 1) for place in range(len(words))]


def _softmax(logits: Float32[np.ndarray, "*batch classes"]) -> Float32[np.ndarray, "*batch classes"]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
