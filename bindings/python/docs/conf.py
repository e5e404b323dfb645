"""Sphinx: `python -m sphinx bindings/python/docs OUT`, with the package installed."""

import finermoe

project = "finermoe"
release = version = finermoe.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "alabaster"
html_theme_options = {"description": "FineRMoE language models", "page_width": "70em", "sidebar_width": "15em"}
autodoc_default_options = {"members": True, "inherited-members": False, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
