package perdure_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/retrytest"
	"github.com/seed-0f2c7998/perdure/retrytest/chaos"
)

// The tests of docs/testing.md, as they stand there.

func TestUploadOutlastsTwoFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upload := retry.S3Upload() // the policy of production, 1 s and 2 s of delay
		upload.Jitter = retry.NoJitter
		upload.Classify = retry.Always
		begin, calls := time.Now(), 0
		err := retry.Do(t.Context(), &upload, func(context.Context) error {
			if calls++; calls < 3 {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil || time.Since(begin) != 3*time.Second {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
	})
}

func TestUploadWaitsAsTheStoreAsks(t *testing.T) {
	ctx, log := retrytest.NoWaits(t.Context())
	calls := retrytest.Script("503 after=20s", "reset", "ok")
	upload := retry.S3Upload()
	upload.Observe = log.Observe
	err := retry.Do(ctx, &upload, func(ctx context.Context) error {
		return calls.Do(ctx, func(context.Context) error { return nil }) // the real upload
	})
	if delays := log.Delays(); err != nil || len(delays) != 2 || delays[0] < 20*time.Second {
		t.Errorf("error %v, delays %v", err, delays)
	}
}

func client(options httpretry.Options) (*http.Client, error) {
	faults, err := chaos.FromEnv() // PERDURE_CHAOS="5% 503 after=2s on=api.example.com; 1% reset; seed=7"
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: httpretry.NewTransport(faults.Transport(nil, nil), options)}, nil
}

func TestChaosOfThePageIsValid(t *testing.T) {
	t.Setenv(chaos.Variable, "5% 503 after=2s on=api.example.com; 1% reset; seed=7")
	if _, err := client(httpretry.Options{}); err != nil {
		t.Error(err)
	}
}

func TestStationsWaitAsLongAsTheServerAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Responses(
			httptestfault.Response{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"7"}}},
			httptestfault.Response{Body: []byte("42 bikes")},
		))
		defer server.Close()
		api := retry.APICall()
		client := &http.Client{Transport: httpretry.NewTransport(server.Transport(), httpretry.Options{Policy: &api})}

		begin := time.Now()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/stations", http.NoBody)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if waited := time.Since(begin); waited < 7*time.Second || len(server.Requests()) != 2 {
			t.Errorf("%d requests in %v", len(server.Requests()), waited)
		}
	})
}

func TestUploadGivesUpForTheRightReason(t *testing.T) {
	var events []retry.Event
	upload := retry.Policy{MaxAttempts: 2, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Classify: retry.Always}
	upload.Observe = func(_ context.Context, e retry.Event) { events = append(events, e) }

	err := retry.Do(t.Context(), &upload, func(ctx context.Context) error {
		if retry.Attempt(ctx) == 1 {
			return errors.New("not yet")
		}
		return retry.Permanent(errors.New("no such bucket"))
	})
	if !errors.Is(err, retry.ErrPermanent) {
		t.Errorf("error %v", err)
	}
	if last := events[len(events)-1]; last.Reason != retry.ReasonPermanent || last.Attempt != 2 {
		t.Errorf("%+v", events)
	}
}

func TestTwoProcessesShareABreaker(t *testing.T) {
	var store circuit.Memory // in production: hoststore.Open("")
	quiet := func(context.Context, circuit.Transition) {}
	first := circuit.New("bikes", circuit.Config{Store: &store, Observe: quiet})
	second := circuit.New("bikes", circuit.Config{Store: &store, Observe: quiet})

	first.Trip() // as failures would
	err := second.Do(t.Context(), func(context.Context) error { return nil })
	if open, ok := errors.AsType[*circuit.OpenError](err); !ok || open.Name != "bikes" {
		t.Errorf("error %v", err)
	}
}

// Each test on the page is one that is compiled and run, letter by letter.
func TestTestingPageIsTested(t *testing.T) {
	page, err := os.ReadFile("docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range []string{"howtotest_test.go", filepath.Join("awsretry", "objects", "howtotest_test.go")} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 5 {
		t.Errorf("docs/testing.md has %d blocks of code, want at least 5", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(code.String(), b[1]) {
			t.Errorf("docs/testing.md shows what no test has:\n%s", b[1])
		}
	}
}
