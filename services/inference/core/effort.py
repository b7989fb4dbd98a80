"""Owns how a chat template is told how much to think: which of its variables say it, in what words.

A template that has none of them is told nothing: its model thinks as it does. Must not know tokens
or engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from shared.contracts.agents import Effort

LEVELS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""From the least to the most."""
_USUAL: tuple[Effort, ...] = ("low", "medium", "high")
"""What a template takes that spells out no levels: that of gpt-oss puts any word there."""
_SWITCHES = ("enable_thinking", "thinking")
"""Variables that are true or false: Qwen's and most others; DeepSeek's and Granite's."""
_LEVEL = "reasoning_effort"


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a template can be told. `levels` are the words for its variable of levels, if any."""

    switches: tuple[str, ...] = ()
    levels: tuple[Effort, ...] = ()

    @property
    def can_stop(self) -> bool:
        """Whether thinking can be switched off."""
        return bool(self.switches) or "none" in self.levels

    def variables(self, effort: Effort | None) -> Mapping[str, object]:
        """The template's variables for an effort; nothing is set where nobody asked."""
        if effort is None:
            return {}
        found: dict[str, object] = dict.fromkeys(self.switches, effort != "none")
        level = _nearest(self.levels, effort)
        return found if level is None else found | {_LEVEL: level}


def knobs_of(template: nodes.Template) -> Knobs:
    """What a template, read but not compiled, looks for and never sets itself."""
    # first: looking for variables folds lists of constants into one
    words = {node.value for node in template.find_all(nodes.Const) if isinstance(node.value, str)}
    asked = find_undeclared_variables(template)
    switches = tuple(name for name in _SWITCHES if name in asked)
    if _LEVEL not in asked:
        return Knobs(switches)
    spelled = tuple(level for level in LEVELS if level in words)
    return Knobs(switches, spelled if len(spelled) > 1 else _USUAL)


def _nearest(levels: tuple[Effort, ...], effort: Effort) -> Effort | None:
    """The level that is meant; none of those that think stands for not thinking at all."""
    able = [level for level in levels if (level == "none") == (effort == "none")]
    wanted = LEVELS.index(effort)
    return min(able, key=lambda level: abs(LEVELS.index(level) - wanted), default=None)
