"""Decodes an export request of OTLP from standard input, and prints it as JSON with ids in hex, as OTLP's own JSON has them."""

import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

request = ExportTraceServiceRequest.FromString(sys.stdin.buffer.read())
decoded = MessageToDict(request)
for resource, resource_json in zip(request.resource_spans, decoded["resourceSpans"]):
    for scope, scope_json in zip(resource.scope_spans, resource_json["scopeSpans"]):
        for span, span_json in zip(scope.spans, scope_json["spans"]):
            span_json["traceId"] = span.trace_id.hex()
            span_json["spanId"] = span.span_id.hex()
            if span.parent_span_id:
                span_json["parentSpanId"] = span.parent_span_id.hex()
json.dump(decoded, sys.stdout)
