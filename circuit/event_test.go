package circuit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// lines returns a logger, and what it has written: level and message of each line.
func lines() (*slog.Logger, func() []string) {
	var b bytes.Buffer
	text := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(text), func() []string { return strings.Split(strings.TrimSpace(b.String()), "\n") }
}

func TestLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, written := lines()
		b := New("s3_upload", Config{SuccessThreshold: 2, Observe: LogTo(logger)})
		for range 5 {
			b.RecordFailure()
		}
		for _, record := range []func(){b.RecordFailure, b.RecordSuccess, b.RecordSuccess} {
			after(30 * time.Second)
			b.Allow()
			record()
		}
		b.Isolate()
		b.Reset()
		line := func(level, from, to, reason string) string {
			return `level=` + level + ` msg="Circuit breaker 's3_upload' transitioned from ` + from + ` to ` + to + ` (` + reason + `)"`
		}
		want := []string{
			line("WARN", "closed", "open", "5 consecutive failures"),
			line("INFO", "open", "half-open", "recovery timeout elapsed"),
			line("WARN", "half-open", "open", "probe failed"),
			line("INFO", "open", "half-open", "recovery timeout elapsed"),
			line("INFO", "half-open", "closed", "2 successful probes"),
			line("WARN", "closed", "isolated", "manual override"),
			line("INFO", "isolated", "closed", "manual override"),
		}
		got := written()
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]+" event=transition breaker=s3_upload from=") {
				t.Errorf("line %d\n%s, want\n%s", i, got[i], want[i])
			}
		}
		if want := " retry_at=2000-01-01T00:00:30.000Z"; !strings.HasSuffix(got[0], want) {
			t.Errorf("the first line ends in %q, want %q", got[0], want)
		}
	})
}

func TestDefaultObserverLogs(t *testing.T) {
	logger, written := lines()
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(logger)
	New("x", Config{FailureThreshold: 1, ObserveOnly: true}).RecordFailure()
	got := written()
	want := `level=WARN msg="Circuit breaker 'x' transitioned from closed to open (1 consecutive failure)"`
	if len(got) != 1 || !strings.HasPrefix(got[0], want) || !strings.HasSuffix(got[0], " observe_only=true") {
		t.Errorf("it wrote %q, want %q", got, want)
	}
}

// Config.Log receives the warnings, and the transitions if there is no observer; slog.Default() receives nothing.
func TestLog(t *testing.T) {
	other, others := lines()
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(other)
	logger, written := lines()
	c := Config{Store: new(Memory), Log: logger, FailureThreshold: 1, Concurrency: 2}
	New("x", c)
	c.Concurrency = 3
	New("x", c).RecordFailure()
	got := written()
	if len(got) != 2 || !strings.HasPrefix(got[0], "level=WARN msg=\"circuit breaker \\\"x\\\": concurrency 3 has no effect") ||
		!strings.Contains(got[1], "transitioned from closed to open") {
		t.Errorf("it wrote %q, want a warning and a transition", got)
	}
	if got := others(); len(got) > 0 && got[0] != "" {
		t.Errorf("slog.Default() received %q", got)
	}
}

// The observer runs under no lock: it may use the breaker.
func TestObserverUsesTheBreaker(t *testing.T) {
	var b *Breaker
	var states []State
	b = New("x", Config{FailureThreshold: 1, Observe: func(_ context.Context, tr Transition) {
		states = append(states, b.State())
		b.Metrics()
		if len(states) < 4 {
			b.RecordFailure()
		}
		if tr.To == Open {
			b.Isolate()
		}
		if tr.To == Isolated {
			b.Reset()
		}
	}})
	b.RecordFailure()
	// The reset is seen within the failure, and fails again: then it is enough.
	if want := []State{Open, Isolated, Closed, Open, Isolated, Closed}; !slices.Equal(states, want) {
		t.Errorf("the observer saw %v", states)
	}
}

