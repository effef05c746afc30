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
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/livestorm"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A storm is a scenario of package sim, and how a program meets it: with which breaker, and what else.
type storm struct {
	scenario sim.Scenario // its name is that of the operation and of the breaker
	breaker  *circuit.Config
	isolated bool     // by a manual override, which no fault is
	hedged   bool     // each attempt
	alerts   []string // those that must fire
}

// storms returns all scenarios that can be played live, and two without a fault.
func storms() []storm {
	gate := circuit.Config{Gate: circuit.Wait, Budget: 10}
	service := circuit.Service()
	all := []storm{
		{scenario: sim.Storm("healthy"), breaker: &circuit.Config{Budget: 10}},
		{scenario: sim.Storm("isolated"), breaker: &circuit.Config{}, isolated: true, alerts: []string{"PerdureBreakerIsolated", "PerdureCallsFail"}},
	}
	met := map[string]storm{
		"outage":                       {breaker: &circuit.Config{}, alerts: []string{"PerdureBreakerOpen", "PerdureCallsFail"}},
		"crash":                        {alerts: []string{"PerdureRetriesMultiplyLoad", "PerdureCallsFail"}},
		"brownout":                     {breaker: &gate, alerts: []string{"PerdureGateLimits"}},
		"throttle":                     {alerts: []string{"PerdureRetryAfterTooLong"}},
		"throttle without Retry-After": {breaker: &service},
		"errors 5 %":                   {breaker: &service, hedged: true},
		"errors 30 %":                  {breaker: &circuit.Config{FailureThreshold: circuit.Off, Budget: 10}, alerts: []string{"PerdureBudgetDenies"}},
	}
	for _, s := range livestorm.Storms() {
		storm := met[s.Name]
		storm.scenario = s
		all = append(all, storm)
	}
	return all
}

// operation returns the operation of a storm, whose attempts are those of the link, and which counts in registry.
func (s *storm) operation(registry *metrics.Registry, attempt func(context.Context) error) func(context.Context) error {
	p := sim.Backoff()
	p.AttemptTimeout = time.Second
	if len(s.scenario.Faults) == 0 {
		p.AttemptTimeout = 0 // healthy on a machine under load, too, which may stop for a second
	}
	p.Name, p.Metrics, p.Observe = s.scenario.Name, registry, func(context.Context, retry.Event) {}
	if s.breaker != nil {
		c := *s.breaker
		c.Log, c.Observe = slog.New(slog.DiscardHandler), func(context.Context, circuit.Transition) {}
		p.Breaker = circuit.New(p.Name, c)
		if s.isolated {
			p.Breaker.Isolate()
		}
	}
	if s.hedged {
		h, once := &hedge.Hedge[struct{}]{Name: p.Name, Percentile: 0.1, Min: time.Millisecond, Ratio: 0.1, Metrics: registry}, attempt
		attempt = func(ctx context.Context) error { return hedge.Do(ctx, h, once) }
	}
	replaced := fallback.Policy{Name: p.Name, Metrics: registry, Observe: func(context.Context, fallback.Event) {}}
	return func(ctx context.Context) error {
		return fallback.Do(ctx, &replaced, func(ctx context.Context) error { return retry.Do(ctx, &p, attempt) },
			func(context.Context, error) error { return nil })
	}
}

// rage plays each storm again and again, at a load that two processors bear, until the test ends.
func rage(t *testing.T, registry *metrics.Registry) {
	t.Helper()
	dir := t.TempDir() // which is removed after the storms have ended: cleanups run in reverse
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	for i, s := range storms() {
		socket := filepath.Join(dir, strconv.Itoa(i))
		do := s.operation(registry, (&livestorm.Link{Socket: socket}).Do)
		scenario := livestorm.At(120, s.scenario)
		scenario.Duration = time.Hour
		if len(scenario.Faults) > 0 {
			scenario.Duration = 11 * time.Second // the fault is over after 9
		}
		running.Go(func() {
			for seed := uint64(i); ctx.Err() == nil; seed += 100 { //nolint:gosec // small
				start := time.Now()
				backend, err := livestorm.Start(scenario, start, socket, seed, nil)
				if err != nil {
					t.Error(err)
					return
				}
				livestorm.Arrive(ctx, scenario, start, seed, func(ctx context.Context, _, _ time.Duration) { _ = do(ctx) })
				backend.Close()
			}
		})
	}
	running.Go(func() { resume(ctx, registry) })
}

// resume downloads a file whose body breaks, which no scenario of package sim has: its responses have no body.
func resume(ctx context.Context, registry *metrics.Registry) {
	file := httptestfault.Resource{Body: bytes.Repeat([]byte("perdure "), 8192), ETag: `"1"`}
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
		if r.Header.Get("Range") == "" {
			return file.Respond(r).With(httptestfault.CutBody(30_000))
		}
		return file.Respond(r)
	})
	defer server.Close()
	policy := retry.Policy{Name: "resume", Metrics: registry, BaseDelay: time.Millisecond, Observe: func(context.Context, retry.Event) {}}
	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{Policy: &policy, OnResume: func(httpretry.Resumption) {}})}
	servertest.Repeat(ctx, func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
		if res, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
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

// A real Prometheus scrapes a program in the storms of package sim, played live: each query of each panel shows something, and each alert fires
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
	fired := map[string]bool{}
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
		p.firing(t, fired)
		for _, s := range storms() {
			for _, alert := range s.alerts {
				if !fired[alert+" "+s.scenario.Name] {
					missing = append(missing, alert+" does not fire for "+s.scenario.Name)
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
	for alert := range fired {
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

// firing adds the alerts that fire now, each with the operation or the key that it is about: a storm passes.
func (p prometheus) firing(t *testing.T, fired map[string]bool) {
	t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels struct{ Alertname, Operation, Key string }
		}
	}
	if err := p.get(t, "/api/v1/alerts", nil, &data); err != nil {
		t.Log(err)
	}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			fired[a.Labels.Alertname+" "+a.Labels.Operation+a.Labels.Key] = true
		}
	}
}
