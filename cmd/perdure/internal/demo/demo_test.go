package demo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// The whole demo at a fifth of its waits, in an environment that would break it if it read
// that.
func TestRun(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "unknown", "AWS_MAX_ATTEMPTS": "1",
		"AWS_NEW_RETRIES_2026": "true", "PERDURE_MAX_ATTEMPTS": "0", "HTTP_PROXY": "http://127.0.0.1:1",
		"TMPDIR": t.TempDir(), "HOME": "/nonexistent",
	} {
		t.Setenv(name, value)
	}
	var screen, log bytes.Buffer
	err := Run(t.Context(), Options{
		Seed: 1, Pace: 0.2, Screen: NewScreen(&screen, false), Log: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &screen)
	}
	for _, want := range []string{
		"perdure demo, seed 1\n", "Step 1 of 4: Fetch", "Step 2 of 4: Upload", "Step 3 of 4: Outage", "Step 4 of 4: Verify",
		"INFO: Retrying fetch in ", "429 Too Many Requests", "503 SlowDown", "no response within 800ms", "connection reset",
		"a body broke; resuming at ",
		"WARN: Circuit breaker 's3_store' transitioned from closed to open (5 consecutive failures)",
		"INFO: Circuit breaker 's3_store' transitioned from half-open to closed (1 successful probe)",
		"uploads refused at once", "22 of 22 objects are identical", "All 22 objects are identical, byte for byte",
	} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("the screen does not say %q", want)
		}
	}
	struck := strings.Count(screen.String(), "Retrying ") + strings.Count(screen.String(), "a body broke")
	for _, dealt := range regexp.MustCompile(`fail (\d+) times`).FindAllStringSubmatch(screen.String(), -1) {
		n, _ := strconv.Atoi(dealt[1])
		struck -= n
	}
	// The faults of the outage are not drawn, and the store's downloads are resumed without a line.
	if seen := struck - 4 + downloadsResumed(t, screen.String()); seen < 0 {
		t.Errorf("%d faults that were announced were not seen", -seen)
	}
	for _, want := range []string{`"event":"retrying"`, `"event":"transition"`, `"event":"tally"`, `"event":"verified"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	for line := range strings.SplitSeq(screen.String(), "\n") {
		if strings.HasSuffix(line, " ") || len(line) > 100 {
			t.Errorf("a line with a blank at its end, or too long: %q", line)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if t.Failed() {
		t.Logf("\n%s", &screen)
	}
}

func downloadsResumed(t *testing.T, screen string) int {
	t.Helper()
	found := regexp.MustCompile(`(\d+) downloads were resumed`).FindStringSubmatch(screen)
	if found == nil {
		t.Fatal("the screen does not say how many downloads were resumed")
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// A run whose context ends before its last step returns the cause.
func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	screen := NewScreen(writer(func(text []byte) (int, error) {
		if bytes.Contains(text, []byte("Step 2 of 4")) {
			cancel(stop)
		}
		return len(text), nil
	}), false)
	if err := Run(ctx, Options{Pace: 0.2, Screen: screen}); !errors.Is(err, stop) {
		t.Errorf("a run that was stopped ended with %v", err)
	}
}

// The outage opens the breaker and fails its first probe however slow the machine is, and however often the state of the
// breaker changes, that is told in lines for a narrow terminal.
func TestBusyMachine(t *testing.T) {
	s := new(servers)
	s.outage(0)
	refused := 0
	for s.strike(s3test.Request{N: 1}).Kind == s3test.Reset().Kind {
		refused++
	}
	if refused != threshold+1 {
		t.Errorf("the outage resets %d requests, want %d", refused, threshold+1)
	}
	var screen bytes.Buffer
	text := strings.TrimSpace(strings.Repeat("half-open, open, ", 20))
	NewScreen(&screen, false).text(text)
	if got := strings.Join(strings.Fields(screen.String()), " "); got != text {
		t.Errorf("the screen says %q, want %q", got, text)
	}
	for line := range strings.Lines(screen.String()) {
		if len(line) > 81 {
			t.Errorf("a line of %d bytes: %q", len(line), line)
		}
	}
}

// A seed determines all faults, and each seed has every kind of fault.
func TestSeeds(t *testing.T) {
	course := func(seed uint64) (string, string, map[string][]string) {
		t.Helper()
		s, err := startServers(seed, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		hands := map[string][]string{}
		for target, hand := range s.pages {
			for _, trouble := range hand {
				hands[target] = append(hands[target], trouble.name)
			}
		}
		for target, hand := range s.objects {
			for _, fault := range hand {
				hands[target] = append(hands[target], fault.String())
			}
		}
		_, api := tally(s.pages, func(t trouble) string { return t.name })
		if len(api) != len(s.troubles) {
			t.Errorf("seed %d: the API fails by %v, want every kind", seed, api)
		}
		return string(s.city.encoded(1)), string(table(s.city.stations(), 1)), hands
	}
	equal := func(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }
	page1, table1, hands1 := course(1)
	page1Again, table1Again, hands1Again := course(1)
	page2, _, hands2 := course(2)
	if page1 != page1Again || table1 != table1Again || !maps.EqualFunc(hands1, hands1Again, equal) {
		t.Error("the same seed gives another course")
	}
	if page1 == page2 || maps.EqualFunc(hands1, hands2, equal) {
		t.Error("another seed gives the same course")
	}
}
