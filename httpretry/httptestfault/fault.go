package httptestfault

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"time"
)

// A Kind is the way in which a response goes wrong.
type Kind uint8

// The kinds of fault. RefuseStream and GoAway need HTTP/2: see [NewH2].
const (
	None         Kind = iota // the response is sent as it is
	Drop                     // the connection ends before the response
	Cut                      // the connection ends within the response's body, or after a body that is not longer than Bytes
	Stall                    // the body stops; nothing more is sent until the client leaves or the server closes
	Hang                     // nothing at all is sent until the client leaves or the server closes
	RefuseStream             // RST_STREAM with REFUSED_STREAM: the server did not process the request
	GoAway                   // GOAWAY with the ID of the previous stream: the server processes neither this request nor later ones on the connection
)

// A Fault says how the server fails one request. The zero Fault is no fault. [Reset], [Hangup], [CutBody], [ResetBody] and
// [StallBody] return the usual faults.
type Fault struct {
	Kind  Kind
	Bytes int  // Cut and Stall: how many bytes of the body are sent; a body that is not longer is sent whole
	RST   bool // Drop and Cut: a TCP reset instead of an orderly close; in HTTP/2 RST_STREAM with INTERNAL_ERROR
}

// Reset resets the connection before the response.
func Reset() Fault { return Fault{Kind: Drop, RST: true} }

// Hangup closes the connection before the response; the client sees EOF.
func Hangup() Fault { return Fault{Kind: Drop} }

// CutBody sends n bytes of the body and closes the connection.
func CutBody(n int) Fault { return Fault{Kind: Cut, Bytes: n} }

// ResetBody is CutBody with a TCP reset; the client may see fewer than n bytes.
func ResetBody(n int) Fault { return Fault{Kind: Cut, Bytes: n, RST: true} }

// StallBody sends n bytes of the body, then nothing until the client leaves or the server closes.
func StallBody(n int) Fault { return Fault{Kind: Stall, Bytes: n} }

// sent returns the part of a body that is sent.
func (f Fault) sent(body []byte) []byte {
	if f.Kind == None {
		return body
	}
	return body[:min(max(f.Bytes, 0), len(body))]
}

// A Script returns the response to a request. n is 1 for the first request that the server reads. The server reads the
// body of r after the Script, unless the response is Unread; r is nil in HTTP/2 (see [NewH2]). The server calls a Script
// from one goroutine at a time, so a Script may keep state without a lock.
type Script func(n int, r *http.Request) Response

// Responses is the script that sends the first response to the first request, and so on, and the last response to all
// further requests. Without any response, each request gets an empty 200.
func Responses(responses ...Response) Script {
	return func(n int, _ *http.Request) Response {
		if len(responses) == 0 {
			return Response{}
		}
		return responses[min(n, len(responses))-1]
	}
}

// A Response is what the server sends to one request, and the Fault that replaces or ends the response. The zero Response
// is an empty 200, framed correctly, on a connection that stays open.
type Response struct {
	Status int         // 0 means 200
	Header http.Header // a Content-Length in it is sent unchanged, true or not; "Date": nil omits Date
	Body   []byte      // the whole body, before any fault

	Framing Framing       // how the end of the body is marked
	Delay   time.Duration // the time before the status line
	Late    time.Duration // the time between the header and the first byte of the body
	Slice   int           // the number of bytes of the body to send at once; 0 means all
	Gap     time.Duration // the time between two slices

	Last   bool   // send Connection: close, and close the connection after the response
	Unread bool   // respond without reading the request's body, or sending 100 Continue for it; implies Last if there is a body
	Raw    []byte // sent in place of status line, header and body; the connection closes after it

	Fault Fault
}

// With returns r with the fault f in place of its Fault.
func (r Response) With(f Fault) Response {
	r.Fault = f
	return r
}

func (r Response) status() int {
	if r.Status == 0 {
		return http.StatusOK
	}
	return r.Status
}

// A Framing is how the end of a body is marked in HTTP/1. The zero Framing is a Content-Length.
type Framing uint8

// The other framings.
const (
	Chunked    Framing = iota + 1 // by a last chunk
	UntilClose                    // by the end of the connection, from an HTTP/1.0 server: a client cannot detect a cut
)

// A Resource is what a correct server has at one URL: it honours Range, If-Range, If-Match and the like, as
// [http.ServeContent] does. A [Script] returns the result of [Resource.Respond], as it is, changed, or with a fault.
type Resource struct {
	Body         []byte
	ETag         string      // with its quotes; if empty, the header is absent
	LastModified time.Time   // if zero, the header is absent
	Header       http.Header // added to each response
}

// Respond returns the correct response to r. It does not read the body of r.
func (c Resource) Respond(r *http.Request) Response {
	w := httptest.NewRecorder()
	maps.Copy(w.Header(), c.Header)
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	if c.ETag != "" {
		w.Header().Set("ETag", c.ETag)
	}
	http.ServeContent(w, r, "", c.LastModified, bytes.NewReader(c.Body))
	return Response{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
}
