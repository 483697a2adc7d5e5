"""The table of who supports what in docs/, held against the providers: each of its cells is a request that is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flexllm.chat import ChatRequest
from flexllm.errors import InputError
from flexllm.providers import find_provider
from flexllm.vertex import vertex_base_url
from flexllm.wire import Target

ROOT = Path(__file__).parents[2]
PAGES: dict[str, dict[str, str]] = {
    "docs/en/index.md": {},
    "docs/index.md": {
        "answer": "回答",
        "stream": "流式",
        "tools": "工具",
        "forced tool": "强制调用工具",
        "JSON schema": "JSON Schema",
        "thinking on": "开启思考",
        "thinking off": "关闭思考",
        "strength": "思考强度",
        "budget": "思考预算",
        "picture": "图片",
        "sound": "声音",
        "video": "视频",
        "PDF": "PDF",
        "prefix": "续写前缀",
    },
}


class Column(NamedTuple):
    base_url: str
    model: str


COLUMNS = {
    "OpenAI": Column("https://api.openai.com/v1", "gpt-6-luna"),
    "DeepSeek": Column("https://api.deepseek.com", "deepseek-flash"),
    "Qwen": Column("https://dashscope.aliyuncs.com/compatible-mode/v1", "qwen3.5-plus"),
    "vLLM": Column("http://gpu.example:8000/v1", "Qwen/Qwen3-30B-A3B"),
    "Ollama": Column("http://localhost:11434/v1", "qwen3:4b"),
    "Gemini": Column("https://generativelanguage.googleapis.com", "gemini-3.8-flash"),
    "Vertex AI": Column(vertex_base_url("project", "global"), "gemini-3.8-flash"),
    "Claude": Column("https://api.anthropic.com", "claude-sonnet-5-5"),
}

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def part(kind: str, **inner: Any) -> Mapping[str, Any]:
    text = {"type": "text", "text": "What is it?"}
    return {"messages": [{"role": "user", "content": [text, {"type": kind, kind: inner}]}]}


ROWS: dict[str, Mapping[str, Any]] = {
    "answer": {},
    "stream": {"stream": True},
    "tools": {"tools": [TOOL], "tool_choice": "auto"},
    "forced tool": {"tools": [TOOL], "tool_choice": "required"},
    "JSON schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}},
    "thinking on": {"thinking": True},
    "thinking off": {"thinking": False},
    "strength": {"thinking": "high"},
    "budget": {"thinking": 2048},
    "picture": part("image_url", url="data:image/png;base64,iVBORw0KGgo="),
    "sound": part("input_audio", data="SUQzBAAAAAA=", format="mp3"),
    "video": part("video_url", url="data:video/mp4;base64,AAAAGGZ0eXA="),
    "PDF": part("file", filename="a.pdf", file_data="data:application/pdf;base64,JVBERi0xLjQ="),
    "prefix": {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well", "prefix": True}]
    },
}


def supports(column: Column, asked: Mapping[str, Any]) -> bool:
    params = dict(asked)
    messages = params.pop("messages", [{"role": "user", "content": "Reply in JSON"}])
    stream = params.pop("stream", False)
    provider, base_url = find_provider("auto", column.base_url, column.model)
    target = Target(base_url=base_url, api_key="sk-any")
    try:
        provider.build(ChatRequest(messages, column.model, params), target, stream=stream)
    except InputError:
        return False
    return True


def table(names: Mapping[str, str]) -> str:
    """Return the table as it must stand in a page, with the names of its rows in the page's language."""
    rows = [
        [names.get(name, name), *("✓" if supports(one, asked) else "–" for one in COLUMNS.values())]
        for name, asked in ROWS.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [["", *COLUMNS], ["---"] * (1 + len(COLUMNS)), *rows])


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_can_be_asked_at_all(name: str) -> None:
    assert supports(COLUMNS[name], {})
    assert supports(COLUMNS[name], {"stream": True})


@pytest.mark.parametrize(("page", "names"), PAGES.items())
def test_the_table_of_a_page_says_what_the_providers_do(page: str, names: Mapping[str, str]) -> None:
    assert table(names) in (ROOT / page).read_text(encoding="utf-8"), f"this is what they do:\n\n{table(names)}\n"
