package retry_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The text of an Error by its parts.
func TestErrorText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 11, 8, 0, 0, 0, time.UTC)
	for want, e := range map[string]retry.Error{
		"up: attempts exhausted after 5 attempts: the service is down":                        {Attempts: 5, Stop: retry.ErrExhausted, Last: errDown},
		"up: retry budget spent after 1 attempt: the service is down":                         {Attempts: 1, Stop: retry.ErrBudget, Last: errDown},
		"up: the server asked for a longer wait than allowed (retry at 2026-01-11T08:00:00Z)": {Stop: retry.ErrRetryLater, RetryAt: at},
		"up: context canceled after 2 attempts: the service is down":                          {Attempts: 2, Stop: context.Canceled, Last: errDown},
		"up: not enough time left for another attempt after 4 attempts: the service is down":  {Attempts: 4, Stop: retry.ErrDeadline, Last: errDown},
		`up: attempts exhausted after 2 attempts: no level=error \u009b31m`: {
			Attempts: 2, Stop: retry.ErrExhausted, Last: errors.New("no\nlevel=error \u009b31m"),
		},
	} {
		e.Operation = "up"
		if e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
}

// errors.Is and errors.As see both the reason and the last error.
func TestErrorUnwraps(t *testing.T) {
	t.Parallel()
	last := &coded{code: "SlowDown"}
	open := &circuit.OpenError{Name: "b"}
	var err error = &retry.Error{Stop: open, Last: last}
	if got, ok := errors.AsType[*circuit.OpenError](err); !ok || got != open {
		t.Errorf("OpenError: %v", got)
	}
	if got, ok := errors.AsType[*coded](err); !ok || got != last || !errors.Is(err, last) {
		t.Errorf("last: %v", got)
	}
	err = &retry.Error{Stop: retry.ErrDeadline}
	if !errors.Is(err, retry.ErrDeadline) || errors.Is(err, retry.ErrExhausted) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is not ErrDeadline, and with it context.DeadlineExceeded", err)
	}
}

// Value returns the last attempt's value, also together with an error.
func TestValue(t *testing.T) {
	t.Parallel()
	p := retry.Policy{MaxAttempts: 3, BaseDelay: 1, Jitter: retry.NoJitter, Classify: retry.Always}
	n := 0
	count := func(end int) func(context.Context) (int, error) {
		n = 0
		return func(context.Context) (int, error) {
			if n++; n < end {
				return -n, errDown
			}
			return n, nil
		}
	}
	if v, err := retry.Value(t.Context(), &p, count(1)); v != 1 || err != nil {
		t.Errorf("at once: %d, %v", v, err)
	}
	if v, err := retry.Value(t.Context(), &p, count(3)); v != 3 || err != nil {
		t.Errorf("on the third: %d, %v", v, err)
	}
	if v, err := retry.Value(t.Context(), &p, count(9)); v != -3 || !errors.Is(err, retry.ErrExhausted) {
		t.Errorf("never: %d, %v; want the third attempt's", v, err)
	}
	p.AttemptTimeout = time.Minute
	if v, err := retry.Value(t.Context(), &p, count(2)); v != 2 || err != nil {
		t.Errorf("with a timeout: %d, %v", v, err)
	}
}

// A permanent error of the first attempt is returned itself, and one of a later attempt
// wrapped.
func TestPermanentLater(t *testing.T) {
	t.Parallel()
	p := retry.Policy{BaseDelay: 1, Jitter: retry.NoJitter, Classify: retry.Always}
	denied := retry.Permanent(errDown)
	f, _ := calls(errDown, denied)
	err := retry.Do(t.Context(), &p, f)
	if e := stopped(t, err, retry.ErrPermanent, 2); e.Last != denied { //nolint:errorlint // as itself
		t.Errorf("last is %v", e.Last)
	}
}

// A refusal of another breaker is not retried, even if Classify is Always: Do returns the
// refusal itself.
func TestOpenErrorOfTheOperation(t *testing.T) {
	t.Parallel()
	b := breaker(open(time.Hour))
	p := retry.Policy{Classify: retry.Always, RetryNested: true, Breaker: b}
	refusal := &circuit.OpenError{Name: "inner", State: circuit.Open}
	f, made := always(refusal)
	if err := retry.Do(t.Context(), &p, f); err != refusal || made.n != 1 || b.State() != circuit.Closed { //nolint:errorlint // as itself
		t.Errorf("%v after %d attempts, breaker %v", err, made.n, b.State())
	}
}

// A server may choose the text of an error: it is cut in logs and errors, and stays whole in Last.
func TestLongTextsAreCut(t *testing.T) {
	var log strings.Builder
	long := errors.New(strings.Repeat("text of a server ", 1<<16))
	p := retry.Policy{
		MaxAttempts: 2, BaseDelay: 1, MaxDelay: 1, Jitter: retry.NoJitter, Classify: retry.Always,
		Observe: retry.LogTo(slog.New(slog.NewTextHandler(&log, nil))),
	}
	err := retry.Do(t.Context(), &p, func(context.Context) error { return long })
	if n := len(err.Error()); n > 5<<10 || !strings.HasSuffix(err.Error(), " bytes)") {
		t.Errorf("the error has %d bytes", n)
	}
	if log.Len() > 32<<10 {
		t.Errorf("the log has %d bytes", log.Len())
	}
	if !errors.Is(err, long) {
		t.Error("Last is lost")
	}
}
