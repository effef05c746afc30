package httptestfault

// Kind is the way in which a response goes wrong.
type Kind uint8

// The kinds of fault. RefuseStream and GoAway need HTTP/2: see [NewH2].
const (
	None         Kind = iota // the response is sent as it is
	Drop                     // the connection ends before the response
	Cut                      // the connection ends within the response's body, or behind it
	Stall                    // the body stops; nothing more is sent until the client leaves or the server closes
	Hang                     // nothing at all is sent until the client leaves or the server closes
	RefuseStream             // RST_STREAM with REFUSED_STREAM: the server did not process the request
	GoAway                   // GOAWAY with the number of the stream before: as RefuseStream, and no later request on this connection either
)

// A Fault is what breaks one response off. The zero Fault is no fault. The functions below make the usual ones.
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