func TestObserverPanics(t *testing.T) {
	logger, written := lines()
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(logger)
	b := New("x", Config{FailureThreshold: 1, Observe: func(context.Context, Transition) { panic("boom") }})
	b.RecordFailure()
	if b.State() != Open {
		t.Errorf("it is %v", b.State())
	}
	if got := strings.Join(written(), "\n"); !strings.Contains(got, "Observe panicked") || !strings.Contains(got, "boom") {
		t.Errorf("the log says %q", got)
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("x", quiet(Config{FailureThreshold: 3, Window: time.Minute, FailureRatio: 1, Budget: 10}))
		if m := b.Metrics(); m != (Metrics{Budgeted: true, Balance: 1}) {
			t.Errorf("of a new breaker: %+v", m)
		}
		for range 10 {
			p, _ := b.Acquire()
			p.Success()
		}
		b.RecordFailure()
		b.RecordFailure()
		if m := b.Metrics(); m.Failures != 2 || m.Calls != 12 || m.Failed != 2 || m.Balance != 3 || m.State != Closed {
			t.Errorf("after ten successes and two failures: %+v", m)
		}
		after(time.Second)
		b.RecordFailure()
		b.Allow()
		m, now := b.Metrics(), time.Now()
		if m.State != Open || m.Trips != 1 || m.Rejected != 1 || m.Probes != 0 || m.Failures != 0 ||
			m.Reason.String() != "3 consecutive failures" || m.Reason.Cause() != Consecutive ||
			!m.Since.Equal(now) || !m.RetryAt.Equal(now.Add(30*time.Second)) || !m.NotBefore.IsZero() {
			t.Errorf("after the trip: %+v", m)
		}
		after(30 * time.Second)
		if m := b.Metrics(); m.State != HalfOpen || !m.RetryAt.IsZero() {
			t.Errorf("when the time is up: %+v", m)
		}
		b.Allow()
		b.RecordSuccess()
		if m := b.Metrics(); m.State != Closed || m.Probes != 1 || m.Calls != 0 || m.Reason.String() != "1 successful probe" {
			t.Errorf("after the probe: %+v", m)
		}
	})
}

func TestReasons(t *testing.T) {
	for _, r := range []struct {
		reason Reason
		text   string
	}{
		{Reason{}, "unknown"},
		{Reason{code: Consecutive, n: 1}, "1 consecutive failure"},
		{Reason{code: Consecutive, n: 1000}, "1000 consecutive failures"},
		{Reason{Ratio, 12, 20}, "12 of 20 calls failed"},
		{Reason{Slow, 16, 20}, "16 of 20 calls were slow"},
		{Reason{code: ProbeFailed}, "probe failed"},
		{Reason{code: RecoveryTimeout}, "recovery timeout elapsed"},
		{Reason{code: Recovered, n: 31}, "31 successful probes"},
		{Reason{code: Manual}, "manual override"},
		{Reason{Ratio, figureMask, figureMask}, "268435455 of 268435455 calls failed"},
		{Reason{code: 200}, "unknown"},
	} {
		if got := unpack(r.reason.pack()); got != r.reason || got.String() != r.text {
			t.Errorf("%+v in a cell becomes %+v, %q; want %q", r.reason, got, got, r.text)
		}
	}
	if got := unpack(Reason{Ratio, figureMask + 9, math.MaxInt}.pack()); got != (Reason{Ratio, figureMask, figureMask}) {
		t.Errorf("figures that do not fit become %+v", got)
	}
}

