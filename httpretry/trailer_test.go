package httpretry_test

import (
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry"
)

// A trailerCase is how a server breaks off, continues, and ends with a trailer.
type trailerCase struct {
	name   string
	breaks int  // responses that are cut, each some bytes further on
	whole  bool // the rest comes as a 200 with everything
	length bool // Content-Length is sent, which only HTTP/2 does beside a trailer
}

func (c trailerCase) serve(requests *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := int(requests.Add(1))
		from := 0
		if first, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !c.whole {
			from, _ = strconv.Atoi(strings.TrimSuffix(first, "-"))
		}
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Trailer", "X-Sum, Content-Digest")
		if c.length {
			w.Header().Set("Content-Length", strconv.Itoa(len(text)-from))
		}
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(text)-1, len(text)))
			w.WriteHeader(http.StatusPartialContent)
		}
		if n <= c.breaks {
			_, _ = io.WriteString(w, text[from:5*n])
			flush(w)
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, text[from:])
		w.Header().Set("X-Sum", "7")
		w.Header().Set("Content-Digest", fmt.Sprintf("of %d bytes", len(text)-from))
		w.Header().Set(http.TrailerPrefix+"X-More", fmt.Sprint(n))
	}
}

// A resumed body ends with the trailer of its last response. The trailer used to be lost.
func TestTrailerOfAResumedBody(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, c := range []trailerCase{
			{name: "unbroken"},
			{name: "one break", breaks: 1},
			{name: "three breaks", breaks: 3},
			{name: "the whole again", breaks: 2, whole: true},
			{name: "with a length", breaks: 1, length: true},
			{name: "with a length, the whole again", breaks: 1, whole: true, length: true},
		} {
			if c.length && proto == "HTTP/1.1" {
				continue
			}
			t.Run(proto+" "+c.name, func(t *testing.T) {
				var requests atomic.Int32
				server := httptest.NewUnstartedServer(c.serve(&requests))
				server.EnableHTTP2 = proto == "HTTP/2.0"
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				server.StartTLS()
				defer server.Close()
				transport := httpretry.NewTransport(server.Client().Transport, httpretry.Options{Policy: quick(), OnResume: func(httpretry.Resumption) {}})
				res, body, err := row{}.do(t, server.URL, transport)
				if err != nil || body != text || res.Proto != proto || int(requests.Load()) != c.breaks+1 {
					t.Fatalf("%v, %q, %v after %d requests; want all of the body after %d", res, body, err, requests.Load(), c.breaks+1)
				}
				want := http.Header{"X-Sum": {"7"}, "X-More": {fmt.Sprint(c.breaks + 1)}, "Content-Digest": {"of 20 bytes"}}
				if c.breaks > 0 && !c.whole {
					want["Content-Digest"] = nil // announced; that of a part is none of the whole
				}
				if !maps.EqualFunc(res.Trailer, want, func(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }) {
					t.Errorf("trailer %v; want %v", res.Trailer, want)
				}
			})
		}
	}
}

// A body that breaks after its last byte is complete if a 416 says so. The last byte is requested again for its trailer,
// which used to be lost.
func TestTrailerOfABodyThatBreaksAtItsEnd(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for name, tt := range map[string]struct {
			announced bool
			again     func(w http.ResponseWriter) // the response to the request for the last byte
			requests  int32
			want      string
		}{
			"a part": {true, func(w http.ResponseWriter) {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", len(text)-1, len(text)-1, len(text)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, text[len(text)-1:])
			}, 3, "7"},
			"the whole":      {true, func(w http.ResponseWriter) { _, _ = io.WriteString(w, text) }, 3, "7"},
			"another length": {true, func(w http.ResponseWriter) { _, _ = io.WriteString(w, text+"more") }, 3, ""},
			"another version": {true, func(w http.ResponseWriter) {
				w.Header().Set("Etag", `"v2"`)
				_, _ = io.WriteString(w, text)
			}, 3, ""},
			"refused":        {true, func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, 3, ""},
			"none announced": {false, nil, 2, ""},
		} {
			t.Run(proto+" "+name, func(t *testing.T) {
				var requests atomic.Int32
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Etag", `"v1"`)
					if tt.announced {
						w.Header().Set("Trailer", "X-Sum")
					}
					switch requests.Add(1) {
					case 1:
						_, _ = io.WriteString(w, text)
						flush(w)
						panic(http.ErrAbortHandler)
					case 2:
						w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(text)))
						w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
						return
					}
					if want := fmt.Sprintf("bytes=%d-", len(text)-1); r.Header.Get("Range") != want {
						t.Errorf("Range: %s, want %s", r.Header.Get("Range"), want)
					}
					tt.again(w)
					w.Header().Set("X-Sum", "7")
				}))
				server.EnableHTTP2 = proto == "HTTP/2.0"
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				server.StartTLS()
				defer server.Close()
				transport := httpretry.NewTransport(server.Client().Transport, httpretry.Options{Policy: quick(), OnResume: func(httpretry.Resumption) {}})
				res, body, err := row{}.do(t, server.URL, transport)
				if err != nil || body != text || requests.Load() != tt.requests {
					t.Fatalf("%q, %v after %d requests; want all of the body after %d", body, err, requests.Load(), tt.requests)
				}
				if got := res.Trailer.Get("X-Sum"); got != tt.want {
					t.Errorf("X-Sum: %q, want %q", got, tt.want)
				}
			})
		}
	}
}
