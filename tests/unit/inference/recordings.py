"""What models write, per format, and what it means: written after the formats' public descriptions.

Every recording has its reading: text, reasoning, calls (name, arguments), or what is no call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from services.inference.core.dialect import Dialect
from services.inference.core.toolcalls import deepseek
from shared.contracts.agents import ToolSpec

CALLS, CALLS_END = deepseek.ALL_BEGIN, deepseek.ALL_END
ONE, ONE_END, SEP = deepseek.BEGIN, deepseek.END, deepseek.SEPARATOR
TOOLS = (
    ToolSpec(
        name="find",
        description="",
        parameters={
            "properties": {
                "query": {"type": "string"},
                "limit": {"type": "integer"},
                "exact": {"type": "boolean"},
                "where": {"type": "object"},
            }
        },
    ),
)
PARIS = {"city": "Paris", "unit": "°C"}
NESTED = {"query": {"all": [{"a": "}]"}, {"b": [1, 2.5, None, True]}], "é": "日本"}}


class Recording(NamedTuple):
    """A text, how it is read, and what it means."""

    dialect: Dialect
    written: str
    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    malformed: tuple[str, ...] = ()
    tail: str = ""
    """How the prompt before it ends."""


HERMES, THINKING = Dialect(), Dialect("hermes", "qwen3")
R1, V31 = Dialect("deepseek_v3", "deepseek_r1"), Dialect("deepseek_v31", "qwen3")
CODER, LLAMA = Dialect("qwen3_coder"), Dialect("llama3_json")
PYTHONIC, HARMONY = Dialect("pythonic"), Dialect("openai", "openai_gptoss")
MISTRAL, MAGISTRAL = Dialect("mistral"), Dialect("mistral", "mistral")

RECORDINGS = {
    "qwen: thinks, says, calls twice": Recording(
        THINKING,
        "<think>\nThe user wants two cities. <tool_call> is how.\n</think>\n\nLet me look.\n"
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "unit": "°C"}}\n'
        '</tool_call>\n<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>',
        text="Let me look.",
        reasoning="The user wants two cities. <tool_call> is how.",
        calls=(("weather", PARIS), ("weather", {})),
    ),
    "qwen: the template opened the reasoning": Recording(
        THINKING,
        "Easy.\n\n  Two lines.\n</think>\n\nFour.",
        text="Four.",
        reasoning="Easy.\n\n  Two lines.",
        tail="<|im_start|>assistant\n<think>\n",
    ),
    "qwen: the template closed the reasoning": Recording(
        THINKING, "Four.", text="Four.", tail="<think>\n\n</think>\n\n"
    ),
    "qwen: cut off while thinking": Recording(
        THINKING,
        "<think>\nHm, a call: <tool_call>{}</tool_call> </thi",
        reasoning=("Hm, a call: <tool_call>{}</tool_call> </thi"),
    ),
    "qwen: no reasoning, a tag in the text": Recording(
        THINKING, "Write <think> first.", text="Write <think> first."
    ),
    "hermes: the markers inside of a string": Recording(
        HERMES,
        '<tool_call>{"name": "echo", "arguments": {"text": "a </tool_call> <tool_call> b \\" c"}}'
        "</tool_call>",
        calls=(("echo", {"text": 'a </tool_call> <tool_call> b " c'}),),
    ),
    "hermes: broken, and goes on": Recording(
        HERMES,
        '<tool_call>{"name": "f", "arguments": {</tool_call>So.',
        text="So.",
        malformed=('{"name": "f", "arguments": {',),
    ),
    "qwen3-coder: types come from the schema": Recording(
        CODER,
        "I will search.\n<tool_call>\n<function=find>\n<parameter=query>\n12\n</parameter>\n"
        "<parameter=limit>\n3\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n"
        '<parameter=where>\n{"é": [1]}\n</parameter>\n</function>\n</tool_call>',
        text="I will search.",
        calls=(("find", {"query": "12", "limit": 3, "exact": True, "where": {"é": [1]}}),),
    ),
    "qwen3-coder: code with markers in it": Recording(
        CODER,
        "<tool_call>\n<function=find>\n<parameter=query>\nif a < b:\n    '</tool_call>'\n"
        "  </parameter> no\n</parameter>\n</function>\n</tool_call>",
        calls=(("find", {"query": "if a < b:\n    '</tool_call>'\n  </parameter> no"}),),
    ),
    "qwen3-coder: cut off": Recording(
        CODER,
        "<tool_call>\n<function=find>\n<parameter=query>\n12",
        malformed=("\n<function=find>\n<parameter=query>\n12",),
    ),
    "llama: one call": Recording(
        LLAMA,
        '{"name": "weather", "parameters": {"city": "Paris", "unit": "°C"}}',
        calls=(("weather", PARIS),),
    ),
    "llama: several, behind the tag": Recording(
        LLAMA,
        '<|python_tag|>{"name": "f", "parameters": {"a": "; {"}}; {"type": "function", '
        '"name": "g", "parameters": {}}',
        calls=(("f", {"a": "; {"}), ("g", {})),
    ),
    "llama: text, then the tag": Recording(
        LLAMA,
        'Let me see. <|python_tag|>{"name": "f", "arguments": {"deep": {"er": [{}]}}}',
        text="Let me see.",
        calls=(("f", {"deep": {"er": [{}]}}),),
    ),
    "llama: an answer in JSON is no call": Recording(
        LLAMA, '\n{"answer": {"name": "f"}} ', text='\n{"answer": {"name": "f"}} '
    ),
    "llama: an answer in JSON that looks like one": Recording(
        LLAMA, '{"name": "Ada", "born": 1815}', text='{"name": "Ada", "born": 1815}'
    ),
    "llama: code for a tool that nobody offered": Recording(
        LLAMA, "<|python_tag|>print(1)", malformed=("print(1)",)
    ),
    "llama: cut off": Recording(
        LLAMA,
        '{"name": "f", "parameters": {"a": "b',
        malformed=('{"name": "f", "parameters": {"a": "b',),
    ),
    "llama: a call, then text": Recording(
        LLAMA, '{"name": "f", "parameters": {}}\n\nDone.', text="Done.", calls=(("f", {}),)
    ),
    "pythonic: two calls": Recording(
        PYTHONIC,
        "[weather(city='Paris', unit=\"°C\"), math.add(a=-1, b=[1.5, None], c={'d': True})]",
        calls=(("weather", PARIS), ("math.add", {"a": -1, "b": [1.5, None], "c": {"d": True}})),
    ),
    "pythonic: tagged, with JSON's words": Recording(
        PYTHONIC,
        "<|python_start|>[f(a=true, b=null, c='])', d='it\\'s')]<|python_end|>",
        calls=(("f", {"a": True, "b": None, "c": "])", "d": "it's"}),),
    ),
    "pythonic: a link is text": Recording(
        PYTHONIC,
        "[Paris](https://example.org) is big.",
        text="[Paris](https://example.org) is big.",
    ),
    "pythonic: what would run is refused": Recording(
        PYTHONIC,
        "[f(a=open('x')), g(1), h(b=f'{1}'), ok(a=1)]",
        calls=(("ok", {"a": 1}),),
        malformed=("f(a=open('x'))", "g(1)", "h(b=f'{1}')"),
    ),
    "pythonic: cut off": Recording(PYTHONIC, "[f(a='x", malformed=("[f(a='x",)),
    "mistral: a list": Recording(
        MISTRAL,
        'One moment.[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris", '
        '"unit": "°C"}}, {"name": "g", "arguments": {"a": "[TOOL_CALLS]]"}, "id": "Ab12"}]',
        text="One moment.",
        calls=(("weather", PARIS), ("g", {"a": "[TOOL_CALLS]]"})),
    ),
    "mistral: names and marks": Recording(
        MISTRAL,
        '[TOOL_CALLS]weather[CALL_ID]x1[ARGS]{"city": "Paris", "unit": "°C"}'
        '[TOOL_CALLS]g[ARGS]{}[TOOL_CALLS]h{"a": {"b": "}"}}',
        calls=(("weather", PARIS), ("g", {}), ("h", {"a": {"b": "}"}})),
    ),
    "mistral: thinks first": Recording(
        MAGISTRAL,
        '[THINK]A [TOOL_CALLS] would do.[/THINK]I look.[TOOL_CALLS]f[ARGS]{"a": 1}',
        text="I look.",
        reasoning="A [TOOL_CALLS] would do.",
        calls=(("f", {"a": 1}),),
    ),
    "mistral: broken ones between good ones": Recording(
        MISTRAL,
        '[TOOL_CALLS]f and text[TOOL_CALLS][{"name": 1, "arguments": {}}, {"name": "g", '
        '"arguments": {}}][TOOL_CALLS]h[ARGS]{"a": ',
        calls=(("g", {}),),
        malformed=("f and text", '{"name": 1, "arguments": {}}', 'h[ARGS]{"a": '),
    ),
    "deepseek v3: fenced": Recording(
        R1,
        "I need the weather.\n</think>\n\nOne moment.\n\n"
        f"{CALLS}{ONE}function{SEP}weather\n```json\n"
        '{"city": "Paris", "unit": "°C"}\n'
        f"```{ONE_END}\n{ONE}function{SEP}f\n```json\n{{}}\n```{ONE_END}{CALLS_END}",
        text="One moment.",
        reasoning="I need the weather.",
        calls=(("weather", PARIS), ("f", {})),
        tail="<think>\n",
    ),
    "deepseek r1: opens the reasoning itself": Recording(
        R1, "<think>\nHm.\n</think>\nFour.", text="Four.", reasoning="Hm."
    ),
    "deepseek v3.1: bare": Recording(
        V31,
        f'{CALLS}{ONE}find{SEP}{{"q": "{ONE_END}"}}{ONE_END}{ONE}g{SEP}{{}}{ONE_END}{CALLS_END}',
        calls=(("find", {"q": ONE_END}), ("g", {})),
        tail="</think>",
    ),
    "deepseek: without a name": Recording(
        V31, f"{CALLS}{ONE}{{}}{ONE_END}{CALLS_END}", malformed=("{}",)
    ),
    "harmony: thinks, announces, calls": Recording(
        HARMONY,
        "<|channel|>analysis<|message|>Need weather; maybe <think>.<|end|><|start|>assistant"
        "<|channel|>commentary<|message|>I will look it up.<|end|><|start|>assistant"
        "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
        '{"city": "Paris", "unit": "°C"}<|call|>',
        text="I will look it up.",
        reasoning="Need weather; maybe <think>.",
        calls=(("weather", PARIS),),
    ),
    "harmony: the recipient before the channel, no end": Recording(
        HARMONY,
        " to=functions.find<|channel|>commentary json<|message|>" + '{"query": {"all": [{"a": '
        '"}]"}, {"b": [1, 2.5, null, true]}], "é": "日本"}}',
        calls=(("find", NESTED),),
    ),
    "harmony: the answer": Recording(
        HARMONY,
        "<|channel|>analysis<|message|>One. <|end|><|start|>assistant<|channel|>analysis"
        "<|message|>Two.<|end|><|start|>assistant<|channel|>final<|message|>Four.\n<|return|>",
        text="Four.\n",
        reasoning="One.\n\nTwo.",
    ),
    "harmony: the marks inside of a string": Recording(
        HARMONY,
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
        '{"a": "<|end|> <|call|>"}<|call|>',
        calls=(("f", {"a": "<|end|> <|call|>"}),),
    ),
    "harmony: no header at all": Recording(HARMONY, "Plain < text.", text="Plain < text."),
    "harmony: cut off in the arguments": Recording(
        HARMONY,
        '<|channel|>commentary to=functions.f<|message|>{"a": "<|end|>',
        malformed=('{"a": "',),
    ),
    "harmony: cut off in a header": Recording(
        HARMONY, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assi", reasoning="Hm."
    ),
}
