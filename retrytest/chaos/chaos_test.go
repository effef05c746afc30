package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/retrytest/chaos"
)

func started(t *testing.T, text string) (*chaos.Injector, *bytes.Buffer) {
	t.Helper()
	o, err := chaos.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	i, err := chaos.New(o)
	if err != nil {
		t.Fatal(err)
	}
	i.Start()
	return i, &log
}

// outcomes returns what n calls of a key do.
func outcomes(t *testing.T, i *chaos.Injector, key string, n int) (all []string) {
	t.Helper()
	for range n {
		v, err := chaos.Value(t.Context(), i, key, func(context.Context) (string, error) { return "fine", nil })
		if failed, ok := errors.AsType[*chaos.Error](err); ok {
			v = failed.Fault.String()
		} else if err != nil {
			t.Error(err)
		}
		all = append(all, v)
	}
	return all
}

func count(all []string, what string) (n int) {
	for _, s := range all {
		if s == what {
			n++
		}
	}
	return n
}

func TestSharesAndKeys(t *testing.T) {
	i, _ := started(t, "10% 503 after=2s on=bikes; 20% reset on=bi*; 1% lost; seed=7")
	const n = 10_000
	for key, want := range map[string]map[string]int{
		"bikes":  {"503 after=2s": 1000, "reset": 2000, "lost": 100},
		"bikini": {"reset": 2000, "lost": 100},
		"trains": {"lost": 100},
	} {
		all := outcomes(t, i, key, n)
		rest := n
		for fault, expected := range want {
			got := count(all, fault)
			if rest -= got; got < expected-expected/5 || got > expected+expected/5 {
				t.Errorf("%s: %d times %s, want about %d", key, got, fault, expected)
			}
		}
		if got := count(all, "fine"); got != rest {
			t.Errorf("%s: %d calls are fine, %d failed in other ways", key, got, rest-got)
		}
	}
	if got := i.Injected(); len(got) != 3 || got[0] < 800 || got[1] < 3200 || got[2] < 240 {
		t.Errorf("injected %v", got)
	}
}

// The faults of a key depend on the seed alone, not on calls of other keys, whatever their order.
func TestTheSeedDecides(t *testing.T) {
	const text = "30% 503; 20% hangup; seed="
	one, _ := started(t, text+"1")
	want := outcomes(t, one, "bikes", 200)
	again, _ := started(t, text+"1")
	var others sync.WaitGroup
	for k := range 4 {
		others.Go(func() { outcomes(t, again, fmt.Sprint("other", k), 500) })
	}
	got := outcomes(t, again, "bikes", 200)
	others.Wait()
	if !slices.Equal(got, want) {
		t.Error("the same seed has other faults")
	}
	two, _ := started(t, text+"2")
	if slices.Equal(outcomes(t, two, "bikes", 200), want) {
		t.Error("another seed has the same faults")
	}
}

// An Injector is off until Start, and costs nothing then.
func TestOff(t *testing.T) {
	o, err := chaos.Parse("100% 503")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	i, err := chaos.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for step, on := range []bool{false, true, true, false, false, true} {
		if on {
			i.Start()
		} else {
			i.Stop()
		}
		if failed := count(outcomes(t, i, "bikes", 10), "fine") == 0; failed != on || i.On() != on {
			t.Errorf("step %d: on is %v; want %v", step, failed, on)
		}
	}
	if got := strings.Count(log.String(), "level=WARN"); got != 3 || !strings.Contains(log.String(), `msg="Chaos is ON`) ||
		!strings.Contains(log.String(), `rules="100% 503; seed=0"`) || !strings.Contains(log.String(), `"injected.100% 503"=20`) {
		t.Errorf("the log: %s", log.String())
	}
	var none *chaos.Injector
	var zero chaos.Injector
	none.Start()
	zero.Start()
	if got := outcomes(t, &zero, "bikes", 3); count(got, "fine") != 3 {
		t.Errorf("without rules: %v", got)
	}
	zero.Stop()
	i.Stop()
	for _, off := range []*chaos.Injector{none, i} {
		ctx, f := t.Context(), func(context.Context) (int, error) { return 1, nil }
		if n := testing.AllocsPerRun(100, func() { _, _ = chaos.Value(ctx, off, "bikes", f) }); n != 0 || off.On() {
			t.Errorf("%v allocations while off", n)
		}
	}
}

func TestTheLogCountsEachMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, log := started(t, "100% ok delay=1s")
		outcomes(t, i, "bikes", 185)
		if got := strings.Count(log.String(), "faults were injected"); got != 3 {
			t.Errorf("%d reports in 3 minutes: %s", got, log)
		}
	})
}

