//go:build integration

package perdure_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A storm is one kind of fault, and how a client meets it.
type storm struct {
	name    string // of the operation, the breaker, and the path
	policy  retry.Policy
	breaker *circuit.Config // nil for none
	options httpretry.Options
	respond func(n int, r *http.Request) httptestfault.Response
	workers int
	alerts  []string // those that must fire
}

func storms() []storm {
	status := func(code int, header ...string) httptestfault.Response {
		res := httptestfault.Response{Status: code, Header: http.Header{}}
		if len(header) > 0 {
			res.Header.Set(header[0], header[1])
		}
		return res
	}
	always := func(res httptestfault.Response) func(int, *http.Request) httptestfault.Response {
		return func(int, *http.Request) httptestfault.Response { return res }
	}
	ok := httptestfault.Response{Body: []byte("well")}
	file := httptestfault.Resource{Body: bytes.Repeat([]byte("perdure "), 8192), ETag: `"1"`}
	down := always(status(http.StatusServiceUnavailable))
	return []storm{
		{name: "healthy", breaker: &circuit.Config{Budget: 10, Gate: circuit.Wait}, respond: always(ok), workers: 2},
		{
			name: "outage", breaker: &circuit.Config{RecoveryTimeout: 300 * time.Millisecond}, respond: down, workers: 2,
			alerts: []string{"PerdureBreakerOpen", "PerdureCallsFail"},
		},
		{
			name: "budget", breaker: &circuit.Config{FailureThreshold: circuit.Off, Budget: 10}, respond: func(n int, _ *http.Request) httptestfault.Response {
				if n%2 == 0 {
					return status(http.StatusServiceUnavailable)
				}
				return ok
			}, workers: 2,
			alerts: []string{"PerdureBudgetDenies"},
		},
		{
			name: "flaky", respond: func(n int, _ *http.Request) httptestfault.Response {
				if n%4 > 0 {
					return status(http.StatusBadGateway)
				}
				return ok
			}, workers: 2,
			alerts: []string{"PerdureRetriesMultiplyLoad"},
		},
		{
			name: "throttle", respond: func(n int, _ *http.Request) httptestfault.Response {
				switch n % 3 {
				case 0:
					return status(http.StatusTooManyRequests, "Retry-After", "1")
				case 1:
					return status(http.StatusTooManyRequests, "Retry-After", "3600")
				}
				return ok
			}, workers: 6,
			alerts: []string{"PerdureRetryAfterTooLong"},
		},
		{
			name: "gate", breaker: &circuit.Config{Gate: circuit.Wait}, respond: func(n int, _ *http.Request) httptestfault.Response {
				if n%10 > 0 {
					return status(http.StatusServiceUnavailable)
				}
				return ok
			}, workers: 20, policy: retry.Policy{MaxElapsed: 2 * time.Second},
			alerts: []string{"PerdureGateLimits", "PerdureBreakerOpen"},
		},
		{name: "rate", breaker: &circuit.Config{Rate: 20}, respond: always(ok), workers: 3},
		{name: "isolated", breaker: &circuit.Config{}, respond: always(ok), workers: 1, alerts: []string{"PerdureBreakerIsolated", "PerdureCallsFail"}},
		{
			name: "hedge", options: httpretry.Options{Hedge: &httpretry.Hedge{Percentile: 0.6, Ratio: 1}}, respond: func(n int, _ *http.Request) httptestfault.Response {
				if n%5 == 0 {
					return httptestfault.Response{Body: ok.Body, Delay: 300 * time.Millisecond}
				}
				return ok
			}, workers: 2,
		},
		{
			name: "resume", respond: func(_ int, r *http.Request) httptestfault.Response {
				if r.Header.Get("Range") == "" {
					return file.Respond(r).With(httptestfault.CutBody(30_000))
				}
				return file.Respond(r)
			}, workers: 1,
		},
	}
}

// client returns the client of a storm, which counts in registry.
func (s *storm) client(registry *metrics.Registry) *http.Client {
	p := s.policy
	p.Name, p.Metrics = s.name, registry
	p.MaxAttempts, p.BaseDelay, p.MaxDelay, p.Jitter = 5, 5*time.Millisecond, 20*time.Millisecond, retry.NoJitter
	p.Observe = func(context.Context, retry.Event) {}
	if s.breaker != nil {
		c := *s.breaker
		c.Log = slog.New(slog.DiscardHandler)
		c.Observe = func(context.Context, circuit.Transition) {}
		p.Breaker = circuit.New(s.name, c)
		if s.name == "isolated" {
			p.Breaker.Isolate()
		}
	}
	o := s.options
	o.Policy, o.OnResume = &p, func(httpretry.Resumption) {}
	return &http.Client{Transport: httpretry.NewTransport(nil, o)}
}

// rage runs all storms until the test ends.
func rage(t *testing.T, registry *metrics.Registry) {
	t.Helper()
	all := storms()
	counts := map[string]int{}
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		for i := range all {
			if "/"+all[i].name == r.URL.Path {
				counts[r.URL.Path]++
				return all[i].respond(counts[r.URL.Path], r)
			}
		}
		return httptestfault.Response{Status: http.StatusNotFound}
	})
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for i := range all {
		client := all[i].client(registry)
		for range all[i].workers {
			workers.Go(func() {
				servertest.Repeat(ctx, func() {
					req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/"+all[i].name, http.NoBody)
					if res, err := client.Do(req); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
				})
			})
		}
	}
	t.Cleanup(func() { stop(); workers.Wait(); server.Close() })
}

// A prometheus is the server that a test has started.
type prometheus struct{ url string }

