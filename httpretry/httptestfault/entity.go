package httptestfault

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"time"
)

// An Entity is what a well-behaved server has at one address: it honours Range, If-Range, If-Match and the like, as
// [http.ServeContent] does. A script gives its [Entity.Answer], spoiled as it likes.
type Entity struct {
	Body         []byte
	ETag         string      // with its quotes; none if empty
	LastModified time.Time   // none if zero
	Header       http.Header // added to each answer
}

// Answer is the correct answer to r.
func (e Entity) Answer(r *http.Request) Step {
	w := httptest.NewRecorder()
	maps.Copy(w.Header(), e.Header)
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	if e.ETag != "" {
		w.Header().Set("ETag", e.ETag)
	}
	http.ServeContent(w, r, "", e.LastModified, bytes.NewReader(e.Body))
	return Step{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
}

// CutAt is the step with its body cut after n bytes of it, in the given way.
func (s Step) CutAt(n int, how Cut) Step {
	s.At, s.Cut = n, how
	return s
}
