"""A suite refuses weights that do not match before a model runs, and compares tokenizers by their files."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from crosstime.errors import SuiteError
from crosstime.suites.suite import Suite


@pytest.fixture
def folder(tmp_path, brief_suite):
    """A copy of a suite of two checkpoints."""
    target = tmp_path / "suite"
    shutil.copytree(brief_suite["step0"].source, target / "step0")
    shutil.copytree(brief_suite["step6"].source, target / "step6")
    return target


def test_weights_of_a_later_checkpoint_are_compared_before_the_first_is_run(folder):
    path = folder / "step6" / "model.safetensors"
    tensors = load_file(path)
    save_file({f"module.{name}": tensor.clone() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    with pytest.raises(SuiteError, match=r"cannot use revision 'step6': .* begin with 'module\.'"):
        Suite.open(folder).verify()
    shutil.copy(folder / "step0" / "config.json", folder / "step6" / "config.json")
    Suite.open(folder, ["step0"]).verify()


def test_one_tokenizer_json_is_one_tokenizer_whatever_class_the_revisions_name(folder):
    for revision, named in (("step0", "PreTrainedTokenizerFast"), ("step6", "GPTNeoXTokenizer")):
        path = folder / revision / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": named}))
    suite = Suite.open(folder)
    in_file = Tokenizer.from_file(str(folder / "step0" / "tokenizer.json"))
    text = "the authors near 2023 senators don't laugh"
    assert suite.tokenizer(text, add_special_tokens=False)["input_ids"] == in_file.encode(text).ids


def test_tokenizers_with_other_files_differ(folder):
    path = folder / "step6" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    path.write_text(json.dumps(content))
    with pytest.raises(SuiteError, match=r"tokenizers of revisions 'step0' and 'step6' .* differ"):
        _ = Suite.open(folder).tokenizer