// startPrometheus starts Prometheus, which scrapes the address and evaluates the rules five times a second.
func startPrometheus(t *testing.T, address string) prometheus {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("SKIPPED: prometheus is not installed (`make servers` installs it)")
	}
	dir := t.TempDir()
	content, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", rulesFile).CombinedOutput(); err != nil {
		t.Fatalf("promtool check rules: %v\n%s", err, out)
	}
	rules := regexp.MustCompile(`\[\d+m\]`).ReplaceAllString(string(content), "["+window+"]")
	rules = regexp.MustCompile(`(?m)^        for: \w+$`).ReplaceAllString(rules, "        for: 400ms")
	config := fmt.Sprintf(`{"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}, "rule_files": ["rules.yml"],
		"scrape_configs": [{"job_name": "service", "static_configs": [{"targets": [%q]}]}]}`, address)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(rules), 0o600),
		os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	server := exec.CommandContext(t.Context(), program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+listen, "--log.level=warn")
	var log bytes.Buffer
	server.Dir, server.Stdout, server.Stderr = dir, &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = server.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = server.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("prometheus: %s", log.String())
		}
	})
	if err := servertest.Await(t.Context(), listen, ended); err != nil {
		t.Fatalf("prometheus: %v", err)
	}
	return prometheus{"http://" + listen}
}

// window is the time over which the test's rates are taken, in place of minutes.
const window = "4s"

// get reads the data of an endpoint of Prometheus' API.
func (p prometheus) get(t *testing.T, path string, query url.Values, data any) (err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	response := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(res.Body).Decode(&response); err != nil {
		return fmt.Errorf("%s: %w", res.Status, err)
	}
	if response.Status != "success" {
		return errors.New(response.Error)
	}
	return nil
}

// shows returns an error unless the expression has a series whose value is a number, above 0 if positive is set.
func (p prometheus) shows(t *testing.T, expr string, positive bool) error {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.get(t, "/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return fmt.Errorf("%s: %w", expr, err)
	}
	for _, r := range data.Result {
		text, _ := r.Value[1].(string)
		if v, err := strconv.ParseFloat(text, 64); err == nil && (v > 0 || v == 0 && !positive) {
			return nil
		}
	}
	return fmt.Errorf("%d series show nothing: %s", len(data.Result), expr)
}

var (
	selector     = regexp.MustCompile(`(perdure_[a-z_]+)(?:\{([^}]*)\})?`)
	labelMatcher = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"([^"$]*)"`)
)

// parts returns a query for each metric that the expression names, and for each value of a label that it names: a part
// that is misspelled shows nothing, even where the whole expression shows something.
func parts(expr string) (queries []string) {
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		queries = append(queries, s[1])
		for _, m := range labelMatcher.FindAllStringSubmatch(s[2], -1) {
			for value := range strings.SplitSeq(m[2], "|") {
				queries = append(queries, fmt.Sprintf("%s{%s=%q}", s[1], m[1], value))
			}
		}
	}
	return queries
}

// A real Prometheus scrapes a program in storms: each query of each panel shows something, and each alert fires
// for the operation or the breaker that it is about, and for no healthy one.
func TestDashboardShowsStorms(t *testing.T) {
	registry := new(metrics.Registry)
	rage(t, registry)
	service := httptest.NewServer(registry)
	defer service.Close()
	p := startPrometheus(t, service.Listener.Addr().String())

	variables := strings.NewReplacer("$job", ".*", "$operation", ".*", "$key", ".*", "$__rate_interval", window)
	type query struct {
		of, expr string
		positive bool
	}
	var wanted []query
	panels, _ := dashboard(t)
	for _, panel := range panels {
		for _, target := range panel.Targets {
			wanted = append(wanted, query{panel.Title, variables.Replace(target.Expr), true})
			for _, part := range parts(target.Expr) {
				wanted = append(wanted, query{panel.Title, part, false})
			}
		}
	}
	for name, expr := range alerts(t) {
		for _, part := range parts(expr) {
			wanted = append(wanted, query{name, part, false})
		}
	}
	var firing map[string]bool
	var missing []string
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Limit)
	defer cancel()
	servertest.Repeat(ctx, func() {
		var rest []query
		missing = nil
		for _, q := range wanted {
			if err := p.shows(t, q.expr, q.positive); err != nil {
				rest, missing = append(rest, q), append(missing, q.of+": "+err.Error())
			}
		}
		wanted = rest
		firing = p.firing(t)
		for _, s := range storms() {
			for _, alert := range s.alerts {
				if !firing[alert+" "+s.name] {
					missing = append(missing, alert+" does not fire for "+s.name)
				}
			}
		}
		if len(missing) == 0 {
			cancel()
		}
	})
	for _, m := range missing {
		t.Error(m)
	}
	for alert := range firing {
		if strings.HasSuffix(alert, " healthy") {
			t.Errorf("fires: %s", alert)
		}
	}
	expected := map[string]bool{}
	for _, s := range storms() {
		for _, alert := range s.alerts {
			expected[alert] = true
		}
	}
	for alert := range alerts(t) {
		if !expected[alert] {
			t.Errorf("no storm makes %s fire", alert)
		}
	}
}

// firing returns the alerts that fire, each with the operation or the key that it is about.
func (p prometheus) firing(t *testing.T) map[string]bool {
	t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels struct{ Alertname, Operation, Key string }
		}
	}
	firing := map[string]bool{}
	if err := p.get(t, "/api/v1/alerts", nil, &data); err != nil {
		t.Log(err)
		return firing
	}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			firing[a.Labels.Alertname+" "+a.Labels.Operation+a.Labels.Key] = true
		}
	}
	return firing
}