func TestEnvironment(t *testing.T) {
	t.Setenv(chaos.Variable, "")
	if i, err := chaos.FromEnv(); err != nil || i.On() {
		t.Errorf("empty: %v, %v", i, err)
	}
	t.Setenv(chaos.Variable, " 5.5% 503 after=2s delay=1s on=bikes ; 10% hang; seed=7;")
	if i, err := chaos.FromEnv(); err != nil || !i.On() || i.String() != "5.5% 503 after=2s delay=1s on=bikes; 10% hang; seed=7" {
		t.Errorf("%v, %v", i, err)
	}
	for _, text := range []string{
		"503", "5 503", "0% 503", "101% 503", "NaN% 503", "5%", "5% later", "5% 503 on=", "5% 503 at=1", "seed=x", "seed=-1",
		"5% 503 on=a on=b", "5% 503 delay=1s delay=2s", "5% 503 after=1s after=2s", "5% 503; seed=1; seed=2",
	} {
		t.Setenv(chaos.Variable, text)
		if i, err := chaos.FromEnv(); err == nil || i.On() || !strings.HasPrefix(err.Error(), "PERDURE_CHAOS: chaos: ") {
			t.Errorf("%q: %v, %v", text, i, err)
		}
	}
	if _, err := chaos.Parse("5% 700"); err == nil || !strings.Contains(err.Error(), `unknown fault "700"; must be ok, reset, hangup, lost, hang or a status from 100 to 599`) {
		t.Errorf("a status that does not exist: %v", err)
	}
	for _, r := range []chaos.Rule{{}, {Percent: 5, Fault: chaos.Fault{Kind: chaos.Status}}, {Percent: 5, Fault: chaos.Fault{Kind: 99}}} {
		if _, err := chaos.New(chaos.Options{Rules: []chaos.Rule{r}}); err == nil || !strings.Contains(err.Error(), "Rules[0]") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// A retry treats an injected fault as the fault.
func TestClassesOfFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for text, want := range map[string]retry.Class{
			"503": retry.ClassTransient, "429 after=7s": retry.ClassThrottled, "404": retry.ClassPermanent,
			"reset": retry.ClassTransient, "hangup": retry.ClassTransient, "lost delay=1s": retry.ClassTransient,
			"hang": retry.ClassUnknown,
		} {
			f, err := chaos.ParseFault(text)
			if err != nil || f.String() != text {
				t.Fatalf("%q: %v, %v", text, f, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err = chaos.Call(ctx, f, func(context.Context) (int, error) { return 1, nil })
			cancel()
			class, hint := new(retry.Policy).ClassOf(err)
			if text == "hang" {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("hang: %v", err)
				}
			} else if class != want || (hint == 7*time.Second) != (want == retry.ClassThrottled) || !strings.Contains(err.Error(), "injected "+text) {
				t.Errorf("%s: %v is %v, after %v; want %v", text, err, class, hint, want)
			}
		}
	})
}

// A fault that does not exist makes no call, and no failure that could be taken for one of the service.
func TestInvalidFaults(t *testing.T) {
	for want, fault := range map[string]chaos.Fault{
		"invalid value 6 for Kind: must be None, Status, Reset, Hangup, Lost or Hang": {Kind: chaos.Hang + 1},
		"invalid value 0 for Status: must be from 100 to 599":                         {Kind: chaos.Status},
		"invalid value 600 for Status: must be from 100 to 599":                       {Kind: chaos.Status, Status: 600},
	} {
		_, called := chaos.Call(t.Context(), fault, func(context.Context) (int, error) {
			t.Error("the call was made")
			return 0, nil
		})
		_, made := chaos.New(chaos.Options{Rules: []chaos.Rule{{Percent: 5, Fault: fault}}})
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://in.memory/", http.NoBody)
		res, sent := fault.RoundTrip(nil, req)
		if res != nil {
			res.Body.Close()
		}
		for from, err := range map[string]error{"Call": called, "New": made, "RoundTrip": sent} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", from, err, want)
			}
			if _, injected := errors.AsType[*chaos.Error](err); injected {
				t.Errorf("%s: %v is an injected failure", from, err)
			}
		}
	}
}

func TestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Responses(httptestfault.Response{Body: []byte("42 bikes")}))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		i, _ := started(t, "20% 503 after=2s; 10% reset; 10% hangup; 10% lost; 10% ok delay=1s; seed=3")
		api := retry.Policy{MaxAttempts: 20, Observe: func(context.Context, retry.Event) {}}
		client := &http.Client{Transport: httpretry.NewTransport(i.Transport(base, nil), httpretry.Options{Policy: &api})}
		defer client.CloseIdleConnections()
		for range 200 {
			body, err := get(t, client, server.URL)
			if err != nil || body != "42 bikes" {
				t.Errorf("%q, %v", body, err)
			}
		}
		if got := i.Injected(); slices.Min(got) == 0 {
			t.Errorf("injected %v; want some of each", got)
		}
		all, _ := started(t, "100% 503 after=1500ms on=bikes")
		direct := &http.Client{Transport: all.Transport(base, func(*http.Request) string { return "bikes" })}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := direct.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "2" || res.Header.Get("Perdure-Chaos") == "" {
			t.Errorf("%v", res)
		}
	})
}

func get(t *testing.T, client *http.Client, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func BenchmarkOff(b *testing.B) {
	ctx, f := b.Context(), func(context.Context) (int, error) { return 1, nil }
	i, err := chaos.New(chaos.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = chaos.Value(ctx, i, "bikes", f)
	}
}

func Example() {
	options, err := chaos.Parse("100% reset on=stations")
	if err != nil {
		fmt.Println(err)
		return
	}
	options.Log = slog.New(slog.DiscardHandler)
	faults, err := chaos.New(options)
	if err != nil {
		fmt.Println(err)
		return
	}
	faults.Start() // off until then
	err = chaos.Do(context.Background(), faults, "stations", func(context.Context) error { return nil })
	fmt.Println(errors.Is(err, syscall.ECONNRESET), err)
	faults.Stop()
	// Output: true chaos: injected reset
}
