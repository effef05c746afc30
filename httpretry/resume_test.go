package httpretry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A cutter serves a resource and cuts every response at random; after some cuts the resource changes.
type cutter struct {
	random   *rand.Rand
	versions []httptestfault.Resource // one after the other; the last stays
	replace  float64                  // chance that a cut is followed by the next version
	refuse   float64                  // chance of a 503
	requests int
}

func (c *cutter) script(_ int, r *http.Request) httptestfault.Response {
	c.requests++
	if c.random.Float64() < c.refuse {
		return httptestfault.Response{Status: 503}
	}
	step := c.versions[0].Respond(r)
	step.Framing = httptestfault.Framing(c.random.IntN(2))
	if step.Framing == httptestfault.Chunked {
		step.Header.Del("Content-Length")
	}
	if size := len(step.Body); size > 0 && c.random.IntN(20) > 0 {
		step.Fault = httptestfault.Fault{Kind: httptestfault.Cut, Bytes: c.random.IntN(size + 1), RST: c.random.IntN(2) == 1}
		if c.random.Float64() < c.replace && len(c.versions) > 1 {
			c.versions = c.versions[1:]
		}
	}
	return step
}

// stubborn is a policy for servers that cut nearly every response: fifty attempts without progress, microseconds apart.
func stubborn() *retry.Policy {
	p := quick()
	p.MaxAttempts, p.BaseDelay, p.MaxDelay = 50, 10*time.Microsecond, 20*time.Microsecond
	return p
}

func randomBody(random *rand.Rand, size int) []byte {
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte(fmt.Appendf(nil, "%032d", random.Uint64()))).Read(body) // never fails
	return body
}

// download reads a resource the way a careful user does.
func download(t *testing.T, transport http.RoundTripper, url string) (got []byte, header http.Header, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	got, err = io.ReadAll(res.Body)
	return got, res.Header, err
}

func TestRandomCuts(t *testing.T) {
	downloads := 1000
	if testing.Short() {
		downloads = 50
	}
	defer checkLeaks(t)
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 1))
	resumed := 0
	for n := range downloads {
		resource := httptestfault.Resource{Body: randomBody(random, 1+random.IntN(20_000)), ETag: fmt.Sprintf("%q", fmt.Sprint(n))}
		if n%3 == 1 {
			resource.ETag, resource.LastModified = "", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		}
		c := cutter{random: random, versions: []httptestfault.Resource{resource}, refuse: 0.1}
		server := httptestfault.New(c.script)
		base := server.Transport()
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: stubborn(), OnResume: func(httpretry.Resumption) { resumed++ }})
		got, _, err := download(t, transport, server.URL)
		if err != nil || !bytes.Equal(got, resource.Body) {
			t.Errorf("seed %d, download %d: %d of %d bytes, %v", seed, n, len(got), len(resource.Body), err)
		}
		base.CloseIdleConnections()
		server.Close()
	}
	t.Logf("%d downloads, %d resumptions", downloads, resumed)
}

// A body whose resource is replaced ends in an error, and all bytes read are of the first version.
func TestReplacedResources(t *testing.T) {
	downloads := 500
	if testing.Short() {
		downloads = 50
	}
	defer checkLeaks(t)
	seed := testseed.Of(t, 1)
	random := rand.New(rand.NewPCG(seed, 2))
	whole, changed := 0, 0
	for n := range downloads {
		size := 1000 + random.IntN(20_000)
		var versions []httptestfault.Resource
		for v := range 3 {
			versions = append(versions, httptestfault.Resource{Body: randomBody(random, size), ETag: fmt.Sprintf("%q", fmt.Sprint(n, v))})
		}
		c := cutter{random: random, versions: versions, replace: 0.5}
		server := httptestfault.New(c.script)
		base := server.Transport()
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: stubborn(), OnResume: func(httpretry.Resumption) {}})
		got, header, err := download(t, transport, server.URL)
		of := []byte(nil)
		for _, v := range versions {
			if header.Get("ETag") == v.ETag {
				of = v.Body
			}
		}
		switch {
		case !bytes.HasPrefix(of, got):
			t.Errorf("seed %d, download %d: a splice", seed, n)
		case err == nil && len(got) == size:
			whole++
		case errors.Is(err, httpretry.ErrChanged):
			changed++
		default:
			t.Errorf("seed %d, download %d: %d of %d bytes, %v", seed, n, len(got), size, err)
		}
		base.CloseIdleConnections()
		server.Close()
	}
	t.Logf("%d downloads: %d whole, %d told that the resource changed", downloads, whole, changed)
}

// To resume a body is no retry: it continues regardless of RetryOn, also if the rest does not come at once.
func TestResumeWhateverRetryOnChooses(t *testing.T) {
	fin := with(httptestfault.CutBody(7))
	reset := instead(httptestfault.Response{Fault: httptestfault.Reset()})
	stall := with(httptestfault.StallBody(2))
	var rows []row
	for _, list := range [][]string{{"Mine"}, {"404"}, {"throttled"}} {
		only := func(p *retry.Policy) { p.RetryOn = list }
		for name, changes := range map[string][]change{
			"cut":             {fin},
			"cut, then reset": {fin, reset},
			"cut, then busy":  {fin, instead(status(503)), instead(status(429))},
			"cut, then again": {fin, with(httptestfault.CutBody(0)), stall, fin},
		} {
			rows = append(rows, row{
				name: fmt.Sprint(list, " ", name), policy: only, options: httpretry.Options{StallTimeout: 40 * time.Millisecond},
				script: altered(versioned(), changes...), status: 200, body: text,
			})
		}
	}
	runRows(t, rows)
}
