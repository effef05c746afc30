package retry_test

import (
	"context"
	"math"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/errorspage"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Each class of the page is retried, counted by a breaker and paid for as it says, and its mark gives an error that class.
func TestPageOfClasses(t *testing.T) {
	t.Parallel()
	marks := map[string]func(error) error{
		"`retry.Transient(err)`": retry.Transient, "`retry.Conflict(err)`": retry.Conflict, "`retry.Permanent(err)`": retry.Permanent,
		"`retry.Ignored(err)`": retry.Ignored, "`retry.After(err, wait)`": func(err error) error { return retry.After(err, time.Millisecond) },
		"": func(err error) error { return err },
	}
	attempts := map[string]int{"yes": 3, "yes, after the wait that the server asks for": 3, "no": 1}
	budget := map[string]float64{"1 token": -1, "0": 0, "nothing": 0, "earns 0.2": 0.2} // of a retry, or of what is none
	rows := errorspage.Rows(t, "| class | retried | circuit breaker | budget | mark |")
	if len(rows) != 6 {
		t.Errorf("docs/errors.md has %d classes, want 6", len(rows))
	}
	for _, row := range rows {
		b := breaker(circuit.Config{FailureThreshold: 10, Budget: 10})
		p := retry.Policy{MaxAttempts: 3, BaseDelay: 1, ThrottleDelay: 1, MaxDelay: 1, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
		p.Breaker = b
		for range 20 {
			if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		b.RecordFailure()
		before := b.Metrics().Balance
		mark, ok := marks[row[4]]
		if !ok {
			t.Fatalf("%s: no test for the mark %q", row[0], row[4])
		}
		f, made := always(mark(errDown))
		_ = retry.Do(t.Context(), &p, f)
		if want, ok := attempts[row[1]]; !ok || made.n != want {
			t.Errorf("%s: %d attempts; docs/errors.md says %q", row[0], made.n, row[1])
		}
		failures := map[string]int{"failure": 1 + made.n, "failures in a row of their own": 1, "nothing": 1, "success": 0}
		if want, ok := failures[strings.Split(row[2], ":")[0]]; !ok || b.Metrics().Failures != want {
			t.Errorf("%s: the breaker knows of %d failures; docs/errors.md says %q", row[0], b.Metrics().Failures, row[2])
		}
		paid := (b.Metrics().Balance - before) / float64(max(made.n-1, 1))
		if want, ok := budget[row[3]]; !ok || math.Abs(paid-want) > 1e-9 {
			t.Errorf("%s: %v of the budget; docs/errors.md says %q", row[0], paid, row[3])
		}
		if got, _ := p.ClassOf(mark(errDown)); got != named(t, row[0]) {
			t.Errorf("%s makes an error %v, and %s on the page", row[4], got, row[0])
		}
	}
}

// Each entry of the lists names, in either list, what the page says.
func TestPageOfEntries(t *testing.T) {
	t.Parallel()
	samples := map[string][]error{
		"`timeout`": {context.DeadlineExceeded, os.ErrDeadlineExceeded}, "`connection`": {syscall.ECONNREFUSED, syscall.ECONNRESET},
		"`throttled`, `conflict`": {&coded{code: "SlowDown"}, sqlError("40P01")}, "`default`": {&coded{status: 500}, syscall.EPIPE},
		"`503`, `4xx`, `5xx`": {&coded{status: 503}, &coded{status: 418}, &coded{status: 501}},
		"`40001`":             {sqlError("40001")}, "`SlowDown`": {&coded{code: "SlowDown", status: 503}},
	}
	for _, row := range errorspage.Rows(t, "| entry | names |") {
		errs, ok := samples[row[0]]
		if !ok {
			t.Errorf("no test for %s", row[0])
		}
		delete(samples, row[0])
		entries := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[0], -1)
		for _, err := range errs {
			named := 0
			for _, entry := range entries {
				if tried(t, err, []string{entry[1]}, nil) {
					named++
				}
				if entry[1] != "default" && tried(t, err, []string{entry[1]}, []string{entry[1]}) {
					t.Errorf("ignore_on %s does not name %v", entry[1], err)
				}
			}
			if named == 0 {
				t.Errorf("retry_on %s does not name %v", row[0], err)
			}
		}
		for _, entry := range entries {
			if tried(t, errDown, []string{entry[1]}, nil) {
				t.Errorf("%s names an error that no rule knows", entry[1])
			}
		}
	}
	for left := range samples {
		t.Errorf("docs/errors.md lacks %s", left)
	}
}

// tried reports whether err is retried under these lists.
func tried(t *testing.T, err error, retryOn, ignoreOn []string) bool {
	t.Helper()
	p := retry.Policy{MaxAttempts: 2, BaseDelay: 1, ThrottleDelay: 1, MaxDelay: 1, Jitter: retry.NoJitter, RetryOn: retryOn, IgnoreOn: ignoreOn, Observe: func(context.Context, retry.Event) {}}
	f, made := always(err)
	_ = retry.Do(t.Context(), &p, f)
	return made.n == 2
}

// What the page says is refused in the lists is, and the rest that it says of words and codes.
func TestPageOfRefusals(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "Anything else is refused, with the nearest word: ")
	refused, _, _ := strings.Cut(text, ". ")
	entries := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(refused, -1)
	if !found || len(entries) < 4 {
		t.Fatalf("docs/errors.md no longer says what is refused: %q", refused)
	}
	for _, entry := range entries {
		p := retry.Policy{RetryOn: entry[1:]}
		if p.Validate() == nil {
			t.Errorf("%s is allowed", entry[1])
		}
	}
}
