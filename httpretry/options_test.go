package httpretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

func TestOptionsThatAreNotValid(t *testing.T) {
	for _, tt := range []struct {
		options httpretry.Options
		says    []string
	}{
		{httpretry.Options{Policy: &retry.Policy{MaxAttempts: -7}}, []string{"-7"}},
		{httpretry.Options{Breakers: &circuit.Config{FailureThreshold: -9}}, []string{"failure_threshold", "-9"}},
		{httpretry.Options{HeadTimeout: -time.Second}, []string{"HeadTimeout", "-1s"}},
		{httpretry.Options{SpoolTotal: -1}, []string{"SpoolTotal", "-1"}},
		{httpretry.Options{AttemptHeader: "X Attempt"}, []string{"AttemptHeader", "X Attempt"}},
		{httpretry.Options{Hedge: &httpretry.Hedge{Percentile: 1}}, []string{"Hedge.Percentile", "1", "below 1"}},
		{httpretry.Options{Hedge: &httpretry.Hedge{Percentile: math.NaN()}}, []string{"Hedge.Percentile", "NaN"}},
		{httpretry.Options{Hedge: &httpretry.Hedge{Min: -time.Second}}, []string{"Hedge.Min", "-1s"}},
		{httpretry.Options{Hedge: &httpretry.Hedge{Ratio: 1.5}}, []string{"Hedge.Ratio", "1.5"}},
	} {
		server := httptestfault.New(httptestfault.Responses(ok))
		base := server.Transport()
		_, _, err := get(t, httpretry.NewTransport(base, tt.options), server.URL)
		base.CloseIdleConnections()
		if _, ok := errors.AsType[*retry.ConfigError](err); !ok || len(server.Requests()) != 0 {
			t.Errorf("%+v: %v after %d requests; want a *ConfigError and none", tt.options, err, len(server.Requests()))
		}
		for _, want := range tt.says {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%+v: %v does not say %q", tt.options, err, want)
			}
		}
		server.Close()
	}
}

func TestIdempotencyKeysAreTheSameForAllAttempts(t *testing.T) {
	server := httptestfault.New(func(n int, _ *http.Request) httptestfault.Response {
		if n%3 == 0 {
			return ok
		}
		return status(503)
	})
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), IdempotencyKeys: true})
	for range 2 {
		if _, body, err := (row{method: "POST"}).do(t, server.URL, transport); body != "fine" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}
	keys := map[string]int{}
	for _, r := range server.Requests() {
		keys[r.Header.Get("Idempotency-Key")]++
	}
	if len(keys) != 2 || keys[""] > 0 {
		t.Errorf("keys and their requests: %v; want two of three each", keys)
	}
}

func TestMayBeTruncated(t *testing.T) {
	md5 := http.Header{"Content-Md5": {"N1dnRcS/5SJrfM8iZXVbUw=="}}
	for _, tt := range []struct {
		name string
		step httptestfault.Response
		want bool
	}{
		{"length", ok, false},
		{"chunked", httptestfault.Response{Body: []byte("fine"), Framing: httptestfault.Chunked}, false},
		{"until close", httptestfault.Response{Body: []byte("fine"), Framing: httptestfault.UntilClose}, true},
		{"until close, with a digest", httptestfault.Response{Body: []byte("fine"), Framing: httptestfault.UntilClose, Header: md5}, false},
		{"empty", httptestfault.Response{}, false},
	} {
		server := httptestfault.New(httptestfault.Responses(tt.step))
		base := server.Transport()
		res, _, _ := row{}.do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()}))
		if got := httpretry.MayBeTruncated(res); got != tt.want {
			t.Errorf("%s: %t; want %t", tt.name, got, tt.want)
		}
		base.CloseIdleConnections()
		server.Close()
	}
	if httpretry.MayBeTruncated(nil) || httpretry.MayBeTruncated(&http.Response{}) || httpretry.GaveUp(nil) != nil || httpretry.GaveUp(&http.Response{}) != nil {
		t.Error("a response of another transport ended")
	}
}

