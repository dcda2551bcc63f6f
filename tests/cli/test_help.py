import pytest

from halfling import __version__

COMMANDS = [
    "run",
    "sample",
    "corpus plan",
    "corpus build",
    "corpus verify",
    "tokenizer",
    "pack",
    "teacher",
    "trim",
    "distill",
    "finetune",
    "exits",
    "calibrate",
    "export",
    "quality",
    "masked-lm",
    "costs",
    "evaluate",
    "report",
    "publish",
    "predict",
    "serve",
    "watch",
    "flops",
    "tasks show",
]


def test_help_names_every_command_in_the_order_of_the_flow(halfling):
    said = halfling("--help")
    assert said.status == 0
    words = [line.split()[1] for line in said.out.splitlines() if line.startswith("│ ") and line[2] not in " -"]
    assert words == list(dict.fromkeys(command.split()[0] for command in COMMANDS))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, halfling):
    said = halfling(*command.split(), "--help")
    assert (said.status, said.err) == (0, "")
    assert f"Usage: halfling {command} " in said.out
    assert "--json" in said.out or command == "serve"


def test_the_version_is_the_packages(halfling):
    assert halfling("--version").out == f"halfling {__version__}\n"


def test_an_unknown_command_is_refused(halfling):
    said = halfling("distil")
    assert said.status == 2
    assert "No such command 'distil'" in said.err
