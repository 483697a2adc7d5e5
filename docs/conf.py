"""How both languages of the documentation are built: this folder is Chinese, `en/` beside it English. See bin/docs.

Nothing is fetched, and no notebook is run: notebooks bring what they printed along.
"""

import ast
import re
import sys
import textwrap
from pathlib import Path

from docutils import nodes
from pygments.lexers import TextLexer
from sphinx.domains.python import PyObject

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from flexllm import __version__  # noqa: E402 (found by the line above)

# --- the project

project = "flexllm"
author = "the authors of flexllm"
project_copyright = "flexllm 的作者，Apache-2.0"
version = release = __version__

# --- the pages

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
language = "zh_CN"
locale_dirs = [str(DOCS / "locale")]  # in zh_CN/LC_MESSAGES, api.po has the docstrings, sphinx.po the theme's words
gettext_auto_build = False  # bin/docs compiles it, to a folder that is not committed
gettext_location = True
exclude_patterns = ["en", "locale", "_static", "_templates", "**.ipynb_checkpoints"]
templates_path = [str(DOCS / "_templates")]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r".*")]  # types in signatures are those of the code, most of which is not public
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
smartquotes_action = "De"  # dashes and dots; quotes are those of the code

# --- the reference

default_role = "code"  # docstrings put names into single backticks
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = False  # values say more than the names of constants
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_attr_annotations = False  # the signature has the types

# --- how it looks

html_theme = "furo"
pygments_dark_style = "one-dark"  # furo's own underlines every module
html_title = "flexllm"
html_static_path = [str(DOCS / "_static")]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/languages.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
# The name of the other language, and its folders: the built one, and the one with its pages.
html_context = {"other_language": ("English", "en", str(DOCS / "en"))}


def with_literal_blocks(app, what, name, obj, options, lines):
    """Make an indented block below a paragraph what it is meant to be in a docstring: code, or a drawing in letters."""
    shown, until = [], 0
    for at, line in enumerate(lines):
        if at >= until and line and at >= 2 and not lines[at - 1]:
            outer = next((indent_of(one) for one in reversed(lines[:at]) if one), 0)
            if indent_of(line) >= outer + 4:
                until = next(
                    (n for n in range(at, len(lines)) if lines[n] and indent_of(lines[n]) <= outer), len(lines)
                )
                block = textwrap.dedent("\n".join(lines[at:until]))
                shown += [f"{' ' * outer}.. code-block:: {'python' if is_python(block) else 'text'}", ""]
        shown.append(line)
    lines[:] = shown


def indent_of(line):
    return len(line) - len(line.lstrip())


def is_python(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def with_plurals(app, what, name, obj, options, lines):
    """Let a name in backticks have an ending behind it, as in `Step`s."""
    lines[:] = [re.sub(r"``.*?``|`[^`]+`(?=([a-z])?)", parted, line) for line in lines]


def parted(name):
    return name[0] + ("\\ " if name[1] else "")


def with_joint_fields(app, what, name, obj, options, lines):
    """Keep fields that are described together together: of "a, b: text" napoleon would make a type and a name."""
    for at, line in enumerate(lines):
        if names := re.match(r"( {4}\w+(?:, \w+)+):( |$)", line):
            lines[at] = names[1].replace(", ", "/") + line[names.end(1) :]


def shown_signature(app, what, name, obj, options, signature, return_annotation):
    """Leave out how errors are made, which nobody but flexllm does; and write a default so that it can be read."""
    if signature is None:
        return None
    return ("", None) if what == "exception" else (signature.replace("<factory>", "..."), return_annotation)


CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
MARKS = re.compile("[\u3000-\u303f\uff00-\uffef]")


def without_blanks_in_chinese(app, doctree):
    """Take away the end of a line where Chinese goes on in the next one: a browser would show a blank there."""
    for parent in list(doctree.findall(nodes.TextElement)):
        for at in range(1, len(parent) - 1):
            if parent[at].astext() == "\n":
                before, after = parent[at - 1].astext()[-1:], parent[at + 1].astext()[:1]
                if (CHINESE.match(before) and CHINESE.match(after)) or MARKS.match(before) or MARKS.match(after):
                    parent[at] = nodes.Text("")


def with_chinese_colons(app, doctree):
    """Put a colon between the name of a parameter and its description, where Sphinx puts two hyphens."""
    for field in doctree.findall(nodes.field_body):
        for dashes in list(field.findall(lambda node: isinstance(node, nodes.Text) and node == " -- ")):
            dashes.parent.replace(dashes, nodes.Text("："))


def with_other_language(app, pagename, templatename, context, doctree):
    """Tell the template where the same page is in the other language; its first page where there is none."""
    title, folder, pages = app.config.html_context["other_language"]
    is_there = any(Path(pages, f"{pagename}{suffix}").exists() for suffix in (".md", ".ipynb"))
    up = "../" * (pagename.count("/") + 1)
    context["other_language_url"] = f"{up}{folder}/{pagename if is_there else 'index'}.html"
    context["other_language_title"] = title


def setup(app):
    """Sphinx calls it."""
    app.add_lexer("jsonl", TextLexer)  # examples of lines shorten them with "...", which is no JSON
    app.connect("autodoc-process-docstring", with_literal_blocks, priority=400)  # before napoleon makes fields of it
    app.connect("autodoc-process-docstring", with_plurals, priority=405)
    app.connect("autodoc-process-docstring", with_joint_fields, priority=410)
    app.connect("autodoc-process-signature", shown_signature)
    for field in PyObject.doc_field_types:
        if field.name == "variable":  # what is called "Attributes:" in docstrings
            field.label = {"en": "Attributes"}.get(app.config.language, "属性")
    app.connect("doctree-read", without_blanks_in_chinese)
    if app.config.language == "zh_CN":
        app.connect("doctree-read", with_chinese_colons)
    app.connect("html-page-context", with_other_language)
