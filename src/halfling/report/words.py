"""What every column head and every word of the report means: said once, for the legend and for tooltips."""

from halfling.languages import CC100
from halfling.results import Result

WORDS = {
    "model": "Its name in the run, the cheapest first. A model named X-exits is the plain student X with exits.",
    "form": "What the model runs in, in which number format, and whether inputs may exit early.",
    "language": "The language of the texts.",
    "code": "The language's code in CC100.",
    "engine": "The exported model in halfling's own runtime, without PyTorch: what is served.",
    "PyTorch": "The same model in transformers, float32.",
    "float32, int8": "The number format of weights and products: 32 bits, or 8 bits with scales.",
    "exits": "Inputs may exit early: a classifier after an inner layer answers when it is sure enough.",
    "score": "The task's own score, which the heading names, in %. Measured on the dev split, which training "
    "did not see.",
    "acc %": "Accuracy: right labels; for a tagger, right word tags.",
    "F1 %": "Macro F1 over labels; for a tagger, F1 over whole spans.",
    "± after a score": "Sample standard deviation over seeds. With one seed there is none.",
    "GMACs linear": "The thesis's convention, called GFLOPs there: 10⁹ multiply-accumulates of the encoder's linear "
    "layers at 128 tokens, up to the mean exit layer.",
    "GFLOPs": "10⁹ operations an input at its real length, two for each multiply-accumulate: linear layers, attention "
    "and every classifier that was computed.",
    "time ms": "Time of a text alone, from text to answer. Median over rounds; all models take turns in a round.",
    "memory GB": "Peak resident size of a fresh process that loads the model and answers, in 10⁹ bytes.",
    "disk GB": "Size of the folder that is served, in 10⁹ bytes.",
    "trained": "Training saw labels in this language (trained_on in results.csv).",
    "mean": "Mean score over the languages.",
    "zero-shot mean": "Mean score over the languages without training labels.",
    "exit layer": "The layer that gave the answer, mean over inputs.",
    "calibration": "Chooses the policy: after which layers inputs may exit, and how sure the classifier must be. "
    "It sees the dev split of the training languages unless told otherwise.",
    "flops_share": "GFLOPs with exits / without, of the same model in the same form, over all of dev.",
    "timed flops_share": "The same over the texts that were timed.",
    "time_share": "Time of a text alone with exits / without: median over rounds [lower, upper quartile].",
    "time_share in 32": "The same for a batch of 32 texts.",
    "noise": "The quartiles hold 1: no difference was measured.",
    "realisation": "time_share / timed flops_share. 1.00: all work saved is time saved. Above 1: part of it is lost.",
    "realisation in 32": "The same for a batch of 32 texts.",
    "score change": "Points of score: with exits less without, same model, same form.",
    "layers in 16 bits": "Layers whose activations have 16 bits, as int8 alone costs more than was allowed.",
    "chosen by": "Labels of the language's dev split, or text without labels and the agreement with full depth.",
    "thresholds": "Layer: uncertainty (0..1) below which an input exits after it. The last layer takes who remains.",
    "loss": "Points that exits cost in calibration: of score where labels chose, else of disagreement with full depth.",
    "bound": "What the loss does not exceed with 95 % confidence.",
    "texts": "That the bound of the loss is of: thresholds were not fitted to them.",
    "against plain": "Points of score: with exits less the plain student, which was trained without exits.",
}
COLUMNS = {name: f"{field.description}." for name, field in Result.model_fields.items()}


def language_name(code: str) -> str:
    """Return the English name of a language, or its code where CC100 has no such language."""
    return CC100[code].name if code in CC100 else code


def meaning(head: str) -> str:
    """Return what a column head means; nothing for a name that somebody gave."""
    code, _, trained = head.partition(", ")
    words = WORDS.get(head) or COLUMNS.get(head)
    if words is None and code in CC100:
        words = f"{language_name(code)}: {WORDS['trained'] if trained else 'no labels in training, zero-shot.'}"
    return words or ""