func TestStateText(t *testing.T) {
	names := []string{"closed", "open", "half-open", "isolated"}
	for s, name := range names {
		if got := State(s).String(); got != name {
			t.Errorf("state %d is %q, want %q", s, got, name)
		}
	}
	all := []State{Closed, Open, HalfOpen, Isolated}
	data, err := json.Marshal(all)
	if want := `["closed","open","half-open","isolated"]`; err != nil || string(data) != want {
		t.Errorf("JSON %s, %v; want %s", data, err, want)
	}
	var back []State
	if err := json.Unmarshal(data, &back); err != nil || !slices.Equal(back, all) {
		t.Errorf("back from JSON: %v, %v", back, err)
	}
	if got := State(9).String(); got != "State(9)" {
		t.Errorf("an unknown state is %q", got)
	}
	s := Open
	bad, ok := errors.AsType[*ConfigError](s.UnmarshalText([]byte("half_open")))
	if !ok || bad.Field != "state" || bad.Value != `"half_open"` || !strings.Contains(bad.Want, "did you mean half-open?") || s != Open {
		t.Errorf("an unknown name: %v, and the state is %v", bad, s)
	}
}

// The process that sent the last probe is named. An earlier one is not: it may have been
// killed, or recorded its ID too late.
func TestProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("x", quiet(Config{FailureThreshold: 1}))
		b.RecordFailure()
		after(30 * time.Second)
		if p, err := b.Acquire(); err != nil || !p.Probe() || b.Metrics().Prober != os.Getpid() {
			t.Errorf("the prober is %d, want %d; %v", b.Metrics().Prober, os.Getpid(), err)
		}
		said := b.cell.Load().Prober.Load()
		after(31 * time.Second) // its lease is over
		if b.Allow(); b.Metrics().Prober != os.Getpid() {
			t.Errorf("the prober is %d, want %d", b.Metrics().Prober, os.Getpid())
		}
		b.cell.Load().Prober.Store(said)
		if got := b.Metrics().Prober; got != 0 {
			t.Errorf("%d is named, who sent an earlier probe", got)
		}
		if b.RecordSuccess(); b.Metrics().Prober != 0 {
			t.Errorf("%d is named, and the breaker is %v", b.Metrics().Prober, b.State())
		}
	})
}

// The observer gets the context of the call that made the transition, or
// context.Background() if the method has no context.
func TestObserverHasTheCallersContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	var seen []any
	b := New("x", Config{FailureThreshold: 1, Observe: func(ctx context.Context, tr Transition) {
		seen = append(seen, tr.To.String(), ctx.Value(key{}))
	}})
	ctx := context.WithValue(t.Context(), key{}, "caller")
	_ = b.Do(ctx, func(context.Context) error { return errors.New("down") })
	b.Reset()
	_, permit, _ := b.begin(ctx)
	permit.recordEnd(ctx, seam.Result{Err: errDown})
	want := []any{"open", "caller", "closed", nil, "open", "caller"}
	if !slices.Equal(seen, want) {
		t.Errorf("transitions and whose context they have: %v, want %v", seen, want)
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	b := New("http:https://user:pass@host", quiet(Config{FailureThreshold: 2}))
	const name = `circuit breaker "http:https://REDACTED@host" is `
	if got := b.String(); got != name+"closed" {
		t.Error(got)
	}
	b.RecordFailure()
	b.RecordFailure()
	if got := b.String(); got != name+"open (2 consecutive failures)" {
		t.Error(got)
	}
	if got := (*Breaker)(nil).String(); got != "no circuit breaker" {
		t.Error(got)
	}
}

// A name is shown without its secrets everywhere. The store gets the full name: names that
// differ in a secret are different.
func TestNameWithoutSecrets(t *testing.T) {
	t.Parallel()
	var seen Transition
	c := Config{Store: new(Memory), Observe: func(_ context.Context, t Transition) { seen = t }}
	b, other := New("http:https://user:pass@host", c), New("http:https://user:word@host", c)
	b.Trip()
	_, err := b.Acquire()
	refusal, _ := errors.AsType[*OpenError](err)
	const want = "http:https://REDACTED@host"
	for what, name := range map[string]string{"Name": b.Name(), "Transition": seen.Name, "OpenError": refusal.Name} {
		if name != want {
			t.Errorf("%s: %s, want %s", what, name, want)
		}
	}
	if other.State() != Closed {
		t.Error("a breaker of another name is open as well")
	}
}

