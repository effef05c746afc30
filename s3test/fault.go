package s3test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kind is the way in which a request goes wrong.
type Kind uint8

// The kinds of fault. Everything that can go wrong is one of these with the fields of [Fault].
const (
	None   Kind = iota // the request is served
	Slow               // served after Delay
	Answer             // an error is answered: Status, Code, RetryAfter
	Drop               // the connection ends before an answer
	Cut                // the connection ends within the answer's body, if it is a success
	Stall              // the body of a success stops coming, then the connection ends
)

// Fault is what happens to one request. The zero value is no fault. Most callers take one of the functions below and
// change a field if they must; a Fault is a plain value.
type Fault struct {
	Kind Kind

	Status     int           // Answer: the HTTP status; 0 = 500
	Code       string        // Answer: the code in the XML error; "" = InternalError
	RetryAfter time.Duration // Answer: header Retry-After, rounded up to whole seconds; 0 or less = no header

	// Delay is the time before the answer's first byte. With Stall it is how long nothing comes; there 0 means until the
	// client hangs up or the server is closed.
	Delay time.Duration

	// Bytes is how many bytes of the body pass: of the answer for Cut and Stall, of the request for Drop. An answer that
	// is not longer passes whole. Negative counts as 0.
	Bytes int64
	Share float64 // used when Bytes is 0: the same as a share of the Content-Length, 0..1

	RST     bool // the connection ends with a TCP reset (ECONNRESET) instead of an orderly close (EOF)
	Applied bool // Answer and Drop: the operation is carried out first, only its answer is lost
}

// SlowDown answers 503 SlowDown, as a store that is asked too much.
func SlowDown() Fault { return Failure(http.StatusServiceUnavailable, "SlowDown") }

// InternalError answers 500 InternalError.
func InternalError() Fault { return Failure(http.StatusInternalServerError, "InternalError") }

// TooManyRequests answers 429 with a Retry-After header of whole seconds, rounded up.
func TooManyRequests(after time.Duration) Fault {
	return Fault{Kind: Answer, Status: http.StatusTooManyRequests, Code: "TooManyRequests", RetryAfter: after}
}

// AccessDenied answers 403 AccessDenied.
func AccessDenied() Fault { return Failure(http.StatusForbidden, "AccessDenied") }

// Failure answers any status with an S3 error of that code.
func Failure(status int, code string) Fault {
	return Fault{Kind: Answer, Status: status, Code: code}
}

// ErrorIn200 answers 200 with an error in the body, as S3 does when a CompleteMultipartUpload or CopyObject fails after
// its answer has begun. The operation is not carried out.
func ErrorIn200() Fault { return Failure(http.StatusOK, "InternalError") }

// Reset ends the connection with a TCP reset before anything is read of the body or answered.
func Reset() Fault { return Fault{Kind: Drop, RST: true} }

// Hangup reads the request and closes the connection in order; the client sees EOF.
func Hangup() Fault { return Fault{Kind: Drop} }

// LostAnswer carries the operation out and resets the connection: the client can't know that it worked.
func LostAnswer() Fault { return Fault{Kind: Drop, RST: true, Applied: true} }

// CutRequest resets the connection after n bytes of the request's body.
func CutRequest(n int64) Fault { return Fault{Kind: Drop, RST: true, Bytes: n} }

// CutBody sends n bytes of the answer's body, fewer than its Content-Length says, and closes the connection.
func CutBody(n int64) Fault { return Fault{Kind: Cut, Bytes: n} }

// ResetBody is CutBody with a TCP reset; the client may see fewer than n bytes.
func ResetBody(n int64) Fault { return Fault{Kind: Cut, Bytes: n, RST: true} }

// SlowAnswer serves the request after a delay.
func SlowAnswer(delay time.Duration) Fault { return Fault{Kind: Slow, Delay: delay} }

// StallBody sends n bytes of the answer's body, then nothing for the time given, then ends the connection.
// 0 means for as long as the client stays.
func StallBody(n int64, silence time.Duration) Fault {
	return Fault{Kind: Stall, Bytes: n, Delay: silence}
}

// String names the fault in a few words, for logs and tables: "503 SlowDown", "reset", "lost answer", "cut body".
func (f Fault) String() string {
	switch {
	case f.Kind == None:
		return "none"
	case f.Kind == Slow:
		return "slow answer"
	case f.Kind == Answer:
		return fmt.Sprintf("%d %s", f.status(), f.code())
	case f.Kind == Cut:
		return "cut body"
	case f.Kind == Stall:
		return "stall"
	case f.Applied:
		return "lost answer"
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

// strikeAt is the number of bytes that pass of a body of the given length (negative: unknown).
func (f Fault) strikeAt(length int64) int64 {
	if f.Bytes != 0 || f.Share <= 0 {
		return max(f.Bytes, 0)
	}
	return int64(f.Share * float64(max(length, 0)))
}

// Rule says which requests get a fault. Empty fields match everything.
type Rule struct {
	Operation string // the S3 operation, as "PutObject"
	Method    string // the HTTP method
	Prefix    string // what the path begins with, as "/bucket/dir/"
	Nth       []int  // the numbers of the requests, see [Request.N]; empty = each one
	Fault     Fault
}

// Rules makes a script of rules: the first that matches a request decides, none means no fault.
//
//	server.Script(s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1, 2}, Fault: s3test.SlowDown()}))
func Rules(rules ...Rule) func(Request) Fault {
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
