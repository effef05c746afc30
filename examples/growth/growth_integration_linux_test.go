//go:build integration && linux

// Package growth_test runs a program with all that the library has switched on, behind perdure proxy, under load and
// faults, and shows that nothing grows.
package growth_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/otelretry"
	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
)

const (
	workers = 16
	points  = 100 // of each instrument of OpenTelemetry: the SDK limits those of the histograms
)

// policies returns a policy file, another one for each n.
func policies(n int64) string {
	return fmt.Sprintf("policies:\n  fetch: {max_attempts: %d, base_delay: 1ms, max_delay: 5ms, circuit_breaker: api}\n"+
		"breakers:\n  api: {gate: wait, concurrency: 12}\n", 3+n%2)
}

// body is what the server sends when it does not fail.
var body = strings.Repeat("0123456789abcdef", 256)

// faulty serves body: of 100 requests, 10 get a 503, 3 lose their connection, 3 a part of the body, and 5 are late. All that ask
// for down get a 503, so that fallbacks are needed.
func faulty(t *testing.T) *httptest.Server {
	t.Helper()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		switch at := n.Add(1) * 37 % 100; {
		case at < 10, r.URL.Query().Has("down"):
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case at < 13:
			panic(http.ErrAbortHandler)
		case at < 16 && r.Header.Get("Range") == "":
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = io.WriteString(w, body[:100])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case at < 21:
			select {
			case <-time.After(20 * time.Millisecond): // what is late is hedged
			case <-r.Context().Done():
			}
		}
		http.ServeContent(w, r, "body", time.Time{}, strings.NewReader(body))
	}))
	t.Cleanup(s.Close)
	return s
}

// A program is what is measured.
type program struct {
	t        *testing.T
	url      string
	file     string
	set      *policy.Set
	client   *http.Client
	base     *http.Transport
	registry metrics.Registry
	reader   *metric.ManualReader
	tracer   *sdktrace.TracerProvider
	hedge    hedge.Hedge[int]
	proxy    int // process
	changes  sync.Mutex

	calls, fallbacks, hedges atomic.Int64
}

func newProgram(t *testing.T) *program {
	t.Helper()
	p := &program{t: t, file: filepath.Join(t.TempDir(), "policies.yaml"), reader: metric.NewManualReader(), tracer: sdktrace.NewTracerProvider()}
	p.url, p.proxy = startProxy(t, faulty(t).URL)
	telemetry, err := otelretry.New(otelretry.Options{
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(p.reader), metric.WithCardinalityLimit(points)),
		TracerProvider: p.tracer, Registry: &p.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = telemetry.Close() })
	log := slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // lines are to be made
	p.write(0)
	p.set, err = policy.Options{Log: log, Prepare: func(r *retry.Policy) {
		r.Metrics, r.Timed, r.Observe = &p.registry, true, retry.Observers(telemetry.Observe, retry.LogTo(log))
	}}.Load(p.file)
	if err != nil {
		t.Fatal(err)
	}
	p.base = http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // which it is
	p.base.MaxIdleConnsPerHost = workers
	r := retry.Policy{
		Name: "get", MaxAttempts: 3, BaseDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond, Metrics: &p.registry,
		Observe: retry.Observers(telemetry.Observe, retry.LogTo(log)),
	}
	p.client = &http.Client{Transport: httpretry.NewTransport(p.base, httpretry.Options{
		Policy: &r, Hedge: &httpretry.Hedge{Ratio: 1},
		Breakers: &circuit.Config{Observe: circuit.Observers(telemetry.ObserveTransition, circuit.LogTo(log))},
	})}
	p.hedge = hedge.Hedge[int]{Name: "fetch", Ratio: 1, Metrics: &p.registry, Observe: func(context.Context, hedge.Event) { p.hedges.Add(1) }}
	return p
}

// reload changes the policy file, and loads it again.
func (p *program) reload(n int64) {
	p.changes.Lock()
	defer p.changes.Unlock()
	p.write(n)
	if err := p.set.Reload(); err != nil {
		p.t.Error(err)
	}
}

