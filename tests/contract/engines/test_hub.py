"""Where a model comes from: a folder, or a hub on first use and never again."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from infra.local.settings import ROOT, inherited_environment
from services.inference.adapters.engines import chat_model
from services.inference.adapters.model_folder import find_folder
from shared.errors import MillraceError
from shared.models import OpenVinoModel, hub_name
from tests.contract.engines.chat_harness import asks, said
from tests.fakes.model_hub import Hub, model_hub

NAME = "acme/tiny"
ASK = """
import asyncio, sys
from pathlib import Path
from services.inference.adapters.engines import chat_model
from shared.models import OpenVinoModel
from tests.contract.engines.chat_harness import asks, said

async def main():
    chat = chat_model(OpenVinoModel(path=sys.argv[1], context=512), Path(sys.argv[2]), {}.get)
    await chat.start()
    print(ascii((await said(chat, asks("hello"))).text))
    await chat.close()

asyncio.run(main())
"""


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """It is what HF_ENDPOINT says, which the client has read when it was imported."""
    folder = tmp_path / "on the hub"
    shutil.copytree(tiny_model, folder)
    (folder / "original").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "original" / "model.safetensors")
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "README.md").write_text("a card")
    with model_hub({NAME: folder}, frozenset({"acme/gated"})) as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        official = constants.ENDPOINT
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            template.replace(official, hub.url),
        )
        yield hub


async def test_a_name_is_fetched_once_and_answers_like_its_folder(
    hub: Hub, tiny_model: Path, tmp_path: Path
) -> None:
    """As a user has it: the hub's address is in the environment, and later there is no network."""
    environment = inherited_environment() | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url}
    answers = []
    for offline in ("0", "1"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASK, NAME, str(tmp_path / "cache"),
            env=environment | {"HF_HUB_OFFLINE": offline}, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0
        answers.append(output.decode().strip())
    chat = chat_model(OpenVinoModel(path=str(tiny_model), context=512), tmp_path / "other", {}.get)
    await chat.start()
    expected = ascii((await said(chat, asks("hello"))).text)
    await chat.close()
    assert answers == [expected, expected]


def test_only_what_a_model_needs_is_fetched_and_only_once(hub: Hub, tmp_path: Path) -> None:
    folder = find_folder(NAME, tmp_path / "cache")
    fetched = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert fetched == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    asked = len(hub.asked)
    assert find_folder(NAME, tmp_path / "cache") == folder
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("path", "code", "word"),
    [
        ("acme/other", "model_missing", "HF_TOKEN"),
        ("acme/gated", "model_forbidden", "terms"),
        (f"{NAME}@v9", "model_missing", "'v9'"),
        ("no/such/folder", "model_missing", "owner/name"),
    ],
)
def test_what_cannot_be_had_says_what_to_do(
    hub: Hub, tmp_path: Path, path: str, code: str, word: str
) -> None:
    with pytest.raises(MillraceError) as refused:
        find_folder(path, tmp_path)
    assert (refused.value.family, refused.value.code) == ("permanent", code)
    assert refused.value.field == "path"
    assert word in refused.value.detail


@pytest.mark.parametrize("failing", [True, False])
def test_without_a_hub_it_says_how_to_do_without(
    hub: Hub, tmp_path: Path, failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if failing:
        hub.failing = True
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MillraceError) as refused:
        find_folder(NAME, tmp_path)
    assert (refused.value.family, refused.value.code) == ("transient", "hub_unreachable")
    assert "HF_ENDPOINT" in refused.value.detail


def test_a_fetch_that_was_cut_off_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    folder = find_folder(NAME, tmp_path)
    (folder / "tokenizer.json").unlink()
    assert (find_folder(NAME, tmp_path) / "tokenizer.json").is_file()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_a_whole_model_is_refused(
    tiny_model: Path, tmp_path: Path, missing: str
) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny_model, folder)
    (folder / missing).unlink()
    with pytest.raises(MillraceError) as refused:
        find_folder(str(folder), tmp_path)
    assert refused.value.code == "model_incomplete"
    assert missing.replace("model.", "*.") in refused.value.detail


@pytest.mark.parametrize(
    ("change", "word"), [({"model_type": "mamba"}, "mamba"), ({"chat_template": None}, "template")]
)
async def test_a_model_that_cannot_run_is_refused_when_it_starts(
    tiny_model: Path, tmp_path: Path, change: dict[str, object], word: str
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(tiny_model, folder)
    if "chat_template" in change:
        (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(MillraceError) as refused:
        await chat_model(OpenVinoModel(path=str(folder)), tmp_path / "cache", {}.get).start()
    assert (refused.value.family, refused.value.code) == ("permanent", "unsupported_model")
    assert word in refused.value.detail


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("Qwen/Qwen2.5-0.5B", ("Qwen/Qwen2.5-0.5B", None)),
        ("a/b@main", ("a/b", "main")),
        ("a/b@", None),
        ("/models/x", None),
        ("./models/x", None),
        ("a/b/c", None),
        ("../x", None),
        ("nano", None),
    ],
)
def test_what_a_hub_can_mean_by_a_path(path: str, named: tuple[str, str | None] | None) -> None:
    assert hub_name(path) == named