// Refusals by Do are one line after 30 s, and then one per minute. They used to be
// reported at the next transition only, which never comes in an endless outage.
func TestRefusalsOfDoAreLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		b := New("b", Config{FailureThreshold: 1, RecoveryTimeout: 150 * time.Second, Observe: func(_ context.Context, t Transition) {
			seen = append(seen, fmt.Sprintf("%v %v %d %v", t.From, t.To, t.Refused, t.Reason))
		}})
		for range 150 {
			_ = b.Do(t.Context(), func(context.Context) error { return errDown })
			after(time.Second)
		}
		b.Reset()
		want := []string{
			"closed open 0 1 consecutive failure", "open open 30 1 consecutive failure", "open open 90 1 consecutive failure",
			"open closed 149 manual override",
		}
		if !slices.Equal(seen, want) {
			t.Errorf("%q, want %q", seen, want)
		}
		logger, written := lines()
		LogTo(logger)(t.Context(), Transition{Name: "b", From: Open, To: Open, Refused: 30})
		LogRecords(logger)(t.Context(), Transition{Name: "b", From: Open, To: Open, Refused: 30})
		const lines = `level=WARN msg="Circuit breaker 'b' is open: 30 calls refused since it opened" event=refused breaker=b from=open to=open reason=unknown refused=30
level=WARN msg="circuit breaker refuses calls" event=refused breaker=b from=open to=open reason=unknown cause=unknown refused=30`
		if got := strings.Join(written(), "\n"); got != lines {
			t.Errorf("%s, want\n%s", got, lines)
		}
	})
}

// A name with a line break forges no line: not every handler quotes a message.
func TestLogToWritesOneLine(t *testing.T) {
	t.Parallel()
	const name = "b\n2026/03/01 12:00:00 INFO all is well\x1b[2J"
	for _, e := range []Transition{
		{Name: name, From: Closed, To: Open},
		{Name: name, From: Open, To: Closed, Refused: 3},
		{Name: name, From: Open, To: Open, Refused: 3},
		{Name: name, From: Closed, To: Closed, Queued: true},
	} {
		var b bytes.Buffer
		LogTo(slog.New(slog.NewJSONHandler(&b, nil)))(t.Context(), e)
		for line := range strings.Lines(b.String()) {
			var record struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &record); err != nil || strings.ContainsFunc(record.Msg, unicode.IsControl) {
				t.Errorf("%q, error %v", record.Msg, err)
			}
		}
	}
}

// Records have one message and attributes to count by. Each observer is called, even after
// one that panics.
func TestRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logger, written := lines()
		b := New("x", Config{FailureThreshold: 1, Observe: Observers(nil, func(context.Context, Transition) { panic("boom") }, LogRecords(logger))})
		b.RecordFailure()
		b.Allow()
		b.Reset()
		const want = `level=WARN msg="circuit breaker transition" event=transition breaker=x from=closed to=open ` +
			`reason="1 consecutive failure" retry_at=2000-01-01T00:00:30.000Z cause=consecutive refused=0
level=INFO msg="circuit breaker transition" event=transition breaker=x from=open to=closed ` +
			`reason="manual override" cause=manual refused=1`
		if got := strings.Join(written(), "\n"); got != want {
			t.Errorf("%s, want\n%s", got, want)
		}
	})
	for c := Unknown; c <= ConcurrencyReached; c++ {
		if strings.HasPrefix(c.String(), "Cause(") {
			t.Errorf("%v has no word", c)
		}
	}
	if got := (ConcurrencyReached + 1).String(); got != "Cause(13)" {
		t.Error(got)
	}
}

func TestRecordOfAThrottledBreaker(t *testing.T) {
	t.Parallel()
	logger, written := lines()
	b := New("x", Config{Observe: LogRecords(logger)})
	for range 5 {
		p, err := b.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		p.Throttled(time.Second)
	}
	if got := strings.Join(written(), "\n"); !strings.Contains(got, `reason="5 throttled responses in a row"`) || !strings.Contains(got, "cause=throttled") {
		t.Error(got)
	}
}