func (p *program) write(n int64) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte(policies(n)), 0o600); err != nil {
		p.t.Error(err)
	}
}

// startProxy starts perdure proxy in front of a server. It returns its URL and its process.
func startProxy(t *testing.T, to string) (url string, process int) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../../cmd/perdure").CombinedOutput(); err != nil { //nolint:gosec // a directory of the test
		t.Fatalf("go build: %v\n%s", err, out)
	}
	c := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(dir, "perdure"), "proxy", "--listen", "127.0.0.1:0", "--to", to, //nolint:gosec // as above
		"--base-delay", "1ms", "--max-delay", "5ms", "--gate", "wait", "--budget", "1000", "--store", "memory", "--log-level", "info")
	c.Env = append(os.Environ(), "HOME="+dir, "PERDURE_STATE="+dir)
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for url == "" && lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "Serving "); ok {
			address, _, _ := strings.Cut(rest, "/")
			url = "http://" + address
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, log)
	}()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := c.Wait(); err != nil {
			t.Errorf("the proxy: %v", err)
		}
	})
	if url == "" {
		t.Fatal("the proxy did not start")
	}
	return url, c.Process.Pid
}

// call makes one call in a span: a fallback around a retry around a hedge, or the client that retries by itself.
func (p *program) call(n int64) {
	ctx, span := p.tracer.Tracer("growth").Start(p.t.Context(), "call")
	defer span.End()
	if n%200 == 0 {
		p.reload(n / 200)
	}
	query := ""
	if n%100 < 2 {
		query = "?down"
	}
	get := func(ctx context.Context, client *http.Client) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/x"+query, http.NoBody)
		if err != nil {
			return 0, err
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return 0, retry.Transient(errors.New(res.Status))
		}
		got, err := io.Copy(io.Discard, res.Body)
		return int(got), err
	}
	fetch := func(ctx context.Context) (int, error) { return get(ctx, p.client) }
	if n%2 == 0 {
		base, err := p.set.For("fetch")
		if err != nil {
			p.t.Error(err)
			return
		}
		named := *base
		named.Name = "fetch " + strconv.FormatInt(n, 10) // another one for each call: a Registry keeps the first 1000
		fetch = func(ctx context.Context) (int, error) {
			return retry.Value(ctx, &named, func(ctx context.Context) (int, error) {
				return hedge.Value(ctx, &p.hedge, func(ctx context.Context) (int, error) { return get(ctx, &http.Client{Transport: p.base}) })
			})
		}
	}
	got, err := fallback.Value(ctx, &fallback.Policy{Name: "fetch", Observe: func(context.Context, fallback.Event) { p.fallbacks.Add(1) }}, fetch,
		func(context.Context, error) (int, error) { return len(body), nil })
	if err != nil && !errors.Is(err, context.Canceled) || err == nil && got != len(body) {
		p.t.Errorf("call %d: %d bytes, %v", n, got, err)
	}
}

// load makes calls until so many were made, or for that time if it is not 0.
func (p *program) load(calls int64, d time.Duration) {
	last, until := p.calls.Load()+calls, time.Now().Add(d)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				n := p.calls.Add(1)
				if d == 0 && n > last || d > 0 && time.Now().After(until) {
					return
				}
				p.call(n)
			}
		})
	}
	all.Wait()
	p.base.CloseIdleConnections()
}

// A size is what may grow.
type size struct {
	heap, goroutines, files, series int
	points                          int // of the instrument of OpenTelemetry that has most
	proxyMemory, proxyFiles         int
	proxySeries                     int
}

