package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A ledger observes all events, shows them and counts them.
type ledger struct {
	show func(level, message, cause string)
	note func(format string, args ...any)

	timeout time.Duration // of an attempt

	// Further observers; nil if there is no log.
	log      func(context.Context, retry.Event)
	logMoved func(context.Context, circuit.Transition)

	mu      sync.Mutex
	rows    []*row
	resumes int // of bodies from the API
	trips   []circuit.Transition
}

func newLedger(o Options, t times) *ledger {
	l := &ledger{show: o.Screen.event, note: o.Screen.note, timeout: t.attemptTimeout}
	if o.Log != nil {
		l.log, l.logMoved = retry.LogTo(o.Log), circuit.LogTo(o.Log)
	}
	return l
}

// A row counts the calls of one operation.
type row struct {
	Name     string
	Calls    int
	Done     int // calls that succeeded
	Attempts int // in all calls
	Retries  int
	Refused  int // calls without an attempt
	Waited   time.Duration
}

// row returns the row of an operation. l.mu is held.
func (l *ledger) row(name string) *row {
	for _, r := range l.rows {
		if r.Name == name {
			return r
		}
	}
	r := &row{Name: name}
	l.rows = append(l.rows, r)
	return r
}

// do makes one call and counts it. Calls are made one at a time.
func (l *ledger) do(name string, call func() error) error {
	l.mu.Lock()
	r := l.row(name)
	before := r.Attempts
	r.Calls++
	l.mu.Unlock()
	err := call()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		r.Done++
	}
	if err == nil && r.Attempts == before {
		r.Attempts++ // a first attempt that succeeds has no event
	}
	return err
}

// refused returns how many calls of that operation were refused.
func (l *ledger) refused(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.row(name).Refused
}

// observe is the Observe of every policy.
func (l *ledger) observe(ctx context.Context, e retry.Event) {
	if l.log != nil {
		l.log(ctx, e)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.row(e.Operation)
	level, cause := "INFO", ""
	switch e.Kind {
	case retry.Retrying:
		r.Retries++
		r.Waited += e.Delay
		cause = l.cause(e.Err)
	case retry.Queued: // no breaker of the demo has a gate or a limit
	case retry.Succeeded:
		r.Attempts += e.Attempt
	case retry.Stopped, retry.Nested:
		level = "WARN"
		r.Attempts += e.Attempt
		if e.Attempt == 0 {
			r.Refused++
		}
		if e.Reason == retry.ReasonBreakerOpen {
			return // the breaker was shown already, and a note has the number
		}
		if e.Err != nil {
			e.Err = errors.New(l.cause(e.Err)) // the whole error is too long for a line
		}
	}
	l.show(level, e.Message(), cause)
}

// resumed is the OnResume of the HTTP client.
func (l *ledger) resumed(r httpretry.Resumption) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resumes++
	l.note("a body broke; resuming at %s of %s", report.Bytes(r.Offset), report.Bytes(r.Total))
}

// moved is the Observe of every breaker.
func (l *ledger) moved(ctx context.Context, t circuit.Transition) {
	if l.logMoved != nil {
		l.logMoved(ctx, t)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trips = append(l.trips, t)
	level := "INFO"
	if t.To == circuit.Open {
		level = "WARN"
	}
	l.show(level, fmt.Sprintf("Circuit breaker '%s' transitioned from %v to %v (%v)", t.Name, t.From, t.To, t.Reason), "")
}

// cause returns in a few words why an attempt failed.
func (l *ledger) cause(err error) string {
	status, code := 0, ""
	if e, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err); ok {
		status = e.HTTPStatusCode()
	}
	if e, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		code = e.ErrorCode()
	}
	switch {
	case err == nil:
		return ""
	case status >= 400:
		return fmt.Sprintf("%d %s", status, cmp.Or(code, http.StatusText(status)))
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return "connection reset"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "body cut short"
	case errors.Is(err, io.EOF):
		return "connection closed"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no response within %v", l.timeout)
	}
	return err.Error()
}
