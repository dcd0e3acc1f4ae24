"""Follows sizes and small integer tensors through a graph before it runs."""

from __future__ import annotations

import onnx_ir as ir

from infopt.passes.cleanup._content_rules import CONTENTS
from infopt.passes.cleanup._known import INTEGRAL, Known
from infopt.passes.cleanup._shape_rules import SHAPES


class Sizes(Known):
    """The sizes and contents of the values of a graph; :meth:`visit` its nodes in order."""

    def visit(self, node: ir.Node) -> None:
        """Learn what can be learnt of the first output of ``node``."""
        if node.domain != "" or any(attr.is_ref() for attr in node.attributes.values()):
            return
        output = node.outputs[0]
        shape_rule, content_rule = SHAPES.get(node.op_type), CONTENTS.get(node.op_type)
        shape = None if shape_rule is None else shape_rule(self, node)
        if shape is not None:
            self.learn_shape(output, shape)
        if content_rule is None or output.dtype not in INTEGRAL:
            return
        content = content_rule(self, node)
        if content is not None:
            self.learn_content(output, content)
