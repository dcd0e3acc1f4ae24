"""Reports: what a command has found out, as one HTML file that needs nothing else.

Each is drawn from the document that ``--json`` prints, so that both say the same. See
docs/design/0013-reports.md.
"""
