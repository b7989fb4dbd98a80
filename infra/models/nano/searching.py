"""The search tool of this repository, for the judge: passages in, the tool's result out.

Owns a process that ranks and renders as `search_knowledge` does (the repository's own sentences,
embedder and wording), because that needs its environment and the judge needs torch's; and the
judge's end of the pipe. One line of JSON each way.
Usage of the process: python -m infra.models.nano.searching, in the root of the repository.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from recipe.ranking import Passage

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\[\d+\] ([^:\n]+): (.*)$", re.MULTILINE)


class Searching:
    """The judge's end: `finder` is what a `Voice` takes, `again` ranks a written result."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the caller names
            [python, "-m", "infra.models.nano.searching"], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, query: str, passages: list[tuple[str, str]]) -> str:
        """The tool's result for files and texts that were found."""
        pipe: IO[str] = self._process.stdin  # type: ignore[assignment]
        answers: IO[str] = self._process.stdout  # type: ignore[assignment]
        pipe.write(json.dumps([query, passages]) + "\n")
        pipe.flush()
        return str(json.loads(answers.readline()))

    def finder(self, _: random.Random, query: str, passages: list[Passage]) -> str:
        """The result for generated passages."""
        found = []
        for one in passages:
            body = " ".join(sentence.text for sentence in one.sentences)
            found.append((one.file, f"## {one.heading}\n{body}" if one.heading else body))
        return self.ask(query, found)

    def again(self, query: str, result: str) -> str:
        """A result as it was written down before the tool ranked; others are left as they are."""
        rows = ROW.findall(result)
        return self.ask(query, rows) if rows else result

    def __enter__(self) -> Self:
        """The process runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.communicate()


def serve() -> None:
    """Answer until the pipe is closed."""
    import asyncio

    from services.retrieval.adapters.minilm import MiniLmEmbedder
    from services.retrieval.core.highlights import Question, read
    from services.retrieval.core.rows import Hit
    from services.tools.core.passages import render
    from shared.contracts.retrieval import Passage

    embedder = MiniLmEmbedder(threads=1)

    async def result(query: str, passages: list[tuple[str, str]]) -> str:
        hits = [Hit(document=file, text=text, start=0, end=len(text), sequence=1, score=0.0)
                for file, text in passages]  # fmt: skip
        readings = read(query, hits)
        texts = [query, *(text for reading in readings for text in reading.texts)]
        first, *rest = (await embedder.embed(texts)).vectors
        return render(
            [Passage(document=one.hit.document, text=one.hit.text, score=0.0, start=0,
                     end=one.hit.end, sequence=1, highlight=one.highlight,
                     runner_up=one.runner_up)
             for one in Question(query, first).ranked(hits, readings, rest)]
        )  # fmt: skip

    for line in sys.stdin:
        sys.stdout.write(json.dumps(asyncio.run(result(*json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
