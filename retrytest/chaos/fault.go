package chaos

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// A Kind is the way in which a call fails.
type Kind uint8

// The kinds.
const (
	None   Kind = iota // the call is made, after Fault.Delay
	Status             // the call is not made: its response is an HTTP status, with a Retry-After
	Reset              // the call is not made: the connection is reset (ECONNRESET)
	Hangup             // the call is not made: the connection ends (an unexpected EOF)
	Lost               // the call is made, and its response is lost: the connection is reset afterwards
	Hang               // nothing happens until the context of the call ends
)

// kinds are the words of the kinds without a number.
var kinds = map[string]Kind{"ok": None, "reset": Reset, "hangup": Hangup, "lost": Lost, "hang": Hang} //nolint:gochecknoglobals // a table

// A Fault says how one call fails. The zero Fault is no fault.
type Fault struct {
	Kind   Kind
	Status int           // Status: from 100 to 599
	After  time.Duration // Status: the Retry-After, in a header rounded up to whole seconds; 0 means no Retry-After
	Delay  time.Duration // the time before the call, or before the failure
}

func (f Fault) validate() error {
	switch {
	case f.Kind > Hang:
		return fmt.Errorf("invalid value %d for Kind: must be None, Status, Reset, Hangup, Lost or Hang", f.Kind)
	case f.Kind == Status && (f.Status < 100 || f.Status > 599):
		return fmt.Errorf("invalid value %d for Status: must be from 100 to 599", f.Status)
	}
	return nil
}

const allowed = "must be ok, reset, hangup, lost, hang or a status from 100 to 599, then after=2s (with a status) or delay=2s"

// ParseFault reads a fault as text: one of ok, reset, hangup, lost, hang or a status, then after=DURATION (with a status)
// and delay=DURATION. "503 after=2s", "reset", "ok delay=300ms".
func ParseFault(text string) (Fault, error) {
	f, rest, err := parse(strings.Fields(text))
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("unknown word %q", redact.String(rest[0]))
	}
	if err != nil {
		return Fault{}, fmt.Errorf("fault %q: %w; %s", redact.String(text), err, allowed)
	}
	return f, nil
}

// parse reads the words of a fault, and returns those that it does not know.
func parse(words []string) (f Fault, rest []string, err error) {
	if len(words) == 0 {
		return f, nil, fmt.Errorf("empty")
	}
	kind, known := kinds[words[0]]
	if status, err := strconv.Atoi(words[0]); err == nil && status >= 100 && status <= 599 {
		kind, known, f.Status = Status, true, status
	}
	if !known {
		return f, nil, fmt.Errorf("unknown fault %q", redact.String(words[0]))
	}
	f.Kind = kind
	for at, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		into := &f.Delay
		switch {
		case name == "after" && kind == Status:
			into = &f.After
		case name != "delay":
			rest = append(rest, word)
			continue
		}
		if slices.ContainsFunc(words[1:1+at], func(earlier string) bool { return strings.HasPrefix(earlier, name+"=") }) {
			return f, nil, fmt.Errorf("%s is given twice", name)
		}
		if *into, err = time.ParseDuration(value); err != nil || *into < 0 {
			return f, nil, fmt.Errorf("invalid duration %q for %s", redact.String(value), name)
		}
	}
	return f, rest, nil
}

// String returns the text of f, as for [ParseFault].
func (f Fault) String() string {
	text := "ok"
	for word, kind := range kinds {
		if f.Kind == kind {
			text = word
		}
	}
	if f.Kind == Status {
		text = strconv.Itoa(f.Status)
		if f.After > 0 {
			text += " after=" + f.After.String()
		}
	}
	if f.Delay > 0 {
		text += " delay=" + f.Delay.String()
	}
	return text
}

// response returns the response of a Status fault.
func (f Fault) response(req *http.Request) *http.Response {
	body := "chaos: injected " + f.String() + "\n"
	res := &http.Response{
		Status: strconv.Itoa(f.Status) + " " + http.StatusText(f.Status), StatusCode: f.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Perdure-Chaos": {f.String()}},
		ContentLength: int64(len(body)), Body: http.NoBody, Request: req,
	}
	if req.Method == http.MethodHead || f.Status < 200 || f.Status == http.StatusNoContent || f.Status == http.StatusNotModified {
		res.ContentLength = 0
	} else {
		res.Body = readCloser{strings.NewReader(body)}
	}
	if f.After > 0 {
		res.Header.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.After.Seconds()))))
	}
	return res
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
