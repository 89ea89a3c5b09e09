"""Checks an OpenAPI document against the schema of OpenAPI 3.1, and its examples against its schemas.

Prints every fault and exits with 1 if there are any.
"""

import json
import sys

import jsonschema_rs
import schemathesis

METHODS = ("get", "put", "post", "delete", "patch")


class Document:
    def __init__(self, document):
        self.document = document
        self.faults = []

    def resolved(self, part):
        while "$ref" in part:
            target = self.document
            for name in part["$ref"].removeprefix("#/").split("/"):
                target = target[name]
            part = target
        return part

    def fault(self, place, what):
        self.faults.append(f"{place}: {what}")

    def check_example(self, place, schema, example):
        whole = {"$ref": "#/schema", "schema": schema, "components": self.document["components"]}
        validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        for error in validator.iter_errors(example):
            self.fault(place, f"{example!r} does not match the schema: {error.message}")

    def check_part(self, place, part, needs_example=True):
        """Checks a parameter, or one media type of a body."""
        schema = part.get("schema", {})
        examples = [part["example"]] if "example" in part else []
        examples += [self.resolved(named)["value"] for named in part.get("examples", {}).values()]
        shape = self.resolved(schema)
        examples += shape.get("examples", []) + ([shape["example"]] if "example" in shape else [])
        if not examples and needs_example and "enum" not in shape and shape.get("format") != "date-time":
            self.fault(place, "has no example")
        for example in examples:
            self.check_example(place, schema, example)

    def check_operation(self, place, operation):
        if not operation.get("summary"):
            self.fault(place, "has no summary")
        if "security" not in operation:
            self.fault(place, "does not state its security requirements")
        for parameter in operation.get("parameters", []):
            self.check_part(f"{place} {parameter['name']}", parameter)
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            self.check_part(f"{place} request {media_type}", content)
        for status, response in operation["responses"].items():
            response = self.resolved(response)
            if "X-Request-Id" not in response.get("headers", {}):
                self.fault(f"{place} {status}", "has no X-Request-Id")
            for media_type, content in response.get("content", {}).items():
                is_document = "json" in media_type or "event-stream" in media_type
                self.check_part(f"{place} {status} {media_type}", content, is_document)

    def check(self):
        ids = []
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    self.check_operation(f"{method.upper()} {path}", item[method])
                    ids.append(item[method]["operationId"])
        for twice in sorted({name for name in ids if ids.count(name) > 1}):
            self.fault(twice, "is the operationId of two routes")
        for name, schema in self.document["components"]["schemas"].items():
            jsonschema_rs.Draft202012Validator({**schema, "components": self.document["components"]})
            self.check_part(name, {"schema": {"$ref": f"#/components/schemas/{name}"}}, False)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = Document(json.load(file))
    schemathesis.openapi.from_dict(document.document).validate()
    document.check()
    for fault in document.faults:
        print(fault)
    sys.exit(1 if document.faults else 0)


main()
