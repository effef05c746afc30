//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A measured proxy is a process.
type measured struct {
	pid int
	url string
}

// cpu returns the processor time that the process has used.
func (m measured) cpu(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory returns the process's resident memory in MiB.
func (m measured) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kib := 0
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// exchange sends one request, and returns how long it took.
func (m measured) exchange(t *testing.T, method, path string, body io.Reader) time.Duration {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, m.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return time.Since(begin)
}

// startBoth starts both proxies in front of a server of 1 KiB, of 256 MiB, and of a sink.
func startBoth(t *testing.T) (bare, perdure measured) {
	t.Helper()
	small, piece := bytes.Repeat([]byte("x"), 1<<10), bytes.Repeat([]byte("x"), 1<<20)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"one"`)
		if r.URL.Path != "/large" {
			_, _ = w.Write(small)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(256<<20))
		for range 256 {
			_, _ = w.Write(piece)
		}
	}))
	t.Cleanup(upstream.Close)
	c, at, _ := startProxy(t, upstream.URL)
	perdure = measured{c.Process.Pid, at}
	self := command(t, nil)
	link := strings.TrimSuffix(self.Path, "perdure") + "bareproxy"
	if err := os.Symlink(self.Path, link); err != nil {
		t.Fatal(err)
	}
	log := new(text)
	b := exec.CommandContext(t.Context(), link, upstream.URL)
	b.Stderr = log
	start(t, b)
	eventually(t, "the bare proxy serves", func() bool { return servingAt.MatchString(log.String()) })
	return measured{b.Process.Pid, "http://" + servingAt.FindStringSubmatch(log.String())[1]}, perdure
}

// The proxy's cost beside a bare ReverseProxy, in turn. docs/proxy.md has the figures; make long runs it.
func TestProxyFigures(t *testing.T) {
	if os.Getenv("PERDURE_TEST_LONG") == "" {
		t.Skip("it takes minutes: see make long")
	}
	bare, perdure := startBoth(t)
	both := []measured{bare, perdure}
	var p50 [2]time.Duration
	var took [2][]time.Duration
	for range 40 {
		for i, m := range both {
			for range 100 {
				took[i] = append(took[i], m.exchange(t, http.MethodGet, "/", nil))
			}
		}
	}
	for i := range both {
		slices.Sort(took[i])
		p50[i] = took[i][len(took[i])/2]
	}
	cost := func(times int, each func(measured)) (used [2]time.Duration) {
		for range times {
			for i, m := range both {
				before := m.cpu(t)
				each(m)
				used[i] += m.cpu(t) - before
			}
		}
		return used
	}
	downloads := cost(6, func(m measured) { m.exchange(t, http.MethodGet, "/large", nil) })
	body := bytes.Repeat([]byte("x"), 64<<20)
	uploads := cost(12, func(m measured) { m.exchange(t, http.MethodPut, "/", struct{ io.Reader }{bytes.NewReader(body)}) })
	for _, row := range []struct {
		what string
		of   [2]time.Duration
		most float64
	}{{"p50 of a 1 KiB GET", p50, 1.2}, {"CPU of downloads of 256 MiB", downloads, 1.2}, {"CPU of spooled uploads of 64 MiB", uploads, 3}} {
		ratio := float64(row.of[1]) / float64(row.of[0])
		t.Logf("%s: bare %v, perdure %v: %.2f times", row.what, row.of[0], row.of[1], ratio)
		if ratio > row.most {
			t.Errorf("%s: more than %.1f times", row.what, row.most)
		}
	}
}

// Under 200 clients for two minutes, the proxy's memory does not grow.
func TestProxyDoesNotGrow(t *testing.T) {
	if os.Getenv("PERDURE_TEST_LONG") == "" {
		t.Skip("it takes minutes: see make long")
	}
	_, perdure := startBoth(t)
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 256
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var done atomic.Int64
	var clients sync.WaitGroup
	for range 200 {
		clients.Go(func() {
			for ctx.Err() == nil {
				perdure.exchange(t, http.MethodGet, "/", nil)
				done.Add(1)
			}
		})
	}
	var sizes []int
	quarter := time.NewTicker(30 * time.Second)
	defer quarter.Stop()
	for range 3 {
		<-quarter.C
		sizes = append(sizes, perdure.memory(t))
	}
	clients.Wait()
	sizes = append(sizes, perdure.memory(t))
	t.Logf("%d requests; memory in MiB after each 30 s: %v", done.Load(), sizes)
	if sizes[3] > sizes[0]*5/4+8 {
		t.Error("the memory grows:", sizes)
	}
}
