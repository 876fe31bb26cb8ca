"""Sphinx configuration: examples run while the pages are built, and nothing is loaded from elsewhere."""

import logging
import os
import re
import sys
import tempfile
from importlib.metadata import version as installed
from pathlib import Path

# Examples run in a fresh profile: nobody's own settings reach them. `!weightatlas …` runs as in a pipe: plain text,
# errors among the output. One that needs neither shell nor processes runs in the kernel, which has imported all.
_profiles = tempfile.TemporaryDirectory()
_profile = Path(_profiles.name) / "profile_default" / "ipython_kernel_config.py"
_profile.parent.mkdir()
_profile.write_text(
    "c.IPKernelApp.log_level = 40\n"
    "c.IPKernelApp.exec_lines = ['''\n"
    "def _system(command):\n"
    "    import shlex, subprocess as sp\n"
    "    words = shlex.split(command)\n"
    "    if words[0] != 'weightatlas' or 'build' in words or set(';|&<>$') & set(command):\n"
    "        print(sp.run(command, shell=True, text=True, stdout=sp.PIPE, stderr=sp.STDOUT).stdout, end='')\n"
    "        return\n"
    "    from typer.testing import CliRunner\n"
    "    from weightatlas.cli import app\n"
    "    print(CliRunner().invoke(app, words[1:], prog_name='weightatlas').output, end='')\n"
    "get_ipython().system = _system\n"
    "''']\n"
)
os.environ |= {
    "IPYTHONDIR": _profiles.name,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    "TTY_COMPATIBLE": "0",  # no escape codes, although the kernel asks for colour
    "OMP_NUM_THREADS": "1",  # several kernels on few cores: threads of one would wait for those of another
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
logging.getLogger("traitlets").setLevel(logging.ERROR)

project = "weightatlas"
author = "The weightatlas developers"
version = release = installed("weightatlas")
language = "en-GB"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute"]

# Examples
nb_execution_mode = "force"
nb_execution_timeout = 60  # seconds a cell
nb_execution_in_temp = True  # what examples write is gone afterwards
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "error"  # a warning in an example is a failure, too
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 2
myst_update_mathjax = False
copybutton_prompt_text = r">>> |\.\.\. |\$ |!"
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

# Reference
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Pages
html_theme = "furo"
html_title = "weightatlas"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_domain_indices = False


def _outdated(app, env, added, changed, removed):
    """All pages that were made before the package last changed: their examples run again."""
    package = Path(__file__).parent.parent / "weightatlas"
    newest = max(file.stat().st_mtime_ns // 1000 for file in package.rglob("*.py"))
    return [page for page, read in env.all_docs.items() if read < newest and page not in removed]


def _magnitudes(app, what, name, obj, options, lines):
    """Bars around a value in a docstring are its magnitude, no reference to a substitution."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [re.sub(r"\|([^|\s]+)\|", r"\\|\1\\|", part) for part in parts[::2]]
        lines[number] = "``".join(parts)


def _sentences(app, what, name, obj, options, lines):
    """What stands before a colon in the first line of a property's docstring is part of a sentence, no type."""
    types = [line.removeprefix(":type: ") for line in lines if line.startswith(":type: ")]
    if what == "property" and types:
        lines[:] = [line for line in lines if not line.startswith(":type: ")]
        lines[0] = f"{types[0]}: {lines[0]}"


def setup(app):
    app.connect("env-get-outdated", _outdated)
    app.connect("autodoc-process-docstring", _magnitudes)
    app.connect("autodoc-process-docstring", _sentences, priority=600)  # after napoleon
