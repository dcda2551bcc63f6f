from types import SimpleNamespace

import pytest
from halfling.tasks.sources import labelled_files


@pytest.mark.parametrize(("task", "folder"), [("xnli", "xnli"), ("wikiann", "panx")])
def test_a_stage_reads_its_task_s_files_in_english_and_its_languages(task, folder, tmp_path):
    for name in ("xnli", "panx"):
        (tmp_path / name).mkdir()
        for file in ("train-en", "dev-en", "dev-sw", "dev-hi"):
            (tmp_path / name / f"{file}.tsv.xz").touch()
    settings = SimpleNamespace(task=task, languages=("sw", "tr"))
    found = {str(path.relative_to(tmp_path)) for path in labelled_files(settings, tmp_path)}
    assert found == {f"{folder}/{name}.tsv.xz" for name in ("train-en", "dev-en", "dev-sw")}


def test_of_a_folder_in_the_hub_s_form_all_is_read(tmp_path):
    (tmp_path / "en").mkdir()
    (tmp_path / "en/train-0.parquet").touch()
    (tmp_path / ".gitattributes").touch()
    assert labelled_files(SimpleNamespace(task="xnli"), tmp_path) == [tmp_path / "en/train-0.parquet"]
