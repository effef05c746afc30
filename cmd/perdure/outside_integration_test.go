//go:build integration && unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// The files outside_* judge copy from outside: they run the command as a
// process, against real servers, and look at its code, what it says, and what is
// there afterwards. They know nothing of how it is made.

// mostMemory is what a process may have, whatever a server sends: a page of a
// listing may have 64 MiB of small keys.
const mostMemory = 1 << 30

// An ending is how a process ended.
type ending struct {
	code     int // -1: it was killed, because it hung or took too much memory
	out, log string
	memory   int64 // the most that it had; 0 where the system does not say
}

// String is for messages of failed tests.
func (e ending) String() string { return fmt.Sprintf("exit code %d, it says\n%.1500s", e.code, e.log) }

// copyEnds runs copy and returns how that ended.
func copyEnds(t *testing.T, environ []string, args ...string) ending {
	t.Helper()
	return endOf(t, command(t, environ, append([]string{"copy"}, args...)...))
}

// endOf runs c to its end. It is an error if that does not come within
// servertest.Limit, if c crashes, or if it takes more than mostMemory.
func endOf(t *testing.T, c *exec.Cmd) (e ending) {
	t.Helper()
	var out, said bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &out
	}
	c.Stderr, c.WaitDelay = &said, servertest.Limit // for the rest of the output
	ended := make(chan struct{})
	start(t, c)
	ctx, stop := context.WithTimeout(t.Context(), servertest.Limit)
	go func() { _ = c.Wait(); close(ended); stop() }()
	servertest.Repeat(ctx, func() {
		if e.memory = max(e.memory, memoryOf(c)); e.memory > mostMemory {
			stop()
		}
	})
	if e.memory <= mostMemory && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		<-ended
		e.code, e.out, e.log = c.ProcessState.ExitCode(), out.String(), said.String()
		if strings.Contains(e.log, "goroutine ") {
			t.Errorf("%q crashed: %v", c.Args[1:], e)
		}
		return e
	}
	_ = c.Process.Kill()
	<-ended
	e.code, e.out, e.log = -1, out.String(), said.String()
	t.Errorf("%q does not end, or takes too much memory: %d MiB; %v", c.Args[1:], e.memory>>20, e)
	return e
}

func memoryOf(c *exec.Cmd) (most int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	if _, after, ok := strings.Cut(string(text), "VmHWM:"); ok {
		_, _ = fmt.Sscan(after, &most)
	}
	return most << 10
}

// A front is a server of which the test decides each response. What the test leaves
// continues to the store behind it.
type front struct {
	*httptest.Server

	behind http.Handler // the store

	mu       sync.Mutex
	response func(w http.ResponseWriter, r *http.Request) bool // it reports whether it has responded; guarded by mu
	asked    []*http.Request                                   // without their bodies; guarded by mu
}

// startFront starts a server before a store; "" is none, and what the test does
// not response is not found.
func startFront(t *testing.T, store string, response func(http.ResponseWriter, *http.Request) bool) *front {
	t.Helper()
	f := &front{response: response}
	f.Server = httptest.NewServer(f.handler(t, store))
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

func (f *front) handler(t *testing.T, store string) http.Handler {
	t.Helper()
	target, err := url.Parse(store)
	if err != nil {
		t.Fatal(err)
	}
	f.behind = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorLog:     log.New(new(bytes.Buffer), "", 0), // of processes that were killed
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	if store == "" {
		f.behind = http.NotFoundHandler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.Clone(r.Context()))
		response := f.response
		f.mu.Unlock()
		if response == nil || !response(w, r) {
			f.behind.ServeHTTP(w, r)
		}
	})
}

// responses makes another function respond from now on.
func (f *front) responses(response func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.response = response
}

// requests returns those so far.
func (f *front) requests() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// page responds with content as a good server does.
func page(w http.ResponseWriter, r *http.Request, content []byte) bool {
	w.Header().Set("ETag", fmt.Sprintf(`"%d-%x"`, len(content), content[:min(len(content), 8)]))
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	return true
}

// endless writes text until the client leaves, or a GiB is sent; with a gap, one
// piece each time.
func endless(w http.ResponseWriter, r *http.Request, text string, gap time.Duration) {
	tick := time.NewTicker(max(gap, time.Nanosecond))
	defer tick.Stop()
	piece := []byte(text)
	if gap == 0 {
		piece = bytes.Repeat(piece, 1<<16/len(piece)+1)
	}
	for sent := 0; sent < 1<<30; sent += len(piece) {
		if gap > 0 {
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
		if _, err := w.Write(piece); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
	}
}
