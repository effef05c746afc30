package retry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/errorspage"
	"github.com/seed-0f2c7998/perdure/internal/neterr/neterrtest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// named returns the class of that name.
func named(t *testing.T, name string) retry.Class {
	t.Helper()
	for c := range retry.Class(6) {
		if c.String() == name {
			return c
		}
	}
	t.Fatalf("docs/errors.md has a class %q", name)
	return 0
}

// Each status of the page has the class that it says, and no status is missing.
func TestPageOfStatuses(t *testing.T) {
	t.Parallel()
	next := 100
	for _, row := range errorspage.Rows(t, "| status | class |") {
		from, to, isRange := strings.Cut(row[0], "-")
		low, _ := strconv.Atoi(from)
		high := low
		if isRange {
			high, _ = strconv.Atoi(to)
		}
		if low != next {
			t.Errorf("status %d comes after %d", low, next-1)
		}
		for status := low; status <= high; status++ {
			if got := retry.StatusClass(status); got != named(t, row[1]) {
				t.Errorf("status %d is %v, and %s on the page", status, got, row[1])
			}
			if got, _ := new(retry.Policy).ClassOf(&coded{status: status}); got != named(t, row[1]) {
				t.Errorf("an error with status %d is %v, and %s on the page", status, got, row[1])
			}
		}
		next = high + 1
	}
	if next != 600 {
		t.Errorf("the page ends with status %d", next-1)
	}
}

// Each code and SQLSTATE of the page has the class that it says, in each spelling, and the code knows no other.
func TestPageOfCodes(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../internal/class/tables.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range errorspage.Rows(t, "| class | codes |") {
		for code := range strings.FieldsSeq(row[1]) {
			listed = append(listed, code)
			classes(t, &retry.Policy{}, named(t, row[0]), &coded{code: code}, &coded{code: code, status: 404})
			if !strings.HasSuffix(code, "Exception") {
				classes(t, &retry.Policy{}, named(t, row[0]), &coded{code: code + "Exception"}, &coded{code: code + "Error"})
			}
		}
	}
	for _, row := range errorspage.Rows(t, "| class | SQLSTATE |") {
		for state := range strings.FieldsSeq(row[1]) {
			listed = append(listed, state)
			classes(t, &retry.Policy{}, named(t, row[0]), sqlError((state + "006")[:5]))
		}
	}
	for _, literal := range regexp.MustCompile(`"([A-Z0-9][A-Za-z0-9]+)"`).FindAllStringSubmatch(string(source), -1) {
		if code := literal[1]; code != "Exception" && code != "Error" && code != "503" && !slices.Contains(listed, code) {
			t.Errorf("docs/errors.md lacks %s", code)
		}
	}
	classes(t, &retry.Policy{}, unknown, sqlError("57014"), sqlError("XX000"), sqlError("40003"), sqlError(""), sqlError("4000"))
}

// Each network error on the page has the class that the page says, as net/http returns it.
func TestPageOfTheNetwork(t *testing.T) {
	t.Parallel()
	samples := neterrtest.Samples(t)
	for _, row := range errorspage.Rows(t, "| error | class |") {
		err, ok := samples[row[0]]
		if !ok {
			t.Errorf("no test for %q", row[0])
			continue
		}
		delete(samples, row[0])
		want := named(t, row[1])
		if got, _ := new(retry.Policy).ClassOf(fmt.Errorf("x: %w", err)); got != want {
			t.Errorf("%s: %v is %v, and %v on the page", row[0], err, got, want)
		}
		p := retry.Policy{MaxAttempts: 2, BaseDelay: 1, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
		f, made := always(err)
		if _ = retry.Do(t.Context(), &p, f); (made.n == 2) != (want == transient) {
			t.Errorf("%s: %d attempts", row[0], made.n)
		}
	}
	for left := range samples {
		t.Errorf("docs/errors.md lacks %q", left)
	}
}

// retry.Do around plain net/http: a server that closes the connection used to get one attempt, and was healthy for the
// breaker.
func TestDoAroundPlainHTTP(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) < 3 {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
		}
	}))
	defer server.Close()
	b := breaker(circuit.Config{FailureThreshold: 2})
	p := retry.Policy{BaseDelay: 1, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	fetch := func(address string) func(context.Context) error {
		return func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader("x"))
			if err != nil {
				return err
			}
			res, err := server.Client().Do(req)
			if err != nil {
				return err
			}
			return res.Body.Close()
		}
	}
	if err := retry.Do(t.Context(), &p, fetch(server.URL)); err != nil || requests.Load() != 3 {
		t.Errorf("%d requests, %v; want the third to succeed", requests.Load(), err)
	}
	requests.Store(0)
	p.Breaker = b
	if err := retry.Do(t.Context(), &p, fetch(server.URL)); b.State() != circuit.Open || requests.Load() != 2 {
		t.Errorf("after %d requests the breaker is %v: %v", requests.Load(), b.State(), err)
	}
	for _, address := range []string{"gopher://" + server.Listener.Addr().String(), "http://", "http:///x", "http://[::1", "https://" + server.Listener.Addr().String()} {
		attempts := 0
		q := retry.Policy{BaseDelay: 1, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
		err := retry.Do(t.Context(), &q, func(ctx context.Context) error { attempts++; return fetch(address)(ctx) })
		if attempts != 1 || err == nil {
			t.Errorf("%s: %d attempts, %v", address, attempts, err)
		}
	}
}

// An error of net/http that has neither a type nor a value of its own is unknown: it gets one attempt.
func TestDoAroundPlainHTTPUnknown(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	idle := neterrtest.NewIdleCloser(t)
	for name, tt := range map[string]struct {
		url  string
		base http.RoundTripper
		is   func(error) bool
	}{
		"HTTP where TLS should be": {
			strings.Replace(plain.URL, "http:", "https:", 1), plain.Client().Transport, func(err error) bool { return errors.Is(err, http.ErrSchemeMismatch) },
		},
		"the server closed an idle connection": {
			idle.URL, idle, func(err error) bool { return strings.HasSuffix(err.Error(), "http: server closed idle connection") },
		},
	} {
		p := retry.Policy{MaxAttempts: 3, BaseDelay: 1, Jitter: retry.NoJitter, Breaker: errorspage.Breaker(), Observe: func(context.Context, retry.Event) {}}
		attempts := 0
		err := retry.Do(t.Context(), &p, func(ctx context.Context) error {
			attempts++
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, tt.url, strings.NewReader("x"))
			if err != nil {
				return err
			}
			res, err := (&http.Client{Transport: tt.base}).Do(req)
			if err == nil {
				res.Body.Close()
			}
			return err
		})
		if err == nil || !tt.is(err) {
			t.Errorf("%s: %v", name, err)
		}
		errorspage.Check(t, name, "unknown", errorspage.Seen(attempts, p.Breaker))
	}
}
