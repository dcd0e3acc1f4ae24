"""Which module of the framework a node comes from, as torch's exporter notes it."""

from __future__ import annotations

import re

import onnx_ir as ir


def module_path(node: ir.Node) -> str:
    """``['', 'layer', 'layer.0', 'linear_3']`` → ``layer.0``: the last is the operator."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
    return next(iter(re.findall(r"'([^']*)'", scopes)[:-1][-1:]), "")
