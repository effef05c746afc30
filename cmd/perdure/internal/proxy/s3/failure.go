package s3

import (
	"encoding/xml"
	"net/http"
	"strconv"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
)

// writeFailure writes a response of the proxy's own in the form of S3.
func writeFailure(w http.ResponseWriter, r *http.Request, f *proxy.Failure) {
	own := *f
	if c := callOf(r.Context()); c != nil && c.refused.Load() != nil { // whatever became of the attempt
		own = *c.refused.Load()
		w.Header().Del("Retry-After")
		w.Header().Del(proxy.HeaderAmbiguous)
	}
	switch own.Code {
	case "not_now", "retry_later":
		own.Code = "SlowDown"
	case "timeout":
		own.Code = "RequestTimeout"
	case "too_large":
		own.Code = "EntityTooLarge"
	case "not_this_host":
		own.Code = "AccessDenied"
		own.Message += ". Clients must use path-style addressing: the bucket in the path, not in the host name (in boto3, Config(s3={'addressing_style': 'path'}))"
	case "web_page":
		own.Code = "AccessDenied"
	case "bad_body":
		own.Code = "IncompleteBody"
	case "upstream_failed":
		own.Code = "InternalError"
	}
	type document struct {
		XMLName  struct{} `xml:"Error"`
		Code     string
		Message  string
		Resource string
	}
	text, err := xml.Marshal(document{Code: own.Code, Message: own.Message, Resource: r.URL.Path})
	if err != nil {
		text = nil
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		w.WriteHeader(own.Status)
		return
	}
	text = append([]byte(xml.Header), text...)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(own.Status)
	_, _ = w.Write(text) // an error: the client has gone
}
