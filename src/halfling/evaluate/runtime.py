"""Who answers when a model is measured: the engine with an exported folder, or transformers with the model itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from halfling.cost.flops import Head, flops
from halfling.engine import AdaptiveEngine
from halfling.engine.exported import EXPORTED, Precision
from halfling.records import EncoderShape
from halfling.results import Form
from halfling.tasks.examples import Example, TaggedExample
from halfling.tasks.score import Answer


class Reply(NamedTuple):
    """Answers to some examples.

    Attributes:
        answers: A label, or a tag for each word.
        computed: Of each sequence that was computed, its tokens and the layer after which it exited, or with token
            exits each of its tokens did; a long text is several sequences.
        head: The classifiers that were in use.
        policy: The language whose thresholds held; None the default's.
    """

    answers: list[Answer]
    computed: list[tuple[int, Any]]
    head: Head
    policy: str | None = None


class Runtime:
    """A model that answers."""

    name: Literal["engine", "pytorch"]
    precision: Precision = "float32"
    exits: bool = False
    labels: tuple[str, ...]
    shape: EncoderShape

    def answer(self, examples: Sequence[Example], batch_size: int, language: str | None = None) -> Reply:
        """Return what the model says of texts, from characters to labels; with exits by the language's thresholds."""
        raise NotImplementedError

    def form(self, name: str) -> dict[str, Any]:
        """Return what a record says of the model; what follows a `/` in its name tells variants of it apart."""
        return Form(name.partition("/")[0], self.name, self.precision, self.exits)._asdict()


class Engine(Runtime):
    """An exported model in the engine: what is served."""

    name = "engine"

    def __init__(self, folder: Path) -> None:
        self.engine = AdaptiveEngine.from_pretrained(folder)
        exported = self.engine.exported
        self.precision = exported.precision
        self.exits = any(policy.is_early for policy in (exported.policy, *exported.policies.values()))
        self.labels, self.shape = exported.labels, exported.shape

    def answer(self, examples: Sequence[Example], batch_size: int, language: str | None = None) -> Reply:
        """Return what the model says of texts, from characters to labels."""
        answers: list[Answer] = []
        computed: list[tuple[int, Any]] = []
        for start in range(0, len(examples), batch_size):
            for one in self.engine.predict(map(_text, examples[start : start + batch_size]), language):
                answers.append(one.label if one.tags is None else one.tags)  # type: ignore[arg-type]
                computed += one.computed
        layers = self.engine.policy(language).layers
        head = Head(kind=self.engine.exported.kind, num_classes=len(self.labels), layers=layers)
        return Reply(answers, computed, head, self.engine.exported.whose(language))


class Transformers(Runtime):
    """The model itself in PyTorch, fed by its own tokenizer: what one has without halfling. No exits."""

    name = "pytorch"

    def __init__(self, folder: Path) -> None:
        import torch  # here: the memory of a process that serves holds no torch

        from halfling.models.classifier import load_classifier, read_checkpoint
        from halfling.models.load import load_tokenizer
        from halfling.models.shapes import shape_of

        found = read_checkpoint(folder)
        self.network = load_classifier(folder).to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.tokenizer = load_tokenizer(folder, self.network)
        self.labels, self.shape = found.labels, shape_of(self.network.config)
        self.head = Head(kind=found.head, num_classes=len(self.labels))

    def answer(self, examples: Sequence[Example], batch_size: int, language: str | None = None) -> Reply:
        """Return what the model says of texts, from characters to labels."""
        from halfling.exits.policy import ExitPolicy
        from halfling.tasks.encode import encode
        from halfling.tasks.predict import answers, predict

        encoded = encode(examples, self.tokenizer, self.shape.max_tokens)
        no_exits = ExitPolicy(layers=(self.shape.num_layers,), thresholds=())
        found = predict(self.network, encoded, batch_size, policy=no_exits)
        words = [len(one.words) for one in examples if isinstance(one, TaggedExample)]
        lengths = [len(one.ids) for one in encoded]
        return Reply(
            answers(found.logits, encoded, self.labels, words or None),
            list(zip(lengths, found.exit_layers, strict=True)),
            self.head,
        )


def load_runtime(folder: Path) -> Runtime:
    """Return the engine for an exported folder, transformers for a model's own.

    Raises:
        HalflingError: The folder is neither, or damaged.
    """
    return Engine(folder) if (folder / EXPORTED).is_file() else Transformers(folder)


def mean_gflops(runtime: Runtime, reply: Reply, num_examples: int) -> float:
    """Return the arithmetic of an answer in thousand millions of operations, the mean over `num_examples`.

    Real lengths, real exits, and every classifier that was computed; see `cost.flops` for what is counted.
    """
    lengths, layers = [tokens for tokens, _ in reply.computed], [layer for _, layer in reply.computed]
    return flops(runtime.shape, lengths, layers, reply.head).total / max(num_examples, 1) / 1e9


def _text(example: Example) -> Any:
    if isinstance(example, TaggedExample):
        return list(example.words)
    return example.text if example.text_pair is None else (example.text, example.text_pair)
