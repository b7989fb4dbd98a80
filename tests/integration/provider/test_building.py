"""What is made of a row before anything is asked: clients that show no key, and no more of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.inference.adapters.provider.factory import build_provider
from tests.integration.provider.endpoints import KEY as SECRET
from tests.unit.inference.provider.questions import row

pytestmark = [pytest.mark.integration]


@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_nothing_that_is_built_shows_the_key(api) -> None:
    chat = build_provider(row(api=api, key="THERE_KEY"), {"THERE_KEY": SECRET}.get)
    parts = (chat, vars(chat), vars(chat._wire), vars(chat._wire)["_endpoint"])
    assert not [part for part in parts if SECRET in repr(part)]
    await chat.close()


@pytest.mark.parametrize(("api", "other"), [("openai", "anthropic"), ("anthropic", "openai")])
def test_one_dialect_does_not_need_the_library_of_the_other(api, other) -> None:
    program = (
        "import sys; from services.inference.adapters.provider.factory import build_provider; "
        "from shared.models import ProviderModel; "
        f"row = ProviderModel(name='n', api={api!r}, base_url='http://there'); "
        f"build_provider(row, lambda _: None); sys.exit({other!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
