//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A text is written by a process and read while it runs.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

var servingAt = regexp.MustCompile(`Serving (\S+:\d+)`)

// serveProxy starts perdure proxy on a free port. It returns the process, its URL and its log.
func serveProxy(t *testing.T, args ...string) (c *exec.Cmd, url string, log *text) {
	t.Helper()
	return serveProxyIn(t, nil, args...)
}

// serveProxyIn is serveProxy in an environment.
func serveProxyIn(t *testing.T, environ []string, args ...string) (c *exec.Cmd, url string, log *text) {
	t.Helper()
	log = new(text)
	c = command(t, environ, append([]string{"proxy", "--listen", "127.0.0.1:0"}, args...)...)
	c.Stderr = log
	start(t, c)
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	})
	eventually(t, "the proxy serves", func() bool { return servingAt.MatchString(log.String()) })
	return c, "http://" + servingAt.FindStringSubmatch(log.String())[1], log
}

// Each upstream has the policy that the file or --to names, over --policy, and the settings of flags; those of one server
// share its circuit breaker.
func TestEachUpstreamHasItsPolicy(t *testing.T) {
	s := httptestfault.New(httptestfault.Responses(httptestfault.Response{Status: 503}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "policies.yaml")
	err := os.WriteFile(file, []byte(`policies:
  default: {preset: default, max_attempts: 3, base_delay: 1ms, max_delay: 1ms, jitter: 0, circuit_breaker: {failure_threshold: off}}
  fetch: {max_attempts: 5}
  load: {max_attempts: 2}
proxy:
  /: {to: "`+s.URL+`"}
  /fetch/: {to: "`+s.URL+`/v1/", policy: fetch}
  /load: {policy: load, to: "`+s.URL+`"}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		want map[string]string // attempts by path
	}{
		{"", map[string]string{"/": "3", "/fetch/a": "5", "/load": "2", "/fetchx": "3"}},
		{"--policy load", map[string]string{"/": "2", "/fetch/a": "5", "/load": "2"}},
		{"--max-attempts 4", map[string]string{"/": "4", "/fetch/a": "4", "/load": "4"}},
		{"--to " + s.URL + ",policy=load --to /f=" + s.URL + ",policy=fetch --to /d=" + s.URL, map[string]string{"/": "2", "/f": "5", "/d": "3"}},
	} {
		_, url, log := serveProxy(t, append([]string{"--config", file}, strings.Fields(tt.args)...)...)
		for path, want := range tt.want {
			res, _ := getFrom(t, url+path)
			if got := res.Header.Get("Perdure-Attempts"); got != want || res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: %s: %s with %s attempts, want %s\n%s", tt.args, path, res.Status, got, want, log)
			}
		}
	}
}

// A new proxy has retries for eight requests that fail together. One that is started again has what the first has left.
func TestFirstRequestsHaveAFullBudget(t *testing.T) {
	const together = 8
	var mu sync.Mutex
	seen := make(map[string]int)
	var all sync.WaitGroup
	all.Add(together)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.URL.Path]++
		n := seen[r.URL.Path]
		mu.Unlock()
		switch {
		case r.URL.Path == "/down":
			w.WriteHeader(http.StatusInternalServerError)
		case n == 1:
			all.Done()
			all.Wait()
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	environ := []string{"PERDURE_STATE=" + t.TempDir()}
	args := []string{"--to", s.URL, "--base-delay", "1ms", "--jitter", "0", "--gate", "off", "--failure-threshold", "off"}
	c, url, log := serveProxyIn(t, environ, args...)
	status := func(url string) (code int, attempts string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		res.Body.Close()
		return res.StatusCode, res.Header.Get("Perdure-Attempts")
	}
	var clients sync.WaitGroup
	for i := range together {
		clients.Go(func() {
			if code, attempts := status(fmt.Sprintf("%s/%d", url, i)); code != http.StatusOK || attempts != "2" {
				t.Errorf("request %d of %d at once: %d after %s attempts\n%s", i, together, code, attempts, log)
			}
		})
	}
	clients.Wait()
	for range 20 { // spends the budget
		status(url + "/down")
	}
	_ = c.Process.Signal(syscall.SIGTERM)
	_ = c.Wait()
	_, url, _ = serveProxyIn(t, environ, args...)
	if _, attempts := status(url + "/down"); attempts != "1" {
		t.Errorf("the budget of a proxy that is started again pays for %s attempts, want 1", attempts)
	}
}

// With its preset, the proxy of an upstream that is down soon refuses, and says when to come back.
func TestAnUpstreamThatIsDown(t *testing.T) {
	for _, rules := range [][]string{{"--gate", "off"}, {"--gate", "off", "--failure-threshold", "off"}} {
		_, url, log := serveProxy(t, append(rules, "--to", "http://127.0.0.1:1", "--base-delay", "1ms", "--jitter", "0")...)
		for range 9 {
			getFrom(t, url+"/")
		}
		res, body := getFrom(t, url+"/")
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.HasPrefix(body, `{"status":503,"error":"not_now",`) {
			t.Errorf("%v: %s, %v: %s\n%s", rules, res.Status, res.Header, body, log)
		}
	}
}

// getFrom requests a URL, and returns the response and its body.
func getFrom(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}
