"""A script like many: without retries, and without Dagster."""

import json
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=10) as response:
    stations = json.load(response)["stations"]
print("the first page has", sum(s["bikes"] for s in stations), "bikes at", len(stations), "stations")
