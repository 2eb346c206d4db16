"""What the pages point to is there: links, files in code, make targets, commands with their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from spikekit.cli import _parser

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): page for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDERS = "tests|benchmarks|examples|docs|spikekit|models|datasets"


def code(text):
    """Inline code, and the lines of blocks without their comments."""
    lines = [line.split("#")[0] for block in FENCED.findall(text) for line in block.splitlines()]
    return [line.strip() for line in (*re.findall(r"`([^`\n]+)`", FENCED.sub("", text)), *lines)]


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_file(name):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", FENCED.sub("", TEXTS[name]))
    assert not [link for link in links if "://" not in link and not (PAGES[name].parent / link).exists()]


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_is_named_is_there(name):
    paths = re.findall(rf"(?<![\w./-])((?:{FOLDERS})/[\w./*-]+\.\w+)", "\n".join(code(TEXTS[name])))
    assert not [path for path in paths if not list(ROOT.glob(path))]


@pytest.mark.parametrize("name", PAGES)
def test_every_make_target_exists(name):
    makefile = (ROOT / "Makefile").read_text()
    targets = {words.split()[1] for words in code(TEXTS[name]) if re.match(r"make [a-z]", words)}
    assert not [target for target in targets if f"\n{target}:" not in makefile]


@pytest.mark.parametrize("name", PAGES)
def test_every_script_knows_its_options(name):
    for line in code(TEXTS[name]):
        if found := re.match(r"python (?:-m (benchmarks\.\w+)|(examples/\w+\.py))(.*)", line):
            path = ROOT / (found[2] or f"{found[1].replace('.', '/')}.py")
            source = path.read_text()
            assert not [option for option in re.findall(r"--[\w-]+", found[3]) if f'"{option}"' not in source], line


def test_every_command_line_of_a_block_is_one():
    """`spikekit` as it is typed, comments and all."""
    lines = [line.strip() for text in TEXTS.values() for block in FENCED.findall(text) for line in block.splitlines()]
    typed = [line for line in lines if line.startswith("spikekit ")]
    commands = {_parser().parse_args(shlex.split(line, comments=True)[1:]).command for line in typed}
    assert {"doctor", "train", "evaluate", "export", "verify", "report"} <= commands
