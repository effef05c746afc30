"""A script as there are many: it knows nothing of retries, nor of Dagster."""

import json
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
    stations = json.load(answer)["stations"]
print("the first page has", sum(s["bikes"] for s in stations), "bikes at", len(stations), "stations")
