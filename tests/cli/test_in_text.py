from halfling.cli.in_text import show
from halfling.engine.prediction import Prediction, Span


def answer(*, spans=None, label=None):
    return Prediction(label, None, spans, None, 3, 0.1, False)


def test_entities_stand_marked_where_they_are_and_brackets_of_the_text_stay(capsys):
    text = "Amina [bold] anaishi Mombasa."
    spans = (Span("PER", 0, 5, "Amina", 0.9), Span("LOC", 21, 28, "Mombasa", 0.8))
    show(text, answer(spans=spans))
    assert capsys.readouterr().out == "layer 3  [Amina]PER [bold] anaishi [Mombasa]LOC.\n"


def test_a_text_without_entities_is_shown_as_it_is(capsys):
    show("مرحبا", answer(spans=()))
    assert capsys.readouterr().out == "layer 3  مرحبا\n"


def test_a_label_follows_its_text_on_one_line_however_long(capsys):
    show("a" * 500, answer(label="neutral"))
    assert capsys.readouterr().out == f"layer 3  {'a' * 500}  neutral\n"


def test_colours_come_where_a_terminal_wants_them(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    show("Rome", answer(spans=(Span("LOC", 0, 4, "Rome", 0.9),)))
    assert "\x1b[1;32m[Rome]" in capsys.readouterr().out
