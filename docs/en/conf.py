"""The English pages: as the Chinese ones, but for what is said here."""

import sys
from pathlib import Path

CHINESE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHINESE))

from conf import *  # noqa: E402, F403 (found by the line above)

language = "en"
project_copyright = "the authors of flexllm, Apache-2.0"
exclude_patterns = ["**.ipynb_checkpoints"]
html_context = {"other_language": ("中文", "zh_CN", str(CHINESE))}
