# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of sphinx for the documentation site. tools/ci/site.py builds it."""

from __future__ import annotations

project = "certflow.kubernetes"
project_copyright = "certflow.kubernetes contributors"
title = "certflow.kubernetes"
html_title = "certflow.kubernetes"
html_short_title = "certflow.kubernetes"

extensions = ["sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
# The build has no network. tools/ci/site.py writes this inventory.
intersphinx_mapping = {"ansible": ("https://docs.ansible.com/ansible/latest/", "ansible.inv")}

pygments_style = "ansible"
highlight_language = "YAML+Jinja"
# Quoted messages and options keep their quotation marks and dashes.
smartquotes = False
nitpicky = True
default_role = "any"

html_theme = "sphinx_rtd_theme"
html_theme_options = {"navigation_depth": 2}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_use_index = False
html_copy_source = False