func (p *program) measure() (s size) {
	p.t.Helper()
	s.series = p.series()
	var all metricdata.ResourceMetrics
	if err := p.reader.Collect(p.t.Context(), &all); err != nil {
		p.t.Error(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				s.points = max(s.points, len(data.DataPoints))
			case metricdata.Sum[float64]:
				s.points = max(s.points, len(data.DataPoints))
			case metricdata.Gauge[int64]:
				s.points = max(s.points, len(data.DataPoints))
			case metricdata.Gauge[float64]:
				s.points = max(s.points, len(data.DataPoints))
			case metricdata.Histogram[int64]:
				s.points = max(s.points, len(data.DataPoints))
			case metricdata.Histogram[float64]:
				s.points = max(s.points, len(data.DataPoints))
			}
		}
	}
	s.proxySeries = p.pageOfProxy()
	p.base.CloseIdleConnections()
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.heap = int(m.HeapAlloc) //nolint:gosec // of a test
	s.goroutines, s.files, s.proxyFiles = runtime.NumGoroutine(), files(p.t, os.Getpid()), files(p.t, p.proxy)
	s.proxyMemory = memory(p.t, p.proxy)
	return s
}

// series returns the number of series of the registry.
func (p *program) series() (n int) {
	for _, f := range p.registry.Snapshot().Families {
		n += len(f.Samples)
	}
	return n
}

// pageOfProxy returns the number of series of the proxy.
func (p *program) pageOfProxy() (n int) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+"/.perdure/metrics", http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := p.base.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "#") {
			n++
		}
	}
	return n
}

// files returns the number of open files of a process.
func files(t *testing.T, process int) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", process))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// memory returns the resident bytes of a process.
func memory(t *testing.T, process int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", process))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// A program with metrics, OpenTelemetry, hedges, fallbacks, a gate, policies that are loaded again and again, and perdure
// proxy between it and a server that fails, does not grow: neither its memory, goroutines, open files and series, nor
// those of the proxy. It makes 10,000 calls, or calls for 10 minutes with PERDURE_TEST_LONG.
func TestNothingGrows(t *testing.T) {
	p := newProgram(t)
	goroutines, open, proxyOpen := runtime.NumGoroutine(), files(t, os.Getpid()), files(t, p.proxy)
	calls, first, rest := int64(4000), time.Duration(0), time.Duration(0)
	if os.Getenv("PERDURE_TEST_LONG") != "" {
		first, rest = time.Minute, 9*time.Minute
	}
	settled := func() size {
		servertest.Until(t, "what the load has opened is closed", func() bool {
			p.base.CloseIdleConnections()
			return runtime.NumGoroutine() <= goroutines+workers && files(t, os.Getpid()) <= open+2*workers && files(t, p.proxy) <= proxyOpen+2*workers+10
		})
		return p.measure()
	}
	p.load(calls, first)
	before := settled()
	t.Logf("after %d calls: %+v", p.calls.Load(), before)
	p.load(10000-calls, rest)
	after := settled()
	t.Logf("after %d calls: %+v; %d fallbacks, %d events of hedges", p.calls.Load(), after, p.fallbacks.Load(), p.hedges.Load())
	for _, row := range []struct {
		name          string
		before, after int
		percent, more int // that after may have
	}{
		{"bytes of the heap", before.heap, after.heap, 15, 2 << 20},
		{"goroutines", before.goroutines, after.goroutines, 0, workers},
		{"open files", before.files, after.files, 0, workers},
		{"series", before.series, after.series, 1, 100}, // a refusal or a class that was rare before
		{"points of an instrument of OpenTelemetry", points, after.points, 0, 0},
		{"resident bytes of the proxy", before.proxyMemory, after.proxyMemory, 20, 16 << 20},
		{"open files of the proxy", before.proxyFiles, after.proxyFiles, 0, workers},
		{"series of the proxy", before.proxySeries, after.proxySeries, 0, 20},
	} {
		if row.after > row.before+row.before*row.percent/100+row.more {
			t.Errorf("%s: %d, and then %d", row.name, row.before, row.after)
		}
	}
	if p.hedges.Load() == 0 || p.fallbacks.Load() == 0 || after.series < 1000 || after.points < points || after.proxySeries < 20 {
		t.Errorf("%d events of hedges, %d fallbacks, %+v: something is off", p.hedges.Load(), p.fallbacks.Load(), after)
	}
}
