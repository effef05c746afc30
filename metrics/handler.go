package metrics

import (
	"bytes"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Handler returns the handler of [Default]. A request gets the text format of Prometheus,
// or OpenMetrics if its Accept header prefers that. Serve it where only your monitoring
// can reach it: names of operations and keys tell what a service calls.
func Handler() http.Handler { return Default }

// ServeHTTP serves the counts of r, as [Handler] says.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "metrics: the method is "+strconv.Quote(req.Method)+", want GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	format := accepted(req.Header.Values("Accept"))
	var b bytes.Buffer
	r.Snapshot().Write(&b, format) //nolint:errcheck // a Buffer never fails
	w.Header().Set("Content-Type", format.ContentType())
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.Header().Set("Vary", "Accept")
	w.Write(b.Bytes()) //nolint:errcheck // the client has gone
}

// accepted returns OpenMetrics if the Accept header prefers it to plain text, else Text.
func accepted(header []string) Format {
	open, plain := 0.0, 0.0
	for part := range strings.SplitSeq(strings.Join(header, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if text, set := params["q"]; set {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		switch media {
		case "application/openmetrics-text":
			if v := params["version"]; v == "" || v == "1.0.0" || v == "0.0.1" {
				open = max(open, q)
			}
		case "text/plain":
			plain = max(plain, q)
		}
	}
	if open > 0 && open >= plain {
		return OpenMetrics
	}
	return Text
}
