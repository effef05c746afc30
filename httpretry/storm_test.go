package httpretry_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

const (
	herd  = 2000
	asked = 30 * time.Second
)

// returns sends Retry-After: 30 to all clients of a herd at once, and returns the instants of their next requests, and how
// many made none because a circuit breaker was open.
func returns(t *testing.T, client func(base http.RoundTripper) http.RoundTripper) (after []time.Duration, refused int64) {
	t.Helper()
	var refusals atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		server := httptestfault.NewInMemory(func(_ int, _ *http.Request) httptestfault.Response {
			if time.Since(start) < asked {
				return httptestfault.Response{Status: 429, Header: http.Header{"Retry-After": {"30"}}, Delay: time.Millisecond}
			}
			return ok
		})
		defer server.Close()
		base := server.Transport()
		base.MaxConnsPerHost = 50
		defer base.CloseIdleConnections()
		var clients sync.WaitGroup
		for range herd {
			transport := client(base)
			clients.Go(func() {
				code, _, err := get(t, transport, server.URL)
				if _, open := errors.AsType[*circuit.OpenError](err); open {
					refusals.Add(1)
				} else if code != 200 || err != nil {
					t.Errorf("%d, %v; want 200", code, err)
				}
			})
		}
		clients.Wait()
		for _, r := range server.Requests() {
			if at := r.At.Sub(start); at >= time.Second { // before that all come for the first time
				after = append(after, at)
			}
		}
	})
	return after, refusals.Load()
}

// A herd that gets Retry-After: 30 returns neither early nor all at once. Clients of one process share a breaker, which lets
// one probe through first: clients that return meanwhile are refused.
func TestStormManners(t *testing.T) {
	policy := retry.APICall()
	policy.Observe = func(context.Context, retry.Event) {}
	shared := map[string]*httpretry.Transport{}
	for name, client := range map[string]func(http.RoundTripper) http.RoundTripper{
		"2000 processes": func(base http.RoundTripper) http.RoundTripper {
			return httpretry.NewTransport(base, httpretry.Options{Policy: &policy})
		},
		"one process": func(base http.RoundTripper) http.RoundTripper {
			if shared["one"] == nil {
				shared["one"] = httpretry.NewTransport(base, httpretry.Options{Policy: &policy, Breakers: &circuit.Config{Observe: func(context.Context, circuit.Transition) {}}})
			}
			return shared["one"]
		},
	} {
		t.Run(name, func(t *testing.T) {
			after, refused := returns(t, client)
			perSecond := map[int]int{}
			for _, at := range after {
				if at < asked {
					t.Errorf("a client came back after %v", at)
				}
				perSecond[int(at/time.Second)]++
			}
			busiest := 0
			for _, n := range perSecond {
				busiest = max(busiest, n)
			}
			if len(after) != herd-int(refused) || refused > herd/20 || busiest > herd/4 {
				t.Errorf("%d came back, %d of them in one second, and %d were refused: %v", len(after), busiest, refused, perSecond)
			}
			t.Logf("%d in the busiest second, %d refused: %v", busiest, refused, perSecond)
			if name == "2000 processes" && os.Getenv("PERDURE_UPDATE") != "" {
				draw(t, filepath.Join("..", "docs", "retry-after.svg"), perSecond)
			}
		})
	}
}

// draw writes the picture of the documentation.
func draw(t *testing.T, path string, perSecond map[int]int) {
	t.Helper()
	const left, bottom, wide, high = 50, 230, 14, 200
	var svg strings.Builder
	text := func(x, y int, anchor, s string) {
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="%s">`, x, y, anchor)
		if err := xml.EscapeText(&svg, []byte(s)); err != nil {
			t.Fatal(err)
		}
		svg.WriteString("</text>\n")
	}
	svg.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 290" font-family="sans-serif" font-size="12">` + "\n")
	svg.WriteString(`<rect width="680" height="290" fill="white"/>` + "\n")
	text(left, 20, "start", fmt.Sprintf("%d clients, told Retry-After: 30 at 0 s: requests in each second", herd))
	for second := range 42 {
		x := left + second*wide
		if n := perSecond[second]; n > 0 {
			h := n * high / 400
			fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%d" height="%d" fill="#2b6cb0"/>`+"\n", x+1, bottom-h, wide-2, h)
		}
		if second%5 == 0 {
			text(x, bottom+18, "middle", fmt.Sprint(second, " s"))
		}
	}
	for n := 0; n <= 400; n += 100 {
		y := bottom - n*high/400
		fmt.Fprintf(&svg, `<path d="M%d %dH640" stroke="#ccc"/>`+"\n", left, y)
		text(left-6, y+4, "end", fmt.Sprint(n))
	}
	fmt.Fprintf(&svg, `<path d="M%d %dV40" stroke="#c53030" stroke-dasharray="4"/>`+"\n", left+30*wide, bottom)
	text(left+30*wide-4, 52, "end", "none before this")
	text(left, 275, "start", fmt.Sprintf("Without the spread all %d would come in second 30: a bar five times as high as this picture.", herd))
	svg.WriteString("</svg>\n")
	if err := os.WriteFile(path, []byte(svg.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