func TestOnResume(t *testing.T) {
	server := httptestfault.New(altered(versioned(), with(httptestfault.CutBody(7))))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	var resumed []httpretry.Resumption
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), OnResume: func(r httpretry.Resumption) { resumed = append(resumed, r) }})
	if _, body, err := (row{}).do(t, server.URL+"/x?sig=hunter2", transport); body != text || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if len(resumed) != 1 || resumed[0].Offset != 7 || resumed[0].Total != 20 || resumed[0].Method != "GET" ||
		!errors.Is(resumed[0].Break, io.ErrUnexpectedEOF) || strings.Contains(resumed[0].URL, "hunter2") || !strings.Contains(resumed[0].URL, "/x") {
		t.Errorf("resumed %+v", resumed)
	}
}

func TestResumptionIsLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	server := httptestfault.New(altered(versioned(), with(httptestfault.CutBody(7))))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	if _, body, err := (row{}).do(t, server.URL, httpretry.NewTransport(base, httpretry.Options{Policy: quick()})); body != text || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if want := "Resuming GET " + server.URL + " at byte 7"; !strings.Contains(log.String(), want) {
		t.Errorf("log %q; want %q", log.String(), want)
	}
}

// A Read that waits to resume ends when the body is closed, not when the wait is over.
func TestCloseEndsAReadThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(altered(versioned(), with(httptestfault.CutBody(7)), instead(status(503)), instead(status(503))))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		policy := quick()
		policy.BaseDelay, policy.MaxDelay = time.Hour, time.Hour
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := httpretry.NewTransport(base, httpretry.Options{Policy: policy, OnResume: func(httpretry.Resumption) {}}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.AfterFunc(time.Minute, func() { res.Body.Close() })
		got, err := io.ReadAll(res.Body)
		if string(got) != text[:7] || err == nil || time.Since(start) != time.Minute {
			t.Errorf("%q, %v after %v; want the first 7 bytes and an error after 1m", got, err, time.Since(start))
		}
		if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("a later Read gave %d, %v", n, err)
		}
	})
}

// A body that is read slowly is not stalled: only the time within Read counts.
func TestSlowReaderIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(altered(versioned()))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := httpretry.NewTransport(base, httpretry.Options{Policy: quick()}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		for n := range text {
			<-time.After(time.Hour)
			if got, err := io.ReadAll(io.LimitReader(res.Body, 1)); string(got) != text[n:n+1] || err != nil {
				t.Fatalf("byte %d: %q, %v", n, got, err)
			}
		}
		if len(server.Requests()) != 1 {
			t.Errorf("%d requests; want 1", len(server.Requests()))
		}
	})
}

// The end of a part is not the end of the body, even if the rest cannot be requested any more.
func TestCancelledAtTheEndOfAPart(t *testing.T) {
	for _, closes := range []bool{false, true} {
		server := httptestfault.New(altered(versioned(), with(httptestfault.CutBody(7)), partial("bytes 7-9/20", text[7:10])))
		base := server.Transport()
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), OnResume: func(httpretry.Resumption) {}}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		if _, err := io.ReadFull(res.Body, p); err != nil || string(p) != text[:10] {
			t.Errorf("%q, %v", p, err)
		}
		if closes {
			res.Body.Close()
		} else {
			cancel()
		}
		if n, err := res.Body.Read(p); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("closed %t: %d, %v; want an error that is not the end", closes, n, err)
		}
		cancel()
		res.Body.Close()
		base.CloseIdleConnections()
		server.Close()
	}
}

// The cost of a request that succeeds at once: at most three allocations more than with a plain client.
func TestAllocations(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Body: make([]byte, 1024)}))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	measure := func(transport http.RoundTripper) float64 {
		client := &http.Client{Transport: transport}
		return testing.AllocsPerRun(200, func() { fetch(t, client, server.URL) })
	}
	plain := measure(base)
	if ours := measure(httpretry.NewTransport(base, httpretry.Options{})); ours > plain+3 {
		t.Errorf("%v allocations, %v without retries; want at most three more", ours, plain)
	}
}
