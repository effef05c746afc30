package copying

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/partial"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/patience"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// hasty is a policy with hardly a wait.
func hasty(t *testing.T) policy.Source {
	t.Helper()
	source, _, err := new(policy.Flags).Load([]string{"PERDURE_BASE_DELAY=0.001", "PERDURE_JITTER=0"})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// fetched runs a copy of a page to a file.
func fetched(t *testing.T, page, to string) error {
	t.Helper()
	j := &Job{Source: page, Destination: to, Policy: hasty(t), Breaker: circuit.Config{Observe: func(circuit.Transition) {}}}
	_, err := j.Run(t.Context())
	return err
}

// keep leaves a partial file as a killed run does.
func keep(t *testing.T, page, to string, content []byte, s download.State) {
	t.Helper()
	f, _, err := partial.Open(to, identity(page), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Save(s), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A run that was killed when all was there, but before the file had its name, is
// followed by one that asks for a byte, to know whether it is still the same.
func TestCompleteButNotInstalled(t *testing.T) {
	was, is := bytes.Repeat([]byte("was "), 50_000), bytes.Repeat([]byte("is  "), 50_000)
	for _, c := range []struct {
		name string
		body []byte
		tag  string
		sent int // bytes
	}{
		{"the same", was, `"was"`, 1},
		{"another", is, `"is"`, len(is)},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := 0
			server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
				step := httptestfault.Entity{Body: c.body, ETag: c.tag}.Answer(r)
				sent += len(step.Body)
				return step
			})
			to := filepath.Join(t.TempDir(), "x")
			keep(t, server.URL+"/x", to, was, download.State{ETag: `"was"`, Size: 200_000, Done: []download.Range{{From: 0, To: 200_000}}})
			err := fetched(t, server.URL+"/x", to)
			server.Close()
			if got, _ := os.ReadFile(to); err != nil || !bytes.Equal(got, c.body) {
				t.Errorf("%d other bytes, %v", len(got), err)
			}
			if sent != c.sent || len(server.Requests()) != 1 {
				t.Errorf("%d bytes were sent in %d requests, want %d in one", sent, len(server.Requests()), c.sent)
			}
		})
	}
}

// Of an entity that got shorter nothing of the longer one is left at the end.
func TestShorterEntity(t *testing.T) {
	is := bytes.Repeat([]byte("is"), 1000)
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
		return httptestfault.Entity{Body: is, ETag: `"is"`}.Answer(r)
	})
	defer server.Close()
	to := filepath.Join(t.TempDir(), "x")
	keep(t, server.URL+"/x", to, make([]byte, 300_000), download.State{ETag: `"was"`, Size: 400_000, Done: []download.Range{{From: 0, To: 300_000}}})
	if err := fetched(t, server.URL+"/x", to); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(to); !bytes.Equal(got, is) {
		t.Errorf("%d other bytes, want %d", len(got), len(is))
	}
}

// A digest that the server offers is compared over what two runs have fetched;
// if it differs all of it is fetched anew.
func TestSpoiltPartialFile(t *testing.T) {
	is := []byte("123456789")
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
		return httptestfault.Entity{Body: is, ETag: `"is"`, Header: http.Header{"Repr-Digest": {"md5=:JfnnlDI7RTiF9RgfG2JNCw==:"}}}.Answer(r)
	})
	defer server.Close()
	to := filepath.Join(t.TempDir(), "x")
	keep(t, server.URL+"/x", to, []byte("12x45"), download.State{
		ETag: `"is"`, Size: 9, Done: []download.Range{{From: 0, To: 5}}, Digests: http.Header{"Repr-Digest": {"md5=:JfnnlDI7RTiF9RgfG2JNCw==:"}},
	})
	if err := fetched(t, server.URL+"/x", to); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(to); !bytes.Equal(got, is) {
		t.Errorf("the file has %q, want %q", got, is)
	}
	if got := len(server.Requests()); got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
}

// A server that sends other ranges than it is asked for is asked for the whole.
func TestServerThatLiesAboutRanges(t *testing.T) {
	is := bytes.Repeat([]byte("0123456789"), 1_000_000)
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
		step := httptestfault.Entity{Body: is, ETag: `"is"`}.Answer(r)
		if r.Header.Get("Range") != "" {
			step.Header.Set("Content-Range", "bytes 1-9999999/10000000")
		}
		return step
	})
	defer server.Close()
	to := filepath.Join(t.TempDir(), "x")
	if err := fetched(t, server.URL+"/x", to); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(to); !bytes.Equal(got, is) {
		t.Errorf("%d other bytes", len(got))
	}
}

func TestIdentity(t *testing.T) {
	const page = "https://example.org/a?page=2"
	for _, same := range []string{
		page + "#x", "https://me:secret@example.org/a?page=2",
		"https://example.org/a?X-Amz-Signature=1&page=2&X-Amz-Date=3", "https://example.org/a?Expires=1&page=2&Signature=x",
	} {
		if identity(same) != identity(page) {
			t.Errorf("%s is another entity than %s, want the same", same, page)
		}
	}
	for _, other := range []string{"http://example.org/a?page=2", "https://example.org/b?page=2", "https://example.org/a?page=3", "https://example.org/a?page=2&token=x"} {
		if identity(other) == identity(page) {
			t.Errorf("%s is the same entity as %s, want another", other, page)
		}
	}
}

// What the user has not asked to end is no interruption.
func TestCauseIsTold(t *testing.T) {
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Step {
		return httptestfault.Entity{Body: make([]byte, 1000), ETag: `"is"`}.Answer(r).CutAt(500, httptestfault.Stall)
	})
	defer server.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	j := &Job{
		Source: server.URL, Destination: filepath.Join(t.TempDir(), "x"),
		Progress: func(int64, int64) { cancel(enough) },
	}
	_, err := j.Run(ctx)
	if _, kept := errors.AsType[*keptError](err); !errors.Is(err, enough) || !kept {
		t.Errorf("%v, want %v and what is kept", err, enough)
	}
}

// A body that can't go on because the breaker has opened meanwhile goes on when
// that lets it, and what has come is not fetched again.
func TestBrokenBodyWaitsForTheBreaker(t *testing.T) {
	body := bytes.Repeat([]byte("some"), 100_000)
	refused, sent := 0, 0
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Step {
		step := httptestfault.Entity{Body: body, ETag: `"1"`}.Answer(r)
		switch {
		case n == 1:
			sent += 150_000
			return step.CutAt(150_000, httptestfault.RST)
		case refused < 2:
			refused++
			return httptestfault.Step{Status: http.StatusServiceUnavailable}
		}
		sent += len(step.Body)
		return step
	})
	defer server.Close()
	to := filepath.Join(t.TempDir(), "file")
	j := &Job{
		Source: server.URL + "/page", Destination: to, Patience: &patience.Patience{Longest: time.Minute},
		Policy:  hasty(t),
		Breaker: circuit.Config{FailureThreshold: 2, RecoveryTimeout: 50 * time.Millisecond, Observe: func(circuit.Transition) {}},
	}
	if _, err := j.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d other bytes arrived (%v)", len(got), err)
	}
	if refused != 2 || sent > len(body)+150_000 {
		t.Errorf("%d requests were refused, want the two that open the breaker; %d bytes were sent for %d", refused, sent, len(body))
	}
}
