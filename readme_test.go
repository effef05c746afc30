package perdure_test

import (
	"bytes"
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The code of README.md and of docs/, as it stands there.

type putter func(ctx context.Context, bucket, key string, data []byte) (string, error)

func codeOfREADME(ctx context.Context, put putter, bucket, key string, data []byte) string {
	upload := retry.S3Upload() // 5 attempts, 1 s to 30 s, jitter: a Policy is plain data
	upload.Name = "upload_to_s3"
	upload.Classify = retry.Always // f's every error is worth a retry; without it, only known transient ones are
	upload.Breaker = circuit.New("s3_upload", circuit.Config{FailureThreshold: 5, RecoveryTimeout: 30 * time.Second})

	key, err := retry.Value(ctx, &upload, func(ctx context.Context) (string, error) {
		return put(ctx, bucket, key, data)
	})
	if errors.Is(err, retry.ErrExhausted) {
		log.Printf("upload failed: %v", err) // operation, attempts, last error
	}
	return key
}

func codeOfHTTP(page []byte, req *http.Request) (*http.Client, download.Result, error) {
	api := retry.APICall()
	client := httpretry.Client(&api)

	// or: one breaker for each server, a second try for stragglers, keys for POSTs
	client.Transport = httpretry.NewTransport(http.DefaultTransport, httpretry.Options{
		Policy:          &api,
		Breakers:        &circuit.Config{Budget: 10},
		Hedge:           &httpretry.Hedge{},
		IdempotencyKeys: true,
	})

	result, err := download.File(req, "stations.csv", download.Options{})

	server := httptestfault.New(httptestfault.Responses(
		httptestfault.Response{Status: 503, Header: http.Header{"Retry-After": {"1"}}},
		httptestfault.Response{Body: page, Fault: httptestfault.ResetBody(100)},
		httptestfault.Response{Body: page},
	))
	defer server.Close()
	return client, result, err
}

func codeOfSharedState() *circuit.Breaker {
	store := hoststore.Open("")
	breaker := circuit.New("s3:example.com/bikes", circuit.Config{Store: store})
	return breaker
}

func codeOfLimits() retry.Policy {
	partner := retry.APICall()
	partner.Breaker = circuit.New("partner", circuit.Config{Rate: 10, Burst: 5, Store: hoststore.Open("")})
	return partner
}

func codeOfChoosing() retry.Policy {
	api := retry.Service()
	api.AttemptTimeout = 200 * time.Millisecond
	api.Breaker = circuit.New("stations", circuit.Service())
	return api
}

// Each block of Go in these pages is one that is compiled, letter by letter.
func TestCodeOfThePagesIsCompiled(t *testing.T) {
	_, _, _, _ = codeOfHTTP, codeOfSharedState, codeOfLimits, codeOfChoosing // which would make files and connections
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"README.md": 1, "docs/http.md": 3, "docs/shared-state.md": 1, "docs/limits.md": 1, "docs/choosing.md": 1} {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
		if len(blocks) != want {
			t.Errorf("%s has %d blocks of code, want %d", name, len(blocks), want)
		}
		for _, b := range blocks {
			indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(b[1], "\t$1")
			if !strings.Contains(string(source), indented) {
				t.Errorf("%s shows what is not compiled here:\n%s", name, b[1])
			}
		}
	}
}

// The lines of the log in README.md are what its code prints, but for the time and for what chance adds to a delay.
func TestLogOfREADME(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\nBy default `slog` writes each retry, with attributes (")
	named, text, _ := strings.Cut(text, ") after the text:\n\n```\n")
	shown, _, found := strings.Cut(text, "\n```\n")
	if !found {
		t.Fatal("README.md shows no log")
	}
	var printed bytes.Buffer
	log.SetOutput(&printed)
	defer log.SetOutput(os.Stderr)
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		key := codeOfREADME(t.Context(), func(context.Context, string, string, []byte) (string, error) {
			if calls++; calls < 3 {
				return "", errors.New("503 SlowDown")
			}
			return "stored", nil
		}, "bikes", "k", nil)
		if key != "stored" {
			t.Errorf("README.md's code returns %q", key)
		}
	})
	want, got := strings.Split(shown, "\n"), strings.Split(strings.TrimSpace(printed.String()), "\n")
	if len(want) != len(got) {
		t.Fatalf("README.md's code prints\n%s\nwant\n%s", printed.String(), shown)
	}
	varying := regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d|\d+\\\.\d seconds`)
	for i, line := range want {
		line, cut := strings.CutSuffix(line, " ...")
		pattern := "^" + varying.ReplaceAllStringFunc(regexp.QuoteMeta(line), func(s string) string { return regexp.MustCompile(`\d+`).ReplaceAllString(s, `\d+`) })
		if !cut {
			pattern += "$"
		}
		if !regexp.MustCompile(pattern).MatchString(got[i]) {
			t.Errorf("README.md's code prints\n%s\nwant\n%s", got[i], want[i])
		}
	}
	for _, name := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(named, -1) {
		if !strings.Contains(got[0], " "+name[1]+"=") {
			t.Errorf("README.md tells of the attribute %s, which is not in\n%s", name[1], got[0])
		}
	}
}
