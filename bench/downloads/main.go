// Command downloads shows what clients do with a server that cuts its responses: this library, its peers, and curl.
//
//	go run ./downloads [-n 1000] [-slow 40] [-seed n]
//
// Every response of more than 1,000 bytes is cut at random, by an end or a reset of the connection. In the second table
// the resource is replaced by another one of the same length after half of the cuts. A client can end with the whole
// resource, with an error, or, worst, with wrong bytes and no error.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	n := flag.Int("n", 1000, "downloads by each library")
	slow := flag.Int("slow", 40, "downloads by each command, which waits a second before it tries again")
	seed := flag.Uint64("seed", 1, "of the cuts")
	flag.Parse()
	if err := run(os.Stdout, *n, *slow, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "downloads:", err)
		os.Exit(1)
	}
}

// run writes both tables.
func run(w io.Writer, n, slow int, seed uint64) (err error) {
	dir, err := os.MkdirTemp("", "perdure-downloads-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, replaced := range []bool{false, true} {
		title := "every response of more than 1,000 bytes is cut"
		if replaced {
			title = "and after half of the cuts the resource is replaced"
		}
		fmt.Fprintf(w, "%s\n", title)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprint(table, "\tdownloads\tidentical\terror\twrong, no error\trequests each\t\n")
		for _, c := range clients(dir) {
			runs := n
			if c.command {
				runs = slow
			}
			t, err := tallyOf(c, runs, seed, replaced)
			if errors.Is(err, exec.ErrNotFound) {
				fmt.Fprintf(table, "%s\tnot installed\t\t\t\t\t\n", c.name)
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%.1f\t\n", c.name, runs, t.identical, t.failed, t.wrong, float64(t.requests)/float64(runs))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return nil
}

// A client downloads a URL.
type client struct {
	name    string
	command bool // a process, which is slow
	get     func(ctx context.Context, url string, n int) ([]byte, error)
}

func clients(dir string) []client {
	return []client{
		{name: "perdure", get: by(perdure)},
		{name: "perdure, to a file", get: toFile(dir)},
		{name: "hashicorp", get: by(func(base http.RoundTripper) http.RoundTripper {
			c := retryablehttp.NewClient()
			c.HTTPClient.Transport, c.Logger = base, nil
			c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = 5, time.Millisecond, time.Millisecond
			return &retryablehttp.RoundTripper{Client: c}
		})},
		{name: "failsafe-go", get: by(func(base http.RoundTripper) http.RoundTripper {
			return failsafehttp.NewRoundTripper(base, failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(5).Build()) //nolint:bodyclose // a policy
		})},
		{name: "net/http", get: by(func(base http.RoundTripper) http.RoundTripper { return base })},
		{name: "curl --retry", command: true, get: command(dir, "curl", "--silent", "--retry", "5", "--retry-delay", "1", "--retry-all-errors", "--output", "FILE", "URL")},
		{name: "curl --retry -C -", command: true, get: command(dir, "curl", "--silent", "--retry", "5", "--retry-delay", "1", "--retry-all-errors", "--continue-at", "-", "--output", "FILE", "URL")},
		{name: "wget -c", command: true, get: command(dir, "wget", "--quiet", "--continue", "--tries", "6", "--waitretry", "1", "--output-document", "FILE", "URL")},
	}
}

// perdure returns our transport.
func perdure(base http.RoundTripper) http.RoundTripper {
	policy := retry.Policy{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	return httpretry.NewTransport(base, httpretry.Options{Policy: &policy, OnResume: func(httpretry.Resumption) {}})
}

// toFile returns our client that downloads into a file.
func toFile(dir string) func(context.Context, string, int) ([]byte, error) {
	return func(ctx context.Context, url string, n int) ([]byte, error) {
		base := &http.Transport{}
		defer base.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, fmt.Sprint("perdure", n))
		if _, err := download.File(req, path, download.Options{Client: &http.Client{Transport: perdure(base)}}); err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	}
}

// by returns a client of net/http with a transport.
func by(transport func(base http.RoundTripper) http.RoundTripper) func(context.Context, string, int) ([]byte, error) {
	return func(ctx context.Context, url string, _ int) ([]byte, error) {
		base := &http.Transport{}
		defer base.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil, err
		}
		res, err := (&http.Client{Transport: transport(base)}).Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		return io.ReadAll(res.Body)
	}
}

// command returns a client that is a process; FILE and URL in its arguments are replaced.
func command(dir, name string, args ...string) func(context.Context, string, int) ([]byte, error) {
	return func(ctx context.Context, url string, n int) ([]byte, error) {
		file := filepath.Join(dir, fmt.Sprint(name, n))
		filled := make([]string, len(args))
		for i, arg := range args {
			switch arg {
			case "FILE":
				arg = file
			case "URL":
				arg = url
			}
			filled[i] = arg
		}
		if err := exec.CommandContext(ctx, name, filled...).Run(); err != nil {
			return nil, err
		}
		return os.ReadFile(file)
	}
}

// A tally counts how downloads ended.
type tally struct{ identical, failed, wrong, requests int }

// tallyOf runs the downloads, several at a time.
func tallyOf(c client, runs int, seed uint64, replaced bool) (tally, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var all tally
	var missing error
	var group sync.WaitGroup
	turns := make(chan struct{}, 10)
	for n := range runs {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			s := newServer(rand.New(rand.NewPCG(seed, uint64(n))), replaced)
			defer s.Close()
			got, err := c.get(ctx, s.URL, n)
			mu.Lock()
			defer mu.Unlock()
			all.requests += len(s.Requests())
			switch {
			case errors.Is(err, exec.ErrNotFound):
				missing = err
			case err != nil:
				all.failed++
			case s.whole[sha256.Sum256(got)]:
				all.identical++
			default:
				all.wrong++
			}
		})
	}
	group.Wait()
	return all, missing
}

// A server cuts its responses.
type server struct {
	*httptestfault.Server
	whole map[[sha256.Size]byte]bool // the sums of its versions
}

func newServer(random *rand.Rand, replaced bool) server {
	var versions []httptestfault.Resource
	whole := map[[sha256.Size]byte]bool{}
	size := 5_000 + random.IntN(50_000)
	for v := range 3 {
		body := bytes.Repeat([]byte(fmt.Sprintf("%d%08x ", v, random.Uint32())), size/10+1)[:size]
		versions = append(versions, httptestfault.Resource{
			Body: body, ETag: fmt.Sprintf("%q", fmt.Sprint("v", v)),
			LastModified: time.Date(2026, 1, 1+v, 0, 0, 0, 0, time.UTC),
		})
		whole[sha256.Sum256(body)] = true
	}
	return server{whole: whole, Server: httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		step := versions[0].Respond(r)
		if len(step.Body) <= 1000 {
			return step
		}
		step.Late = time.Millisecond // so that a reset does not overtake the head
		if replaced && random.IntN(2) == 0 && len(versions) > 1 {
			versions = versions[1:]
		}
		return step.With(httptestfault.Fault{Kind: httptestfault.Cut, Bytes: 1 + random.IntN(len(step.Body)-1), RST: random.IntN(2) == 1})
	})}
}
