package s3test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Kind is the way in which a request goes wrong.
type Kind uint8

// The kinds of fault. Each fault is one of these with the fields of [Fault].
const (
	None  Kind = iota // the request is served
	Slow              // the request is served after Delay
	Error             // the response is an error: Status, Code, RetryAfter
	Drop              // the connection ends before the response
	Cut               // the connection ends within the response's body, if the response is a success
	Stall             // the body of a successful response stops, then the connection ends
)

// A Fault says how the server fails one request. The zero Fault is no fault. The usual faults have functions, such as
// [SlowDown] and [CutBody].
type Fault struct {
	Kind Kind

	Status     int           // Error: the HTTP status; 0 means 500
	Code       string        // Error: the code in the XML error; "" means InternalError
	RetryAfter time.Duration // Error: the header Retry-After, rounded up to whole seconds; 0 or less means no header

	// Delay is the time before the first byte of the response, or before a Drop ends the connection. With Stall, Delay is
	// how long the body stops; there 0 means until the client leaves or the server closes.
	Delay time.Duration

	// Bytes is how many bytes of the body pass: of the response for Cut and Stall, of the request for Drop. A body that
	// is not longer passes whole; then Cut and Stall do nothing. Less than 0 means 0.
	Bytes int64
	Share float64 // the part of the Content-Length that passes, 0..1; used if Bytes is 0

	RST     bool // Drop, Cut and Stall: a TCP reset (ECONNRESET) instead of an orderly close (EOF)
	Applied bool // Error and Drop: the operation is carried out, only its response is lost
}

// SlowDown responds with 503 SlowDown, as an overloaded store.
func SlowDown() Fault { return Failure(http.StatusServiceUnavailable, "SlowDown") }

// InternalError responds with 500 InternalError.
func InternalError() Fault { return Failure(http.StatusInternalServerError, "InternalError") }

// TooManyRequests responds with 429 TooManyRequests and a Retry-After header of after, rounded up to whole seconds. If after
// is 0 or less, the response has no Retry-After.
func TooManyRequests(after time.Duration) Fault {
	return Fault{Kind: Error, Status: http.StatusTooManyRequests, Code: "TooManyRequests", RetryAfter: after}
}

// AccessDenied responds with 403 AccessDenied.
func AccessDenied() Fault { return Failure(http.StatusForbidden, "AccessDenied") }

// Failure responds with an HTTP status and an S3 error with that code. A status of 0 means 500, and "" means InternalError.
func Failure(status int, code string) Fault {
	return Fault{Kind: Error, Status: status, Code: code}
}

// ErrorIn200 responds with 200 and an error in the body, as S3 does if a CompleteMultipartUpload or CopyObject fails after
// the response has begun. The operation is not carried out.
func ErrorIn200() Fault { return Failure(http.StatusOK, "InternalError") }

// Reset resets the connection before the server reads the request's body or responds.
func Reset() Fault { return Fault{Kind: Drop, RST: true} }

// Hangup reads the request and closes the connection; the client sees EOF.
func Hangup() Fault { return Fault{Kind: Drop} }

// LostResponse carries the operation out and resets the connection: the client cannot know that the operation succeeded.
func LostResponse() Fault { return Fault{Kind: Drop, RST: true, Applied: true} }

// CutRequest resets the connection after n bytes of the request's body.
func CutRequest(n int64) Fault { return Fault{Kind: Drop, RST: true, Bytes: n} }

// CutBody sends n bytes of the response's body and closes the connection.
func CutBody(n int64) Fault { return Fault{Kind: Cut, Bytes: n} }

// ResetBody is CutBody with a TCP reset; the client may see fewer than n bytes.
func ResetBody(n int64) Fault { return Fault{Kind: Cut, Bytes: n, RST: true} }

// SlowResponse serves the request after a delay.
func SlowResponse(delay time.Duration) Fault { return Fault{Kind: Slow, Delay: delay} }

// StallBody sends n bytes of the response's body, waits for the time of silence, and closes the connection. A silence of 0
// lasts until the client leaves or the server closes.
func StallBody(n int64, silence time.Duration) Fault {
	return Fault{Kind: Stall, Bytes: n, Delay: silence}
}

// String names the fault for logs and tables: "503 SlowDown", "reset", "lost response", "cut body".
func (f Fault) String() string {
	switch {
	case f.Kind == None:
		return "none"
	case f.Kind == Slow:
		return "slow response"
	case f.Kind == Error:
		return fmt.Sprintf("%d %s", f.status(), f.code())
	case f.Kind == Cut:
		return "cut body"
	case f.Kind == Stall:
		return "stall"
	case f.Applied:
		return "lost response"
	case f.Bytes > 0 || f.Share > 0:
		return "cut request"
	case f.RST:
		return "reset"
	}
	return "hangup"
}

func (f Fault) status() int {
	if f.Status == 0 {
		return http.StatusInternalServerError
	}
	return f.Status
}

func (f Fault) code() string {
	if f.Code == "" {
		return "InternalError"
	}
	return f.Code
}

// passes returns how many bytes pass of a body of the given length (negative: unknown).
func (f Fault) passes(length int64) int64 {
	if f.Bytes != 0 || f.Share <= 0 {
		return max(f.Bytes, 0)
	}
	return int64(f.Share * float64(max(length, 0)))
}

// A Script returns the fault of a request; the zero Fault means none. The server calls a Script from several goroutines at
// once, under no lock.
type Script func(Request) Fault

// A Rule gives the requests that match all of its fields a fault. An empty field matches every request.
type Rule struct {
	Operation string // the S3 operation, as "PutObject"
	Method    string // the HTTP method
	Prefix    string // the beginning of the path, as "/bucket/dir/"
	Nth       []int  // the numbers of the requests: see [Request.N]
	Fault     Fault
}

// Rules returns a script in which the first rule that matches a request decides. A request that no rule matches has no
// fault of the script.
//
//	server.SetScript(s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1, 2}, Fault: s3test.SlowDown()}))
func Rules(rules ...Rule) Script {
	return func(r Request) Fault {
		for _, rule := range rules {
			if rule.matches(r) {
				return rule.Fault
			}
		}
		return Fault{}
	}
}

func (rule Rule) matches(r Request) bool {
	return (rule.Operation == "" || rule.Operation == r.Operation) &&
		(rule.Method == "" || rule.Method == r.Method) &&
		strings.HasPrefix(r.Path, rule.Prefix) &&
		(len(rule.Nth) == 0 || slices.Contains(rule.Nth, r.N))
}
