package httptestfault

import (
	"net/http"
	"time"
)

// A Script says how to answer: n is 1 for the first request that the server reads, r that request with its body still
// to be read (the server reads it afterwards, unless the step says otherwise). Scripts are called one at a time, so
// they may keep state without a lock.
type Script func(n int, r *http.Request) Step

// Steps is the script that answers the first request with the first step, and so on; further requests get the last
// step again. Without any step, every request gets an empty 200.
func Steps(steps ...Step) Script {
	return func(n int, _ *http.Request) Step {
		if len(steps) == 0 {
			return Step{}
		}
		return steps[min(n, len(steps))-1]
	}
}

// A Step is the answer to one request, with all that may go wrong in it. The zero Step is an empty 200, framed
// correctly, on a connection that stays open.
type Step struct {
	Status int         // 0 means 200
	Header http.Header // added to the answer; a Content-Length in it is sent as it stands, true or not; Date: nil leaves Date out
	Body   []byte      // the whole body, before any cut

	Framing Framing       // how the end of the body is marked
	Delay   time.Duration // before the status line
	Late    time.Duration // between the head and the first byte of the body
	Slice   int           // bytes of the body to send at a time, with Gap between; 0 means all at once
	Gap     time.Duration

	Cut  Cut  // what happens at byte At of the body
	At   int  // bytes of the body to send before Cut; BeforeHead means that not even a status line is sent
	Last bool // say Connection: close, and close after the answer

	Unread bool   // answer without reading the request's body, nor sending 100 Continue for it; if there is one, Last
	Raw    []byte // sent instead of all of the above but Delay and Cut; the connection closes after it
}

// BeforeHead is the Step.At of a cut before the status line.
const BeforeHead = -1

// A Framing is how a body's end is marked in HTTP/1.
type Framing uint8

// The framings.
const (
	Length     Framing = iota // by Content-Length
	Chunked                   // by a last chunk
	UntilClose                // by the end of the connection, from an HTTP/1.0 server: a cut can't be told from the end
)

// A Cut is a way to break off.
type Cut uint8

// The cuts.
const (
	None  Cut = iota
	FIN       // the connection ends in an orderly way
	RST       // the connection is reset
	Stall     // nothing more is sent until the client leaves or the server closes
)

func (s Step) status() int {
	if s.Status == 0 {
		return http.StatusOK
	}
	return s.Status
}

// sent returns the part of the body that is sent.
func (s Step) sent() []byte {
	if s.Cut == None || s.At >= len(s.Body) {
		return s.Body
	}
	return s.Body[:max(s.At, 0)]
}
